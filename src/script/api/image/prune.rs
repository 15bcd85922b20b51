//! `prune`, and what it returns.

use rhai::{Array, Dynamic, FnPtr, Map};

use super::ImageObject;
use crate::containerd::images::Image;
use crate::grant::Access;
use crate::ops;
use crate::ops::image::{Prune, Pruned};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::value::{Arg, Slot, shown_type};

/// What became of images that were to be pruned.
#[derive(Clone)]
struct PrunedObject(Pruned);

fn bytes(count: u64) -> Dynamic {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

impl Object for PrunedObject {
    const TYPE: &'static str = "Pruned";
    const DOC: &'static str = "What became of the images that were to be pruned.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<PrunedObject>;
        const FIELDS: &[F] = &[
            F::column("removed", "array", "The names that went.", |p, _| {
                Ok(p.0.removed.iter().map(|name| Dynamic::from(name.clone())).collect::<Array>().into())
            }),
            F::column("kept", "array", "The names that were chosen and stay: maps of `name` and `reason`.", |p, _| {
                let kept = p.0.kept.iter().map(|(name, reason)| {
                    let entry = [("name", name), ("reason", reason)].map(|(key, text)| (key.into(), text.into()));
                    Dynamic::from(Map::from_iter(entry))
                });
                Ok(kept.collect::<Array>().into())
            }),
            F::column("expected", "int", "The bytes that nothing but the removed images referred to.", |p, _| {
                Ok(bytes(p.0.expected.total()))
            })
            .unit(Unit::Bytes),
            F::column(
                "freed",
                "int",
                "The bytes that are gone from the daemon's disk, measured; in a plan and in a dry run, those expected.",
                |p, _| Ok(bytes(p.0.freed.total())),
            )
            .unit(Unit::Bytes),
            F::field("freed_content", "int", "Those of them that were in the content store.", |p, _| {
                Ok(bytes(p.0.freed.content))
            })
            .unit(Unit::Bytes),
            F::field("freed_snapshots", "int", "Those of them that were in snapshots.", |p, _| {
                Ok(bytes(p.0.freed.snapshots))
            })
            .unit(Unit::Bytes),
        ];
        FIELDS
    }
}

const PRUNE: Spec = Spec {
    name: "prune",
    on: On::Node,
    params: &[Param::new("which")],
    options: &[Opt::new(
        "plan",
        "bool",
        "Whether nothing is removed, and the result is what would go and what that would free. Default false.",
    )],
    access: Access::Delete,
    doc: "Removes images of the namespace that nothing needs, waits until their space is free, and returns what went and the bytes that are gone.\n\n\
        `which` chooses: a closure that is asked for each image, images as an array, or containerd's filters as for `images`; without it, or with `()`, all are chosen. \
        An image goes with all its names or not at all: every tag of it has to be chosen; names by digest and the records `sha256:…` that CRI makes go or stay with it. \
        An image that a container uses, by name, digest or unpacked layers, or that is pinned for the kubelet, stays.\n\n\
        Freed are the blobs that nothing in any namespace refers to any more, and the unpacked layers.",
    examples: &[
        Example::gives(
            "from_rootfs(\"rootfs\", \"example/old:1\"); prune(|image| image.reference.name == \"old\").removed",
            "[\"docker.io/example/old:1\"]",
        ),
        Example::gives("prune(\"name~=nothing-is-called-so\").freed", "0"),
        Example::runs(
            "let plan = prune((), #{ plan: true }); print(`${plan.removed.len()} names, ${show_size(plan.freed)}`)",
        ),
    ],
};

fn prune(call: &Call<'_>, which: Option<Dynamic>, options: Options) -> Result<PrunedObject> {
    let chosen = chosen(call, which)?;
    let prune = Prune::new(chosen);
    let pruned = match options.flag("plan")? {
        true => call.wait(prune.preview(call.ctx()))?,
        false => call.run(prune)?,
    };
    Ok(PrunedObject(pruned))
}

/// Returns the names that were chosen.
fn chosen(call: &Call<'_>, which: Option<Dynamic>) -> Result<Vec<String>> {
    let list = |filters: &[String]| call.wait(ops::image::list(call.ctx(), filters));
    let names = |images: Vec<Image>| images.into_iter().map(|image| image.name).collect();
    let Some(which) = which else { return list(&[]).map(names) };
    if let Some(closure) = which.read_lock::<FnPtr>().map(|closure| closure.clone()) {
        let mut chosen = Vec::new();
        for image in ImageObject::list(list(&[])?, call.ctx().place()) {
            let name = image.record().name.clone();
            let answer = call.closure(&closure, (image,))?;
            match answer.as_bool() {
                Ok(true) => chosen.push(name),
                Ok(false) => {}
                Err(_) => {
                    let given = shown_type(call, &answer);
                    return Err(call.argument("which", format!("must return true or false, not {given}, for {name}")));
                }
            }
        }
        return Ok(chosen);
    }
    let objects = which.read_lock::<Array>().map(|array| array.clone()).unwrap_or_default();
    let objects: Vec<ImageObject> = objects.into_iter().filter_map(Dynamic::try_cast).collect();
    if objects.is_empty() {
        return match which.is::<Array>() && which.read_lock::<Array>().is_some_and(|array| array.is_empty()) {
            true => Ok(Vec::new()),
            false => list(&Vec::<String>::take(Some(which), Slot { call, name: "which" })?).map(names),
        };
    }
    if let Some(other) = objects.iter().find(|image| image.place().namespace != call.ctx().place().namespace) {
        let place = &other.place().namespace;
        return Err(call.argument("which", format!("has {}, which is in namespace {place}", other.record().name)));
    }
    Ok(objects.iter().map(|image| image.record().name.clone()).collect())
}

/// Registers the function and the object.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<PrunedObject>();
    catalog.add(&PRUNE, prune);
}
