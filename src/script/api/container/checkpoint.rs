//! Writing containers down, and making them again.

use super::ContainerObject;
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops;
use crate::ops::Context;
use crate::ops::container::{Checkpoint, CheckpointOptions, Restore, RestoreOptions};
use crate::script::api::image::{ImageObject, SNAPSHOTTER};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::Name;

const CHECKPOINT_OPTIONS: &[Opt] = &[
    Opt::new("rw", "bool", "Whether the files that it changed go in. Default false."),
    Opt::new("image", "bool", "Whether its image goes in. Default false."),
    Opt::new("task", "bool", "Whether the state of its processes goes in. Default false."),
    Opt::new("exit", "bool", "Whether the container ends with that. Default false."),
    Opt::new(
        "image_path",
        "string",
        "A folder of the daemon's host that the state of its processes goes to, and nothing else.",
    ),
    Opt::new("work_path", "string", "A folder of the daemon's host for the log of CRIU."),
    Opt::new("force", "bool", "Whether a name that points elsewhere is pointed to it. Default false."),
];

const CHECKPOINT: Spec = Spec {
    name: "checkpoint",
    on: On::Node,
    params: &[Param::of("id", Names::Container), Param::of("name", Names::Image)],
    options: CHECKPOINT_OPTIONS,
    access: Access::Run,
    doc: "Writes a container down as an image that `restore` makes it of again, as `ctr containers checkpoint` does, and returns the image.\n\nIts spec and runtime are always in it; `rw` adds the files that it changed, `image` its image, without which `restore` needs that under its own name. A container that runs is paused meanwhile. Labels are not in it. Without a name it is `containerd.io/checkpoint/ID:TIME`. `save` and `load` carry it elsewhere; registries take it or not.\n\n`task` adds the state of its processes, and with `image_path` that alone goes to a folder, which needs `host` access, and the result is `()`: it is the runtime that takes it, by CRIU, which has to be installed and to fit the kernel (`criu check`). When it fails the container runs on, the runtime's words are in the error, and nothing is left.",
    examples: &[
        Example::gives(
            "run(\"busybox\", #{ id: \"kept\", detach: true, command: [\"sleep\", \"60\"] }); let i = checkpoint(\"kept\", \"example/kept:2\", #{ rw: true, image: true }); delete(\"kept\", #{ force: true }); i.name",
            "\"docker.io/example/kept:2\"",
        ),
        Example::gives(
            "run(\"busybox\", #{ id: \"frozen\", detach: true, command: [\"sleep\", \"60\"] }); let c = container(\"frozen\"); try { checkpoint(\"frozen\", #{ image_path: \"state\" }) } catch (e) { } let status = c.status; delete(\"frozen\", #{ force: true }); status",
            "\"running\"",
        ),
    ],
};

fn do_checkpoint(
    call: &Call<'_>,
    ctx: &Context,
    id: &str,
    name: Option<String>,
    options: &Options,
) -> Result<Option<ImageObject>> {
    let absolute = |path: String| ctx.settings().working_dir.join(path);
    let work_path = options.string("work_path")?.map(absolute);
    let settings = CheckpointOptions {
        rw: options.flag("rw")?,
        image: options.flag("image")?,
        task: options.flag("task")?,
        exit: options.flag("exit")?,
        work_path: work_path.clone(),
        force: options.flag("force")?,
    };
    if let Some(path) = options.string("image_path")? {
        if name.is_some() || settings.rw || settings.image || settings.force {
            return Err(options.bad(
                "image_path",
                "takes the processes' state alone; leave the image's name, rw, image and force out",
            ));
        }
        call.run_in(ctx, ops::task::Checkpoint::new(id, absolute(path), work_path, settings.exit))?;
        return Ok(None);
    }
    let time = || chrono::Utc::now().format("%Y%m%d-%H%M%S");
    let name = name.unwrap_or_else(|| format!("containerd.io/checkpoint/{id}:{}", time()));
    let name: Reference = name.parse().map_err(ops::Error::from)?;
    let image = call.run_in(ctx, Checkpoint::new(id, name, settings))?;
    Ok(Some(ImageObject::new(image, ctx.place())))
}

fn checkpoint(call: &Call<'_>, id: Name, name: Option<String>, options: Options) -> Result<Option<ImageObject>> {
    do_checkpoint(call, call.ctx(), &id.0, name, &options)
}

const CONTAINER_CHECKPOINT: Spec = Spec {
    name: "checkpoint",
    on: On::Method,
    params: &[Param::of("name", Names::Image)],
    options: CHECKPOINT_OPTIONS,
    access: Access::Run,
    doc: "Writes the container down as an image that `restore` makes it of again, and returns the image.\n\nThe function `checkpoint` says what is in it.",
    examples: &[Example::gives(
        "let c = create(\"kept-2\", \"busybox\"); let i = c.checkpoint(\"example/kept:3\"); c.delete(); i.name",
        "\"docker.io/example/kept:3\"",
    )],
};

fn container_checkpoint(
    call: &Call<'_>,
    container: ContainerObject,
    name: Option<String>,
    options: Options,
) -> Result<Option<ImageObject>> {
    container.touch();
    do_checkpoint(call, &call.at(container.place()), container.id(), name, &options)
}

const RESTORE: Spec = Spec {
    name: "restore",
    on: On::Node,
    params: &[Param::new("id"), Param::of("name", Names::Image)],
    options: &[
        Opt::new("rw", "bool", "Whether the files that the container had changed come back. Default false."),
        Opt::new("live", "bool", "Whether its processes go on where they were. Default false: it starts anew."),
        Opt::new("start", "bool", "Whether it is started. Default true, as ctr's."),
        SNAPSHOTTER,
    ],
    access: Access::Run,
    doc: "Makes a container of a checkpoint that `checkpoint` or ctr wrote, starts it, and returns it.\n\nThe container's image comes out of the checkpoint where it is in it, and gets its name if that is free. Its output goes to a log; that of one with a terminal waits for `attach`. A spec that reaches the host needs `host` access, as in `create`. A checkpoint of ctr made without `--task` has no spec, and ctr cannot restore it; here the container gets the one that `create` gives it, and a warning says so. `live` needs CRIU on the daemon's host. A network by `cni` does not come back.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"first\", rm: false, command: [\"sh\", \"-c\", \"echo kept > /kept\"] }); checkpoint(\"first\", \"example/first:1\", #{ rw: true }); delete(\"first\"); restore(\"second\", \"example/first:1\", #{ rw: true, start: false }); let id = container(\"second\").id; delete(\"second\"); id",
        "\"second\"",
    )],
};

fn restore(call: &Call<'_>, id: String, name: Name, options: Options) -> Result<ContainerObject> {
    let settings = RestoreOptions {
        rw: options.flag("rw")?,
        live: options.flag("live")?,
        start: options.bool("start")?.unwrap_or(true),
        snapshotter: options.string("snapshotter")?,
    };
    let restored = call.run(Restore::new(&id, &name.0, settings))?;
    Ok(ContainerObject::new(restored, call.ctx().place()))
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&CHECKPOINT, checkpoint);
    catalog.add(&CONTAINER_CHECKPOINT, container_checkpoint);
    catalog.add(&RESTORE, restore);
}
