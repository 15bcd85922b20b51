//! Commands of ctr that ctrsh has no form for, and what to do instead.

use super::error::Error;
use super::parse::Parsed;
use super::table::{ANY, COMMAND, Command, Flag, Form, Tier, many, one, switch};
use super::{Result, Step};

const C: Tier = Tier::C;

/// The flag of a command that is refused as a whole.
const NONE: Form = Form::Own;

/// The flags of `ctr pprof`.
pub(super) const PPROF_FLAGS: &[Flag] = &[one("debug-socket", "/run/containerd/debug.sock", C, NONE).or("d")];

/// The flags of `ctr shim`.
pub(super) const SHIM_FLAGS: &[Flag] =
    &[one("id", "web", C, NONE), one("shim-address", "unix:///run/shim.sock", C, NONE)];

const API_VERSION: Flag = one("api-version", "3", C, NONE);

fn refused(p: &Parsed) -> Result<Vec<Step>> {
    let path = p.command.path();
    let cure = match p.command.id {
        "X3" => "ask the daemon's debug socket: curl --unix-socket /run/containerd/debug.sock http://d/debug/pprof/",
        _ => "a shim is spoken to by containerd; what it runs is told and changed by tasks(), exec, kill and delete",
    };
    Err(Error::Refused { what: path, cure: cure.into() })
}

const fn command(group: &'static str, names: &'static [&'static str], id: &'static str) -> Command {
    Command { group, names, id, tier: C, count: (0, ANY), make: refused, ..COMMAND }
}

const DEBUG: Flag = one("debug", "0", C, NONE);
const SECONDS: Flag = one("seconds", "5s", C, NONE).or("s");

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command { flags: &[&[DEBUG]], ..command("pprof", &["block"], "X3") },
    Command { flags: &[&[DEBUG]], ..command("pprof", &["goroutines"], "X3") },
    Command { flags: &[&[DEBUG]], ..command("pprof", &["heap"], "X3") },
    Command { flags: &[&[SECONDS, DEBUG]], ..command("pprof", &["profile"], "X3") },
    Command { flags: &[&[DEBUG]], ..command("pprof", &["threadcreate"], "X3") },
    Command { flags: &[&[SECONDS, DEBUG]], ..command("pprof", &["trace"], "X3") },
    command("shim", &["delete"], "X4"),
    Command {
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
        ..command("shim", &["exec"], "X4")
    },
    command("shim", &["start"], "X4"),
    Command { flags: &[&[one("task-id", "web", C, NONE).or("t"), API_VERSION]], ..command("shim", &["state"], "X4") },
    Command { flags: &[&[API_VERSION]], ..command("shim", &["shutdown"], "X4") },
    Command { flags: &[&[DEBUG]], ..command("shim pprof", &["block"], "X4") },
    Command { flags: &[&[DEBUG]], ..command("shim pprof", &["goroutines"], "X4") },
    Command { flags: &[&[DEBUG]], ..command("shim pprof", &["heap"], "X4") },
    Command { flags: &[&[SECONDS, DEBUG]], ..command("shim pprof", &["profile"], "X4") },
    Command { flags: &[&[DEBUG]], ..command("shim pprof", &["threadcreate"], "X4") },
    Command { flags: &[&[SECONDS, DEBUG]], ..command("shim pprof", &["trace"], "X4") },
];
