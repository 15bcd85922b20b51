//! What changes an image's record.

use super::ImageObject;
use crate::containerd::Labels;
use crate::containerd::images::Deletion;
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::{self, Options};
use crate::script::value::{Name, NameList};

const TAG_OPTIONS: &[Opt] =
    &[Opt::new("force", "bool", "Whether a name that points elsewhere is pointed here. Default false.")];

const TAG: Spec = Spec {
    name: "tag",
    on: On::Node,
    params: &[Param::of("source", Names::Image), Param::of("target", Names::Image)],
    options: TAG_OPTIONS,
    access: Access::Write,
    doc: "Gives an image another name in the same namespace and returns it.",
    examples: &[Example::gives(
        "tag(\"busybox\", \"registry.example/team/box:1\").name",
        "\"registry.example/team/box:1\"",
    )],
};

fn tag(call: &Call<'_>, source: Name, target: String, options: Options) -> Result<ImageObject> {
    let target: Reference = target.parse().map_err(ops::Error::from)?;
    let image = call.run(ops::image::Tag::by_name(&source.0, target, options.flag("force")?))?;
    Ok(ImageObject::new(image, call.ctx().place()))
}

const IMAGE_TAG: Spec = Spec {
    name: "tag",
    on: On::Method,
    params: &[Param::of("target", Names::Image)],
    options: TAG_OPTIONS,
    access: Access::Write,
    doc: "Gives the image another name and returns it.",
    examples: &[Example::gives("image(\"busybox\").tag(\"example/box:2\").name", "\"docker.io/example/box:2\"")],
};

fn image_tag(call: &Call<'_>, image: ImageObject, target: String, options: Options) -> Result<ImageObject> {
    let target: Reference = target.parse().map_err(ops::Error::from)?;
    let tag = ops::image::Tag::of(image.record().clone(), target, options.flag("force")?);
    let tagged = call.run_in(&call.at(image.place()), tag)?;
    Ok(ImageObject::new(tagged, image.place()))
}

const DELETE_OPTIONS: &[Opt] = &[Opt::new(
    "wait",
    "bool",
    "Whether to wait until the freed space is free, as `--sync` of ctr does. Default false.",
)];

fn deletion(options: &Options) -> Result<Deletion> {
    Ok(if options.flag("wait")? { Deletion::Synchronous } else { Deletion::Later })
}

const DELETE_IMAGES: Spec = Spec {
    name: "delete_images",
    on: On::Node,
    params: &[Param::of("references", Names::Image)],
    options: DELETE_OPTIONS,
    access: Access::Delete,
    doc: "Removes one or several image names and returns how many.\n\nContent that nothing else refers to is collected by the daemon. Every name has to exist: a misspelt one among many deletes nothing.",
    examples: &[Example::gives("tag(\"busybox\", \"example/gone:1\"); delete_images([\"example/gone:1\"])", "1")],
};

fn delete_images(call: &Call<'_>, references: NameList, options: Options) -> Result<u64> {
    let deleted = call.run(ops::image::Delete::new(references.0, deletion(&options)?))?;
    Ok(deleted.len() as u64)
}

const IMAGE_DELETE: Spec = Spec {
    name: "delete",
    on: On::Method,
    params: &[],
    options: DELETE_OPTIONS,
    access: Access::Delete,
    doc: "Removes the image's name.\n\nContent that nothing else refers to is collected by the daemon.",
    examples: &[Example::runs("tag(\"busybox\", \"example/gone:2\").delete()")],
};

fn image_delete(call: &Call<'_>, image: ImageObject, options: Options) -> Result<()> {
    let delete = ops::image::Delete::new(vec![image.record().name.clone()], deletion(&options)?);
    call.run_in(&call.at(image.place()), delete)?;
    Ok(())
}

const LABEL: Spec = Spec {
    name: "label",
    on: On::Method,
    params: &[Param::new("labels")],
    options: &[Opt::new("replace_all", "bool", "Whether labels that are not named go. Default false.")],
    access: Access::Write,
    doc: "Sets labels of the image and returns it. A value of `()` or `\"\"` removes a label; those not named stay, unless all are replaced.",
    examples: &[
        Example::gives("image(\"busybox\").label(#{ team: \"core\" }).labels.team", "\"core\""),
        Example::gives(
            "let i = image(\"busybox\").tag(\"example/bare:1\").label(#{ a: \"1\", b: \"2\" }); i.label(#{ a: \"3\" }, #{ replace_all: true }).labels",
            "{\"a\":\"3\"}",
        ),
    ],
};

fn label(call: &Call<'_>, image: ImageObject, labels: rhai::Map, options: Options) -> Result<ImageObject> {
    let labels: Labels = options::pairs_of(call, "labels", labels)?;
    let label = ops::image::Label::new(&image.record().name, labels, options.flag("replace_all")?);
    let changed = call.run_in(&call.at(image.place()), label)?;
    Ok(ImageObject::new(changed, image.place()))
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&TAG, tag);
    catalog.add(&IMAGE_TAG, image_tag);
    catalog.add(&DELETE_IMAGES, delete_images);
    catalog.add(&IMAGE_DELETE, image_delete);
    catalog.add(&LABEL, label);
}
