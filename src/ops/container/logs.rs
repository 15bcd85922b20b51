//! `logs`: reads what a detached container wrote.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::snapshot;
use crate::containerd::io::LogTarget;
use crate::containerd::tasks::{Exit, Task};
use crate::ops::{Context, Error, Result, Seen};

/// How much is read from the end of a log at once.
const CHUNK: u64 = 64 << 10;

/// Reads the log of a container: all of it, or its last lines; at most `limit` bytes.
///
/// # Errors
/// [`Error::NotFound`] when it has none, [`Error::Argument`] when what is asked for has more bytes; nothing is read then.
pub async fn logs(ctx: &Context, id: &str, tail: Option<usize>, limit: u64) -> Result<Vec<u8>> {
    if is_pretended(ctx, id) {
        return Ok(Vec::new());
    }
    let path = path(ctx, id).await?;
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            let mut file = File::open(&path)?;
            let length = from_tail(&mut file, tail)?;
            if length > limit {
                return Ok(Err(length));
            }
            let mut bytes = Vec::new();
            // What is written meanwhile is not part of it.
            file.take(length).read_to_end(&mut bytes)?;
            Ok(Ok(bytes))
        })
    };
    let read = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    read.map_err(|source| unreadable(&path, source))?.map_err(|length| too_long(id, length, tail, limit))
}

/// Says that a log, or its last lines, are more than can be given at once.
#[must_use]
pub fn too_long(id: &str, length: u64, tail: Option<usize>, limit: u64) -> Error {
    let (part, fewer) = match tail {
        None => ("the log".to_owned(), 1000),
        Some(lines) => (format!("the end, {lines} lines, of the log"), lines / 10),
    };
    Error::Argument {
        name: format!("{part} of {id}"),
        problem: format!("is {} MiB long, and a string holds up to {} MiB", length.div_ceil(1 << 20), limit >> 20),
        cure: Some(format!(
            "logs(\"{id}\", #{{ tail: {} }}) reads only its last lines; follow: true prints it line by line",
            fewer.max(1)
        )),
    }
}

/// Returns whether a dry run has only planned what would have written the log.
fn is_pretended(ctx: &Context, id: &str) -> bool {
    ctx.is_dry_run() && ctx.overlay().get::<Task>(&ctx.place_name(), id) != Seen::Unknown
}

/// Finds the file that a container's output goes to.
async fn path(ctx: &Context, id: &str) -> Result<PathBuf> {
    let found = snapshot(ctx, id).await?;
    let none = |cure: &str| Error::NotFound {
        what: "log of container",
        name: id.to_owned(),
        nearest: None,
        cure: Some(cure.to_owned()),
    };
    let own = match LogTarget::of_container(&ctx.settings().log_dir, ctx.namespace(), id) {
        LogTarget::File(path) => path,
        LogTarget::Null | LogTarget::Uri(_) => return Err(none("it was started without one")),
    };
    let target = found.task.as_ref().map(|task| LogTarget::parse(&task.stdout));
    match target {
        Some(LogTarget::File(path)) if path == own => Ok(path),
        // A file of another tool: reading it is reading a local file.
        Some(LogTarget::File(path)) if found.task.as_ref().is_some_and(|task| task.stdout.starts_with("file://")) => {
            ctx.check_path("read log", &path)?;
            Ok(path)
        }
        Some(LogTarget::Uri(uri)) => Err(none(&format!("its output goes to {}", crate::oci::excerpt(&uri)))),
        Some(LogTarget::File(_)) => Err(none("its output goes to whoever started it")),
        Some(LogTarget::Null) | None if own.exists() => Ok(own),
        Some(LogTarget::Null) => Err(none("it was started without one")),
        None => Err(none(&format!("start(\"{id}\") starts it and keeps its output"))),
    }
}

/// Moves to the beginning of the last lines, which is looked for from the end, and returns how many bytes follow.
fn from_tail(file: &mut File, tail: Option<usize>) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    let Some(mut left) = tail else {
        file.seek(SeekFrom::Start(0))?;
        return Ok(end);
    };
    if left == 0 {
        return Ok(0);
    }
    let mut at = end;
    let mut buffer = Vec::new();
    while at > 0 {
        let from = at.saturating_sub(CHUNK);
        buffer.clear();
        file.seek(SeekFrom::Start(from))?;
        file.by_ref().take(at - from).read_to_end(&mut buffer)?;
        for (index, byte) in buffer.iter().enumerate().rev() {
            let position = from + index as u64;
            // The newline that ends the file ends its last line and begins none.
            if *byte == b'\n' && position + 1 != end {
                left -= 1;
                if left == 0 {
                    file.seek(SeekFrom::Start(position + 1))?;
                    return Ok(end - position - 1);
                }
            }
        }
        at = from;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(end)
}

/// A log that is read on as it grows, until the container has ended.
pub struct Follow {
    path: PathBuf,
    file: File,
    changes: AsyncFd<OwnedFd>,
    ended: Option<BoxFuture<'static, crate::containerd::Result<Exit>>>,
}

impl Follow {
    /// Opens the log of a container at its beginning, or before its last lines.
    ///
    /// # Errors
    /// As [`logs`].
    pub async fn open(ctx: &Context, id: &str, tail: Option<usize>) -> Result<Self> {
        let path = path(ctx, id).await?;
        let ended = ctx.client().await?.tasks().waiting(id, "").await;
        let opened = || -> io::Result<(File, AsyncFd<OwnedFd>)> {
            let mut file = File::open(&path)?;
            from_tail(&mut file, tail)?;
            let changes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
            inotify::add_watch(&changes, &path, inotify::WatchFlags::MODIFY)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe; what it asks for, an OwnedFd gives: it never changes its number"
            )]
            let changes = AsyncFd::new(changes)?;
            Ok((file, changes))
        };
        let (file, changes) = opened().map_err(|source| unreadable(&path, source))?;
        Ok(Self { path, file, changes, ended: Some(ended) })
    }

    /// Waits for more; nothing means that the container has ended and all was read.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let mut bytes = Vec::new();
            let read = self.file.by_ref().take(CHUNK).read_to_end(&mut bytes);
            read.map_err(|source| unreadable(&self.path, source))?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
            let Some(ended) = &mut self.ended else { return Ok(None) };
            tokio::select! {
                // The shim writes the last bytes before it tells of the end: one more look, then it is over.
                _ = ended => self.ended = None,
                changed = self.changes.readable() => {
                    let mut guard = changed.map_err(|source| unreadable(&self.path, source))?;
                    let mut events = [0_u8; 4096];
                    while rustix::io::read(guard.get_inner(), &mut events).is_ok_and(|count| count > 0) {}
                    guard.clear_ready();
                }
            }
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::File { attempted: "read log", path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_is_whole_lines() {
        let tail = |text: &str, lines: usize| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let length = from_tail(&mut file, Some(lines)).unwrap();
            let mut rest = String::new();
            file.read_to_string(&mut rest).unwrap();
            assert_eq!(rest.len() as u64, length);
            rest
        };
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 9), "a\nb\n");
        assert_eq!(tail("a\nb\n", 0), "");
        assert_eq!(tail("", 3), "");
        assert_eq!(tail("\n\n\n", 1), "\n");
        let long = format!("{}\nlast\n", "x".repeat(200_000));
        assert_eq!(tail(&long, 1), "last\n");
        assert_eq!(tail(&long, 2), long);
    }
}
