//! Profiles of the daemon and of shims.

use std::time::Duration;

use crate::containerd::Endpoint;
use crate::containerd::profile::Profile;
use crate::grant::Access;
use crate::ops::pprof::{self, Wanted};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::Binary;

const MODULE: On = On::Module("pprof");

const OPTIONS: &[Opt] = &[
    Opt::new("form", "int", "0 is what `go tool pprof` reads, 1 and 2 are text; ctr's `--debug`. Default 0."),
    Opt::new(
        "seconds",
        "duration",
        "How long is measured, of `profile` (whole seconds; default 30s) and `trace` (default 5s).",
    ),
    Opt::new("address", "string", "The debug socket. Default: `debug.sock` beside the daemon's own."),
    Opt::new("shim", "string", "The id of a shim that is measured in place of the daemon."),
];

const READ: Spec = Spec {
    name: "read",
    on: MODULE,
    params: &[Param::new("profile")],
    options: OPTIONS,
    access: Access::Read,
    doc: "Returns what the daemon's Go runtime measures of itself: `allocs`, `block`, `goroutine`, `heap`, `mutex`, `profile` (of the processor), `threadcreate` or `trace`; at most 16 MiB of it.\n\nThe daemon need not answer otherwise, so that one that hangs tells where. It listens for this only when its `config.toml` says so: `[debug]` with `address = \"/run/containerd/debug.sock\"`. A shim does while the log level of its containerd, 2.0 or later, is `debug`.",
    examples: &[
        Example::gives(
            "pprof::read(\"goroutine\", #{ form: 1 }).as_string().starts_with(\"goroutine profile: total\")",
            "true",
        ),
        Example::gives("pprof::read(\"profile\", #{ seconds: \"1s\" }).len() > 0", "true"),
    ],
};

fn read(call: &Call<'_>, profile: String, options: Options) -> Result<Binary> {
    let wanted = wanted(call, &profile, &options)?;
    call.wait(pprof::read(call.ctx(), &wanted)).map(Binary)
}

const SAVE: Spec = Spec {
    name: "save",
    on: MODULE,
    params: &[Param::new("profile"), Param::of("path", Names::File)],
    options: OPTIONS,
    access: Access::Read,
    doc: "Writes a profile, as `pprof::read` returns it, into a file, and returns how many bytes that are.\n\nNeeds `files` access below the working folder and `host` access elsewhere. `go tool pprof FILE` reads it, and `go tool trace FILE` a trace.",
    examples: &[Example::gives("pprof::save(\"heap\", \"heap.pprof\") > 0", "true")],
};

fn save(call: &Call<'_>, profile: String, path: String, options: Options) -> Result<u64> {
    let wanted = wanted(call, &profile, &options)?;
    call.run(pprof::Save::new(wanted, path.into()))
}

fn wanted(call: &Call<'_>, name: &str, options: &Options) -> Result<Wanted> {
    let Some(profile) = Profile::find(name) else {
        let known = Profile::ALL.map(Profile::as_str).join(", ");
        return Err(call.argument("profile", format!("'{}' is none of {known}", name.escape_debug())));
    };
    let length = options.duration("seconds")?;
    if let Some(length) = length {
        if profile.takes().is_none() {
            return Err(options.bad("seconds", "is for 'profile' and 'trace', which take time"));
        }
        // What Go cannot read it takes for its own default.
        let whole = profile != Profile::Cpu || length.subsec_nanos() == 0;
        if length == Duration::ZERO || !whole {
            return Err(options.bad("seconds", "must be more than none, and whole seconds of 'profile'"));
        }
    }
    let (address, shim) = (options.string("address")?, options.string("shim")?);
    if address.is_some() && shim.is_some() {
        return Err(options.bad("address", "and option 'shim' name two sockets"));
    }
    let socket = address.map(|text| Endpoint::parse(&text)).transpose().map_err(crate::ops::Error::from)?;
    Ok(Wanted { profile, form: options.count("form")?.unwrap_or(0), length, socket, shim })
}

/// Registers the functions.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add(&READ, read);
    catalog.add(&SAVE, save);
}
