//! `ctr leases`.

use super::parse::Parsed;
use super::source::{Map, call, each_of, labels, naming};
use super::table::{ANY, COMMAND, Command, QUIET, Tier, Value, listed, one, option, option_as, script, switch};
use super::{Result, Step};

const GROUP: &str = "leases";

fn list(p: &Parsed) -> Result<Vec<Step>> {
    listed(p, &call("leases::list", &p.filters(), &Map::default()), "l", "id")
}

fn create(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = p.options()?;
    if !p.args().is_empty() {
        options.set("labels", labels(p.args()));
    }
    script(format!("print({}.id)", call("leases::create", &[] as &[&str], &options)))
}

fn delete(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    script(each_of("l", p.args(), |l| naming(&call("leases::delete", &[l], &options), l)))
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        group: GROUP,
        names: &["list", "ls"],
        id: "L1",
        usage: "[--quiet] [FILTER…]",
        count: (0, ANY),
        flags: &[&[QUIET]],
        make: list,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["create"],
        id: "L2",
        usage: "[FLAGS] [KEY=VALUE…]",
        count: (0, ANY),
        sample: &["team=core"],
        flags: &[&[
            one("id", "night", Tier::A, option(Value::Text)),
            one("expires", "1h", Tier::A, option(Value::Text)).or("x"),
        ]],
        make: create,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["delete", "del", "remove", "rm"],
        id: "L3",
        usage: "[--sync] LEASE…",
        count: (1, ANY),
        sample: &["night"],
        flags: &[&[switch("sync", Tier::A, option_as("wait", Value::Switch))]],
        make: delete,
        ..COMMAND
    },
];
