//! `ctr tasks`.

use super::parse::Parsed;
use super::source::{Map, Missing, all_of, array, call, sequence, text};
use super::table::{
    ANY, COMMAND, Command, Form, QUIET, Tier, Value, listed, one, option, process, script, silent, switch,
};
use super::{Error, Result, Step};

const GROUP: &str = "tasks";
const A: Tier = Tier::A;
const B: Tier = Tier::B;
const C: Tier = Tier::C;

fn start(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = p.options()?;
    if p.has("null-io") {
        options.set("log_uri", text("null"));
    }
    let id = p.text(0);
    let with = |options: &Map| call("start", std::slice::from_ref(&id), options);
    if p.has("detach") {
        return silent(with(&options));
    }
    let mut inherited = Map::default();
    inherited.set("stdio", text("inherit"));
    let mut seated = Map::default();
    seated.set("tty", "true");
    // What goes along with a start keeps it apart from the terminal, which is then found again.
    let with_terminal = match options.is_empty() {
        true => with(&seated),
        false => sequence(&[with(&options), call("attach", std::slice::from_ref(&id), &Map::default())]),
    };
    inherited.extend(options);
    let without = with(&inherited);
    // What goes to a log or nowhere needs no terminal.
    if p.has("null-io") || p.value("log-uri").is_some() {
        return process(without);
    }
    process(format!("if container({id}).spec.process.terminal == true {{ {with_terminal} }} else {{ {without} }}"))
}

fn list(p: &Parsed) -> Result<Vec<Step>> {
    listed(p, "tasks()", "t", "id")
}

fn exec(p: &Parsed) -> Result<Vec<Step>> {
    let command = &p.args()[1..];
    if p.has("tty") && !p.has("detach") {
        let owned = |name: &str| p.value(name).map(str::to_owned);
        return Ok(vec![Step::Exec {
            id: p.args()[0].clone(),
            command: command.to_vec(),
            exec_id: owned("exec-id"),
            cwd: owned("cwd"),
            user: owned("user"),
        }]);
    }
    let mut options = p.options()?;
    if p.has("tty") {
        options.set("tty", "true");
    }
    let arguments = [p.text(0), array(command)];
    if p.has("detach") {
        return silent(call("exec", &arguments, &options));
    }
    let mut inherited = Map::default();
    inherited.set("stdio", text("inherit"));
    inherited.extend(options);
    process(call("exec", &arguments, &inherited))
}

fn kill(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    let mut arguments = vec![p.text(0)];
    match p.value("signal") {
        Some(signal) => arguments.push(text(signal)),
        None if options.is_empty() => {}
        None => arguments.push("()".into()),
    }
    silent(call("kill", &arguments, &options))
}

fn delete(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = Map::default();
    if p.value("exec-id").is_none() {
        options.set("task", "true");
    }
    options.extend(p.options()?);
    silent(all_of("t", p.args(), Missing::Fails, |t| call("delete", &[t], &options)))
}

fn attach(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = Map::default();
    options.set("stdio", text("inherit"));
    let mut task = Map::default();
    task.set("task", "true");
    let attached = format!("let code = {}", call("attach", &[p.text(0)], &options));
    // One that was left runs on.
    let gone = format!("if code != () {{ {} }}", call("delete", &[p.text(0)], &task));
    process(format!("{attached}; {gone} code"))
}

/// What is done to a task, which ctr says nothing of.
fn done(name: &str, p: &Parsed) -> Result<Vec<Step>> {
    silent(call(name, &[p.text(0)], &Map::default()))
}

fn checkpoint(p: &Parsed) -> Result<Vec<Step>> {
    // In a folder there is the state alone; in an image ctr has the files and the container's image too.
    let mut options = Map::default();
    if p.value("image-path").is_none() {
        for part in ["task", "rw", "image"] {
            options.set(part, "true");
        }
    }
    options.extend(p.options()?);
    script(call("checkpoint", &[p.text(0)], &options))
}

fn metrics(p: &Parsed) -> Result<Vec<Step>> {
    let metrics = format!("metrics({})", p.text(0));
    match p.value("format") {
        Some("json") => script(format!("print(to_json({metrics}.record, #{{ indent: 2 }}))")),
        None | Some("table") => script(format!("{metrics}.listed")),
        Some(other) => Err(Error::BadValue {
            command: p.command.path(),
            flag: "--format".to_owned(),
            value: other.to_owned(),
            problem: "must be table or json".to_owned(),
        }),
    }
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        group: GROUP,
        names: &["start"],
        id: "T1",
        usage: "[FLAGS] CONTAINER",
        count: (1, 1),
        sample: &["web"],
        flags: &[&[
            switch("detach", A, Form::Own).or("d"),
            switch("null-io", B, Form::Own),
            one("log-uri", "file:///var/log/web.log", A, option(Value::Text)),
            one("pid-file", "web.pid", A, option(Value::Text)),
            one("fifo-dir", "/run/fifos", C, option(Value::Text)),
            switch("no-pivot", B, option(Value::Switch)),
        ]],
        make: start,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["list", "ls"],
        id: "T2",
        usage: "[--quiet]",
        flags: &[&[QUIET]],
        make: list,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["exec"],
        id: "T3",
        usage: "[FLAGS] CONTAINER COMMAND [ARGUMENT…]",
        count: (2, ANY),
        verbatim: true,
        sample: &["web", "ls", "-l"],
        flags: &[&[
            one("exec-id", "look", A, option(Value::Text)),
            switch("tty", A, Form::Own).or("t"),
            switch("detach", A, option(Value::Switch)).or("d"),
            one("cwd", "/srv", A, option(Value::Text)),
            one("user", "1000", A, option(Value::Text)),
            one("log-uri", "file:///var/log/look.log", B, option(Value::Text)),
            one("fifo-dir", "/run/fifos", C, option(Value::Text)),
        ]],
        make: exec,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["kill"],
        id: "T4",
        usage: "[--signal SIGNAL] [--all] CONTAINER",
        count: (1, 1),
        sample: &["web"],
        flags: &[&[
            one("signal", "SIGKILL", A, Form::Own).or("s"),
            switch("all", A, option(Value::Switch)).or("a"),
            one("exec-id", "look", A, option(Value::Text)),
        ]],
        make: kill,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["delete", "del", "remove", "rm"],
        id: "T5",
        usage: "[--force] CONTAINER…",
        count: (1, ANY),
        sample: &["web"],
        flags: &[&[switch("force", A, option(Value::Switch)).or("f"), one("exec-id", "look", A, option(Value::Text))]],
        make: delete,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["attach"],
        id: "T6",
        tier: B,
        usage: "CONTAINER",
        count: (1, 1),
        sample: &["web"],
        make: attach,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["pause"],
        id: "T7",
        usage: "CONTAINER",
        count: (1, 1),
        sample: &["web"],
        make: |p| done("pause", p),
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["resume"],
        id: "T7b",
        usage: "CONTAINER",
        count: (1, 1),
        sample: &["web"],
        make: |p| done("resume", p),
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["ps"],
        id: "T8",
        usage: "CONTAINER",
        count: (1, 1),
        sample: &["web"],
        make: |p| script(call("ps", &[p.text(0)], &Map::default())),
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["metrics", "metric"],
        id: "T9",
        usage: "[--format table|json] CONTAINER",
        count: (1, 1),
        sample: &["web"],
        flags: &[&[one("format", "json", A, Form::Own)]],
        make: metrics,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["checkpoint"],
        id: "T10",
        tier: C,
        usage: "[FLAGS] CONTAINER",
        count: (1, 1),
        sample: &["web"],
        flags: &[&[
            switch("exit", C, option(Value::Switch)),
            one("image-path", "/var/checkpoint", C, option(Value::Text)),
            one("work-path", "/var/criu", C, option(Value::Text)),
        ]],
        make: checkpoint,
        ..COMMAND
    },
];
