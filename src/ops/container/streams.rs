//! Processes that get the program's own input, outputs and signals, in place of being captured.

use std::path::Path;

use futures_util::future::BoxFuture;

use super::start::{check_detached, pipes_in};
use super::terminal::{lost, outlasting};
use super::{Attached, Window};
use crate::containerd::io::{LogTarget, Pipes, Shape, Terminal};
use crate::containerd::tasks::{Exit, Stdio};
use crate::containerd::{self, Client};
use crate::ops::{Context, Error, Result};

/// The program's own input, outputs and signals, which a process can be given. Libraries have none; a shell has.
pub trait Streams: Send + Sync {
    /// Passes bytes and signals on, both ways, until the process has ended and all that it wrote is written.
    ///
    /// When nobody reads the program's output any more the process is killed, unless it stays, and the program ends after the
    /// call.
    fn pass(&self, ends: Ends) -> BoxFuture<'_, Result<Passed>>;
}

/// What a process is reached by.
pub struct Ends {
    /// Its input and outputs, as far as they come by here.
    pub terminal: Terminal,
    /// How it ends.
    pub ended: BoxFuture<'static, Result<Exit>>,
    /// What ends its input, and signals it.
    pub window: Window,
    /// Whether it is somebody else's, to be left and not killed when this program has to end.
    pub stays: bool,
}

/// How a process ended that had the program's own streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Its exit.
    pub exit: Exit,
    /// Whether it was killed because nobody read its output any more.
    pub closed: bool,
}

impl Passed {
    /// Returns the exit, once everything is cleared away.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when there is nobody left to go on for.
    pub fn exit(self) -> Result<Exit> {
        if self.closed { Err(Error::Cancelled) } else { Ok(self.exit) }
    }
}

/// Says that there are no streams to give.
pub(super) fn check(ctx: &Context) -> Result<()> {
    match ctx.streams() {
        Some(_) => Ok(()),
        None if ctx.is_dry_run() => Ok(()),
        None => Err(Error::argument("stdio", "of inherit needs a program with streams of its own, and there is none")),
    }
}

/// The streams of a process that gets the program's own, where nothing else was said of its output.
pub(super) struct Inherited {
    stdio: Stdio,
    terminal: Terminal,
}

impl Inherited {
    /// Makes FIFOs, in a folder if one was said; what goes to a log needs none, and reads nothing.
    pub(super) fn open(ctx: &Context, id: &str, log: Option<&LogTarget>, folder: Option<&Path>) -> Result<Self> {
        check_detached(log, folder, false)?;
        if let Some(log) = log {
            return Ok(Self { stdio: log.stdio(), terminal: Terminal::none() });
        }
        let folder = folder.unwrap_or(&ctx.settings().run_dir);
        let pipes = pipes_in(folder, |folder| Pipes::open(folder, id, Shape::Apart { stdin: true }))?;
        Ok(Self { stdio: pipes.stdio().clone(), terminal: pipes.into_terminal() })
    }

    /// Returns what the daemon is told.
    pub(super) fn stdio(&self) -> &Stdio {
        &self.stdio
    }

    /// Passes the program's own on to the process, which was started, until it has ended.
    pub(super) async fn pass(
        self,
        ctx: &Context,
        client: &Client,
        id: &str,
        exec_id: &str,
        ended: BoxFuture<'static, containerd::Result<Exit>>,
    ) -> Result<Passed> {
        let (own, its) = (id.to_owned(), exec_id.to_owned());
        let ended = outlasting(ended, client.tasks(), own.clone(), its.clone());
        let ended = Box::pin(async move { ended.await.map_err(|error| lost(error, &own, &its)) });
        pass(ctx, Ends { terminal: self.terminal, ended, window: Window::of(client, id, exec_id), stays: false }).await
    }
}

/// Passes the program's own on to a process that was attached to.
///
/// # Errors
/// As [`Attached::ended`], and when the program has no streams to pass on.
pub async fn pass_attached(ctx: &Context, attached: Attached) -> Result<Exit> {
    pass(ctx, attached.into_ends()).await?.exit()
}

/// Passes the program's own on to a process.
async fn pass(ctx: &Context, ends: Ends) -> Result<Passed> {
    check(ctx)?;
    match ctx.streams() {
        Some(streams) => streams.pass(ends).await,
        None => Err(Error::Cancelled),
    }
}
