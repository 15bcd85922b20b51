//! `shim::start`: starts a process that was made and not started.

use async_trait::async_trait;

use super::Process;
use crate::containerd::tasks::{Status, Task};
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// Has a shim start a process.
#[derive(Debug)]
pub struct Start(Process);

impl Start {
    /// Starts this one.
    #[must_use]
    pub fn new(process: Process) -> Self {
        Self(process)
    }
}

#[async_trait]
impl Operation for Start {
    type Output = u32;
    const NAME: &'static str = "shim::start";

    fn subject(&self) -> String {
        self.0.subject()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<u32>> {
        let task = self.0.state(ctx).await?;
        if task.status != Status::Created {
            return Err(Error::Conflict {
                what: "process",
                name: self.subject(),
                state: format!("is {} and cannot be started", task.status.as_str()),
                cure: None,
            });
        }
        let action = format!("have shim {} start {}", self.0.shim, self.subject());
        let mut plan = Plan::new(task.pid).step(Access::Run, ctx.target(), action);
        if let Some(reason) = self.0.reach(ctx).await {
            plan = plan.step(Access::Host, ctx.target(), format!("start {}, which {reason}", self.subject()));
        }
        if self.0.exec_id.is_none() {
            let started = Task { status: Status::Running, ..task };
            plan = plan.effect(Effect::exists(&ctx.place_name(), self.0.id(), started));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<u32> {
        Ok(self.0.find(ctx)?.start(self.0.id(), self.0.exec_id()).await?)
    }
}
