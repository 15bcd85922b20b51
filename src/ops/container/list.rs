//! `containers`: lists containers.

use std::collections::HashMap;

use futures_util::TryStreamExt;

use super::Snapshot;
use crate::containerd::containers::Container;
use crate::containerd::tasks::Task;
use crate::ops::{Context, Result};

/// Lists the containers of the namespace that match any of containerd's filters, all without a filter, sorted by id.
///
/// # Errors
/// When a filter is not one, or there is no connection.
pub async fn list(ctx: &Context, filters: &[String]) -> Result<Vec<Container>> {
    let found = ctx.client().await?.containers().list(filters).await?;
    let mut containers: Vec<Container> = found.try_collect().await?;
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    if filters.is_empty() {
        ctx.overlay().amend(&ctx.place_name(), &mut containers, |container| &container.id);
    }
    Ok(containers)
}

/// Lists containers with their tasks, which takes two requests however many there are.
///
/// # Errors
/// As [`list`].
pub async fn list_with_tasks(ctx: &Context, filters: &[String]) -> Result<Vec<Snapshot>> {
    let (containers, tasks) = tokio::try_join!(list(ctx, filters), crate::ops::task::list(ctx))?;
    let mut tasks: HashMap<String, Task> = tasks.into_iter().map(|task| (task.id.clone(), task)).collect();
    let with_task = |container: Container| Snapshot { task: tasks.remove(&container.id), container };
    Ok(containers.into_iter().map(with_task).collect())
}
