//! `config`, `manifest`, `history`: what an image says of itself.

use serde_json::Value;

use crate::containerd::images::Image;
use crate::oci::{Descriptor, ImageConfig, Manifest, Matcher, config};
use crate::ops::image::detail::{detail, image_config};
use crate::ops::{Context, Error, Result};

/// Reads the manifest or index that an image's record points to, as it is written.
///
/// # Errors
/// [`Error::Incomplete`] when it is not here.
pub async fn manifest(ctx: &Context, image: &Image) -> Result<Value> {
    let client = ctx.client().await?;
    match client.content().bytes(&image.target.digest, crate::oci::manifest::MAX_SIZE).await {
        Ok(bytes) => json(&image.target, "manifest", &bytes),
        Err(error) if error.is_not_found() => Err(missing(image, "its manifest")),
        Err(error) => Err(error.into()),
    }
}

/// Reads the config of the image that fits best, as it is written.
///
/// # Errors
/// [`Error::Incomplete`] when it is not here.
pub async fn config(ctx: &Context, image: &Image, matcher: &Matcher) -> Result<Value> {
    let (_, manifest) = platform_manifest(ctx, image, matcher).await?;
    let client = ctx.client().await?;
    match client.content().bytes(&manifest.config.digest, config::MAX_SIZE).await {
        Ok(bytes) => json(&manifest.config, "image config", &bytes),
        Err(error) if error.is_not_found() => Err(missing(image, "its config")),
        Err(error) => Err(error.into()),
    }
}

/// Reads the manifest and config of the image that fits best.
///
/// # Errors
/// [`Error::Incomplete`] when one of them is not here.
pub async fn image_of(ctx: &Context, image: &Image, matcher: &Matcher) -> Result<(Descriptor, Manifest, ImageConfig)> {
    let (descriptor, manifest) = platform_manifest(ctx, image, matcher).await?;
    match image_config(&ctx.client().await?, &manifest).await? {
        Some(config) => Ok((descriptor, manifest, config)),
        None => Err(missing(image, "its config")),
    }
}

async fn platform_manifest(ctx: &Context, image: &Image, matcher: &Matcher) -> Result<(Descriptor, Manifest)> {
    let found = detail(&ctx.client().await?, &image.target, matcher).await?;
    found.manifest.ok_or_else(|| missing(image, &format!("its manifest for {matcher}")))
}

fn json(descriptor: &Descriptor, what: &'static str, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| {
        crate::oci::Error::Document { what, digest: descriptor.digest.to_string(), reason: error.to_string() }.into()
    })
}

fn missing(image: &Image, what: &str) -> Error {
    Error::Incomplete { image: image.name.clone(), missing: format!("{what} is not in the store") }
}
