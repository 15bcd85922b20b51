//! What an image is made of, read from its documents in the store.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::oci::{Descriptor, Digest, ImageConfig, Manifest, Matcher, Parsed, Platform, config, manifest};
use crate::ops::content::Held;
use crate::ops::{Context, Result};

/// How many images are looked into at the same time.
const PARALLEL: usize = 16;

/// What the documents of an image say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// The platforms that it is for. Attestations are none.
    pub platforms: Vec<Platform>,
    /// What the documents, the config and the layers of the best platform add up to, in bytes, whether they are here or
    /// not; the documents alone when nothing of the manifest is here.
    pub size: u64,
    /// The manifest of the best platform, when it is here.
    pub manifest: Option<(Descriptor, Manifest)>,
}

/// Looks into several images at once, each target only once; an image whose documents are not here comes out empty.
///
/// # Errors
/// When there is no connection.
pub async fn details(ctx: &Context, targets: &[Descriptor]) -> Result<HashMap<Digest, Arc<Detail>>> {
    let held = Held::new(ctx).await?;
    let mut distinct: HashMap<&Digest, &Descriptor> = HashMap::new();
    for target in targets {
        distinct.entry(&target.digest).or_insert(target);
    }
    let jobs = stream::iter(distinct.into_values()).map(|target| {
        let held = held.clone();
        async move { (target.digest.clone(), detail(&held, target, &Matcher::host()).await.unwrap_or_default()) }
    });
    Ok(jobs.buffer_unordered(PARALLEL).map(|(digest, detail)| (digest, Arc::new(detail))).collect().await)
}

/// Looks into one image.
///
/// # Errors
/// When a document is here and cannot be used.
pub async fn detail(held: &Held, target: &Descriptor, matcher: &Matcher) -> Result<Detail> {
    let mut found = Detail { size: target.size, ..Detail::default() };
    let Some(parsed) = document(held, target).await? else { return Ok(found) };
    let (descriptor, manifest) = match parsed {
        Parsed::Manifest(manifest) => (target.clone(), manifest),
        Parsed::Index(index) => {
            found.platforms = declared(&index.manifests);
            let Some(best) = best(index.manifests, matcher) else { return Ok(found) };
            found.size += best.size;
            let Some(Parsed::Manifest(manifest)) = document(held, &best).await? else { return Ok(found) };
            (best, manifest)
        }
    };
    found.size += manifest.config.size + manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
    if found.platforms.is_empty()
        && let Some(config) = image_config(held, &manifest).await?
    {
        found.platforms.push(config.platform.normalized());
    }
    found.manifest = Some((descriptor, manifest));
    Ok(found)
}

/// Lists the platforms that an index declares, each once, in its order.
fn declared(manifests: &[Descriptor]) -> Vec<Platform> {
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in manifests.iter().filter(|d| !d.is_attestation()).filter_map(|d| d.platform.clone()) {
        let platform = platform.normalized();
        if !platform.is_unknown() && !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    platforms
}

/// Picks the child that fits best, or the first that is an image when none fits.
fn best(mut manifests: Vec<Descriptor>, matcher: &Matcher) -> Option<Descriptor> {
    // The index of a checkpoint lists layers and records too, with this host's platform.
    manifests.retain(|d| d.media_type.is_manifest() || d.media_type.is_index());
    let fits = matcher.select(&manifests).into_iter().next();
    fits.or_else(|| manifests.iter().find(|d| d.media_type.is_manifest() && !d.is_attestation())).cloned()
}

/// Reads a document, or nothing when it is not here.
///
/// # Errors
/// When it is here and cannot be used.
pub(crate) async fn document(held: &Held, descriptor: &Descriptor) -> Result<Option<Parsed>> {
    let bytes = held.bytes(&descriptor.digest, manifest::MAX_SIZE).await?;
    Ok(bytes.map(|bytes| Parsed::read(descriptor, &bytes)).transpose()?)
}

/// Reads an image's config, or nothing when it is not here.
///
/// # Errors
/// When it is here and cannot be used.
pub(crate) async fn image_config(held: &Held, manifest: &Manifest) -> Result<Option<ImageConfig>> {
    if !manifest.config.media_type.is_config() && manifest.config.media_type.as_str() != "application/octet-stream" {
        return Ok(None);
    }
    let bytes = held.bytes(&manifest.config.digest, config::MAX_SIZE).await?;
    Ok(bytes.map(|bytes| ImageConfig::read(&manifest.config.digest, &bytes)).transpose()?)
}
