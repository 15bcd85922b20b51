//! `snapshots::usage`: the disk that snapshots take.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Snapshot, list, not_found, place};
use crate::containerd::snapshots::Usage;
use crate::ops::{Context, Result, Seen};

/// How many snapshots are measured at the same time.
const PARALLEL: usize = 8;

/// Measures snapshots, each without its parents: those with these keys in their order, or all, sorted by key.
///
/// # Errors
/// [`Error::NotFound`](crate::ops::Error::NotFound) when there is none of a key that was given.
pub async fn usage(ctx: &Context, snapshotter: &str, keys: Option<Vec<String>>) -> Result<Vec<(String, Usage)>> {
    let is_given = keys.is_some();
    let keys = match keys {
        Some(keys) => keys,
        None => list(ctx, snapshotter, &[]).await?.into_iter().map(|snapshot| snapshot.info.name).collect(),
    };
    let snapshots = ctx.client().await?.snapshots(snapshotter);
    let jobs = stream::iter(keys).map(|key| {
        let snapshots = snapshots.clone();
        async move {
            if let Seen::As(_) = ctx.overlay().get::<Snapshot>(&place(ctx, snapshotter), &key) {
                return Ok(Some((key, Usage::default())));
            }
            match snapshots.usage(&key).await {
                Ok(usage) => Ok(Some((key, usage))),
                Err(error) if error.is_not_found() && is_given => Err(not_found(ctx, snapshotter, &key).await),
                // It went after it was listed.
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
    });
    jobs.buffered(PARALLEL).try_filter_map(async |one| Ok(one)).try_collect().await
}
