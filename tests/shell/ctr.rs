//! Lines of ctr at the prompt.

use std::process::Stdio;

use libtest_mimic::Trial;

use super::terminal::{Terminal, at_home, use_shell};
use crate::harness::{Env, Leftovers, trial};
use crate::ops::stage::{IMAGE, Stage};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("shell::ctr::a_line_at_the_prompt", env, a_line_at_the_prompt),
        trial("shell::ctr::archives go through pipes", env, archives_go_through_pipes),
        trial("shell::ctr::a_container_with_a_terminal", env, a_container_with_a_terminal),
    ]
}

fn a_line_at_the_prompt(env: &Env) {
    let stage = Stage::new(env, "shell");
    let home = env.new_folder("shell");
    let mut command = at_home(env, &home);
    command.args(["-n", &stage.namespace]);
    let mut terminal = Terminal::sized(&command, 40, 140);
    terminal.wait_for_prompt();
    terminal.enter(":ctr ?-n k8s.io images pull --label a=b box");
    terminal.wait_for("namespace(\"k8s.io\"); pull(\"box\", #{ label: #{ a: \"b\" } })");
    terminal.enter(&format!(":ctr images tag {IMAGE} example.test/by-ctr:1"));
    terminal.wait_for(&format!("tag(\"{IMAGE}\", \"example.test/by-ctr:1\")"));
    assert!(stage.ctr(&["images", "ls", "-q"]).contains("example.test/by-ctr:1"));
    // A namespace of the line is not the prompt's, and the last value is there.
    terminal.enter(":ctr -n elsewhere images ls -q");
    terminal.wait_for("namespace(\"elsewhere\")");
    terminal.enter(":ctr images ls name~=by-ctr");
    terminal.enter("\"the list has \" + _.len()");
    terminal.wait_for("the list has 1");
    terminal.enter(":ctr images pul box");
    terminal.wait_for("did you mean pull?");
    terminal.enter(":ctr -a /nowhere.sock version");
    terminal.wait_for("this prompt is at");
    terminal.enter(":ctr ?images pull -u ann:hunter2 a/b:1");
    assert_eq!(terminal.leave(), 0);
    let history = std::fs::read_to_string(home.join(".local/state/ctrsh/history")).unwrap();
    assert!(history.contains(":ctr images pul box") && !history.contains("hunter2"), "{history}");
}

fn archives_go_through_pipes(env: &Env) {
    let (from, to) = (Stage::new(env, "shell"), Stage::empty(env, "shell"));
    let line = |stage: &Stage, words: &[&str]| {
        let mut command = env.ctrsh_command();
        command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter, "ctr"]).args(words);
        command
    };
    let mut export = line(&from, &["images", "export", "-", IMAGE]).stdout(Stdio::piped()).spawn().unwrap();
    let mut import = line(&to, &["images", "import", "-"]);
    import.stdin(export.stdout.take().unwrap());
    let import = import.output().unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    assert!(export.wait().unwrap().success());
    let digest = |stage: &Stage| stage.value(&format!("image({IMAGE:?}).digest"));
    assert_eq!(digest(&from), digest(&to));
    // No terminal gets the bytes.
    let terminal = Terminal::run(&line(&from, &["images", "export", "-", IMAGE]));
    terminal.wait_for("is a terminal");
    assert_eq!(terminal.ended(), 1);
}

fn a_container_with_a_terminal(env: &Env) {
    let stage = Stage::new(env, "shell");
    let before = Leftovers::of(env, &stage.namespace);
    let mut command = at_home(env, &env.new_folder("shell"));
    command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter]);
    let mut terminal = Terminal::run(&command);
    terminal.wait_for_prompt();
    terminal.press(&format!(":ctr run --rm -t {IMAGE} by-ctr sh\r"));
    use_shell(&mut terminal);
    terminal.wait_for_prompt();
    assert_eq!(Leftovers::of(env, &stage.namespace), before);
    // It goes too when it cannot be started.
    terminal.press(&format!(":ctr run --rm -t {IMAGE} by-ctr nothing-of-this-name\r"));
    terminal.wait_for("error:");
    terminal.wait_for_prompt();
    assert_eq!(Leftovers::of(env, &stage.namespace), before);
    assert_eq!(terminal.leave(), 0);
}
