//! `std/restart-on-failure`: what fails is started again, with an end to it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::program;
use crate::harness::Env;
use crate::ops::stage::{IMAGE, Stage};

/// Starts a container that runs a shell script.
fn started(stage: &Stage, id: &str, script: &str) {
    let options = format!("#{{ id: \"{id}\", detach: true, command: [\"sh\", \"-c\", {}] }}", json!(script));
    program(stage, &["-e", &format!("run(\"{IMAGE}\", {options})")]).ok();
}

/// Starts a container that runs a shell script, and waits until it has ended.
fn ended(stage: &Stage, id: &str, script: &str) {
    started(stage, id, script);
    program(stage, &["-e", &format!("wait(\"{id}\")")]).ok();
}

fn delete(stage: &Stage) {
    program(stage, &["-e", "for c in containers() { c.delete(#{ force: true }) }"]).ok();
}

pub fn real(env: &Env) {
    let stage = Stage::new(env, "restart");
    ended(&stage, "flaky", "echo x >> /count; [ $(wc -l < /count) -ge 3 ]");
    ended(&stage, "hopeless", "exit 3");
    ended(&stage, "other", "exit 4");
    let script = ["std/restart-on-failure", "--retries", "2", "--backoff", "100ms", "--json", "flaky", "hopeless"];
    let output = program(&stage, &script).expect_status(1);
    let result: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        result,
        json!({"restarts": {"flaky": 2, "hopeless": 2}, "ended": ["flaky"], "given_up": ["hopeless"]}),
        "{output}"
    );
    for part in
        ["hopeless ended with 3; restart 1 of 2 in 0.1 s", "restart 2 of 2 in 0.2 s", "given up after 2 restarts"]
    {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
    assert!(!output.stderr.contains("other"), "{output}");
    let ignored = program(&stage, &["std/restart-on-failure", "--ignore", "3", "hopeless"]).expect_status(0);
    assert!(!ignored.stderr.contains("restart 1"), "{ignored}");
    let missing = program(&stage, &["std/restart-on-failure", "hopeles"]).expect_status(1);
    assert!(missing.stderr.contains("no such container: hopeles"), "{missing}");

    // Without names it watches what comes, and leaves alone what has ended before.
    let mut command = env.ctrsh_command();
    command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter, "std/restart-on-failure"]);
    command.args(["--retries", "1", "--backoff", "100ms"]).current_dir(&stage.folder);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    let mut until = |part: &str| {
        for line in lines.by_ref() {
            seen.push(line);
            if seen.last().is_some_and(|line| line.contains(part)) {
                return;
            }
        }
        panic!("no {part} in {seen:?}");
    };
    until("watching all containers");
    // Its end is waited for by the one that watches.
    started(&stage, "late", "exit 5");
    until("late ended with 5; restart 1 of 1");
    until("late ended with 5; given up after 1 restarts");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!seen.iter().any(|line| line.contains("hopeless") || line.contains("other")), "{seen:?}");
    delete(&stage);
}

pub fn dry(env: &Env) {
    let stage = Stage::new(env, "restart");
    ended(&stage, "hopeless", "echo x >> /count; exit 3");
    let info = stage.info("hopeless");
    let script = ["--dry-run", "std/restart-on-failure", "--backoff", "10ms", "--during", "2s", "hopeless"];
    let output = program(&stage, &script).expect_status(0);
    assert!(output.stderr.contains("dry run: start hopeless"), "{output}");
    assert_eq!((stage.task_status("hopeless").as_deref(), stage.info("hopeless")), (Some("STOPPED"), info));
    delete(&stage);
}
