//! `shim::shutdown`: ends a shim that has nothing left to do.

use async_trait::async_trait;

use super::Process;
use crate::grant::Access;
use crate::ops::{Context, Operation, Plan, Result};

/// Has a shim end, if it has no task.
#[derive(Debug)]
pub struct Shutdown(Process);

impl Shutdown {
    /// Ends the shim of this process.
    #[must_use]
    pub fn new(process: Process) -> Self {
        Self(process)
    }
}

#[async_trait]
impl Operation for Shutdown {
    type Output = ();
    const NAME: &'static str = "shim::shutdown";

    fn subject(&self) -> String {
        self.0.shim.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let action = format!("have shim {} end if it has no task", self.0.shim);
        self.0.find(ctx)?;
        Ok(Plan::new(()).step(Access::Delete, ctx.target(), action))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        Ok(self.0.find(ctx)?.shutdown().await?)
    }
}
