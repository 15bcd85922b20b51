//! `images`: lists images.

use crate::containerd::images::Image;
use crate::ops::{Context, Result};

/// Lists the images of the namespace that match any of containerd's filters, all without a filter, sorted by name.
///
/// # Errors
/// When a filter is not one, or there is no connection.
pub async fn list(ctx: &Context, filters: &[String]) -> Result<Vec<Image>> {
    let mut images = ctx.client().await?.images().list(filters).await?;
    images.sort_by(|a, b| a.name.cmp(&b.name));
    if filters.is_empty() {
        ctx.overlay().amend(&ctx.place_name(), &mut images, |image| &image.name);
    }
    Ok(images)
}
