//! Shims asked without the daemon.

use std::os::unix::net::UnixListener;

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::Kind as Failed;
use ctrsh::oci::Digest;
use libtest_mimic::Trial;
use serde_json::json;

use super::stage::Stage;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::shim::a life without the daemon", env, life),
        trial("ops::shim::a task that was never started is", env, never_started),
        trial("ops::shim::mistakes are named", env, mistakes),
        trial("ops::shim::what is not granted is not sent", env, denied),
    ]
}

/// A container that sleeps.
fn sleeper(stage: &Stage) -> String {
    let id = stage.env.fresh("shim");
    stage.value(&format!(
        "run({:?}, #{{ id: {id:?}, detach: true, command: [\"sleep\", \"600\"] }}).id",
        super::stage::IMAGE
    ));
    id
}

fn life(env: &Env) {
    let stage = Stage::new(env, "shim");
    let id = sleeper(&stage);
    let seen = stage.value(&format!("let t = shim::state({id:?}); [t.id, t.status, t.pid == tasks()[0].pid, t.code]"));
    assert_eq!(seen, json!([id, "running", true, null]));
    // Nobody but the shim is asked: there is no daemon here.
    let path = format!("{}/{}/{id}", env.socket().display(), stage.namespace);
    let address = format!("/run/containerd/s/{}", Digest::sha256(path.as_bytes()).hex());
    let code = format!("shim::state({id:?}, #{{ address: {address:?} }}).status");
    let nowhere = ["--address", "/nowhere/containerd.sock", "-n", &stage.namespace, "-e", &code];
    assert_eq!(env.ctrsh(&nowhere).expect_status(0).stdout, "running\n");
    let theirs: serde_json::Value = serde_json::from_str(&stage.ctr(&["shim", "--id", &id, "state"])).unwrap();
    let line = ["--json", "-n", &stage.namespace, "ctr", "shim", "--id", &id, "state"];
    let ours: serde_json::Value = serde_json::from_str(&env.ctrsh(&line).expect_status(0).stdout).unwrap();
    assert_eq!((&ours["id"], &ours["pid"]), (&theirs["id"], &theirs["pid"]));
    let line = ["-n", &stage.namespace, "ctr", "shim", "--id", &id, "state", "--task-id", &id, "--api-version", "2"];
    assert!(env.ctrsh(&line).expect_status(0).stdout.contains("running"));
    // It goes on while it has a task, and what runs is not deleted.
    stage.value(&format!("shim::shutdown({id:?})"));
    let report = stage.script(&format!("shim::delete({id:?})")).unwrap_err();
    assert_eq!(report.error.kind, Failed::Conflict, "{report:?}");
    let report = stage.script(&format!("shim::start({id:?})")).unwrap_err();
    assert_eq!(report.error.kind, Failed::Conflict, "{report:?}");
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    stage.value(&format!("kill({id:?}, \"SIGKILL\"); wait({id:?})"));
    let seen = stage.value(&format!("let t = shim::state({id:?}); [t.status, t.code]"));
    assert_eq!(seen, json!(["stopped", 137]));
    assert_eq!(stage.value(&format!("shim::delete({id:?})")), json!(137));
    let report = stage.script(&format!("shim::state({id:?})")).unwrap_err();
    assert_eq!(report.error.kind, Failed::NotFound, "{report:?}");
    stage.value(&format!("shim::shutdown({id:?})"));
    stage.value(&format!("delete({id:?}, #{{ force: true }})"));
    assert_eq!(stage.task_status(&id), None);
}

fn never_started(env: &Env) {
    let stage = Stage::new(env, "shim");
    let id = env.fresh("shim");
    let image = super::stage::IMAGE;
    stage.value(&format!("create({id:?}, {image:?}, #{{ command: [\"sleep\", \"600\"] }}).id"));
    env.block_on(async {
        let client = stage.ctx.client().await.unwrap();
        let container = client.containers().get(&id).await.unwrap();
        let snapshots = client.snapshots(&container.snapshotter);
        let mounts = snapshots.mounts(&container.snapshot_key).await.unwrap();
        client.tasks().create(&id, &mounts, &Default::default(), None, None).await.unwrap();
    });
    assert_eq!(stage.value(&format!("shim::state({id:?}).status")), json!("created"));
    let line = ["-n", &stage.namespace, "ctr", "shim", "--id", &id, "start", &id];
    env.ctrsh(&line).expect_status(0);
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    stage.value(&format!("delete({id:?}, #{{ force: true }})"));
}

fn mistakes(env: &Env) {
    let stage = Stage::new(env, "shim");
    let id = sleeper(&stage);
    let deserted = stage.folder.join("deserted.sock");
    drop(UnixListener::bind(&deserted).unwrap());
    let address = |path: &std::path::Path| format!("shim::state({id:?}, #{{ address: {path:?} }})");
    for (code, kind, part) in [
        ("shim::state(\"not-there\")".to_owned(), Failed::NotFound, "the socket of shim not-there is not there"),
        ("shim::state(\"../../etc\")".to_owned(), Failed::Usage, "shim's id"),
        (format!("shim::state({id:?}, #{{ task: \"other\" }})"), Failed::NotFound, "other"),
        (format!("shim::state({id:?}, #{{ exec_id: \"other\" }})"), Failed::NotFound, ""),
        (address(&deserted), Failed::Unavailable, "nobody listens on the socket of shim"),
        // A socket that speaks something else.
        (address(env.socket()), Failed::Unavailable, "the connection broke"),
    ] {
        let report = stage.script(&code).unwrap_err();
        assert_eq!(report.error.kind, kind, "{code}: {report:?}");
        assert!(report.error.message.contains(part), "{code}: {report:?}");
    }
    env.ctrsh(&["ctr", "shim", "state"]).expect_status(2);
    // What is refused does not work with ctr either.
    let file = |name: &str| stage.folder.join(name).to_string_lossy().into_owned();
    std::fs::write(file("spec.json"), "{\"args\":[\"true\"],\"cwd\":\"/\"}").unwrap();
    let (pipes, spec) = (["in", "out", "err"].map(file), file("spec.json"));
    let flags = ["--stdin", &pipes[0], "--stdout", &pipes[1], "--stderr", &pipes[2], "--spec", &spec];
    let line = [&["shim", "--id", &id, "exec"], &flags[..], &["look"]].concat();
    let theirs = env.ctr(&[&["-n", stage.namespace.as_str()], &line[..]].concat());
    assert!(theirs.stderr.contains("panic: v is not a pointer"), "ctr can do it: {theirs}");
    let ours = env.ctrsh(&[&["ctr"], &line[..]].concat()).expect_status(2);
    assert!(ours.stderr.contains("exec(ID, COMMAND)"), "{ours}");
    stage.value(&format!("delete({id:?}, #{{ force: true }})"));
}

fn denied(env: &Env) {
    let stage = Stage::new(env, "shim");
    let id = sleeper(&stage);
    let ctx = stage.allowing(Allow::of(&[Access::Read]));
    for call in ["start", "delete", "shutdown"] {
        let mut reader = stage.interpreter(&ctx, std::sync::Arc::new(crate::examples::Quiet));
        let report = reader.run(&format!("shim::{call}({id:?})"), None, Default::default()).unwrap_err();
        assert_eq!(report.error.kind, Failed::Denied, "{call}: {report:?}");
    }
    stage.value(&format!("delete({id:?}, #{{ force: true }})"));
}
