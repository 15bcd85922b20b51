//! Terminals of containers at a real terminal: given by scripts, left by keys, and found again.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::Signal;

use super::terminal::{Terminal, at_home};
use crate::harness::daemon::Daemon;
use crate::harness::leftovers::processes_with;
use crate::harness::{Env, Kind, Leftovers, PROMPT, trial};
use crate::ops::stage::{IMAGE, Stage};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("shell::attach::a terminal is left by keys and found again", env, left_and_found),
        trial("shell::attach::a start gives it too", env, started),
        trial("shell::attach::the first command knows the size of the window", env, first_size),
        trial("shell::attach::keys are read while the process reads none", env, pasted),
        trial("shell::attach::a restart of the daemon is not noticed", env, restarted),
        trial("shell::attach::a daemon that stands still is left by keys", env, stopped),
        trial("shell::attach::without a terminal nothing is made", env, no_terminal),
        trial("shell::attach::what has no terminal is left by keys too", env, without_tty),
        trial("shell::attach::what was left is not deleted", env, left_by_ctr),
        trial("shell::attach::a slip is told", env, slips),
    ]
}

/// The keys that leave a terminal.
const LEAVE: &str = "\x10\x11";

fn at_prompt(stage: &Stage) -> Terminal {
    let mut command = at_home(&stage.env, &stage.env.new_folder("shell"));
    let terminal = Terminal::run(command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter]));
    terminal.wait_for_prompt();
    terminal
}

/// Waits until so many processes hold the input of a container open.
#[track_caller]
fn wait_for_holders(id: &str, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let holders = processes_with("hold-input").into_iter();
        let input = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap_or_default();
        let found = holders.filter(|pid| input(pid).ends_with(format!("{id}-stdin"))).count();
        if found == count {
            return;
        }
        assert!(Instant::now() < deadline, "{found} holders and not {count}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn left_and_found(env: &Env) {
    let stage = Stage::new(env, "shell");
    let (mut terminal, id) = (at_prompt(&stage), env.fresh("box"));
    let attach = |terminal: &mut Terminal| {
        terminal.press(&format!(":attach {id}\r"));
        std::thread::sleep(Duration::from_millis(500));
    };
    terminal.press(&format!("let r = run(\"{IMAGE}\", #{{ id: \"{id}\", tty: true, command: [\"sh\"] }}); r.id\r"));
    terminal.wait_for_shell();
    terminal.press("stty size; echo six times seven is $((6 * 7))\r");
    terminal.wait_for("30 100");
    terminal.wait_for("seven is 42");
    terminal.press(LEAVE);
    terminal.wait_for(&format!("left: it runs on; attach(\"{id}\") goes back to it"));
    terminal.wait_for_prompt();
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    // The prompt has its terminal back, and the container its own.
    terminal.enter("`back at ${40 + 2}`");
    terminal.wait_for("back at 42");
    for again in 1..=3 {
        attach(&mut terminal);
        terminal.press(&format!("echo five times {again} is $((5 * {again}))\r"));
        terminal.wait_for(&format!("{again} is {}", 5 * again));
        terminal.press(LEAVE);
        terminal.wait_for_prompt();
        wait_for_holders(&id, 1);
    }
    // A program that has the other screen and no cursor is left with the terminal's own.
    attach(&mut terminal);
    terminal.press("printf '\\033[?1049h\\033[?25ldra''wn'\r");
    terminal.wait_for("drawn");
    assert!(terminal.look(vt100::Screen::alternate_screen));
    terminal.press(LEAVE);
    terminal.wait_for_prompt();
    assert!(!terminal.look(|screen| screen.alternate_screen() || screen.hide_cursor()));
    attach(&mut terminal);
    terminal.press("exit 3\r");
    terminal.wait_for("ended: with exit status 3");
    terminal.wait_for_prompt();
    assert_eq!(stage.task_status(&id).as_deref(), Some("STOPPED"));
    terminal.press(&format!("exec(\"{id}\", [\"sh\"], #{{ tty: true }})\r"));
    terminal.wait_for("error:");
    terminal.enter(&format!("delete(\"{id}\")"));
    // What held its terminal ends with it, and is nobody's zombie.
    wait_for_holders(&id, 0);
    let zombies = || {
        let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let children = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = children.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| status(*pid).contains(&format!(") Z {} ", terminal.pid()))).count()
    };
    terminal.wait("no zombies", |_| zombies() == 0);
    terminal.press(&format!("run(\"{IMAGE}\", #{{ tty: true, command: [\"sh\", \"-c\", \"exit 5\"] }}).code\r"));
    terminal.wait("the exit status", |text| text.lines().any(|line| line.trim() == "5"));
    assert_eq!(stage.ctr(&["containers", "ls", "-q"]).trim(), "");
    assert_eq!(terminal.leave(), 0);
}

fn first_size(env: &Env) {
    let stage = Stage::new(env, "shell");
    let mut terminal = at_prompt(&stage);
    stage.ctr(&["run", "-d", "--snapshotter", &stage.snapshotter, IMAGE, "web", "sleep", "600"]);
    let lines = [
        ":exec web stty size".to_owned(),
        format!(":run {IMAGE} stty size"),
        format!(":ctr run --rm -t {IMAGE} sized stty size"),
        "exec(\"web\", [\"stty\", \"size\"], #{ tty: true }).code".to_owned(),
        format!("run(\"{IMAGE}\", #{{ tty: true, command: [\"stty\", \"size\"] }}).code"),
    ];
    for (line, width) in lines.iter().zip(101..) {
        terminal.resize(30, width);
        terminal.press(&format!("{line}\r"));
        terminal.wait_for(&format!("30 {width}"));
        terminal.wait_for_prompt();
    }
    terminal.enter("delete(\"web\", #{ force: true })");
    assert_eq!(terminal.leave(), 0);
}

fn pasted(env: &Env) {
    const PASTE: usize = 200_000;
    let stage = Stage::new(env, "shell");
    let mut terminal = at_prompt(&stage);
    // It reads late, and then sees all of it before the Ctrl-C that was pressed after it.
    let script = format!(
        "stty raw -echo; echo re\"\"ady; sleep 3; dd bs=1 count={} 2>/dev/null | tail -c 1 | od -An -tx1; exit 4",
        PASTE + 1
    );
    terminal.press(&format!(":run {IMAGE} sh -c '{script}'\r"));
    terminal.wait_for("ready");
    terminal.press(&"x".repeat(PASTE));
    terminal.press("\x03");
    terminal.wait("Ctrl-C", |text| text.lines().any(|line| line.trim() == "03"));
    terminal.wait_for("ended: with exit status 4");
    terminal.wait_for_prompt();
    // It never reads, and is left all the same.
    terminal.press(&format!(":run {IMAGE} sh -c 'stty raw -echo; echo dea\"\"f; sleep 600'\r"));
    terminal.wait_for("deaf");
    terminal.press(&"x".repeat(PASTE));
    terminal.press(LEAVE);
    let took = terminal.wait_for("left: it runs on");
    assert!(took < Duration::from_secs(10), "{took:?}");
    terminal.wait_for("#{ force: true }) ends and removes it");
    terminal.wait_for_prompt();
    terminal.enter("for c in containers() { delete(c.id, #{ force: true }) }");
    assert_eq!(stage.ctr(&["containers", "ls", "-q"]).trim(), "");
    assert_eq!(terminal.leave(), 0);
}

/// A prompt at a daemon of its own, with an image.
fn at_own_daemon(env: &Env) -> (Daemon, Terminal, String) {
    let daemon = Daemon::start(&env.new_folder("shell"));
    let reference = env.pushed(Kind::Busybox, "shell");
    let mut command = at_home(env, &env.new_folder("shell"));
    let socket = daemon.socket().to_string_lossy().into_owned();
    let mut terminal = Terminal::run(command.args(["-a", &socket, "--snapshotter", &env.snapshotter()]));
    terminal.wait_for_prompt();
    terminal.enter(&format!("pull(\"{reference}\").name"));
    (daemon, terminal, reference)
}

fn restarted(env: &Env) {
    let (mut daemon, mut terminal, image) = at_own_daemon(env);
    terminal.press(&format!(":run {image} sh\r"));
    terminal.wait_for_shell();
    daemon.kill();
    terminal.press("echo without it $((1 + 1))\r");
    terminal.wait_for("without it 2");
    terminal.resize(30, 90);
    std::thread::sleep(Duration::from_millis(500));
    daemon.restart();
    // What it could not be told is told it now.
    terminal.press("until stty size | grep '30 90'; do sleep 0.1; done\r");
    terminal.wait("the new size", |text| text.lines().any(|line| line.trim() == "30 90"));
    terminal.wait_for_shell();
    terminal.press("exit 3\r");
    terminal.wait_for("ended: with exit status 3");
    terminal.wait_for_prompt();
    // A process that ends while the daemon is away: some daemons know its status when they are back.
    terminal.press(&format!(":run {image} sh\r"));
    terminal.wait_for_shell();
    daemon.kill();
    terminal.press("exit 4\r");
    terminal.wait_for("waiting for containerd");
    daemon.restart();
    terminal.wait("its end", |text| text.contains("exit status 4") || text.contains("exit status is not known"));
    terminal.wait_for_prompt();
    terminal.enter("`left over: ${containers().len()}`");
    terminal.wait_for("left over: 0");
    assert_eq!(terminal.leave(), 0);
}

fn stopped(env: &Env) {
    let ((daemon, mut terminal, image), id) = (at_own_daemon(env), env.fresh("still"));
    terminal.enter(&format!("let still = run(\"{image}\", #{{ id: \"{id}\", tty: true, detach: true }})"));
    let attach = |terminal: &mut Terminal, said: &str| {
        terminal.press(&format!(":attach {id}\r"));
        std::thread::sleep(Duration::from_millis(500));
        terminal.press(&format!("echo {said}\\ there\r"));
        terminal.wait_for(&format!("{said} there"));
    };
    attach(&mut terminal, "once");
    daemon.signal(Signal::STOP);
    // The daemon does not take the size, and what the process writes is shown all the same.
    terminal.resize(30, 90);
    terminal.press("echo still\\ there\r");
    terminal.wait_for("still there");
    terminal.press(LEAVE);
    let took = terminal.wait_for("left: it runs on");
    assert!(took < PROMPT, "{took:?}");
    terminal.wait_for_prompt();
    daemon.signal(Signal::CONT);
    attach(&mut terminal, "twice");
    daemon.signal(Signal::STOP);
    terminal.press("exit 3\r");
    terminal.wait_for("waiting for containerd");
    terminal.press("\x03");
    let took = terminal.wait_for("error: cancelled");
    assert!(took < PROMPT, "{took:?}");
    terminal.wait_for_prompt();
    daemon.signal(Signal::CONT);
    terminal.enter(&format!("delete(\"{id}\", #{{ force: true }})"));
    assert_eq!(terminal.leave(), 0);
}

fn started(env: &Env) {
    let stage = Stage::new(env, "shell");
    let (mut terminal, id) = (at_prompt(&stage), env.fresh("box"));
    terminal.press(&format!("create(\"{id}\", \"{IMAGE}\", #{{ tty: true, command: [\"sh\"] }}).id\r"));
    terminal.wait_for_prompt();
    terminal.press(&format!("let s = start(\"{id}\", #{{ tty: true }}); `left with ${{s}}`\r"));
    terminal.wait_for_shell();
    terminal.press(LEAVE);
    terminal.wait_for("left: it runs on");
    terminal.wait_for_prompt();
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    let again = stage.script(&format!("start({id:?}, #{{ tty: true }})")).unwrap_err();
    assert!(again.error.message.contains("needs someone at a terminal"), "{again:?}");
    terminal.press(&format!("attach(\"{id}\")\r"));
    std::thread::sleep(Duration::from_millis(500));
    terminal.press("exit 3\r");
    terminal.wait("its status", |text| text.lines().any(|line| line.trim() == "3"));
    let file = stage.folder.join("pid");
    let calls = [
        format!("start(\"{id}\", #{{ tty: true, pid_file: {file:?} }})"),
        format!("run(\"{IMAGE}\", #{{ tty: true, pid_file: {file:?}, command: [\"sh\"] }})"),
    ];
    for (call, status) in calls.iter().zip(4..) {
        terminal.press(&format!("let s = {call}; `ended with ${{s.code}}`\r"));
        terminal.wait_for_shell();
        let pid = std::fs::read_to_string(&file).unwrap();
        assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "sh\n", "{pid}");
        std::fs::remove_file(&file).unwrap();
        terminal.press(&format!("exit {status}\r"));
        terminal.wait_for(&format!("ended with {status}"));
        terminal.wait_for_prompt();
    }
    assert_eq!(stage.task_status(&id), None);
}

fn no_terminal(env: &Env) {
    let stage = Stage::new(env, "shell");
    stage.ctr(&["run", "-d", "--snapshotter", &stage.snapshotter, IMAGE, "web", "sleep", "600"]);
    let before = Leftovers::of(env, &stage.namespace);
    let lines: [&[&str]; 2] =
        [&["run", "--rm", "-t", IMAGE, "none"], &["tasks", "exec", "-t", "--exec-id", "x", "web", "touch", "/made"]];
    for line in lines {
        let ctr = [&["-n", &stage.namespace, "--snapshotter", &stage.snapshotter, "ctr"], line].concat();
        let refused = env.ctrsh(&ctr);
        assert_eq!(refused.status, 1, "{refused:?}");
        assert!(refused.stderr.contains("error: a terminal is needed, and standard input is none"), "{refused:?}");
        assert!(refused.stderr.contains("hint: run ctrsh at a terminal"), "{refused:?}");
        assert_eq!(Leftovers::of(env, &stage.namespace), before);
    }
    let made = env.ctrsh(&["-n", &stage.namespace, "-e", "exec(\"web\", [\"ls\", \"/made\"]).code"]).ok();
    assert_eq!(made.trim(), "1", "the command ran");
    stage.ctr(&["tasks", "rm", "-f", "web"]);
    stage.ctr(&["containers", "rm", "web"]);
}

fn without_tty(env: &Env) {
    let stage = Stage::new(env, "shell");
    let (mut terminal, id) = (at_prompt(&stage), env.fresh("cat"));
    let fifos = env.new_folder("shell").display().to_string();
    let options = format!("#{{ id: \"{id}\", detach: true, fifo_dir: \"{fifos}\", command: [\"cat\"] }}");
    terminal.press(&format!("run(\"{IMAGE}\", {options}).status\r"));
    terminal.wait_for("running");
    let echoed = |terminal: &mut Terminal, word: &str| {
        terminal.press(&format!("{word}\r"));
        terminal.wait(word, |text| text.lines().filter(|line| line.trim() == word).count() == 2);
    };
    terminal.press(&format!(":attach {id}\r"));
    std::thread::sleep(Duration::from_millis(500));
    echoed(&mut terminal, "first");
    terminal.press(LEAVE);
    terminal.wait_for("left: it runs on");
    terminal.wait_for_prompt();
    // The shim keeps its input open by itself.
    wait_for_holders(&id, 0);
    terminal.press(&format!(":attach {id}\r"));
    std::thread::sleep(Duration::from_millis(500));
    echoed(&mut terminal, "second");
    terminal.press("\x04");
    terminal.wait_for_prompt();
    assert_eq!(stage.task_status(&id).as_deref(), Some("STOPPED"));
    terminal.enter(&format!("delete(\"{id}\")"));
    assert_eq!(terminal.leave(), 0);
}

fn left_by_ctr(env: &Env) {
    let stage = Stage::new(env, "shell");
    let mut terminal = at_prompt(&stage);
    terminal.press(&format!(":ctr run --rm -t {IMAGE} by-ctr sh\r"));
    terminal.wait_for_shell();
    terminal.press(LEAVE);
    terminal.wait_for("note: the container stays too; delete(\"by-ctr\", #{ force: true }) ends and removes it");
    terminal.wait_for_prompt();
    assert!(!terminal.text().contains("error"), "{}", terminal.text());
    assert_eq!(stage.task_status("by-ctr").as_deref(), Some("RUNNING"));
    terminal.enter("delete(\"by-ctr\", #{ force: true })");
    assert_eq!(terminal.leave(), 0);
    // The same as a command.
    let mut command = at_home(env, &env.new_folder("shell"));
    command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter]);
    let mut terminal = Terminal::run(command.args(["ctr", "run", "--rm", "-t", IMAGE, "by-ctr", "sh"]));
    terminal.wait_for_shell();
    terminal.press(LEAVE);
    terminal.wait_for("note: the container stays too");
    assert!(!terminal.text().contains("error"), "{}", terminal.text());
    assert_eq!(terminal.ended(), 0);
    assert_eq!(stage.task_status("by-ctr").as_deref(), Some("RUNNING"));
    stage.ctr(&["tasks", "rm", "-f", "by-ctr"]);
    stage.ctr(&["containers", "rm", "by-ctr"]);
}

fn slips(env: &Env) {
    let stage = Stage::new(env, "shell");
    let mut terminal = at_prompt(&stage);
    stage.ctr(&["run", "-d", "--snapshotter", &stage.snapshotter, IMAGE, "web", "sleep", "600"]);
    terminal.enter(":exec wbe");
    terminal.wait_for("hint: did you mean web?");
    terminal.enter(":exec web 'ls");
    terminal.wait_for("error: the line has a quote that does not end");
    terminal.enter("delete(\"web\", #{ force: true })");
    assert_eq!(terminal.leave(), 0);
}
