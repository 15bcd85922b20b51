//! `ps`: lists the processes of a container.

use crate::containerd::tasks::{Pid, Status, Task};
use crate::ops::container::{get, not_running};
use crate::ops::{Context, Result, Seen};

/// Lists the processes of a running container, by their numbers in the daemon's PID namespace.
///
/// # Errors
/// [`Error::NotFound`](crate::ops::Error::NotFound) when there is no such container,
/// [`Error::Conflict`](crate::ops::Error::Conflict) when it does not run.
pub async fn ps(ctx: &Context, id: &str) -> Result<Vec<Pid>> {
    // What a dry run only planned to start has its first process, whose number nobody knows.
    if let Seen::As(Task { status: Status::Running, pid: 0, .. }) = ctx.overlay().get::<Task>(&ctx.place_name(), id) {
        return Ok(vec![Pid { pid: 0, exec_id: None }]);
    }
    match ctx.client().await?.tasks().pids(id).await {
        Err(error) if error.is_not_found() => {
            get(ctx, id).await?;
            Err(not_running(id))
        }
        other => Ok(other?),
    }
}
