//! The daemon's disk: what takes space, over all namespaces, and what keeps it.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::containerd::images::Image;
use crate::oci::Digest;
use crate::ops::{Context, Result, namespace, node};

mod holdings;
mod usage;

pub use holdings::{Holdings, Item};
pub use usage::{Disk, ImageUsage, NamespaceUsage, disk};

/// How many namespaces, and how many snapshots, are asked for at the same time.
const PARALLEL: usize = 8;

/// Bytes of both sorts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// In the content store: compressed layers, configs, documents.
    pub content: u64,
    /// In snapshots: unpacked layers and what containers wrote.
    pub snapshots: u64,
}

impl Bytes {
    /// Adds both up.
    #[must_use]
    pub fn total(self) -> u64 {
        self.content + self.snapshots
    }
}

/// Looks at all namespaces.
///
/// # Errors
/// When there is no connection, or reading one of them was not granted.
pub async fn everywhere(ctx: &Context) -> Result<Vec<Holdings>> {
    let snapshotters = snapshotters(ctx).await?;
    let read = stream::iter(namespace::list(ctx).await?).map(|namespace| {
        let (ctx, snapshotters) = (ctx.clone(), snapshotters.clone());
        async move { Holdings::read(&ctx, &namespace.name, &snapshotters).await }
    });
    read.buffered(PARALLEL).try_collect().await
}

/// Names the snapshotters that work.
///
/// # Errors
/// When there is no connection.
pub async fn snapshotters(ctx: &Context) -> Result<Vec<String>> {
    let plugins = node::plugins(ctx, &["type==io.containerd.snapshotter.v1".to_owned()]).await?;
    Ok(plugins.into_iter().filter(|plugin| plugin.failure.is_none()).map(|plugin| plugin.id).collect())
}

/// Measures snapshots of a namespace; what is gone meanwhile is left out.
///
/// # Errors
/// When there is no connection.
pub async fn measure<'a>(
    ctx: &Context,
    namespace: &str,
    items: impl IntoIterator<Item = &'a Item>,
) -> Result<HashMap<Item, u64>> {
    let client = ctx.in_namespace(namespace).client().await?;
    let snapshots = items.into_iter().filter(|item| matches!(item, Item::Snapshot { .. })).cloned();
    let jobs = stream::iter(snapshots.collect::<Vec<_>>()).map(|item| {
        let client = client.clone();
        async move {
            let Item::Snapshot { snapshotter, key } = &item else { return Ok(None) };
            match client.snapshots(snapshotter).usage(key).await {
                Ok(usage) => Ok(Some((item, usage.size))),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
    });
    jobs.buffer_unordered(PARALLEL).try_filter_map(async |one| Ok(one)).try_collect().await
}

/// The images of a namespace by what they point to.
#[must_use]
pub fn by_target(images: &[Image]) -> BTreeMap<Digest, Vec<&Image>> {
    images.iter().fold(BTreeMap::new(), |mut groups: BTreeMap<_, Vec<_>>, image| {
        groups.entry(image.target.digest.clone()).or_default().push(image);
        groups
    })
}
