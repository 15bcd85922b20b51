//! `ctr namespaces`.

use super::parse::Parsed;
use super::source::{Map, Missing, all_of, call, labels, naming};
use super::table::{ANY, COMMAND, Command, QUIET, Tier, Value, listed, option, script, silent, switch};
use super::{Result, Step};

const GROUP: &str = "namespaces";

fn create(p: &Parsed) -> Result<Vec<Step>> {
    let mut arguments = vec![p.text(0)];
    let pairs = &p.args()[1..];
    if !pairs.is_empty() {
        arguments.push(labels(pairs));
    }
    silent(call("namespaces::create", &arguments, &Map::default()))
}

fn list(p: &Parsed) -> Result<Vec<Step>> {
    listed(p, "namespaces()", "n", "name")
}

fn label(p: &Parsed) -> Result<Vec<Step>> {
    silent(format!("namespace({}).label({})", p.text(0), p.labels(1)?))
}

fn remove(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    script(all_of("n", p.args(), Missing::IsTold, |n| naming(&call("namespaces::delete", &[n], &options), n)))
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        group: GROUP,
        names: &["list", "ls"],
        id: "N1",
        usage: "[--quiet]",
        flags: &[&[QUIET]],
        make: list,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["create", "c"],
        id: "N2",
        usage: "NAME [KEY=VALUE…]",
        count: (1, ANY),
        sample: &["shop", "team=core"],
        make: create,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["label"],
        id: "N3",
        usage: "NAME KEY=VALUE…",
        count: (1, ANY),
        sample: &["shop", "team=core"],
        make: label,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["remove", "rm"],
        id: "N4",
        usage: "NAME…",
        count: (1, ANY),
        sample: &["shop"],
        flags: &[&[switch("cgroup", Tier::B, option(Value::Switch)).or("c")]],
        make: remove,
        ..COMMAND
    },
];
