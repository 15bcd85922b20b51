//! What ctr asks the daemon about itself: versions, plugins, events.

use super::error::Error;
use super::parse::Parsed;
use super::source::{Map, call, pretty, text};
use super::table::{ANY, COMMAND, Command, Form, QUIET, Tier, Value, listed, one, option, script, switch};
use super::{Result, Step};

fn events(p: &Parsed) -> Result<Vec<Step>> {
    let mut arguments = p.filters();
    let mut options = Map::default();
    options.set("all_namespaces", "true");
    arguments.push(options.text());
    arguments.push("|e| print(e)".into());
    script(call("on", &arguments, &Map::default()))
}

fn plugins(p: &Parsed) -> Result<Vec<Step>> {
    let list = call("plugins", &p.filters(), &Map::default());
    if p.has("detailed") && !p.has("quiet") {
        return script(format!("print(to_yaml({list}))"));
    }
    listed(p, &list, "p", "id")
}

fn deprecations(p: &Parsed) -> Result<Vec<Step>> {
    script(if p.value("format") == Some("json") { "print(to_json(deprecations()))" } else { "deprecations()" })
}

fn inspect_runtime(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    // Options follow a name.
    let runtime = p.value("runtime").or((!options.is_empty()).then_some("io.containerd.runc.v2"));
    script(call("inspect_runtime", &runtime.map(text).into_iter().collect::<Vec<_>>(), &options))
}

fn spec(p: &Parsed) -> Result<Vec<Step>> {
    let platform = p.value("platform").unwrap_or("linux");
    // ctr takes an architecture for its Linux.
    if platform.split('/').next().is_some_and(|os| ["windows", "darwin", "freebsd"].contains(&os)) {
        return Err(Error::Refused {
            what: format!("oci spec --platform {platform}"),
            cure:
                "leave it out: containers of containerd run on Linux, where the spec is the same on every architecture"
                    .into(),
        });
    }
    script("print(to_json(oci::spec()))")
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        names: &["events", "event"],
        id: "E1",
        usage: "[FILTER…]",
        count: (0, ANY),
        sample: &["topic~=/tasks/"],
        make: events,
        ..COMMAND
    },
    Command {
        group: "plugins",
        names: &["list", "ls"],
        id: "G1",
        usage: "[--quiet] [--detailed] [FILTER…]",
        count: (0, ANY),
        sample: &["type==io.containerd.snapshotter.v1"],
        flags: &[&[QUIET, switch("detailed", Tier::A, Form::Own).or("d")]],
        make: plugins,
        ..COMMAND
    },
    Command {
        group: "plugins",
        names: &["inspect-runtime"],
        id: "G2",
        tier: Tier::B,
        flags: &[&[
            one("runtime", "io.containerd.runc.v2", Tier::B, Form::Own),
            one("runc-binary", "/usr/bin/runc", Tier::B, option(Value::Text)),
            one("runc-root", "/run/runc", Tier::B, option(Value::Text)),
            switch("runc-systemd-cgroup", Tier::B, option(Value::Switch)),
            one("runtime-config-path", "/etc/runtime.toml", Tier::C, option(Value::Text)),
        ]],
        make: inspect_runtime,
        ..COMMAND
    },
    Command { names: &["version"], id: "V1", make: |_| script("version()"), ..COMMAND },
    Command { names: &["info"], id: "V2", make: |_| script(pretty("#{ server: info().record }")), ..COMMAND },
    Command {
        group: "deprecations",
        names: &["list", "ls"],
        id: "V3",
        tier: Tier::B,
        flags: &[&[one("format", "json", Tier::B, Form::Own)]],
        make: deprecations,
        ..COMMAND
    },
    Command {
        group: "oci",
        names: &["spec"],
        id: "X2",
        flags: &[&[one("platform", "linux/arm64", Tier::B, Form::Own)]],
        make: spec,
        ..COMMAND
    },
];
