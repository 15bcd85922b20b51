//! `shim::delete`: removes a process that has ended from its shim.

use async_trait::async_trait;

use super::Process;
use crate::containerd::tasks::{Status, Task};
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// Has a shim delete a process.
#[derive(Debug)]
pub struct Delete(Process);

impl Delete {
    /// Deletes this one.
    #[must_use]
    pub fn new(process: Process) -> Self {
        Self(process)
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = u32;
    const NAME: &'static str = "shim::delete";

    fn subject(&self) -> String {
        self.0.subject()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<u32>> {
        let task = self.0.state(ctx).await?;
        if !matches!(task.status, Status::Created | Status::Stopped) {
            return Err(Error::Conflict {
                what: "process",
                name: self.subject(),
                state: format!("is {}", task.status.as_str()),
                cure: Some("kill ends it".into()),
            });
        }
        let action = format!("have shim {} delete {}", self.0.shim, self.subject());
        let code = task.exit.map_or(0, |exit| exit.code);
        let mut plan = Plan::new(code).step(Access::Delete, ctx.target(), action);
        if self.0.exec_id.is_none() {
            plan = plan.effect(Effect::gone::<Task>(&ctx.place_name(), self.0.id()));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<u32> {
        Ok(self.0.find(ctx)?.delete(self.0.id(), self.0.exec_id()).await?.code)
    }
}
