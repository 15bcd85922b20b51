//! What can be asked of images.

use rhai::{Array, Dynamic};
use serde_json::Value;

use super::{ALL_PLATFORMS, ImageObject, PLATFORM, SNAPSHOTTER, object::ReferenceObject, platform, platforms};
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops::image::{Check, Usage};
use crate::ops::{self, Context};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::value::Name;

const IMAGES: Spec = Spec {
    name: "images",
    on: On::Node,
    params: &[Param::new("filter")],
    options: &[],
    access: Access::Read,
    doc: "Lists the images of the namespace, sorted by name.\n\nThe filter is containerd's own, such as `name~=nginx` or `labels.\"io.cri-containerd.pinned\"==pinned`.",
    examples: &[
        Example::gives("images(\"name==docker.io/library/busybox:latest\").len()", "1"),
        Example::runs("for image in images() { print(`${image.name} has ${image.size} bytes`) }"),
    ],
};

fn images(call: &Call<'_>, filter: Option<Vec<String>>) -> Result<Vec<ImageObject>> {
    let images = call.wait(ops::image::list(call.ctx(), &filter.unwrap_or_default()))?;
    Ok(ImageObject::list(images, call.ctx().place()))
}

const IMAGE: Spec = Spec {
    name: "image",
    on: On::Node,
    params: &[Param::of("reference", Names::Image)],
    options: &[],
    access: Access::Read,
    doc: "Returns an image by its name.\n\nShort names are made full as docker does: `busybox` is `docker.io/library/busybox:latest`.",
    examples: &[Example::gives("image(\"busybox\").name", "\"docker.io/library/busybox:latest\"")],
};

fn image(call: &Call<'_>, reference: Name) -> Result<ImageObject> {
    let image = call.wait(ops::image::get(call.ctx(), &reference.0))?;
    Ok(ImageObject::new(image, call.ctx().place()))
}

const REFERENCE: Spec = Spec {
    name: "reference",
    on: On::Free,
    params: &[Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Takes an image reference apart, making short names full as docker does.",
    examples: &[
        Example::gives("reference(\"nginx\").repository", "\"library/nginx\""),
        Example::gives("reference(\"localhost:5000/team/app:1\").registry", "\"localhost:5000\""),
    ],
};

fn reference(_call: &Call<'_>, text: Name) -> Result<ReferenceObject> {
    Ok(ReferenceObject(text.0.parse::<Reference>().map_err(ops::Error::from)?))
}

const MANIFEST: Spec = Spec {
    name: "manifest",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Returns the manifest or index that the image points to, as it is written.",
    examples: &[Example::gives("image(\"busybox\").manifest().schemaVersion", "2")],
};

fn manifest(call: &Call<'_>, image: ImageObject) -> Result<Value> {
    let ctx = call.at(image.place());
    call.wait(ops::image::manifest(&ctx, image.record()))
}

const CONFIG: Spec = Spec {
    name: "config",
    on: On::Method,
    params: &[],
    options: &[PLATFORM],
    access: Access::Read,
    doc: "Returns the image's config as it is written: how to run it, its layers and its history.",
    examples: &[Example::gives("image(\"busybox\").config().os", "\"linux\"")],
};

fn config(call: &Call<'_>, image: ImageObject, options: Options) -> Result<Value> {
    let ctx = call.at(image.place());
    let matcher = platform(options.strings("platform")?)?;
    call.wait(ops::image::config(&ctx, image.record(), &matcher))
}

const HISTORY: Spec = Spec {
    name: "history",
    on: On::Method,
    params: &[],
    options: &[PLATFORM],
    access: Access::Read,
    doc: "Returns how each layer of the image came to be, the first first: maps with `created`, `created_by`, `empty_layer`.",
    examples: &[Example::gives("image(\"busybox\").history().len() >= 0", "true")],
};

fn history(call: &Call<'_>, image: ImageObject, options: Options) -> Result<Value> {
    let mut config = config(call, image, options)?;
    Ok(match config.get_mut("history").map(Value::take) {
        Some(Value::Array(entries)) => Value::Array(entries),
        _ => Value::Array(Vec::new()),
    })
}

const CHAIN_ID: Spec = Spec {
    name: "chain_id",
    on: On::Method,
    params: &[],
    options: &[PLATFORM],
    access: Access::Read,
    doc: "Returns the digest that stands for all layers of the image, which is the key of its topmost snapshot when it is unpacked; `()` for an image without layers.",
    examples: &[Example::gives(
        "snapshots::info(image(\"busybox\").chain_id()).key == image(\"busybox\").chain_id()",
        "true",
    )],
};

fn chain_id(call: &Call<'_>, image: ImageObject, options: Options) -> Result<Option<String>> {
    let ctx = call.at(image.place());
    let matcher = platform(options.strings("platform")?)?;
    let top = call.wait(ops::image::chain_id(&ctx, image.record(), &matcher))?;
    Ok(top.map(|digest| digest.to_string()))
}

/// What is here of an image.
#[derive(Clone)]
struct CheckObject(Check);

impl Object for CheckObject {
    const TYPE: &'static str = "Check";
    const DOC: &'static str = "What is here of an image.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<CheckObject>;
        const FIELDS: &[F] = &[
            F::column("name", "string", "The image.", |c, _| Ok(c.0.name.clone().into())),
            F::column(
                "complete",
                "bool",
                "Whether all bytes of the platforms that were asked for are here.",
                |c, _| Ok(c.0.complete().into()),
            ),
            F::column("unpacked", "bool", "Whether they are unpacked in the snapshotter that was asked.", |c, _| {
                Ok(c.0.unpacked().into())
            }),
            F::column("present", "int", "Bytes that are here of the platforms that were asked for.", |c, _| {
                Ok(sum(c.0.platforms.iter().filter(|p| p.wanted).map(|p| p.present)))
            })
            .unit(Unit::Bytes),
            F::column("total", "int", "All bytes of the platforms that were asked for, as far as is known.", |c, _| {
                Ok(sum(c.0.platforms.iter().filter(|p| p.wanted).map(|p| p.total)))
            })
            .unit(Unit::Bytes),
            F::field("complete_platforms", "array", "All platforms whose bytes are here.", |c, _| {
                let whole = c.0.platforms.iter().filter(|p| p.missing.is_empty());
                Ok(whole
                    .filter_map(|p| Some(Dynamic::from(p.platform.as_ref()?.to_string())))
                    .collect::<Array>()
                    .into())
            }),
            F::field(
                "missing",
                "array",
                "The digests that are not here of the platforms that were asked for.",
                |c, _| {
                    let wanted = c.0.platforms.iter().filter(|p| p.wanted);
                    let missing = wanted.flat_map(|p| &p.missing).map(|d| Dynamic::from(d.digest.to_string()));
                    Ok(missing.collect::<Array>().into())
                },
            ),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        let state = if self.0.complete() { "complete" } else { "incomplete" };
        Some(format!("{} is {state}", self.0.name))
    }
}

fn sum(bytes: impl Iterator<Item = u64>) -> Dynamic {
    i64::try_from(bytes.sum::<u64>()).unwrap_or(i64::MAX).into()
}

const CHECK_OPTIONS: &[Opt] = &[PLATFORM, ALL_PLATFORMS, SNAPSHOTTER];

const CHECK: Spec = Spec {
    name: "check",
    on: On::Node,
    params: &[Param::new("filter")],
    options: CHECK_OPTIONS,
    access: Access::Read,
    doc: "Says of every image of the namespace whether all its bytes are here, and unpacked.\n\nThe filter is containerd's own, as for `images`; `()` stands for none.",
    examples: &[
        Example::gives("check(\"name==docker.io/library/busybox:latest\")[0].complete", "true"),
        Example::runs("for c in check() { if !c.complete { print(`${c.name} lacks ${c.missing}`) } }"),
    ],
};

fn check(call: &Call<'_>, filter: Option<Vec<String>>, options: Options) -> Result<Vec<CheckObject>> {
    let images = call.wait(ops::image::list(call.ctx(), &filter.unwrap_or_default()))?;
    images.iter().map(|image| check_one(call, call.ctx(), image, &options)).collect()
}

fn check_one(
    call: &Call<'_>,
    ctx: &Context,
    image: &crate::containerd::images::Image,
    options: &Options,
) -> Result<CheckObject> {
    let matcher = platforms(options)?;
    let snapshotter = options.string("snapshotter")?;
    call.wait(async {
        let snapshotter = ops::image::snapshotter(ctx, snapshotter.as_deref()).await?;
        ops::image::check(ctx, image, &matcher, &snapshotter).await
    })
    .map(CheckObject)
}

const IMAGE_CHECK: Spec = Spec {
    name: "check",
    on: On::Method,
    params: &[],
    options: CHECK_OPTIONS,
    access: Access::Read,
    doc: "Says whether all bytes of the image are here, and unpacked.",
    examples: &[Example::gives("image(\"busybox\").check().missing", "[]")],
};

fn image_check(call: &Call<'_>, image: ImageObject, options: Options) -> Result<CheckObject> {
    check_one(call, &call.at(image.place()), image.record(), &options)
}

/// The disk that an image takes.
#[derive(Clone)]
struct UsageObject(Usage);

impl Object for UsageObject {
    const TYPE: &'static str = "Usage";
    const DOC: &'static str =
        "The disk that an image takes. What it shares with other images is counted for each of them.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<UsageObject>;
        const FIELDS: &[F] = &[
            F::column("content", "int", "Bytes of its content in the store.", |u, _| {
                Ok(i64::try_from(u.0.content).unwrap_or(i64::MAX).into())
            })
            .unit(Unit::Bytes),
            F::column("snapshots", "int", "Bytes of its unpacked layers.", |u, _| {
                Ok(i64::try_from(u.0.snapshots).unwrap_or(i64::MAX).into())
            })
            .unit(Unit::Bytes),
            F::column("inodes", "int", "Files and folders of its unpacked layers.", |u, _| {
                Ok(i64::try_from(u.0.inodes).unwrap_or(i64::MAX).into())
            }),
        ];
        FIELDS
    }
}

const USAGE: Spec = Spec {
    name: "usage",
    on: On::Method,
    params: &[],
    options: &[SNAPSHOTTER],
    access: Access::Read,
    doc: "Returns the disk that the image takes, in the content store and unpacked.",
    examples: &[Example::gives("image(\"busybox\").usage().content > 0", "true")],
};

fn usage(call: &Call<'_>, image: ImageObject, options: Options) -> Result<UsageObject> {
    let ctx = call.at(image.place());
    let named = options.string("snapshotter")?;
    call.wait(async {
        let snapshotter = ops::image::snapshotter(&ctx, named.as_deref()).await?;
        ops::image::usage(&ctx, image.record(), &snapshotter).await
    })
    .map(UsageObject)
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<CheckObject>();
    catalog.add_object::<UsageObject>();
    catalog.add(&IMAGES, images);
    catalog.add(&IMAGE, image);
    catalog.add(&REFERENCE, reference);
    catalog.add(&CHECK, check);
    catalog.add(&MANIFEST, manifest);
    catalog.add(&CONFIG, config);
    catalog.add(&HISTORY, history);
    catalog.add(&CHAIN_ID, chain_id);
    catalog.add(&IMAGE_CHECK, image_check);
    catalog.add(&USAGE, usage);
}
