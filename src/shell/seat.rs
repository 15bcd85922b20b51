//! The user's terminal, and a process in a container that gets it until it ends or the user leaves it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::termios::{InputModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::Screen;
use super::modes::Modes;
use super::style::Role;
use crate::containerd::tasks::Exit;
use crate::oci::spec::ConsoleSize;
use crate::ops::container::{Attached, DetachKeys, Parted, Seat, Window};
use crate::ops::{Error, Result};

/// The hidden command that keeps an input open.
const HOLD: &str = "hold-input";

/// The user's terminal, whatever the program's own input and output are.
const TERMINAL: &str = "/dev/tty";

/// How much of what was typed waits for a process that does not read.
const MOST_WAITING: usize = 4 << 20;

/// How long the daemon may take to tell how a process ended, before the user is told what is waited for.
const SOON: Duration = Duration::from_secs(1);

/// How long it takes until a terminal at which Ctrl-D was pressed is read again.
const AFTER_END: Duration = Duration::from_millis(100);

const CTRL_C: u8 = 3;
const BELL: &[u8] = b"\x07";

/// The user's terminal, which passes every key on as it is when the process has a terminal too.
struct User {
    output: File,
    before: Termios,
    raw: bool,
    /// Whether the process's last output ended a line.
    at_line_start: Cell<bool>,
    modes: RefCell<Modes>,
}

impl User {
    /// Begins; returns where the keys come from too.
    fn begin(raw: bool, keys: &DetachKeys) -> io::Result<(Self, Receiver)> {
        // Opened anew: to read without waiting must not become a property of the program's own standard input.
        let input = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(TERMINAL)?;
        // A pipe in name only: what it takes is a descriptor that can be waited for, and a terminal is one.
        let input = Receiver::from_file_unchecked(input)?;
        let output = OpenOptions::new().write(true).open(TERMINAL)?;
        let before = tcgetattr(&output)?;
        let mut modes = before.clone();
        if raw {
            modes.make_raw();
        } else if let Some(key) = keys.last() {
            // Lines are still edited in the terminal, which hands one over at this key as it does at Enter (termios(3)).
            modes.special_codes[SpecialCodeIndex::VEOL] = key;
            modes.input_modes.remove(InputModes::IXON);
        }
        let this = Self { output, before, raw, at_line_start: Cell::new(true), modes: RefCell::default() };
        tcsetattr(&this.output, OptionalActions::Now, &modes)?;
        Ok((this, input))
    }

    fn size(&self) -> io::Result<ConsoleSize> {
        size_of(&self.output)
    }

    fn show(&self, bytes: &[u8]) -> io::Result<()> {
        let end: &[u8] = if self.raw { b"\r\n" } else { b"\n" };
        self.at_line_start.set(bytes.ends_with(end));
        self.modes.borrow_mut().see(bytes);
        (&self.output).write_all(bytes)
    }

    /// Goes to the beginning of a line.
    fn end_line(&self) -> io::Result<()> {
        if self.at_line_start.get() { Ok(()) } else { self.show(b"\r\n") }
    }

    /// Leaves the terminal as it can be used, also after a program that drew all over it.
    fn tidy(&self, left: bool) -> io::Result<()> {
        let (back, below) = (self.modes.borrow().back(), self.modes.borrow().below());
        (&self.output).write_all(back.as_bytes())?;
        self.end_line()?;
        (&self.output).write_all(if left { below.as_bytes() } else { b"" })
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // A terminal that is gone needs no setting back.
        // What was typed and not read was for the process, not for the prompt.
        let _ = tcsetattr(&self.output, OptionalActions::Flush, &self.before);
    }
}

fn size_of(terminal: &File) -> io::Result<ConsoleSize> {
    let size = tcgetwinsize(terminal)?;
    Ok(ConsoleSize { height: size.ws_row.into(), width: size.ws_col.into() })
}

/// Sees to it that the input of a process stays open after this program has left it, or was killed.
fn hold(input: Option<OwnedFd>) -> io::Result<()> {
    let Some(input) = input else { return Ok(()) };
    // The lock is the open file's, and so the holder's until it ends: a second one would do nothing.
    match flock(&input, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
        other => other?,
    }
    // The runtime waits for a child that nobody waits for, so that no zombie stays.
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

fn failed(source: io::Error) -> Error {
    Error::File { attempted: "use the terminal", path: TERMINAL.to_owned(), source }
}

/// Passes on what is typed, until the user presses the keys to leave.
///
/// Keys are read whether or not the process reads: what it does not take waits here, in its order.
async fn typing(
    mut keys: Receiver,
    mut stdin: Option<Sender>,
    user: &User,
    window: &Window,
    leave: &DetachKeys,
    closed: &Cell<bool>,
) -> Result<()> {
    let mut watch = leave.watch();
    let mut buffer = vec![0; 4096];
    let mut waiting = VecDeque::new();
    let (mut at_end, mut told) = (false, false);
    let ending = window.end_input();
    tokio::pin!(ending);
    loop {
        let all_given = at_end && waiting.is_empty();
        if all_given {
            stdin = None;
        }
        tokio::select! {
            count = keys.read(&mut buffer) => match count.map_err(failed)? {
                0 if user.raw => return Err(Error::Cancelled),
                // Ctrl-D at the beginning of a line: the input ends, the output goes on.
                0 if at_end => sleep(AFTER_END).await,
                0 => at_end = true,
                count => {
                    let (passed, left) = watch.take(&buffer[..count]);
                    if left {
                        waiting.extend(passed);
                        give(stdin.as_ref(), waiting);
                        return Ok(());
                    }
                    if closed.get() && passed.contains(&CTRL_C) {
                        return Err(Error::Cancelled);
                    }
                    if waiting.len() + passed.len() <= MOST_WAITING {
                        waiting.extend(passed);
                    } else {
                        user.show(BELL).map_err(failed)?;
                    }
                }
            },
            written = write(&mut stdin, &waiting), if !waiting.is_empty() => match written {
                Ok(count) => drop(waiting.drain(..count)),
                // A process that reads no more will tell by ending.
                Err(_) => (stdin, waiting) = (None, VecDeque::new()),
            },
            () = &mut ending, if all_given && !told => told = true,
        }
    }
}

/// Hands over what there is room for at once, and drops the rest.
fn give(stdin: Option<&Sender>, mut waiting: VecDeque<u8>) {
    let Some(stdin) = stdin else { return };
    while let Ok(count @ 1..) = stdin.try_write(waiting.as_slices().0) {
        waiting.drain(..count);
    }
}

/// Writes as much as there is room for.
async fn write(stdin: &mut Option<Sender>, waiting: &VecDeque<u8>) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(waiting.as_slices().0).await,
        None => Ok(waiting.len()),
    }
}

/// Shows what the process writes, until it has ended.
async fn showing(attached: &mut Attached, user: &User, closed: &Cell<bool>) -> Result<Exit> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match attached.read(&mut buffer).await? {
            0 => break,
            count => user.show(&buffer[..count]).map_err(failed)?,
        }
    }
    closed.set(true);
    if let Ok(exit) = timeout(SOON, attached.ended()).await {
        return exit;
    }
    user.end_line().map_err(failed)?;
    let told = "its output has ended; waiting for containerd to tell how it did (Ctrl-C gives up)\r\n";
    user.show(told.as_bytes()).map_err(failed)?;
    attached.ended().await
}

/// Tells the process the size of the user's window, now and whenever that changes.
async fn sizing(user: &User, window: &Window, redraw: bool) -> Result<Infallible> {
    if !user.raw {
        return std::future::pending().await;
    }
    let mut resized = signal(SignalKind::window_change()).map_err(failed)?;
    if redraw {
        // Another size makes what is on the screen be drawn anew, which the one that it has would not.
        let ConsoleSize { height, width } = user.size().map_err(failed)?;
        window.resize(ConsoleSize { height: height + 1, width: width + 1 }).await;
    }
    loop {
        window.resize(user.size().map_err(failed)?).await;
        resized.recv().await;
    }
}

/// Connects the user with a process until it has ended, or was left, which returns nothing.
async fn connect(attached: &mut Attached, user: &User, keys: Receiver, leave: &DetachKeys) -> Result<Option<Exit>> {
    let stdin = attached.terminal.take_stdin();
    let (window, redraw) = (attached.window(), attached.stays());
    let closed = Cell::new(false);
    tokio::select! {
        exit = showing(attached, user, &closed) => exit.map(Some),
        left = typing(keys, stdin, user, &window, leave, &closed) => left.map(|()| None),
        broken = sizing(user, &window, redraw) => broken.map(|never| match never {}),
    }
}

impl Seat for Screen {
    fn window(&self) -> Result<ConsoleSize> {
        let none = |problem: &str| Error::Argument {
            name: "a terminal".to_owned(),
            problem: format!("is needed, and {problem}"),
            cure: Some(
                "run ctrsh at a terminal (ssh -t and docker exec -t give one), or do it without tty; with detach it \
                 waits to be attached to"
                    .to_owned(),
            ),
        };
        if !io::stdin().is_terminal() {
            return Err(none("standard input is none"));
        }
        if !self.is_terminal() {
            return Err(none("standard output is none"));
        }
        let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL);
        terminal.and_then(|terminal| size_of(&terminal)).map_err(|error| none(&format!("{TERMINAL} is none: {error}")))
    }

    fn sit<'a>(&'a self, mut attached: Attached, keys: &'a DetachKeys) -> LocalBoxFuture<'a, Result<Parted>> {
        Box::pin(async move {
            // The last close of the input would be the end of the terminal, so there is one more until it is left.
            let mut input = attached.terminal.input().map_err(failed)?;
            if attached.stays() {
                // Whichever way this ends, the process keeps its terminal.
                hold(input.take()).map_err(failed)?;
            }
            let (user, typed) = User::begin(attached.terminal.is_terminal(), keys).map_err(failed)?;
            let parted = connect(&mut attached, &user, typed, keys).await;
            // What Ctrl-P Ctrl-Q was echoed as is still on the line.
            user.at_line_start.set(user.at_line_start.get() && (user.raw || !matches!(parted, Ok(None))));
            let _ = user.tidy(matches!(parted, Ok(None)));
            // From here on Ctrl-C is this program's own again.
            drop(user);
            if let Some(exit) = parted? {
                attached.finish().await?;
                return Ok(Parted::Ended(exit.code));
            }
            let back = attached.way_back();
            hold(attached.leave()?).map_err(failed)?;
            drop(input);
            self.remark(Role::Note, "left", &format!("it runs on; {back} goes back to it"));
            Ok(Parted::Left)
        })
    }
}
