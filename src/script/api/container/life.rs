//! What begins and ends the task of a container.

use std::path::Path;

use rhai::Dynamic;

use super::ContainerObject;
use super::attach::{DETACH_KEYS, detach_keys, inherits};
use super::change::log_target;
use super::make::{FIFO_DIR, NULL_IO, STDIO};
use crate::containerd::tasks::Exit;
use crate::grant::Access;
use crate::ops::Context;
use crate::ops::container::{DetachKeys, Kill, Parted, Restart, Signal, Start, StartOptions, Stop, start_terminal};
use crate::ops::task::{Pause, Resume};
use crate::script::api::process::ProcessObject;
use crate::script::api::task::TaskObject;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Name, Ret};

const ID: &[Param] = &[Param::of("id", Names::Container)];

const START_OPTIONS: &[Opt] = &[
    Opt::new("log_uri", "string", "Where its output goes; `null` for nowhere. Default: a file that `logs` reads."),
    Opt::new("pid_file", "string", "A file to write the process's number to."),
    NULL_IO,
    FIFO_DIR,
    Opt::new(
        "no_pivot",
        "bool",
        "Whether runc leaves out pivot_root this time, for a root in a ramdisk. Default: as the container was made.",
    ),
    Opt::new("detach", "bool", "As in ctr: it is detached unless `tty` or `stdio` is given."),
    Opt::new("tty", "bool", "Whether a container that was made with a terminal gets this one. Default false."),
    DETACH_KEYS,
    STDIO,
];

const STOP_OPTIONS: &[Opt] = &[
    Opt::new("signal", "string", "The signal that asks it to end. Default: its image's, else `SIGTERM`."),
    Opt::new("timeout", "duration", "When it is killed. Default `10s`."),
];

const KILL_OPTIONS: &[Opt] = &[
    Opt::new("all", "bool", "Whether every process of the container gets it. Default false."),
    Opt::new("exec_id", "string", "The executed process that gets it. Default: the container's first one."),
];

fn signal(options: &Options) -> Result<Option<Signal>> {
    Ok(options.string("signal")?.map(|text| text.parse()).transpose()?)
}

fn code(exit: Option<Exit>) -> Option<i64> {
    exit.map(|exit| exit.code.into())
}

/// What a start gives a script.
struct Started(Dynamic);

impl Ret for Started {
    const TYPE: &'static str = "Task or Process";

    fn give(self) -> Dynamic {
        self.0
    }
}

fn do_start(call: &Call<'_>, ctx: &Context, id: &str, options: &Options) -> Result<Started> {
    let (tty, keys) = (options.flag("tty")?, detach_keys(options)?);
    let pid_file = options.string("pid_file")?.map(|path| ctx.settings().working_dir.join(path));
    let inherit = inherits(options)?;
    match options.bool("detach")? {
        Some(true) if inherit => return Err(options.bad("stdio", "of inherit goes without detach")),
        _ if inherit && tty => return Err(options.bad("stdio", "of inherit goes without tty")),
        Some(true) if tty => return Err(options.bad("tty", "goes without detach; attach(id) connects it later")),
        Some(false) if !tty && !inherit => return Err(options.bad("detach", "is always true without tty and stdio")),
        _ => {}
    }
    let fifo_dir = options.string("fifo_dir")?.map(|path| ctx.settings().working_dir.join(path));
    let no_pivot = options.flag("no_pivot")?;
    let options = StartOptions { log: log_target(ctx, options)?, pid_file, fifo_dir, no_pivot, inherit };
    if tty && !ctx.is_dry_run() {
        let StartOptions { log: None, pid_file, fifo_dir: None, no_pivot: false, .. } = options else {
            return Err(call.argument("option 'tty'", "goes with no other output and no no_pivot"));
        };
        return seated(call, ctx, id, &keys, pid_file.as_deref());
    }
    let task = call.run_in(ctx, Start::new(id, options))?;
    Ok(Started(match task.exit {
        Some(exit) if inherit => Dynamic::from(ProcessObject::seated(id, exit.code)),
        _ => Dynamic::from(TaskObject(task)),
    }))
}

/// Starts a container with the user's terminal.
fn seated(call: &Call<'_>, ctx: &Context, id: &str, keys: &DetachKeys, pid_file: Option<&Path>) -> Result<Started> {
    let Some(seat) = call.session().sink().seat() else {
        return Err(call.argument("option 'tty'", "needs someone at a terminal; attach(id) connects one later"));
    };
    let size = seat.window()?;
    let sitting = async { seat.sit(start_terminal(ctx, id, size, pid_file).await?, keys).await };
    Ok(Started(match call.session().wait(ctx, sitting)? {
        Parted::Ended(code) => Dynamic::from(ProcessObject::seated(id, code)),
        Parted::Left => Dynamic::UNIT,
    }))
}

fn do_stop(call: &Call<'_>, ctx: &Context, id: &str, options: &Options) -> Result<Option<i64>> {
    let stop = Stop::new(id, signal(options)?, options.duration("timeout")?);
    Ok(code(call.run_in(ctx, stop)?))
}

fn do_restart(call: &Call<'_>, ctx: &Context, id: &str, options: &Options) -> Result<TaskObject> {
    let restart = Restart::new(id, signal(options)?, options.duration("timeout")?);
    Ok(TaskObject(call.run_in(ctx, restart)?))
}

fn do_kill(call: &Call<'_>, ctx: &Context, id: &str, signal: Option<String>, options: &Options) -> Result<()> {
    let signal = signal.map(|text| text.parse()).transpose()?;
    let kill = Kill::new(id, signal).all(options.flag("all")?);
    let kill = match options.string("exec_id")? {
        Some(exec_id) => kill.exec(&exec_id),
        None => kill,
    };
    call.run_in(ctx, kill)
}

const START: Spec = Spec {
    name: "start",
    on: On::Node,
    params: ID,
    options: START_OPTIONS,
    access: Access::Run,
    doc: "Starts a container and returns its task. Its output goes to a log; that of one with a terminal waits for `attach`.\n\nWith `tty` the terminal that ctrsh runs in is connected with it, until it ends or the keys `detach_keys` are pressed; then the result is how it ended, or `()`. With `stdio` of `inherit` it has ctrsh's own input, outputs and signals, as with `run`; the result is how it ended, and the task is deleted. A task that has ended is replaced. It needs `run` access; `host` for a container that reaches its host, and for a log of one's own.",
    examples: &[Example::gives(
        "create(\"start-1\", \"busybox\", #{ command: [\"sleep\", \"60\"] }); let status = start(\"start-1\").status; delete(\"start-1\", #{ force: true }); status",
        "\"running\"",
    )],
};

fn start(call: &Call<'_>, id: Name, options: Options) -> Result<Started> {
    do_start(call, call.ctx(), &id.0, &options)
}

const CONTAINER_START: Spec = Spec {
    name: "start",
    on: On::Method,
    params: &[],
    options: START_OPTIONS,
    access: Access::Run,
    doc: "Starts the container and returns its task. Its output goes to a log; that of one with a terminal waits for `attach`.\n\nWith `tty` the terminal that ctrsh runs in is connected with it, until it ends or the keys `detach_keys` are pressed; then the result is how it ended, or `()`. A task that has ended is replaced. It needs `run` access; `host` for a container that reaches its host, and for a log of one's own.",
    examples: &[Example::gives(
        "let c = create(\"start-2\", \"busybox\", #{ command: [\"sleep\", \"60\"] }); let status = c.start().status; c.delete(#{ force: true }); status",
        "\"running\"",
    )],
};

fn container_start(call: &Call<'_>, container: ContainerObject, options: Options) -> Result<Started> {
    container.touch();
    do_start(call, &call.at(container.place()), container.id(), &options)
}

const STOP: Spec = Spec {
    name: "stop",
    on: On::Node,
    params: ID,
    options: STOP_OPTIONS,
    access: Access::Run,
    doc: "Asks a container to end, kills it when it does not by the timeout, and returns its exit status.\n\nThe ended task stays until the container is started again or deleted. One that does not run is left alone: the result is its exit status, or `()`.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"stop-1\", detach: true, command: [\"sleep\", \"60\"] }); let code = stop(\"stop-1\", #{ signal: \"KILL\" }); delete(\"stop-1\"); code",
        "137",
    )],
};

fn stop(call: &Call<'_>, id: Name, options: Options) -> Result<Option<i64>> {
    do_stop(call, call.ctx(), &id.0, &options)
}

const CONTAINER_STOP: Spec = Spec {
    name: "stop",
    on: On::Method,
    params: &[],
    options: STOP_OPTIONS,
    access: Access::Run,
    doc: "Asks the container to end, kills it when it does not by the timeout, and returns its exit status.\n\nThe ended task stays until the container is started again or deleted. One that does not run is left alone: the result is its exit status, or `()`.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"stop-2\", detach: true, command: [\"sleep\", \"60\"] }); let code = c.stop(#{ timeout: \"100ms\" }); c.delete(); code > 0",
        "true",
    )],
};

fn container_stop(call: &Call<'_>, container: ContainerObject, options: Options) -> Result<Option<i64>> {
    container.touch();
    do_stop(call, &call.at(container.place()), container.id(), &options)
}

const RESTART: Spec = Spec {
    name: "restart",
    on: On::Node,
    params: ID,
    options: STOP_OPTIONS,
    access: Access::Run,
    doc: "Stops a container as `stop` does, starts it again, and returns its task.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"restart-1\", detach: true, command: [\"sleep\", \"60\"] }); let status = restart(\"restart-1\", #{ signal: \"KILL\" }).status; delete(\"restart-1\", #{ force: true }); status",
        "\"running\"",
    )],
};

fn restart(call: &Call<'_>, id: Name, options: Options) -> Result<TaskObject> {
    do_restart(call, call.ctx(), &id.0, &options)
}

const CONTAINER_RESTART: Spec = Spec {
    name: "restart",
    on: On::Method,
    params: &[],
    options: STOP_OPTIONS,
    access: Access::Run,
    doc: "Stops the container as `stop` does, starts it again, and returns its task.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"restart-2\", detach: true, command: [\"sleep\", \"60\"] }); let status = c.restart(#{ signal: \"KILL\" }).status; c.delete(#{ force: true }); status",
        "\"running\"",
    )],
};

fn container_restart(call: &Call<'_>, container: ContainerObject, options: Options) -> Result<TaskObject> {
    container.touch();
    do_restart(call, &call.at(container.place()), container.id(), &options)
}

const KILL: Spec = Spec {
    name: "kill",
    on: On::Node,
    params: &[Param::of("id", Names::Container), Param::of("signal", Names::Signal)],
    options: KILL_OPTIONS,
    access: Access::Run,
    doc: "Sends a signal to a container: a name such as `SIGHUP` or a number, else its image's stop signal, else `SIGTERM`.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"kill-1\", detach: true, command: [\"sleep\", \"60\"] }); kill(\"kill-1\", \"SIGKILL\"); let code = wait(\"kill-1\"); delete(\"kill-1\"); code",
        "137",
    )],
};

fn kill(call: &Call<'_>, id: Name, signal: Option<String>, options: Options) -> Result<()> {
    do_kill(call, call.ctx(), &id.0, signal, &options)
}

const CONTAINER_KILL: Spec = Spec {
    name: "kill",
    on: On::Method,
    params: &[Param::of("signal", Names::Signal)],
    options: KILL_OPTIONS,
    access: Access::Run,
    doc: "Sends a signal to the container: a name such as `SIGHUP` or a number, else its image's stop signal, else `SIGTERM`.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"kill-2\", detach: true, command: [\"sleep\", \"60\"] }); c.kill(\"KILL\", #{ all: true }); let code = c.wait(); c.delete(); code",
        "137",
    )],
};

fn container_kill(call: &Call<'_>, container: ContainerObject, signal: Option<String>, options: Options) -> Result<()> {
    container.touch();
    do_kill(call, &call.at(container.place()), container.id(), signal, &options)
}

const PAUSE: Spec = Spec {
    name: "pause",
    on: On::Node,
    params: ID,
    options: &[],
    access: Access::Run,
    doc: "Freezes every process of a container.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"pause-1\", detach: true, command: [\"sleep\", \"60\"] }); pause(\"pause-1\"); let status = c.status; delete(\"pause-1\", #{ force: true }); status",
        "\"paused\"",
    )],
};

fn pause(call: &Call<'_>, id: Name) -> Result<()> {
    call.run_in(call.ctx(), Pause::new(&id.0))
}

const CONTAINER_PAUSE: Spec = Spec {
    name: "pause",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Run,
    doc: "Freezes every process of the container.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"pause-2\", detach: true, command: [\"sleep\", \"60\"] }); c.pause(); let status = c.status; c.delete(#{ force: true }); status",
        "\"paused\"",
    )],
};

fn container_pause(call: &Call<'_>, container: ContainerObject) -> Result<()> {
    container.touch();
    call.run_in(&call.at(container.place()), Pause::new(container.id()))
}

const RESUME: Spec = Spec {
    name: "resume",
    on: On::Node,
    params: ID,
    options: &[],
    access: Access::Run,
    doc: "Thaws every process of a container that was paused.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"resume-1\", detach: true, command: [\"sleep\", \"60\"] }); pause(\"resume-1\"); resume(\"resume-1\"); let status = c.status; delete(\"resume-1\", #{ force: true }); status",
        "\"running\"",
    )],
};

fn resume(call: &Call<'_>, id: Name) -> Result<()> {
    call.run_in(call.ctx(), Resume::new(&id.0))
}

const CONTAINER_RESUME: Spec = Spec {
    name: "resume",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Run,
    doc: "Thaws every process of the container that was paused.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"resume-2\", detach: true, command: [\"sleep\", \"60\"] }); c.pause(); c.resume(); let status = c.status; c.delete(#{ force: true }); status",
        "\"running\"",
    )],
};

fn container_resume(call: &Call<'_>, container: ContainerObject) -> Result<()> {
    container.touch();
    call.run_in(&call.at(container.place()), Resume::new(container.id()))
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&START, start);
    catalog.add(&CONTAINER_START, container_start);
    catalog.add(&STOP, stop);
    catalog.add(&CONTAINER_STOP, container_stop);
    catalog.add(&RESTART, restart);
    catalog.add(&CONTAINER_RESTART, container_restart);
    catalog.add(&KILL, kill);
    catalog.add(&CONTAINER_KILL, container_kill);
    catalog.add(&PAUSE, pause);
    catalog.add(&CONTAINER_PAUSE, container_pause);
    catalog.add(&RESUME, resume);
    catalog.add(&CONTAINER_RESUME, container_resume);
}
