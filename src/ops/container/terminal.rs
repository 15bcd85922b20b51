//! Processes with a terminal, for a shell to drive.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, LocalBoxFuture};

use super::exec::{ExecId, create_exec, open_pipes, plan_exec, process, start_exec};
use super::start::{check_startable, create_task, pid_steps, start_steps, write_pid};
use super::streams::Ends;
use super::{DetachKeys, ExecOptions, snapshot};
use crate::containerd::io::{Shape, Terminal};
use crate::containerd::tasks::{Exit, Tasks};
use crate::containerd::{self, Client};
use crate::kind::Failure;
use crate::oci::spec::ConsoleSize;
use crate::ops::execute::{permit, record};
use crate::ops::undo::{Outcome, Undo};
use crate::ops::{Context, Error, Plan, Result};

/// How long output is waited for after the process ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long it takes until a daemon that is away is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// For how long a daemon may be away before whoever waits without a user at a terminal gives up: longer than a restart takes.
const AWAY_PATIENCE: Duration = Duration::from_secs(60);

/// How long an attempt to reach a daemon takes at most, by far.
const ATTEMPT: Duration = Duration::from_secs(15);

/// How long removing a container may take.
const DISCARD_PATIENCE: Duration = Duration::from_secs(20);

/// A process that runs with a terminal.
///
/// Dropped before [`finish`](Self::finish), the process is killed and taken back by the context's debts.
pub struct Attached {
    /// Its terminal.
    pub terminal: Terminal,
    ended: BoxFuture<'static, containerd::Result<Exit>>,
    exit: Option<Exit>,
    client: Client,
    id: String,
    exec_id: String,
    undo: Undo,
    stays: bool,
}

/// How a user parted from a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parted {
    /// It ended, with this exit status.
    Ended(u32),
    /// The user left it, and it runs on.
    Left,
}

/// Someone at a terminal, to whom a process can be connected.
pub trait Seat: Send + Sync {
    /// Returns the size of the user's window. Asked before anything is made for the user.
    ///
    /// # Errors
    /// When there is no terminal after all.
    fn window(&self) -> Result<ConsoleSize>;

    /// Connects the user with a process until it ends or the user leaves it by the keys.
    fn sit<'a>(&'a self, attached: Attached, keys: &'a DetachKeys) -> LocalBoxFuture<'a, Result<Parted>>;
}

/// What the daemon is told of a process while somebody else reads its output.
#[derive(Debug, Clone)]
pub struct Window {
    tasks: Tasks,
    id: String,
    exec_id: String,
}

impl Window {
    pub(super) fn of(client: &Client, id: &str, exec_id: &str) -> Self {
        Self { tasks: client.tasks(), id: id.to_owned(), exec_id: exec_id.to_owned() }
    }

    /// Sends the process a signal by its number; one that has ended gets none.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub async fn signal(&self, number: u32) -> Result<()> {
        match self.tasks.kill(&self.id, &self.exec_id, number, false).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => Ok(other?),
        }
    }

    /// Tells the process the size of its window, if need be when the daemon is back. A process that has ended has none.
    pub async fn resize(&self, size: ConsoleSize) {
        while let Err(error) = self.tasks.resize(&self.id, &self.exec_id, size.width, size.height).await
            && error.retryable()
        {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Ends the input of a process without a terminal, if need be when the daemon is back; the other half is to drop its FIFO.
    pub async fn end_input(&self) {
        while let Err(error) = self.tasks.close_stdin(&self.id, &self.exec_id).await
            && error.retryable()
        {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Says why nobody knows how a process ended.
pub(super) fn lost(error: containerd::Error, id: &str, exec_id: &str) -> Error {
    if !error.is_not_found() {
        return error.into();
    }
    let (what, name) = if exec_id.is_empty() { ("container", id) } else { ("process", exec_id) };
    let state = "has ended and is gone, so its exit status is not known".to_owned();
    Error::Conflict { what, name: name.to_owned(), state, cure: None }
}

/// Waits for the end of a process, however often and for however long the daemon is away meanwhile: the process lives on in its
/// shim.
pub(super) async fn outlasting(
    waiting: BoxFuture<'static, containerd::Result<Exit>>,
    tasks: Tasks,
    id: String,
    exec_id: String,
) -> containerd::Result<Exit> {
    outlast(waiting, tasks, id, exec_id, Duration::MAX).await
}

/// Waits for the end of a process as [`outlasting`] does, but gives up when the daemon stays away.
pub(super) async fn outlasting_a_restart(
    waiting: BoxFuture<'static, containerd::Result<Exit>>,
    tasks: Tasks,
    id: String,
    exec_id: String,
) -> containerd::Result<Exit> {
    outlast(waiting, tasks, id, exec_id, AWAY_PATIENCE).await
}

async fn outlast(
    mut waiting: BoxFuture<'static, containerd::Result<Exit>>,
    tasks: Tasks,
    id: String,
    exec_id: String,
    patience: Duration,
) -> containerd::Result<Exit> {
    let mut away: Option<Instant> = None;
    loop {
        let began = Instant::now();
        let error = match waiting.await {
            Err(error) if error.retryable() => error,
            other => return other,
        };
        // One that took the question, and was waited for longer than an attempt to connect takes, was there meanwhile.
        let since = away.filter(|_| began.elapsed() < ATTEMPT).unwrap_or_else(Instant::now);
        if since.elapsed() >= patience {
            return Err(error);
        }
        away = Some(since);
        tokio::time::sleep(AGAIN).await;
        waiting = tasks.waiting(&id, &exec_id).await;
    }
}

impl Attached {
    pub(super) fn of(
        terminal: Terminal,
        ended: BoxFuture<'static, containerd::Result<Exit>>,
        client: &Client,
        id: &str,
        exec_id: &str,
        undo: Undo,
    ) -> Self {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        let ended = Box::pin(outlasting(ended, client.tasks(), id.clone(), exec_id.clone()));
        Self { terminal, ended, exit: None, client: client.clone(), id, exec_id, undo, stays: false }
    }

    /// Returns what the process is told by.
    #[must_use]
    pub fn window(&self) -> Window {
        Window::of(&self.client, &self.id, &self.exec_id)
    }

    /// Returns the call that goes back to the process once it was left.
    #[must_use]
    pub fn way_back(&self) -> String {
        match self.exec_id.as_str() {
            "" => format!("attach(\"{}\")", self.id),
            exec_id => format!("attach(\"{}\", #{{ exec_id: \"{exec_id}\" }})", self.id),
        }
    }

    /// Returns the same, of a process that is somebody else's to delete.
    pub(super) fn staying(self) -> Self {
        Self { stays: true, ..self }
    }

    /// Returns whether the process is somebody else's, and stays when it has ended.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.stays
    }

    /// Lets go of the process, which runs on. Returns what somebody has to keep open, see [`Terminal::leave`].
    ///
    /// # Errors
    /// When the FIFO of its input cannot be opened.
    pub fn leave(self) -> Result<Option<OwnedFd>> {
        self.undo.forget();
        let failed = |source| Error::File { attempted: "keep the input of", path: self.id.clone(), source };
        self.terminal.leave().map_err(failed)
    }

    /// Waits for the process to end, also while the daemon is away. May be dropped and called again.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the process was removed before the daemon told how it ended.
    pub async fn ended(&mut self) -> Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let exit = (&mut self.ended).await.map_err(|error| self.lost(error))?;
        self.exit = Some(exit);
        Ok(exit)
    }

    fn lost(&self, error: containerd::Error) -> Error {
        lost(error, &self.id, &self.exec_id)
    }

    /// Makes of it what the program's own streams are passed on to. Taking it back stays with whoever has the rest.
    pub(super) fn into_ends(self) -> Ends {
        let window = self.window();
        self.undo.forget();
        let (id, exec_id) = (self.id, self.exec_id);
        let ended = async move { self.ended.await.map_err(|error| lost(error, &id, &exec_id)) };
        Ends { terminal: self.terminal, ended: Box::pin(ended), window, stays: self.stays }
    }

    /// Reads what the process wrote next; nothing when it has ended and all was read. May be dropped and called again.
    ///
    /// # Errors
    /// When the FIFO cannot be read, or as [`ended`](Self::ended).
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let failed = |source| Error::File { attempted: "read the output of", path: self.id.clone(), source };
        if self.exit.is_none() {
            tokio::select! {
                biased;
                read = self.terminal.read(buffer) => return read.map_err(failed),
                exit = &mut self.ended => self.exit = Some(exit.map_err(|error| self.lost(error))?),
            }
        }
        // A child of it may keep the terminal open for ever.
        match tokio::time::timeout(LAST_WORDS, self.terminal.read(buffer)).await {
            Ok(read) => read.map_err(failed),
            Err(_) => Ok(0),
        }
    }

    /// Removes the ended process: an executed one, or the container's task. One that was attached to stays.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub async fn finish(self) -> Result<()> {
        if self.stays {
            self.undo.forget();
            return Ok(());
        }
        let tasks = self.client.undoing().tasks();
        let deleted = match self.exec_id.as_str() {
            "" => tasks.delete(&self.id).await,
            exec_id => tasks.delete_exec(&self.id, exec_id).await,
        };
        match deleted {
            // Somebody was quicker.
            Err(error) if error.is_not_found() => {}
            other => drop(other?),
        }
        self.undo.forget();
        Ok(())
    }
}

/// Runs a command in a running container with a terminal, which has the size of the user's from the beginning.
///
/// # Errors
/// As [`Exec`](super::Exec); nothing is sent in a dry run.
pub async fn exec_terminal(
    ctx: &Context,
    id: &str,
    args: Vec<String>,
    options: &ExecOptions,
    size: ConsoleSize,
) -> Result<Attached> {
    let (found, plan) = plan_exec(&ctx.planning(), id, &args, options).await?;
    permit(ctx, "exec", id, &plan.steps)?;
    let steps = plan.steps;
    let client = ctx.client().await?;
    let mut process = process(&client, &found.container, args, options, true).await?;
    // Until it was started the shim has no terminal to tell it to.
    process.console_size = known(size);
    let ExecId { exec_id, is_own } = ExecId::of(options);
    let pipes = open_pipes(ctx, &exec_id, Shape::Terminal)?;
    let mut undo = Undo::new(ctx.debts());
    create_exec(&client, id, &exec_id, is_own, process, pipes.stdio(), &mut undo).await?;
    let ended = client.tasks().waiting(id, &exec_id).await;
    start_exec(&client, id, &exec_id, pipes.stdio(), &mut undo).await?;
    record(ctx, "exec", id, &steps, Ok(()))?;
    Ok(Attached::of(pipes.into_terminal(), ended, &client, id, &exec_id, undo))
}

/// Returns a size that somebody knows: a terminal that nobody has told it has neither lines nor columns.
fn known(size: ConsoleSize) -> Option<ConsoleSize> {
    Some(size).filter(|size| size.width > 0 && size.height > 0)
}

/// Starts a container that was made with a terminal, which has the size of the user's from the beginning, and attaches to it.
/// The number of its process is written to `pid_file`, if there is one.
///
/// # Errors
/// As [`Start`](super::Start); nothing is sent in a dry run.
pub async fn start_terminal(ctx: &Context, id: &str, size: ConsoleSize, pid_file: Option<&Path>) -> Result<Attached> {
    let planning = ctx.planning();
    let found = snapshot(&planning, id).await?;
    check_startable(&found)?;
    let plan = pid_steps(start_steps(Plan::new(()), ctx, &found), ctx, pid_file);
    permit(ctx, "start", id, &plan.steps)?;
    let client = ctx.client().await?;
    let pipes = open_pipes(ctx, id, Shape::Terminal)?;
    let mut undo = Undo::new(ctx.debts());
    create_task(&client, &found, pipes.stdio(), &mut undo).await?;
    let ended = client.tasks().waiting(id, "").await;
    if let Some(ConsoleSize { width, height }) = known(size) {
        // A container without a terminal has no size, and starts all the same.
        let _ = client.tasks().resize(id, "", width, height).await;
    }
    let pid = client.tasks().start(id, "").await?;
    if let Some(path) = pid_file {
        write_pid(path, pid)?;
    }
    record(ctx, "start", id, &plan.steps, Ok(()))?;
    Ok(Attached::of(pipes.into_terminal(), ended, &client, id, "", undo))
}

/// Removes a container that this program has just run, with whatever is left of it. For taking back, and at the end of a run:
/// it needs no more access than making it did.
///
/// # Errors
/// When the daemon is gone, or does not answer.
pub async fn discard(ctx: &Context, id: &str) -> Result<()> {
    let limit = DISCARD_PATIENCE;
    match tokio::time::timeout(limit, remove(ctx, id)).await {
        Ok(removed) => removed,
        Err(_) => Err(Error::Timeout { attempted: format!("removing container {id}"), limit }),
    }
}

async fn remove(ctx: &Context, id: &str) -> Result<()> {
    let client = ctx.client().await?.undoing();
    let container = match client.containers().get(id).await {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other?,
    };
    if let Some(why) = super::remove_task(client.clone(), id.to_owned()).await.failure() {
        tracing::warn!("task {id} is left behind: {why}");
    }
    super::network::remove(ctx, &container).await;
    match client.containers().delete(id).await {
        Err(error) if error.is_not_found() => {}
        other => other?,
    }
    if !container.snapshot_key.is_empty() {
        match client.snapshots(&container.snapshotter).remove(&container.snapshot_key).await {
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}
