//! `:exec` and `:run`: a process in a container gets this terminal until it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};

use super::Shell;
use super::style::Role;
use crate::ops::container::{Attached, Create, CreateOptions, Delete, ExecOptions, exec_terminal, start_terminal};
use crate::ops::{self, Context, execute};

/// What runs in a container when nothing is named.
const SHELL: &str = "sh";

/// The user's terminal, which passes every key on as it is.
struct Raw {
    output: File,
    before: Termios,
}

impl Raw {
    /// Begins; returns where the keys come from too.
    fn begin() -> io::Result<(Self, Receiver)> {
        // Opened anew: to read without waiting must not become a property of the program's own standard input.
        let keys = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open("/dev/tty")?;
        // A pipe in name only: what it takes is a descriptor that can be waited for, and a terminal is one.
        let keys = Receiver::from_file_unchecked(keys)?;
        let output = OpenOptions::new().write(true).open("/dev/tty")?;
        let before = tcgetattr(&output)?;
        let mut raw = before.clone();
        raw.make_raw();
        let this = Self { output, before };
        tcsetattr(&this.output, OptionalActions::Now, &raw)?;
        Ok((this, keys))
    }

    fn size(&self) -> io::Result<(u16, u16)> {
        let size = tcgetwinsize(&self.output)?;
        Ok((size.ws_col, size.ws_row))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no setting back.
        let _ = tcsetattr(&self.output, OptionalActions::Drain, &self.before);
    }
}

/// Connects the user's terminal with a process until that ends; returns its exit status.
async fn drive(mut attached: Attached) -> ops::Result<u32> {
    let failed = |source| ops::Error::File { attempted: "use the terminal", path: "/dev/tty".into(), source };
    let (raw, mut keys) = Raw::begin().map_err(failed)?;
    let mut resized = signal(SignalKind::window_change()).map_err(failed)?;
    let stdin = attached.terminal.take_stdin();
    let typing = async {
        let Some(mut stdin) = stdin else { return std::future::pending().await };
        let mut buffer = vec![0; 4096];
        loop {
            match keys.read(&mut buffer).await {
                Ok(0) => return Ok(()),
                // A process that reads no more will tell by ending.
                Ok(count) => drop(stdin.write_all(&buffer[..count]).await),
                Err(error) => return Err(error),
            }
        }
    };
    let showing = async {
        let mut buffer = vec![0; 16 << 10];
        let mut output = &raw.output;
        let (width, height) = raw.size().map_err(failed)?;
        // A process that has ended already has no window.
        let _ = attached.terminal.resize(width, height).await;
        loop {
            tokio::select! {
                count = attached.read(&mut buffer) => match count? {
                    0 => return ops::Result::Ok(()),
                    count => output.write_all(&buffer[..count]).map_err(failed)?,
                },
                _ = resized.recv() => {
                    let (width, height) = raw.size().map_err(failed)?;
                    let _ = attached.terminal.resize(width, height).await;
                }
            }
        }
    };
    tokio::select! {
        shown = showing => shown?,
        typed = typing => {
            typed.map_err(failed)?;
            return Err(ops::Error::Cancelled);
        }
    }
    let exit = attached.ended().await?;
    attached.finish().await?;
    Ok(exit.code)
}

/// Gives up when the program is told to end; Ctrl-C is a key like any other here.
async fn until_stopped(ctx: &Context, work: impl Future<Output = ops::Result<u32>>) -> ops::Result<u32> {
    tokio::select! {
        result = work => result,
        () = ctx.grant().cancel().cancelled() => Err(ops::Error::Cancelled),
    }
}

/// Runs a container with a terminal, and removes it however that ends.
async fn run(ctx: &Context, image: &str, command: Vec<String>) -> ops::Result<u32> {
    let id = format!("run-{:016x}", rand::random::<u64>());
    let mut options = CreateOptions::default();
    options.spec.tty = true;
    options.spec.command = Some(command).filter(|command| !command.is_empty());
    execute(ctx, Create::new(&id, image, options)).await?;
    let ended = until_stopped(ctx, Box::pin(async { drive(start_terminal(ctx, &id).await?).await })).await;
    // What was interrupted is taken back first, or it would hold the container.
    ctx.debts().settle().await;
    let removed = execute(&ctx.with_cancel(Default::default()), Delete::new(&id, true, false)).await;
    let code = ended?;
    removed?;
    Ok(code)
}

impl Shell {
    /// Carries out `:exec ID [COMMAND…]`.
    pub(super) fn exec_here(&mut self, argument: &str) {
        let Some((id, mut command)) = self.words(argument, "exec ID [COMMAND]") else { return };
        if command.is_empty() {
            command.push(SHELL.to_owned());
        }
        let options = ExecOptions::default();
        self.attach(async |ctx| {
            let work = Box::pin(async { drive(exec_terminal(ctx, &id, command, &options).await?).await });
            until_stopped(ctx, work).await
        });
    }

    /// Carries out `:run IMAGE [COMMAND…]`.
    pub(super) fn run_here(&mut self, argument: &str) {
        let Some((image, command)) = self.words(argument, "run IMAGE [COMMAND]") else { return };
        self.attach(async |ctx| Box::pin(run(ctx, &image, command)).await);
    }

    /// Splits a line as a shell does. `-t` and `-it`, which hands are used to, say what is done anyway.
    fn words(&self, argument: &str, usage: &str) -> Option<(String, Vec<String>)> {
        let mut words = shlex::split(argument).unwrap_or_default().into_iter();
        let first = words.find(|word| !matches!(word.as_str(), "-t" | "-i" | "-it" | "-ti" | "--tty"));
        if first.is_none() {
            self.screen.remark(Role::Error, "error", &format!("it takes :{usage}, quoted as in a shell"));
        }
        Some((first?, words.collect()))
    }

    fn attach(&mut self, work: impl AsyncFnOnce(&Context) -> ops::Result<u32>) {
        if self.interpreter.session().context().is_dry_run() {
            self.screen.remark(Role::Note, "note", "a dry run starts nothing that a terminal could be given to");
            return;
        }
        let cancel = self.interrupt.begin();
        let session = Arc::clone(self.interpreter.session());
        let ctx = session.context().with_cancel(cancel);
        let result = self.runtime.block_on(async {
            let result = work(&ctx).await;
            // Only now is a process that was given up dropped, and can be taken back.
            ctx.debts().settle().await;
            result
        });
        self.interrupt.end();
        match result {
            Ok(0) => {}
            Ok(code) => self.screen.remark(Role::Note, "ended", &format!("with exit status {code}")),
            Err(error) => self.screen.failure(&error),
        }
    }
}
