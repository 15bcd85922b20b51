//! Shims, asked without the daemon.

use crate::containerd::Endpoint;
use crate::grant::Access;
use crate::ops::shim::{self, Process};
use crate::script::api::task::TaskObject;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::Name;

const MODULE: On = On::Module("shim");
const ID: &[Param] = &[Param::of("id", Names::Container)];
const ADDRESS: Opt = Opt::new(
    "address",
    "string",
    "The shim's socket. Default: what its folder of containerd's state names, else what follows from its id.",
);
const OPTIONS: &[Opt] = &[
    ADDRESS,
    Opt::new("task", "string", "The container, where it is not the shim's id, as in a pod. Default: the shim's id."),
    Opt::new("exec_id", "string", "A process that was executed in it, in place of its first one."),
];

const STATE: Spec = Spec {
    name: "state",
    on: MODULE,
    params: ID,
    options: OPTIONS,
    access: Access::Read,
    doc: "Asks the shim of a container what its task does, without the daemon, which may hang or be away.\n\nIt speaks ttrpc to the shim's socket, which is root's: with shims of containerd 1.6 and later.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"asked\", detach: true, command: [\"sleep\", \"60\"] }); let status = shim::state(\"asked\").status; delete(\"asked\", #{ force: true }); status",
        "\"running\"",
    )],
};

fn state(call: &Call<'_>, id: Name, options: Options) -> Result<TaskObject> {
    let process = process(id, &options)?;
    call.wait(shim::state(call.ctx(), &process)).map(TaskObject)
}

const START: Spec = Spec {
    name: "start",
    on: MODULE,
    params: ID,
    options: OPTIONS,
    access: Access::Run,
    doc: "Has a shim start a process that was made and not started, and returns its number.\n\n`start` and `run` make and start; what they leave when they are killed in between can be started so.",
    examples: &[Example::gives(
        "let kind = (); try { shim::start(\"not-there\") } catch (e) { kind = e.kind } kind",
        "\"not_found\"",
    )],
};

fn start(call: &Call<'_>, id: Name, options: Options) -> Result<i64> {
    call.run(shim::Start::new(process(id, &options)?)).map(i64::from)
}

const DELETE: Spec = Spec {
    name: "delete",
    on: MODULE,
    params: ID,
    options: OPTIONS,
    access: Access::Delete,
    doc: "Has a shim delete a process that has ended, or was never started, and returns its exit status.\n\nThe daemon does not hear of it: `delete` is the way while it answers.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"left\", detach: true, command: [\"sleep\", \"60\"] }); kill(\"left\", \"SIGKILL\"); wait(\"left\"); let code = shim::delete(\"left\"); shim::shutdown(\"left\"); delete(\"left\", #{ force: true }); code",
        "137",
    )],
};

fn delete(call: &Call<'_>, id: Name, options: Options) -> Result<i64> {
    call.run(shim::Delete::new(process(id, &options)?)).map(i64::from)
}

const SHUTDOWN: Spec = Spec {
    name: "shutdown",
    on: MODULE,
    params: ID,
    options: &[ADDRESS],
    access: Access::Delete,
    doc: "Has a shim end if it has no task. One that has some goes on, and does not say so.",
    examples: &[Example::runs(
        "run(\"busybox\", #{ id: \"kept\", detach: true, command: [\"sleep\", \"60\"] }); shim::shutdown(\"kept\"); delete(\"kept\", #{ force: true })",
    )],
};

fn shutdown(call: &Call<'_>, id: Name, options: Options) -> Result<()> {
    call.run(shim::Shutdown::new(Process { shim: id.0, task: None, exec_id: None, address: address(&options)? }))
}

fn process(id: Name, options: &Options) -> Result<Process> {
    let (task, exec_id) = (options.string("task")?, options.string("exec_id")?);
    Ok(Process { shim: id.0, task, exec_id, address: address(options)? })
}

fn address(options: &Options) -> Result<Option<Endpoint>> {
    let address = options.string("address")?.map(|text| Endpoint::parse(&text)).transpose();
    Ok(address.map_err(crate::ops::Error::from)?)
}

/// Registers the functions.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add(&STATE, state);
    catalog.add(&START, start);
    catalog.add(&DELETE, delete);
    catalog.add(&SHUTDOWN, shutdown);
}
