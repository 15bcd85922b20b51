//! The shell's own lines at a real prompt, and what it shows while a line is typed.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use super::terminal::{Terminal, at_home};
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("shell::commands::hints_are_those_of_what_was_typed", env, hints),
        trial("shell::commands::help", env, help),
        trial("shell::commands::ns", env, ns),
        trial("shell::commands::vars_type_and_time", env, vars_type_and_time),
        trial("shell::commands::plan", env, plan),
        trial("shell::commands::what_save_writes_load_reads", env, save_and_load),
        trial("shell::commands::set_and_config", env, set_and_config),
        trial("shell::commands::config_names_the_sandbox", env, config_in_a_sandbox),
        trial("shell::commands::several_containers_are_asked_about", env, asked),
        trial("shell::commands::history_has_a_line_once", env, history),
    ]
}

/// Starts a prompt with a home of its own, and the home as its folder.
fn prompt(env: &Env, home: &Path, arguments: &[&str]) -> Terminal {
    let mut command = at_home(env, home);
    command.current_dir(home).args(arguments);
    start(&command)
}

fn start(command: &Command) -> Terminal {
    let terminal = Terminal::sized(command, 50, 150);
    terminal.wait_for_prompt();
    terminal
}

/// Returns whether a line of the screen is this text, blanks at its ends and runs of blanks aside.
fn has_line(screen: &str, wanted: &str) -> bool {
    screen.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == wanted)
}

fn hints(env: &Env) {
    let mut terminal = prompt(env, &env.new_folder("shell"), &[]);
    let mut typed = |text: &str, hint: &str| {
        terminal.press(text);
        terminal.wait(hint, |screen| screen.lines().last().is_some_and(|line| line.trim_end().ends_with(hint)));
        terminal.press("\x03");
        terminal.wait_for_prompt();
    };
    typed("run(", "> run(image: string or object, [options: map]) -> Process or Container");
    typed("host::run(", "> host::run(program: string, args: array of strings, [options: map]) -> Ran");
    typed("delete(", "> delete(ids: string, object, or an array of them, [options: map]) -> int");
    typed("namespaces::delete(", "> namespaces::delete(name: string or object, [options: map])");
    typed("snapshots::list(", "> snapshots::list([filter: any], [options: map]) -> array");
    typed("leases::list(", "> leases::list([filter: array of strings]) -> array");
    typed(":type leases::list(", "> :type leases::list([filter: array of strings]) -> array");
    // Of a method that of the value's type; several types have a delete.
    typed("image(\"a\").delete(", "> image(\"a\").delete([options: map])");
    typed("leases::create().delete(", "> leases::create().delete([options: map])");
    typed("node().run(", "> node().run(image: string or object, [options: map]) -> Process or Container");
    // What no type has, and what is known of no function.
    typed("\"a\".delete(", "> \"a\".delete(");
    typed("nobody::run(", "> nobody::run(");
    assert_eq!(terminal.leave(), 0);
}

fn asked(env: &Env) {
    let (namespace, pushed) = (env.namespace("shell"), env.pushed(Kind::Busybox, "shell"));
    let mut terminal = prompt(env, &env.new_folder("shell"), &["-n", &namespace]);
    terminal.enter(&format!("pull({pushed:?}).name"));
    terminal.wait("the image", |screen| has_line(screen, &pushed));
    terminal.enter("for id in [\"a\", \"b\"] { create(id, images()[0].name) }");
    terminal.press("delete([\"a\", \"b\"])\r");
    terminal.wait_for("go on with 2 deletions? [y/N]");
    assert!(terminal.text().contains("delete container a"), "{}", terminal.text());
    terminal.press("n\r");
    terminal.wait_for("not confirmed, nothing was changed");
    terminal.wait_for_prompt();
    terminal.enter("delete(\"a\")");
    terminal.enter("containers().map(|c| c.id)");
    terminal.wait("the one that is left", |screen| has_line(screen, "b"));
    terminal.press("create(\"a\", images()[0].name); delete([\"a\", \"b\"])\r");
    terminal.wait("the second question", |text| text.matches("[y/N]").count() == 2);
    terminal.press("y\r");
    terminal.wait("how many", |screen| has_line(screen, "2"));
    assert_eq!(terminal.leave(), 0);
}

fn help(env: &Env) {
    let mut terminal = prompt(env, &env.new_folder("shell"), &[]);
    terminal.enter(":help");
    terminal.wait_for("_ is the last value.");
    terminal.enter(":help retry");
    terminal.wait_for("Calls a closure until it succeeds");
    terminal.enter("help Report");
    terminal.wait_for("Report: What a batch came to.");
    // What only an option is called.
    terminal.enter(":help keep_going");
    terminal.wait("the function that has it", |screen| screen.lines().any(|line| line.starts_with("parallel ")));
    terminal.enter(":help retyr");
    terminal.wait_for("did you mean retry?");
    terminal.enter(":hlep");
    terminal.wait_for("did you mean :help?");
    assert_eq!(terminal.leave(), 0);
}

fn ns(env: &Env) {
    let (first, second) = (env.namespace("shell"), env.namespace("shell"));
    let home = env.new_folder("shell");
    let mut command = at_home(env, &home);
    // High enough for the namespaces of all tests.
    let mut terminal = Terminal::sized(command.current_dir(&home).args(["-n", &first]), 2000, 150);
    terminal.wait_for_prompt();
    terminal.wait_for(&format!("/{first}>"));
    terminal.enter(":ns");
    terminal
        .wait("both", |screen| [&first, &second].iter().all(|name| screen.lines().any(|line| line.starts_with(*name))));
    terminal.enter(&format!(":ns {second}"));
    terminal.wait_for(&format!("/{second}>"));
    terminal.enter(":ns no/name");
    terminal.wait_for("error:");
    terminal.wait_for_prompt();
    terminal.wait("the namespace as it was", |screen| {
        screen.lines().last().is_some_and(|line| line.trim_end().ends_with(&format!("/{second}>")))
    });
    assert_eq!(terminal.leave(), 0);
}

fn vars_type_and_time(env: &Env) {
    let mut terminal = prompt(env, &env.new_folder("shell"), &[]);
    terminal.enter(":vars");
    terminal.wait_for("none");
    terminal.enter("let some = [1, 2]");
    terminal.enter("some.len() + 0.5");
    terminal.enter(":vars");
    terminal.wait("both variables", |screen| has_line(screen, "some array") && has_line(screen, "_ float"));
    terminal.enter(":type some");
    terminal.wait("its type", |screen| has_line(screen, "array"));
    terminal.enter(":type _");
    terminal.wait("its type", |screen| has_line(screen, "float"));
    terminal.enter(":time _ * 4");
    terminal.wait("the value and the time", |screen| has_line(screen, "10.0") && screen.contains("took"));
    terminal.press(":quit\r");
    assert_eq!(terminal.ended(), 0);
}

fn plan(env: &Env) {
    let namespace = env.namespace("shell");
    let reference = env.pushed(Kind::Busybox, "shell");
    env.ctr(&["-n", &namespace, "images", "pull", "--plain-http", &reference]).ok();
    let mut terminal = prompt(env, &env.new_folder("shell"), &["-n", &namespace]);
    terminal.enter(&format!(":plan tag(\"{reference}\", \"example.test/planned:1\").name"));
    terminal.wait_for("dry run: tag");
    terminal.wait("the preview", |screen| has_line(screen, "example.test/planned:1"));
    assert_eq!(env.ctr(&["-n", &namespace, "images", "ls", "-q"]).lines(), [reference]);
    // The lines after it are meant.
    terminal.wait("the prompt", |screen| screen.lines().last().is_some_and(|line| !line.contains("dry run")));
    terminal.enter("image(images()[0].name).tag(\"example.test/meant:1\");");
    assert_eq!(env.ctr(&["-n", &namespace, "images", "ls", "-q"]).lines().len(), 2);
    assert_eq!(terminal.leave(), 0);
}

fn save_and_load(env: &Env) {
    let home = env.new_folder("shell");
    let mut terminal = prompt(env, &home, &[]);
    for line in ["let a = 40 // forty", "nothing_of_this_name()", "a +", "a + 2", "_ * 2", "let b = _", "print(_)"] {
        terminal.press(line);
        terminal.press("\r");
        if line == "a +" {
            // It goes on in the next line, and is wrong.
            terminal.press(")\r");
        }
        terminal.wait_for_prompt();
    }
    terminal.enter(":save kept.rhai");
    terminal.wait_for("lines to kept.rhai");
    let saved = std::fs::read_to_string(home.join("kept.rhai")).unwrap();
    let comment = "// _ has no value here that a script could name:\n// print(_)\n";
    assert_eq!(
        saved,
        format!("let a = 40; // forty\nlet _last = (a + 2);\n_last = (_last * 2);\nlet b = _last;\n{comment}")
    );
    assert_eq!(terminal.leave(), 0);

    let mut terminal = prompt(env, &home, &[]);
    terminal.enter(":load kept.rhai");
    terminal.enter("b + 1");
    terminal.wait("what was saved", |screen| has_line(screen, "85"));
    terminal.enter(":load missing.rhai");
    terminal.wait_for("missing.rhai");
    terminal.wait_for("error:");
    terminal.enter(":save nowhere/kept.rhai");
    terminal.wait_for("error: write nowhere/kept.rhai");
    assert_eq!(terminal.leave(), 0);
}

fn set_and_config(env: &Env) {
    let mut terminal = prompt(env, &env.new_folder("shell"), &["-n", "mine"]);
    terminal.enter(":set output json");
    terminal.enter("#{ a: [1] }");
    terminal.wait_for("\"a\":");
    terminal.enter(":set output xml");
    terminal.wait_for("error: output");
    terminal.enter(":set colour red");
    terminal.wait_for("what can be set is: output FORMAT");
    terminal.enter(":config");
    terminal.wait("both origins", |screen| {
        let row = |name: &str, parts: [&str; 2]| {
            let mut lines = screen.lines();
            lines.any(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)))
        };
        row("namespace", ["mine", "flag"]) && row("address", [&env.socket().to_string_lossy(), "CONTAINERD_ADDRESS"])
    });
    assert_eq!(terminal.leave(), 0);
}

fn config_in_a_sandbox(env: &Env) {
    let home = env.new_folder("shell");
    let mut command = env.bare_ctrsh_command();
    command.env("TMPDIR", env.new_folder("shell")).env("HOME", &home).args(["sandbox", "--no-registry"]);
    command.env("CONTAINERD_ADDRESS", env.socket());
    let terminal = Terminal::sized(&command, 50, 250);
    terminal.wait_for("sandbox/default>");
    let mut terminal = terminal;
    terminal.enter("node().address");
    let text = terminal.text();
    let own = text.lines().rev().nth(1).unwrap().trim().trim_start_matches("unix://").to_owned();
    assert!(own.starts_with('/') && own != env.socket().to_string_lossy(), "{text}");
    terminal.enter(":config");
    terminal.wait("the sandbox's own address", |screen| {
        let mut rows = screen.lines().filter(|line| line.starts_with("address"));
        rows.any(|row| row.contains(&own) && row.contains("(the sandbox)"))
    });
    assert_eq!(terminal.leave(), 0);
}

fn history(env: &Env) {
    let home = env.new_folder("shell");
    let kept = || std::fs::read_to_string(home.join(".local/state/ctrsh/history")).unwrap();
    let mut one = prompt(env, &home, &[]);
    let mut two = prompt(env, &home, &[]);
    for line in ["1 + 1", "2 + 2", "1 + 1", "3 + 3", ":history 2"] {
        one.enter(line);
    }
    one.wait("the last two", |screen| {
        let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
        lines.windows(2).any(|pair| pair == ["1 + 1", "3 + 3"])
    });
    // Up goes over the line that was repeated once.
    one.press("\x1b[A\x1b[A\x1b[A");
    one.wait_for("> 1 + 1");
    one.press("\x1b[A");
    one.wait("the line before", |screen| {
        screen.lines().last().is_some_and(|line| line.trim_end().ends_with("> 2 + 2"))
    });
    one.press("\x1b[A\x03");
    one.wait_for_prompt();
    assert_eq!(one.leave(), 0);
    assert_eq!(kept(), "\"2 + 2\"\n\"1 + 1\"\n\"3 + 3\"\n\":history 2\"\n");
    // The other prompt ends later, and adds its own.
    two.enter("2 + 2");
    assert_eq!(two.leave(), 0);
    assert_eq!(kept(), "\"1 + 1\"\n\"3 + 3\"\n\":history 2\"\n\"2 + 2\"\n");
}
