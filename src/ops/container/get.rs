//! `container`: looks one container up, with its task.

use crate::containerd::containers::Container;
use crate::containerd::tasks::{Status, Task};
use crate::ops::{Context, Error, Result, Seen};

/// A container as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its record.
    pub container: Container,
    /// Its task, when it has one.
    pub task: Option<Task>,
}

impl Snapshot {
    /// Returns what it is doing; without a task it was only created.
    #[must_use]
    pub fn status(&self) -> Status {
        self.task.as_ref().map_or(Status::Created, |task| task.status)
    }
}

/// Finds the record of a container.
///
/// # Errors
/// [`Error::NotFound`] with the nearest id that exists.
pub async fn get(ctx: &Context, id: &str) -> Result<Container> {
    match ctx.overlay().get::<Container>(&ctx.place_name(), id) {
        Seen::As(container) => return Ok(container),
        Seen::Gone => {}
        Seen::Unknown => match ctx.client().await?.containers().get(id).await {
            Ok(container) => return Ok(container),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        },
    }
    let existing = super::list(ctx, &[]).await?;
    let error = Error::not_found("container", id, existing.iter().map(|container| container.id.as_str()));
    Err(match error {
        Error::NotFound { what, name, nearest, .. } => {
            let cure = Some(format!("containers() lists those of the namespace {}", ctx.namespace()));
            Error::NotFound { what, name, nearest, cure }
        }
        other => other,
    })
}

/// Finds the task of a container, if it has one.
///
/// # Errors
/// When the daemon does not answer.
pub async fn status(ctx: &Context, id: &str) -> Result<Option<Task>> {
    match ctx.overlay().get::<Task>(&ctx.place_name(), id) {
        Seen::As(task) => return Ok(Some(task)),
        Seen::Gone => return Ok(None),
        Seen::Unknown => {}
    }
    match ctx.client().await?.tasks().get(id, "").await {
        Ok(task) => Ok(Some(task)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Finds a container and its task.
///
/// # Errors
/// As [`get`].
pub async fn snapshot(ctx: &Context, id: &str) -> Result<Snapshot> {
    let (container, task) = tokio::try_join!(get(ctx, id), status(ctx, id))?;
    Ok(Snapshot { container, task })
}

/// Says that a container has nothing that runs.
pub(in crate::ops) fn not_running(id: &str) -> Error {
    Error::Conflict {
        what: "container",
        name: id.to_owned(),
        state: "has no task that runs".into(),
        cure: Some(format!("start(\"{id}\") starts it")),
    }
}
