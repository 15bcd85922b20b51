//! The program's own input, outputs and signals, for a process that is to have them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};

use super::Screen;
use super::interrupt::{Forwarded, Forwarding, Interrupt, Why};
use super::style::Role;
use crate::containerd::tasks::Exit;
use crate::ops::container::{Ends, Passed, Signal, Streams, Window};
use crate::ops::{Error, Result};

/// How much is moved at once: what a pipe holds (pipe(7)).
const CHUNK: usize = 64 << 10;

/// How long the outputs of a process that has ended are read on while nothing comes, when something it started holds them open.
const LINGER: Duration = Duration::from_secs(2);

/// The program's own streams.
pub(super) struct Own {
    interrupt: Arc<Interrupt>,
    screen: Arc<Screen>,
    taken: tokio::sync::Mutex<()>,
}

impl Own {
    pub(super) fn new(screen: &Arc<Screen>, interrupt: &Arc<Interrupt>) -> Self {
        Self { interrupt: Arc::clone(interrupt), screen: Arc::clone(screen), taken: tokio::sync::Mutex::default() }
    }

    /// Tells the process what this program was told, until that has ended.
    async fn until_ended(
        &self,
        mut ended: BoxFuture<'static, Result<Exit>>,
        window: &Window,
        stays: bool,
        mut signals: Forwarding<'_>,
        mut broken: mpsc::Receiver<io::Error>,
    ) -> Result<(Exit, Option<io::Error>)> {
        let mut problem = None;
        loop {
            let signal = tokio::select! {
                biased;
                exit = &mut ended => return Ok((exit?, problem)),
                signal = signals.next() => signal,
                Some(error) = broken.recv(), if problem.is_none() => {
                    problem = Some(error);
                    Forwarded::Enough
                }
            };
            let number = match signal {
                Forwarded::Signal(number) => number,
                Forwarded::Enough if stays => {
                    return Err(problem.map_or(Error::Cancelled, |error| self.unwritten(error)));
                }
                Forwarded::Enough => Signal::KILL.number(),
            };
            if let Err(error) = window.signal(number).await {
                self.screen.remark(Role::Warning, "warning", &format!("signal {number} was not passed on: {error}"));
            }
        }
    }

    /// Says why the program's own output cannot be written.
    fn unwritten(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.interrupt.leave_after(Why::Closed);
            return Error::Cancelled;
        }
        failed("write", "the program's own output", error)
    }
}

impl Streams for Own {
    fn pass(&self, ends: Ends) -> BoxFuture<'_, Result<Passed>> {
        Box::pin(async move {
            let another = || Error::argument("stdio", "of inherit goes to one process at a time, and another has it");
            let _alone = self.taken.try_lock().map_err(|_| another())?;
            let Ends { mut terminal, ended, window, stays } = ends;
            // Before anything of it is seen: whoever sees that it runs may signal it.
            let signals = self.interrupt.forwarding().map_err(|error| failed("listen to", "signals", error))?;
            // Goes with this call, and ends the wait for input that nobody wants any more.
            let (stopped, _stop) = io::pipe().map_err(|error| failed("make", "a pipe", error))?;
            let (tell, broken) = mpsc::channel(2);
            let (over, is_over) = watch::channel(false);
            let mut input = JoinSet::new();
            if let Some(to) = terminal.take_stdin() {
                input.spawn(feed(to, Arc::new(stopped.into()), window.clone()));
            }
            let (out, err) = terminal.take_outputs();
            let mut outputs = JoinSet::new();
            for (from, to) in [(out, own(&io::stdout())), (err, own(&io::stderr()))] {
                let to = to.map_err(|error| failed("use", "the program's own output", error))?;
                if let Some(from) = from {
                    outputs.spawn(copy(from, Arc::new(to), is_over.clone(), tell.clone()));
                }
            }
            drop(tell);
            let (exit, problem) = self.until_ended(ended, &window, stays, signals, broken).await?;
            drop(input);
            over.send_replace(true);
            while let Some(copied) = outputs.join_next().await {
                let copied = copied.unwrap_or_else(|error| Err(io::Error::other(error)));
                copied.map_err(|error| failed("read", "the output FIFOs", error))?;
            }
            match problem.map(|error| self.unwritten(error)) {
                None => Ok(Passed { exit, closed: false }),
                Some(Error::Cancelled) => Ok(Passed { exit, closed: true }),
                Some(error) => Err(error),
            }
        })
    }
}

fn failed(attempted: &'static str, what: &str, source: io::Error) -> Error {
    Error::File { attempted, path: what.to_owned(), source }
}

/// Returns an output of the program, to write to it past all buffers.
fn own(output: &impl AsFd) -> io::Result<File> {
    Ok(output.as_fd().try_clone_to_owned()?.into())
}

/// Writes what the process writes, until that has ended. What cannot be written is told, and all the rest read and dropped: the
/// process may be writing still.
async fn copy(
    mut from: Receiver,
    to: Arc<File>,
    mut over: watch::Receiver<bool>,
    tell: mpsc::Sender<io::Error>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut broken = false;
    loop {
        let idle = async {
            let _ = over.wait_for(|over| *over).await;
            tokio::time::sleep(LINGER).await;
        };
        let count = tokio::select! {
            count = from.read(&mut buffer) => count?,
            () = idle => 0,
        };
        if count == 0 {
            return Ok(());
        }
        if broken {
            continue;
        }
        let to = Arc::clone(&to);
        let writing = spawn_blocking(move || {
            let written = write(&to, &buffer[..count]);
            (buffer, written)
        });
        let (back, written) = writing.await.map_err(io::Error::other)?;
        buffer = back;
        if let Err(error) = written {
            broken = true;
            let _ = tell.send(error).await;
        }
    }
}

/// Writes all of it, also where somebody has made the output one that does not wait.
fn write(mut to: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match io::Write::write(&mut to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(&mut [PollFd::new(to, PollFlags::OUT)])?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait(on: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(on, None) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Gives the process what the program reads, until that ends; then the process's input ends too.
async fn feed(mut to: Sender, stopped: Arc<OwnedFd>, window: Window) {
    loop {
        let stop = Arc::clone(&stopped);
        // What cannot be read has ended.
        let read = spawn_blocking(move || read(&stop)).await.ok().and_then(io::Result::ok).unwrap_or_default();
        if read.is_empty() || to.write_all(&read).await.is_err() {
            break;
        }
    }
    drop(to);
    window.end_input().await;
}

/// Reads what the program's own input has next; nothing at its end, and when nobody wants it any more: then none is taken.
fn read(stop: &OwnedFd) -> io::Result<Vec<u8>> {
    let input = io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut waited = [PollFd::new(&input, PollFlags::IN), PollFd::new(stop, PollFlags::empty())];
        wait(&mut waited)?;
        if !waited[1].revents().is_empty() {
            return Ok(Vec::new());
        }
        match rustix::io::read(&input, &mut buffer) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            count => {
                buffer.truncate(count?);
                return Ok(buffer);
            }
        }
    }
}
