//! `digest`, `manifest`, `config`, `size`, `referrers`: what a registry says of an image, without a pull.

use bytes::Bytes;
use serde_json::Value;

use super::{check_held, repository};
use crate::oci::{self, Descriptor, Manifest, Matcher, Parsed, Reference, config as image_config};
use crate::ops::graph::{self, Selection};
use crate::ops::{Context, Result};
use crate::registry::{Options, RegistryStore};

/// Finds what a reference points to, with one request that carries no content. With a platform, what an index has for it.
///
/// # Errors
/// Of kind `not_found` when it is not there, or nothing of it fits the platform.
pub async fn resolve(
    ctx: &Context,
    reference: &Reference,
    platform: Option<&Matcher>,
    options: &Options,
) -> Result<Descriptor> {
    check_held(ctx, reference)?;
    let found = repository(ctx, reference, options).resolve(reference.selector()).await?;
    match platform {
        Some(matcher) => Ok(chosen(ctx, reference, found, matcher, options).await?.0),
        None => Ok(found),
    }
}

/// Reads the manifest or index that a reference points to. With a platform, the manifest that an index has for it.
///
/// # Errors
/// As [`resolve`].
pub async fn document(
    ctx: &Context,
    reference: &Reference,
    platform: Option<&Matcher>,
    options: &Options,
) -> Result<(Descriptor, Bytes)> {
    check_held(ctx, reference)?;
    let found = repository(ctx, reference, options).fetch(reference.selector()).await?;
    match platform {
        Some(matcher) => select(ctx, reference, found, matcher, options).await,
        None => Ok(found),
    }
}

/// Reads the config of the image that fits best.
///
/// # Errors
/// As [`resolve`].
pub async fn config(ctx: &Context, reference: &Reference, platform: &Matcher, options: &Options) -> Result<Value> {
    let (descriptor, bytes) = document(ctx, reference, Some(platform), options).await?;
    let Parsed::Manifest(Manifest { config, .. }) = Parsed::read(&descriptor, &bytes)? else {
        return Err(no_document("manifest", &descriptor, "it is an index"));
    };
    let bytes = repository(ctx, reference, options).blob(&config, image_config::MAX_SIZE).await?;
    serde_json::from_slice(&bytes).map_err(|error| no_document("image config", &config, &error.to_string()))
}

/// Adds up the bytes of an image as it is sent: its documents, configs and compressed layers, each digest once.
///
/// # Errors
/// As [`resolve`].
pub async fn size(ctx: &Context, reference: &Reference, platforms: &Matcher, options: &Options) -> Result<u64> {
    let root = resolve(ctx, reference, None, options).await?;
    let store = RegistryStore::source(ctx.registry(), reference, ctx.grant(), options);
    let graph = graph::walk(&store, None, &root, &Selection::Matching(platforms.clone())).await?;
    Ok(graph.size())
}

/// Lists what refers to an image: signatures, attestations, SBOMs; of one artifact type, or of all.
///
/// # Errors
/// As [`resolve`]; nothing that refers to it is an empty list.
pub async fn referrers(
    ctx: &Context,
    reference: &Reference,
    artifact_type: Option<&str>,
    options: &Options,
) -> Result<Vec<Descriptor>> {
    let subject = resolve(ctx, reference, None, options).await?;
    Ok(repository(ctx, reference, options).referrers(&subject.digest, artifact_type).await?)
}

async fn chosen(
    ctx: &Context,
    reference: &Reference,
    found: Descriptor,
    matcher: &Matcher,
    options: &Options,
) -> Result<(Descriptor, Bytes)> {
    if !found.media_type.is_index() {
        return Ok((found, Bytes::new()));
    }
    let bytes = repository(ctx, reference, options).manifest(&found).await?;
    select(ctx, reference, (found, bytes), matcher, options).await
}

/// Goes down from an index to the manifest that fits best; a manifest stands for itself.
async fn select(
    ctx: &Context,
    reference: &Reference,
    mut found: (Descriptor, Bytes),
    matcher: &Matcher,
    options: &Options,
) -> Result<(Descriptor, Bytes)> {
    let repository = repository(ctx, reference, options);
    for _ in 0..=oci::manifest::MAX_DEPTH {
        let Parsed::Index(index) = Parsed::read(&found.0, &found.1)? else { return Ok(found) };
        let Some(best) = matcher.select(&index.manifests).into_iter().next() else {
            return Err(graph::no_platform(matcher, &found.0, &index.manifests));
        };
        found = (best.clone(), repository.manifest(best).await?);
    }
    Err(no_document("index", &found.0, "indexes nest too deep"))
}

fn no_document(what: &'static str, descriptor: &Descriptor, reason: &str) -> crate::ops::Error {
    oci::Error::Document { what, digest: descriptor.digest.to_string(), reason: reason.to_owned() }.into()
}
