//! `restart`: stops a container and starts it again.

use std::time::Duration;

use async_trait::async_trait;

use super::{Signal, Start, StartOptions, Stop, snapshot};
use crate::containerd::io::LogTarget;
use crate::containerd::tasks::Task;
use crate::grant::Access;
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// Stops a container as `stop` does, and starts it again with its output going where it went.
#[derive(Debug)]
pub struct Restart {
    id: String,
    signal: Option<Signal>,
    timeout: Option<Duration>,
    stop: Option<Stop>,
    log: Option<LogTarget>,
}

impl Restart {
    /// Restarts the container with this id.
    #[must_use]
    pub fn new(id: &str, signal: Option<Signal>, timeout: Option<Duration>) -> Self {
        Self { id: id.to_owned(), signal, timeout, stop: None, log: None }
    }
}

#[async_trait]
impl Operation for Restart {
    type Output = Task;
    const NAME: &'static str = "restart";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Task>> {
        let found = snapshot(ctx, &self.id).await?;
        let mut stop = Stop::new(&self.id, self.signal, self.timeout);
        let stopping = stop.plan(ctx).await?;
        self.stop = Some(stop);
        // FIFOs of whoever started it are gone by then; the container's own log is not.
        self.log = found.task.as_ref().map(|task| LogTarget::parse(&task.stdout)).filter(|log| match log {
            LogTarget::Null => !found.task.as_ref().is_some_and(|task| task.terminal),
            LogTarget::Uri(_) => true,
            LogTarget::File(_) => {
                found.task.as_ref().is_some_and(|task| task.stdout.starts_with("file://"))
                    && *log != LogTarget::of_container(&ctx.settings().log_dir, ctx.namespace(), &self.id)
            }
        });
        let preview = super::start::running(&self.id, &crate::containerd::tasks::Stdio::default());
        let mut plan = Plan { steps: stopping.steps, preview: preview.clone(), effects: Vec::new() };
        if let Some(log) = &self.log
            && *log != LogTarget::Null
        {
            plan = plan.step(Access::Host, ctx.target(), format!("send the output of {} where it went", self.id));
        }
        plan = super::start::start_steps(plan, ctx, &found);
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Task> {
        if let Some(stop) = self.stop {
            stop.apply(ctx).await?;
        }
        let mut start = Start::new(&self.id, StartOptions { log: self.log, ..StartOptions::default() });
        start.plan(&ctx.planning()).await?;
        start.apply(ctx).await
    }
}
