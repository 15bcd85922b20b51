//! `logs`: reads what a container wrote, from the log that `start` made, or the kubelet's or nerdctl's.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::foreign::{self, Kept};
use super::records::{Decoder, Form};
use super::snapshot;
use super::terminal::outlasting_a_restart;
use crate::containerd::io::LogTarget;
use crate::containerd::tasks::{Exit, Task};
use crate::ops::{Context, Error, Result, Seen};

/// How much is read from the end of a log at once.
const CHUNK: u64 = 64 << 10;

/// How long the end of a log may come after the end of its container.
const LINGER: Duration = Duration::from_millis(300);

/// Which log is read, and what of it.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// How many lines from its end.
    pub tail: Option<usize>,
    /// Only what was written since then, where lines carry times.
    pub since: Option<DateTime<Utc>>,
    /// Where the file system of the node is whose kubelet or nerdctl wrote it.
    pub root: Option<PathBuf>,
}

/// Reads the log of a container; at most `limit` bytes of text.
///
/// # Errors
/// [`Error::NotFound`] when it has none, [`Error::Argument`] when what is asked for has more bytes: a log that is text alone is not
/// read then.
pub async fn logs(ctx: &Context, id: &str, options: &LogOptions, limit: u64) -> Result<Vec<u8>> {
    if is_pretended(ctx, id) {
        return Ok(Vec::new());
    }
    let Kept { path, form } = kept(ctx, id, options).await?;
    let (tail, since) = (options.tail, options.since);
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            let mut file = File::open(&path)?;
            let length = from_tail(&mut file, tail, form)?;
            if form == Form::Plain && length > limit {
                return Ok(Err(length));
            }
            // What is written meanwhile is not part of it.
            let mut file = file.take(length);
            let mut decoder = Decoder::new(form, since);
            let (mut text, mut bytes) = (Vec::new(), Vec::new());
            while file.by_ref().take(CHUNK).read_to_end(&mut bytes)? > 0 {
                decoder.add(&bytes, &mut text);
                bytes.clear();
                if text.len() as u64 > limit {
                    return Ok(Err(length));
                }
            }
            decoder.end(&mut text);
            Ok(Ok(text))
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

/// Finds the file that a container's output goes to, and how it is written there.
async fn kept(ctx: &Context, id: &str, options: &LogOptions) -> Result<Kept> {
    let kept = find(ctx, id, options.root.as_deref()).await?;
    if kept.form == Form::Plain && options.since.is_some() {
        return Err(Error::Argument {
            name: "since".into(),
            problem: format!("needs the time of each line, which the log of {id} does not have"),
            cure: Some("the kubelet's and nerdctl's logs have it; tail takes the last lines of others".into()),
        });
    }
    Ok(kept)
}

async fn find(ctx: &Context, id: &str, root: Option<&Path>) -> Result<Kept> {
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
    let plain = |path| Ok(Kept { path, form: Form::Plain });
    if !matches!(&target, Some(LogTarget::File(path)) if *path == own)
        && let Some(kept) = foreign::find(ctx, &found.container, root)?
    {
        return Ok(kept);
    }
    match target {
        Some(LogTarget::File(path)) if path == own => plain(path),
        // A file of another tool: reading it is reading a local file.
        Some(LogTarget::File(path)) if found.task.as_ref().is_some_and(|task| task.stdout.starts_with("file://")) => {
            ctx.check_path("read log", &path)?;
            plain(path)
        }
        Some(LogTarget::Uri(uri)) => Err(none(&format!("its output goes to {}", crate::oci::excerpt(&uri)))),
        Some(LogTarget::File(_)) => Err(none("its output goes to whoever started it")),
        Some(LogTarget::Null) | None if own.exists() => plain(own),
        Some(LogTarget::Null) => Err(none("it was started without one")),
        None => Err(none(&format!("start(\"{id}\") starts it and keeps its output"))),
    }
}

/// Moves to the beginning of the last lines, which is looked for from the end, and returns how many bytes follow.
fn from_tail(file: &mut File, tail: Option<usize>, form: Form) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    let start = match tail {
        None => 0,
        Some(0) => end,
        Some(lines) => tail_start(file, lines, form, end)?,
    };
    file.seek(SeekFrom::Start(start))?;
    Ok(end - start)
}

fn tail_start(file: &mut File, lines: usize, form: Form, end: u64) -> io::Result<u64> {
    let mut left = lines;
    // Where the line begins that was seen last, going back; the one at the end counts, be it whole or not.
    let mut seen = end;
    let mut buffer = Vec::new();
    let mut at = end;
    while at > 0 {
        let from = at.saturating_sub(CHUNK);
        buffer.clear();
        file.seek(SeekFrom::Start(from))?;
        file.by_ref().take(at - from).read_to_end(&mut buffer)?;
        for (index, byte) in buffer.iter().enumerate().rev() {
            let start = from + index as u64 + 1;
            // The newline that ends the file ends its last line and begins none.
            if *byte != b'\n' || start == end {
                continue;
            }
            if seen == end || form.ends_at(file, start)? {
                if left == 0 {
                    return Ok(seen);
                }
                left -= 1;
                // Where each line stands for itself, the one before need not be looked for.
                if left == 0 && form != Form::Cri {
                    return Ok(start);
                }
            }
            seen = start;
        }
        at = from;
    }
    let first_ends = seen == end || form.ends_at(file, 0)?;
    Ok(if left == 0 && first_ends { seen } else { 0 })
}

/// A log that is read on as it grows, until the container has ended.
pub struct Follow {
    path: PathBuf,
    file: File,
    decoder: Decoder,
    changes: AsyncFd<OwnedFd>,
    ended: Option<BoxFuture<'static, crate::containerd::Result<Exit>>>,
    over: bool,
}

impl Follow {
    /// Opens the log of a container at its beginning, or before its last lines.
    ///
    /// # Errors
    /// As [`logs`].
    pub async fn open(ctx: &Context, id: &str, options: &LogOptions) -> Result<Self> {
        let Kept { path, form } = kept(ctx, id, options).await?;
        let tasks = ctx.client().await?.tasks();
        let ended = tasks.waiting(id, "").await;
        let ended = outlasting_a_restart(ended, tasks, id.to_owned(), String::new()).boxed();
        let opened = || -> io::Result<(File, AsyncFd<OwnedFd>)> {
            let mut file = File::open(&path)?;
            from_tail(&mut file, options.tail, form)?;
            let changes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
            inotify::add_watch(&changes, &path, inotify::WatchFlags::MODIFY)?;
            // A log that is rotated is another file by its name.
            if let Some(folder) = path.parent() {
                let arrivals = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
                inotify::add_watch(&changes, folder, arrivals)?;
            }
            #[expect(
                deprecated,
                reason = "its successor is unsafe; what it asks for, an OwnedFd gives: it never changes its number"
            )]
            let changes = AsyncFd::new(changes)?;
            Ok((file, changes))
        };
        let (file, changes) = opened().map_err(|source| unreadable(&path, source))?;
        let decoder = Decoder::new(form, options.since);
        Ok(Self { path, file, decoder, changes, ended: Some(ended), over: false })
    }

    /// Waits for more; nothing means that the container has ended and all was read.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        while !self.over {
            let read = self.read_on(&mut text);
            let more = read.map_err(|source| unreadable(&self.path, source))?;
            if !text.is_empty() {
                return Ok(Some(text));
            }
            if more {
                continue;
            }
            let Some(ended) = &mut self.ended else {
                self.decoder.end(&mut text);
                self.over = true;
                break;
            };
            tokio::select! {
                // Whoever writes the log, a shim too, may tell of the end before the last bytes are there (containerd
                // `cmd/containerd-shim-runc-v2/process`: an exit does not wait for the copying): one more look after a while.
                ended = ended => {
                    self.ended = None;
                    match ended {
                        // Without a task it has ended too.
                        Err(error) if !error.is_not_found() => return Err(error.into()),
                        _ => {}
                    }
                    tokio::time::sleep(LINGER).await;
                }
                changed = self.changes.readable() => {
                    let mut guard = changed.map_err(|source| unreadable(&self.path, source))?;
                    let mut events = [0_u8; 4096];
                    while rustix::io::read(guard.get_inner(), &mut events).is_ok_and(|count| count > 0) {}
                    guard.clear_ready();
                }
            }
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Reads what is there by now; returns whether there may be more, as in the file that took the place of this one.
    fn read_on(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        // Looked at first: once there is another file, nobody writes to this one.
        let next = self.successor()?;
        let mut bytes = Vec::new();
        self.file.by_ref().take(CHUNK).read_to_end(&mut bytes)?;
        if !bytes.is_empty() {
            self.decoder.add(&bytes, text);
            return Ok(true);
        }
        let Some(next) = next else { return Ok(false) };
        inotify::add_watch(&self.changes, &self.path, inotify::WatchFlags::MODIFY)?;
        self.file = next;
        Ok(true)
    }

    /// Opens the file that has this one's name by now, or this one anew when it was emptied; none when neither is so.
    fn successor(&mut self) -> io::Result<Option<File>> {
        let next = match File::open(&self.path) {
            Ok(next) => next,
            // Between the two steps of a rotation, or at its container's end.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mine, its) = (self.file.metadata()?, next.metadata()?);
        let same = (mine.dev(), mine.ino()) == (its.dev(), its.ino());
        Ok((!same || self.file.stream_position()? > its.len()).then_some(next))
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
        let of = |form: Form, text: &str, lines: usize| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let length = from_tail(&mut file, Some(lines), form).unwrap();
            let mut rest = String::new();
            file.read_to_string(&mut rest).unwrap();
            assert_eq!(rest.len() as u64, length);
            rest
        };
        let tail = |text: &str, lines: usize| of(Form::Plain, text, lines);
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 9), "a\nb\n");
        assert_eq!(tail("a\nb\n", 0), "");
        assert_eq!(tail("", 3), "");
        assert_eq!(tail("\n\n\n", 1), "\n");
        let long = format!("{}\nlast\n", "x".repeat(200_000));
        assert_eq!(tail(&long, 1), "last\n");
        assert_eq!(tail(&long, 2), long);
        // A line of the text is several of the log.
        let line = |tag: char, text: &str| format!("2026-01-02T03:04:05Z stdout {tag} {text}\n");
        let log = [line('F', "a"), line('P', "b"), line('P', "c"), line('F', "d"), line('F', "e")];
        assert_eq!(of(Form::Cri, &log.concat(), 1), log[4]);
        assert_eq!(of(Form::Cri, &log.concat(), 2), log[1..].concat());
        assert_eq!(of(Form::Cri, &log.concat(), 3), log.concat());
        assert_eq!(of(Form::Cri, &log.concat(), 9), log.concat());
        assert_eq!(of(Form::Cri, &log[1..].concat(), 1), log[4]);
        assert_eq!(of(Form::Cri, &log[..3].concat(), 1), log[1..3].concat());
        assert_eq!(of(Form::Cri, &log[..1].concat(), 1), log[0]);
        assert_eq!(of(Form::Cri, "", 1), "");
    }
}
