//! `ctr snapshots`.

use super::parse::Parsed;
use super::source::{Map, call, each, each_of, pretty, text, writing};
use super::table::{
    ANY, COMMAND, Command, Flag, Form, SYNC_FS, Tier, Value, many, one, option, option_as, script, silent, switch,
};
use super::{Result, Step};

const GROUP: &str = "snapshots";
const A: Tier = Tier::A;
const B: Tier = Tier::B;

/// The flag of the group.
pub(super) const GROUP_FLAGS: &[Flag] = &[one("snapshotter", "native", A, option(Value::Text))];

fn of(p: &Parsed, name: &str, arguments: &[String]) -> Result<String> {
    Ok(call(&format!("snapshots::{name}"), arguments, &p.options()?))
}

fn plain(name: &str, p: &Parsed) -> Result<Vec<Step>> {
    let arguments: Vec<String> = (0..p.args().len()).map(|index| p.text(index)).collect();
    silent(of(p, name, &arguments)?)
}

fn diff(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = Map::default();
    options.set("path", text("/dev/stdout"));
    options.extend(p.options()?);
    let arguments: Vec<String> = (0..p.args().len()).map(|index| p.text(index)).collect();
    script(writing(&call("snapshots::diff", &arguments, &options)))
}

fn several(name: &str, p: &Parsed) -> Result<Vec<Step>> {
    script(of(p, name, &p.filters())?)
}

/// What makes a snapshot returns how it is mounted; ctr prints that only when it is asked for.
fn made(name: &str, p: &Parsed) -> Result<Vec<Step>> {
    let arguments: Vec<String> = (0..p.args().len()).map(|index| p.text(index)).collect();
    let made = of(p, name, &arguments)?;
    script(match p.value("target") {
        Some(target) => each("m", &made, &format!("print(m.command({}))", text(target))),
        None if p.has("mounts") => format!("print(to_json({made}))"),
        None => return silent(made),
    })
}

const MAKE: &[Flag] = &[one("target", "/mnt", B, Form::Own).or("t"), switch("mounts", B, Form::Own)];

fn mounts(p: &Parsed) -> Result<Vec<Step>> {
    let mounts = of(p, "mounts", &[p.text(1)])?;
    script(each("m", &mounts, &format!("print(m.command({}))", p.text(0))))
}

fn delete(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    silent(each_of("s", p.args(), |s| call("snapshots::delete", &[s], &options)))
}

fn label(p: &Parsed) -> Result<Vec<Step>> {
    script(of(p, "label", &[p.text(0), p.labels(1)?])?)
}

fn unpack(p: &Parsed) -> Result<Vec<Step>> {
    script(of(p, "unpack", &[p.text(0)])?)
}

fn list(p: &Parsed) -> Result<Vec<Step>> {
    script(call("snapshots::list", &p.filters(), &p.options()?))
}

fn tree(p: &Parsed) -> Result<Vec<Step>> {
    script(call("snapshots::tree", &[] as &[&str], &p.options()?))
}

const fn command(names: &'static [&'static str], id: &'static str, tier: Tier) -> Command {
    Command { group: GROUP, names, id, tier, ..COMMAND }
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command { usage: "[FILTER…]", count: (0, ANY), make: list, ..command(&["list", "ls"], "S1", A) },
    Command {
        usage: "KEY",
        count: (1, 1),
        sample: &["work"],
        make: |p| script(pretty(&format!("{}.record", of(p, "info", &[p.text(0)])?))),
        ..command(&["info"], "S2", A)
    },
    Command { make: tree, ..command(&["tree"], "S3", B) },
    Command {
        usage: "[KEY…]",
        count: (0, ANY),
        sample: &["work"],
        flags: &[&[switch(
            "b",
            A,
            Form::Other("sizes are bytes, which tables show as people read them and JSON as they are"),
        )]],
        make: |p| several("usage", p),
        ..command(&["usage"], "S4", A)
    },
    Command {
        usage: "[FLAGS] KEY [PARENT]",
        count: (1, 2),
        sample: &["work", "base"],
        flags: &[MAKE],
        make: |p| made("prepare", p),
        ..command(&["prepare"], "S5", B)
    },
    Command {
        usage: "[FLAGS] KEY [PARENT]",
        count: (1, 2),
        sample: &["look", "base"],
        flags: &[MAKE],
        make: |p| made("view", p),
        ..command(&["view"], "S6", B)
    },
    Command {
        usage: "KEY ACTIVE-KEY",
        count: (2, 2),
        sample: &["base", "work"],
        make: |p| plain("commit", p),
        ..command(&["commit"], "S7", B)
    },
    Command {
        usage: "KEY…",
        count: (1, ANY),
        sample: &["work"],
        make: delete,
        ..command(&["delete", "del", "remove", "rm"], "S8", B)
    },
    Command {
        usage: "KEY LABEL=VALUE…",
        count: (1, ANY),
        sample: &["work", "team=core"],
        make: label,
        ..command(&["label"], "S9", B)
    },
    Command {
        usage: "FOLDER KEY",
        count: (2, 2),
        sample: &["/mnt", "work"],
        make: mounts,
        ..command(&["mounts", "m", "mount"], "S10", B)
    },
    Command {
        usage: "[FLAGS] KEY [KEY]",
        count: (1, 2),
        sample: &["work"],
        flags: &[&[
            one("media-type", "application/vnd.oci.image.layer.v1.tar", B, option(Value::Text)),
            one("ref", "upload-1", B, option(Value::Text)),
            switch("keep", B, option(Value::Switch)),
            many("label", "team=core", B, option_as("labels", Value::Labels)),
        ]],
        note: "without a path the layer stays in the content store, and its digest is returned",
        make: diff,
        ..command(&["diff"], "S11", B)
    },
    Command {
        usage: "DIGEST",
        count: (1, 1),
        sample: &["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
        flags: &[&[one("snapshotter", "native", B, option(Value::Text)), SYNC_FS]],
        make: unpack,
        ..command(&["unpack"], "S12", B)
    },
];
