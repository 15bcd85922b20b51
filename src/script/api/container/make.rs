//! What makes containers, and runs commands in them.

use std::path::PathBuf;

use rhai::Dynamic;

use super::attach::{DETACH_KEYS, detach_keys, inherits};
use super::options::{self, CREATE, environment, joined};
use super::{ContainerObject, change::log_target};
use crate::grant::Access;
use crate::ops::Context;
use crate::ops::container::{
    Create, DetachKeys, Exec, ExecDetached, ExecOptions, Parted, Ran, Run, RunOptions, Seat, discard, exec_terminal,
    start_terminal,
};
use crate::script::api::process::ProcessObject;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Name, Ret};

const CREATE_SPEC: Spec = Spec {
    name: "create",
    on: On::Node,
    params: &[Param::new("id"), Param::of("image", Names::Image)],
    options: &CREATE,
    access: Access::Run,
    doc: "Makes a container from an image and returns it.\n\nIt needs `run` access; `host` only for what reaches the host: privileged, bind mounts, the host's namespaces and devices, strong capabilities, a folder or a spec of one's own.",
    examples: &[
        Example::gives(
            "let c = create(\"made\", \"busybox\", #{ memory: \"64MiB\", env: #{ TZ: \"UTC\" } }); let id = c.id; c.delete(); id",
            "\"made\"",
        ),
        Example::gives(
            "let c = create(\"made-2\", \"busybox\", #{ command: [\"sleep\", \"60\"] }); let args = c.spec.process.args; c.delete(); args",
            "[\"sleep\",\"60\"]",
        ),
    ],
};

fn create(call: &Call<'_>, id: String, image: Name, options: Options) -> Result<ContainerObject> {
    let made = call.run(Create::new(&id, &image.0, options::create(call, &image.0, &options)?))?;
    Ok(ContainerObject::new(made, call.ctx().place()))
}

pub(super) const NULL_IO: Opt = Opt::new(
    "null_io",
    "bool",
    "Whether the output of a detached one goes nowhere: `log_uri` of `null`. Default false.",
);
pub(super) const FIFO_DIR: Opt =
    Opt::new("fifo_dir", "string", "A folder for FIFOs, for a detached one to be attached to in place of a log.");

pub(super) const STDIO: Opt = Opt::new(
    "stdio",
    "string",
    "`inherit` gives it ctrsh's own input, output, error output and signals, until it ends. Default: what it writes is returned.",
);

const OF_RUN: [Opt; 12] = [
    Opt::new("id", "string", "The container's id. Default: one is made up."),
    Opt::new("detach", "bool", "Whether to return the container as soon as it was started. Default false."),
    Opt::new("rm", "bool", "Whether to remove it when it has ended. Default: when its id was made up."),
    Opt::new("log_uri", "string", "Where the output of a detached one goes. Default: a file that `logs` reads."),
    NULL_IO,
    FIFO_DIR,
    Opt::new("pid_file", "string", "A file to write the process's number to."),
    DETACH_KEYS,
    STDIO,
    Opt::new("stdin", "string", "What it reads. Default: nothing."),
    Opt::new("timeout", "duration", "When it is killed and removed; the error then has what it wrote. Default: never."),
    Opt::new("limit", "size", "How much of each output is kept. Default `16MiB`."),
];
const RUN_OPTIONS: [Opt; 73] = joined(&OF_RUN, &CREATE);

const RUN: Spec = Spec {
    name: "run",
    on: On::Node,
    params: &[Param::of("image", Names::Image)],
    options: &RUN_OPTIONS,
    access: Access::Run,
    doc: "Makes a container, starts it, and returns what it wrote and how it ended.\n\nWith `detach` it returns the container, which goes on running. With `tty` the terminal that ctrsh runs in is connected to it until it ends, or until the keys `detach_keys` are pressed: then it goes on running, and the container is returned. With `stdio` of `inherit` it has ctrsh's own input and outputs, byte by byte and however much that is, as far as no `log_uri` says where its output goes: what it returns has its `code` alone, and its task is deleted. The signals that ctrsh gets meanwhile are its own: `SIGINT`, `SIGTERM`, `SIGHUP`, `SIGQUIT`, `SIGUSR1`, `SIGUSR2`, `SIGALRM`; at the third Ctrl-C in a row, each within a second, it is killed. When nobody reads ctrsh's output any more it is killed, and the script ends. When a step fails nothing of the container is left. It needs `run` access; `host` only for what reaches the host, as for `create`.",
    examples: &[
        Example::gives("run(\"busybox\", #{ command: [\"echo\", \"hello\"] }).stdout", "\"hello\\n\""),
        Example::gives("run(\"busybox\", #{ command: [\"sh\", \"-c\", \"exit 3\"] }).code", "3"),
        Example::gives(
            "let c = run(\"busybox\", #{ id: \"runner\", detach: true, command: [\"sleep\", \"60\"] }); let status = c.status; c.delete(#{ force: true }); status",
            "\"running\"",
        ),
    ],
};

/// What a run gives a script.
struct ProcessOrContainer(Dynamic);

impl Ret for ProcessOrContainer {
    const TYPE: &'static str = "Process or Container";

    fn give(self) -> Dynamic {
        self.0
    }
}

fn run(call: &Call<'_>, image: Name, options: Options) -> Result<ProcessOrContainer> {
    let seat = call.session().sink().seat();
    let wanted = RunOptions {
        id: options.string("id")?,
        create: options::create(call, &image.0, &options)?,
        detach: options.flag("detach")?,
        rm: options.bool("rm")?,
        log: log_target(call.ctx(), &options)?,
        fifo_dir: folder(call, &options, "fifo_dir")?,
        pid_file: folder(call, &options, "pid_file")?,
        seated: seat.is_some(),
        inherit: inherits(&options)?,
        stdin: options.string("stdin")?.map(String::into_bytes),
        timeout: options.duration("timeout")?,
        limit: limit(&options)?,
    };
    let keys = detach_keys(&options)?;
    if wanted.inherit {
        alone(&options, wanted.detach || wanted.create.spec.tty)?;
    }
    if wanted.create.spec.tty && !wanted.detach && !call.ctx().is_dry_run() {
        return seated(call, seat, &image.0, wanted, &keys);
    }
    let Ran { container, finished, .. } = call.run(Run::new(&image.0, wanted))?;
    Ok(ProcessOrContainer(match finished {
        Some(finished) => Dynamic::from(ProcessObject(finished)),
        None => Dynamic::from(ContainerObject::new(container, call.ctx().place())),
    }))
}

/// Refuses what does not go with the program's own streams.
fn alone(options: &Options, other: bool) -> Result<()> {
    let captured = ["stdin", "timeout", "limit"].iter().any(|key| options.any(key).is_some());
    if other || captured {
        return Err(options.bad("stdio", "of inherit goes without detach, tty, stdin, timeout and limit"));
    }
    Ok(())
}

/// Runs a container with the user's terminal.
fn seated(
    call: &Call<'_>,
    seat: Option<&dyn Seat>,
    image: &str,
    wanted: RunOptions,
    keys: &DetachKeys,
) -> Result<ProcessOrContainer> {
    let Some(seat) = seat else {
        return Err(call.argument("option 'tty'", "needs someone at a terminal; give detach too, and attach later"));
    };
    let elsewhere = wanted.stdin.is_some() || wanted.log.is_some() || wanted.fifo_dir.is_some();
    if elsewhere || wanted.timeout.is_some() {
        return Err(call.argument("option 'tty'", "goes with no other input, output or timeout"));
    }
    if let Some(path) = &wanted.pid_file {
        call.ctx().check_path("writing it", path)?;
    }
    let size = seat.window()?;
    let rm = wanted.rm.unwrap_or(wanted.id.is_none());
    let id = wanted.id.unwrap_or_else(|| format!("run-{:016x}", rand::random::<u64>()));
    let container = call.run(Create::new(&id, image, wanted.create))?;
    let (ctx, pid_file) = (call.ctx(), wanted.pid_file);
    let started = async { start_terminal(ctx, &id, size, pid_file.as_deref()).await };
    let parted = call.wait(async { seat.sit(started.await?, keys).await });
    if rm && !matches!(parted, Ok(Parted::Left)) || parted.is_err() {
        let removing = ctx.with_cancel(tokio_util::sync::CancellationToken::new());
        let removed = call.session().wait(&removing, discard(&removing, &id));
        if parted.is_ok() {
            removed?;
        }
    }
    Ok(ProcessOrContainer(match parted? {
        Parted::Ended(code) => Dynamic::from(ProcessObject::seated(&id, code)),
        Parted::Left => Dynamic::from(ContainerObject::new(container, ctx.place())),
    }))
}

/// Reads a path.
fn folder(call: &Call<'_>, options: &Options, key: &'static str) -> Result<Option<PathBuf>> {
    Ok(options.string(key)?.map(|path| call.ctx().settings().working_dir.join(path)))
}

fn limit(options: &Options) -> Result<Option<usize>> {
    Ok(options.size("limit")?.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
}

const EXEC_OPTIONS: &[Opt] = &[
    Opt::new("detach", "bool", "Whether to return its `exec_id` as soon as it was started. Default false."),
    Opt::new("tty", "bool", "Whether it gets a terminal: this one, or with `detach` one to attach to. Default false."),
    Opt::new("log_uri", "string", "Where the output of a detached one goes. Default: nowhere."),
    FIFO_DIR,
    DETACH_KEYS,
    STDIO,
    Opt::new("exec_id", "string", "The id of the process. Default: one is made up."),
    Opt::new("cwd", "string", "The folder that it starts in. Default: the container's."),
    Opt::new("env", "map or array", "Environment over the container's; a value of `()`, or a name alone, unsets."),
    Opt::new(
        "user",
        "string",
        "Who it runs as, `name|uid[:group|gid]`; a group is then its only one. Default: the container's user.",
    ),
    Opt::new("stdin", "string", "What it reads. Default: nothing."),
    Opt::new("timeout", "duration", "When it is killed; the error then has what it wrote. Default: never."),
    Opt::new("limit", "size", "How much of each output is kept. Default `16MiB`."),
];

const EXEC: Spec = Spec {
    name: "exec",
    on: On::Node,
    params: &[Param::of("id", Names::Container), Param::new("args")],
    options: EXEC_OPTIONS,
    access: Access::Run,
    doc: "Runs a command in a running container and returns what it wrote and how it ended.\n\nA command that fails throws nothing: look at `code`. With `detach` it is started, and its `exec_id` is returned, which `wait`, `kill`, `attach` and `delete` take; it is there until it is deleted. With `tty` the terminal that ctrsh runs in is connected to it, until it ends or the keys `detach_keys` are pressed; then the result is its `exec_id` too. With `stdio` of `inherit` it has ctrsh's own input, outputs and signals, as with `run`. In a container that reaches its host it needs `host` access.",
    examples: &[
        Example::gives(
            "run(\"busybox\", #{ id: \"box\", detach: true, command: [\"sleep\", \"60\"] }); let done = exec(\"box\", [\"cat\"], #{ stdin: \"hi\" }); delete(\"box\", #{ force: true }); [done.code, done.stdout]",
            "[0,\"hi\"]",
        ),
        Example::gives(
            "run(\"busybox\", #{ id: \"box-3\", detach: true, command: [\"sleep\", \"60\"] }); exec(\"box-3\", [\"sh\", \"-c\", \"exit 5\"], #{ detach: true, exec_id: \"job\" }); let code = wait(\"box-3\", #{ exec_id: \"job\" }); delete(\"box-3\", #{ exec_id: \"job\" }); delete(\"box-3\", #{ force: true }); code >= 0",
            "true",
        ),
    ],
};

/// What an exec gives a script.
struct ProcessOrId(Dynamic);

impl Ret for ProcessOrId {
    const TYPE: &'static str = "Process or string";

    fn give(self) -> Dynamic {
        self.0
    }
}

fn execute(call: &Call<'_>, ctx: &Context, id: &str, args: Vec<String>, options: &Options) -> Result<ProcessOrId> {
    let wanted = ExecOptions {
        exec_id: options.string("exec_id")?,
        cwd: options.string("cwd")?,
        env: environment(options, "env")?,
        user: options.string("user")?,
        stdin: options.string("stdin")?.map(String::into_bytes),
        timeout: options.duration("timeout")?,
        limit: limit(options)?,
        log: log_target(ctx, options)?,
        fifo_dir: folder(call, options, "fifo_dir")?,
        tty: options.flag("tty")?,
        inherit: inherits(options)?,
    };
    let keys = detach_keys(options)?;
    let detach = options.flag("detach")?;
    if wanted.inherit {
        alone(options, detach || wanted.tty)?;
    }
    if detach {
        return Ok(ProcessOrId(call.run_in(ctx, ExecDetached::new(id, args, wanted))?.into()));
    }
    if !wanted.inherit && (wanted.log.is_some() || wanted.fifo_dir.is_some()) {
        let problem = "and 'fifo_dir' are for one that is detached; give detach too, or stdio of inherit";
        return Err(options.bad("log_uri", problem));
    }
    if !wanted.tty || ctx.is_dry_run() {
        return Ok(ProcessOrId(Dynamic::from(ProcessObject(call.run_in(ctx, Exec::new(id, args, wanted))?))));
    }
    let Some(seat) = call.session().sink().seat() else {
        return Err(options.bad("tty", "needs someone at a terminal; give detach too, and attach later"));
    };
    if wanted.stdin.is_some() || wanted.timeout.is_some() {
        return Err(options.bad("tty", "goes with no other input, and no timeout"));
    }
    let size = seat.window()?;
    let exec_id = wanted.exec_id.clone().unwrap_or_else(|| format!("exec-{:016x}", rand::random::<u64>()));
    let wanted = ExecOptions { exec_id: Some(exec_id.clone()), ..wanted };
    let sitting = async { seat.sit(exec_terminal(ctx, id, args, &wanted, size).await?, &keys).await };
    Ok(ProcessOrId(match call.session().wait(ctx, sitting)? {
        Parted::Ended(code) => Dynamic::from(ProcessObject::seated(id, code)),
        Parted::Left => exec_id.into(),
    }))
}

fn exec(call: &Call<'_>, id: Name, args: Vec<String>, options: Options) -> Result<ProcessOrId> {
    execute(call, call.ctx(), &id.0, args, &options)
}

const CONTAINER_EXEC: Spec = Spec {
    name: "exec",
    on: On::Method,
    params: &[Param::new("args")],
    options: EXEC_OPTIONS,
    access: Access::Run,
    doc: "Runs a command in the container and returns what it wrote and how it ended.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"box-2\", detach: true, command: [\"sleep\", \"60\"] }); let code = c.exec([\"sh\", \"-c\", \"exit 7\"]).code; c.delete(#{ force: true }); code",
        "7",
    )],
};

fn container_exec(
    call: &Call<'_>,
    container: ContainerObject,
    args: Vec<String>,
    options: Options,
) -> Result<ProcessOrId> {
    execute(call, &call.at(container.place()), container.id(), args, &options)
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&CREATE_SPEC, create);
    catalog.add(&RUN, run);
    catalog.add(&EXEC, exec);
    catalog.add(&CONTAINER_EXEC, container_exec);
}
