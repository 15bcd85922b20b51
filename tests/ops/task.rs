//! Tasks: lists, processes, freezing, metrics.

use std::time::Duration;

use ctrsh::containerd::tasks::Status;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::spec::SpecOptions;
use ctrsh::ops::container::{CreateOptions, Delete, Run, RunOptions};
use ctrsh::ops::task::{Pause, Resume, all_metrics, list, metrics, ps};
use futures_util::StreamExt;
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::task::pause and resume are seen by ctr", env, pause),
        trial("ops::task::metrics grow and know their limits", env, measured),
        trial("ops::task::events tell of a life", env, events),
    ]
}

fn start(stage: &Stage, script: &str) -> String {
    let id = stage.env.fresh("tasks");
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let spec = SpecOptions { command: Some(command), memory_limit: Some(64 << 20), ..SpecOptions::default() };
    let create = CreateOptions { spec, ..CreateOptions::default() };
    stage
        .run(Run::new(IMAGE, RunOptions { id: Some(id.clone()), create, detach: true, ..RunOptions::default() }))
        .unwrap();
    id
}

fn pause(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = start(&stage, "sleep 1000 & sleep 1000");
    let tasks = env.block_on(list(&stage.ctx)).unwrap();
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].id.as_str(), tasks[0].status), (id.as_str(), Status::Running));
    let pids = env.block_on(ps(&stage.ctx, &id)).unwrap();
    assert!(pids.iter().any(|pid| pid.pid == tasks[0].pid), "{pids:?}");
    stage.run(Pause::new(&id)).unwrap();
    assert_eq!(stage.task_status(&id).as_deref(), Some("PAUSED"));
    stage.run(Pause::new(&id)).unwrap();
    stage.run(Resume::new(&id)).unwrap();
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    // A frozen container can be removed all the same.
    stage.run(Pause::new(&id)).unwrap();
    stage.run(Delete::new(&id, true, false)).unwrap();
    assert_eq!(stage.task_status(&id), None);
    let error = stage.run(Pause::new(&id)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
}

fn measured(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = start(&stage, "while :; do :; done");
    let first = env.block_on(metrics(&stage.ctx, &id)).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let second = env.block_on(metrics(&stage.ctx, &id)).unwrap();
    assert_eq!(second.memory.limit, Some(64 << 20));
    assert!(second.memory.usage > 0 && second.memory.usage < 64 << 20);
    assert!(second.pids.current >= 1, "{second:?}");
    let rate = second.rate(&first).unwrap();
    assert!(rate.cpu_cores > 0.05 && rate.cpu_cores < 8.0, "{rate:?}");
    let all = env.block_on(all_metrics(&stage.ctx)).unwrap();
    assert_eq!(all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    stage.run(Delete::new(&id, true, false)).unwrap();
    let error = env.block_on(metrics(&stage.ctx, &id)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
}

/// What the daemon and the shim always tell of a container that is run and removed. That its snapshot is removed may be
/// missing: once the container is gone the collector may take it first, and that of containerd 1.6 tells nothing. That its
/// task is deleted may be too: the shim of containerd 2.1 often ends before it has said so.
pub const LIFE: [&str; 6] =
    ["/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/containers/delete"];

fn events(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let before = stage.leftovers();
    let seen = env.block_on(async {
        let filter = format!("namespace=={}", stage.namespace);
        let mut events = stage.ctx.client().await.unwrap().events().subscribe(&[filter]).await.unwrap();
        let create = CreateOptions {
            spec: SpecOptions {
                command: Some(["sh", "-c", "exit 9"].map(str::to_owned).to_vec()),
                ..SpecOptions::default()
            },
            ..CreateOptions::default()
        };
        let run = Run::new(IMAGE, RunOptions { create, ..RunOptions::default() });
        Box::pin(ctrsh::ops::execute(&stage.ctx, run)).await.unwrap();
        let mut seen = Vec::new();
        // The shim tells of the task, the daemon of the rest: what each says may come before what the other said earlier.
        while !LIFE.iter().all(|wanted| seen.iter().any(|(topic, _)| topic == wanted)) {
            let next = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
            let event = next.unwrap_or_else(|_| panic!("only these events came: {seen:?}")).unwrap().unwrap();
            assert_eq!(event.namespace, stage.namespace);
            seen.push((event.topic, event.fields));
        }
        seen
    });
    let (_, exit) = seen.iter().find(|(topic, _)| topic == "/tasks/exit").unwrap();
    assert_eq!(exit["exit_status"], 9);
    assert_eq!(stage.leftovers(), before);
}
