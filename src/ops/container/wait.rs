//! `wait`: waits for the end of a container's task.

use std::time::Duration;

use super::terminal::outlasting_a_restart;
use super::{get, get::not_running, status};
use crate::containerd::tasks::{Exit, Status, Task};
use crate::ops::{Context, Effect, Error, Result};

/// Waits until the container's task, or a process that was executed in it, has ended, and returns how. One that has ended before is answered at once.
///
/// A dry run does not wait, since what would end the task was not done: it goes on as if the task had ended with 0.
///
/// # Errors
/// [`Error::Conflict`] when there is no task, [`Error::Timeout`] when it takes longer than the limit.
pub async fn wait(ctx: &Context, id: &str, exec_id: &str, limit: Option<Duration>) -> Result<Exit> {
    get(ctx, id).await?;
    if ctx.is_dry_run() {
        let task = status(ctx, id).await?.ok_or_else(|| not_running(id))?;
        let exit = task.exit.unwrap_or_else(|| Exit { code: 0, at: chrono::Utc::now() });
        if !exec_id.is_empty() {
            return Ok(exit);
        }
        let ended = Task { status: Status::Stopped, exit: Some(exit), ..task };
        ctx.overlay().record(vec![Effect::exists(&ctx.place_name(), id, ended)]);
        return Ok(exit);
    }
    let tasks = ctx.client().await?.tasks();
    let ended = async {
        let waiting = tasks.waiting(id, exec_id).await;
        match outlasting_a_restart(waiting, tasks, id.to_owned(), exec_id.to_owned()).await {
            Err(error) if error.is_not_found() && !exec_id.is_empty() => Err(Error::not_found("process", exec_id, [])),
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
