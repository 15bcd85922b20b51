//! `repositories`, `tags`: what a registry and a repository hold.

use globset::{GlobBuilder, GlobSetBuilder};

use super::{Address, is_gone, repository};
use crate::kind::{Failure, Kind};
use crate::oci::Reference;
use crate::ops::{Context, Error, Result};
use crate::registry::Options;

/// Lists the repositories below an address, sorted. With globs, those whose name below it matches one.
///
/// # Errors
/// [`Error::Unsupported`] when the registry keeps its list to itself, as the public ones do.
pub async fn repositories(
    ctx: &Context,
    address: &Address,
    globs: &[String],
    options: &Options,
) -> Result<Vec<Reference>> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let built = GlobBuilder::new(glob).literal_separator(true).build();
        set.add(
            built.map_err(|error| {
                Error::argument(format!("filter '{glob}'"), format!("is no glob: {}", error.kind()))
            })?,
        );
    }
    let set = set.build().map_err(|error| Error::argument("filter", format!("is no glob: {}", error.kind())))?;
    let registry = ctx.registry().registry(address.host(), ctx.grant(), options);
    let mut names = registry.repositories().await.map_err(|error| unlisted(address, error))?;
    names.sort_unstable();
    names.dedup();
    let below = |name: &str| match address.path() {
        Some(path) => name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned),
        None => Some(name.to_owned()),
    };
    let wanted =
        names.into_iter().filter(|name| below(name).is_some_and(|below| globs.is_empty() || set.is_match(below)));
    // A name that no reference can have could not be asked for anyway.
    Ok(wanted.filter_map(|name| format!("{}/{name}", address.host()).parse().ok()).collect())
}

/// Says what to do when a registry does not list its repositories.
fn unlisted(address: &Address, error: crate::registry::Error) -> Error {
    let answered = match &error {
        crate::registry::Error::Answer(answer) => answer.has("UNSUPPORTED") || answer.status.is_client_error(),
        crate::registry::Error::NotFound { .. } | crate::registry::Error::NotARegistry { .. } => true,
        _ => false,
    };
    let throttled = matches!(error.kind(), Kind::Unavailable | Kind::Timeout);
    if !answered || throttled {
        return error.into();
    }
    let kind = match error.kind() {
        Kind::Internal | Kind::Usage => Kind::Conflict,
        kind => kind,
    };
    let cure = if kind == Kind::Unauthorized {
        "log in as a user who may see all of them, most often an administrator, or name the repositories yourself"
    } else {
        "name the repositories yourself, from a file or the provider's own interface"
    };
    let registry = address.host().to_owned();
    Error::Unsupported { registry, what: "list its repositories", reason: error.to_string(), kind, cure: cure.into() }
}

/// Lists the tags of a repository, in the registry's order.
///
/// # Errors
/// Of kind `not_found` when there is no such repository.
pub async fn tags(ctx: &Context, reference: &Reference, options: &Options) -> Result<Vec<String>> {
    let mut tags = repository(ctx, reference, options).tags().await?;
    tags.retain(|tag| !is_gone(ctx, reference, tag));
    Ok(tags)
}
