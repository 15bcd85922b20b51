//! Processes with ctrsh's own input, outputs and signals, beside what ctr does with them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Env, Leftovers, trial};
use crate::ops::stage::{IMAGE, Stage};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("shell::streams::bytes go through as they are", env, bytes),
        trial("shell::streams::an open input keeps nobody", env, open_input),
        trial("shell::streams::a closed output ends it", env, closed_output),
        trial("shell::streams::a start has the output of this time", env, starts),
        trial("shell::streams::output may go elsewhere", env, elsewhere),
        trial("shell::streams::an attached one is followed and left alone", env, attached),
        trial("shell::streams::scripts have them too", env, scripts),
        trial("shell::streams::signals are the process's", env, signals),
        trial("shell::streams::a process that hears nothing is killed at the third time", env, enough),
    ]
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Both programs on one namespace: ctr, and ctrsh with a line of it.
const BOTH: [&str; 2] = ["ctr", "ctrsh"];

fn line(stage: &Stage, program: &str, words: &[&str]) -> Command {
    let mut command = match program {
        "ctr" => {
            let mut command = Command::new("ctr");
            command.env("PATH", crate::harness::env::path()).arg("--address").arg(stage.env.socket());
            command
        }
        _ => {
            let mut command = stage.env.ctrsh_command();
            command.args(["--allow", "all", "ctr"]);
            command
        }
    };
    command.args(["-n", &stage.namespace]).args(words).env("CONTAINERD_SNAPSHOTTER", &stage.snapshotter);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the end of a program, which must come soon.
#[track_caller]
pub fn status(child: &mut Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end; returns its status and what it wrote.
#[track_caller]
fn all(command: &mut Command) -> (i32, Vec<u8>, Vec<u8>) {
    let output = command.output().unwrap();
    (output.status.code().unwrap(), output.stdout, output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// What processes do that are sent signals: they say so again and again that they are up, and that they have heard of a window's
/// change, which ends nobody.
const UP: &str = "trap 'echo heard' WINCH; while true; do echo up; sleep 0.1; done";

/// The lines that a program writes, as they come.
struct Lines(Receiver<String>);

impl Lines {
    fn of(child: &mut Child) -> Self {
        let (tell, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self(lines)
    }

    /// Waits for the next one; none when there are no more.
    #[track_caller]
    fn next(&self) -> Option<String> {
        match self.0.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
            line => line.ok(),
        }
    }

    /// Waits until a program that runs [`UP`] passes signals on. ctr begins with that a while after the process has begun.
    #[track_caller]
    fn wait_until_passing(&self, program: &str, child: &Child) {
        let begun = Instant::now();
        let mut line = self.next().expect("it says nothing");
        while program == "ctr" && line != "heard" {
            assert!(begun.elapsed() < PATIENCE, "no signal is passed on");
            signal(child, Signal::WINCH);
            line = self.next().expect("it has ended");
        }
    }

    /// Returns the rest of what a program that runs [`UP`] says beside that. It has ended.
    fn rest(self) -> Vec<String> {
        self.0.into_iter().filter(|line| !["up", "heard"].contains(&line.as_str())).collect()
    }
}

fn run_box(stage: &Stage, id: &str) {
    stage.ctr(&["run", "-d", "--null-io", "--snapshotter", &stage.snapshotter, IMAGE, id, "sleep", "600"]);
}

fn bytes(env: &Env) {
    let stage = Stage::new(env, "shell");
    let before = Leftovers::of(env, &stage.namespace);
    // More than was ever kept of an output, and no text.
    let path = stage.folder.join("input");
    let mut file = File::create(&path).unwrap();
    let block: Vec<u8> = (0_u32..1 << 16).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    (0..100).for_each(|_| file.write_all(&block).unwrap());
    let input = std::fs::read(&path).unwrap();
    let sh = "cat; echo oh >&2; exit 7";
    for program in BOTH {
        for words in [&["run", "--rm", IMAGE, "passing"][..], &["tasks", "exec", "--exec-id", "passing", "box"]] {
            run_box(&stage, "box");
            let mut command = line(&stage, program, &[words, &["sh", "-c", sh]].concat());
            let (code, out, err) = all(command.stdin(File::open(&path).unwrap()));
            assert_eq!(code, 7, "{program} {words:?}: {}", text(&err));
            assert!(out == input, "{program} {words:?}: {} bytes of {}", out.len(), input.len());
            let own: Vec<String> =
                text(&err).lines().filter(|line| !line.starts_with("ctr: ")).map(str::to_owned).collect();
            assert_eq!(own, ["oh"], "{program} {words:?}");
            stage.ctr(&["tasks", "rm", "-f", "box"]);
            stage.ctr(&["containers", "rm", "box"]);
            assert_eq!(Leftovers::of(env, &stage.namespace), before, "{program}");
        }
        // What it writes is there while it runs.
        let mut command =
            line(&stage, program, &["run", "--rm", IMAGE, "passing", "sh", "-c", "echo now; read x; echo $x"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut read = String::new();
        out.read_line(&mut read).unwrap();
        assert_eq!(read, "now\n");
        writeln!(child.stdin.as_ref().unwrap(), "typed").unwrap();
        out.read_line(&mut read).unwrap();
        assert_eq!((read.as_str(), status(&mut child)), ("now\ntyped\n", 0), "{program}");
    }
    assert_eq!(Leftovers::of(env, &stage.namespace), before);
}

fn open_input(env: &Env) {
    let stage = Stage::new(env, "shell");
    run_box(&stage, "box");
    for program in BOTH {
        for words in [&["run", "--rm", IMAGE, "passing"][..], &["tasks", "exec", "--exec-id", "passing", "box"]] {
            let mut command = line(&stage, program, &[words, &["true"]].concat());
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            let held = child.stdin.take();
            assert_eq!(status(&mut child), 0, "{program}");
            drop(held);
        }
    }
}

fn closed_output(env: &Env) {
    let stage = Stage::new(env, "shell");
    let before = Leftovers::of(env, &stage.namespace);
    for words in
        [&["run", "--rm", IMAGE, "passing", "yes"][..], &["tasks", "exec", "--exec-id", "passing", "box", "yes"]]
    {
        run_box(&stage, "box");
        let mut child = line(&stage, "ctrsh", words).spawn().unwrap();
        let mut some = [0; 4];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        assert_eq!((&some, status(&mut child)), (b"y\ny\n", 141));
        assert_eq!(stage.ctr(&["tasks", "ps", "box"]).lines().count(), 2, "nothing runs on");
        stage.ctr(&["tasks", "rm", "-f", "box"]);
        stage.ctr(&["containers", "rm", "box"]);
        assert_eq!(Leftovers::of(env, &stage.namespace), before);
    }
    // Without --rm the container stays, as when its process ends by itself.
    let mut child = line(&stage, "ctrsh", &["run", IMAGE, "kept", "yes"]).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 4]).unwrap();
    assert_eq!(status(&mut child), 141);
    assert_eq!(stage.ctr(&["containers", "ls", "-q"]).trim(), "kept");
    assert_eq!(stage.task_status("kept"), None);
}

fn starts(env: &Env) {
    let stage = Stage::new(env, "shell");
    for program in BOTH {
        // A line, as ctr does not pass the end of its input on here.
        let sh = "echo one; echo two >&2; read x; echo $x; exit 3";
        stage.value(&format!("create({program:?}, {IMAGE:?}, #{{ command: [\"sh\", \"-c\", {sh:?}] }}).id"));
        for _ in 0..2 {
            let mut command = line(&stage, program, &["tasks", "start", program]);
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"three\n").unwrap();
            let code = status(&mut child);
            let output = child.wait_with_output().unwrap();
            assert_eq!((code, text(&output.stdout).as_str()), (3, "one\nthree\n"), "{program}");
            assert!(text(&output.stderr).lines().any(|line| line == "two"), "{program}");
            assert_eq!(stage.task_status(program), None, "{program}");
        }
        // A run leaves no task either.
        let id = format!("run-{program}");
        assert_eq!(all(&mut line(&stage, program, &["run", IMAGE, &id, "true"])).0, 0);
        assert_eq!(stage.task_status(&id), None, "{program}");
    }
    assert_eq!(stage.ctr(&["containers", "ls", "-q"]).lines().count(), 4);
}

fn elsewhere(env: &Env) {
    let stage = Stage::new(env, "shell");
    let fifos = stage.folder.join("fifos");
    std::fs::create_dir(&fifos).unwrap();
    for program in BOTH {
        let log = stage.folder.join(format!("{program}.log"));
        let uri = format!("file://{}", log.display());
        let run = |flags: &[&str], sh: &str| {
            let words = [&["run", "--rm"], flags, &[IMAGE, "passing", "sh", "-c", sh]].concat();
            all(&mut line(&stage, program, &words))
        };
        let (code, out, _) = run(&["--log-uri", &uri], "echo logged; exit 4");
        assert_eq!((code, text(&out).as_str()), (4, ""), "{program}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "logged\n", "{program}");
        let (code, out, _) = run(&["--null-io"], "echo nowhere; exit 5");
        assert_eq!((code, text(&out).as_str()), (5, ""), "{program}");
        let (code, out, _) = run(&["--fifo-dir", &fifos.to_string_lossy()], "echo here; exit 6");
        assert_eq!((code, text(&out).as_str()), (6, "here\n"), "{program}");
    }
    assert_eq!(stage.ctr(&["containers", "ls", "-q"]).trim(), "");
    assert_eq!(Path::read_dir(&fifos).unwrap().count(), 0);
}

fn attached(env: &Env) {
    let stage = Stage::new(env, "shell");
    let sh = format!("trap 'echo told; exit 6' TERM; {UP}");
    let fifos = stage.folder.join("fifos");
    for program in BOTH {
        let script = format!(
            "run({IMAGE:?}, #{{ id: {program:?}, detach: true, fifo_dir: \"{}\", command: [\"sh\", \"-c\", {sh:?}] }})",
            fifos.display()
        );
        let mut made = stage.env.ctrsh_command();
        made.args(["--allow", "all", "-n", &stage.namespace, "--snapshotter", &stage.snapshotter, "-e", &script]);
        assert_eq!(all(&mut made).0, 0);
        let mut child = line(&stage, program, &["tasks", "attach", program]).spawn().unwrap();
        let lines = Lines::of(&mut child);
        lines.wait_until_passing(program, &child);
        signal(&child, Signal::TERM);
        assert_eq!(status(&mut child), 6, "{program}");
        assert_eq!(lines.rest(), ["told"], "{program}");
        assert_eq!(stage.task_status(program), None, "{program}");
    }
}

fn scripts(env: &Env) {
    let stage = Stage::new(env, "shell");
    run_box(&stage, "box");
    let script = "for n in [1, 2] { let done = exec(\"box\", [\"sh\", \"-c\", `read x; echo got $x; exit ${n}`], #{ stdio: \
                  \"inherit\" }); print(`${done.code}${done.stdout}`) }";
    let mut command = stage.env.ctrsh_command();
    command.args(["-n", &stage.namespace, "-e", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut input = child.stdin.take().unwrap();
    let mut read = String::new();
    // The first process leaves what the second is to read.
    for word in ["a", "b"] {
        writeln!(input, "{word}").unwrap();
        for _ in 0..2 {
            out.read_line(&mut read).unwrap();
        }
    }
    assert_eq!((read.as_str(), status(&mut child)), ("got a\n1\ngot b\n2\n", 0));
    for (options, what) in [("detach: true", "detach"), ("stdin: \"x\"", "stdin"), ("tty: true", "tty")] {
        let script = format!("exec(\"box\", [\"true\"], #{{ stdio: \"inherit\", {options} }})");
        let report = stage.script(&script).unwrap_err();
        assert!(report.error.message.contains(what), "{report:?}");
    }
    let report = stage.script("exec(\"box\", [\"true\"], #{ stdio: \"inherit\" })").unwrap_err();
    assert!(report.error.message.contains("there is none"), "{report:?}");
}

fn signals(env: &Env) {
    let stage = Stage::new(env, "shell");
    let before = Leftovers::of(env, &stage.namespace);
    let sh = |name: &str| format!("trap 'echo {name}; exit 9' {name}; {UP}");
    for program in BOTH {
        for (name, number) in [
            ("INT", Signal::INT),
            ("TERM", Signal::TERM),
            ("HUP", Signal::HUP),
            ("QUIT", Signal::QUIT),
            ("USR1", Signal::USR1),
            ("USR2", Signal::USR2),
        ] {
            for words in [&["run", "--rm", IMAGE, "passing"][..], &["tasks", "exec", "--exec-id", "passing", "box"]] {
                run_box(&stage, "box");
                let mut child = line(&stage, program, &[words, &["sh", "-c", &sh(name)]].concat()).spawn().unwrap();
                let lines = Lines::of(&mut child);
                lines.wait_until_passing(program, &child);
                signal(&child, number);
                assert_eq!(status(&mut child), 9, "{program} {words:?} {name}");
                assert_eq!(lines.rest(), [name], "{program}");
                stage.ctr(&["tasks", "rm", "-f", "box"]);
                stage.ctr(&["containers", "rm", "box"]);
            }
        }
        assert_eq!(Leftovers::of(env, &stage.namespace), before, "{program}");
    }
    // Elsewhere they end ctrsh, also after a process had them.
    let script = "exec(\"box\", [\"true\"], #{ stdio: \"inherit\" }); print(\"up\"); sleep(60)";
    run_box(&stage, "box");
    for (number, ends) in [(Signal::TERM, 143), (Signal::USR1, 138)] {
        let mut command = stage.env.ctrsh_command();
        command.args(["-n", &stage.namespace, "-e", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        signal(&child, number);
        assert_eq!(status(&mut child), ends);
    }
}

fn enough(env: &Env) {
    let stage = Stage::new(env, "shell");
    let before = Leftovers::of(env, &stage.namespace);
    let sh = "trap 'echo heard' INT; echo up; while true; do sleep 0.1; done";
    let mut child = line(&stage, "ctrsh", &["run", "--rm", IMAGE, "deaf", "sh", "-c", sh]).spawn().unwrap();
    let lines = Lines::of(&mut child);
    assert_eq!(lines.next().as_deref(), Some("up"));
    for _ in 0..2 {
        signal(&child, Signal::INT);
        assert_eq!(lines.next().as_deref(), Some("heard"), "twice is not enough");
    }
    // One that comes more than a second after the one before is the first again.
    let begun = Instant::now();
    loop {
        signal(&child, Signal::INT);
        let Some(line) = lines.next() else { break };
        assert_eq!(line, "heard");
        assert!(begun.elapsed() < PATIENCE, "nothing is enough");
    }
    assert_eq!(status(&mut child), 137);
    assert_eq!(Leftovers::of(env, &stage.namespace), before);
}
