//! Tasks: lists, processes, freezing, metrics.

use std::collections::BTreeMap;
use std::path::Path;
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
        trial("ops::task::metrics are those of the kernel and of ctr", env, counted),
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
    // As text, with the time and without a name of the program's own.
    for code in ["`${metrics(\"ID\")}`", "\"\" + [metrics(\"ID\")]"] {
        let text = stage.value(&code.replace("ID", &id));
        let text = text.as_str().unwrap();
        assert!(text.contains("at: 20") && !text.contains("::"), "{text}");
    }
    let all = env.block_on(all_metrics(&stage.ctx)).unwrap();
    assert_eq!(all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    stage.run(Delete::new(&id, true, false)).unwrap();
    let error = env.block_on(metrics(&stage.ctx, &id)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
}

/// Reads the numbers of a file of a process's memory cgroup; none where the hierarchy is not mounted in its usual place.
fn kernel_memory(pid: u32) -> Option<BTreeMap<String, u64>> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        match rest.split_once(':')? {
            ("memory", path) => Some(format!("/sys/fs/cgroup/memory{path}/memory.stat")),
            ("", path) => Some(format!("/sys/fs/cgroup{path}/memory.stat")),
            _ => None,
        }
    };
    let text = groups.lines().filter_map(path).find_map(|path| std::fs::read_to_string(path).ok())?;
    let number = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Some(text.lines().filter_map(number).collect())
}

/// Every number stands for what its name says: the container is frozen, so that all who look see the same.
fn counted(env: &Env) {
    let stage = Stage::new(env, "tasks");
    // Faults, pages of files that nobody needs, and memory of processes, all in numbers that differ.
    let script = "for i in 1 2 3 4 5 6 7 8; do cat /etc/passwd > /dev/null; done; \
                  dd if=/dev/zero of=/big bs=1M count=8; sync; touch /ready; exec sleep 1000";
    let id = start(&stage, script);
    let pid = env.block_on(list(&stage.ctx)).unwrap()[0].pid;
    let begun = std::time::Instant::now();
    while !Path::new(&format!("/proc/{pid}/root/ready")).exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the container does not get ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    stage.run(Pause::new(&id)).unwrap();
    // The kernel adds up what its processors counted now and then: until nothing changes any more.
    let (mine, theirs, shown, table, kernel) = loop {
        let before = kernel_memory(pid);
        let mine = env.block_on(metrics(&stage.ctx, &id)).unwrap();
        let theirs = stage.ctr(&["tasks", "metrics", "--format", "json", &id]);
        let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
        let shown = stage.value(&format!("metrics({id:?}).record"));
        let table = stage.ctr(&["tasks", "metrics", &id]);
        let again = env.block_on(metrics(&stage.ctx, &id)).unwrap();
        let kernel = kernel_memory(pid);
        let still = before == kernel && mine.record == again.record;
        if still {
            break (mine, theirs, shown, table, kernel);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "a frozen container's numbers go on changing");
        std::thread::sleep(Duration::from_millis(300));
    };
    assert_eq!(mine.record, theirs);
    assert_eq!(shown, theirs);
    let row = |(name, value): &(&str, serde_json::Value)| format!("{name} {}", value.to_string().replace(',', " "));
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let rows: Vec<String> = rows.skip_while(|line| line != "METRIC VALUE").skip(1).filter(|r| !r.is_empty()).collect();
    assert_eq!(mine.listed.iter().map(row).collect::<Vec<_>>(), rows, "{table}");
    let number = |place: &str| theirs.pointer(place).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let limit = |place: &str| Some(number(place)).filter(|value| *value < 1 << 62);
    let some = |place: &str| Some(number(place)).filter(|value| *value > 0);
    let (memory, cpu) = (mine.memory, mine.cpu);
    assert!(memory.page_faults > 0 && memory.file >= 8 << 20 && memory.working_set < memory.usage, "{memory:?}");
    assert_eq!(mine.pids.current, number("/pids/current"));
    assert_eq!(mine.pids.limit, some("/pids/limit").filter(|value| *value < 1 << 62));
    let v1 = theirs.pointer("/memory/usage").is_some_and(serde_json::Value::is_object);
    // In the kernel's words and in ctr's, by generation of cgroups.
    let counters = [
        ("anon", memory.anon, ["total_rss", "total_rss"], ["anon", "anon"]),
        ("file", memory.file, ["total_cache", "total_cache"], ["file", "file"]),
        ("page_faults", memory.page_faults, ["total_pgfault", "total_pg_fault"], ["pgfault", "pgfault"]),
        ("major", memory.major_page_faults, ["total_pgmajfault", "total_pg_maj_fault"], ["pgmajfault", "pgmajfault"]),
        (
            "inactive_file",
            memory.usage - memory.working_set,
            ["total_inactive_file", "total_inactive_file"],
            ["inactive_file", "inactive_file"],
        ),
    ];
    for (name, value, one, two) in counters {
        let [in_kernel, in_ctr] = if v1 { one } else { two };
        assert_eq!(value, number(&format!("/memory/{in_ctr}")), "{name}: {memory:?}\n{theirs}");
        if let Some(kernel) = &kernel {
            assert_eq!(value, kernel[in_kernel], "{name}: {memory:?}\n{kernel:?}");
        }
    }
    if v1 {
        assert_eq!(memory.usage, number("/memory/usage/usage"));
        assert_eq!(memory.limit, limit("/memory/usage/limit"));
        assert_eq!(memory.max_usage, some("/memory/usage/max"));
        assert_eq!(memory.kernel, number("/memory/kernel/usage"));
        assert_eq!(memory.swap, number("/memory/swap/usage").saturating_sub(memory.usage));
        assert_eq!(memory.oom_kills, number("/memory_oom_control/oom_kill"));
        let nanos = |place: &str| Duration::from_nanos(number(place));
        assert_eq!(
            [cpu.usage, cpu.user, cpu.kernel, cpu.throttled],
            ["/cpu/usage/total", "/cpu/usage/user", "/cpu/usage/kernel", "/cpu/throttling/throttled_time"].map(nanos)
        );
        assert_eq!(
            [cpu.periods, cpu.throttled_periods],
            ["/cpu/throttling/periods", "/cpu/throttling/throttled_periods"].map(number)
        );
        let io = |list: &str, op: &str| -> u64 {
            let entries = theirs.pointer(list).and_then(serde_json::Value::as_array).into_iter().flatten();
            entries.filter(|entry| entry["op"] == op).filter_map(|entry| entry["value"].as_u64()).sum()
        };
        let [bytes, count] = ["/blkio/io_service_bytes_recursive", "/blkio/io_serviced_recursive"];
        assert_eq!(
            [mine.io.read_bytes, mine.io.write_bytes, mine.io.read_ops, mine.io.write_ops],
            [io(bytes, "Read"), io(bytes, "Write"), io(count, "Read"), io(count, "Write")]
        );
    } else {
        assert_eq!(memory.usage, number("/memory/usage"));
        assert_eq!(memory.limit, limit("/memory/usage_limit"));
        assert_eq!(memory.swap, number("/memory/swap_usage"));
        assert_eq!(memory.kernel, number("/memory/kernel_stack") + number("/memory/slab"));
        assert_eq!(memory.oom_kills, number("/memory_events/oom_kill"));
        let micros = |place: &str| Duration::from_micros(number(place));
        assert_eq!(
            [cpu.usage, cpu.user, cpu.kernel, cpu.throttled],
            ["/cpu/usage_usec", "/cpu/user_usec", "/cpu/system_usec", "/cpu/throttled_usec"].map(micros)
        );
    }
    stage.run(Delete::new(&id, true, false)).unwrap();
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
