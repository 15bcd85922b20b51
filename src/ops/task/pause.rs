//! `pause`: freezes every process of a container.

use std::time::Duration;

use async_trait::async_trait;

use crate::containerd;
use crate::containerd::tasks::{Status, Task, Tasks};
use crate::grant::Access;
use crate::ops::container::{get, not_running, status};
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// What runc says when the processes of a cgroup v1 were not all frozen in its own patience, as on a machine that is busy;
/// it thaws them then (runc libcontainer/cgroups/fs/freezer.go).
const UNSETTLED: &str = "unable to freeze";
/// How often it is asked to freeze them.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(100);

/// Freezes every process of a container.
#[derive(Debug)]
pub struct Pause {
    id: String,
    done: bool,
}

impl Pause {
    /// Acts on the container with this id.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), done: false }
    }
}

#[async_trait]
impl Operation for Pause {
    type Output = ();
    const NAME: &'static str = "pause";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let Some(task) = status(ctx, &self.id).await?.filter(|task| task.status.is_alive()) else {
            get(ctx, &self.id).await?;
            return Err(not_running(&self.id));
        };
        self.done = task.status == Status::Paused;
        if self.done {
            return Ok(Plan::new(()));
        }
        let effect = Effect::exists(&ctx.place_name(), &self.id, Task { status: Status::Paused, ..task });
        Ok(Plan::new(()).step(Access::Run, ctx.target(), format!("pause container {}", self.id)).effect(effect))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        if self.done {
            return Ok(());
        }
        Ok(freeze(&ctx.client().await?.tasks(), &self.id).await?)
    }
}

/// Freezes every process of a container, however busy they are.
///
/// # Errors
/// When the daemon is gone, or runc cannot freeze them even in several tries.
pub(in crate::ops) async fn freeze(tasks: &Tasks, id: &str) -> containerd::Result<()> {
    for _ in 1..TRIES {
        match tasks.pause(id).await {
            Err(error) if error.to_string().contains(UNSETTLED) => tokio::time::sleep(BETWEEN).await,
            ended => return ended,
        }
    }
    tasks.pause(id).await
}
