//! Lines of ctr: the table has all that ctr has, what comes out is accepted, and the page says so.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ctrsh::containerd::{ConnectOptions, Endpoint};
use ctrsh::ctr::{Line, Step, commands, rows, translate};
use ctrsh::grant::{Allow, Grant};
use ctrsh::oci::Digest;
use ctrsh::ops::policy::Unasked;
use ctrsh::ops::progress::Silent;
use ctrsh::ops::{Context, Daemon, Place, Settings, Shared};
use ctrsh::script::catalog::On;
use ctrsh::script::{Interpreter, Limits, Setup};
use libtest_mimic::Trial;

use crate::examples::Quiet;
use crate::harness::env::PATH;
use crate::harness::output::Output;
use crate::harness::{Env, pure, trial};
use crate::ops::stage::{IMAGE, Stage};
use crate::shell::terminal::Terminal;

/// More programs to hold the table against, separated by colons: the ctr of other generations.
const OTHERS: &str = "CTRSH_CTRS";

/// What only a ctr after 2.1 has.
const NEWER: &[&str] = &["images mount --expiration"];

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        pure("ctr::forms", forms),
        pure("ctr::the page is current", || {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ctr.md");
            let page = std::fs::read_to_string(path).unwrap();
            let written = ctrsh::ctr::markdown();
            let differs = page.lines().zip(written.lines()).position(|(old, new)| old != new);
            assert!(page == written, "run `ctrsh ctr --markdown > docs/ctr.md`; line {differs:?} differs");
        }),
        trial("ctr::the table has all that ctr has", env, |_| complete()),
        trial("ctr::a line is shown and run", env, shown_and_run),
        trial("ctr::a line ends as its process does", env, exit_statuses),
        trial("ctr::bytes go to standard output as they are", env, bytes_on_stdout),
        trial("ctr::events stand in the columns of ctr", env, events),
        trial("ctr::of several names each is done", env, several),
        trial("ctr::programs read the same", env, for_programs),
        trial("ctr::what is given as nothing", env, nothing),
        trial("ctr::mistakes", env, mistakes),
        trial("ctr::a password", env, a_password),
    ]
}

/// An interpreter that is nowhere.
fn interpreter(runtime: &tokio::runtime::Runtime) -> Interpreter {
    let daemon = Daemon::new(Endpoint::parse("/nowhere/containerd.sock").unwrap(), ConnectOptions::default());
    let shared = Shared {
        registry: ctrsh::registry::Client::new(ctrsh::registry::Config::default()),
        progress: Arc::new(Silent),
        confirm: Arc::new(Unasked),
        streams: None,
        audit: None,
        settings: Settings {
            snapshotter: None,
            run_dir: "/nowhere".into(),
            log_dir: "/nowhere".into(),
            temp_dir: "/nowhere".into(),
            docker_host: None,
            working_dir: "/nowhere".into(),
        },
    };
    let place = Place { daemon, namespace: "default".into() };
    Interpreter::new(Setup {
        runtime: runtime.handle().clone(),
        context: Context::new(place, Grant::new(Allow::all(), Default::default()), Arc::new(shared)),
        sink: Arc::new(Quiet),
        args: Vec::new(),
        environment: Arc::new(|_| None),
        limits: Limits::default(),
        modules: None,
    })
}

/// Says what is wrong with a piece of script.
fn problems(interpreter: &Interpreter, code: &str) -> Vec<String> {
    let checked = interpreter.check(code, None).unwrap_or_else(|report| panic!("{code}: {report:?}"));
    let mut found: Vec<String> = checked.problems.into_iter().map(|report| report.error.message).collect();
    // A module that nobody knows could be one that is imported, so the check lets it pass.
    for (at, _) in code.match_indices("::") {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let module = code[..at].rsplit(|c| !word(c)).next().unwrap();
        let name: String = code[at + 2..].chars().take_while(|c| word(*c)).collect();
        let known = interpreter
            .catalog()
            .entries()
            .any(|entry| entry.spec.name == name && matches!(entry.spec.on, On::Module(known) if known == module));
        if !known {
            found.push(format!("unknown function {module}::{name}"));
        }
    }
    found
}

fn forms() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let interpreter = interpreter(&runtime);
    let (mut wrong, mut forms) = (Vec::new(), 0);
    for row in rows() {
        let Ok(Line::Steps(steps)) = translate(&row.line()) else { continue };
        forms += 1;
        for step in &steps.steps {
            let (Step::Script(code) | Step::Silent(code) | Step::Process(code)) = step else { continue };
            let found = problems(&interpreter, code);
            wrong.extend(found.into_iter().map(|problem| format!("{}: {problem}\n  {code}", row.name())));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(forms > 300, "only {forms} rows have a form");
}

/// A command of a real ctr, or a group of them.
struct Shown {
    path: String,
    names: Vec<String>,
    flags: BTreeSet<String>,
    leaf: bool,
}

/// Asks a ctr for its commands, from the words given on.
fn ask(ctr: &str, path: &[String], names: Vec<String>, found: &mut Vec<Shown>) {
    let help = Output::of(Command::new(ctr).args(path).arg("--help").env("PATH", PATH)).ok();
    let (mut flags, mut below, mut section) = (BTreeSet::new(), Vec::new(), String::new());
    for line in help.lines() {
        if !line.starts_with(' ') {
            section = line.trim().to_owned();
            continue;
        }
        let column = line.trim().split("  ").next().unwrap().to_owned();
        match section.as_str() {
            "COMMANDS:" if !column.is_empty() && !column.ends_with(':') => {
                below.push(column.split(", ").map(str::to_owned).collect::<Vec<_>>());
            }
            "OPTIONS:" | "GLOBAL OPTIONS:" => {
                let words = column.split([' ', ',']).filter(|word| word.starts_with('-'));
                flags.extend(words.map(|word| word.trim_start_matches('-').to_owned()));
            }
            _ => {}
        }
    }
    for usual in ["help", "h", "version", "v", ""] {
        flags.remove(usual);
    }
    below.retain(|names| names[0] != "help");
    found.push(Shown { path: path.join(" "), names, flags, leaf: below.is_empty() });
    for names in below {
        let path = [path, &names[..1]].concat();
        ask(ctr, &path, names, found);
    }
}

fn complete() {
    let others = std::env::var(OTHERS).unwrap_or_default();
    let programs: Vec<&str> = std::iter::once("ctr").chain(others.split(':').filter(|path| !path.is_empty())).collect();
    let (mut missing, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for program in &programs {
        let mut found = Vec::new();
        ask(program, &[], Vec::new(), &mut found);
        assert!(found.iter().filter(|shown| shown.leaf).count() >= 76, "{program}: {} commands", found.len());
        for shown in found {
            let command = commands().find(|command| command.path() == shown.path);
            if shown.leaf {
                let Some(command) = command else {
                    missing.insert(shown.path);
                    continue;
                };
                seen.insert(command.path());
                let unknown = shown.names.iter().filter(|name| !command.names.contains(&name.as_str()));
                missing.extend(unknown.map(|name| format!("{} as {name}", shown.path)));
            }
            for flag in shown.flags {
                let is = |other: &&ctrsh::ctr::Flag| other.name == flag || other.alias == flag;
                let known = match command {
                    Some(command) => command.flags().find(is).map(|flag| flag.written()),
                    None => of_group(&shown.path, &flag),
                };
                match known {
                    Some(name) => drop(seen.insert(format!("{} {name}", shown.path))),
                    None => drop(missing.insert(format!("{} --{flag}", shown.path))),
                }
            }
        }
    }
    assert!(missing.is_empty(), "not in the table of src/ctr:\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
    if programs.len() > 2 {
        let invented = rows().map(|row| (row.name(), row.command.group)).filter(|(name, group)| {
            // A flag of a group was seen there.
            let on_group = name.rsplit_once(' ').map(|(_, flag)| format!("{group} {flag}"));
            !seen.contains(name)
                && !NEWER.contains(&name.as_str())
                && !on_group.is_some_and(|name| seen.contains(&name))
        });
        let invented: Vec<String> = invented.map(|(name, _)| name).collect();
        // Some flags are hidden in the last ctr that has them.
        assert!(invented.is_empty(), "no ctr has these:\n{}", invented.join("\n"));
    }
}

/// Finds a flag that stands before commands: of all of ctr, or of a group.
fn of_group(path: &str, flag: &str) -> Option<String> {
    let value = ["--", flag].concat();
    let mut words: Vec<&str> = path.split_whitespace().collect();
    words.extend([value.as_str(), "1s"]);
    // A line that ends there lacks only its command.
    match translate(&words) {
        Err(ctrsh::ctr::Error::UnknownFlag { .. }) => None,
        _ => Some(value),
    }
}

fn shown_and_run(env: &Env) {
    let namespace = env.namespace("ctr");
    let output = env.ctrsh(&["ctr", "-n", &namespace, "namespaces", "ls", "-q"]).expect_status(0);
    assert!(output.stdout.lines().any(|line| line == namespace), "{output}");
    let shown = format!("namespace(\"{namespace}\"); for n in namespaces() {{ print(n.name) }}\n");
    assert_eq!(output.stderr, shown);
    // The same words with nothing run.
    let output = env.ctrsh(&["ctr", "--show", "-n", &namespace, "namespaces", "ls", "-q"]).expect_status(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (shown.as_str(), ""));
    let output = env.ctrsh(&["ctr", "--show", "images", "pull", "--local", "a"]).expect_status(0);
    assert_eq!(output.stdout, "pull(\"a\")\n");
    assert!(output.stderr.starts_with("note: --local: "), "{output}");
    // What is shown does the same.
    let tables = ["ctr", "plugins", "ls", "type==io.containerd.snapshotter.v1"];
    let table = env.ctrsh(&tables).expect_status(0);
    assert_eq!(table.stdout, env.ctrsh(&["-e", table.stderr.trim()]).ok());
    let json = env.ctrsh(&["--json", "ctr", "plugins", "ls", "id==native"]).expect_status(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[0]["id"], "native");
    // The globals of ctr are those of ctrsh.
    let nowhere = env.ctrsh(&["ctr", "--debug=false", "-a", "/nowhere/containerd.sock", "version"]);
    nowhere.expect_status(4);
    // A dry run, and a script that lacks access.
    let create = ["namespaces", "create", "ctr-not-made"];
    env.ctrsh(&[&["--dry-run", "ctr"][..], &create].concat()).expect_status(0);
    env.ctrsh(&[&["--allow", "read", "ctr"][..], &create].concat()).expect_status(5);
    assert!(!env.ctr(&["namespaces", "ls", "-q"]).ok().contains("ctr-not-made"));
}

fn exit_statuses(env: &Env) {
    let stage = Stage::new(env, "ctr");
    let both = |words: &[&str], wanted: i32| {
        let of = |program: &str, output: Output| assert_eq!(output.status, wanted, "{program}: {output}");
        let common = ["-n", stage.namespace.as_str()];
        of("ctr", env.ctr(&[&common[..], words].concat()));
        of("ctrsh", env.ctrsh(&[&["--snapshotter", &stage.snapshotter, "ctr"], &common[..], words].concat()));
    };
    let flag = format!("--snapshotter={}", stage.snapshotter);
    both(&["run", "--rm", &flag, IMAGE, "it", "sh", "-c", "exit 3"], 3);
    stage.ctr(&["run", "-d", "--null-io", &flag, IMAGE, "up", "sleep", "600"]);
    both(&["tasks", "exec", "--exec-id", "look", "up", "sh", "-c", "exit 4"], 4);
    both(&["tasks", "exec", "--exec-id", "look", "up", "true"], 0);
    stage.ctr(&["tasks", "rm", "-f", "up"]);
    let create = |id: &str, options: &str| stage.value(&format!("create({id:?}, {IMAGE:?}, #{{ {options} }}).id"));
    create("once", "command: [\"sh\", \"-c\", \"exit 5\"]");
    both(&["tasks", "start", "once"], 5);
    // One with a terminal gets this one, as with ctr, also when it has nothing to say.
    create("seen", "tty: true, command: [\"sh\", \"-c\", \"read line; exit $line\"]");
    let mut command = env.ctrsh_command();
    command.args(["-n", &stage.namespace, "ctr", "tasks", "start", "seen"]);
    let mut terminal = Terminal::run(&command);
    terminal.press("6\r");
    assert_eq!(terminal.ended(), 6);
    create("brief", "tty: true, command: [\"sh\", \"-c\", \"exit 7\"]");
    let mut command = env.ctrsh_command();
    command.args(["-n", &stage.namespace, "ctr", "tasks", "start", "brief"]);
    for _ in 0..3 {
        assert_eq!(Terminal::run(&command).ended(), 7);
    }
}

fn bytes_on_stdout(env: &Env) {
    let stage = Stage::new(env, "ctr");
    let command = |words: &[&str]| {
        let mut command = env.ctrsh_command();
        command.args(["-n", &stage.namespace, "ctr"]).args(words).current_dir(&stage.folder);
        command
    };
    let path = stage.folder.join("out");
    let into = |options: &mut OpenOptions, words: &[&str]| {
        let file = options.create(true).open(&path).unwrap();
        let mut child = command(words).stdout(file).stderr(Stdio::piped()).spawn().unwrap();
        let status = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.success(), "{words:?}: {said}");
    };
    let manifest = stage.value(&format!("image({IMAGE:?}).digest"));
    let manifest = manifest.as_str().unwrap();
    let layer = stage.value(&format!("from_json(content::text({manifest:?})).layers[0].digest"));
    let layer = layer.as_str().unwrap();
    let size = stage.value(&format!("content::info({layer:?}).size")).as_u64().unwrap();
    // A file that the output is sent to has the bytes and nothing else.
    into(OpenOptions::new().write(true).truncate(true), &["content", "get", layer]);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((bytes.len() as u64, Digest::sha256(&bytes).to_string()), (size, layer.to_owned()));
    // What was there stays where it is appended.
    into(OpenOptions::new().append(true), &["content", "get", manifest]);
    let both = std::fs::read(&path).unwrap();
    assert!(both.starts_with(&bytes));
    assert_eq!(Digest::sha256(&both[bytes.len()..]).to_string(), manifest);
    // An archive is the one that a name gets.
    into(OpenOptions::new().write(true).truncate(true), &["images", "export", "-", IMAGE]);
    Output::of(&mut command(&["images", "export", "named.tar", IMAGE])).expect_status(0);
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(stage.folder.join("named.tar")).unwrap());
    // A terminal shows text, and is spared the rest.
    let terminal = Terminal::run(&command(&["content", "get", manifest]));
    terminal.wait_for("\"mediaType\"");
    assert_eq!(terminal.ended(), 0);
    let terminal = Terminal::run(&command(&["content", "get", layer]));
    terminal.wait_for("is a terminal");
    assert_eq!(terminal.ended(), 1);
}

/// Of three names the second is not there: what ends how, what is said of it, and what is left.
fn several(env: &Env) {
    let stage = Stage::new(env, "ctr");
    let flag = format!("--snapshotter={}", stage.snapshotter);
    let of = |program: &str, words: &[&str]| {
        let common = ["-n", stage.namespace.as_str()];
        match program {
            "ctr" => env.ctr(&[&common[..], words].concat()),
            _ => env.ctrsh(&[&["--snapshotter", &stage.snapshotter, "ctr"], &common[..], words].concat()),
        }
    };
    let outcomes = ["ctr", "ctrsh"].map(|program| {
        let mut seen = Vec::new();
        let mut rm = |group: &str, words: &[&str], list: &[&str]| {
            let output = of(program, &[&[group], words].concat());
            let mut left: Vec<String> = stage.ctr(list).lines().map(str::to_owned).collect();
            left.retain(|line| line.contains("pair-"));
            seen.push((format!("{group} {words:?}"), output.status, output.stdout, left));
        };
        for id in ["pair-a", "pair-b"] {
            stage.ctr(&["run", "-d", "--null-io", &flag, IMAGE, id, "sleep", "600"]);
        }
        rm("tasks", &["rm", "-f", "pair-a", "missing", "pair-b"], &["tasks", "ls", "-q"]);
        rm("containers", &["rm", "pair-a", "missing", "pair-b"], &["containers", "ls", "-q"]);
        rm("containers", &["rm", "missing"], &["containers", "ls", "-q"]);
        for name in ["example.test/pair-a:1", "example.test/pair-b:1"] {
            rm("images", &["tag", IMAGE, name], &["images", "ls", "-q"]);
        }
        let names = ["example.test/pair-a:1", "example.test/missing:1", "example.test/pair-b:1"];
        rm("images", &[&["rm"][..], &names].concat(), &["images", "ls", "-q"]);
        rm("images", &["rm", "example.test/missing:1"], &["images", "ls", "-q"]);
        for id in ["pair-a", "pair-b"] {
            rm("leases", &["create", "--id", id, "a=b"], &["leases", "ls", "-q"]);
        }
        rm("leases", &["rm", "pair-a", "missing", "pair-b"], &["leases", "ls", "-q"]);
        rm("leases", &["rm", "pair-b"], &["leases", "ls", "-q"]);
        let missing = format!("sha256:{}", "0".repeat(64));
        rm("content", &["rm", &missing], &["leases", "ls", "-q"]);
        rm("content", &["rm", &missing, "bogus"], &["leases", "ls", "-q"]);
        seen
    });
    let [theirs, ours] = outcomes;
    for (theirs, ours) in theirs.into_iter().zip(ours) {
        assert_eq!(ours, theirs);
    }
}

/// What programs read of both: nothing, a name, or JSON with the same keys.
fn for_programs(env: &Env) {
    let stage = Stage::new(env, "ctr");
    let line = |program: &str, words: &[&str]| {
        let common = ["-n", stage.namespace.as_str()];
        let output = match program {
            "ctr" => env.ctr(&[&common[..], words].concat()),
            _ => env
                .ctrsh(&[&["--allow", "all", "--snapshotter", &stage.snapshotter, "ctr"], &common[..], words].concat()),
        };
        output.ok()
    };
    let flag = format!("--snapshotter={}", stage.snapshotter);
    let other = format!("{}.own", stage.namespace);
    let archive = stage.folder.join("out.tar").to_string_lossy().into_owned();
    let group = ["snapshots", flag.as_str()];
    for program in ["ctr", "ctrsh"] {
        for silent in [
            &["namespaces", "create", &other, "a=b"][..],
            &["namespaces", "label", &other, "a=c"],
            &["containers", "create", &flag, IMAGE, "web", "sleep", "600"],
            &["tasks", "start", "--detach", "--null-io", "web"],
            &["tasks", "exec", "--detach", "--exec-id", "look", "web", "sleep", "600"],
            &["tasks", "pause", "web"],
            &["tasks", "resume", "web"],
            &["tasks", "kill", "-s", "USR1", "--exec-id", "look", "web"],
            &["tasks", "rm", "-f", "web"],
            &["containers", "rm", "web"],
            &["run", "-d", "--null-io", &flag, IMAGE, "web", "sleep", "600"],
            &["tasks", "rm", "-f", "web"],
            &["containers", "rm", "web"],
            &["images", "export", &archive, IMAGE],
            &[&group[..], &["prepare", "work"]].concat(),
            &[&group[..], &["commit", "base", "work"]].concat(),
            &[&group[..], &["rm", "base"]].concat(),
        ] {
            assert_eq!(line(program, silent), "", "{program} {silent:?}");
        }
        for (words, said) in [
            (
                &["images", "tag", IMAGE, "example.test/a:1", "example.test/b:1"][..],
                "example.test/a:1\nexample.test/b:1\n",
            ),
            (&["images", "rm", "example.test/a:1", "example.test/b:1"], "example.test/a:1\nexample.test/b:1\n"),
            (&["leases", "create", "--id", "night", "a=b"], "night\n"),
            (&["leases", "rm", "night"], "night\n"),
            (&["namespaces", "rm", &other], &format!("{other}\n")),
        ] {
            assert_eq!(line(program, words), said, "{program} {words:?}");
        }
    }
    line("ctr", &["containers", "create", &flag, "--label", "a=b", IMAGE, "web", "sleep", "600"]);
    line("ctr", &[&group[..], &["prepare", "work"]].concat());
    for words in [
        &["containers", "info", "web"][..],
        &["containers", "info", "--spec", "web"],
        &[&group[..], &["info", "work"]].concat(),
        &[&group[..], &["info", "web"]].concat(),
    ] {
        let [mut theirs, mut ours] = ["ctr", "ctrsh"].map(|program| {
            let said: serde_json::Value = serde_json::from_str(&line(program, words)).unwrap();
            said
        });
        // ctr 1.6 knows no sandboxes, and has null for no extensions.
        for value in [&mut theirs, &mut ours].into_iter().filter_map(serde_json::Value::as_object_mut) {
            for empty in ["SandboxID", "Extensions"] {
                value.remove(empty);
            }
        }
        assert_eq!(ours, theirs, "{words:?}");
    }
    let (theirs, ours) = (line("ctr", &["images", "convert", "--oci", IMAGE, "example.test/c:1"]), {
        line("ctrsh", &["images", "convert", "--oci", IMAGE, "example.test/d:1"])
    });
    assert_eq!(ours, theirs);
}

/// Variables and values that are empty, names without a value, and flags that are given twice.
fn nothing(env: &Env) {
    let stage = Stage::new(env, "ctr");
    let both = |wanted: i32, variables: &[(&str, &str)], words: &[&str]| {
        let mut ctr = std::process::Command::new("ctr");
        ctr.env("PATH", PATH).env("CONTAINERD_ADDRESS", env.socket());
        let mut ctrsh = env.bare_ctrsh_command();
        ctrsh.env("CONTAINERD_ADDRESS", env.socket()).args(["--allow", "all", "ctr"]);
        [ctr, ctrsh].map(|mut command| {
            command.env("CONTAINERD_SNAPSHOTTER", &stage.snapshotter).envs(variables.iter().copied()).args(words);
            let output = Output::of(&mut command);
            assert_eq!(output.status == 0, wanted == 0, "{output}");
            output
        })
    };
    let [_, ours] = both(1, &[("CONTAINERD_NAMESPACE", "")], &["containers", "ls"]);
    assert!(ours.stderr.contains("CONTAINERD_NAMESPACE is set to nothing"), "{ours}");
    let [_, ours] = both(1, &[("CONTAINERD_ADDRESS", "")], &["containers", "ls"]);
    assert!(ours.stderr.contains("CONTAINERD_ADDRESS is set to nothing"), "{ours}");
    let namespace = stage.namespace.as_str();
    both(0, &[("CONTAINERD_NAMESPACE", "")], &["-n", namespace, "containers", "ls"]);
    let [theirs, ours] = both(0, &[], &["-n", "elsewhere", "-n", namespace, "images", "ls", "-q"]);
    assert!(ours.stdout == theirs.stdout && ours.stdout.contains(IMAGE), "{ours}");
    let says = ["sh", "-c", "echo $PATH $FOO"];
    let flags = ["--snapshotter", &stage.snapshotter, "--env", "PATH", "--env", "FOO=", "--cwd", "", IMAGE, "it"];
    let [theirs, ours] = both(0, &[], &[&["-n", namespace, "run", "--rm"], &flags[..], &says].concat());
    assert!(ours.stdout == theirs.stdout && ours.stdout.contains("bin"), "{ours}{theirs}");
}

/// An event of another namespace, as both print it.
fn events(env: &Env) {
    let stage = Stage::new(env, "ctr");
    let folder = env.new_folder("ctr");
    let (theirs, ours) = (folder.join("ctr"), folder.join("ctrsh"));
    let mut ctr = std::process::Command::new("ctr");
    ctr.env("PATH", PATH).arg("--address").arg(env.socket()).arg("events");
    let mut ctrsh = env.ctrsh_command();
    ctrsh.args(["ctr", "-n", "elsewhere", "events"]);
    let mut running = [(&mut ctr, &theirs), (&mut ctrsh, &ours)].map(|(command, path)| {
        let file = std::fs::File::create(path).unwrap();
        command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).spawn().unwrap()
    });
    let lines = |path: &std::path::Path, name: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        let own = |line: &&str| line.contains(&stage.namespace) && line.contains(name) && line.ends_with('}');
        text.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    for number in 0.. {
        // What both saw has the same line in both.
        let name = format!("example.test/event:{number}");
        stage.ctr(&["images", "tag", IMAGE, &name]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let [theirs, ours] = [&theirs, &ours].map(|path| lines(path, &name));
        if !theirs.is_empty() && !ours.is_empty() {
            assert_eq!(theirs, ours);
            break;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "no event of {name}: {theirs:?} {ours:?}");
    }
    for child in &mut running {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn mistakes(env: &Env) {
    for (words, message, hint) in [
        (&["images", "pul", "a"][..], "ctr images has no command pul", "did you mean pull?"),
        (&["images", "ls", "-n", "x"], "ctr images list has no flag -n", "stands earlier"),
        (
            &["content", "edit", "--validate", "json", "a"],
            "ctrsh does not do ctr content edit --validate",
            "leave it out",
        ),
    ] {
        let output = env.ctrsh(&[&["ctr"], words].concat()).expect_status(2);
        assert!(output.stderr.contains(&format!("error: {message}")), "{output}");
        assert!(output.stderr.contains(hint), "{output}");
    }
    let output = env.ctrsh(&["--json", "ctr", "images", "pul"]).expect_status(2);
    let error: serde_json::Value = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "usage");
    // Something that is not there is an error, as it is in a script.
    env.ctrsh(&["ctr", "images", "label", "example/not-there:1", "a=b"]).expect_status(1);
}

fn a_password(env: &Env) {
    let namespace = env.namespace("ctr");
    let registry = env.registry_htpasswd_tls();
    let reference = env.push_secure(&env.image(crate::harness::Kind::Busybox), "ctr");
    let ca = registry.ca.to_string_lossy().into_owned();
    let pull = |user: &str| {
        env.ctrsh(&[
            "--allow",
            "all",
            "-n",
            &namespace,
            "ctr",
            "images",
            "pull",
            "--tlscacert",
            &ca,
            "--user",
            user,
            &reference,
        ])
    };
    let output = pull(&format!("{}:{}", registry.user, registry.password)).expect_status(0);
    assert!(!output.stderr.contains(registry.password), "{output}");
    assert!(output.stderr.contains(&format!("user: \"{}\"", registry.user)), "{output}");
    assert_eq!(env.ctr(&["-n", &namespace, "images", "ls", "-q"]).ok().trim(), reference);
    pull("tester:guessed").expect_status(1);
}
