//! `delete`: removes a container with its task and its snapshot.

use async_trait::async_trait;

use super::{Signal, Snapshot, snapshot, stop};
use crate::containerd::Client;
use crate::containerd::containers::Container;
use crate::containerd::io::{LogTarget, remove_fifos};
use crate::containerd::tasks::{Status, Task};
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// Removes a container: its ended task, its record, its snapshot and its log.
#[derive(Debug)]
pub struct Delete {
    id: String,
    force: bool,
    keep_snapshot: bool,
    found: Option<Snapshot>,
}

impl Delete {
    /// Removes the container with this id; with `force` one that runs is killed first.
    #[must_use]
    pub fn new(id: &str, force: bool, keep_snapshot: bool) -> Self {
        Self { id: id.to_owned(), force, keep_snapshot, found: None }
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = ();
    const NAME: &'static str = "delete";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let found = snapshot(ctx, &self.id).await?;
        // A task that was created and never started does not run anything.
        let runs = found.task.as_ref().filter(|task| !matches!(task.status, Status::Stopped | Status::Created));
        if let Some(task) = runs.filter(|_| !self.force) {
            return Err(Error::Conflict {
                what: "container",
                name: self.id.clone(),
                state: format!("is {}", task.status.as_str()),
                cure: Some(format!("stop(\"{}\") ends it; #{{ force: true }} kills and removes it", self.id)),
            });
        }
        let with = match (&found.task, found.container.snapshot_key.is_empty() || self.keep_snapshot) {
            (Some(_), false) => " with its task and snapshot",
            (Some(_), true) => " with its task",
            (None, false) => " with its snapshot",
            (None, true) => "",
        };
        let mut plan = Plan::new(());
        if runs.is_some() {
            plan = plan.step(Access::Run, ctx.target(), format!("kill container {}", self.id));
        }
        plan = plan.step(Access::Delete, ctx.target(), format!("delete container {}{with}", self.id));
        self.found = Some(found);
        Ok(plan
            .effect(Effect::gone::<Container>(&ctx.place_name(), &self.id))
            .effect(Effect::gone::<Task>(&ctx.place_name(), &self.id)))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        let found = self.found.ok_or_else(|| Error::not_found("container", &self.id, []))?;
        let client = ctx.client().await?;
        if let Some(task) = &found.task {
            let executed = fifos_of_executed(&client, &self.id).await;
            if task.status != Status::Stopped {
                if matches!(task.status, Status::Paused | Status::Pausing) {
                    client.tasks().resume(&self.id).await?;
                }
                stop::end(&client, &self.id, Signal::KILL, stop::DEFAULT_TIMEOUT).await.map(drop).or_else(gone)?;
            }
            client.tasks().delete(&self.id).await.map(drop).or_else(|error| gone(error.into()))?;
            executed.iter().chain([task]).for_each(remove_fifos);
        }
        let container = &found.container;
        super::network::remove(ctx, container).await;
        client.containers().delete(&self.id).await.or_else(|error| gone(error.into()))?;
        if !container.snapshot_key.is_empty() && !self.keep_snapshot {
            let snapshots = client.snapshots(&container.snapshotter);
            snapshots.remove(&container.snapshot_key).await.or_else(|error| gone(error.into()))?;
        }
        // Only the log that start made by itself; one that was asked for belongs to who asked.
        if let LogTarget::File(path) = LogTarget::of_container(&ctx.settings().log_dir, ctx.namespace(), &self.id) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a log was left behind");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Lists the executed processes that there still are: they go with the task, and their FIFOs are to go too.
async fn fifos_of_executed(client: &Client, id: &str) -> Vec<Task> {
    let tasks = client.tasks();
    let mut found = Vec::new();
    for exec_id in tasks.pids(id).await.into_iter().flatten().filter_map(|pid| pid.exec_id) {
        found.extend(tasks.get(id, &exec_id).await);
    }
    found
}

/// Takes what is gone already as done.
fn gone(error: Error) -> Result<()> {
    use crate::kind::{Failure, Kind};
    match error.kind() {
        Kind::NotFound => Ok(()),
        _ if matches!(&error, Error::Conflict { state, .. } if state.starts_with("has no task")) => Ok(()),
        _ => Err(error),
    }
}
