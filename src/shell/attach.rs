//! `:exec`, `:run`, `:start`, `:attach`, and `tty` in scripts: a process in a container gets this terminal until it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};

use super::style::Role;
use super::{Shell, status};
use crate::ops::container::{
    self, Attached, Create, CreateOptions, DetachKeys, ExecOptions, Parted, discard, exec_terminal, start_terminal,
};
use crate::ops::{self, Context, execute};

/// What runs in a container when nothing is named.
const SHELL: &str = "sh";

/// The hidden command that keeps an input open.
const HOLD: &str = "hold-input";

/// The user's terminal, which passes every key on as it is when the process has a terminal too.
struct User {
    output: File,
    before: Option<Termios>,
}

impl User {
    /// Begins; returns where the keys come from too.
    fn begin(raw: bool) -> io::Result<(Self, Receiver)> {
        // Opened anew: to read without waiting must not become a property of the program's own standard input.
        let keys = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open("/dev/tty")?;
        // A pipe in name only: what it takes is a descriptor that can be waited for, and a terminal is one.
        let keys = Receiver::from_file_unchecked(keys)?;
        let output = OpenOptions::new().write(true).open("/dev/tty")?;
        let before = raw.then(|| tcgetattr(&output)).transpose()?;
        let this = Self { output, before };
        if let Some(before) = &this.before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&this.output, OptionalActions::Now, &raw)?;
        }
        Ok((this, keys))
    }

    fn size(&self) -> io::Result<(u16, u16)> {
        let size = tcgetwinsize(&self.output)?;
        Ok((size.ws_col, size.ws_row))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs no setting back.
            // What was typed and not read was for the process, not for the prompt.
            let _ = tcsetattr(&self.output, OptionalActions::Flush, before);
        }
    }
}

/// Starts what keeps the input of a process open after this program has left it.
fn hold(input: OwnedFd) -> io::Result<()> {
    Command::new(std::env::current_exe()?)
        .arg(HOLD)
        .stdin(Stdio::from(input))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .spawn()
        .map(drop)
}

/// Keeps standard input, the writing end of a FIFO, open until nobody has it open to read: the process is gone then.
pub fn hold_input() {
    // In a session of its own no terminal that goes away takes it along.
    let _ = rustix::process::setsid();
    let input = io::stdin();
    let mut waited = [PollFd::new(&input, PollFlags::empty())];
    while matches!(poll(&mut waited, None), Err(rustix::io::Errno::INTR)) {}
}

/// Connects the user's terminal with a process until that ends, or the user presses the keys to leave it.
pub(super) async fn drive(mut attached: Attached, keys: &DetachKeys) -> ops::Result<Parted> {
    let failed = |source| ops::Error::File { attempted: "use the terminal", path: "/dev/tty".into(), source };
    let is_terminal = attached.terminal.is_terminal();
    if attached.stays()
        && let Some(input) = attached.terminal.input().map_err(failed)?
    {
        // Whichever way this ends, the process keeps its terminal.
        hold(input).map_err(failed)?;
    }
    let (user, mut typed) = User::begin(is_terminal).map_err(failed)?;
    let mut resized = signal(SignalKind::window_change()).map_err(failed)?;
    let mut stdin = attached.terminal.take_stdin();
    let mut watch = keys.watch();
    let typing = async {
        let mut buffer = vec![0; 4096];
        loop {
            let count = typed.read(&mut buffer).await?;
            if count == 0 {
                if is_terminal {
                    return io::Result::Ok(false);
                }
                // Ctrl-D at the beginning of a line: the input ends, the output goes on.
                stdin = None;
                std::future::pending::<()>().await;
            }
            let (passed, left) = watch.take(&buffer[..count]);
            if let Some(stdin) = &mut stdin {
                // A process that reads no more will tell by ending.
                let _ = stdin.write_all(&passed).await;
            }
            if left {
                return Ok(true);
            }
        }
    };
    let showing = async {
        let mut buffer = vec![0; 16 << 10];
        let mut output = &user.output;
        if is_terminal {
            let (width, height) = user.size().map_err(failed)?;
            // A process that has ended already has no window.
            let _ = attached.terminal.resize(width, height).await;
        }
        loop {
            tokio::select! {
                count = attached.read(&mut buffer) => match count? {
                    0 => return ops::Result::Ok(()),
                    count => output.write_all(&buffer[..count]).map_err(failed)?,
                },
                _ = resized.recv(), if is_terminal => {
                    let (width, height) = user.size().map_err(failed)?;
                    let _ = attached.terminal.resize(width, height).await;
                }
            }
        }
    };
    let left = tokio::select! {
        shown = showing => {
            shown?;
            false
        }
        typed = typing => {
            if !typed.map_err(failed)? {
                return Err(ops::Error::Cancelled);
            }
            true
        }
    };
    if left {
        let held = attached.stays();
        if let Some(input) = attached.leave()?
            && !held
        {
            hold(input).map_err(failed)?;
        }
        return Ok(Parted::Left);
    }
    let exit = attached.ended().await?;
    attached.finish().await?;
    Ok(Parted::Ended(exit.code))
}

/// Gives up when the program is told to end; Ctrl-C is a key like any other here.
async fn until_stopped(ctx: &Context, work: impl Future<Output = ops::Result<Parted>>) -> ops::Result<Parted> {
    tokio::select! {
        result = work => result,
        () = ctx.grant().cancel().cancelled() => Err(ops::Error::Cancelled),
    }
}

/// Runs a container with a terminal, and removes it unless it was left.
async fn run(ctx: &Context, image: &str, command: Vec<String>) -> ops::Result<(String, Parted)> {
    let id = format!("run-{:016x}", rand::random::<u64>());
    let mut options = CreateOptions::default();
    options.spec.tty = true;
    options.spec.command = Some(command).filter(|command| !command.is_empty());
    execute(ctx, Create::new(&id, image, options)).await?;
    let keys = DetachKeys::default();
    let parted = until_stopped(ctx, Box::pin(async { drive(start_terminal(ctx, &id).await?, &keys).await })).await;
    if matches!(parted, Ok(Parted::Left)) {
        return Ok((id, Parted::Left));
    }
    // What was interrupted is taken back first, or it would hold the container.
    ctx.settle().await;
    let removed = discard(&ctx.with_cancel(Default::default()), &id).await;
    let parted = parted?;
    removed?;
    Ok((id, parted))
}

impl Shell {
    /// Carries out `:exec ID [COMMAND…]`.
    pub(super) fn exec_here(&mut self, argument: &str) {
        let Some((id, mut command)) = self.words(argument, "exec ID [COMMAND]") else { return };
        if command.is_empty() {
            command.push(SHELL.to_owned());
        }
        self.exec_attached(&id, &command, &ExecOptions::default());
    }

    /// Carries out `:start ID`.
    pub(super) fn start_here(&mut self, argument: &str) {
        let Some((id, _)) = self.words(argument, "start ID") else { return };
        self.start_attached(&id);
    }

    /// Carries out `:attach ID`.
    pub(super) fn attach_here(&mut self, argument: &str) {
        let Some((id, _)) = self.words(argument, "attach ID") else { return };
        let keys = DetachKeys::default();
        self.attach(async |ctx| {
            let work = Box::pin(async { drive(container::attach(ctx, &id, "").await?, &keys).await });
            Ok((id.clone(), until_stopped(ctx, work).await?))
        });
    }

    /// Starts a container that was made with a terminal, with this one; returns the exit status that ctrsh would set.
    pub(super) fn start_attached(&mut self, id: &str) -> u8 {
        let keys = DetachKeys::default();
        self.attach(async |ctx| {
            let work = Box::pin(async { drive(start_terminal(ctx, id).await?, &keys).await });
            Ok((id.to_owned(), until_stopped(ctx, work).await?))
        })
    }

    /// Runs a command in a container with this terminal; returns the exit status that ctrsh would set.
    pub(super) fn exec_attached(&mut self, id: &str, command: &[String], options: &ExecOptions) -> u8 {
        let keys = DetachKeys::default();
        self.attach(async |ctx| {
            let work = Box::pin(async { drive(exec_terminal(ctx, id, command.to_vec(), options).await?, &keys).await });
            Ok((id.to_owned(), until_stopped(ctx, work).await?))
        })
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

    fn attach(&mut self, work: impl AsyncFnOnce(&Context) -> ops::Result<(String, Parted)>) -> u8 {
        if self.interpreter.session().context().is_dry_run() {
            self.screen.remark(Role::Note, "note", "a dry run starts nothing that a terminal could be given to");
            return status::DONE;
        }
        let cancel = self.interrupt.begin();
        let session = Arc::clone(self.interpreter.session());
        let ctx = session.context().with_cancel(cancel);
        let result = self.runtime.block_on(async {
            let result = work(&ctx).await;
            // Only now is a process that was given up dropped, and can be taken back.
            ctx.settle().await;
            result
        });
        self.interrupt.end();
        match result {
            Ok((id, parted)) => {
                match parted {
                    Parted::Ended(0) => {}
                    Parted::Ended(code) => {
                        self.screen.remark(Role::Note, "ended", &format!("with exit status {code}"));
                    }
                    Parted::Left => {
                        let text = format!("{id} runs on; :attach {id} goes back to a container");
                        self.screen.remark(Role::Note, "left", &text);
                    }
                }
                status::DONE
            }
            Err(error) => {
                self.screen.failure(&error);
                status::of_operation(&error)
            }
        }
    }
}
