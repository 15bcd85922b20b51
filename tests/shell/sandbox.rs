//! `ctrsh sandbox`: however it ends, nothing of it stays.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use super::terminal::Terminal;
use crate::harness::output::Output;
use crate::harness::{Env, trial};
use crate::sandbox::Traces;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("shell::sandbox::a_script_that_ends", env, |env| ends(env, "", 0, finish)),
        trial("shell::sandbox::a_script_that_fails", env, |env| ends(env, "throw \"on purpose\";", 1, finish)),
        trial("shell::sandbox::interrupted", env, |env| ends(env, "", 130, |run| run.signal(Signal::INT))),
        trial("shell::sandbox::terminated", env, |env| ends(env, "", 143, |run| run.signal(Signal::TERM))),
        trial("shell::sandbox::a_prompt_that_is_left", env, a_prompt_that_is_left),
        trial("shell::sandbox::its_registry_works", env, its_registry_works),
        trial("shell::sandbox::what_is_missing_is_said", env, what_is_missing_is_said),
    ]
}

/// A script in a sandbox that waits for the file `go`.
struct Running {
    child: Child,
    folder: PathBuf,
    socket: PathBuf,
}

impl Running {
    /// Starts it with a folder for temporary files of its own.
    fn start(env: &Env, base: &Path, last: &str) -> Self {
        let folder = env.new_folder("shell");
        let script = folder.join("wait.rhai");
        let waiting = "loop { try { read_file(\"go\"); break } catch { sleep(\"10ms\") } }";
        std::fs::write(&script, format!("print(node().address);\n{waiting}\n{last}\n")).unwrap();
        let mut command = env.bare_ctrsh_command();
        command.env("TMPDIR", base).current_dir(&folder).args(["sandbox", "wait.rhai"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let socket = PathBuf::from(line.trim().trim_start_matches("unix://"));
        Self { child, folder, socket }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

fn finish(run: &Running) {
    std::fs::write(run.folder.join("go"), "").unwrap();
}

/// Starts a sandbox with containers in it, ends it, and looks for what it left.
fn ends(env: &Env, last: &str, status: i32, end: impl FnOnce(&Running)) {
    let base = env.new_folder("shell");
    let run = Running::start(env, &base, last);
    assert!(run.socket.starts_with(&base), "{}", run.socket.display());
    let traces = Traces::make(env, &run.socket);
    end(&run);
    let output = run.child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{told}");
    assert_eq!(told.contains("on purpose"), status == 1, "{told}");
    traces.assert_gone();
    assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
}

fn a_prompt_that_is_left(env: &Env) {
    let base = env.new_folder("shell");
    let mut command = env.bare_ctrsh_command();
    command.env("TMPDIR", &base).env("HOME", env.new_folder("shell")).arg("sandbox");
    let mut terminal = Terminal::run(&command);
    terminal.wait_for("sandbox/default>");
    terminal.press("write_file(\"socket\", node().address)\r");
    let note = command.get_current_dir().unwrap().join("socket");
    terminal.wait("the address", |_| std::fs::read_to_string(&note).is_ok_and(|text| !text.is_empty()));
    let address = std::fs::read_to_string(&note).unwrap();
    std::fs::remove_file(&note).unwrap();
    let traces = Traces::make(env, Path::new(address.trim_start_matches("unix://")));
    assert_eq!(terminal.leave(), 0);
    traces.assert_gone();
    assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
}

fn its_registry_works(env: &Env) {
    let work = env.new_folder("shell");
    std::fs::create_dir_all(work.join("rootfs/bin")).unwrap();
    std::fs::copy("/bin/busybox", work.join("rootfs/bin/sh")).unwrap();
    let script = "let name = `${REGISTRY}/team/box:1`; from_rootfs(\"rootfs\", name); push(name); \
                  delete_images(name); run(pull(name), #{ command: [\"sh\", \"-c\", \"echo out of $0\"] }).stdout";
    let mut command = env.bare_ctrsh_command();
    command.env("TMPDIR", env.new_folder("shell")).current_dir(&work).args(["sandbox", "-e", script]);
    assert_eq!(Output::of(&mut command).ok(), "out of sh\n\n");
}

fn what_is_missing_is_said(env: &Env) {
    let base = env.new_folder("shell");
    let mut command = env.bare_ctrsh_command();
    command.env("TMPDIR", &base).args(["sandbox", "--containerd", "/nowhere/containerd", "-e", "1"]);
    let output = Output::of(&mut command);
    assert_ne!(output.status, 0, "{output}");
    assert!(output.stderr.contains("/nowhere/containerd") && output.stderr.contains("hint:"), "{output}");
    assert!(output.stdout.is_empty(), "{output}");
    assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
}
