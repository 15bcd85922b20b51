//! Connecting the user's terminal with a container.

use super::ContainerObject;
use crate::grant::Access;
use crate::ops::Context;
use crate::ops::container::{self, DetachKeys, Parted};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::Name;

pub(super) const DETACH_KEYS: Opt =
    Opt::new("detach_keys", "string", "The keys that leave its terminal; `\"\"` for none. Default `ctrl-p,ctrl-q`.");

const ATTACH_OPTIONS: &[Opt] = &[
    Opt::new("exec_id", "string", "The executed process. Default: the container's first one."),
    DETACH_KEYS,
    Opt::new(
        "stdio",
        "string",
        "`inherit` gives one without a terminal ctrsh's own input, output and signals, whatever they are. Default: the terminal.",
    ),
];

/// Reads whether a process gets the program's own input and outputs.
pub(super) fn inherits(options: &Options) -> Result<bool> {
    match options.string("stdio")?.as_deref() {
        None => Ok(false),
        Some("inherit") => Ok(true),
        Some(_) => Err(options.bad("stdio", "knows one word, inherit; without it the output is returned")),
    }
}

/// Reads the keys that leave a terminal.
pub(super) fn detach_keys(options: &Options) -> Result<DetachKeys> {
    Ok(options.string("detach_keys")?.map(|text| text.parse()).transpose()?.unwrap_or_default())
}

const ATTACH: Spec = Spec {
    name: "attach",
    on: On::Node,
    params: &[Param::of("id", Names::Container)],
    options: ATTACH_OPTIONS,
    access: Access::Run,
    doc: "Connects the terminal that ctrsh runs in with a running container, until that ends or the keys `detach_keys` are pressed.\n\nReturns its exit status, or `()` when it was left. The task is not deleted. What can be attached to is a process with FIFOs: a container with `tty` that was started or run with `detach`, one with `fifo_dir`, or one that ctr started and left. One whose output goes to a log or nowhere, or whose FIFOs another process reads, is refused by name. While nobody is attached, a process that writes more than its FIFO holds (64 KiB) waits. A terminal that is left is held open by a small process of ctrsh that ends with it. What has no terminal is left by Ctrl-C too, and Ctrl-D ends its input; with `stdio` of `inherit` it needs no terminal here, and gets every signal.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"attached\", detach: true, command: [\"sleep\", \"60\"] }); let why = \"conflict\"; try { attach(\"attached\") } catch (e) { why = e.kind } delete(\"attached\", #{ force: true }); why",
        "\"conflict\"",
    )],
};

fn do_attach(call: &Call<'_>, ctx: &Context, id: &str, options: &Options) -> Result<Option<i64>> {
    let exec_id = options.string("exec_id")?.unwrap_or_default();
    let (keys, inherit) = (detach_keys(options)?, inherits(options)?);
    let session = call.session();
    session.wait(ctx, container::attachable(ctx, id, &exec_id))?;
    if ctx.is_dry_run() {
        return Ok(None);
    }
    if inherit {
        let attached = session.wait(ctx, container::attach(ctx, id, &exec_id))?;
        if !attached.terminal.is_terminal() {
            return Ok(Some(session.wait(ctx, container::pass_attached(ctx, attached))?.code.into()));
        }
    }
    let Some(seat) = session.sink().seat() else {
        return Err(call.argument("attach", "needs someone at a terminal; logs(id, #{ follow: true }) shows a log"));
    };
    seat.window()?;
    let parted = session.wait(ctx, async { seat.sit(container::attach(ctx, id, &exec_id).await?, &keys).await })?;
    Ok(match parted {
        Parted::Ended(code) => Some(code.into()),
        Parted::Left => None,
    })
}

fn attach(call: &Call<'_>, id: Name, options: Options) -> Result<Option<i64>> {
    do_attach(call, call.ctx(), &id.0, &options)
}

const CONTAINER_ATTACH: Spec = Spec {
    name: "attach",
    on: On::Method,
    params: &[],
    options: ATTACH_OPTIONS,
    access: Access::Run,
    doc: "Connects the terminal that ctrsh runs in with the running container, until that ends or the keys `detach_keys` are pressed.\n\nReturns its exit status, or `()` when it was left.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"attached-2\", detach: true, null_io: true, command: [\"sleep\", \"60\"] }); let why = \"conflict\"; try { c.attach() } catch (e) { why = e.kind } c.delete(#{ force: true }); why",
        "\"conflict\"",
    )],
};

fn container_attach(call: &Call<'_>, container: ContainerObject, options: Options) -> Result<Option<i64>> {
    container.touch();
    do_attach(call, &call.at(container.place()), container.id(), &options)
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&ATTACH, attach);
    catalog.add(&CONTAINER_ATTACH, container_attach);
}
