//! Content of registries: fetched and sent object by object.

use rhai::Dynamic;

use super::{digest, digests};
use crate::grant::Access;
use crate::oci::{MediaType, Reference};
use crate::ops;
use crate::ops::content;
use crate::ops::image::Arrival;
use crate::script::api::image::{ALL_PLATFORMS, ImageObject, PLATFORM, platforms};
use crate::script::api::registry::options::{REACH, registry_options};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec, joined};
use crate::script::convert;
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Binary, Name, NameList, Ret};

fn reference(name: &Name) -> Result<Reference> {
    Ok(name.0.parse::<Reference>().map_err(ops::Error::from)?)
}

const FETCH_OWN: &[Opt] = &[
    PLATFORM,
    ALL_PLATFORMS,
    Opt::new(
        "metadata_only",
        "bool",
        "Whether only the documents and configs come, of all platforms, and no layers. Default false.",
    ),
    Opt::new("label", "map", "Labels for the image."),
];

const FETCH: Spec = Spec {
    name: "fetch",
    on: On::Module("content"),
    params: &[Param::of("reference", Names::Image)],
    options: &joined::<{ FETCH_OWN.len() + REACH.len() }>(FETCH_OWN, REACH),
    access: Access::Write,
    doc: "Fetches an image from a registry without unpacking it, and returns it.\n\nOf an index, only the documents of the platforms that are asked for come, as with `--skip-metadata` of ctr.",
    examples: &[
        Example::gives("content::fetch(`${REGISTRY}/example/box:1`).name == `${REGISTRY}/example/box:1`", "true"),
        Example::runs("content::fetch(`${REGISTRY}/example/box:1`, #{ metadata_only: true })"),
    ],
};

fn fetch(call: &Call<'_>, name: Name, options: Options) -> Result<ImageObject> {
    let reference = reference(&name)?;
    let labels = options.pairs("label")?.unwrap_or_default();
    let metadata_only = options.flag("metadata_only")?;
    let mut matcher = platforms(&options)?;
    if metadata_only && options.any("platform").is_none() {
        matcher = crate::oci::Matcher::All;
    }
    let arrival = Arrival {
        platforms: matcher,
        unpack: false,
        snapshotter: None,
        labels: labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
        metadata_only,
        ..Arrival::default()
    };
    let registry = registry_options(call, &options)?;
    let image = call.run(ops::image::Pull::new(reference, arrival, registry))?;
    Ok(ImageObject::new(image, call.ctx().place()))
}

const OBJECT_OWN: &[Opt] =
    &[Opt::new("raw", "bool", "Whether to return the exact text, whose hash is the digest. Default false.")];

const FETCH_OBJECT: Spec = Spec {
    name: "fetch_object",
    on: On::Module("content"),
    params: &[Param::of("reference", Names::Image), Param::new("digest")],
    options: &joined::<{ OBJECT_OWN.len() + REACH.len() }>(OBJECT_OWN, REACH),
    access: Access::Read,
    doc: "Returns a manifest or index of a repository, by its digest or, with `\"\"`, the one that the reference points to; as a map or, with `raw`, as its exact text. No daemon is asked.",
    examples: &[
        Example::gives("content::fetch_object(`${REGISTRY}/example/box:1`, \"\").schemaVersion", "2"),
        Example::gives(
            "let r = `${REGISTRY}/example/box:1`; content::fetch_object(r, image(\"busybox\").digest) == content::fetch_object(r, \"\")",
            "true",
        ),
    ],
};

fn fetch_object(call: &Call<'_>, name: Name, wanted: Name, options: Options) -> Result<Dynamic> {
    let reference = reference(&name)?;
    let wanted = if wanted.0.is_empty() { None } else { Some(digest(&wanted)?) };
    let reach = registry_options(call, &options)?;
    let (descriptor, bytes) = call.wait(content::object(call.ctx(), &reference, wanted, &reach))?;
    let fail = |reason: String| {
        let digest = descriptor.digest.to_string();
        ops::Error::from(crate::oci::Error::Document { what: "manifest", digest, reason })
    };
    if options.flag("raw")? {
        return Ok(std::str::from_utf8(&bytes).map_err(|error| fail(error.to_string()))?.to_owned().into());
    }
    Ok(convert::from_json(serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?))
}

const BLOB_OWN: &[Opt] = &[Opt::new("path", "string", "The file to write to. Default: the bytes are returned.")];

const FETCH_BLOB: Spec = Spec {
    name: "fetch_blob",
    on: On::Module("content"),
    params: &[Param::of("reference", Names::Image), Param::new("digests")],
    options: &joined::<{ BLOB_OWN.len() + REACH.len() }>(BLOB_OWN, REACH),
    access: Access::Read,
    doc: "Returns one or several blobs of a repository, one after the other, at most 16 MiB; or writes them to a file of any length and returns how many bytes that are. Each is verified. No daemon is asked.",
    examples: &[
        Example::gives(
            "let r = `${REGISTRY}/example/box:1`; let c = content::fetch_object(r, \"\").config; content::fetch_blob(r, c.digest).len() == c.size",
            "true",
        ),
        Example::gives(
            "let r = `${REGISTRY}/example/box:1`; let l = content::fetch_object(r, \"\").layers[0]; content::fetch_blob(r, l.digest, #{ path: \"layer.tar.gz\" }) == l.size",
            "true",
        ),
    ],
};

fn fetch_blob(call: &Call<'_>, name: Name, names: NameList, options: Options) -> Result<Dynamic> {
    let (reference, wanted) = (reference(&name)?, digests(&names)?);
    let reach = registry_options(call, &options)?;
    match options.string("path")? {
        Some(path) => Ok(call.run(content::FetchBlobs::new(reference, wanted, path.into(), reach))?.give()),
        None => {
            let bytes = call.wait(content::blobs(call.ctx(), &reference, &wanted, &reach))?;
            Ok(Binary(bytes).give())
        }
    }
}

const PUSH_OBJECT: Spec = Spec {
    name: "push_object",
    on: On::Module("content"),
    params: &[Param::of("reference", Names::Image), Param::new("digest"), Param::new("media_type")],
    options: REACH,
    access: Access::Write,
    doc: "Sends one blob, manifest or index of the content store to the repository of a reference, without what it refers to; a manifest or index to the reference's tag.\n\nThe media type says which of them it is. A registry refuses a manifest before its blobs.",
    examples: &[Example::runs(
        "let c = content::fetch_object(`${REGISTRY}/example/box:1`, \"\").config; content::push_object(`${REGISTRY}/example/object:1`, c.digest, c.mediaType)",
    )],
};

fn push_object(call: &Call<'_>, name: Name, object: Name, media_type: String, options: Options) -> Result<()> {
    let (reference, object) = (reference(&name)?, digest(&object)?);
    if !media_type.contains('/') {
        return Err(call.argument("media_type", format!("must be like application/octet-stream, not '{media_type}'")));
    }
    let reach = registry_options(call, &options)?;
    call.run(content::PushObject::new(reference, object, MediaType::parse(&media_type), reach))?;
    Ok(())
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&FETCH, fetch);
    catalog.add(&FETCH_OBJECT, fetch_object);
    catalog.add(&FETCH_BLOB, fetch_blob);
    catalog.add(&PUSH_OBJECT, push_object);
}
