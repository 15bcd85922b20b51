//! Terminals of containers at a real terminal: given by scripts, left by keys, and found again.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use super::terminal::{Terminal, at_home};
use crate::harness::leftovers::processes_with;
use crate::harness::{Env, trial};
use crate::ops::stage::{IMAGE, Stage};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![trial("shell::attach::a terminal is left by keys and found again", env, left_and_found)]
}

fn left_and_found(env: &Env) {
    let stage = Stage::new(env, "shell");
    let mut command = at_home(env, &env.new_folder("shell"));
    command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter]);
    let mut terminal = Terminal::run(&command);
    terminal.wait_for_prompt();
    let shell = |text: &str| text.lines().last().is_some_and(|line| line.trim_end().ends_with(['#', '$']));
    terminal.press(&format!("let r = run(\"{IMAGE}\", #{{ id: \"box\", tty: true, command: [\"sh\"] }}); r.id\r"));
    terminal.wait("a shell", shell);
    terminal.press("stty size; echo six times seven is $((6 * 7))\r");
    terminal.wait_for("30 100");
    terminal.wait_for("seven is 42");
    terminal.press("\x10\x11");
    terminal.wait_for("left: it runs on");
    terminal.wait_for_prompt();
    assert_eq!(stage.task_status("box").as_deref(), Some("RUNNING"));
    assert!(!processes_with("hold-input").is_empty());
    // The prompt has its terminal back, and the container its own.
    terminal.enter("`back at ${40 + 2}`");
    terminal.wait_for("back at 42");
    terminal.press(":attach box\r");
    std::thread::sleep(Duration::from_millis(500));
    terminal.press("echo five times five is $((5 * 5))\r");
    terminal.wait_for("five is 25");
    terminal.press("exit 3\r");
    terminal.wait_for("ended: with exit status 3");
    terminal.wait_for_prompt();
    assert_eq!(stage.task_status("box").as_deref(), Some("STOPPED"));
    terminal.press("exec(\"box\", [\"sh\"], #{ tty: true })\r");
    terminal.wait_for("error:");
    terminal.enter("delete(\"box\")");
    // What held its terminal ends with it.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !processes_with("hold-input").is_empty() {
        assert!(Instant::now() < deadline, "{:?}", processes_with("hold-input"));
        std::thread::sleep(Duration::from_millis(50));
    }
    terminal.press(&format!("run(\"{IMAGE}\", #{{ tty: true, command: [\"sh\", \"-c\", \"exit 5\"] }}).code\r"));
    terminal.wait("the exit status", |text| text.lines().any(|line| line.trim() == "5"));
    assert_eq!(stage.ctr(&["containers", "ls", "-q"]).trim(), "");
    assert_eq!(terminal.leave(), 0);
}
