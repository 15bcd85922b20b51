//! Images: the object, and the functions that act on images.

use rhai::Dynamic;

use crate::containerd::images::Image;
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops::{self, Place};
use crate::script::call::{Call, Name};
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::time::Time;

/// An image record, with where it is.
#[derive(Clone)]
pub struct ImageObject {
    record: Image,
    place: Place,
}

impl ImageObject {
    /// Wraps a record.
    #[must_use]
    pub fn new(record: Image, place: &Place) -> Self {
        Self { record, place: place.clone() }
    }
}

impl Object for ImageObject {
    const TYPE: &'static str = "Image";
    const DOC: &'static str = "A name in a namespace that points to an image's content.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ImageObject>;
        const FIELDS: &[F] = &[
            F::column("name", "string", "The name, mostly a full reference.", |i, _| Ok(i.record.name.clone().into())),
            F::column("digest", "string", "The digest of the manifest or index that it points to.", |i, _| {
                Ok(i.record.target.digest.to_string().into())
            })
            .unit(Unit::Digest),
            F::field("media_type", "string", "The media type of what it points to.", |i, _| {
                Ok(i.record.target.media_type.to_string().into())
            }),
            F::column("created", "Time", "When the record was made.", |i, _| {
                Ok(Dynamic::from(Time(i.record.created_at)))
            })
            .unit(Unit::Time),
            F::field("labels", "map", "The labels of the record.", |i, _| {
                Ok(i.record.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<rhai::Map>().into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.record.name.clone())
    }
}

const IMAGES: Spec = Spec {
    name: "images",
    on: On::Node,
    params: &[Param::new("filter")],
    options: &[],
    access: Access::Read,
    doc: "Lists the images of the namespace, sorted by name.\n\nThe filter is containerd's own, such as `name~=nginx` or `labels.\"io.cri-containerd.pinned\"==pinned`.",
    examples: &[Example::gives("images(\"name==docker.io/library/busybox:latest\").len()", "1")],
};

fn images(call: &Call<'_>, filter: Option<Vec<String>>) -> Result<Vec<ImageObject>> {
    let images = call.wait(ops::image::list(call.ctx(), &filter.unwrap_or_default()))?;
    Ok(images.into_iter().map(|image| ImageObject::new(image, call.ctx().place())).collect())
}

const IMAGE: Spec = Spec {
    name: "image",
    on: On::Node,
    params: &[Param::of("reference", Names::Image)],
    options: &[],
    access: Access::Read,
    doc: "Returns an image by its name. Short names are made full as docker does: `busybox` is `docker.io/library/busybox:latest`.",
    examples: &[Example::gives("image(\"busybox\").name", "\"docker.io/library/busybox:latest\"")],
};

fn image(call: &Call<'_>, reference: Name) -> Result<ImageObject> {
    let image = call.wait(ops::image::get(call.ctx(), &reference.0))?;
    Ok(ImageObject::new(image, call.ctx().place()))
}

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

fn tag(call: &Call<'_>, source: Name, target: String, o: Options) -> Result<ImageObject> {
    let target: Reference = target.parse().map_err(ops::Error::from)?;
    let image = call.run(ops::image::Tag::by_name(&source.0, target, o.flag("force")?))?;
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

fn image_tag(call: &Call<'_>, image: ImageObject, target: String, o: Options) -> Result<ImageObject> {
    let target: Reference = target.parse().map_err(ops::Error::from)?;
    let tagged = call.run_in(&call.at(&image.place), ops::image::Tag::of(image.record, target, o.flag("force")?))?;
    Ok(ImageObject::new(tagged, &image.place))
}

/// Registers the functions and objects of images.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<ImageObject>();
    catalog.add(&IMAGES, images);
    catalog.add(&IMAGE, image);
    catalog.add(&TAG, tag);
    catalog.add(&IMAGE_TAG, image_tag);
}
