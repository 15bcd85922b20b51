//! Processes with a terminal, for a shell to drive.

use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::future::{BoxFuture, LocalBoxFuture};

use super::exec::{create_exec, exec_id, open_pipes, plan_exec, process, start_exec};
use super::start::{check_startable, create_task, start_steps};
use super::{DetachKeys, ExecOptions, snapshot};
use crate::containerd::Client;
use crate::containerd::io::{Shape, Terminal};
use crate::containerd::tasks::Exit;
use crate::ops::execute::{permit, record};
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Plan, Result};

/// How long output is waited for after the process ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A process that runs with a terminal.
///
/// Dropped before [`finish`](Self::finish), the process is killed and taken back by the context's debts.
pub struct Attached {
    /// Its terminal.
    pub terminal: Terminal,
    ended: BoxFuture<'static, crate::containerd::Result<Exit>>,
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
    /// Connects the user with a process until it ends or the user leaves it by the keys.
    fn sit<'a>(&'a self, attached: Attached, keys: &'a DetachKeys) -> LocalBoxFuture<'a, Result<Parted>>;
}

impl Attached {
    pub(super) fn of(
        terminal: Terminal,
        ended: BoxFuture<'static, crate::containerd::Result<Exit>>,
        client: &Client,
        id: &str,
        exec_id: &str,
        undo: Undo,
    ) -> Self {
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        Self { terminal, ended, exit: None, client: client.clone(), id, exec_id, undo, stays: false }
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

    /// Waits for the process to end. May be dropped and called again.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub async fn ended(&mut self) -> Result<Exit> {
        let exit = match self.exit.take() {
            Some(exit) => exit,
            None => (&mut self.ended).await?,
        };
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Reads what the process wrote next; nothing when it has ended and all was read. May be dropped and called again.
    ///
    /// # Errors
    /// When the FIFO cannot be read, or the daemon is gone.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let failed = |source| Error::File { attempted: "read the output of", path: self.id.clone(), source };
        if self.exit.is_none() {
            tokio::select! {
                biased;
                read = self.terminal.read(buffer) => return read.map_err(failed),
                exit = &mut self.ended => self.exit = Some(exit?),
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
        if self.exec_id.is_empty() {
            tasks.delete(&self.id).await?;
        } else {
            tasks.delete_exec(&self.id, &self.exec_id).await?;
        }
        self.undo.forget();
        Ok(())
    }
}

/// Runs a command in a running container with a terminal.
///
/// # Errors
/// As [`Exec`](super::Exec); nothing is sent in a dry run.
pub async fn exec_terminal(ctx: &Context, id: &str, args: Vec<String>, options: &ExecOptions) -> Result<Attached> {
    let (found, plan) = plan_exec(&ctx.planning(), id, &args, options).await?;
    permit(ctx, "exec", id, &plan.steps)?;
    let steps = plan.steps;
    let client = ctx.client().await?;
    let process = process(&client, &found.container, args, options, true).await?;
    let exec_id = exec_id(options);
    let pipes = open_pipes(ctx, &exec_id, Shape::Terminal)?;
    let mut undo = Undo::new(ctx.debts());
    create_exec(&client, id, &exec_id, &process, pipes.stdio(), &mut undo).await?;
    let ended = client.tasks().waiting(id, &exec_id).await;
    start_exec(&client, id, &exec_id).await?;
    record(ctx, "exec", id, &steps, Ok(()))?;
    let terminal = pipes.into_terminal(&client, id, &exec_id);
    Ok(Attached::of(terminal, ended, &client, id, &exec_id, undo))
}

/// Starts a container that was made with a terminal, and attaches to it.
///
/// # Errors
/// As [`Start`](super::Start); nothing is sent in a dry run.
pub async fn start_terminal(ctx: &Context, id: &str) -> Result<Attached> {
    let planning = ctx.planning();
    let found = snapshot(&planning, id).await?;
    check_startable(&found)?;
    let plan = start_steps(Plan::new(()), ctx, &found);
    permit(ctx, "start", id, &plan.steps)?;
    let client = ctx.client().await?;
    let pipes = open_pipes(ctx, id, Shape::Terminal)?;
    let mut undo = Undo::new(ctx.debts());
    create_task(&client, &found, pipes.stdio(), &mut undo).await?;
    let ended = client.tasks().waiting(id, "").await;
    client.tasks().start(id, "").await?;
    record(ctx, "start", id, &plan.steps, Ok(()))?;
    let terminal = pipes.into_terminal(&client, id, "");
    Ok(Attached::of(terminal, ended, &client, id, "", undo))
}

/// Removes a container that this program has just run, with whatever is left of it. For taking back, and at the end of a run:
/// it needs no more access than making it did.
///
/// # Errors
/// When the daemon is gone.
pub async fn discard(ctx: &Context, id: &str) -> Result<()> {
    let client = ctx.client().await?.undoing();
    let container = match client.containers().get(id).await {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other?,
    };
    super::remove_task(client.clone(), id.to_owned()).await;
    super::network::remove(&container).await?;
    client.containers().delete(id).await?;
    if !container.snapshot_key.is_empty() {
        match client.snapshots(&container.snapshotter).remove(&container.snapshot_key).await {
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}
