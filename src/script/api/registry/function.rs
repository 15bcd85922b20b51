//! The functions that begin with a name: `registry`, `repositories`, `tags`, `digest`.

use std::sync::Arc;

use super::object::{RegistryObject, RepositoryObject};
use super::options::{REACH, registry_options};
use super::read::one_platform;
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops;
use crate::ops::registry::Address;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec, joined};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::Name;

/// The option that goes from an index to one of its images.
pub(super) const ONE_PLATFORM: Opt = Opt::new(
    "platform",
    "string",
    "The platform whose image of an index is meant, such as `linux/arm64`. Default: the index itself.",
);

const REGISTRY: Spec = Spec {
    name: "registry",
    on: On::Free,
    params: &[Param::new("host")],
    options: REACH,
    access: Access::Read,
    doc: "Returns a registry, to be read and changed without a pull. Nothing is asked of it yet.\n\nThe options hold for all that is done with the object. With a path behind the host, such as a project of Harbor or a group of GitLab, names are below that path.",
    examples: &[
        Example::gives("registry(\"localhost:5000\").host", "\"localhost:5000\""),
        Example::gives("registry(REGISTRY).repo(\"example/box\").tags()", "[\"1\"]"),
    ],
};

fn registry(call: &Call<'_>, host: Name, options: Options) -> Result<RegistryObject> {
    let address = Address::parse(&host.0)?;
    Ok(RegistryObject { address, reach: Arc::new(registry_options(call, &options)?) })
}

const REPOSITORIES: Spec = Spec {
    name: "repositories",
    on: On::Free,
    params: &[Param::new("host")],
    options: REACH,
    access: Access::Read,
    doc: "Lists the repositories of a registry, sorted by name, as `registry(host).repositories()` does.\n\nPublic registries keep that list to themselves, which is an error that says so.",
    examples: &[Example::gives("repositories(REGISTRY).some(|r| r.name.ends_with(\"example/box\"))", "true")],
};

fn repositories(call: &Call<'_>, host: Name, options: Options) -> Result<Vec<RepositoryObject>> {
    super::read::repositories(call, registry(call, host, options)?, None)
}

const TAGS: Spec = Spec {
    name: "tags",
    on: On::Free,
    params: &[Param::of("repository", Names::Image)],
    options: REACH,
    access: Access::Read,
    doc: "Lists the tags of a repository, `[HOST[:PORT]/]NAME`, in its registry's order.",
    examples: &[
        Example::gives("tags(`${REGISTRY}/example/box`)", "[\"1\"]"),
        Example::runs("for tag in tags(`${REGISTRY}/example/box`) { print(digest(`${REGISTRY}/example/box:${tag}`)) }"),
    ],
};

fn tags(call: &Call<'_>, repository: Name, options: Options) -> Result<Vec<String>> {
    let reference = ops::registry::repository_of(&repository.0)?;
    let reach = registry_options(call, &options)?;
    call.wait(ops::registry::tags(call.ctx(), &reference, &reach))
}

/// The options of `digest` beside those that say how a registry is reached.
const DIGEST_OWN: &[Opt] = &[ONE_PLATFORM];

const DIGEST: Spec = Spec {
    name: "digest",
    on: On::Free,
    params: &[Param::of("reference", Names::Image)],
    options: &joined::<{ DIGEST_OWN.len() + REACH.len() }>(DIGEST_OWN, REACH),
    access: Access::Read,
    doc: "Returns the digest that a reference has in its registry now. That costs one request without content; an image that is here has its own in `image(reference).digest`.",
    examples: &[
        Example::gives("digest(`${REGISTRY}/example/box:1`) == image(\"busybox\").digest", "true"),
        Example::runs(
            "if digest(`${REGISTRY}/example/box:1`) != image(\"busybox\").digest { print(\"there is a newer one\") }",
        ),
    ],
};

fn digest(call: &Call<'_>, reference: Name, options: Options) -> Result<String> {
    let reference: Reference = reference.0.parse().map_err(ops::Error::from)?;
    let platform = one_platform(&options)?;
    let reach = registry_options(call, &options)?;
    let found = call.wait(ops::registry::resolve(call.ctx(), &reference, platform.as_ref(), &reach))?;
    Ok(found.digest.to_string())
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&REGISTRY, registry);
    catalog.add(&REPOSITORIES, repositories);
    catalog.add(&TAGS, tags);
    catalog.add(&DIGEST, digest);
}
