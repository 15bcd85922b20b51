//! `usage`: the disk that an image takes.

use crate::containerd::images::Image;
use crate::oci::Matcher;
use crate::ops::image::check::check;
use crate::ops::image::inspect::image_of;
use crate::ops::snapshot::would_be_there;
use crate::ops::{Context, Level, Result};

/// The disk that an image takes. What it shares with other images is counted for each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of its content that are in the store, over all its platforms.
    pub content: u64,
    /// Bytes of its unpacked layers.
    pub snapshots: u64,
    /// Files and folders of its unpacked layers.
    pub inodes: u64,
}

/// Adds up what an image takes.
///
/// # Errors
/// When a document cannot be used, or there is no connection.
pub async fn usage(ctx: &Context, image: &Image, snapshotter: &str) -> Result<Usage> {
    let found = check(ctx, image, &Matcher::host(), snapshotter).await?;
    let mut usage = Usage { content: found.platforms.iter().map(|p| p.present).sum(), ..Usage::default() };
    if found.platforms.len() > 1 || found.platforms.first().is_some_and(|p| p.total != usage.content) {
        usage.content += image.target.size;
    }
    if !found.unpacked() {
        return Ok(usage);
    }
    let (_, _, config) = image_of(ctx, image, &Matcher::host()).await?;
    let snapshots = ctx.client().await?.snapshots(snapshotter);
    for chain_id in config.chain_ids() {
        if would_be_there(ctx, snapshotter, chain_id.as_str()) {
            let name = &image.name;
            ctx.note(Level::Info, &format!("{name}: what its layers take unpacked is not known in a dry run"));
            break;
        }
        match snapshots.usage(chain_id.as_str()).await {
            Ok(one) => {
                usage.snapshots += one.size;
                usage.inodes += one.inodes;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(usage)
}
