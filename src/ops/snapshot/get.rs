//! `snapshots::info`: looks one snapshot up.

use super::{Snapshot, not_found, place};
use crate::ops::{Context, Result, Seen};

/// Finds a snapshot by its key.
///
/// # Errors
/// [`Error::NotFound`](crate::ops::Error::NotFound) with the nearest key that exists.
pub async fn get(ctx: &Context, snapshotter: &str, key: &str) -> Result<Snapshot> {
    match ctx.overlay().get::<Snapshot>(&place(ctx, snapshotter), key) {
        Seen::As(snapshot) => return Ok(snapshot),
        Seen::Gone => return Err(not_found(ctx, snapshotter, key).await),
        Seen::Unknown => {}
    }
    match ctx.client().await?.snapshots(snapshotter).stat(key).await {
        Ok(info) => Ok(Snapshot { snapshotter: snapshotter.to_owned(), info }),
        Err(error) if error.is_not_found() => Err(not_found(ctx, snapshotter, key).await),
        Err(error) => Err(error.into()),
    }
}
