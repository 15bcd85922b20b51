//! `start`: starts the task of a container.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::streams::{self, Inherited};
use super::{Snapshot, failure, reaching, remove_task, snapshot};
use crate::containerd::Client;
use crate::containerd::containers::{Container, RuncOptions};
use crate::containerd::io::{LogTarget, Pipes, Shape, hold, private_folder, remove_fifos};
use crate::containerd::snapshots::Mount;
use crate::containerd::tasks::{Exit, Status, Stdio, Task};
use crate::grant::Access;
use crate::oci::Descriptor;
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// How a task is started.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// Where its output goes; none for a file of its own below the log folder.
    pub log: Option<LogTarget>,
    /// A file to write the process's number to.
    pub pid_file: Option<PathBuf>,
    /// A folder for FIFOs, which its output goes to in place of a log: for whoever attaches, or reads them.
    pub fifo_dir: Option<PathBuf>,
    /// Has runc leave out `pivot_root` this time, whatever the container was made with.
    pub no_pivot: bool,
    /// Gives it the program's own streams where `log` and `fifo_dir` say nothing else, waits for its end, and deletes the task.
    pub inherit: bool,
}

/// What a task is made with, beside its container.
#[derive(Debug, Default)]
pub(super) struct Making {
    /// The state that it goes on from.
    pub(super) checkpoint: Option<Descriptor>,
    /// Has runc leave out `pivot_root`.
    pub(super) no_pivot: bool,
}

/// Where a detached process's input comes from and its output goes.
pub(super) enum Detached {
    /// To a log or nowhere.
    Log(LogTarget),
    /// To FIFOs that wait for somebody.
    Fifos(Pipes),
}

impl Detached {
    /// Chooses: what was asked for, FIFOs for a terminal, else the container's own log.
    pub(super) fn choose(
        ctx: &Context,
        id: &str,
        log: Option<&LogTarget>,
        fifo_dir: Option<&Path>,
        terminal: bool,
    ) -> Result<Self> {
        check_detached(log, fifo_dir, terminal)?;
        match (log, fifo_dir) {
            (Some(log), _) => Ok(Self::Log(log.clone())),
            (None, None) if !terminal => {
                log_folder(ctx)?;
                Ok(Self::Log(LogTarget::of_container(&ctx.settings().log_dir, ctx.namespace(), id)))
            }
            (None, folder) => {
                let folder = folder.unwrap_or(&ctx.settings().run_dir);
                let shape = if terminal { Shape::Terminal } else { Shape::Apart { stdin: true } };
                Ok(Self::Fifos(pipes_in(folder, |folder| Pipes::unattended(folder, id, shape))?))
            }
        }
    }

    /// Returns what the daemon is told.
    pub(super) fn stdio(&self, terminal: bool) -> Stdio {
        match self {
            Self::Log(log) => Stdio { terminal, ..log.stdio() },
            Self::Fifos(pipes) => pipes.stdio().clone(),
        }
    }

    /// Leaves it to the process, which was started.
    pub(super) fn leave(self) {
        if let Self::Fifos(pipes) = self {
            pipes.leave();
        }
    }
}

/// Makes FIFOs in a folder.
pub(super) fn pipes_in(folder: &Path, make: impl FnOnce(&Path) -> std::io::Result<Pipes>) -> Result<Pipes> {
    let failed = |source| Error::File { attempted: "make FIFOs in", path: folder.display().to_string(), source };
    make(folder).map_err(failed)
}

/// Refuses what contradicts one another.
pub(super) fn check_detached(log: Option<&LogTarget>, fifo_dir: Option<&Path>, terminal: bool) -> Result<()> {
    if log.is_some() && fifo_dir.is_some() {
        return Err(Error::argument("fifo_dir", "and log_uri or null_io say the same; give one of them"));
    }
    if terminal && matches!(log, Some(LogTarget::Null | LogTarget::File(_))) {
        return Err(Error::Argument {
            name: "tty".to_owned(),
            problem: "cannot be written to a file or nowhere".to_owned(),
            cure: Some("leave log_uri out, and attach later; or make it without tty".to_owned()),
        });
    }
    Ok(())
}

/// Adds the step that a log or a folder of one's own needs.
pub(super) fn output_steps<T>(
    mut plan: Plan<T>,
    ctx: &Context,
    id: &str,
    log: Option<&LogTarget>,
    fifo_dir: Option<&Path>,
) -> Plan<T> {
    match log {
        Some(LogTarget::Uri(uri)) => {
            plan = plan.step(Access::Host, ctx.target(), format!("send the output of {id} to {uri}"));
        }
        // The shim writes it, as root, wherever it is.
        Some(LogTarget::File(path)) => {
            plan = plan.host_path(ctx.local(path), format!("write the output of {id} to {}", path.display()));
        }
        Some(LogTarget::Null) | None => {}
    }
    match fifo_dir {
        Some(folder) => plan.path(ctx.local(folder), format!("make FIFOs of {id}")),
        None => plan,
    }
}

/// Returns whether the first process of a container has a terminal.
pub(super) fn has_terminal(container: &Container) -> bool {
    container.spec.as_ref().and_then(|spec| spec.process.as_ref()).is_some_and(|process| process.terminal)
}

/// Starts a container's task, detached unless told otherwise: its output goes to a log, and nobody has to stay.
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
        if self.options.inherit {
            streams::check(ctx)?;
            if has_terminal(&found.container) {
                return Err(Error::argument(
                    "stdio",
                    "of inherit is for a container without a terminal; give tty instead",
                ));
            }
        }
        let StartOptions { log, fifo_dir, no_pivot, .. } = &self.options;
        if *no_pivot {
            check_runc(&found.container)?;
        }
        check_detached(log.as_ref(), fifo_dir.as_deref(), has_terminal(&found.container))?;
        let own = || LogTarget::of_container(&ctx.settings().log_dir, ctx.namespace(), &self.id);
        let mut preview = running(&self.id, &log.clone().unwrap_or_else(own).stdio());
        if self.options.inherit {
            preview.exit = Some(Exit { code: 0, at: chrono::Utc::now() });
        }
        let mut plan = Plan::new(preview.clone());
        plan = start_steps(plan, ctx, &found);
        plan = output_steps(plan, ctx, &self.id, log.as_ref(), fifo_dir.as_deref());
        plan = pid_steps(plan, ctx, self.options.pid_file.as_deref());
        self.found = Some(found);
        if self.options.inherit {
            return Ok(plan.effect(Effect::gone::<Task>(&ctx.place_name(), &self.id)));
        }
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Task> {
        let Self { id, options, found } = self;
        let found = found.ok_or_else(|| Error::not_found("container", &id, []))?;
        let client = ctx.client().await?;
        if options.inherit {
            return attended(ctx, &id, &options, &found).await;
        }
        let terminal = has_terminal(&found.container);
        let output = Detached::choose(ctx, &id, options.log.as_ref(), options.fifo_dir.as_deref(), terminal)?;
        let stdio = output.stdio(terminal);
        let mut undo = Undo::new(ctx.debts());
        let making = Making { no_pivot: options.no_pivot, ..Making::default() };
        create_task_with(&client, &found, &stdio, making, &mut undo).await?;
        let pid = client.tasks().start(&id, "").await?;
        if let Some(path) = &options.pid_file {
            write_pid(path, pid)?;
        }
        undo.forget();
        output.leave();
        Ok(Task { pid, ..running(&id, &stdio) })
    }
}

/// Starts a task with the program's own streams, and deletes it when it has ended.
async fn attended(ctx: &Context, id: &str, options: &StartOptions, found: &Snapshot) -> Result<Task> {
    let client = ctx.client().await?;
    let output = Inherited::open(ctx, id, options.log.as_ref(), options.fifo_dir.as_deref())?;
    let stdio = output.stdio().clone();
    let mut undo = Undo::new(ctx.debts());
    let making = Making { no_pivot: options.no_pivot, ..Making::default() };
    create_task_with(&client, found, &stdio, making, &mut undo).await?;
    let ended = client.tasks().waiting(id, "").await;
    let pid = client.tasks().start(id, "").await?;
    if let Some(path) = &options.pid_file {
        write_pid(path, pid)?;
    }
    let passed = output.pass(ctx, &client, id, "", ended).await?;
    delete_task(&client, id).await?;
    undo.forget();
    Ok(Task { pid, status: Status::Stopped, exit: Some(passed.exit()?), ..running(id, &stdio) })
}

/// Deletes a task that has ended, with no more access than starting it needed.
pub(super) async fn delete_task(client: &Client, id: &str) -> Result<()> {
    match client.undoing().tasks().delete(id).await {
        // Somebody was quicker.
        Err(error) if error.is_not_found() => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// Adds the step that a file for the process's number needs.
pub(super) fn pid_steps<T>(plan: Plan<T>, ctx: &Context, file: Option<&Path>) -> Plan<T> {
    match file {
        Some(path) => plan.path(ctx.local(path), "write the process's number"),
        None => plan,
    }
}

/// Writes the number of a process to a file.
pub(super) fn write_pid(path: &Path, pid: u32) -> Result<()> {
    let written = std::fs::write(path, pid.to_string());
    written.map_err(|source| Error::File { attempted: "write", path: path.display().to_string(), source })
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

/// Refuses options of runc for what another runtime runs.
fn check_runc(container: &Container) -> Result<()> {
    if container.runtime.name.starts_with("io.containerd.runc.") {
        return Ok(());
    }
    let problem = format!("is for runc, and {} is run by {}", container.id, container.runtime.name);
    Err(Error::argument("no_pivot", problem))
}

/// Adds what every start does.
pub(super) fn start_steps<T>(mut plan: Plan<T>, ctx: &Context, found: &Snapshot) -> Plan<T> {
    let id = &found.container.id;
    if found.task.is_some() {
        plan = plan.step(Access::Delete, ctx.target(), format!("delete the ended task of {id}"));
    }
    plan = plan.step(Access::Run, ctx.target(), format!("start container {id}"));
    reaching(plan, ctx, &found.container, |reason| format!("run container {id}, which {reason}"))
}

/// Makes the task, in place of one that has ended, and sees to it that it goes again if the operation does not get through.
pub(super) async fn create_task(client: &Client, found: &Snapshot, stdio: &Stdio, undo: &mut Undo) -> Result<()> {
    create_task_with(client, found, stdio, Making::default(), undo).await
}

/// Makes the task as [`create_task`] does, with what was said of it.
pub(super) async fn create_task_with(
    client: &Client,
    found: &Snapshot,
    stdio: &Stdio,
    making: Making,
    undo: &mut Undo,
) -> Result<()> {
    let id = &found.container.id;
    let tasks = client.tasks();
    if let Some(task) = &found.task {
        match tasks.delete(id).await {
            Err(error) if error.is_not_found() => {}
            other => drop(other?),
        }
        remove_fifos(task);
    }
    super::cgroup::check_free(&found.container, client.namespace())?;
    super::network::ensure(client, &found.container, undo).await?;
    let mounts = rootfs(client, &found.container).await?;
    let options = task_options(&found.container, making.no_pivot);
    // The request is never cut off: a daemon that loses it half way may leave a shim that nobody knows. An operation that
    // is dropped meanwhile leaves the answer to the undo.
    let (answered, mut answer) = tokio::sync::watch::channel(None);
    let (request, io, held) = (id.clone(), stdio.clone(), hold(stdio));
    let creating = tokio::spawn(async move {
        let _held = held;
        let made = tasks.create(&request, &mounts, &io, options.as_ref(), making.checkpoint.as_ref()).await;
        // Someone else's task must not be taken back: only what gets past an existing one is this operation's own.
        answered.send_replace(Some(!made.as_ref().is_err_and(crate::containerd::Error::is_already_exists)));
        made
    });
    let (undoing, gone) = (client.undoing(), id.clone());
    undo.push(format!("task {gone}"), async move {
        let own = answer.wait_for(Option::is_some).await.is_ok_and(|own| *own == Some(true));
        if own { remove_task(undoing, gone).await } else { Ok(()) }
    });
    creating
        .await
        .map_err(|error| Error::Conflict {
            what: "task",
            name: id.clone(),
            state: format!("could not be asked for: {error}"),
            cure: None,
        })?
        .map_err(failure::of_start)?;
    Ok(())
}

/// Returns the runtime's options where the task needs its own, which stand in place of the container's: what was said at its
/// start, and in a user namespace that the pipes belong to the user that is root inside (containerd
/// `cmd/ctr/commands/tasks/tasks_unix.go`).
fn task_options(container: &Container, no_pivot: bool) -> Option<RuncOptions> {
    let kept = container.runtime.options.as_ref();
    let mut own = no_pivot.then(|| RuncOptions { no_pivot_root: true, ..kept.cloned().unwrap_or_default() });
    let linux = container.spec.as_ref().and_then(|spec| spec.linux.as_ref());
    let root = linux.and_then(|linux| Some((linux.uid_mappings.first()?, linux.gid_mappings.first()?)));
    if let (Some((user, group)), Some(options)) = (root, own.as_ref().or(kept)) {
        own = Some(RuncOptions { io_uid: user.host, io_gid: group.host, ..options.clone() });
    }
    own
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
