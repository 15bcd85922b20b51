//! `stop`: asks a container to end, and ends it when it does not.

use std::time::Duration;

use async_trait::async_trait;

use super::kill::stop_signal;
use super::{KILL_PATIENCE, Signal, get::not_running, snapshot};
use crate::containerd::Client;
use crate::containerd::tasks::{Exit, Status, Task};
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// How long a container may take to end by itself, unless told otherwise.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends a container's task: its stop signal, and `SIGKILL` when it has not ended by the timeout.
///
/// The task stays, so that its exit status can still be asked for; starting or deleting the container removes it.
#[derive(Debug)]
pub struct Stop {
    id: String,
    signal: Option<Signal>,
    timeout: Duration,
    task: Option<Task>,
}

impl Stop {
    /// Stops the container with this id. Without a signal it is the image's, else `SIGTERM`.
    #[must_use]
    pub fn new(id: &str, signal: Option<Signal>, timeout: Option<Duration>) -> Self {
        Self { id: id.to_owned(), signal, timeout: timeout.unwrap_or(DEFAULT_TIMEOUT), task: None }
    }
}

#[async_trait]
impl Operation for Stop {
    /// How the task ended; none when there was none.
    type Output = Option<Exit>;
    const NAME: &'static str = "stop";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Option<Exit>>> {
        let found = snapshot(ctx, &self.id).await?;
        let Some(task) = found.task else { return Ok(Plan::new(None)) };
        if task.status == Status::Stopped {
            return Ok(Plan::new(task.exit));
        }
        let signal = match self.signal {
            Some(signal) => signal,
            None => stop_signal(&found.container.labels)?,
        };
        self.signal = Some(signal);
        let exit = Exit { code: 128 + signal.number(), at: chrono::Utc::now() };
        let ended = Task { status: Status::Stopped, exit: Some(exit), ..task.clone() };
        self.task = Some(task);
        let action = format!("send {signal} to container {}, and SIGKILL after {:?}", self.id, self.timeout);
        Ok(Plan::new(Some(exit)).step(Access::Run, ctx.target(), action).effect(Effect::exists(
            &ctx.place_name(),
            &self.id,
            ended,
        )))
    }

    async fn apply(self, ctx: &Context) -> Result<Option<Exit>> {
        let client = ctx.client().await?;
        let Some(task) = self.task else {
            // The plan found nothing that runs.
            return Ok(super::status(ctx, &self.id).await?.and_then(|task| task.exit));
        };
        // A frozen process takes no signal, and not even SIGKILL ends it.
        if matches!(task.status, Status::Paused | Status::Pausing) {
            client.tasks().resume(&self.id).await?;
        }
        end(&client, &self.id, self.signal.unwrap_or(Signal::TERM), self.timeout).await.map(Some)
    }
}

/// Ends a task and waits for the end.
pub(super) async fn end(client: &Client, id: &str, signal: Signal, timeout: Duration) -> Result<Exit> {
    let tasks = client.tasks();
    let mut ended = tasks.waiting(id, "").await;
    let gone = |error: crate::containerd::Error| if error.is_not_found() { not_running(id) } else { error.into() };
    for (signal, all, patience) in [(signal, false, timeout), (Signal::KILL, true, KILL_PATIENCE)] {
        match tasks.kill(id, "", signal.number(), all).await {
            // It has ended, or is about to: the wait tells (containerd client/task_opts.go).
            Err(error) if error.is_not_found() => {}
            Err(error) if error.fault() == Some(crate::containerd::Fault::Conflict) => {}
            other => other?,
        }
        match tokio::time::timeout(patience, &mut ended).await {
            Ok(exit) => return exit.map_err(gone),
            Err(_) if signal == Signal::KILL => break,
            Err(_) => {}
        }
    }
    Err(Error::Timeout {
        attempted: format!("waiting for container {id} to be gone after SIGKILL"),
        limit: KILL_PATIENCE,
    })
}
