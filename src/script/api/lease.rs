//! Leases: what keeps content and snapshots from being collected while nothing else refers to them.

use std::time::Duration;

use rhai::{Array, Dynamic, ImmutableString, Map};

use super::batch::closure_last;
use crate::containerd::images::Deletion;
use crate::containerd::leases::{Lease, Resource};
use crate::grant::Access;
use crate::oci::Digest;
use crate::ops::lease::{self, Terms};
use crate::ops::{self, Place};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::held;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::time::Time;
use crate::script::value::{Name, NameList};

/// A lease, with where it is.
#[derive(Clone)]
struct LeaseObject {
    lease: Lease,
    place: Place,
}

impl Object for LeaseObject {
    const TYPE: &'static str = "Lease";
    const DOC: &'static str = "What keeps content, ingests and snapshots of a namespace from being collected.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<LeaseObject>;
        const FIELDS: &[F] = &[
            F::column("id", "string", "What names it.", |l, _| Ok(l.lease.id.clone().into())),
            F::column("created", "Time", "When it was made.", |l, _| Ok(Dynamic::from(Time(l.lease.created_at))))
                .unit(Unit::Time),
            F::column("expires", "Time", "When the daemon may collect it; `()` for never.", |l, _| {
                Ok(l.lease.expires_at().map_or(Dynamic::UNIT, |end| Dynamic::from(Time(end))))
            }),
            F::column("labels", "map", "The labels, that of its end among them.", |l, _| {
                Ok(l.lease.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.lease.id.clone())
    }
}

/// Something that a lease keeps.
#[derive(Clone)]
struct ResourceObject(Resource);

impl Object for ResourceObject {
    const TYPE: &'static str = "LeaseResource";
    const DOC: &'static str = "Something that a lease keeps.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ResourceObject>;
        const FIELDS: &[F] = &[
            F::column("type", "string", "What it is: `content`, `ingests` or `snapshots/SNAPSHOTTER`.", |r, _| {
                Ok(r.0.kind().into())
            }),
            F::column("id", "string", "Its digest, the ingest's ref, or the snapshot's key.", |r, _| {
                Ok(r.0.id().into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.id())
    }
}

/// Reads a resource: a digest, a map with `type` and `id`, or an object that a lease can keep.
fn resource(call: &Call<'_>, value: Dynamic) -> Result<Resource> {
    let digest =
        |text: &str| text.parse::<Digest>().map(Resource::Content).map_err(|error| ops::Error::from(error).into());
    let wrong = |problem: &str| Err(call.argument("resource", problem));
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return digest(&text);
    }
    if let Some(resource) = value.read_lock::<ResourceObject>() {
        return Ok(resource.0.clone());
    }
    if let Some(map) = value.read_lock::<Map>() {
        let part = |key: &str| map.get(key).and_then(|part| part.clone().into_immutable_string().ok());
        return match (part("type"), part("id")) {
            (Some(kind), Some(id)) if map.len() == 2 => Ok(Resource::of(&kind, &id)),
            _ => wrong("must have a 'type' such as content or snapshots/overlayfs, an 'id', and nothing else"),
        };
    }
    let Some(object) = call.session().catalog().and_then(|catalog| catalog.object_of(&value)) else {
        return wrong("must be a digest, a map with 'type' and 'id', or an object such as a Blob");
    };
    let field = |name: &str| -> Result<Option<String>> {
        let Some(field) = object.field(name) else { return Ok(None) };
        Ok(field.get(&value, call.session())?.into_immutable_string().ok().map(|text| text.to_string()))
    };
    match object.name {
        "Blob" => digest(&object.name_of(&value).unwrap_or_default()),
        "Ingest" => Ok(Resource::Ingest(object.name_of(&value).unwrap_or_default())),
        "Snapshot" => match (field("snapshotter")?, field("key")?) {
            (Some(snapshotter), Some(key)) => Ok(Resource::Snapshot { snapshotter, key }),
            _ => wrong("is a Snapshot without a key"),
        },
        other => {
            Err(call.argument("resource", format!("cannot be a {other}: a lease keeps blobs, ingests and snapshots")))
        }
    }
}

fn resources_of(call: &Call<'_>, value: Dynamic) -> Result<Vec<Resource>> {
    let list = value.read_lock::<Array>().map(|array| array.clone());
    match list {
        Some(list) => list.into_iter().map(|item| resource(call, item)).collect(),
        None => Ok(vec![resource(call, value)?]),
    }
}

const LIST: Spec = Spec {
    name: "list",
    on: On::Module("leases"),
    params: &[Param::new("filter")],
    options: &[],
    access: Access::Read,
    doc: "Lists the leases of the namespace that match one of containerd's filters, such as `id==…` or `labels.\"k\"==v`; all without a filter. Sorted by id.",
    examples: &[
        Example::gives("leases::create(#{ id: \"kept\" }); leases::list().some(|l| l.id == \"kept\")", "true"),
        Example::gives("leases::list(\"id==nobody\").len()", "0"),
    ],
};

fn list(call: &Call<'_>, filter: Option<Vec<String>>) -> Result<Vec<LeaseObject>> {
    let leases = call.wait(lease::list(call.ctx(), &filter.unwrap_or_default()))?;
    let place = call.ctx().place();
    Ok(leases.into_iter().map(|lease| LeaseObject { lease, place: place.clone() }).collect())
}

const ID: Opt = Opt::new("id", "string", "What names the lease. Default: an id that no other has.");
const EXPIRES: Opt = Opt::new(
    "expires",
    "duration",
    "How long the lease lives when nobody deletes it, by the daemon's clock; `()` or 0 for ever. Default 24 h, as with ctr.",
);
const LABELS: Opt = Opt::new(
    "labels",
    "map",
    "Labels for the lease. With `containerd.io/gc.flat` it keeps what is in it, but not what that refers to.",
);
const WAIT: Opt = Opt::new(
    "wait",
    "bool",
    "Whether to wait until what only the lease kept is gone, as `--sync` of ctr does. Default false.",
);

fn terms(options: &Options) -> Result<Terms> {
    let expires = match options.duration("expires")? {
        None if options.given("expires") => None,
        None => Some(lease::LIFETIME),
        Some(Duration::ZERO) => None,
        some => some,
    };
    let labels = options.pairs("labels")?.unwrap_or_default();
    let labels = labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
    Ok(Terms { id: options.string("id")?, lifetime: expires, labels })
}

fn deletion(options: &Options) -> Result<Deletion> {
    Ok(if options.flag("wait")? { Deletion::Synchronous } else { Deletion::Later })
}

const CREATE: Spec = Spec {
    name: "create",
    on: On::Module("leases"),
    params: &[],
    options: &[ID, EXPIRES, LABELS],
    access: Access::Write,
    doc: "Makes a lease and returns it. What is put into it, by `add` or as `content::ingest` does, is kept as long as the lease lives.",
    examples: &[
        Example::gives(
            "leases::create(#{ id: \"mine\", expires: \"1h\", labels: #{ team: \"core\" } }).labels.team",
            "\"core\"",
        ),
        Example::gives("leases::create(#{ expires: () }).expires", "null"),
    ],
};

fn create(call: &Call<'_>, options: Options) -> Result<LeaseObject> {
    let lease = call.run(lease::Create::new(terms(&options)?))?;
    Ok(LeaseObject { lease, place: call.ctx().place().clone() })
}

const DELETE: Spec = Spec {
    name: "delete",
    on: On::Module("leases"),
    params: &[Param::new("leases")],
    options: &[WAIT],
    access: Access::Delete,
    doc: "Deletes one or several leases and returns how many. What only they kept is collected by the daemon, half-written blobs at once.\n\nEvery lease has to exist: a misspelt one among many deletes nothing. When one of several cannot be deleted the others are all the same, and then that is thrown.",
    examples: &[Example::gives(
        "let a = leases::create(); leases::create(#{ id: \"b\" }); leases::delete([a, \"b\"], #{ wait: true })",
        "2",
    )],
};

fn delete(call: &Call<'_>, leases: NameList, options: Options) -> Result<u64> {
    let deleted = call.run(lease::Delete::new(leases.0, deletion(&options)?))?;
    Ok(deleted.len() as u64)
}

const LEASE_DELETE: Spec = Spec {
    name: "delete",
    on: On::Method,
    params: &[],
    options: &[WAIT],
    access: Access::Delete,
    doc: "Deletes the lease. What only it kept is collected by the daemon, half-written blobs at once.",
    examples: &[Example::runs("leases::create().delete()")],
};

fn lease_delete(call: &Call<'_>, lease: LeaseObject, options: Options) -> Result<()> {
    call.run_in(&call.at(&lease.place), lease::Delete::new(vec![lease.lease.id], deletion(&options)?))?;
    Ok(())
}

const RESOURCES: Spec = Spec {
    name: "resources",
    on: On::Module("leases"),
    params: &[Param::new("lease")],
    options: &[],
    access: Access::Read,
    doc: "Lists what a lease keeps, sorted by type and id. What its content refers to by labels is kept too, and not listed.",
    examples: &[Example::gives(
        "leases::create(#{ id: \"r\" }); leases::add(\"r\", image(\"busybox\").digest); leases::resources(\"r\").map(|r| r.type)",
        "[\"content\"]",
    )],
};

fn resources(call: &Call<'_>, lease: Name) -> Result<Vec<ResourceObject>> {
    Ok(call.wait(lease::resources(call.ctx(), &lease.0))?.into_iter().map(ResourceObject).collect())
}

const LEASE_RESOURCES: Spec = Spec {
    name: "resources",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists what the lease keeps, sorted by type and id.",
    examples: &[Example::gives("leases::create().resources().len()", "0")],
};

fn lease_resources(call: &Call<'_>, lease: LeaseObject) -> Result<Vec<ResourceObject>> {
    let ctx = call.at(&lease.place);
    let listed = call.session().wait(&ctx, lease::resources(&ctx, &lease.lease.id))?;
    Ok(listed.into_iter().map(ResourceObject).collect())
}

const ADD: Spec = Spec {
    name: "add",
    on: On::Module("leases"),
    params: &[Param::new("lease"), Param::new("resource")],
    options: &[],
    access: Access::Write,
    doc: "Puts one or several resources into a lease, which then keeps them.\n\nA resource is a digest, a map with `type` and `id`, or an object: a `Blob`, an `Ingest`, a `Snapshot`, or what `resources` lists. Each has to exist.",
    examples: &[Example::gives(
        "let l = leases::create(); leases::add(l, image(\"busybox\").digest); l.resources()[0].id == image(\"busybox\").digest",
        "true",
    )],
};

fn add(call: &Call<'_>, lease: Name, resource: Dynamic) -> Result<()> {
    let resources = resources_of(call, resource)?;
    call.run(lease::Add::new(&lease.0, resources))
}

const LEASE_ADD: Spec = Spec {
    name: "add_resource",
    on: On::Method,
    params: &[Param::new("resource")],
    options: &[],
    access: Access::Write,
    doc: "Puts one or several resources into the lease, which then keeps them. What a resource is, `leases::add` says.",
    examples: &[Example::runs("leases::create().add_resource(#{ type: \"content\", id: image(\"busybox\").digest })")],
};

fn lease_add(call: &Call<'_>, lease: LeaseObject, resource: Dynamic) -> Result<()> {
    let resources = resources_of(call, resource)?;
    call.run_in(&call.at(&lease.place), lease::Add::new(&lease.lease.id, resources))
}

const REMOVE: Spec = Spec {
    name: "remove",
    on: On::Module("leases"),
    params: &[Param::new("lease"), Param::new("resource")],
    options: &[],
    access: Access::Write,
    doc: "Takes one or several resources out of a lease, which has to have them. What nothing else keeps is then collected by the daemon.",
    examples: &[Example::gives(
        "let l = leases::create(); let d = image(\"busybox\").digest; l.add_resource(d); leases::remove(l, d); l.resources().len()",
        "0",
    )],
};

fn remove(call: &Call<'_>, lease: Name, resource: Dynamic) -> Result<()> {
    let resources = resources_of(call, resource)?;
    call.run(lease::Remove::new(&lease.0, resources))
}

const LEASE_REMOVE: Spec = Spec {
    name: "remove_resource",
    on: On::Method,
    params: &[Param::new("resource")],
    options: &[],
    access: Access::Write,
    doc: "Takes one or several resources out of the lease, which has to have them.",
    examples: &[Example::runs(
        "let l = leases::create(); let d = image(\"busybox\").digest; l.add_resource(d); l.remove_resource(d)",
    )],
};

fn lease_remove(call: &Call<'_>, lease: LeaseObject, resource: Dynamic) -> Result<()> {
    let resources = resources_of(call, resource)?;
    call.run_in(&call.at(&lease.place), lease::Remove::new(&lease.lease.id, resources))
}

const WITH_LEASE: Spec = Spec {
    name: "with_lease",
    on: On::Node,
    params: &[Param::new("options"), Param::new("closure")],
    options: &[ID, EXPIRES, LABELS, WAIT],
    access: Access::Write,
    doc: "Calls a closure under a lease and returns its value: content and snapshots that it makes or finds present are kept until it ends.\n\nThe lease is deleted at the end, also when the closure throws or the script is stopped, and then what only it kept is gone too. When the process is killed the lease ends by itself, after `expires`. What is to stay needs a reference of its own by then: an image, a container, a lease. A lease is of its namespace: what the closure makes in another is not kept by it. Of two, one within the other, the inner one counts. The options stand before the closure and may be left out.",
    examples: &[
        Example::gives("with_lease(|| 6 * 7)", "42"),
        Example::gives(
            "with_lease(#{ expires: \"10m\" }, || pull(`${REGISTRY}/example/box:1`).name == `${REGISTRY}/example/box:1`)",
            "true",
        ),
    ],
};

fn with_lease(call: &Call<'_>, first: Dynamic, second: Option<Dynamic>) -> Result<Dynamic> {
    let (options, closure) = closure_last(call, first, second)?;
    let (terms, deletion) = (terms(&options)?, deletion(&options)?);
    let lease = call.run(lease::Hold::new(terms))?;
    let result = {
        let mut leases = held::current();
        leases.extend(lease.lease().map(|lease| (call.ctx().place_name(), lease.id.as_str().into())));
        let _held = held::enter(leases);
        call.closure(&closure, ())
    };
    let deletion = if result.is_err() { Deletion::Synchronous } else { deletion };
    let released = call.session().finish(call.ctx(), lease.release(deletion));
    result.and_then(|value| released.map(|()| value))
}

/// Registers the functions and objects.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<LeaseObject>();
    catalog.add_object::<ResourceObject>();
    catalog.add(&LIST, list);
    catalog.add(&CREATE, create);
    catalog.add(&DELETE, delete);
    catalog.add(&LEASE_DELETE, lease_delete);
    catalog.add(&RESOURCES, resources);
    catalog.add(&LEASE_RESOURCES, lease_resources);
    catalog.add(&ADD, add);
    catalog.add(&LEASE_ADD, lease_add);
    catalog.add(&REMOVE, remove);
    catalog.add(&LEASE_REMOVE, lease_remove);
    catalog.add(&WITH_LEASE, with_lease);
}
