//! `kill`: sends a signal to a container.

use async_trait::async_trait;

use super::{STOP_SIGNAL_LABEL, Signal, get::not_running, snapshot};
use crate::containerd::Labels;
use crate::containerd::tasks::{Exit, Status, Task};
use crate::grant::Access;
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// Sends a signal to a container's first process, or to all of them.
#[derive(Debug)]
pub struct Kill {
    id: String,
    signal: Option<Signal>,
    all: bool,
    exec_id: String,
}

impl Kill {
    /// Sends this signal, or without one the image's stop signal.
    #[must_use]
    pub fn new(id: &str, signal: Option<Signal>) -> Self {
        Self { id: id.to_owned(), signal, all: false, exec_id: String::new() }
    }

    /// Sends it to every process of the container.
    #[must_use]
    pub fn all(self, all: bool) -> Self {
        Self { all, ..self }
    }

    /// Sends it to an executed process in place of the container's first one.
    #[must_use]
    pub fn exec(self, exec_id: &str) -> Self {
        Self { exec_id: exec_id.to_owned(), ..self }
    }
}

#[async_trait]
impl Operation for Kill {
    type Output = ();
    const NAME: &'static str = "kill";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let found = snapshot(ctx, &self.id).await?;
        let Some(task) = found.task.filter(|task| task.status.is_alive()) else {
            return Err(not_running(&self.id));
        };
        let signal = match self.signal {
            Some(signal) => signal,
            None => stop_signal(&found.container.labels)?,
        };
        self.signal = Some(signal);
        let whom = if self.all { "every process of container" } else { "container" };
        let plan = Plan::new(()).step(Access::Run, ctx.target(), format!("send {signal} to {whom} {}", self.id));
        // What another signal does is the container's to say; this one leaves no doubt.
        if signal != Signal::KILL || !self.exec_id.is_empty() {
            return Ok(plan);
        }
        let exit = Some(Exit { code: 128 + signal.number(), at: chrono::Utc::now() });
        let ended = Task { status: Status::Stopped, exit, ..task };
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, ended)))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        let signal = self.signal.unwrap_or(Signal::TERM).number();
        match ctx.client().await?.tasks().kill(&self.id, &self.exec_id, signal, self.all).await {
            // It ended in between, as the signal would have had it.
            Err(error) if error.is_not_found() && self.exec_id.is_empty() => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Returns the signal that asks a container to end: its image's, else `SIGTERM`.
pub(super) fn stop_signal(labels: &Labels) -> Result<Signal> {
    labels.get(STOP_SIGNAL_LABEL).map_or(Ok(Signal::TERM), |text| text.parse())
}
