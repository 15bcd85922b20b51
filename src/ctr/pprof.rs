//! `ctr pprof`.

use super::parse::Parsed;
use super::source::{Map, call, text, writing};
use super::table::{COMMAND, Command, Flag, Tier, Value, one, option, option_as, script};
use super::{Result, Step};

const C: Tier = Tier::C;
const GROUP: &str = "pprof";

/// The flags that stand before the commands.
pub(super) const GROUP_FLAGS: &[Flag] =
    &[one("debug-socket", "/run/containerd/debug.sock", C, option_as("address", Value::Text)).or("d")];

pub(super) const DEBUG: Flag = one("debug", "1", C, option_as("form", Value::Count(None)));
pub(super) const SECONDS: Flag = one("seconds", "2s", C, option(Value::Text)).or("s");

/// Writes the profile that the command is called by to the standard output, of the process that the options name.
pub(super) fn write(p: &Parsed, mut options: Map) -> Result<Vec<Step>> {
    let profile = match p.command.names[0] {
        "goroutines" => "goroutine",
        name => name,
    };
    let own = p.options()?;
    if profile == "goroutine" && p.value("debug").is_none() {
        options.set("form", "2");
    }
    options.extend(own);
    script(writing(&call("pprof::save", &[text(profile), text("/dev/stdout")], &options)))
}

fn daemon(p: &Parsed) -> Result<Vec<Step>> {
    write(p, Map::default())
}

const fn command(names: &'static [&'static str], flags: &'static [&'static [Flag]]) -> Command {
    Command { group: GROUP, names, id: "X3", tier: C, flags, make: daemon, ..COMMAND }
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command { usage: "[--debug FORM]", ..command(&["block"], &[&[DEBUG]]) },
    Command { usage: "[--debug FORM]", ..command(&["goroutines"], &[&[DEBUG]]) },
    Command { usage: "[--debug FORM]", ..command(&["heap"], &[&[DEBUG]]) },
    Command { usage: "[--seconds DURATION]", ..command(&["profile"], &[&[SECONDS, DEBUG]]) },
    Command { usage: "[--debug FORM]", ..command(&["threadcreate"], &[&[DEBUG]]) },
    Command { usage: "[--seconds DURATION]", ..command(&["trace"], &[&[SECONDS, DEBUG]]) },
];
