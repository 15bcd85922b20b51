//! What changes and removes containers.

use rhai::Map;

use super::ContainerObject;
use crate::containerd::io::LogTarget;
use crate::grant::Access;
use crate::ops::container::{Delete, Label};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::{self, Options};
use crate::script::value::NameList;

/// Reads where the output of a detached process goes.
pub(super) fn log_target(options: &Options) -> Result<Option<LogTarget>> {
    Ok(options.string("log_uri")?.map(|text| match text.as_str() {
        "null" => LogTarget::Null,
        text => LogTarget::parse(text),
    }))
}

const DELETE_OPTIONS: &[Opt] = &[
    Opt::new("force", "bool", "Whether one that runs is killed first. Default false."),
    Opt::new("keep_snapshot", "bool", "Whether its root filesystem stays. Default false."),
];

const DELETE: Spec = Spec {
    name: "delete",
    on: On::Node,
    params: &[Param::of("ids", Names::Container)],
    options: DELETE_OPTIONS,
    access: Access::Delete,
    doc: "Removes one or several containers with their ended tasks, root filesystems and logs, and returns how many.",
    examples: &[
        Example::gives("create(\"gone\", \"busybox\"); delete(\"gone\")", "1"),
        Example::gives(
            "create(\"gone-1\", \"busybox\"); create(\"gone-2\", \"busybox\"); delete([\"gone-1\", \"gone-2\"])",
            "2",
        ),
    ],
};

fn delete(call: &Call<'_>, ids: NameList, options: Options) -> Result<u64> {
    let (force, keep) = (options.flag("force")?, options.flag("keep_snapshot")?);
    for id in &ids.0 {
        call.run(Delete::new(id, force, keep))?;
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
    let delete = Delete::new(container.id(), options.flag("force")?, options.flag("keep_snapshot")?);
    call.run_in(&call.at(container.place()), delete)
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

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&DELETE, delete);
    catalog.add(&CONTAINER_DELETE, container_delete);
    catalog.add(&CONTAINER_LABEL, container_label);
}
