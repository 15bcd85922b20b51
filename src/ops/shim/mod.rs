//! Shims, asked without the daemon: for when it hangs, is away, or has lost a task that runs.

mod delete;
mod shutdown;
mod start;
mod state;

pub use delete::Delete;
pub use shutdown::Shutdown;
pub use start::Start;
pub use state::state;

use crate::containerd::Endpoint;
use crate::containerd::shim::Shim;
use crate::containerd::tasks::Task;
use crate::ops::container::{get, not_running, reaches_host};
use crate::ops::{Context, Result, Seen};

/// A process that a shim runs.
#[derive(Debug, Clone)]
pub struct Process {
    /// The shim: the container, or the sandbox where several share one.
    pub shim: String,
    /// The container, when it is not the shim's id.
    pub task: Option<String>,
    /// The executed process; none for the container's first one.
    pub exec_id: Option<String>,
    /// The shim's socket, when it is not to be looked for.
    pub address: Option<Endpoint>,
}

impl Process {
    fn find(&self, ctx: &Context) -> Result<Shim> {
        let endpoint = ctx.place().daemon.endpoint();
        Ok(Shim::find(endpoint, ctx.namespace(), &self.shim, self.address.as_ref(), ctx.grant())?)
    }

    fn id(&self) -> &str {
        self.task.as_ref().unwrap_or(&self.shim)
    }

    fn exec_id(&self) -> &str {
        self.exec_id.as_deref().unwrap_or_default()
    }

    /// Returns why its start needs access to the host, if it does: only the daemon's record of the container tells.
    async fn reach(&self, ctx: &Context) -> Option<&'static str> {
        match get(ctx, self.id()).await {
            Ok(container) => reaches_host(&container, ctx.namespace()),
            Err(_) => Some("has no record in containerd that tells what it reaches"),
        }
    }

    fn subject(&self) -> String {
        match &self.exec_id {
            None => self.id().to_owned(),
            Some(exec_id) => format!("{exec_id} of {}", self.id()),
        }
    }

    /// Asks the shim for the state, or in a dry run takes what it would be.
    async fn state(&self, ctx: &Context) -> Result<Task> {
        match ctx.overlay().get::<Task>(&ctx.place_name(), self.id()) {
            Seen::As(task) => Ok(task),
            Seen::Gone => Err(not_running(self.id())),
            Seen::Unknown => Ok(self.find(ctx)?.state(self.id(), self.exec_id()).await?),
        }
    }
}
