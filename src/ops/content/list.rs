//! `content::list`: lists blobs, and looks one up.

use futures_util::TryStreamExt;

use crate::containerd::content::Info;
use crate::oci::Digest;
use crate::ops::{Context, Error, Result, Seen};

/// Lists the blobs of the namespace that match any of containerd's filters, all without a filter, sorted by digest.
///
/// # Errors
/// When a filter is not one, or there is no connection.
pub async fn list(ctx: &Context, filters: &[String]) -> Result<Vec<Info>> {
    let mut blobs: Vec<Info> = ctx.client().await?.content().list(filters).await?.try_collect().await?;
    blobs.sort_by(|a, b| a.digest.as_str().cmp(b.digest.as_str()));
    if filters.is_empty() {
        ctx.overlay().amend(&ctx.place_name(), &mut blobs, |blob| blob.digest.as_str());
    }
    Ok(blobs)
}

/// Looks one blob up.
///
/// # Errors
/// [`Error::NotFound`] when the namespace does not have it.
pub async fn info(ctx: &Context, digest: &Digest) -> Result<Info> {
    match ctx.overlay().get::<Info>(&ctx.place_name(), digest.as_str()) {
        Seen::As(info) => return Ok(info),
        Seen::Gone => return Err(missing(ctx, digest)),
        Seen::Unknown => {}
    }
    match ctx.client().await?.content().info(digest).await {
        Err(error) if error.is_not_found() => Err(missing(ctx, digest)),
        other => Ok(other?),
    }
}

fn missing(ctx: &Context, digest: &Digest) -> Error {
    let cure = Some(format!("content::list() shows what is here; this is the namespace {}", ctx.namespace()));
    Error::NotFound { what: "content", name: digest.to_string(), nearest: None, cure }
}
