//! `copy`, over all endpoints.

use rhai::{Array, Dynamic, ImmutableString};

use super::copied::CopiedObject;
use super::{COMPRESSION, ImageObject, SNAPSHOTTER, compression, platform};
use crate::grant::Access;
use crate::oci::Matcher;
use crate::ops;
use crate::ops::image::{Arrival, At, CopyOptions, Endpoint, Platforms, full_name};
use crate::script::api::docker::DockerImageObject;
use crate::script::api::node::NodeObject;
use crate::script::api::registry::options::{REACH, registry_options};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec, joined};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Arg, Slot};

/// An endpoint as a script gives it: written out, or an object that is one.
enum End {
    Text(String),
    Image(Box<ImageObject>),
    Node(NodeObject),
}

impl Arg for End {
    const TYPE: &'static str = "string or object";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = value.ok_or_else(|| slot.bad("is missing"))?;
        if let Some(text) = value.read_lock::<ImmutableString>() {
            return Ok(Self::Text(text.to_string()));
        }
        if let Some(image) = value.read_lock::<ImageObject>() {
            return Ok(Self::Image(Box::new(image.clone())));
        }
        if let Some(image) = value.read_lock::<DockerImageObject>() {
            return Ok(Self::Text(image.endpoint().to_string()));
        }
        if let Some(node) = value.read_lock::<NodeObject>() {
            return Ok(Self::Node(node.clone()));
        }
        Err(slot.wrong("an endpoint, an Image, a DockerImage or a Node", &value))
    }
}

impl End {
    /// Finds the endpoint; a node alone is one only together with a name for the image.
    fn endpoint(self, call: &Call<'_>, side: &str, name: impl FnOnce() -> Result<Option<String>>) -> Result<Endpoint> {
        let here = call.ctx().place();
        match self {
            Self::Text(text) => Ok(Endpoint::parse(&text, &call.ctx().settings().working_dir)?),
            Self::Image(image) => {
                Ok(Endpoint::Containerd { at: At::seen_from(here, image.place()), name: image.record().name.clone() })
            }
            Self::Node(node) => {
                let name = name()?.ok_or_else(|| {
                    call.argument(side, "is a node, and the image has no name for it; give one: #{ name: \"…\" }")
                })?;
                Ok(Endpoint::Containerd { at: At::seen_from(here, node.place()), name })
            }
        }
    }
}

const OWN: &[Opt] = &[
    Opt::new(
        "platforms",
        "string or array",
        "`present`, what the source has whole; `all`, and nothing may be missing; one, such as `linux/arm64`, which then goes alone under its own digest; or an array of some, which go with their attestations under an index that lists only them and so has another digest, unless that is all there are. Default `present`.",
    ),
    Opt::new("name", "string", "The image's name at a target that is a Node. Default: its name at the source."),
    Opt::new("unpack", "bool", "Whether layers are unpacked in a namespace. Default true."),
    SNAPSHOTTER,
    Opt::new("force", "bool", "Whether a name of a namespace that points elsewhere is pointed here. Default false."),
    COMPRESSION,
    Opt::new(
        "referrers",
        "bool",
        "Whether what refers to the image goes along: signatures, SBOMs, attestations. Default false.",
    ),
    Opt::new(
        "digest_tags",
        "bool",
        "Whether tags go along that name the image's digest, such as cosign's `sha256-….sig`. Default false.",
    ),
];

const OPTIONS: &[Opt] = &joined::<{ OWN.len() + REACH.len() }>(OWN, REACH);

const COPY: Spec = Spec {
    name: "copy",
    on: On::Node,
    params: &[Param::of("source", Names::Image), Param::new("target")],
    options: OPTIONS,
    access: Access::Write,
    doc: "Copies an image from any endpoint to any other: bytes and digests are kept, and only what the target lacks is sent.\n\nAn endpoint is `registry:REF`, or a reference alone; `containerd:REF`, in the current namespace, `containerd:[NAMESPACE]REF`, in another one, or `containerd:[NAMESPACE@SOCKET]REF`, of another daemon; `docker:IMAGE`, of a Docker Engine, which is only a source, or `docker:[SOCKET]IMAGE`, of another one; `oci:DIR[:TAG]`, an OCI image layout; or `archive:FILE[:REF]`, plain, gzip or zstd. An Image or a DockerImage is one too, wherever it is, and a Node is one as the target. Between two repositories of a registry blobs are mounted, between two registries they pass through without a disk, and between two namespaces of a daemon that shares their content nothing is sent at all. A target registry that has the digest already costs one request. What comes into a namespace is unpacked there; in `k8s.io` the kubelet sees it.\n\nA Docker Engine gives an image only whole, so its export passes through the folder for temporary files (`TMPDIR`), also in a dry run. Where the target has the image already, told by the engine's id for it, nothing is exported. Most engines keep layers unpacked only: then the manifest is made anew, the same each time, over the same config. Engines with containerd's image store keep every digest.\n\n`referrers` and `digest_tags` go between registries and OCI layouts. Files need `files` access below the working folder and `host` access elsewhere.",
    examples: &[
        Example::gives(
            "copy(\"containerd:busybox\", `${REGISTRY}/example/copied:1`).digest == image(\"busybox\").digest",
            "true",
        ),
        Example::gives("copy(`${REGISTRY}/example/box:1`, \"oci:images:box\").target.contains(\"images:box\")", "true"),
        Example::gives(
            "copy(docker().image(\"example/box:1\"), `${REGISTRY}/example/moved:1`).target.ends_with(\"example/moved:1\")",
            "true",
        ),
        Example::gives(
            "copy(\"archive:box.tar\", \"containerd:example/back:1\").target",
            "\"containerd:docker.io/example/back:1\"",
        ),
        Example::gives("copy(image(\"busybox\"), connect(node().address), #{ name: \"example/near:1\" }).sent", "0"),
        Example::runs("copy(`${REGISTRY}/example/box:1`, `${REGISTRY}/example/signed:1`, #{ referrers: true })"),
    ],
};

fn copy(call: &Call<'_>, source: End, target: End, options: Options) -> Result<CopiedObject> {
    let source = source.endpoint(call, "source", || Ok(None))?;
    let target = target.endpoint(call, "target", || match options.string("name")? {
        Some(name) => Ok(Some(full_name(&name)?)),
        None => Ok(source.reference()),
    })?;
    let settings = CopyOptions { compression: compression(&options)?, ..settings(call, &options)? };
    Ok(CopiedObject(call.run(ops::image::Copy::new(source, target, settings))?))
}

/// Reads the options that `copy` and `migrate` share.
pub(super) fn settings(call: &Call<'_>, options: &Options) -> Result<CopyOptions> {
    let (platforms, unpacked) = platforms(options)?;
    let arrival = Arrival {
        unpack: options.bool("unpack")?.unwrap_or(true),
        snapshotter: options.string("snapshotter")?,
        platforms: unpacked,
        ..Arrival::default()
    };
    Ok(CopyOptions {
        platforms,
        arrival,
        force: options.flag("force")?,
        compression: None,
        referrers: options.flag("referrers")?,
        digest_tags: options.flag("digest_tags")?,
        registry: registry_options(call, options)?,
    })
}

/// Reads which platforms are copied, and of them those that are unpacked where they arrive.
fn platforms(options: &Options) -> Result<(Platforms, Matcher)> {
    let Some(named) = options.strings("platforms")? else { return Ok((Platforms::Present, Matcher::All)) };
    let several = options.any("platforms").is_some_and(|value| value.is::<Array>());
    match named.first().map(String::as_str) {
        None => Err(options.bad("platforms", "names none")),
        Some("present") if !several => Ok((Platforms::Present, Matcher::All)),
        Some("all") if !several => Ok((Platforms::All, Matcher::All)),
        _ => {
            let matcher = platform(Some(named))?;
            let platforms = if several { Platforms::Listed } else { Platforms::One };
            Ok((platforms(matcher.clone()), matcher))
        }
    }
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&COPY, copy);
}
