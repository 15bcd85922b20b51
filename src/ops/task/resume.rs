//! `resume`: thaws every process of a container that was paused.

use async_trait::async_trait;

use crate::containerd::tasks::{Status, Task};
use crate::grant::Access;
use crate::ops::container::{get, not_running, status};
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// Thaws every process of a container that was paused.
#[derive(Debug)]
pub struct Resume {
    id: String,
    done: bool,
}

impl Resume {
    /// Acts on the container with this id.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), done: false }
    }
}

#[async_trait]
impl Operation for Resume {
    type Output = ();
    const NAME: &'static str = "resume";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let Some(task) = status(ctx, &self.id).await?.filter(|task| task.status.is_alive()) else {
            get(ctx, &self.id).await?;
            return Err(not_running(&self.id));
        };
        self.done = task.status == Status::Running;
        if self.done {
            return Ok(Plan::new(()));
        }
        let effect = Effect::exists(&ctx.place_name(), &self.id, Task { status: Status::Running, ..task });
        Ok(Plan::new(()).step(Access::Run, ctx.target(), format!("resume container {}", self.id)).effect(effect))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        if !self.done {
            ctx.client().await?.tasks().resume(&self.id).await?;
        }
        Ok(())
    }
}
