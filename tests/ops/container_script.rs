//! Containers from scripts: every example, for real and dry, and a life as a user writes it.

use std::sync::{Arc, Mutex};

use ctrsh::grant::Allow;
use ctrsh::script::Interpreter;
use ctrsh::script::call::Sink;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::stage::{IMAGE, Stage};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::container_script::the examples of containers and tasks run", env, examples),
        trial("ops::container_script::a script sees a container's whole life", env, life),
        trial("ops::container_script::options are checked and reach the container", env, options),
        trial("ops::container_script::Ctrl-C ends a wait and takes a run back", env, interrupted),
    ]
}

#[derive(Default)]
struct Printed(Mutex<Vec<String>>);

impl Sink for Printed {
    fn print(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn debug(&self, text: &str, at: &str) {
        self.print(&format!("{at}: {text}"));
    }
}

fn interpreter(stage: &Stage, dry: bool) -> (Interpreter, Arc<Printed>) {
    let printed = Arc::new(Printed::default());
    let ctx = stage.allowing(Allow::script());
    let ctx = if dry { ctx.dry_run() } else { ctx };
    let interpreter = stage.interpreter(&ctx, printed.clone());
    (interpreter, printed)
}

fn value(interpreter: &mut Interpreter, script: &str) -> Value {
    let evaluated = interpreter.run(script, None, CancellationToken::new());
    let evaluated = evaluated.unwrap_or_else(|report| panic!("{script}\n{report:?}"));
    interpreter.json(&evaluated).unwrap()
}

fn stage(env: &Env) -> Stage {
    let stage = Stage::new(env, "tasks");
    stage.ctr(&["images", "tag", IMAGE, "docker.io/library/busybox:latest"]);
    stage
}

/// The names of the functions that this area owns.
const NAMES: [&str; 20] = [
    "containers",
    "container",
    "create",
    "run",
    "start",
    "stop",
    "kill",
    "exec",
    "restart",
    "wait",
    "logs",
    "metrics",
    "ps",
    "pause",
    "resume",
    "delete",
    "attach",
    "update",
    "tasks",
    "rate",
];

fn examples(env: &Env) {
    let stage = stage(env);
    let before = stage.leftovers();
    let catalog = ctrsh::script::api::catalog();
    let mut ran = 0;
    for dry in [true, false] {
        for entry in catalog.entries().filter(|entry| NAMES.contains(&entry.spec.name)) {
            if entry.path().contains("::") {
                continue;
            }
            if entry.receiver().is_some_and(|receiver| !["Container", "Metrics"].contains(&receiver)) {
                continue;
            }
            for example in entry.spec.examples {
                let (mut interpreter, _) = interpreter(&stage, dry);
                let cancel = CancellationToken::new();
                match interpreter.run(example.code, None, cancel) {
                    Ok(evaluated) if !dry => {
                        let json = interpreter.json(&evaluated).unwrap();
                        if let Some(gives) = example.gives {
                            assert_eq!(json, serde_json::from_str::<Value>(gives).unwrap(), "{}", example.code);
                        }
                    }
                    Ok(_) => {}
                    Err(report) => panic!("{} (dry: {dry})\n{report:?}", example.code),
                }
                ran += 1;
            }
        }
        assert_eq!(stage.leftovers(), before, "dry: {dry}");
    }
    assert!(ran > 50, "only {ran} examples ran");
}

fn life(env: &Env) {
    let stage = stage(env);
    let (mut interpreter, printed) = interpreter(&stage, false);
    let before = stage.leftovers();
    let script = r#"
        let web = create("web", "busybox", #{ memory: "64MiB", env: #{ TZ: "UTC" }, command: ["sleep", "1000"] });
        let seen = [web.status];
        web.start();
        seen += web.status;
        while web.metrics().pids.current < 1 { sleep("20ms") }
        let r = web.exec(["sh", "-c", "echo $TZ; exit 3"]);
        seen += r.code;
        seen += r.stdout;
        web.pause();
        seen += containers().filter(|c| c.status == "paused").map(|c| c.id);
        web.resume();
        seen += web.stop(#{ timeout: "100ms" });
        seen += web.status;
        seen += web.task.code;
        print(`${web} ${tasks().len()}`);
        web.delete();
        seen += containers().len();
        seen
    "#;
    let seen = value(&mut interpreter, script);
    assert_eq!(seen, json!(["created", "running", 3, "UTC\n", "web", 137, "stopped", 137, 0]));
    assert_eq!(printed.0.lock().unwrap().as_slice(), ["web 1"]);
    assert_eq!(stage.leftovers(), before);
}

fn options(env: &Env) {
    let stage = stage(env);
    let (mut interpreter, _) = interpreter(&stage, false);
    let script = r#"run("busybox", #{ command: ["sh"], args: ["-c", "id -u; pwd; echo $A; hostname; cat /sys/fs/cgroup/none"],
        user: "app", cwd: "/tmp", env: ["A=1"], hostname: "inside", rlimit: #{ nofile: "64:128" }, read_only: true,
        mount: "type=tmpfs,src=tmpfs,dst=/data,options=ro:size=1m", cap_drop: "CAP_KILL", stop_signal: "SIGINT" }).stdout"#;
    assert_eq!(value(&mut interpreter, script), "1000\n/tmp\n1\ninside\n");
    let mut fails = |script: &str| {
        let report = interpreter.run(script, None, CancellationToken::new()).unwrap_err();
        format!("{report:?}")
    };
    for (script, words) in [
        (r#"run("busybox", #{ memory_limt: 1 })"#, "memory_limit"),
        (r#"run("busybox", #{ mount: "type=bind" })"#, "dst"),
        (r#"run("busybox", #{ cpus: -1 })"#, "above zero"),
        (r#"run("busybox", #{ detach: true, rm: true })"#, "detach"),
        (r#"kill("nobody", "SIGNOPE")"#, "SIGNOPE"),
        (r#"run("busybox", #{ privileged: true })"#, "host"),
        (r#"exec("nobody", [])"#, "args"),
    ] {
        let report = fails(script);
        assert!(report.contains(words), "{script}: {report}");
    }
}

fn interrupted(env: &Env) {
    let stage = stage(env);
    let before = stage.leftovers();
    let (mut interpreter, _) = interpreter(&stage, false);
    let cancel = CancellationToken::new();
    let press = cancel.clone();
    let timer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(700));
        press.cancel();
    });
    let began = std::time::Instant::now();
    interpreter.run(r#"run("busybox", #{ command: ["sleep", "60"] })"#, None, cancel).unwrap_err();
    timer.join().unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(stage.leftovers(), before);
}
