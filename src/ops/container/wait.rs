//! `wait`: waits for the end of a container's task.

use std::time::Duration;

use super::{get, get::not_running};
use crate::containerd::tasks::Exit;
use crate::ops::{Context, Error, Result};

/// Waits until the container's task has ended, and returns how. One that has ended before is answered at once.
///
/// # Errors
/// [`Error::Conflict`] when there is no task, [`Error::Timeout`] when it takes longer than the limit.
pub async fn wait(ctx: &Context, id: &str, limit: Option<Duration>) -> Result<Exit> {
    get(ctx, id).await?;
    let tasks = ctx.client().await?.tasks();
    let ended = async {
        match tasks.wait(id, "").await {
            Err(error) if error.is_not_found() => Err(not_running(id)),
            other => Ok(other?),
        }
    };
    match limit {
        None => ended.await,
        Some(limit) => tokio::time::timeout(limit, ended)
            .await
            .unwrap_or_else(|_| Err(Error::Timeout { attempted: format!("waiting for container {id}"), limit })),
    }
}
