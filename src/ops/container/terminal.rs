//! Processes with a terminal, for a shell to drive.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::exec::{create_exec, exec_id, open_pipes, plan_exec, process};
use super::start::{check_startable, create_task, start_steps};
use super::{ExecOptions, snapshot};
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
}

impl Attached {
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

    /// Removes the ended process: an executed one, or the container's task.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub async fn finish(self) -> Result<()> {
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
    create_exec(&client, id, &exec_id, &process, &pipes, &mut undo).await?;
    let ended = client.tasks().waiting(id, &exec_id).await;
    client.tasks().start(id, &exec_id).await?;
    record(ctx, "exec", id, &steps, Ok(()))?;
    let terminal = pipes.into_terminal(&client, id, &exec_id);
    Ok(Attached { terminal, ended, exit: None, client, id: id.to_owned(), exec_id, undo })
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
    Ok(Attached { terminal, ended, exit: None, client, id: id.to_owned(), exec_id: String::new(), undo })
}
