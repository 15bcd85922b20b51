//! `snapshots::list`: lists snapshots.

use futures_util::TryStreamExt;

use super::{Snapshot, place};
use crate::ops::{Context, Result};

/// Lists the snapshots of a snapshotter that match any of containerd's filters, all without a filter, sorted by key.
///
/// # Errors
/// When a filter is not one, there is no such snapshotter, or there is no connection.
pub async fn list(ctx: &Context, snapshotter: &str, filters: &[String]) -> Result<Vec<Snapshot>> {
    let found = ctx.client().await?.snapshots(snapshotter).list(filters).await?;
    let wrap = |info| Snapshot { snapshotter: snapshotter.to_owned(), info };
    let mut snapshots: Vec<Snapshot> = found.map_ok(wrap).try_collect().await?;
    snapshots.sort_by(|a, b| a.info.name.cmp(&b.info.name));
    if filters.is_empty() {
        ctx.overlay().amend(&place(ctx, snapshotter), &mut snapshots, |snapshot| &snapshot.info.name);
    }
    Ok(snapshots)
}

/// Lists the snapshots that stand on one, sorted by key.
///
/// # Errors
/// When there is no such snapshotter, or no connection.
pub async fn children(ctx: &Context, snapshotter: &str, key: &str) -> Result<Vec<Snapshot>> {
    // A dry run's own snapshots are not in an answer to a filter.
    let filters = if ctx.is_dry_run() { Vec::new() } else { vec![format!("parent=={key:?}")] };
    let mut snapshots = list(ctx, snapshotter, &filters).await?;
    snapshots.retain(|snapshot| snapshot.info.parent.as_deref() == Some(key));
    Ok(snapshots)
}
