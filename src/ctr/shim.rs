//! `ctr shim`.

use super::error::Error;
use super::parse::Parsed;
use super::pprof::{DEBUG, SECONDS, write};
use super::source::{Map, call, text};
use super::table::{ANY, COMMAND, Command, Flag, Form, Tier, many, one, script, switch};
use super::{Result, Step};

const C: Tier = Tier::C;
const GROUP: &str = "shim";
const PPROF: &str = "shim pprof";

/// The flags that stand before the commands.
pub(super) const GROUP_FLAGS: &[Flag] =
    &[one("id", "web", C, Form::Own), one("shim-address", "unix:///run/shim.sock", C, Form::Own)];

const API_VERSION: Flag =
    one("api-version", "3", C, Form::Other("what the shim speaks is found out: version 3, and else 2"));

/// Calls a function of a shim, about the task that is named or the shim's own.
fn of_shim(p: &Parsed, function: &str, task: Option<&str>) -> Result<Vec<Step>> {
    let address = p.value("shim-address");
    let Some(id) = p.value("id").or(task.filter(|_| address.is_some())) else {
        return Err(Error::arguments(
            p.command,
            "needs the shim: ctr shim --id ID, or --shim-address with the task's id",
        ));
    };
    let mut options = Map::default();
    if let Some(task) = task.filter(|task| *task != id) {
        options.set("task", text(task));
    }
    if let Some(address) = address {
        options.set("address", text(address));
    }
    script(call(&format!("shim::{function}"), &[text(id)], &options))
}

fn argument(p: &Parsed) -> Option<&str> {
    p.args().first().map(String::as_str)
}

fn pprof(p: &Parsed) -> Result<Vec<Step>> {
    let Some(id) = p.value("id") else {
        return Err(Error::arguments(p.command, "needs the shim: ctr shim --id ID pprof"));
    };
    let mut options = Map::default();
    options.set("shim", text(id));
    write(p, options)
}

const fn command(group: &'static str, names: &'static [&'static str]) -> Command {
    Command { group, names, id: "X4", tier: C, needs: &["--id=web"], ..COMMAND }
}

const fn profile(names: &'static [&'static str], flags: &'static [&'static [Flag]]) -> Command {
    Command { flags, make: pprof, ..command(PPROF, names) }
}

/// The flags of an exec, which is refused as a whole.
const NONE: Form = Form::Own;

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        usage: "CONTAINER",
        count: (1, 1),
        sample: &["web"],
        make: |p| of_shim(p, "delete", argument(p)),
        ..command(GROUP, &["delete"])
    },
    Command {
        count: (0, ANY),
        flags: &[&[
            one("stdin", "/run/in", C, NONE),
            one("stdout", "/run/out", C, NONE),
            one("stderr", "/run/err", C, NONE),
            switch("tty", C, NONE).or("t"),
            switch("attach", C, NONE).or("a"),
            many("env", "TZ=UTC", C, NONE).or("e"),
            one("cwd", "/", C, NONE),
            one("spec", "spec.json", C, NONE),
        ]],
        make: |p| {
            Err(Error::Refused {
                what: p.command.path(),
                cure: "ctr itself panics before it asks a shim anything, as of 2.1; exec(ID, COMMAND) executes by the daemon".into(),
            })
        },
        ..command(GROUP, &["exec"])
    },
    Command {
        usage: "CONTAINER",
        count: (1, 1),
        sample: &["web"],
        make: |p| of_shim(p, "start", argument(p)),
        ..command(GROUP, &["start"])
    },
    Command {
        usage: "[--task-id CONTAINER]",
        flags: &[&[one("task-id", "web", C, Form::Own).or("t"), API_VERSION]],
        make: |p| of_shim(p, "state", p.value("task-id")),
        ..command(GROUP, &["state"])
    },
    Command { flags: &[&[API_VERSION]], make: |p| of_shim(p, "shutdown", None), ..command(GROUP, &["shutdown"]) },
    profile(&["block"], &[&[DEBUG]]),
    profile(&["goroutines"], &[&[DEBUG]]),
    profile(&["heap"], &[&[DEBUG]]),
    profile(&["profile"], &[&[SECONDS, DEBUG]]),
    profile(&["threadcreate"], &[&[DEBUG]]),
    profile(&["trace"], &[&[SECONDS, DEBUG]]),
];
