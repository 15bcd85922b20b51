//! What can be asked of snapshots.

use std::borrow::Cow;
use std::sync::Arc;

use rhai::Dynamic;

use super::object::{MountObject, TreeObject, UsageObject};
use super::{IN, MODULE, SnapshotObject, snapshotter};
use crate::grant::Access;
use crate::ops::{self, snapshot};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Arg, Name, NameList, Slot};

const LIST: Spec = Spec {
    name: "list",
    on: MODULE,
    params: &[Param::new("filter")],
    options: IN,
    access: Access::Read,
    doc: "Lists the snapshots of a snapshotter, sorted by key, all or those that match a filter or any of several.\n\nThe filter is containerd's own: `kind==active`, `parent==KEY`, `name~=PATTERN`, `labels.\"k\"==v`.",
    examples: &[
        Example::gives("snapshots::list(\"kind==committed\").len() > 0", "true"),
        Example::runs("for s in snapshots::list() { print(`${s.key} has ${s.size} bytes`) }"),
    ],
};

fn list(call: &Call<'_>, filter: Option<Dynamic>, options: Options) -> Result<Vec<SnapshotObject>> {
    let (filter, options) = options.or_argument(filter)?;
    let filters = <Option<Vec<String>> as Arg>::take(filter, Slot { call, name: "filter" })?.unwrap_or_default();
    let found = call.wait(snapshot::list(call.ctx(), &snapshotter(call, &options)?, &filters))?;
    Ok(SnapshotObject::list(found, call.ctx().place()))
}

const INFO: Spec = Spec {
    name: "info",
    on: MODULE,
    params: &[Param::new("key")],
    options: IN,
    access: Access::Read,
    doc: "Returns a snapshot by its key.",
    examples: &[Example::gives("snapshots::info(image(\"busybox\").chain_id()).kind", "\"committed\"")],
};

fn info(call: &Call<'_>, key: Name, options: Options) -> Result<SnapshotObject> {
    let found = call.wait(snapshot::get(call.ctx(), &snapshotter(call, &options)?, &key.0))?;
    Ok(SnapshotObject::new(found, call.ctx().place()))
}

const TREE: Spec = Spec {
    name: "tree",
    on: MODULE,
    params: &[],
    options: IN,
    access: Access::Read,
    doc: "Returns which snapshot stands on which, from one request however many there are.\n\n`print` and the prompt draw it as a tree; its `rows` and its JSON are a list with a depth each.",
    examples: &[Example::gives("snapshots::tree().rows[0].depth", "0"), Example::runs("print(snapshots::tree())")],
};

fn tree(call: &Call<'_>, options: Options) -> Result<TreeObject> {
    let snapshotter = snapshotter(call, &options)?;
    let rows = call.wait(snapshot::tree(call.ctx(), &snapshotter))?;
    Ok(TreeObject { snapshotter, rows: Arc::new(rows) })
}

const USAGE: Spec = Spec {
    name: "usage",
    on: MODULE,
    params: &[Param::new("keys")],
    options: IN,
    access: Access::Read,
    doc: "Returns the disk that snapshots take, each by itself without what it stands on: of one key, of several, or of all.\n\nSeveral are measured at the same time. Measuring an active snapshot can take the daemon a while, as it looks at each file.",
    examples: &[
        Example::gives("snapshots::usage(image(\"busybox\").chain_id())[0].inodes > 0", "true"),
        Example::runs("print(table(snapshots::usage()))"),
    ],
};

fn usage(call: &Call<'_>, keys: Option<Dynamic>, options: Options) -> Result<Vec<UsageObject>> {
    let (keys, options) = options.or_argument(keys)?;
    let keys = <Option<NameList> as Arg>::take(keys, Slot { call, name: "keys" })?.map(|keys| keys.0);
    let measured = call.wait(snapshot::usage(call.ctx(), &snapshotter(call, &options)?, keys))?;
    Ok(measured.into_iter().map(|(key, usage)| UsageObject(key, usage)).collect())
}

const MOUNTS: Spec = Spec {
    name: "mounts",
    on: MODULE,
    params: &[Param::new("key")],
    options: IN,
    access: Access::Read,
    doc: "Returns how an active snapshot or a view is mounted on the daemon's host, mostly in one step; `command` of each writes that step for a shell.",
    examples: &[Example::runs(
        "snapshots::prepare(\"seen\"); for m in snapshots::mounts(\"seen\") { print(m.command(\"/mnt\")) } snapshots::delete(\"seen\")",
    )],
};

fn mounts(call: &Call<'_>, key: Name, options: Options) -> Result<Vec<MountObject>> {
    let mounts = call.wait(snapshot::mounts(call.ctx(), &snapshotter(call, &options)?, &key.0))?;
    Ok(mounts.into_iter().map(MountObject).collect())
}

const COMMAND: Spec = Spec {
    name: "command",
    on: On::Method,
    params: &[Param::new("target")],
    options: &[],
    access: Access::Read,
    doc: "Writes the mount on a folder as a command for a shell, as `ctr snapshots mounts` does.",
    examples: &[Example::gives(
        "let m = snapshots::prepare(\"shown\"); let all = m.map(|m| m.command(\"/mnt\").starts_with(\"mount -t \")); snapshots::delete(\"shown\"); all.all(|ok| ok)",
        "true",
    )],
};

fn command(_call: &Call<'_>, mount: MountObject, target: String) -> Result<String> {
    let mount = mount.0;
    let at = match mount.target.as_str() {
        // Joined to nothing, a path would end in a slash.
        "" => target,
        below => std::path::Path::new(&target).join(below).display().to_string(),
    };
    let mut words = vec!["mount".to_owned(), "-t".into(), mount.kind, mount.source, at];
    if !mount.options.is_empty() {
        words.extend(["-o".to_owned(), mount.options.join(",")]);
    }
    Ok(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// Quotes what a shell would not take as it is, and nothing else: `$(…)` takes no quotes away.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    // Only a zero byte cannot be quoted, and no path has one.
    shlex::try_quote(word).unwrap_or_else(|_| word.into())
}

const SNAPSHOT_USAGE: Spec = Spec {
    name: "usage",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Measures the disk that the snapshot takes by itself, anew at each call.",
    examples: &[Example::gives("snapshots::info(image(\"busybox\").chain_id()).usage().size > 0", "true")],
};

fn snapshot_usage(call: &Call<'_>, of: SnapshotObject) -> Result<UsageObject> {
    let ctx = call.at(of.place());
    let measured = call.wait(snapshot::usage(&ctx, of.snapshotter(), Some(vec![of.key().to_owned()])))?;
    let usage = measured.into_iter().next().map(|(_, usage)| usage).unwrap_or_default();
    Ok(UsageObject(of.key().to_owned(), usage))
}

const SNAPSHOT_MOUNTS: Spec = Spec {
    name: "mounts",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Returns how the snapshot, which is active or a view, is mounted on the daemon's host.",
    examples: &[Example::runs(
        "snapshots::prepare(\"mine\"); snapshots::info(\"mine\").mounts(); snapshots::delete(\"mine\")",
    )],
};

fn snapshot_mounts(call: &Call<'_>, of: SnapshotObject) -> Result<Vec<MountObject>> {
    let ctx = call.at(of.place());
    let mounts = call.wait(snapshot::mounts(&ctx, of.snapshotter(), of.key()))?;
    Ok(mounts.into_iter().map(MountObject).collect())
}

const CHILDREN: Spec = Spec {
    name: "children",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists the snapshots that stand on this one.",
    examples: &[Example::gives(
        "let base = snapshots::info(image(\"busybox\").chain_id()); snapshots::view(\"above\", base); let keys = base.children().map(|s| s.key); snapshots::delete(\"above\"); keys",
        "[\"above\"]",
    )],
};

fn children(call: &Call<'_>, of: SnapshotObject) -> Result<Vec<SnapshotObject>> {
    let ctx = call.at(of.place());
    let found = call.wait(ops::snapshot::children(&ctx, of.snapshotter(), of.key()))?;
    Ok(SnapshotObject::list(found, of.place()))
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&LIST, list);
    catalog.add(&INFO, info);
    catalog.add(&TREE, tree);
    catalog.add(&USAGE, usage);
    catalog.add(&MOUNTS, mounts);
    catalog.add(&COMMAND, command);
    catalog.add(&SNAPSHOT_USAGE, snapshot_usage);
    catalog.add(&SNAPSHOT_MOUNTS, snapshot_mounts);
    catalog.add(&CHILDREN, children);
}
