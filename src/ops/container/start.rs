//! `start`: starts the task of a container.

use std::path::PathBuf;

use async_trait::async_trait;

use super::{Snapshot, reach, remove_task, snapshot};
use crate::containerd::Client;
use crate::containerd::containers::Container;
use crate::containerd::io::{LogTarget, private_folder};
use crate::containerd::snapshots::Mount;
use crate::containerd::tasks::{Status, Stdio, Task};
use crate::grant::Access;
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// How a task is started.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// Where its output goes; none for a file of its own below the log folder.
    pub log: Option<LogTarget>,
    /// A file to write the process's number to.
    pub pid_file: Option<PathBuf>,
}

/// Starts a container's task, detached: its output goes to a log, and nobody has to stay.
#[derive(Debug)]
pub struct Start {
    id: String,
    options: StartOptions,
    found: Option<Snapshot>,
}

impl Start {
    /// Starts the container with this id.
    #[must_use]
    pub fn new(id: &str, options: StartOptions) -> Self {
        Self { id: id.to_owned(), options, found: None }
    }

    fn log(&self, ctx: &Context) -> LogTarget {
        self.options
            .log
            .clone()
            .unwrap_or_else(|| LogTarget::of_container(&ctx.settings().log_dir, ctx.namespace(), &self.id))
    }
}

#[async_trait]
impl Operation for Start {
    type Output = Task;
    const NAME: &'static str = "start";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Task>> {
        let found = snapshot(ctx, &self.id).await?;
        check_startable(&found)?;
        if found.container.spec.as_ref().and_then(|spec| spec.process.as_ref()).is_some_and(|process| process.terminal)
        {
            return Err(Error::Conflict {
                what: "container",
                name: self.id.clone(),
                state: "has a terminal, which needs someone at it".into(),
                cure: Some("create it without tty to run it detached".into()),
            });
        }
        let stdio = self.log(ctx).stdio();
        let preview = running(&self.id, &stdio);
        let mut plan = Plan::new(preview.clone());
        plan = start_steps(plan, ctx, &found);
        match &self.options.log {
            Some(LogTarget::Uri(uri)) => {
                plan = plan.step(Access::Host, ctx.target(), format!("send the output of {} to {uri}", self.id));
            }
            // The shim writes it, as root, wherever it is.
            Some(LogTarget::File(path)) => {
                let path = path.display().to_string();
                plan = plan.step(Access::Host, path.clone(), format!("write the output of {} to {path}", self.id));
            }
            Some(LogTarget::Null) | None => {}
        }
        if let Some(path) = &self.options.pid_file {
            plan = plan.step(ctx.path_access(path), path.display().to_string(), "write the process's number");
        }
        self.found = Some(found);
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Task> {
        let log = self.log(ctx);
        let Self { id, options, found } = self;
        let found = found.ok_or_else(|| Error::not_found("container", &id, []))?;
        let client = ctx.client().await?;
        if options.log.is_none() {
            log_folder(ctx)?;
        }
        let stdio = log.stdio();
        let mut undo = Undo::new(ctx.debts());
        create_task(&client, &found, &stdio, &mut undo).await?;
        let pid = client.tasks().start(&id, "").await?;
        if let Some(path) = &options.pid_file {
            let written = std::fs::write(path, pid.to_string());
            written.map_err(|source| Error::File { attempted: "write", path: path.display().to_string(), source })?;
        }
        undo.forget();
        Ok(Task { pid, ..running(&id, &stdio) })
    }
}

/// Refuses to start what runs.
pub(super) fn check_startable(found: &Snapshot) -> Result<()> {
    match &found.task {
        Some(task) if task.status != Status::Stopped => Err(Error::Conflict {
            what: "container",
            name: found.container.id.clone(),
            state: format!("has a task already, which is {}", task.status.as_str()),
            cure: Some(format!("stop(\"{}\") ends it", found.container.id)),
        }),
        _ => Ok(()),
    }
}

/// Adds what every start does.
pub(super) fn start_steps<T>(mut plan: Plan<T>, ctx: &Context, found: &Snapshot) -> Plan<T> {
    let id = &found.container.id;
    if found.task.is_some() {
        plan = plan.step(Access::Delete, ctx.target(), format!("delete the ended task of {id}"));
    }
    plan = plan.step(Access::Run, ctx.target(), format!("start container {id}"));
    match reach(found.container.spec.as_ref(), &found.container.labels) {
        None => plan,
        Some(reason) => plan.step(Access::Host, ctx.target(), format!("run container {id}, which {reason}")),
    }
}

/// Makes the task, in place of one that has ended, and sees to it that it goes again if the operation does not get through.
pub(super) async fn create_task(client: &Client, found: &Snapshot, stdio: &Stdio, undo: &mut Undo) -> Result<()> {
    let id = &found.container.id;
    let tasks = client.tasks();
    if found.task.is_some() {
        match tasks.delete(id).await {
            Err(error) if error.is_not_found() => {}
            other => drop(other?),
        }
    }
    let mounts = rootfs(client, &found.container).await?;
    // The request is never cut off: a daemon that loses it half way may leave a shim that nobody knows. An operation that
    // is dropped meanwhile leaves the answer to the undo.
    let (answered, mut answer) = tokio::sync::watch::channel(None);
    let (request, io) = (id.clone(), stdio.clone());
    let creating = tokio::spawn(async move {
        let made = tasks.create(&request, &mounts, &io, None).await;
        // Someone else's task must not be taken back: only what gets past an existing one is this operation's own.
        answered.send_replace(Some(!made.as_ref().is_err_and(crate::containerd::Error::is_already_exists)));
        made
    });
    let (undoing, gone) = (client.undoing(), id.clone());
    undo.push(async move {
        let own = answer.wait_for(Option::is_some).await.is_ok_and(|own| *own == Some(true));
        if own {
            remove_task(undoing, gone).await;
        }
    });
    creating.await.map_err(|error| Error::Conflict {
        what: "task",
        name: id.clone(),
        state: format!("could not be asked for: {error}"),
        cure: None,
    })??;
    Ok(())
}

/// Returns how the shim mounts the root filesystem; a folder of the host is in the spec instead.
pub(super) async fn rootfs(client: &Client, container: &Container) -> Result<Vec<Mount>> {
    if container.snapshot_key.is_empty() {
        return Ok(Vec::new());
    }
    Ok(client.snapshots(&container.snapshotter).mounts(&container.snapshot_key).await?)
}

/// Makes the folder of the namespace's logs.
pub(super) fn log_folder(ctx: &Context) -> Result<()> {
    let root = &ctx.settings().log_dir;
    for folder in [root.clone(), root.join(ctx.namespace())] {
        private_folder(&folder).map_err(|source| Error::File {
            attempted: "use log folder",
            path: folder.display().to_string(),
            source,
        })?;
    }
    Ok(())
}

pub(super) fn running(id: &str, stdio: &Stdio) -> Task {
    Task {
        id: id.to_owned(),
        exec_id: None,
        pid: 0,
        status: Status::Running,
        stdin: stdio.stdin.clone(),
        stdout: stdio.stdout.clone(),
        stderr: stdio.stderr.clone(),
        terminal: stdio.terminal,
        exit: None,
    }
}
