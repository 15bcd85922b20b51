//! `snapshots::info`: looks one snapshot up.

use super::{Snapshot, not_found, place};
use crate::ops::{Context, Effect, Result, Seen};

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

/// Returns whether there is a snapshot, or would be.
///
/// # Errors
/// When there is no connection.
pub(in crate::ops) async fn is_there(ctx: &Context, snapshotter: &str, key: &str) -> Result<bool> {
    match ctx.overlay().get::<Snapshot>(&place(ctx, snapshotter), key) {
        Seen::As(_) => return Ok(true),
        Seen::Gone => return Ok(false),
        Seen::Unknown => {}
    }
    match ctx.client().await?.snapshots(snapshotter).stat(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether a snapshot is one that a dry run would have made.
pub(in crate::ops) fn would_be_there(ctx: &Context, snapshotter: &str, key: &str) -> bool {
    matches!(ctx.overlay().get::<Snapshot>(&place(ctx, snapshotter), key), Seen::As(_))
}

/// Says that there would be a snapshot.
pub(in crate::ops) fn would_exist(ctx: &Context, snapshot: Snapshot) -> Effect {
    let (place, key) = (place(ctx, &snapshot.snapshotter), snapshot.info.name.clone());
    Effect::exists(&place, &key, snapshot)
}
