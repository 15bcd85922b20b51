//! What can be asked of a `Registry` and of a `Repository`. The methods are the same; a registry's begin with the name.

use std::sync::Arc;

use rhai::Dynamic;
use serde_json::Value;

use super::function::ONE_PLATFORM;
use super::object::{ReferrerObject, RegistryObject, RepositoryObject};
use crate::grant::Access;
use crate::oci::{self, Matcher, Reference};
use crate::ops;
use crate::registry;
use crate::script::api::image::{ALL_PLATFORMS, PLATFORM, platform, platforms};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::convert;
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::Name;

/// An image in a registry, and how that is reached.
pub(super) struct Remote {
    pub(super) reference: Reference,
    pub(super) reach: Arc<registry::Options>,
}

impl RegistryObject {
    /// Takes `NAME[:TAG][@DIGEST]`, or a full reference of this registry.
    pub(super) fn remote(&self, name: &str) -> Result<Remote> {
        Ok(Remote { reference: self.address.reference(name)?, reach: Arc::clone(&self.reach) })
    }
}

impl RepositoryObject {
    /// Takes a tag or a digest.
    pub(super) fn remote(&self, selector: &str) -> Result<Remote> {
        let mark = if selector.contains(':') { '@' } else { ':' };
        let full = format!("{}{mark}{selector}", self.reference.locator());
        Ok(Remote { reference: full.parse().map_err(ops::Error::from)?, reach: Arc::clone(&self.reach) })
    }
}

/// Reads the platform of an index's image, when one is meant.
pub(super) fn one_platform(options: &Options) -> Result<Option<Matcher>> {
    options.string("platform")?.map(|named| platform(Some(vec![named]))).transpose()
}

const REPOSITORIES: Spec = Spec {
    name: "repositories",
    on: On::Method,
    params: &[Param::new("filter")],
    options: &[],
    access: Access::Read,
    doc: "Lists the repositories of the registry, sorted by name. The filter is a glob, or several, for the name.\n\nPublic registries keep that list to themselves, which is an error that says so.",
    examples: &[
        Example::gives("registry(REGISTRY).repositories(\"**/box\").len() > 0", "true"),
        Example::runs(
            "for repo in registry(REGISTRY).repositories(\"example/*\") { print(`${repo}: ${repo.tags()}`) }",
        ),
    ],
};

pub(super) fn repositories(
    call: &Call<'_>,
    registry: RegistryObject,
    filter: Option<Vec<String>>,
) -> Result<Vec<RepositoryObject>> {
    let filter = filter.unwrap_or_default();
    let found = call.wait(ops::registry::repositories(call.ctx(), &registry.address, &filter, &registry.reach))?;
    let wrap = |reference| RepositoryObject { reference, reach: Arc::clone(&registry.reach) };
    Ok(found.into_iter().map(wrap).collect())
}

const REPO: Spec = Spec {
    name: "repo",
    on: On::Method,
    params: &[Param::new("name")],
    options: &[],
    access: Access::Read,
    doc: "Returns a repository of the registry. Whether it exists is not asked yet.",
    examples: &[Example::gives("registry(\"localhost:5000\").repo(\"team/app\").name", "\"team/app\"")],
};

fn repo(_call: &Call<'_>, registry: RegistryObject, name: Name) -> Result<RepositoryObject> {
    Ok(RepositoryObject { reference: registry.address.repository(&name.0)?, reach: registry.reach })
}

const REGISTRY_TAGS: Spec = Spec {
    name: "tags",
    on: On::Method,
    params: &[Param::new("name")],
    options: &[],
    access: Access::Read,
    doc: "Lists the tags of a repository, in the registry's order.",
    examples: &[Example::gives("registry(REGISTRY).tags(\"example/box\")", "[\"1\"]")],
};

fn registry_tags(call: &Call<'_>, registry: RegistryObject, name: Name) -> Result<Vec<String>> {
    let repository = repo(call, registry, name)?;
    repository_tags(call, repository)
}

const REPOSITORY_TAGS: Spec = Spec {
    name: "tags",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists the tags of the repository, in the registry's order.",
    examples: &[Example::gives("registry(REGISTRY).repo(\"example/box\").tags()", "[\"1\"]")],
};

fn repository_tags(call: &Call<'_>, repository: RepositoryObject) -> Result<Vec<String>> {
    call.wait(ops::registry::tags(call.ctx(), &repository.reference, &repository.reach))
}

const MANIFEST_OPTIONS: &[Opt] = &[
    ONE_PLATFORM,
    Opt::new("raw", "bool", "Whether to return the exact text, whose hash is the digest. Default false."),
];

const REGISTRY_DIGEST: Spec = Spec {
    name: "digest",
    on: On::Method,
    params: &[Param::new("reference")],
    options: &[ONE_PLATFORM],
    access: Access::Read,
    doc: "Returns the digest of an image in the registry. That costs one request without content.",
    examples: &[Example::gives("registry(REGISTRY).digest(\"example/box:1\") == image(\"busybox\").digest", "true")],
};

fn registry_digest(call: &Call<'_>, registry: RegistryObject, reference: Name, options: Options) -> Result<String> {
    digest(call, &registry.remote(&reference.0)?, &options)
}

const REPOSITORY_DIGEST: Spec = Spec {
    name: "digest",
    on: On::Method,
    params: &[Param::new("selector")],
    options: &[ONE_PLATFORM],
    access: Access::Read,
    doc: "Returns the digest of an image of the repository, by its tag or digest. That costs one request without content.",
    examples: &[Example::gives(
        "registry(REGISTRY).repo(\"example/box\").digest(\"1\") == image(\"busybox\").digest",
        "true",
    )],
};

fn repository_digest(
    call: &Call<'_>,
    repository: RepositoryObject,
    selector: Name,
    options: Options,
) -> Result<String> {
    digest(call, &repository.remote(&selector.0)?, &options)
}

fn digest(call: &Call<'_>, remote: &Remote, options: &Options) -> Result<String> {
    let platform = one_platform(options)?;
    let found = call.wait(ops::registry::resolve(call.ctx(), &remote.reference, platform.as_ref(), &remote.reach))?;
    Ok(found.digest.to_string())
}

const REGISTRY_MANIFEST: Spec = Spec {
    name: "manifest",
    on: On::Method,
    params: &[Param::new("reference")],
    options: MANIFEST_OPTIONS,
    access: Access::Read,
    doc: "Returns the manifest or index of an image in the registry, as a map or, with `raw`, as its exact text.",
    examples: &[
        Example::gives("registry(REGISTRY).manifest(\"example/box:1\").schemaVersion", "2"),
        Example::gives("registry(REGISTRY).manifest(\"example/box:1\", #{ raw: true }).contains(\"layers\")", "true"),
    ],
};

fn registry_manifest(call: &Call<'_>, registry: RegistryObject, reference: Name, options: Options) -> Result<Dynamic> {
    manifest(call, &registry.remote(&reference.0)?, &options)
}

const REPOSITORY_MANIFEST: Spec = Spec {
    name: "manifest",
    on: On::Method,
    params: &[Param::new("selector")],
    options: MANIFEST_OPTIONS,
    access: Access::Read,
    doc: "Returns the manifest or index of an image of the repository, by its tag or digest, as a map or, with `raw`, as its exact text.",
    examples: &[
        Example::gives("registry(REGISTRY).repo(\"example/box\").manifest(\"1\").schemaVersion", "2"),
        Example::gives(
            "registry(REGISTRY).repo(\"example/box\").manifest(\"1\", #{ raw: true }).contains(\"layers\")",
            "true",
        ),
    ],
};

fn repository_manifest(
    call: &Call<'_>,
    repository: RepositoryObject,
    selector: Name,
    options: Options,
) -> Result<Dynamic> {
    manifest(call, &repository.remote(&selector.0)?, &options)
}

fn manifest(call: &Call<'_>, remote: &Remote, options: &Options) -> Result<Dynamic> {
    let platform = one_platform(options)?;
    let read = ops::registry::document(call.ctx(), &remote.reference, platform.as_ref(), &remote.reach);
    let (descriptor, bytes) = call.wait(read)?;
    let fail = |reason: String| {
        ops::Error::from(oci::Error::Document { what: "manifest", digest: descriptor.digest.to_string(), reason })
    };
    if options.flag("raw")? {
        return Ok(std::str::from_utf8(&bytes).map_err(|error| fail(error.to_string()))?.to_owned().into());
    }
    let document = serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?;
    Ok(convert::from_json(document))
}

const REGISTRY_CONFIG: Spec = Spec {
    name: "config",
    on: On::Method,
    params: &[Param::new("reference")],
    options: &[PLATFORM],
    access: Access::Read,
    doc: "Returns the config of an image in the registry as it is written: how to run it, its layers and its history.",
    examples: &[Example::gives("registry(REGISTRY).config(\"example/box:1\").os", "\"linux\"")],
};

fn registry_config(call: &Call<'_>, registry: RegistryObject, reference: Name, options: Options) -> Result<Value> {
    config(call, &registry.remote(&reference.0)?, &options)
}

const REPOSITORY_CONFIG: Spec = Spec {
    name: "config",
    on: On::Method,
    params: &[Param::new("selector")],
    options: &[PLATFORM],
    access: Access::Read,
    doc: "Returns the config of an image of the repository, by its tag or digest as it is written: how to run it, its layers and its history.",
    examples: &[Example::gives("registry(REGISTRY).repo(\"example/box\").config(\"1\").os", "\"linux\"")],
};

fn repository_config(call: &Call<'_>, repository: RepositoryObject, selector: Name, options: Options) -> Result<Value> {
    config(call, &repository.remote(&selector.0)?, &options)
}

fn config(call: &Call<'_>, remote: &Remote, options: &Options) -> Result<Value> {
    let platform = platform(options.strings("platform")?)?;
    call.wait(ops::registry::config(call.ctx(), &remote.reference, &platform, &remote.reach))
}

const REGISTRY_SIZE: Spec = Spec {
    name: "size",
    on: On::Method,
    params: &[Param::new("reference")],
    options: &[PLATFORM, ALL_PLATFORMS],
    access: Access::Read,
    doc: "Adds up the bytes of an image in the registry: its documents, configs and compressed layers, each counted once.",
    examples: &[
        Example::gives("registry(REGISTRY).size(\"example/box:1\") > 0", "true"),
        Example::gives("registry(REGISTRY).size(\"example/box:1\", #{ all_platforms: true }) > 0", "true"),
    ],
};

fn registry_size(call: &Call<'_>, registry: RegistryObject, reference: Name, options: Options) -> Result<u64> {
    size(call, &registry.remote(&reference.0)?, &options)
}

const REPOSITORY_SIZE: Spec = Spec {
    name: "size",
    on: On::Method,
    params: &[Param::new("selector")],
    options: &[PLATFORM, ALL_PLATFORMS],
    access: Access::Read,
    doc: "Adds up the bytes of an image of the repository, by its tag or digest: its documents, configs and compressed layers, each counted once.",
    examples: &[
        Example::gives("registry(REGISTRY).repo(\"example/box\").size(\"1\") > 0", "true"),
        Example::gives("registry(REGISTRY).repo(\"example/box\").size(\"1\", #{ all_platforms: true }) > 0", "true"),
    ],
};

fn repository_size(call: &Call<'_>, repository: RepositoryObject, selector: Name, options: Options) -> Result<u64> {
    size(call, &repository.remote(&selector.0)?, &options)
}

fn size(call: &Call<'_>, remote: &Remote, options: &Options) -> Result<u64> {
    let platforms = platforms(options)?;
    call.wait(ops::registry::size(call.ctx(), &remote.reference, &platforms, &remote.reach))
}

const REGISTRY_REFERRERS: Spec = Spec {
    name: "referrers",
    on: On::Method,
    params: &[Param::new("reference"), Param::new("artifact_type")],
    options: &[],
    access: Access::Read,
    doc: "Lists what refers to an image in the registry: signatures, attestations, SBOMs; of one artifact type, or of all.\n\nA registry without such a list is asked for the tag that stands in for it.",
    examples: &[
        Example::gives("registry(REGISTRY).referrers(\"example/box:1\")", "[]"),
        Example::gives("registry(REGISTRY).referrers(\"example/box:1\", \"application/spdx+json\")", "[]"),
    ],
};

fn registry_referrers(
    call: &Call<'_>,
    registry: RegistryObject,
    reference: Name,
    artifact_type: Option<String>,
) -> Result<Vec<ReferrerObject>> {
    referrers(call, &registry.remote(&reference.0)?, artifact_type)
}

const REPOSITORY_REFERRERS: Spec = Spec {
    name: "referrers",
    on: On::Method,
    params: &[Param::new("selector"), Param::new("artifact_type")],
    options: &[],
    access: Access::Read,
    doc: "Lists what refers to an image of the repository, by its tag or digest: signatures, attestations, SBOMs; of one artifact type, or of all.\n\nA registry without such a list is asked for the tag that stands in for it.",
    examples: &[
        Example::gives("registry(REGISTRY).repo(\"example/box\").referrers(\"1\")", "[]"),
        Example::gives("registry(REGISTRY).repo(\"example/box\").referrers(\"1\", \"application/spdx+json\")", "[]"),
    ],
};

fn repository_referrers(
    call: &Call<'_>,
    repository: RepositoryObject,
    selector: Name,
    artifact_type: Option<String>,
) -> Result<Vec<ReferrerObject>> {
    referrers(call, &repository.remote(&selector.0)?, artifact_type)
}

fn referrers(call: &Call<'_>, remote: &Remote, artifact_type: Option<String>) -> Result<Vec<ReferrerObject>> {
    let found = ops::registry::referrers(call.ctx(), &remote.reference, artifact_type.as_deref(), &remote.reach);
    Ok(call.wait(found)?.into_iter().map(ReferrerObject).collect())
}

/// Registers the methods.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&REPOSITORIES, repositories);
    catalog.add(&REPO, repo);
    catalog.add(&REGISTRY_TAGS, registry_tags);
    catalog.add(&REPOSITORY_TAGS, repository_tags);
    catalog.add(&REGISTRY_DIGEST, registry_digest);
    catalog.add(&REPOSITORY_DIGEST, repository_digest);
    catalog.add(&REGISTRY_MANIFEST, registry_manifest);
    catalog.add(&REPOSITORY_MANIFEST, repository_manifest);
    catalog.add(&REGISTRY_CONFIG, registry_config);
    catalog.add(&REPOSITORY_CONFIG, repository_config);
    catalog.add(&REGISTRY_SIZE, registry_size);
    catalog.add(&REPOSITORY_SIZE, repository_size);
    catalog.add(&REGISTRY_REFERRERS, registry_referrers);
    catalog.add(&REPOSITORY_REFERRERS, repository_referrers);
}
