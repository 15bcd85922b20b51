//! `metrics`: measures what containers use.

use crate::containerd::metrics::Metrics;
use crate::containerd::tasks::{Status, Task};
use crate::ops::container::{get, not_running};
use crate::ops::{Context, Result, Seen};

/// Measures one running container.
///
/// # Errors
/// [`Error::NotFound`](crate::ops::Error::NotFound) when there is no such container,
/// [`Error::Conflict`](crate::ops::Error::Conflict) when it does not run.
pub async fn metrics(ctx: &Context, id: &str) -> Result<Metrics> {
    // What a dry run only planned to start has used nothing yet.
    if let Seen::As(Task { status: Status::Running, .. }) = ctx.overlay().get::<Task>(&ctx.place_name(), id) {
        return Ok(Metrics::nothing(id, chrono::Utc::now()));
    }
    match ctx.client().await?.tasks().metrics(id).await {
        Err(error) if error.is_not_found() => {
            get(ctx, id).await?;
            Err(not_running(id))
        }
        other => Ok(other?),
    }
}

/// Measures every running container of the namespace, sorted by container.
///
/// # Errors
/// When there is no connection.
pub async fn all_metrics(ctx: &Context) -> Result<Vec<Metrics>> {
    let mut found = ctx.client().await?.tasks().all_metrics().await?;
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}
