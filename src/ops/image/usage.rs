//! `usage`: the disk that an image takes.

use std::collections::BTreeMap;

use crate::containerd::images::Image;
use crate::oci::{Digest, Matcher, Parsed};
use crate::ops::content::Held;
use crate::ops::image::check::check;
use crate::ops::image::detail::document;
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
    let mut usage = Usage { content: content(ctx, image).await?, ..Usage::default() };
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

/// Adds up the blobs of an image that are in the store, each once however many of its platforms have it.
async fn content(ctx: &Context, image: &Image) -> Result<u64> {
    let held = Held::new(ctx).await?;
    let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut waiting = vec![image.target.clone()];
    while let Some(descriptor) = waiting.pop() {
        if sizes.contains_key(&descriptor.digest) {
            continue;
        }
        let Some(info) = held.info(&descriptor.digest).await? else { continue };
        let is_document = descriptor.media_type.is_manifest() || descriptor.media_type.is_index();
        if is_document || sizes.is_empty() {
            match document(&held, &descriptor).await? {
                Some(Parsed::Index(index)) => waiting.extend(index.manifests),
                Some(Parsed::Manifest(manifest)) => {
                    waiting.push(manifest.config);
                    waiting.extend(manifest.layers);
                }
                None => {}
            }
        }
        sizes.insert(descriptor.digest, info.size);
    }
    Ok(sizes.values().sum())
}
