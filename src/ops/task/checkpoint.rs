//! `checkpoint`: writes down the state of a container's processes.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::containerd::tasks::{CheckpointOptions, Status};
use crate::grant::Access;
use crate::ops::container::{get, not_running, status};
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// Writes down the state of a container's processes, in a folder of the daemon's host. It is the runtime that does it, by CRIU.
#[derive(Debug)]
pub struct Checkpoint {
    id: String,
    image_path: PathBuf,
    work_path: Option<PathBuf>,
    exit: bool,
    paused: bool,
}

impl Checkpoint {
    /// Writes the state of the container with this id to a folder; with `exit` the container ends with that.
    #[must_use]
    pub fn new(id: &str, image_path: PathBuf, work_path: Option<PathBuf>, exit: bool) -> Self {
        Self { id: id.to_owned(), image_path, work_path, exit, paused: false }
    }
}

#[async_trait]
impl Operation for Checkpoint {
    type Output = ();
    const NAME: &'static str = "checkpoint";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        get(ctx, &self.id).await?;
        let task = status(ctx, &self.id).await?.filter(|task| task.status.is_alive());
        let task = task.ok_or_else(|| not_running(&self.id))?;
        self.paused = matches!(task.status, Status::Paused | Status::Pausing);
        let end = if self.exit { " and end it" } else { "" };
        let mut plan =
            Plan::new(()).step(Access::Run, ctx.target(), format!("checkpoint the task of {}{end}", self.id));
        for path in [Some(&self.image_path), self.work_path.as_ref()].into_iter().flatten() {
            // The runtime writes it, as root, wherever it is.
            let action = format!("write the state of {} to {}", self.id, path.display());
            plan = plan.host_path(ctx.local(path), action);
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        let client = ctx.client().await?;
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let options = CheckpointOptions {
            exit: self.exit,
            image_path: text(&self.image_path),
            work_path: self.work_path.as_ref().map(text).unwrap_or_default(),
            ..CheckpointOptions::default()
        };
        let is_new = !self.image_path.exists();
        let mut undo = Undo::new(ctx.debts());
        let (undoing, id, was_paused) = (client.undoing().tasks(), self.id.clone(), self.paused);
        let folder = is_new.then(|| self.image_path.clone());
        undo.push(format!("what the checkpoint of {id} did"), async move {
            // A runtime that gives up half way may leave it frozen.
            let frozen =
                undoing.get(&id, "").await.is_ok_and(|task| matches!(task.status, Status::Paused | Status::Pausing));
            if frozen
                && !was_paused
                && let Err(error) = undoing.resume(&id).await
            {
                tracing::warn!(%id, %error, "a container is left paused");
            }
            if let Some(folder) = folder {
                let _ = std::fs::remove_dir_all(folder);
            }
        });
        let taken = client.tasks().checkpoint(&self.id, &options).await;
        taken.map_err(|error| not_checkpointed(&self.id, error))?;
        undo.forget();
        Ok(())
    }
}

/// Says why the state of a container's processes was not written down.
pub(in crate::ops) fn not_checkpointed(id: &str, error: crate::containerd::Error) -> Error {
    match error {
        crate::containerd::Error::Call { message, .. } => Error::Conflict {
            what: "container",
            name: id.to_owned(),
            state: format!("was not checkpointed: {message}"),
            cure: Some("checkpoints need CRIU (the package criu) and a kernel for it: criu check".into()),
        },
        error => error.into(),
    }
}
