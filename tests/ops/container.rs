//! The life of containers.

use std::process::Stdio;
use std::time::{Duration, Instant};

use ctrsh::containerd::io::LogTarget;
use ctrsh::grant::{Access, Allow};
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::spec::{ConsoleSize, SpecOptions};
use ctrsh::ops::Operation;
use ctrsh::ops::container::{
    Create, CreateOptions, Delete, Exec, ExecDetached, ExecOptions, Follow, Kill, Label, LogOptions, Restart, Run,
    RunOptions, Start, StartOptions, Stop, logs, status, wait,
};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::stage::{IMAGE, Stage};
use crate::harness::leftovers::{open_descriptors, threads};
use crate::harness::{Env, PROMPT, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::container::ctr sees each step of a life", env, life),
        trial("ops::container::exec captures code, output and input", env, exec),
        trial("ops::container::an exec that is given up half way is taken back, and nobody else's", env, exec_given_up),
        trial("ops::container::an exec whose program ends at the third Ctrl-C leaves no FIFOs", env, exec_left),
        trial("ops::container::exit codes are exact however soon a process ends", env, exit_codes),
        trial("ops::container::a start without pivot_root is for that once", env, no_pivot),
        trial("ops::container::stop kills what ignores its signal", env, stop),
        trial("ops::container::a failed run leaves nothing", env, failed_run),
        trial("ops::container::two hundred rounds leave nothing", env, rounds),
        trial("ops::container::a run that is dropped half way is taken back", env, dropped),
        trial("ops::container::logs are read, tailed and followed", env, log),
        trial("ops::container::what reaches the host needs host access", env, host),
        trial("ops::container::a dry run shows a life and changes nothing", env, dry),
        trial("ops::container::labels that steer containerd are not taken from an image", env, reserved),
        trial("ops::container::an image that is not unpacked is unpacked first", env, packed),
        trial("ops::container::mistakes are named", env, mistakes),
        trial("ops::container::a terminal carries keys and size", env, terminal),
    ]
}

fn command(words: &[&str]) -> CreateOptions {
    let command = Some(words.iter().map(|word| (*word).to_owned()).collect());
    CreateOptions { spec: SpecOptions { command, ..SpecOptions::default() }, ..CreateOptions::default() }
}

fn shell(script: &str) -> CreateOptions {
    command(&["sh", "-c", script])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn life(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let before = stage.leftovers();
    let id = env.fresh("tasks");
    let made = stage.run(Create::new(&id, IMAGE, command(&["sleep", "1000"]))).unwrap();
    assert_eq!((made.id.as_str(), made.image.as_str()), (id.as_str(), IMAGE));
    assert_eq!(stage.info(&id)["Image"], IMAGE);
    assert_eq!(stage.task_status(&id), None);
    let task = stage.run(Start::new(&id, StartOptions::default())).unwrap();
    assert!(task.pid > 0);
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    let error = stage.run(Start::new(&id, StartOptions::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    let error = stage.run(Delete::new(&id, false, false)).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    assert!(error.hint().unwrap().contains("force"), "{:?}", error.hint());
    stage.run(Kill::new(&id, Some("KILL".parse().unwrap()))).unwrap();
    let exit = env.block_on(wait(&stage.ctx, &id, "", Some(Duration::from_secs(10)))).unwrap();
    assert_eq!(exit.code, 137);
    assert_eq!(stage.task_status(&id).as_deref(), Some("STOPPED"));
    // An ended task makes way for a new one.
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    let restarted = stage.run(Restart::new(&id, Some("KILL".parse().unwrap()), None)).unwrap();
    assert!(restarted.pid > 0);
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    let labelled = stage.run(Label::new(&id, [("a.b/c".to_owned(), "d".to_owned())].into())).unwrap();
    assert_eq!(labelled.labels["a.b/c"], "d");
    assert_eq!(stage.info(&id)["Labels"]["a.b/c"], "d");
    assert_eq!(stage.info(&id)["Labels"]["io.containerd.image.config.stop-signal"], "SIGTERM");
    stage.run(Delete::new(&id, true, false)).unwrap();
    assert_eq!(stage.leftovers(), before);
    assert_eq!(std::fs::read_dir(stage.folder.join("log").join(&stage.namespace)).unwrap().count(), 0);
}

fn exec(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = env.fresh("tasks");
    stage.run(Create::new(&id, IMAGE, command(&["sleep", "1000"]))).unwrap();
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    let run = |args: &[&str], options: ExecOptions| stage.run(Exec::new(&id, words(args), options));
    let done = run(&["sh", "-c", "echo out; echo err >&2; exit 7"], ExecOptions::default()).unwrap();
    assert_eq!((done.code, done.output.stdout.text(), done.output.stderr.text()), (7, "out\n".into(), "err\n".into()));
    assert!(done.duration < Duration::from_secs(10));
    let stdin = Some(b"from outside".to_vec());
    let done = run(&["cat"], ExecOptions { stdin, ..ExecOptions::default() }).unwrap();
    assert_eq!(done.output.stdout.text(), "from outside");
    // More than a pipe holds in both directions.
    let much = vec![b'x'; 1 << 20];
    let done = run(&["cat"], ExecOptions { stdin: Some(much.clone()), ..ExecOptions::default() }).unwrap();
    assert_eq!(done.output.stdout.bytes.len(), much.len());
    let options = ExecOptions {
        user: Some("app".into()),
        cwd: Some("/tmp".into()),
        env: words(&["A=b", "PATH"]),
        ..ExecOptions::default()
    };
    let done = run(&["/bin/sh", "-c", "/bin/id -u; /bin/id -G; pwd; echo $A"], options).unwrap();
    assert_eq!(done.output.stdout.text(), "1000\n1000 29\n/tmp\nb\n");
    let options = ExecOptions { limit: Some(10), ..ExecOptions::default() };
    let done = run(&["sh", "-c", "yes | head -c 300000"], options).unwrap();
    assert_eq!((done.output.stdout.bytes.len(), done.output.stdout.dropped), (10, 299_990));
    // Something in the background holds the output; the command itself is over.
    let began = Instant::now();
    let done = run(&["sh", "-c", "sleep 60 & echo over"], ExecOptions::default()).unwrap();
    assert_eq!(done.output.stdout.text(), "over\n");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let options = ExecOptions { timeout: Some(Duration::from_secs(2)), ..ExecOptions::default() };
    let error = run(&["sh", "-c", "echo begun; echo still waiting >&2; sleep 50"], options).unwrap_err();
    assert_eq!(error.kind(), Failed::Timeout, "{error}");
    let output = error.output().expect("what it wrote");
    assert_eq!((output.stdout.text(), output.stderr.text()), ("begun\n".into(), "still waiting\n".into()));
    assert_eq!(error.hint().as_deref(), Some("it wrote last: still waiting"));
    let listed = env.block_on(ctrsh::ops::task::ps(&stage.ctx, &id)).unwrap();
    assert!(listed.iter().all(|pid| pid.exec_id.is_none()), "the timed out exec is still there: {listed:?}");
    let error = run(&["/no/such/program"], ExecOptions::default()).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    assert_eq!(stage.leftovers().1, 0, "FIFO folders are left");
    stage.run(Delete::new(&id, true, false)).unwrap();
}

/// A shim that does not answer until this is dropped.
struct Stopped(String);

impl Stopped {
    /// Stops the shim of a container, which is the parent of its first process.
    async fn of(stage: &Stage, id: &str) -> Self {
        let pid = status(&stage.ctx, id).await.unwrap().unwrap().pid;
        let of_it = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let shim = of_it.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
        let stopped = Self(shim);
        stopped.signal("STOP");
        stopped
    }

    fn signal(&self, signal: &str) {
        assert!(std::process::Command::new("kill").args(["-s", signal, &self.0]).status().unwrap().success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

fn exec_given_up(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = env.fresh("tasks");
    stage.run(Create::new(&id, IMAGE, command(&["sleep", "1000"]))).unwrap();
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    let named = || ExecOptions { exec_id: Some("job".into()), ..ExecOptions::default() };
    env.block_on(async {
        let mut given_up = Exec::new(&id, words(&["sleep", "1000"]), named());
        given_up.plan(&stage.ctx).await.unwrap();
        let shim = Stopped::of(&stage, &id).await;
        let cut_off = tokio::time::timeout(Duration::from_millis(500), given_up.apply(&stage.ctx)).await;
        assert!(cut_off.is_err(), "it ended by itself");
        let (settled, ()) = tokio::join!(stage.ctx.settle(), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(shim);
        });
        settled
    });
    // The daemon refuses a name that is taken.
    let again = stage.run(Exec::new(&id, words(&["echo", "free"]), named())).unwrap();
    assert_eq!(again.output.stdout.text(), "free\n");
    // What somebody else has under the name that was given is not taken back, whatever went wrong.
    stage.run(ExecDetached::new(&id, words(&["sleep", "1000"]), named())).unwrap();
    let cancel = CancellationToken::new();
    let ctx = stage.ctx.with_cancel(cancel.clone());
    env.block_on(async {
        let mut cancelled = Exec::new(&id, words(&["true"]), named());
        cancelled.plan(&ctx).await.unwrap();
        cancel.cancel();
        cancelled.apply(&ctx).await.unwrap_err();
        stage.ctx.settle().await;
        let listed = ctrsh::ops::task::ps(&stage.ctx, &id).await.unwrap();
        assert!(listed.iter().any(|pid| pid.exec_id.as_deref() == Some("job")), "{listed:?}");
    });
    stage.run(Delete::new(&id, true, false)).unwrap();
    assert_eq!(stage.leftovers().1, 0);
}

fn exec_left(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let (id, exec_id) = (env.fresh("tasks"), env.fresh("tasks"));
    stage.run(Create::new(&id, IMAGE, command(&["sleep", "1000"]))).unwrap();
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    let script = format!("exec(\"{id}\", [\"sleep\", \"1000\"], #{{ exec_id: \"{exec_id}\" }})");
    let mut ctrsh = env.ctrsh_command();
    ctrsh.args(["-n", &stage.namespace, "-e", &script]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut ctrsh = ctrsh.spawn().unwrap();
    let runs = || {
        let pids = env.block_on(ctrsh::ops::task::ps(&stage.ctx, &id)).unwrap();
        pids.iter().any(|pid| pid.exec_id.as_ref() == Some(&exec_id))
    };
    let fifos = || {
        let folders = std::fs::read_dir("/run/ctrsh").unwrap();
        folders.filter(|folder| folder.as_ref().unwrap().path().join(format!("{exec_id}-stdout")).exists()).count()
    };
    let began = Instant::now();
    while !runs() {
        assert!(began.elapsed() < PROMPT, "the exec does not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fifos(), 1);
    let shim = env.block_on(Stopped::of(&stage, &id));
    for _ in 0..3 {
        kill_process(Pid::from_child(&ctrsh), Signal::INT).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(ctrsh.wait().unwrap().code(), Some(130));
    assert_eq!(fifos(), 0);
    drop(shim);
    stage.run(Delete::new(&id, true, false)).unwrap();
}

fn exit_codes(env: &Env) {
    let stage = Stage::new(env, "tasks");
    for code in [0, 1, 3, 42, 255] {
        for delay in ["0", "0.005"] {
            let script = format!("echo {code}; sleep {delay}; exit {code}");
            let ran =
                stage.run(Run::new(IMAGE, RunOptions { create: shell(&script), ..RunOptions::default() })).unwrap();
            let done = ran.finished.unwrap();
            assert_eq!((done.code, done.output.stdout.text()), (code, format!("{code}\n")), "after {delay}");
        }
    }
    let ran = stage.run(Run::new(IMAGE, RunOptions { create: shell("kill -9 $$"), ..RunOptions::default() }));
    // The first process of a PID namespace cannot be killed from inside (pid_namespaces(7)): it runs on and ends with 0.
    assert_eq!(ran.unwrap().finished.unwrap().code, 0);
    let id = env.fresh("tasks");
    stage.run(Create::new(&id, IMAGE, command(&["sleep", "1000"]))).unwrap();
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    for round in 0..20 {
        let done = stage.run(Exec::new(&id, words(&["sh", "-c", &format!("exit {round}")]), ExecOptions::default()));
        assert_eq!(done.unwrap().code, round);
    }
    let killed = stage.run(Exec::new(&id, words(&["sh", "-c", "kill -9 $$"]), ExecOptions::default())).unwrap();
    assert_eq!(killed.code, 137);
    stage.run(Delete::new(&id, true, false)).unwrap();
}

fn no_pivot(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = env.fresh("tasks");
    // runc writes down how it runs a container.
    let root = stage.folder.join("runc");
    let mut options = command(&["sleep", "1000"]);
    options.runc.root = root.to_string_lossy().into_owned();
    stage.run(Create::new(&id, IMAGE, options)).unwrap();
    let record = stage.info(&id)["Runtime"].clone();
    for no_pivot in [true, false] {
        stage.run(Start::new(&id, StartOptions { no_pivot, ..StartOptions::default() })).unwrap();
        let state = std::fs::read(root.join(&stage.namespace).join(&id).join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        assert_eq!(state["config"]["no_pivot_root"].as_bool().unwrap_or_default(), no_pivot, "{}", state["config"]);
        assert_eq!(stage.info(&id)["Runtime"], record);
        stage.run(Stop::new(&id, Some("KILL".parse().unwrap()), None)).unwrap();
    }
    stage.run(Delete::new(&id, true, false)).unwrap();
    let other = env.fresh("tasks");
    let options = CreateOptions { runtime: Some("io.example.other.v1".into()), ..command(&["true"]) };
    stage.run(Create::new(&other, IMAGE, options)).unwrap();
    let start = Start::new(&other, StartOptions { no_pivot: true, ..StartOptions::default() });
    let error = stage.run(start).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    assert!(error.to_string().contains("io.example.other.v1"), "{error}");
    stage.run(Delete::new(&other, true, false)).unwrap();
}

fn stop(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let start = |script: &str| {
        let id = env.fresh("tasks");
        let options = RunOptions { id: Some(id.clone()), create: shell(script), detach: true, ..RunOptions::default() };
        stage.run(Run::new(IMAGE, options)).unwrap();
        id
    };
    let polite = start("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    wait_for_log(&stage, &polite, "ready");
    let began = Instant::now();
    let exit = stage.run(Stop::new(&polite, None, None)).unwrap().unwrap();
    assert_eq!(exit.code, 5);
    assert!(began.elapsed() < PROMPT);
    // Once more: it has ended, and says how.
    assert_eq!(stage.run(Stop::new(&polite, None, None)).unwrap().unwrap().code, 5);
    let deaf = start("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    wait_for_log(&stage, &deaf, "ready");
    let exit = stage.run(Stop::new(&deaf, None, Some(Duration::from_millis(300)))).unwrap().unwrap();
    assert_eq!(exit.code, 137);
    for id in [polite, deaf] {
        stage.run(Delete::new(&id, false, false)).unwrap();
    }
}

fn wait_for_log(stage: &Stage, id: &str, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !String::from_utf8_lossy(
        &stage.env.block_on(logs(&stage.ctx, id, &LogOptions::default(), 1 << 20)).unwrap_or_default(),
    )
    .contains(text)
    {
        assert!(Instant::now() < deadline, "the log of {id} never had {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn failed_run(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let before = stage.leftovers();
    for detach in [false, true] {
        let options = RunOptions { create: command(&["/no/such/program"]), detach, ..RunOptions::default() };
        let error = stage.run(Run::new(IMAGE, options)).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
        assert_eq!(stage.leftovers(), before, "detach: {detach}");
    }
    let spec = SpecOptions { user: Some("nobody-here".into()), ..shell("true").spec };
    let options = RunOptions { create: CreateOptions { spec, ..CreateOptions::default() }, ..RunOptions::default() };
    let error = stage.run(Run::new(IMAGE, options)).unwrap_err();
    assert!(error.to_string().contains("/etc/passwd"), "{error}");
    assert_eq!(stage.leftovers(), before);
    let timeout = Some(Duration::from_millis(300));
    let options = RunOptions { create: command(&["sleep", "50"]), timeout, ..RunOptions::default() };
    let error = stage.run(Run::new(IMAGE, options)).unwrap_err();
    assert_eq!(error.kind(), Failed::Timeout, "{error}");
    assert_eq!(stage.leftovers(), before);
}

fn rounds(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = env.fresh("tasks");
    let round = || {
        stage.run(Create::new(&id, IMAGE, command(&["sleep", "1000"]))).unwrap();
        stage.run(Start::new(&id, StartOptions::default())).unwrap();
        let done = stage.run(Exec::new(&id, words(&["echo", "hi"]), ExecOptions::default())).unwrap();
        assert_eq!((done.code, done.output.stdout.text()), (0, "hi\n".into()));
        stage.run(Stop::new(&id, Some("KILL".parse().unwrap()), None)).unwrap();
        stage.run(Delete::new(&id, false, false)).unwrap();
    };
    round();
    let before = stage.leftovers();
    let of_this = std::process::id();
    let (descriptors, running) = (open_descriptors(of_this), threads(of_this));
    for _ in 1..200 {
        round();
    }
    assert_eq!(stage.leftovers(), before);
    // Other tests of the suite run beside this one and open some of their own; two hundred leaked ones would show.
    assert!(open_descriptors(of_this) < descriptors + 100, "{} after {descriptors}", open_descriptors(of_this));
    assert!(threads(of_this) < running + 100, "{} after {running}", threads(of_this));
}

fn dropped(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let before = stage.leftovers();
    for wait in [5, 30, 60, 100, 200, 400] {
        let options = RunOptions { create: command(&["sleep", "50"]), ..RunOptions::default() };
        env.block_on(async {
            let run = Box::pin(ctrsh::ops::execute(&stage.ctx, Run::new(IMAGE, options)));
            assert!(tokio::time::timeout(Duration::from_millis(wait), run).await.is_err(), "it ended by itself");
            stage.ctx.debts().settle().await;
        });
        // What the daemon was still doing when the request was cut off shows a moment later.
        let deadline = Instant::now() + Duration::from_secs(5);
        while stage.leftovers() != before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(stage.leftovers(), before, "cut off after {wait} ms");
    }
}

fn log(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = env.fresh("tasks");
    let script = "for i in 1 2 3; do echo line $i; done; sleep 1; echo bad >&2; read x; sleep 1; echo never";
    // Two streams have no order between them but time.
    let create = shell(&format!("{script}; sleep 0.3; echo last"));
    stage
        .run(Run::new(IMAGE, RunOptions { id: Some(id.clone()), create, detach: true, ..RunOptions::default() }))
        .unwrap();
    let whole = env.block_on(async {
        let mut follow = Follow::open(&stage.ctx, &id, &LogOptions::default()).await.unwrap();
        let mut whole = Vec::new();
        while let Some(more) = follow.next().await.unwrap() {
            whole.extend(more);
        }
        String::from_utf8(whole).unwrap()
    });
    assert_eq!(whole, "line 1\nline 2\nline 3\nbad\nnever\nlast\n");
    let last = |lines| LogOptions { tail: Some(lines), ..LogOptions::default() };
    let tail = env.block_on(logs(&stage.ctx, &id, &last(2), 1 << 20)).unwrap();
    assert_eq!(tail, b"never\nlast\n");
    let again = env.block_on(logs(&stage.ctx, &id, &LogOptions::default(), 1 << 20)).unwrap();
    assert_eq!(again, whole.as_bytes());
    stage.run(Delete::new(&id, false, false)).unwrap();
    let error = env.block_on(logs(&stage.ctx, &id, &LogOptions::default(), 1 << 20)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound);
}

fn host(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let script = stage.allowing(Allow::script());
    let before = stage.leftovers();
    let with = |change: fn(&mut SpecOptions)| {
        let mut options = shell("true");
        change(&mut options.spec);
        options
    };
    for options in [
        with(|spec| spec.privileged = true),
        with(|spec| spec.net_host = true),
        with(|spec| spec.cap_add = words(&["CAP_SYS_ADMIN"])),
        with(|spec| spec.labels = [("containerd.io/restart.loguri".to_owned(), "binary:///bin/sh".to_owned())].into()),
        CreateOptions { runtime: Some("/bin/sh".into()), ..shell("true") },
    ] {
        let error = stage.run_in(&script, Create::new("tasks-host", IMAGE, options)).unwrap_err();
        assert!(matches!(error, ctrsh::ops::Error::Denied { access: Access::Host, .. }), "{error}");
    }
    let log = Some(LogTarget::parse("binary:///bin/sh"));
    let options = RunOptions { create: shell("true"), detach: true, log, ..RunOptions::default() };
    let error = stage.run_in(&script, Run::new(IMAGE, options)).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied);
    let ran = stage.run_in(&script, Run::new(IMAGE, RunOptions { create: shell("exit 3"), ..RunOptions::default() }));
    assert_eq!(ran.unwrap().finished.unwrap().code, 3);
    assert_eq!(stage.leftovers(), before);
    let read = stage.allowing("read".parse().unwrap());
    let error = stage.run_in(&read, Create::new("tasks-host", IMAGE, shell("true"))).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied);
    assert_eq!(stage.leftovers(), before);
}

fn dry(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let before = stage.leftovers();
    let ctx = stage.ctx.dry_run();
    let id = env.fresh("tasks");
    let made = stage.run_in(&ctx, Create::new(&id, IMAGE, command(&["sleep", "9"]))).unwrap();
    assert_eq!(made.spec.unwrap().process.unwrap().args, words(&["sleep", "9"]));
    let error = stage.run_in(&ctx, Create::new(&id, IMAGE, shell("true"))).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists);
    stage.run_in(&ctx, Start::new(&id, StartOptions::default())).unwrap();
    stage.run_in(&ctx, Exec::new(&id, words(&["true"]), ExecOptions::default())).unwrap();
    stage.run_in(&ctx, Stop::new(&id, None, None)).unwrap();
    stage.run_in(&ctx, Delete::new(&id, false, false)).unwrap();
    let error = stage.run_in(&ctx, Delete::new(&id, false, false)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound);
    stage.run_in(&ctx, Run::new(IMAGE, RunOptions { create: shell("true"), ..RunOptions::default() })).unwrap();
    assert_eq!(stage.leftovers(), before);
}

fn reserved(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let steer = "containerd.io/restart.loguri=binary:///bin/evil";
    stage.ctr(&["images", "label", IMAGE, steer, "io.cri-containerd.image=managed", "kept=yes"]);
    let id = env.fresh("tasks");
    stage.run_in(&stage.allowing(Allow::script()), Create::new(&id, IMAGE, shell("true"))).unwrap();
    let labels = stage.info(&id)["Labels"].clone();
    assert_eq!(labels["kept"], "yes");
    let keys: Vec<&String> = labels.as_object().unwrap().keys().collect();
    let steering = |key: &&&String| key.starts_with("containerd.io/") || key.starts_with("io.cri-containerd");
    assert_eq!(keys.iter().find(steering), None, "{labels}");
    stage.run(Delete::new(&id, false, false)).unwrap();
}

fn packed(env: &Env) {
    let stage = Stage::of(env, "tasks", crate::harness::Kind::ThreeLayers);
    let snapshots = stage.ctr(&["snapshots", "ls"]);
    // The topmost first, as the others stand below it.
    let keys: Vec<&str> = snapshots.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(keys.len(), 3, "{snapshots}");
    while stage.ctr(&["snapshots", "ls"]).lines().count() > 1 {
        for key in &keys {
            stage.env.ctr(&["-n", stage.namespace.as_str(), "snapshots", "rm", key]);
        }
    }
    let script = "cat /data/changed; ls /data";
    let ran = stage.run(Run::new(IMAGE, RunOptions { create: shell(script), ..RunOptions::default() })).unwrap();
    assert_eq!(ran.finished.unwrap().output.stdout.text(), "after\nchanged\n");
    assert_eq!(stage.ctr(&["snapshots", "ls"]).lines().count(), 4);
}

fn mistakes(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let before = stage.leftovers();
    let id = env.fresh("tasks");
    let error = stage.run(Create::new("no/slash", IMAGE, shell("true"))).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    let error = stage.run(Create::new(&id, "example.test/busybux:1", shell("true"))).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound);
    assert!(error.hint().unwrap().contains(IMAGE), "{:?}", error.hint());
    stage.run(Create::new(&id, IMAGE, shell("true"))).unwrap();
    let error = stage.run(Create::new(&id, IMAGE, shell("true"))).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    let near = format!("{id}x");
    let error = stage.run(Delete::new(&near, false, false)).unwrap_err();
    assert_eq!((error.kind(), error.hint()), (Failed::NotFound, Some(format!("did you mean {id}?"))));
    let error = stage.run(Exec::new(&id, words(&["true"]), ExecOptions::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    let error = stage.run(Kill::new(&id, None)).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    let error = env.block_on(wait(&stage.ctx, &id, "", None)).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    stage.run(Delete::new(&id, false, false)).unwrap();
    assert_eq!(stage.leftovers(), before);
}

fn terminal(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = env.fresh("tasks");
    stage.run(Create::new(&id, IMAGE, command(&["sleep", "1000"]))).unwrap();
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    env.block_on(async {
        let args = words(&["sh", "-c", "stty size; read line; stty size; echo got $line; exit 4"]);
        let size = ConsoleSize { height: 20, width: 70 };
        let options = ExecOptions::default();
        let mut attached = ctrsh::ops::container::exec_terminal(&stage.ctx, &id, args, &options, size).await.unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        let mut is_first = true;
        loop {
            let read = tokio::time::timeout(Duration::from_secs(30), attached.terminal.read(&mut buffer));
            match read.await.unwrap_or_else(|_| panic!("no more than {seen:?}")).unwrap() {
                0 => break,
                count => seen.extend_from_slice(&buffer[..count]),
            }
            if is_first && seen.starts_with(b"20 70\r\n") {
                is_first = false;
                attached.window().resize(ConsoleSize { height: 27, width: 91 }).await;
                attached.terminal.write(b"keys\n").await.unwrap();
            }
        }
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(!is_first && seen.contains("27 91\r\n") && seen.contains("got keys\r\n"), "{seen:?}");
        assert_eq!(attached.ended().await.unwrap().code, 4);
        attached.finish().await.unwrap();
        // Dropped half way, it is taken back.
        let cat = ctrsh::ops::container::exec_terminal(&stage.ctx, &id, words(&["cat"]), &options, size).await.unwrap();
        drop(cat);
        stage.ctx.debts().settle().await;
        let left = ctrsh::ops::task::ps(&stage.ctx, &id).await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
    });
    stage.run(Delete::new(&id, true, false)).unwrap();
    let tty = env.fresh("tasks");
    let mut options = command(&["sh", "-c", "stty size; exit 6"]);
    options.spec.tty = true;
    stage.run(Create::new(&tty, IMAGE, options)).unwrap();
    let log = Some(LogTarget::Null);
    let error = stage.run(Start::new(&tty, StartOptions { log, ..StartOptions::default() })).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    env.block_on(async {
        let mut attached =
            ctrsh::ops::container::start_terminal(&stage.ctx, &tty, ConsoleSize::default(), None).await.unwrap();
        assert_eq!(attached.ended().await.unwrap().code, 6);
        attached.finish().await.unwrap();
    });
    stage.run(Delete::new(&tty, false, false)).unwrap();
    assert_eq!(stage.leftovers().1, 0);
}
