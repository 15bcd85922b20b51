//! `ctr containers`, but for `create`, which is with `run`.

use super::parse::Parsed;
use super::source::{Map, Missing, all_of, call, pretty};
use super::table::{ANY, COMMAND, Command, Form, QUIET, Tier, Value, listed, option, script, silent, switch};
use super::{Result, Step};

const GROUP: &str = "containers";

fn list(p: &Parsed) -> Result<Vec<Step>> {
    listed(p, &call("containers", &p.filters(), &Map::default()), "c", "id")
}

fn info(p: &Parsed) -> Result<Vec<Step>> {
    let part = if p.has("spec") { "spec" } else { "record" };
    script(pretty(&format!("container({}).{part}", p.text(0))))
}

fn delete(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    silent(all_of("c", p.args(), Missing::Fails, |c| call("delete", &[c], &options)))
}

fn label(p: &Parsed) -> Result<Vec<Step>> {
    script(format!("container({}).label({})", p.text(0), p.labels(1)?))
}

fn checkpoint(p: &Parsed) -> Result<Vec<Step>> {
    script(format!("container({}).{}", p.text(0), call("checkpoint", &[p.text(1)], &p.options()?)))
}

fn restore(p: &Parsed) -> Result<Vec<Step>> {
    script(call("restore", &[p.text(0), p.text(1)], &p.options()?))
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        group: GROUP,
        names: &["list", "ls"],
        id: "K2",
        usage: "[--quiet] [FILTER…]",
        count: (0, ANY),
        sample: &["image~=busybox"],
        flags: &[&[QUIET]],
        make: list,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["info"],
        id: "K3",
        usage: "[--spec] CONTAINER",
        count: (1, 1),
        sample: &["web"],
        flags: &[&[switch("spec", Tier::A, Form::Own)]],
        make: info,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["delete", "del", "remove", "rm"],
        id: "K4",
        usage: "[--keep-snapshot] CONTAINER…",
        count: (1, ANY),
        sample: &["web"],
        flags: &[&[switch("keep-snapshot", Tier::A, option(Value::Switch))]],
        make: delete,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["label"],
        id: "K5",
        usage: "CONTAINER KEY=VALUE…",
        count: (1, ANY),
        sample: &["web", "team=core"],
        make: label,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["checkpoint"],
        id: "K6",
        tier: Tier::B,
        usage: "[FLAGS] CONTAINER IMAGE",
        count: (2, 2),
        sample: &["web", "example/checkpoint:1"],
        flags: &[&[
            switch("rw", Tier::B, option(Value::Switch)),
            switch("image", Tier::B, option(Value::Switch)),
            switch("task", Tier::B, option(Value::Switch)),
        ]],
        forms: &["", "--rw", "--image", "--task"],
        make: checkpoint,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["restore"],
        id: "K7",
        tier: Tier::B,
        usage: "[FLAGS] CONTAINER IMAGE",
        count: (2, 2),
        sample: &["web", "example/checkpoint:1"],
        flags: &[&[switch("rw", Tier::B, option(Value::Switch)), switch("live", Tier::B, option(Value::Switch))]],
        forms: &["", "--rw", "--live"],
        make: restore,
        ..COMMAND
    },
];
