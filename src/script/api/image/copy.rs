//! `copy`, over all endpoints.

use super::SNAPSHOTTER;
use super::transfer::{
    HOSTS_DIR, PASSWORD_ENV, PASSWORD_FILE, PASSWORD_STDIN, PLAIN_HTTP, SKIP_VERIFY, TLS_CA, TLS_CERT, TLS_KEY, USER,
    number, registry_options,
};
use crate::grant::Access;
use crate::oci::{Matcher, Platform};
use crate::ops;
use crate::ops::image::{Arrival, Copied, CopyOptions, Endpoint, Platforms};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::value::Name;

/// What a copy came to.
#[derive(Clone)]
struct CopiedObject(Copied);

impl Object for CopiedObject {
    const TYPE: &'static str = "Copied";
    const DOC: &'static str = "What a copy came to.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<CopiedObject>;
        const FIELDS: &[F] = &[
            F::column("target", "string", "Where the image is now, as an endpoint.", |c, _| {
                Ok(c.0.target.to_string().into())
            }),
            F::column("digest", "string", "Its digest there.", |c, _| Ok(c.0.root.digest.to_string().into()))
                .unit(Unit::Digest),
            F::column("sent", "int", "Bytes of blobs that were sent.", |c, _| Ok(number(c.0.totals.sent)))
                .unit(Unit::Bytes),
            F::field("blobs_sent", "int", "Blobs that were sent.", |c, _| Ok(number(c.0.totals.blobs_sent))),
            F::field("blobs_mounted", "int", "Blobs that were taken from other repositories.", |c, _| {
                Ok(number(c.0.totals.blobs_mounted))
            }),
            F::field("blobs_present", "int", "Blobs that were there.", |c, _| Ok(number(c.0.totals.blobs_present))),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.target.to_string())
    }
}

const COPY: Spec = Spec {
    name: "copy",
    on: On::Node,
    params: &[Param::of("source", Names::Image), Param::new("target")],
    options: &[
        Opt::new(
            "platforms",
            "string",
            "`present`, what the source has whole; `all`, and nothing may be missing; or one, such as `linux/arm64`, which then goes alone under its own digest. Default `present`.",
        ),
        Opt::new("unpack", "bool", "Whether layers are unpacked in the namespace. Default true."),
        SNAPSHOTTER,
        Opt::new(
            "force",
            "bool",
            "Whether a name of the namespace that points elsewhere is pointed here. Default false.",
        ),
        USER,
        PASSWORD_STDIN,
        PASSWORD_FILE,
        PASSWORD_ENV,
        PLAIN_HTTP,
        SKIP_VERIFY,
        HOSTS_DIR,
        TLS_CA,
        TLS_CERT,
        TLS_KEY,
    ],
    access: Access::Write,
    doc: "Copies an image from any endpoint to any other: bytes and digests are kept, and only what the target lacks is sent.\n\nAn endpoint is `registry:REF`, or a reference alone; `containerd:REF`, in the current namespace; `oci:DIR[:TAG]`, an OCI image layout; or `archive:FILE[:REF]`. Between two repositories of a registry blobs are mounted, between two registries they pass through without a disk. A target that has the digest already costs one request. Files need `files` access below the working folder and `host` access elsewhere.",
    examples: &[
        Example::gives(
            "copy(\"containerd:busybox\", `${REGISTRY}/example/copied:1`).digest == image(\"busybox\").digest",
            "true",
        ),
        Example::gives("copy(`${REGISTRY}/example/box:1`, \"oci:images:box\").target.contains(\"images:box\")", "true"),
        Example::gives(
            "copy(\"archive:box.tar\", \"containerd:example/back:1\").target",
            "\"containerd:docker.io/example/back:1\"",
        ),
    ],
};

fn copy(call: &Call<'_>, source: Name, target: String, options: Options) -> Result<CopiedObject> {
    let folder = &call.ctx().settings().working_dir;
    let endpoint = |text: &str| Endpoint::parse(text, folder);
    let platforms = match options.string("platforms")?.as_deref() {
        None | Some("present") => Platforms::Present,
        Some("all") => Platforms::All,
        Some(one) => Platforms::One(Matcher::Any(vec![one.parse::<Platform>().map_err(ops::Error::from)?])),
    };
    let arrival = Arrival {
        unpack: options.bool("unpack")?.unwrap_or(true),
        snapshotter: options.string("snapshotter")?,
        platforms: match &platforms {
            Platforms::One(matcher) => matcher.clone(),
            Platforms::Present | Platforms::All => Matcher::All,
        },
        ..Arrival::default()
    };
    let settings =
        CopyOptions { platforms, arrival, force: options.flag("force")?, registry: registry_options(call, &options)? };
    let copy = ops::image::Copy::new(endpoint(&source.0)?, endpoint(&target)?, settings);
    Ok(CopiedObject(call.run(copy)?))
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<CopiedObject>();
    catalog.add(&COPY, copy);
}
