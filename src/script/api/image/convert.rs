//! `convert`.

use super::{ALL_PLATFORMS, ImageObject, PLATFORM, platforms};
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops;
use crate::ops::image::ConvertOptions;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::Name;

const OPTIONS: &[Opt] = &[
    Opt::new("uncompress", "bool", "Whether the layers are stored without compression. Default false."),
    Opt::new("oci", "bool", "Whether Docker's media types become OCI's. Default false."),
    PLATFORM,
    ALL_PLATFORMS,
    Opt::new("force", "bool", "Whether a name that points elsewhere is pointed to the result. Default false."),
];

const CONVERT: Spec = Spec {
    name: "convert",
    on: On::Node,
    params: &[Param::of("source", Names::Image), Param::of("target", Names::Image)],
    options: OPTIONS,
    access: Access::Write,
    doc: "Makes an image of the same files in another form, calls it `target`, and returns it.\n\nIts digest is another one as soon as anything changes, so signatures and attestations of the source are not of it. The config stays as it is: each layer that is uncompressed is held against its diff id there, and what is unpacked of the source is unpacked of the result. An index lists only the platforms that were asked for. When a step fails nothing stays.",
    examples: &[
        Example::gives(
            "let plain = convert(\"busybox\", \"example/plain:1\", #{ uncompress: true }); plain.manifest().layers.all(|l| l.mediaType == \"application/vnd.oci.image.layer.v1.tar\")",
            "true",
        ),
        Example::gives(
            "convert(\"busybox\", \"example/oci:1\", #{ oci: true }).config() == image(\"busybox\").config()",
            "true",
        ),
    ],
};

fn convert(call: &Call<'_>, source: Name, target: String, options: Options) -> Result<ImageObject> {
    let target: Reference = target.parse().map_err(ops::Error::from)?;
    let settings = ConvertOptions {
        uncompress: options.flag("uncompress")?,
        oci: options.flag("oci")?,
        platforms: platforms(&options)?,
        force: options.flag("force")?,
    };
    let image = call.run(ops::image::Convert::new(&source.0, target, settings))?;
    Ok(ImageObject::new(image, call.ctx().place()))
}

/// Registers the function.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&CONVERT, convert);
}
