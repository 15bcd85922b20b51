//! What moves images between registries and the namespace.

use rhai::Dynamic;

use super::copied::CopiedObject;
use super::{ALL_PLATFORMS, DISCARD, ImageObject, PLATFORM, SNAPSHOTTER, discard, platform, platforms};
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops;
use crate::ops::image::{Arrival, PushOptions};
use crate::script::api::registry::options::{REACH, registry_options};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec, joined};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Arg, Name, Slot};

/// Who moves the bytes.
const VIA: Opt = Opt::new(
    "via",
    "string",
    "Who speaks to the registry: `client`, this program, which is the default, or `daemon`, containerd's transfer service (containerd 1.7 and later). The daemon goes through its own proxies and trusts its own machine's authorities; a `hosts_dir` is then on its machine, and `skip_verify`, `tlscacert` and `tlscert` are refused, as are `plain_http` and `hosts_dir` where the service passes over them (1.7).",
);

/// Reads whether the daemon is to move the bytes.
fn by_daemon(options: &Options) -> Result<bool> {
    match options.string("via")?.as_deref() {
        None | Some("client") => Ok(false),
        Some("daemon") => Ok(true),
        Some(other) => Err(options.bad("via", format!("is 'client' or 'daemon', not '{other}'"))),
    }
}

/// The options of `pull` beside those that say how a registry is reached.
const PULL_OWN: &[Opt] = &[
    PLATFORM,
    ALL_PLATFORMS,
    Opt::new("unpack", "bool", "Whether layers are unpacked. Default true."),
    DISCARD,
    SNAPSHOTTER,
    Opt::new("label", "map", "Labels for the image, such as `io.cri-containerd.pinned`."),
    VIA,
];

const PULL: Spec = Spec {
    name: "pull",
    on: On::Node,
    params: &[Param::of("reference", Names::Image)],
    options: &joined::<{ PULL_OWN.len() + REACH.len() }>(PULL_OWN, REACH),
    access: Access::Write,
    doc: "Fetches an image from a registry, unpacks it while later layers still arrive, and returns it.\n\nWhat is here already is not fetched again; a transfer that breaks goes on where it stopped. In the namespace `k8s.io` the image gets the label and the record by its config's digest that let the kubelet see it. Of `all_platforms` only this host's is unpacked.",
    examples: &[
        Example::gives("pull(`${REGISTRY}/example/box:1`).name == `${REGISTRY}/example/box:1`", "true"),
        Example::runs("pull(`${REGISTRY}/example/box:1`, #{ unpack: false })"),
    ],
};

fn pull(call: &Call<'_>, reference: Name, options: Options) -> Result<ImageObject> {
    let reference: Reference = reference.0.parse().map_err(ops::Error::from)?;
    let labels = options.pairs("label")?.unwrap_or_default();
    let arrival = Arrival {
        platforms: platforms(&options)?,
        unpack: options.bool("unpack")?.unwrap_or(true),
        snapshotter: options.string("snapshotter")?,
        labels: labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
        discard_layers: discard(&options)?,
        ..Arrival::default()
    };
    let registry = registry_options(call, &options)?;
    let image = if by_daemon(&options)? {
        let name = reference.to_string();
        let pulled = call.run(ops::image::PullByDaemon::new(reference, arrival, registry))?;
        pulled.ok_or_else(|| ops::Error::not_found("image", &name, []))?
    } else {
        call.run(ops::image::Pull::new(reference, arrival, registry))?
    };
    Ok(ImageObject::new(image, call.ctx().place()))
}

const MANIFEST: Opt = Opt::new(
    "manifest",
    "string",
    "The digest of a manifest or index of the content store, to be sent in place of an image; it need be part of none.",
);

const PUSH_OWN: &[Opt] =
    &[Opt::new("platform", "string", "The one platform to send. Default: all of the image that are here."), VIA];

const PUSH_OPTIONS: &[Opt] = &joined::<{ PUSH_OWN.len() + REACH.len() }>(PUSH_OWN, REACH);

const PUSH_BY_NAME: &[Opt] = &joined::<{ PUSH_OPTIONS.len() + 1 }>(&[MANIFEST], PUSH_OPTIONS);

const PUSH: Spec = Spec {
    name: "push",
    on: On::Node,
    params: &[Param::of("target", Names::Image), Param::of("source", Names::Image)],
    options: PUSH_BY_NAME,
    access: Access::Write,
    doc: "Sends an image to a registry: the image of that name or, with a second argument that is not `()`, another one.\n\nOnly what the registry lacks is sent; blobs that another of its repositories holds are mounted. An index of which only some platforms are here is not sent, but the one platform that fits this host, or `platform`, under its own digest.",
    examples: &[
        Example::gives("push(`${REGISTRY}/example/pushed:1`, \"busybox\").digest.len()", "71"),
        Example::gives(
            "let d = image(\"busybox\").digest; push(`${REGISTRY}/example/pushed:2`, #{ manifest: d }).digest == d",
            "true",
        ),
    ],
};

fn push(call: &Call<'_>, target: Name, second: Option<Dynamic>, options: Options) -> Result<CopiedObject> {
    let target: Reference = target.0.parse().map_err(ops::Error::from)?;
    // The source may be left out, and the options then stand in its place.
    let map = second.as_ref().and_then(|second| second.read_lock::<rhai::Map>().map(|map| map.clone()));
    let (source, options) = match map {
        Some(map) => (None, Options::new(call.spec(), map)?),
        None => (<Option<Name> as Arg>::take(second, Slot { call, name: "source" })?, options),
    };
    let manifest = match options.string("manifest")? {
        Some(_) if source.is_some() => {
            return Err(options.bad("manifest", "says what is sent; name no source beside it"));
        }
        digest => digest.map(|digest| digest.parse()).transpose().map_err(ops::Error::from)?,
    };
    let settings = PushOptions { manifest, ..push_options(call, &options, source.map(|source| source.0))? };
    if by_daemon(&options)? {
        return call.run(ops::image::PushByDaemon::new(target, settings)).map(CopiedObject);
    }
    call.run(ops::image::Push::new(target, settings)).map(CopiedObject)
}

fn push_options(call: &Call<'_>, options: &Options, source: Option<String>) -> Result<PushOptions> {
    let named = options.strings("platform")?;
    Ok(PushOptions {
        source,
        manifest: None,
        platform: named.map(|named| platform(Some(named))).transpose()?,
        registry: registry_options(call, options)?,
    })
}

const IMAGE_PUSH: Spec = Spec {
    name: "push",
    on: On::Method,
    params: &[],
    options: PUSH_OPTIONS,
    access: Access::Write,
    doc: "Sends the image to the registry that its name says.",
    examples: &[Example::gives("image(\"busybox\").tag(`${REGISTRY}/example/self:1`).push().sent >= 0", "true")],
};

fn image_push(call: &Call<'_>, image: ImageObject, options: Options) -> Result<CopiedObject> {
    let target: Reference = image.record().name.parse().map_err(ops::Error::from)?;
    let settings = push_options(call, &options, Some(image.record().name.clone()))?;
    let there = call.at(image.place());
    if by_daemon(&options)? {
        return call.run_in(&there, ops::image::PushByDaemon::new(target, settings)).map(CopiedObject);
    }
    call.run_in(&there, ops::image::Push::new(target, settings)).map(CopiedObject)
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&PULL, pull);
    catalog.add(&PUSH, push);
    catalog.add(&IMAGE_PUSH, image_push);
}
