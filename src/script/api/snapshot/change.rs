//! What makes, changes and removes snapshots.

use rhai::{Dynamic, Map};

use super::object::MountObject;
use super::{IN, MODULE, SnapshotObject, labels, parent};
use crate::grant::Access;
use crate::ops::snapshot::{Commit, Delete, Label, Mount, Prepare, PrepareOptions, View};
use crate::script::api::image::SNAPSHOTTER;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::{Options, pairs_of};
use crate::script::value::{Name, NameList};

const LABELS: Opt = Opt::new(
    "labels",
    "map",
    "Labels for it. `\"containerd.io/gc.root\": ()` leaves it to the daemon's collector unless something refers to it.",
);

const MAKE_OPTIONS: &[Opt] = &[
    LABELS,
    Opt::new(
        "target",
        "string",
        "The folder of this host to mount it on, made if it is not there. `unmount` unmounts it. Needs `host` access.",
    ),
    SNAPSHOTTER,
];

const MAKE_PARAMS: &[Param] = &[Param::new("key"), Param::new("parent")];

fn make(call: &Call<'_>, second: Option<Dynamic>, options: Options) -> Result<(Option<String>, PrepareOptions)> {
    let (second, options) = options.or_argument(second)?;
    let target = options.string("target")?.map(|path| call.ctx().settings().working_dir.join(path));
    let settings =
        PrepareOptions { labels: labels(&options, "labels")?, snapshotter: options.string("snapshotter")?, target };
    Ok((parent(call, second)?, settings))
}

const PREPARE: Spec = Spec {
    name: "prepare",
    on: MODULE,
    params: MAKE_PARAMS,
    options: MAKE_OPTIONS,
    access: Access::Write,
    doc: "Makes an active snapshot, which can be written, and returns how it is mounted: on a committed snapshot, on an image that is unpacked, or an empty one.\n\nIt stays until it is deleted by name, as with ctr; under a lease, until the lease ends.",
    examples: &[
        Example::gives(
            "snapshots::prepare(\"work\", image(\"busybox\")); let kind = snapshots::info(\"work\").kind; snapshots::delete(\"work\"); kind",
            "\"active\"",
        ),
        Example::gives(
            "snapshots::prepare(\"empty\", #{ labels: #{ team: \"core\" } }); let team = snapshots::info(\"empty\").labels.team; snapshots::delete(\"empty\"); team",
            "\"core\"",
        ),
    ],
};

fn prepare(call: &Call<'_>, key: Name, second: Option<Dynamic>, options: Options) -> Result<Vec<MountObject>> {
    let (parent, settings) = make(call, second, options)?;
    let mounts = call.run(Prepare::new(&key.0, parent, settings))?;
    Ok(mounts.into_iter().map(MountObject).collect())
}

const VIEW: Spec = Spec {
    name: "view",
    on: MODULE,
    params: MAKE_PARAMS,
    options: MAKE_OPTIONS,
    access: Access::Write,
    doc: "Makes a view of a committed snapshot or of an image that is unpacked, which can be read, and returns how it is mounted.\n\nIt stays until it is deleted by name; under a lease, until the lease ends. (ctr's may be collected at any time.)",
    examples: &[Example::gives(
        "snapshots::view(\"look\", image(\"busybox\")); let kind = snapshots::info(\"look\").kind; snapshots::delete(\"look\"); kind",
        "\"view\"",
    )],
};

fn view(call: &Call<'_>, key: Name, second: Option<Dynamic>, options: Options) -> Result<Vec<MountObject>> {
    let (parent, settings) = make(call, second, options)?;
    let mounts = call.run(View::new(&key.0, parent, settings))?;
    Ok(mounts.into_iter().map(MountObject).collect())
}

const MOUNT: Spec = Spec {
    name: "mount",
    on: MODULE,
    params: &[Param::new("key"), Param::of("path", Names::MountPoint)],
    options: IN,
    access: Access::Host,
    doc: "Mounts an active snapshot or a view on a folder of this host, which is made if it is not there, and returns the folder. `unmount` unmounts it and leaves the snapshot.\n\nctrsh has to run as root on the daemon's own host.",
    examples: &[Example::runs(
        "snapshots::prepare(\"disk\"); snapshots::mount(\"disk\", \"mnt\"); unmount(\"mnt\"); snapshots::delete(\"disk\")",
    )],
};

fn mount(call: &Call<'_>, key: Name, path: String, options: Options) -> Result<String> {
    let target = call.ctx().settings().working_dir.join(path);
    let mounted = call.run(Mount::new(&key.0, target, options.string("snapshotter")?))?;
    Ok(mounted.display().to_string())
}

const COMMIT_OPTIONS: &[Opt] = &[LABELS, SNAPSHOTTER];

const COMMIT: Spec = Spec {
    name: "commit",
    on: MODULE,
    params: &[Param::new("key"), Param::new("active_key")],
    options: COMMIT_OPTIONS,
    access: Access::Write,
    doc: "Makes an active snapshot a committed one of another key, on which others can stand, and returns it. The active one and its labels are gone.\n\nIt stays until it is deleted by name, as with ctr; under a lease, until the lease ends.",
    examples: &[Example::gives(
        "snapshots::prepare(\"draft\"); let made = snapshots::commit(\"done\", \"draft\"); snapshots::delete(\"done\"); made.kind",
        "\"committed\"",
    )],
};

fn commit(call: &Call<'_>, key: Name, active: Name, options: Options) -> Result<SnapshotObject> {
    let commit = Commit::new(&key.0, &active.0, labels(&options, "labels")?, options.string("snapshotter")?);
    Ok(SnapshotObject::new(call.run(commit)?, call.ctx().place()))
}

const SNAPSHOT_COMMIT: Spec = Spec {
    name: "commit",
    on: On::Method,
    params: &[Param::new("key")],
    options: &[LABELS],
    access: Access::Write,
    doc: "Makes the active snapshot a committed one of another key and returns that.",
    examples: &[Example::gives(
        "snapshots::prepare(\"draft-2\"); let made = snapshots::info(\"draft-2\").commit(\"done-2\"); made.delete(); made.key",
        "\"done-2\"",
    )],
};

fn snapshot_commit(call: &Call<'_>, active: SnapshotObject, key: Name, options: Options) -> Result<SnapshotObject> {
    let snapshotter = Some(active.snapshotter().to_owned());
    let commit = Commit::new(&key.0, active.key(), labels(&options, "labels")?, snapshotter);
    Ok(SnapshotObject::new(call.run_in(&call.at(active.place()), commit)?, active.place()))
}

const FORCE: Opt = Opt::new(
    "force",
    "bool",
    "Whether what is a container's root filesystem goes too, and leaves a container that cannot be started. Default false.",
);

const DELETE: Spec = Spec {
    name: "delete",
    on: MODULE,
    params: &[Param::new("keys")],
    options: &[FORCE, SNAPSHOTTER],
    access: Access::Delete,
    doc: "Removes one or several snapshots, those that stand on others first, and returns how many.\n\nEvery key has to exist, what stands on one has to be in the list, and none may be a container's root filesystem; else all that is wrong is told and nothing is deleted. A failure of the daemon does not keep the others from being deleted. The space is free when the daemon's collector has been there.",
    examples: &[
        Example::gives("snapshots::prepare(\"gone\"); snapshots::delete(\"gone\")", "1"),
        Example::gives(
            "snapshots::prepare(\"a\"); snapshots::commit(\"base\", \"a\"); snapshots::prepare(\"b\", \"base\"); snapshots::delete([\"base\", \"b\"])",
            "2",
        ),
    ],
};

fn delete(call: &Call<'_>, keys: NameList, options: Options) -> Result<u64> {
    call.run(Delete::new(keys.0, options.string("snapshotter")?, options.flag("force")?))
}

const SNAPSHOT_DELETE: Spec = Spec {
    name: "delete",
    on: On::Method,
    params: &[],
    options: &[FORCE],
    access: Access::Delete,
    doc: "Removes the snapshot.",
    examples: &[Example::runs("snapshots::prepare(\"gone-2\"); snapshots::info(\"gone-2\").delete()")],
};

fn snapshot_delete(call: &Call<'_>, snapshot: SnapshotObject, options: Options) -> Result<()> {
    let snapshotter = Some(snapshot.snapshotter().to_owned());
    let delete = Delete::new(vec![snapshot.key().to_owned()], snapshotter, options.flag("force")?);
    call.run_in(&call.at(snapshot.place()), delete).map(drop)
}

const LABEL: Spec = Spec {
    name: "label",
    on: MODULE,
    params: &[Param::new("key"), Param::new("labels")],
    options: IN,
    access: Access::Write,
    doc: "Sets labels of a snapshot and returns it. A value of `()` or `\"\"` removes a label; those not named stay.",
    examples: &[Example::gives(
        "snapshots::prepare(\"tagged\"); let s = snapshots::label(\"tagged\", #{ team: \"core\" }); s.delete(); s.labels.team",
        "\"core\"",
    )],
};

fn label(call: &Call<'_>, key: Name, given: Map, options: Options) -> Result<SnapshotObject> {
    let label = Label::new(&key.0, pairs_of(call, "labels", given)?, options.string("snapshotter")?);
    Ok(SnapshotObject::new(call.run(label)?, call.ctx().place()))
}

const SNAPSHOT_LABEL: Spec = Spec {
    name: "label",
    on: On::Method,
    params: &[Param::new("labels")],
    options: &[],
    access: Access::Write,
    doc: "Sets labels of the snapshot and returns it. A value of `()` or `\"\"` removes a label; those not named stay.",
    examples: &[Example::gives(
        "snapshots::prepare(\"tagged-2\"); let s = snapshots::info(\"tagged-2\").label(#{ team: \"core\" }); s.delete(); s.labels.team",
        "\"core\"",
    )],
};

fn snapshot_label(call: &Call<'_>, snapshot: SnapshotObject, given: Map) -> Result<SnapshotObject> {
    let snapshotter = Some(snapshot.snapshotter().to_owned());
    let label = Label::new(snapshot.key(), pairs_of(call, "labels", given)?, snapshotter);
    Ok(SnapshotObject::new(call.run_in(&call.at(snapshot.place()), label)?, snapshot.place()))
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&PREPARE, prepare);
    catalog.add(&VIEW, view);
    catalog.add(&MOUNT, mount);
    catalog.add(&COMMIT, commit);
    catalog.add(&SNAPSHOT_COMMIT, snapshot_commit);
    catalog.add(&DELETE, delete);
    catalog.add(&SNAPSHOT_DELETE, snapshot_delete);
    catalog.add(&LABEL, label);
    catalog.add(&SNAPSHOT_LABEL, snapshot_label);
}
