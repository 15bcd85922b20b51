//! What makes containers, and runs commands in them.

use rhai::Dynamic;

use super::options::{self, CREATE, environment, joined};
use super::{ContainerObject, change::log_target};
use crate::grant::Access;
use crate::ops::Context;
use crate::ops::container::{Create, Exec, ExecOptions, Ran, Run, RunOptions};
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

const OF_RUN: [Opt; 7] = [
    Opt::new("id", "string", "The container's id. Default: one is made up."),
    Opt::new("detach", "bool", "Whether to return the container as soon as it was started. Default false."),
    Opt::new("rm", "bool", "Whether to remove it when it has ended. Default: when its id was made up."),
    Opt::new("log_uri", "string", "Where the output of a detached one goes. Default: a file that `logs` reads."),
    Opt::new("stdin", "string", "What it reads. Default: nothing."),
    Opt::new("timeout", "duration", "When it is killed and removed. Default: never."),
    Opt::new("limit", "size", "How much of each output is kept. Default `16MiB`."),
];
const RUN_OPTIONS: [Opt; 49] = joined(&OF_RUN, &CREATE);

const RUN: Spec = Spec {
    name: "run",
    on: On::Node,
    params: &[Param::of("image", Names::Image)],
    options: &RUN_OPTIONS,
    access: Access::Run,
    doc: "Makes a container, starts it, and returns what it wrote and how it ended.\n\nWith `detach` it returns the container, which goes on running. When a step fails nothing of the container is left. It needs `run` access; `host` only for what reaches the host, as for `create`.",
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
    let wanted = RunOptions {
        id: options.string("id")?,
        create: options::create(call, &image.0, &options)?,
        detach: options.flag("detach")?,
        rm: options.bool("rm")?,
        log: log_target(&options)?,
        stdin: options.string("stdin")?.map(String::into_bytes),
        timeout: options.duration("timeout")?,
        limit: limit(&options)?,
    };
    let Ran { container, finished, .. } = call.run(Run::new(&image.0, wanted))?;
    Ok(ProcessOrContainer(match finished {
        Some(finished) => Dynamic::from(ProcessObject(finished)),
        None => Dynamic::from(ContainerObject::new(container, call.ctx().place())),
    }))
}

fn limit(options: &Options) -> Result<Option<usize>> {
    Ok(options.size("limit")?.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
}

const EXEC_OPTIONS: &[Opt] = &[
    Opt::new("exec_id", "string", "The id of the process. Default: one is made up."),
    Opt::new("cwd", "string", "The folder that it starts in. Default: the container's."),
    Opt::new("env", "map or array", "Environment over the container's; a value of `()`, or a name alone, unsets."),
    Opt::new("user", "string", "Who it runs as, `name|uid[:group|gid]`. Default: the container's user."),
    Opt::new("stdin", "string", "What it reads. Default: nothing."),
    Opt::new("timeout", "duration", "When it is killed. Default: never."),
    Opt::new("limit", "size", "How much of each output is kept. Default `16MiB`."),
];

const EXEC: Spec = Spec {
    name: "exec",
    on: On::Node,
    params: &[Param::of("id", Names::Container), Param::new("args")],
    options: EXEC_OPTIONS,
    access: Access::Run,
    doc: "Runs a command in a running container and returns what it wrote and how it ended.\n\nA command that fails throws nothing: look at `code`. In a container that reaches its host it needs `host` access.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"box\", detach: true, command: [\"sleep\", \"60\"] }); let done = exec(\"box\", [\"cat\"], #{ stdin: \"hi\" }); delete(\"box\", #{ force: true }); [done.code, done.stdout]",
        "[0,\"hi\"]",
    )],
};

fn execute(call: &Call<'_>, ctx: &Context, id: &str, args: Vec<String>, options: &Options) -> Result<ProcessObject> {
    let wanted = ExecOptions {
        exec_id: options.string("exec_id")?,
        cwd: options.string("cwd")?,
        env: environment(options, "env")?,
        user: options.string("user")?,
        stdin: options.string("stdin")?.map(String::into_bytes),
        timeout: options.duration("timeout")?,
        limit: limit(options)?,
    };
    Ok(ProcessObject(call.run_in(ctx, Exec::new(id, args, wanted))?))
}

fn exec(call: &Call<'_>, id: Name, args: Vec<String>, options: Options) -> Result<ProcessObject> {
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
) -> Result<ProcessObject> {
    execute(call, &call.at(container.place()), container.id(), args, &options)
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&CREATE_SPEC, create);
    catalog.add(&RUN, run);
    catalog.add(&EXEC, exec);
    catalog.add(&CONTAINER_EXEC, container_exec);
}
