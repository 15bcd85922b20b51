//! What changes and removes containers.

use rhai::Map;

use super::ContainerObject;
use crate::containerd::io::LogTarget;
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops::container::{Commit, CommitOptions, Delete, Label};
use crate::ops::{self, Context};
use crate::script::api::image::ImageObject;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::{self, Options};
use crate::script::value::NameList;

/// Reads where the output of a detached process goes. A file is named from the working folder on, as everywhere.
pub(super) fn log_target(ctx: &Context, options: &Options) -> Result<Option<LogTarget>> {
    let log = options.string("log_uri")?.map(|text| match text.as_str() {
        "null" => LogTarget::Null,
        text => LogTarget::parse(text),
    });
    let log = log.map(|log| match log {
        LogTarget::File(path) => LogTarget::File(ctx.settings().working_dir.join(path)),
        other => other,
    });
    if options.declares("null_io") && options.flag("null_io")? {
        if log.as_ref().is_some_and(|log| *log != LogTarget::Null) {
            return Err(options.bad("null_io", "and 'log_uri' cannot both be given"));
        }
        return Ok(Some(LogTarget::Null));
    }
    Ok(log)
}

const DELETE_OPTIONS: &[Opt] = &[
    Opt::new("force", "bool", "Whether one that runs is killed first. Default false."),
    Opt::new("keep_snapshot", "bool", "Whether its root filesystem stays. Default false."),
    Opt::new("task", "bool", "Whether only its task is removed, and the container stays. Default false."),
    Opt::new("exec_id", "string", "An executed process, which alone is removed."),
];

/// Removes a container, or with an option only what ran of it.
fn remove(call: &Call<'_>, ctx: &Context, id: &str, options: &Options) -> Result<()> {
    let (force, keep) = (options.flag("force")?, options.flag("keep_snapshot")?);
    let (task, exec_id) = (options.flag("task")?, options.string("exec_id")?);
    if task || exec_id.is_some() {
        if keep || (task && exec_id.is_some()) {
            return Err(options.bad("task", "and 'exec_id' remove only what ran, one of them"));
        }
        call.run_in(ctx, ops::task::Delete::new(id, &exec_id.unwrap_or_default(), force))?;
        return Ok(());
    }
    call.run_in(ctx, Delete::new(id, force, keep))
}

const DELETE: Spec = Spec {
    name: "delete",
    on: On::Node,
    params: &[Param::of("ids", Names::Container)],
    options: DELETE_OPTIONS,
    access: Access::Delete,
    doc: "Removes one or several containers with their ended tasks, root filesystems, logs and CNI networks, and returns how many.\n\nWith `task` only the ended tasks are removed, and with `exec_id` only that executed process.",
    examples: &[
        Example::gives("create(\"gone\", \"busybox\"); delete(\"gone\")", "1"),
        Example::gives(
            "create(\"gone-1\", \"busybox\"); create(\"gone-2\", \"busybox\"); delete([\"gone-1\", \"gone-2\"])",
            "2",
        ),
    ],
};

fn delete(call: &Call<'_>, ids: NameList, options: Options) -> Result<u64> {
    ops::ask(call.ctx(), "delete", "container", &ids.0).map_err(crate::script::error::Error::from)?;
    for id in &ids.0 {
        remove(call, call.ctx(), id, &options)?;
    }
    Ok(ids.0.len() as u64)
}

const CONTAINER_DELETE: Spec = Spec {
    name: "delete",
    on: On::Method,
    params: &[],
    options: DELETE_OPTIONS,
    access: Access::Delete,
    doc: "Removes the container with its ended task, root filesystem and log.",
    examples: &[Example::runs("create(\"gone-3\", \"busybox\").delete()")],
};

fn container_delete(call: &Call<'_>, container: ContainerObject, options: Options) -> Result<()> {
    container.touch();
    remove(call, &call.at(container.place()), container.id(), &options)
}

const CONTAINER_LABEL: Spec = Spec {
    name: "label",
    on: On::Method,
    params: &[Param::new("labels")],
    options: &[],
    access: Access::Run,
    doc: "Sets labels of the container and returns it. An empty value or `()` removes a label; those not named stay.\n\nIt needs `run` access; `host` for the labels that steer containerd's restart monitor.",
    examples: &[Example::gives(
        "let c = create(\"labelled\", \"busybox\").label(#{ app: \"shop\" }); let app = c.labels.app; c.delete(); app",
        "\"shop\"",
    )],
};

fn container_label(call: &Call<'_>, container: ContainerObject, labels: Map) -> Result<ContainerObject> {
    let labels = options::pairs_of(call, "labels", labels)?;
    let labelled = call.run_in(&call.at(container.place()), Label::new(container.id(), labels))?;
    Ok(ContainerObject::new(labelled, container.place()))
}

const COMMIT: Spec = Spec {
    name: "commit",
    on: On::Method,
    params: &[Param::of("name", Names::Image)],
    options: &[
        Opt::new("pause", "bool", "Whether a container that runs is paused while its files are packed. Default true."),
        Opt::new("author", "string", "Who made the image."),
        Opt::new("message", "string", "A remark for the image's history."),
        Opt::new("cmd", "string or array", "Its default arguments. Default: those of the container's image."),
        Opt::new("entrypoint", "string or array", "Its program. Default: that of the container's image."),
        Opt::new("force", "bool", "Whether a name that points elsewhere is pointed to it. Default false."),
    ],
    access: Access::Run,
    doc: "Makes an image of the container's image and what the container changed of its files, and returns it.\n\nThe changes are one layer more, unpacked already. What is mounted into the container is not in it, and the environment and user of a single run are not either. The image that the container was made from has to be here whole, under the name that the container has for it.",
    examples: &[
        Example::gives(
            "let c = create(\"grown\", \"busybox\"); let i = c.commit(\"example/grown:1\", #{ message: \"as it was\" }); c.delete(); i.name",
            "\"docker.io/example/grown:1\"",
        ),
        Example::gives(
            "let c = run(\"busybox\", #{ id: \"writer\", rm: false, command: [\"sh\", \"-c\", \"echo kept > /kept\"] }); container(\"writer\").commit(\"example/kept:1\"); delete(\"writer\"); run(\"example/kept:1\", #{ command: [\"cat\", \"/kept\"] }).stdout",
            "\"kept\\n\"",
        ),
    ],
};

fn commit(call: &Call<'_>, container: ContainerObject, name: String, options: Options) -> Result<ImageObject> {
    let name: Reference = name.parse().map_err(ops::Error::from)?;
    let settings = CommitOptions {
        pause: options.bool("pause")?.unwrap_or(true),
        author: options.string("author")?,
        message: options.string("message")?,
        cmd: options.strings("cmd")?,
        entrypoint: options.strings("entrypoint")?,
        force: options.flag("force")?,
    };
    let image = call.run_in(&call.at(container.place()), Commit::new(container.id(), name, settings))?;
    Ok(ImageObject::new(image, container.place()))
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&DELETE, delete);
    catalog.add(&CONTAINER_DELETE, container_delete);
    catalog.add(&CONTAINER_LABEL, container_label);
    catalog.add(&COMMIT, commit);
}
