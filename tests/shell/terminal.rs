//! The prompt on a real pseudo-terminal.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::{Env, Kind, Leftovers, PROMPT, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("shell::terminal::tab_completes_a_live_name", env, tab_completes_a_live_name),
        trial("shell::terminal::ctrl_c_keeps_the_prompt", env, ctrl_c_keeps_the_prompt),
        trial("shell::terminal::a_signal_ends_an_idle_prompt", env, a_signal_ends_an_idle_prompt),
        trial("shell::terminal::ctrl_c_ends_a_stalled_pull", env, ctrl_c_ends_a_stalled_pull),
        trial("shell::terminal::a_command_gets_the_terminal", env, a_command_gets_the_terminal),
        trial("shell::terminal::a_container_gets_the_terminal", env, a_container_gets_the_terminal),
        trial("shell::terminal::input_goes_on_over_lines", env, input_goes_on_over_lines),
        trial("shell::terminal::the_last_value_is_everywhere", env, the_last_value_is_everywhere),
        trial("shell::terminal::a_semicolon_at_the_end_shows_nothing", env, a_semicolon_at_the_end_shows_nothing),
        trial("shell::terminal::an_editor_that_fails_runs_nothing", env, an_editor_that_fails_runs_nothing),
        trial("shell::terminal::history_has_no_secrets", env, history_has_no_secrets),
        trial("shell::terminal::control_characters_are_shown", env, control_characters_are_shown),
        trial(
            "shell::terminal::control_characters_of_a_script_are_shown",
            env,
            control_characters_of_a_script_are_shown,
        ),
        trial("shell::terminal::a_table_fits_after_a_resize", env, a_table_fits_after_a_resize),
        trial("shell::terminal::the_prompt_works_without_a_daemon", env, the_prompt_works_without_a_daemon),
    ]
}

const PATIENCE: Duration = Duration::from_secs(30);

/// After what time keys are pressed again.
const AGAIN: Duration = Duration::from_secs(1);

/// A program on a terminal of its own.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
    child: Box<dyn Child + Send + Sync>,
}

impl Terminal {
    pub fn run(command: &Command) -> Self {
        Self::sized(command, 30, 100)
    }

    pub fn sized(command: &Command, rows: u16, cols: u16) -> Self {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut builder = CommandBuilder::new(command.get_program());
        builder.args(command.get_args());
        builder.env_clear();
        for (name, value) in command.get_envs() {
            builder.env(name, value.unwrap_or_default());
        }
        builder.env("TERM", "xterm-256color");
        builder.cwd(command.get_current_dir().unwrap());
        let child = pair.slave.spawn_command(builder).unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size.rows, size.cols, 200)));
        let mut output = pair.master.try_clone_reader().unwrap();
        let filled = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = output.read(&mut bytes) {
                if count == 0 {
                    break;
                }
                filled.lock().unwrap().process(&bytes[..count]);
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self { master: pair.master, keys, screen, child }
    }

    pub fn text(&self) -> String {
        self.look(vt100::Screen::contents)
    }

    pub fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.screen.lock().unwrap().screen())
    }

    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    pub fn resize(&self, rows: u16, cols: u16) {
        self.master.resize(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
        self.screen.lock().unwrap().screen_mut().set_size(rows, cols);
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is as wanted; returns how long that took.
    #[track_caller]
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Duration {
        let begun = Instant::now();
        while !wanted(&self.text()) {
            assert!(begun.elapsed() < PATIENCE, "waited for {what}; the screen:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    #[track_caller]
    pub fn wait_for(&self, part: &str) -> Duration {
        self.wait(part, |text| text.contains(part))
    }

    /// Waits for an empty prompt of ctrsh on the last line.
    #[track_caller]
    pub fn wait_for_prompt(&self) -> Duration {
        self.wait("a prompt", |text| ends_with(text, &['>']))
    }

    /// Waits for the prompt of a container's shell on the last line. It is the whole line: what is typed at ctrsh's own prompt
    /// may end so too, while it is being typed.
    #[track_caller]
    pub fn wait_for_shell(&self) -> Duration {
        self.wait("a shell", is_at_shell)
    }

    /// Presses keys again and again until the screen has this part; returns how long that took. For what looks whether
    /// something is there just when they are pressed.
    #[track_caller]
    pub fn press_until(&mut self, keys: &str, what: &str, wanted: impl Fn(&str) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            self.press(keys);
            let pressed = Instant::now();
            while pressed.elapsed() < AGAIN {
                if wanted(&self.text()) {
                    return begun.elapsed();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(begun.elapsed() < PATIENCE, "pressed {keys:?} for {what}; the screen:\n{}", self.text());
        }
    }

    /// Types a line and waits until it has run.
    #[track_caller]
    pub fn enter(&mut self, line: &str) {
        self.press(line);
        self.wait(line, |text| text.lines().last().is_some_and(|last| last.trim_end().ends_with(line.trim_end())));
        self.press("\r");
        self.wait_for_prompt();
    }

    /// Ends what reads at the prompt that is there or comes, and returns the exit status.
    ///
    /// Before the prompt is there the terminal is not in the mode in which a shell reads: a Ctrl-D that comes while it still is
    /// in the other becomes a NUL as the mode changes (Linux `n_tty`), and nothing ends.
    #[track_caller]
    pub fn leave(mut self) -> u32 {
        self.wait("a prompt to leave", |text| ends_with(text, &['>', '#', '$']));
        self.press("\x04");
        self.ended()
    }

    /// Waits until it has ended by itself, and returns the exit status.
    #[track_caller]
    pub fn ended(mut self) -> u32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end; the screen:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Returns whether the screen ends with one of these, which prompts end with.
fn ends_with(text: &str, ends: &[char]) -> bool {
    text.lines().last().is_some_and(|line| line.trim_end().ends_with(ends))
}

/// Returns whether the screen ends with the prompt of a container's shell.
pub fn is_at_shell(text: &str) -> bool {
    text.lines().last().is_some_and(|line| ["/ #", "/ $", "#", "$"].contains(&line.trim()))
}

/// Returns a command with a home of its own.
pub fn at_home(env: &Env, home: &Path) -> Command {
    let mut command = env.ctrsh_command();
    command.env("HOME", home);
    command
}

fn tab_completes_a_live_name(env: &Env) {
    let namespace = env.namespace("shell");
    let reference = env.pushed(Kind::Busybox, "shell");
    env.ctr(&["-n", &namespace, "images", "pull", "--plain-http", &reference]).ok();
    let mut command = at_home(env, &env.new_folder("shell"));
    let mut terminal = Terminal::run(command.args(["-n", &namespace]));
    terminal.wait_for_prompt();
    terminal.press(&format!("image(\"{}", &reference[..12]));
    // A busy daemon answers after the first Tab has given up, and then the next one has it.
    let whole = format!("image(\"{reference}");
    let took = terminal.press_until("\t", "the name", |text| text.contains(&whole));
    assert!(took < PROMPT, "{took:?}");
    terminal.press("\").nam\t");
    terminal.wait_for(").name");
    terminal.press("\r");
    terminal.wait("the name", |text| text.lines().any(|line| line.trim() == reference));
    terminal.press("tag(\"a\", \"b\", #{ fo\t");
    terminal.wait_for("#{ force:");
    terminal.press("\x03");
    terminal.wait_for_prompt();
    assert_eq!(terminal.leave(), 0);
}

fn ctrl_c_keeps_the_prompt(env: &Env) {
    let mut terminal = Terminal::run(&at_home(env, &env.new_folder("shell")));
    terminal.wait_for_prompt();
    for (endless, said) in [("sleep(\"60s\")", "first"), ("loop { }", "second")] {
        // Before it runs, Ctrl-C is for the line.
        terminal.press(&format!("print(\"the \" + \"{said}\"); {endless}\r"));
        terminal.wait_for(&format!("the {said}"));
        terminal.press("\x03");
        let took = terminal.wait_for_prompt();
        assert!(took < PROMPT, "{endless}: {took:?}");
    }
    terminal.press("40 + 2\r");
    terminal.wait("42", |text| text.lines().any(|line| line.trim() == "42"));
    terminal.press("_ + 1\r");
    terminal.wait("43", |text| text.lines().any(|line| line.trim() == "43"));
    assert_eq!(terminal.leave(), 0);
}

/// Whatever ran before at the prompt, and with the history kept.
fn a_signal_ends_an_idle_prompt(env: &Env) {
    let home = env.new_folder("shell");
    for (signal, status) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut terminal = Terminal::run(&at_home(env, &home));
        terminal.wait_for_prompt();
        terminal.enter(&format!("let status = {status}"));
        kill_process(Pid::from_raw(terminal.pid().cast_signed()).unwrap(), signal).unwrap();
        assert_eq!(terminal.ended(), status);
    }
    let history = std::fs::read_to_string(home.join(".local/state/ctrsh/history")).unwrap();
    assert_eq!(history, "\"let status = 143\"\n\"let status = 129\"\n");
}

fn ctrl_c_ends_a_stalled_pull(env: &Env) {
    let namespace = env.namespace("shell");
    // Its second layer is in no other namespace, from which the daemon would take it.
    let kind = Kind::Big(10);
    let image = env.image(kind);
    let reference = env.pushed(kind, "shell");
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let reference = reference.replace(&env.registry(), &proxy.host());
    proxy.fault("GET", &image.layers[1], 100, Fault::Stall(1 << 20));
    let before = Leftovers::of(env, &namespace);
    let mut command = at_home(env, &env.new_folder("shell"));
    let mut terminal = Terminal::run(command.args(["-n", &namespace]));
    terminal.wait_for_prompt();
    terminal.press(&format!("pull(\"{reference}\")\r"));
    let during = || Leftovers::of(env, &namespace);
    terminal.wait("a lease and an ingest", |_| {
        let during = during();
        during.leases.len() == 1 && during.ingests.iter().any(|name| name.contains(&image.layers[1]))
    });
    terminal.press("\x03");
    let took = terminal.wait_for_prompt();
    // The end of its lease waits for the daemon's collector, which may be at work already for others.
    assert!(took < 3 * PROMPT, "{took:?}");
    assert_eq!(Leftovers::of(env, &namespace), before);
    proxy.forgive();
    terminal.press(&format!("pull(\"{reference}\").digest\r"));
    terminal.wait_for(&image.digest);
    assert_eq!(terminal.leave(), 0);
}

/// Looks at a shell in a container: its window, the keys that it gets, and how it ends.
pub fn use_shell(terminal: &mut Terminal) {
    terminal.wait_for_shell();
    terminal.press("stty size\r");
    terminal.wait_for("30 100");
    terminal.resize(30, 90);
    // The size goes another way than the keys.
    terminal.press("until stty size | grep '30 90'; do sleep 0.1; done\r");
    terminal.wait("the new size", |text| text.lines().any(|line| line.trim() == "30 90"));
    terminal.wait_for_shell();
    // The shell has left its own mode when a command runs, and Ctrl-C goes to that, and not to ctrsh.
    terminal.press("sh -c 'echo going to $((2 * 300)); exec sleep 600'\r");
    terminal.wait_for("going to 600");
    terminal.press("\x03");
    terminal.wait_for_shell();
    terminal.press("echo six times seven is $((6 * 7))\r");
    terminal.wait_for("seven is 42");
    terminal.press("exit 3\r");
    terminal.wait_for("ended: with exit status 3");
    terminal.wait_for_prompt();
    terminal.press("`back at ${40 + 2}`\r");
    terminal.wait("the prompt's own terminal", |text| text.lines().any(|line| line.trim() == "back at 42"));
}

fn a_command_gets_the_terminal(env: &Env) {
    let stage = crate::ops::stage::Stage::new(env, "shell");
    let image = crate::ops::stage::IMAGE;
    stage.ctr(&["run", "-d", "--snapshotter", &stage.snapshotter, image, "web", "sleep", "600"]);
    let mut command = at_home(env, &env.new_folder("shell"));
    let before = Leftovers::of(env, &stage.namespace);
    let mut terminal = Terminal::run(command.args(["-n", &stage.namespace]));
    terminal.wait_for_prompt();
    terminal.press(":exec -it web\r");
    use_shell(&mut terminal);
    terminal.enter(":exec nobody");
    terminal.wait_for("nobody");
    terminal.enter(":exec");
    terminal.wait_for(":exec ID [COMMAND]");
    // Told to end in the middle of it.
    terminal.press(":exec web\r");
    terminal.wait_for_shell();
    kill_process(Pid::from_raw(terminal.pid().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(terminal.ended(), 143);
    assert_eq!(stage.ctr(&["tasks", "ps", "web"]).lines().count(), 2);
    assert_eq!(Leftovers::of(env, &stage.namespace).fifos, before.fifos);
    stage.ctr(&["tasks", "rm", "-f", "web"]);
    stage.ctr(&["containers", "rm", "web"]);
}

fn a_container_gets_the_terminal(env: &Env) {
    let stage = crate::ops::stage::Stage::new(env, "shell");
    let before = Leftovers::of(env, &stage.namespace);
    let mut command = at_home(env, &env.new_folder("shell"));
    command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter]);
    let mut terminal = Terminal::run(&command);
    terminal.wait_for_prompt();
    terminal.press(&format!(":run {}\r", crate::ops::stage::IMAGE));
    use_shell(&mut terminal);
    assert_eq!(Leftovers::of(env, &stage.namespace), before);
    terminal.enter(&format!(":run {} nothing-of-this-name", crate::ops::stage::IMAGE));
    terminal.wait_for("nothing-of-this-name");
    terminal.wait_for("error:");
    assert_eq!(Leftovers::of(env, &stage.namespace), before);
    assert_eq!(terminal.leave(), 0);
}

fn input_goes_on_over_lines(env: &Env) {
    let mut terminal = Terminal::run(&at_home(env, &env.new_folder("shell")));
    terminal.wait_for_prompt();
    terminal.press("let sum = 0; for i in 1..=3 {\r  sum += i\r}\r");
    terminal.wait_for_prompt();
    terminal.press("`sum is ${sum}`\r");
    terminal.wait_for("sum is 6");
    assert_eq!(terminal.leave(), 0);
}

fn an_editor_that_fails_runs_nothing(env: &Env) {
    let home = env.new_folder("shell");
    let run = |editor: &str| {
        let mut command = at_home(env, &home);
        let mut terminal = Terminal::run(command.env("EDITOR", editor));
        terminal.wait_for_prompt();
        terminal.enter("let n = 40");
        terminal.enter("n += 1");
        terminal.enter(":edit");
        terminal.enter("`n is ${n}`");
        terminal
    };
    let terminal = run("true");
    terminal.wait_for("n is 42");
    let terminal = run("false");
    terminal.wait_for("false ended with exit status 1, so nothing is run");
    terminal.wait_for("n is 41");
    assert_eq!(terminal.leave(), 0);
}

fn a_semicolon_at_the_end_shows_nothing(env: &Env) {
    let mut terminal = Terminal::run(&at_home(env, &env.new_folder("shell")));
    terminal.wait_for_prompt();
    for line in ["40 + 2;", "_ + 1; // one more"] {
        terminal.enter(line);
        let shown = terminal.text();
        assert!(shown.trim_end().lines().rev().nth(1).is_some_and(|last| last.trim_end().ends_with(line)), "{shown}");
    }
    // It is the last value all the same.
    terminal.press("\"the last is \" + _\r");
    terminal.wait_for("the last is 43");
    assert_eq!(terminal.leave(), 0);
}

fn the_last_value_is_everywhere(env: &Env) {
    let mut terminal = Terminal::run(&at_home(env, &env.new_folder("shell")));
    terminal.wait_for_prompt();
    terminal.enter("40 + 2");
    terminal.enter(":plan \"planned with \" + _");
    terminal.wait_for("planned with 42");
    terminal.enter("`it is ${_} now`");
    terminal.wait_for("it is 42 now");
    assert_eq!(terminal.leave(), 0);
}

fn history_has_no_secrets(env: &Env) {
    let home = env.new_folder("shell");
    let mut terminal = Terminal::run(&at_home(env, &home));
    terminal.wait_for_prompt();
    for line in ["let kept = 1", "let password = \"hunter2\"", " let hidden = 3", "let kept = 1"] {
        terminal.enter(line);
    }
    assert_eq!(terminal.leave(), 0);
    let history = std::fs::read_to_string(home.join(".local/state/ctrsh/history")).unwrap();
    assert_eq!(history, "\"let kept = 1\"\n");
    let mut terminal = Terminal::run(&at_home(env, &home));
    terminal.wait_for_prompt();
    terminal.press("\x1b[A");
    terminal.wait_for("> let kept = 1");
}

fn control_characters_are_shown(env: &Env) {
    let mut terminal = Terminal::run(&at_home(env, &env.new_folder("shell")));
    terminal.wait_for_prompt();
    terminal.press("print(\"a\\x1b]0;owned\\x07b\")\r");
    terminal.wait_for("a\\u{1b}]0;owned\\u{7}b");
    assert_eq!(terminal.leave(), 0);
}

fn control_characters_of_a_script_are_shown(env: &Env) {
    let folder = env.new_folder("shell");
    let script = folder.join("a\x1b[2J.rhai");
    std::fs::write(&script, "fn fail() { throw \"no\" }\nfail(); // \x1b]0;owned\x07").unwrap();
    let terminal = Terminal::run(env.bare_ctrsh_command().current_dir(&folder).arg("a\x1b[2J.rhai"));
    terminal.wait_for("called from a\\u{1b}[2J.rhai:2:1: fail(); // \\u{1b}]0;owned\\u{7}");
    assert_eq!(terminal.ended(), 1);
}

fn a_table_fits_after_a_resize(env: &Env) {
    let mut terminal = Terminal::run(&at_home(env, &env.new_folder("shell")));
    terminal.wait_for_prompt();
    terminal.resize(30, 60);
    let long = "0123456789".repeat(6);
    terminal.press(&format!("[#{{ a: 1, b: \"{long}\" }}]\r"));
    terminal
        .wait("a shortened cell", |text| text.lines().any(|line| line.starts_with("1  0123") && line.contains('…')));
    assert_eq!(terminal.leave(), 0);
}

fn the_prompt_works_without_a_daemon(env: &Env) {
    let mut command = env.bare_ctrsh_command();
    let mut terminal = Terminal::run(command.env("HOME", env.new_folder("shell")).args(["-a", "/nowhere/c.sock"]));
    terminal.wait_for("there is no containerd socket at /nowhere/c.sock");
    terminal.wait_for_prompt();
    terminal.press("image(\"doc\t\t");
    // Ctrl-C throws away what was typed ahead, as a terminal does.
    terminal.wait_for("image(\"doc");
    terminal.press("\x03");
    let took = terminal.wait_for_prompt();
    assert!(took < PROMPT, "{took:?}");
    terminal.press("1 + 1\r");
    terminal.wait("2", |text| text.lines().any(|line| line.trim() == "2"));
    assert_eq!(terminal.leave(), 0);
}
