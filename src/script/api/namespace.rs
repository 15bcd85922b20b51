//! Namespaces.

use rhai::{Array, Dynamic, Map};

use crate::containerd::namespaces::Namespace;
use crate::grant::Access;
use crate::ops;
use crate::ops::namespace::Purged;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::{Options, pairs_of};
use crate::script::value::Name;

/// A namespace.
#[derive(Clone)]
struct NamespaceObject(Namespace);

impl Object for NamespaceObject {
    const TYPE: &'static str = "Namespace";
    const DOC: &'static str = "A namespace of a daemon; `k8s.io` is the kubelet's, `moby` Docker's.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<NamespaceObject>;
        const FIELDS: &[F] = &[
            F::column("name", "string", "The name.", |n, _| Ok(n.0.name.clone().into())),
            F::column("labels", "map", "The labels.", |n, _| {
                Ok(n.0.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.name.clone())
    }
}

const NAMESPACES: Spec = Spec {
    name: "namespaces",
    on: On::Node,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists the namespaces of the daemon, sorted by name.",
    examples: &[Example::gives("namespaces().some(|n| n.name == namespace().name)", "true")],
};

fn namespaces(call: &Call<'_>) -> Result<Vec<NamespaceObject>> {
    Ok(call.wait(ops::namespace::list(call.ctx()))?.into_iter().map(NamespaceObject).collect())
}

const NAMESPACE: Spec = Spec {
    name: "namespace",
    on: On::Free,
    params: &[Param::of("name", Names::Namespace)],
    options: &[],
    access: Access::Read,
    doc: "Returns the current namespace; with a name, makes that the current one for all calls that follow.\n\nA namespace need not exist: it comes to be with the first thing in it.",
    examples: &[
        Example::gives("namespace(\"k8s.io\"); namespace().name", "\"k8s.io\""),
        Example::runs("for n in namespaces() { namespace(n.name); print(`${n.name}: ${images().len()} images`) }"),
    ],
};

fn namespace(call: &Call<'_>, name: Option<Name>) -> Result<NamespaceObject> {
    let Some(Name(name)) = name else {
        let current = call.ctx().namespace().to_owned();
        let known = call.wait(ops::namespace::get(call.ctx(), &current));
        return Ok(NamespaceObject(known.unwrap_or(Namespace { name: current, labels: Default::default() })));
    };
    crate::containerd::identifier::check("namespace", &name).map_err(ops::Error::from)?;
    call.session().set_context(call.session().context().in_namespace(&name));
    Ok(NamespaceObject(Namespace { name, labels: Default::default() }))
}

const CREATE: Spec = Spec {
    name: "create",
    on: On::Module("namespaces"),
    params: &[Param::new("name"), Param::new("labels")],
    options: &[],
    access: Access::Write,
    doc: "Makes a namespace, with labels or without.\n\nThe labels `containerd.io/defaults/snapshotter` and `containerd.io/defaults/runtime` set its defaults.",
    examples: &[Example::gives(
        "namespaces::create(\"example-made\", #{ team: \"core\" }).name; namespaces::delete(\"example-made\"); 1",
        "1",
    )],
};

fn create(call: &Call<'_>, name: String, labels: Option<Map>) -> Result<NamespaceObject> {
    let labels = pairs_of(call, "labels", labels.unwrap_or_default())?;
    call.run(ops::namespace::Create::new(&name, labels)).map(NamespaceObject)
}

const LABEL: Spec = Spec {
    name: "label",
    on: On::Method,
    params: &[Param::new("labels")],
    options: &[],
    access: Access::Write,
    doc: "Sets labels of the namespace and returns it. A value of `()` or `\"\"` removes a label; those not named stay.",
    examples: &[Example::gives("namespace().label(#{ team: \"core\" }).labels.team", "\"core\"")],
};

fn label(call: &Call<'_>, namespace: NamespaceObject, labels: Map) -> Result<NamespaceObject> {
    let labels = pairs_of(call, "labels", labels)?;
    call.run(ops::namespace::Label::new(&namespace.0.name, labels)).map(NamespaceObject)
}

const CGROUP: Opt = Opt::new(
    "cgroup",
    "bool",
    "Whether the cgroup of this host goes too that runc made for the containers of the namespace; there must be nothing in it. Needs `host` access. Default false.",
);

const DELETE: Spec = Spec {
    name: "delete",
    on: On::Module("namespaces"),
    params: &[Param::of("name", Names::Namespace)],
    options: &[CGROUP],
    access: Access::Delete,
    doc: "Removes a namespace that has no images and no containers.",
    examples: &[
        Example::runs("namespaces::create(\"example-gone\"); namespaces::delete(\"example-gone\")"),
        Example::runs("namespaces::create(\"example-gone\"); namespaces::delete(\"example-gone\", #{ cgroup: true })"),
    ],
};

fn delete(call: &Call<'_>, name: Name, options: Options) -> Result<()> {
    call.run(ops::namespace::Delete::new(&name.0, options.flag("cgroup")?))
}

/// What went with a namespace.
#[derive(Clone)]
struct PurgedObject(Purged);

fn names(names: &[String]) -> Dynamic {
    names.iter().cloned().map(Dynamic::from).collect::<Array>().into()
}

fn count(count: u64) -> Dynamic {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

impl Object for PurgedObject {
    const TYPE: &'static str = "Purged";
    const DOC: &'static str = "What went with a namespace; in a plan and in a dry run, what would.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<PurgedObject>;
        const FIELDS: &[F] = &[
            F::column("namespace", "string", "The namespace.", |p, _| Ok(p.0.namespace.clone().into())),
            F::column("containers", "array", "The ids of its containers.", |p, _| Ok(names(&p.0.containers))),
            F::field("sandboxes", "array", "The ids of its sandboxes.", |p, _| Ok(names(&p.0.sandboxes))),
            F::column("images", "array", "The names of its images.", |p, _| Ok(names(&p.0.images))),
            F::field("ingests", "array", "The refs of what was being written.", |p, _| Ok(names(&p.0.ingests))),
            F::field("leases", "array", "The ids of its leases.", |p, _| Ok(names(&p.0.leases))),
            F::column("snapshots", "int", "How many snapshots it had.", |p, _| Ok(count(p.0.snapshots))),
            F::column("blobs", "int", "How many blobs it had.", |p, _| Ok(count(p.0.blobs))),
            F::column("freed", "int", "The bytes that no other namespace holds.", |p, _| Ok(count(p.0.freed.total())))
                .unit(Unit::Bytes),
            F::field("freed_content", "int", "Those of them in the content store.", |p, _| {
                Ok(count(p.0.freed.content))
            })
            .unit(Unit::Bytes),
            F::field("freed_snapshots", "int", "Those of them in snapshots.", |p, _| Ok(count(p.0.freed.snapshots)))
                .unit(Unit::Bytes),
        ];
        FIELDS
    }
}

const PURGE_OPTIONS: [Opt; 3] = [
    Opt::new(
        "force",
        "bool",
        "Whether containers that run are killed; without it they keep the namespace. Default false.",
    ),
    Opt::new(
        "plan",
        "bool",
        "Whether nothing is removed, and the result is what would go, whatever runs. Default false.",
    ),
    CGROUP,
];

const PURGE: Spec = Spec {
    name: "purge",
    on: On::Module("namespaces"),
    params: &[Param::of("name", Names::Namespace)],
    options: &PURGE_OPTIONS,
    access: Access::Delete,
    doc: "Removes a namespace with all that is in it: containers with their tasks, networks and snapshots, sandboxes, images, content that is being written, snapshots of all snapshotters, content, and leases; then waits until the daemon's collector has freed the space.\n\n\
        What other namespaces hold too stays theirs. What was made in the namespace after the call had looked keeps it, with an error; the call can be made again, as after any interruption. A kubelet that runs makes anew what `k8s.io` loses.",
    examples: &[
        Example::gives(
            "namespaces::create(\"example-full\"); namespaces::purge(\"example-full\", #{ force: true }).images",
            "[]",
        ),
        Example::runs(
            "let plan = namespaces::purge(namespace().name, #{ plan: true }); print(`${plan.images.len()} images, ${show_size(plan.freed)}`)",
        ),
    ],
};

fn purge(call: &Call<'_>, name: Name, options: Options) -> Result<PurgedObject> {
    let purge = ops::namespace::Purge::new(&name.0, options.flag("force")?, options.flag("cgroup")?);
    let purged = match options.flag("plan")? {
        true => call.wait(purge.preview(call.ctx()))?,
        false => call.run(purge)?,
    };
    Ok(PurgedObject(purged))
}

const METHOD_DELETE: Spec = Spec {
    name: "delete",
    on: On::Method,
    params: &[],
    options: &[CGROUP],
    access: Access::Delete,
    doc: "Removes the namespace, which must have no images and no containers.",
    examples: &[Example::runs("namespaces::create(\"example-gone\").delete()")],
};

fn method_delete(call: &Call<'_>, namespace: NamespaceObject, options: Options) -> Result<()> {
    delete(call, Name(namespace.0.name), options)
}

const METHOD_PURGE: Spec = Spec {
    name: "purge",
    on: On::Method,
    params: &[],
    options: &PURGE_OPTIONS,
    access: Access::Delete,
    doc: "Removes the namespace with all that is in it, as `namespaces::purge` does.",
    examples: &[Example::gives("namespaces::create(\"example-full\").purge().images", "[]")],
};

fn method_purge(call: &Call<'_>, namespace: NamespaceObject, options: Options) -> Result<PurgedObject> {
    purge(call, Name(namespace.0.name), options)
}

/// Registers the functions and objects of namespaces.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<NamespaceObject>();
    catalog.add(&NAMESPACES, namespaces);
    catalog.add(&NAMESPACE, namespace);
    catalog.add(&CREATE, create);
    catalog.add(&LABEL, label);
    catalog.add(&DELETE, delete);
    catalog.add_object::<PurgedObject>();
    catalog.add(&PURGE, purge);
    catalog.add(&METHOD_DELETE, method_delete);
    catalog.add(&METHOD_PURGE, method_purge);
}
