//! Exit statuses, errors, forms of output, and what happens when the other side goes away.

use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;

use super::streams::status;
use crate::harness::output::Output;
use crate::harness::{Env, Kind, PROMPT, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("shell::program::exit_statuses", env, exit_statuses),
        trial("shell::program::a_flag_that_there_is_not", env, a_flag_that_there_is_not),
        trial("shell::program::three_ways_to_have_no_daemon", env, three_ways_to_have_no_daemon),
        trial("shell::program::errors_point_at_the_place", env, errors_point_at_the_place),
        trial("shell::program::modules_in_a_circle", env, modules_in_a_circle),
        trial("shell::program::errors_as_json", env, errors_as_json),
        trial("shell::program::forms_of_output", env, forms_of_output),
        trial("shell::program::a_reader_that_goes_away", env, a_reader_that_goes_away),
        trial("shell::program::interrupted_and_timed_out", env, interrupted_and_timed_out),
        trial("shell::program::interrupted_while_it_begins", env, interrupted_while_it_begins),
        trial("shell::program::a_dry_run_changes_nothing", env, a_dry_run_changes_nothing),
        trial("shell::program::check_runs_nothing", env, check_runs_nothing),
        trial("shell::program::settings_and_where_they_come_from", env, settings_and_where_they_come_from),
    ]
}

fn eval(env: &Env, expression: &str) -> Output {
    env.ctrsh(&["-e", expression])
}

fn exit_statuses(env: &Env) {
    assert_eq!(eval(env, "40 + 2").expect_status(0).stdout, "42\n");
    eval(env, "throw \"no\"").expect_status(1);
    eval(env, "image(\"nope\")").expect_status(1);
    eval(env, "let x = ").expect_status(2);
    env.ctrsh(&["--no-such-flag"]).expect_status(2);
    env.ctrsh(&["--output", "xml", "-e", "1"]).expect_status(2);
    env.ctrsh(&["/nowhere/script.rhai"]).expect_status(2);
    env.ctrsh(&["--address", "/nowhere/containerd.sock", "-e", "version()"]).expect_status(4);
    env.ctrsh(&["--allow", "read", "-e", "tag(\"a\", \"b\")"]).expect_status(5);
    eval(env, "fn leave() { exit(7) } leave(); print(\"not reached\")").expect_status(7);
    let piped = Output::with_input(env.ctrsh_command().arg("-").arg("one"), b"#!/usr/bin/env ctrsh\nprint(args()[0])");
    assert_eq!(piped.expect_status(0).stdout, "one\n");
}

/// It is neither a script that is missing nor one that is there.
fn a_flag_that_there_is_not(env: &Env) {
    let folder = env.new_folder("shell");
    std::fs::write(folder.join("--odd-name.rhai"), "print(args()[0])").unwrap();
    let run = |words: &[&str]| Output::of(env.ctrsh_command().current_dir(&folder).args(words));
    for (words, near) in [
        (&["--nmespace", "x", "script.rhai"][..], "'--namespace'"),
        (&["--dry-rum", "script.rhai"], "'--dry-run'"),
        (&["--odd-name.rhai"], "'-- --odd-name.rhai'"),
    ] {
        let output = run(words).expect_status(2);
        let unknown = format!("error: unexpected argument '{}' found", words[0]);
        assert!(output.stderr.starts_with(&unknown) && output.stderr.contains(near), "{output}");
    }
    assert_eq!(run(&["--", "--odd-name.rhai", "--name"]).expect_status(0).stdout, "--name\n");
    assert_eq!(run(&["-e", "args()[0]", "--name"]).expect_status(0).stdout, "--name\n");
}

fn three_ways_to_have_no_daemon(env: &Env) {
    let folder = env.new_folder("shell");
    let nobody = folder.join("nobody.sock");
    drop(UnixListener::bind(&nobody).unwrap());
    let missing = folder.join("missing.sock");
    let mut messages = Vec::new();
    for (socket, part) in [(&missing, "there is no containerd socket"), (&nobody, "nobody listens")] {
        let mut command = env.bare_ctrsh_command();
        let begun = Instant::now();
        let output = Output::of(command.arg("-a").arg(socket).args(["-e", "version()"]));
        // The process's own start counts too; a debug build on a busy machine takes its time for that.
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
        let output = output.expect_status(4);
        assert!(output.stderr.contains(part) && output.stderr.contains("hint:"), "{output}");
        messages.push(output.stderr);
    }
    assert_ne!(messages[0], messages[1]);
}

fn errors_point_at_the_place(env: &Env) {
    let folder = env.new_folder("shell");
    let script = folder.join("deploy.rhai");
    std::fs::write(&script, "fn deploy(name) {\n    image(name)\n}\ndeploy(\"nope\");\n").unwrap();
    let output = Output::of(env.ctrsh_command().current_dir(&folder).arg("deploy.rhai")).expect_status(1);
    assert_eq!(output.stdout, "");
    for part in [
        "error: no such image: nope\n",
        " --> deploy.rhai:2:5 in deploy\n",
        "2 |     image(name)\n",
        "  |     ^^^^^\n",
        "  called from deploy.rhai:4:1: deploy(\"nope\");",
    ] {
        assert!(output.stderr.contains(part), "{part}\n{output}");
    }
}

fn modules_in_a_circle(env: &Env) {
    let folder = env.new_folder("shell");
    for (name, text) in [
        ("a", "import \"b\" as b; fn one() { 1 }"),
        ("b", "import \"a\" as a; fn two() { a::one() }"),
        ("own", "import \"own\" as own;"),
        (
            "caught",
            "try { import \"b\" as b; b::two() } catch { print(\"caught\") } import \"c\" as c; print(c::six())",
        ),
        ("c", "import \"d\" as d; import \"d\" as again; fn six() { d::three() + d::three() }"),
        ("d", "fn three() { 3 }"),
    ] {
        std::fs::write(folder.join(format!("{name}.rhai")), text).unwrap();
    }
    for number in 0..70 {
        let text = format!("import \"chain{}\" as next; fn name() {{ next::name() }}", number + 1);
        std::fs::write(folder.join(format!("chain{number}.rhai")), text).unwrap();
    }
    std::fs::write(folder.join("chain70.rhai"), "fn name() { \"the end\" }").unwrap();
    let run = |name: &str| Output::of(env.bare_ctrsh_command().arg(folder.join(format!("{name}.rhai"))));
    for (name, circle) in [
        ("a", "\"b\" goes in a circle: b.rhai imports a.rhai, which imports b.rhai"),
        ("own", "\"own\" goes in a circle: own.rhai imports own.rhai"),
    ] {
        let output = run(name).expect_status(1);
        assert!(output.stderr.contains(&format!("error: import: {circle}\n")), "{output}");
    }
    // What failed is no longer on its way, and what is imported twice is no circle.
    assert_eq!(run("caught").expect_status(0).stdout, "caught\n6\n");
    run("chain6").expect_status(0);
    let output = run("chain5").expect_status(1);
    assert!(output.stderr.contains("error: import: \"chain70\" is more than 64 imports deep\n"), "{output}");
}

fn errors_as_json(env: &Env) {
    let output = env.ctrsh(&["--json", "-e", "image(\"nope\")"]).expect_status(1);
    let error: Value = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "not_found", "{error}");
    assert_eq!(error["error"]["status"], 1);
    assert_eq!(error["error"]["trace"][0]["line"], 1);
    assert_eq!(output.stdout, "");
}

fn forms_of_output(env: &Env) {
    let write = |form: &str| env.ctrsh(&["--output", form, "-e", "[#{ a: 1, b: \"x,\\ty\" }]"]).ok();
    assert_eq!(write("table"), "a  b\n1  x,\ty\n");
    assert_eq!(write("csv"), "a,b\n1,\"x,\ty\"\n");
    assert_eq!(write("text"), "1\tx,\\ty\n");
    let json: Value = serde_json::from_str(&write("json")).unwrap();
    assert_eq!(json, serde_json::json!([{ "a": 1, "b": "x,\ty" }]));
    assert!(write("yaml").contains("a: 1"), "{}", write("yaml"));
}

fn a_reader_that_goes_away(env: &Env) {
    let mut command = env.ctrsh_command();
    command.args(["-e", "loop { print(\"line\") }"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

fn interrupted_and_timed_out(env: &Env) {
    let mut command = env.ctrsh_command();
    let script = "print(\"begun\"); sleep(\"60s\")";
    let mut child = command.args(["-e", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut begun).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let pressed = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(pressed.elapsed() < PROMPT, "{:?}", pressed.elapsed());

    let output = env.ctrsh(&["--timeout", "200ms", "-e", "sleep(\"60s\")"]).expect_status(1);
    assert!(output.stderr.contains("stopped after 200ms"), "{output}");
}

fn interrupted_while_it_begins(env: &Env) {
    for after in (0..200).step_by(5) {
        // A shell without job control has what it puts into the background ignore the signal.
        let (ctrsh, mut command) = (env.ctrsh_command(), Command::new("env"));
        command.arg("--default-signal=INT").arg(ctrsh.get_program()).args(ctrsh.get_args());
        command.args(["-e", "sleep(\"60s\")"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
        // By itself, or by the signal where it does not listen yet.
        assert_eq!(status(&mut child), 130, "after {after} ms");
    }
}

fn a_dry_run_changes_nothing(env: &Env) {
    let namespace = env.namespace("shell");
    let reference = env.pushed(Kind::Busybox, "shell");
    env.ctr(&["-n", &namespace, "images", "pull", "--plain-http", &reference]).ok();
    let script = format!("tag(\"{reference}\", \"example.test/box:1\").name");
    let output = env.ctrsh(&["-n", &namespace, "--dry-run", "-e", &script]).expect_status(0);
    assert_eq!(output.stdout, "example.test/box:1\n");
    assert!(output.stderr.contains("dry run: tag"), "{output}");
    assert_eq!(env.ctr(&["-n", &namespace, "images", "ls", "-q"]).lines(), [reference]);
}

fn check_runs_nothing(env: &Env) {
    let folder = env.new_folder("shell");
    let script = folder.join("c.rhai");
    std::fs::write(&script, "tag(\"a\");\ntag(\"a\", \"b\", #{ forse: true });\nimagez();\n").unwrap();
    let output = Output::of(env.bare_ctrsh_command().arg("check").arg(&script)).expect_status(2);
    for part in
        ["tag does not take 1 argument", "unknown option 'forse'", "did you mean 'force'?", "did you mean image?"]
    {
        assert!(output.stderr.contains(part), "{part}\n{output}");
    }
    std::fs::write(&script, "for i in images() { print(i.name) }\n").unwrap();
    let output = Output::of(env.bare_ctrsh_command().arg("check").arg(&script)).expect_status(0);
    assert!(output.stdout.ends_with("access needed: read\n"), "{output}");
}

fn settings_and_where_they_come_from(env: &Env) {
    let config = env.new_folder("shell");
    std::fs::create_dir_all(config.join("ctrsh")).unwrap();
    std::fs::write(config.join("ctrsh/config.toml"), "namespace = \"from-file\"\n").unwrap();
    let command = |environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = env.ctrsh_command();
        command.env("XDG_CONFIG_HOME", &config).envs(environment.iter().copied());
        Output::of(command.args(arguments).args(["-e", "node().namespace"])).ok()
    };
    let variable = ("CONTAINERD_NAMESPACE", "from-env");
    assert_eq!(command(&[], &[]), "from-file\n");
    assert_eq!(command(&[variable], &[]), "from-env\n");
    assert_eq!(command(&[variable], &["-n", "from-flag"]), "from-flag\n");
}
