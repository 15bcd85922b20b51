//! `snapshots::mounts`: how a snapshot is mounted.

use super::{Snapshot, not_found, place};
use crate::containerd::snapshots::{Kind, Mount};
use crate::ops::{Context, Error, Result, Seen, snapshot};

/// Returns how to mount an active snapshot or a view; nothing for one that a dry run would have made.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Conflict`] for a committed one, which cannot be mounted.
pub async fn mounts(ctx: &Context, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
    if let Seen::As(found) = ctx.overlay().get::<Snapshot>(&place(ctx, snapshotter), key) {
        return if found.info.kind == Kind::Committed { Err(committed(key)) } else { Ok(Vec::new()) };
    }
    match ctx.client().await?.snapshots(snapshotter).mounts(key).await {
        Ok(mounts) => Ok(mounts),
        Err(error) => match snapshot::get(ctx, snapshotter, key).await {
            Ok(found) if found.info.kind == Kind::Committed => Err(committed(key)),
            _ if error.is_not_found() => Err(not_found(ctx, snapshotter, key).await),
            _ => Err(error.into()),
        },
    }
}

fn committed(key: &str) -> Error {
    Error::Conflict {
        what: "snapshot",
        name: key.to_owned(),
        state: "is committed, and only active snapshots and views can be mounted".into(),
        cure: Some(format!("snapshots::view(\"a key of its own\", \"{key}\") makes a view of it")),
    }
}
