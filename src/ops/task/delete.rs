//! `delete` with `task` or `exec_id`: removes what ran of a container, and leaves the container.

use async_trait::async_trait;

use crate::containerd::io::remove_fifos;
use crate::containerd::tasks::{Exit, Status, Task};
use crate::grant::Access;
use crate::ops::container::{Signal, get, not_running, status};
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// How long a killed process may take to be gone.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Removes a container's task, or a process that was executed in it.
#[derive(Debug)]
pub struct Delete {
    id: String,
    exec_id: String,
    force: bool,
    found: Option<Task>,
}

impl Delete {
    /// Removes the task of the container with this id, or with an `exec_id` that process; with `force` one that runs is killed
    /// first.
    #[must_use]
    pub fn new(id: &str, exec_id: &str, force: bool) -> Self {
        Self { id: id.to_owned(), exec_id: exec_id.to_owned(), force, found: None }
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = Option<Exit>;
    const NAME: &'static str = "delete";

    fn subject(&self) -> String {
        if self.exec_id.is_empty() { self.id.clone() } else { format!("{} of {}", self.exec_id, self.id) }
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Option<Exit>>> {
        let container = get(ctx, &self.id).await?;
        let mut task = status(ctx, &self.id).await?;
        if !self.exec_id.is_empty() && !ctx.is_dry_run() {
            task = match ctx.client().await?.tasks().get(&self.id, &self.exec_id).await {
                Ok(process) => Some(process),
                Err(error) if error.is_not_found() => return Err(Error::not_found("process", &self.exec_id, [])),
                Err(error) => return Err(error.into()),
            };
        }
        let task = task.ok_or_else(|| not_running(&self.id))?;
        let runs = !matches!(task.status, Status::Stopped | Status::Created);
        if runs && !self.force && !ctx.is_dry_run() {
            return Err(Error::Conflict {
                what: if self.exec_id.is_empty() { "task" } else { "process" },
                name: self.subject(),
                state: format!("is {}", task.status.as_str()),
                cure: Some("kill ends it; #{ force: true } kills and removes it".into()),
            });
        }
        let what =
            if self.exec_id.is_empty() { "the task".to_owned() } else { format!("the process {}", self.exec_id) };
        let mut plan = Plan::new(task.exit);
        if runs {
            plan = plan.step(Access::Run, ctx.target(), format!("kill {what} of container {}", container.id));
        }
        // An executed process is no more than a run of a command.
        let access = if self.exec_id.is_empty() { Access::Delete } else { Access::Run };
        plan = plan.step(access, ctx.target(), format!("delete {what} of container {}", container.id));
        if self.exec_id.is_empty() {
            plan = plan.effect(Effect::gone::<Task>(&ctx.place_name(), &self.id));
        }
        self.found = Some(task);
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Option<Exit>> {
        let subject = self.subject();
        let task = self.found.ok_or_else(|| not_running(&self.id))?;
        let tasks = ctx.client().await?.tasks();
        if !matches!(task.status, Status::Stopped | Status::Created) {
            if matches!(task.status, Status::Paused | Status::Pausing) && self.exec_id.is_empty() {
                tasks.resume(&self.id).await?;
            }
            let ended = tasks.waiting(&self.id, &self.exec_id).await;
            match tasks.kill(&self.id, &self.exec_id, Signal::KILL.number(), self.exec_id.is_empty()).await {
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
            let attempted = || format!("waiting for {subject} to be gone after SIGKILL");
            let ended = tokio::time::timeout(PATIENCE, ended).await;
            ended.map_err(|_| Error::Timeout { attempted: attempted(), limit: PATIENCE })??;
        }
        let deleted = match self.exec_id.as_str() {
            "" => tasks.delete(&self.id).await,
            exec_id => tasks.delete_exec(&self.id, exec_id).await,
        };
        let exit = match deleted {
            Err(error) if error.is_not_found() => task.exit,
            other => Some(other?),
        };
        remove_fifos(&task);
        Ok(exit)
    }
}
