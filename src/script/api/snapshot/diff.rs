//! Between snapshots and layers.

use rhai::{Dynamic, Map};

use super::{MODULE, SnapshotObject, labels};
use crate::grant::Access;
use crate::oci::media_type::Compression;
use crate::oci::{Descriptor, MediaType};
use crate::ops::snapshot::{Diff, DiffOptions, Unpack};
use crate::script::api::image::{PLATFORM, SNAPSHOTTER, platform};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Arg, Name, Slot};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

const DIFF: Spec = Spec {
    name: "diff",
    on: MODULE,
    params: &[Param::new("a"), Param::new("b")],
    options: &[
        Opt::new(
            "path",
            "string",
            "The file to write the layer to. Needs `files` access below the working folder, else `host`.",
        ),
        Opt::new(
            "keep",
            "bool",
            "Whether the layer stays in the content store until it is deleted by name. Default: without `path`.",
        ),
        Opt::new(
            "media_type",
            "string",
            "The sort of layer. Default: OCI's with gzip; OCI's plain one for a `path` that ends in `.tar`.",
        ),
        Opt::new("ref", "string", "What names it while it is written to the content store. Default: one is made up."),
        Opt::new("labels", "map", "Labels for it in the content store."),
        SNAPSHOTTER,
    ],
    access: Access::Write,
    doc: "Packs what differs between two snapshots into a layer, as images have them: what `b` has other than `a`, or with one key what that has other than its parent.\n\nReturns a map of `digest`, `size` and `media_type`. The layer is in the content store then, or with `path` in a file, whole or not at all.",
    examples: &[
        Example::gives(
            "snapshots::prepare(\"changed\", image(\"busybox\")); let layer = snapshots::diff(\"changed\"); snapshots::delete(\"changed\"); layer.media_type",
            "\"application/vnd.oci.image.layer.v1.tar+gzip\"",
        ),
        Example::gives(
            "snapshots::diff(image(\"busybox\").chain_id(), #{ path: \"layer.tar\" }).media_type",
            "\"application/vnd.oci.image.layer.v1.tar\"",
        ),
    ],
};

fn diff(call: &Call<'_>, a: Name, b: Option<Dynamic>, options: Options) -> Result<Map> {
    let (b, options) = options.or_argument(b)?;
    let b = <Option<Name> as Arg>::take(b, Slot { call, name: "b" })?;
    let path = options.string("path")?.map(|path| call.ctx().settings().working_dir.join(path));
    let media_type = match (options.string("media_type")?, &path) {
        (Some(text), _) => text,
        (None, Some(path)) => match Compression::of_name(path) {
            Compression::None if path.extension().is_some_and(|end| end == "tar") => PLAIN.to_owned(),
            Compression::Zstd => {
                let problem =
                    "ends in .zst, which not every daemon can write; say so with 'media_type', or choose .tar.gz";
                return Err(options.bad("path", problem));
            }
            _ => GZIP.to_owned(),
        },
        (None, None) => GZIP.to_owned(),
    };
    let settings = DiffOptions {
        media_type: MediaType::parse(&media_type),
        reference: options.string("ref")?,
        labels: labels(&options, "labels")?,
        keep: options.bool("keep")?.unwrap_or(path.is_none()),
        path,
        snapshotter: options.string("snapshotter")?,
    };
    if !settings.media_type.is_layer() {
        return Err(
            options.bad("media_type", format!("must be a layer's, such as {PLAIN}, not {}", settings.media_type))
        );
    }
    let (from, to) = match b {
        Some(b) => (Some(a.0), b.0),
        None => (None, a.0),
    };
    call.run(Diff::new(from, &to, settings)).map(|layer| described(&layer))
}

fn described(layer: &Descriptor) -> Map {
    Map::from_iter([
        ("digest".into(), layer.digest.to_string().into()),
        ("size".into(), i64::try_from(layer.size).unwrap_or(i64::MAX).into()),
        ("media_type".into(), layer.media_type.to_string().into()),
    ])
}

const UNPACK: Spec = Spec {
    name: "unpack",
    on: MODULE,
    params: &[Param::of("image", Names::Image)],
    options: &[PLATFORM, SNAPSHOTTER],
    access: Access::Write,
    doc: "Makes snapshots of the layers of an image, by its name, or of a manifest or index, by its digest, and returns the topmost one.\n\nThose that are there already are left alone.",
    examples: &[
        Example::runs("snapshots::unpack(\"busybox\")"),
        Example::runs("snapshots::unpack(image(\"busybox\").digest)"),
    ],
};

fn unpack(call: &Call<'_>, image: Name, options: Options) -> Result<Option<SnapshotObject>> {
    let matcher = platform(options.strings("platform")?)?;
    let unpacked = call.run(Unpack::new(&image.0, matcher, options.string("snapshotter")?))?;
    Ok(unpacked.map(|snapshot| SnapshotObject::new(snapshot, call.ctx().place())))
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&DIFF, diff);
    catalog.add(&UNPACK, unpack);
}
