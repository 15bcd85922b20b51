//! `tasks`: lists tasks.

use crate::containerd::tasks::Task;
use crate::ops::{Context, Result};

/// Lists the tasks of the namespace, sorted by container.
///
/// # Errors
/// When there is no connection.
pub async fn list(ctx: &Context) -> Result<Vec<Task>> {
    let mut tasks = ctx.client().await?.tasks().list().await?;
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    ctx.overlay().amend(&ctx.place_name(), &mut tasks, |task| &task.id);
    Ok(tasks)
}
