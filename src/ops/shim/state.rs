//! `shim::state`: what a shim says of a task.

use super::Process;
use crate::containerd::tasks::Task;
use crate::ops::{Context, Result};

/// Asks a shim for the state of a process.
///
/// # Errors
/// That there is no such shim, that it does not answer, or that it has no such process.
pub async fn state(ctx: &Context, process: &Process) -> Result<Task> {
    process.state(ctx).await
}
