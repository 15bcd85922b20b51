//! The journal of a migration: an append-only file with one JSON line a change of state, on the disk before the change is
//! acted on. A process that is killed leaves at most one torn line, which is cut off when the journal is opened again.
//!
//! The journal is never trusted for what a target holds: that is asked of the target. It says what was under way, what
//! failed, which lease keeps half-written content, which digest a source came to that has none until it is read, and which
//! repository of a registry a blob was sent to: another one may mount it, if the registry finds it there.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::kind::Kind;
use crate::oci::Digest;
use crate::ops::{Error, Result};

/// The form that this program writes and reads.
const VERSION: u32 = 1;
/// The longest line that is read.
const MAX_LINE: u64 = 1 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// The first line: which migration it is.
    Begin {
        /// The form of the file.
        version: u32,
        /// Which migration.
        identity: Identity,
    },
    /// The migration goes on after it had stopped.
    Resume,
    /// A lease keeps what is half written.
    Lease {
        /// Where the lease is.
        place: String,
        /// What names it.
        id: String,
    },
    /// An image is about to be moved.
    Start(Line),
    /// The target points to the digest.
    Done(Line),
    /// The target pointed to the digest before.
    Present(Line),
    /// It could not be moved.
    Failed {
        /// What.
        #[serde(flatten)]
        line: Line,
        /// The kind of the failure.
        kind: String,
        /// What the failure says.
        message: String,
    },
    /// The migration came to its end.
    End {
        /// How many images were moved or there already.
        complete: usize,
        /// How many failed.
        failed: usize,
    },
}

/// The image that a line is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Where from.
    pub source: String,
    /// Where to: what names the item.
    pub target: String,
    /// What the source is, when that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// What the source calls its content, when it has no digest before it is read: the image id of a Docker Engine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content: Option<String>,
    /// The blobs that were sent into a registry's repository, which others may mount them from.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sent: Vec<Digest>,
}

/// Which migration a journal is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Where from, as written.
    pub from: Vec<String>,
    /// Where to, as written.
    pub to: String,
    /// Which share, `INDEX/COUNT`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shard: Option<String>,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.from.join(", "), self.to)?;
        if let Some(shard) = &self.shard {
            write!(f, ", shard {shard}")?;
        }
        Ok(())
    }
}

/// What a journal says of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What it is about.
    pub line: Line,
    /// What became of it last.
    pub last: Last,
}

/// What became of an image last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// It was under way when the program ended.
    Started,
    /// Its target had it.
    Complete,
    /// It failed.
    Failed,
}

/// What a journal says.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// Which migration it is of; none when the file is new.
    pub identity: Option<Identity>,
    /// The lease that was made last, with its place.
    pub lease: Option<(String, String)>,
    /// The images, by their target.
    pub entries: HashMap<String, Entry>,
    /// How many bytes of the file are whole lines.
    whole: u64,
}

impl Past {
    fn note(&mut self, event: Event) {
        let (mut line, last) = match event {
            Event::Begin { identity, .. } => {
                self.identity = Some(identity);
                return;
            }
            Event::Lease { place, id } => {
                self.lease = Some((place, id));
                return;
            }
            Event::Resume => return,
            // Whoever comes to the end deletes the lease before.
            Event::End { .. } => {
                self.lease = None;
                return;
            }
            Event::Start(line) => (line, Last::Started),
            Event::Done(line) | Event::Present(line) => (line, Last::Complete),
            Event::Failed { line, .. } => (line, Last::Failed),
        };
        // What was sent once is still there when the image is looked at again.
        if let Some(before) = self.entries.get_mut(&line.target) {
            line.sent.append(&mut before.line.sent);
        }
        self.entries.insert(line.target.clone(), Entry { line, last });
    }
}

/// Reads a journal without holding it; a file that is not there reads as empty.
///
/// # Errors
/// When somebody else writes to it, when it is of another migration, or when it is damaged before its last line.
pub(super) fn read(path: &Path, identity: &Identity) -> Result<Past> {
    let fail = failure("read the journal", path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Past::default()),
        Err(error) => return Err(fail(error)),
    };
    lock(&file, path, FlockOperation::NonBlockingLockShared)?;
    parse(&file, path, identity)
}

/// How often, and how long apart, a lock is tried that another holds.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// A journal that this process writes.
pub(super) struct Journal {
    /// Where lines go; none once this is being dropped.
    lines: Option<mpsc::Sender<Pending>>,
    writer: Option<std::thread::JoinHandle<()>>,
    path: PathBuf,
}

/// A line, and who waits for it.
type Pending = (Vec<u8>, oneshot::Sender<std::io::Result<()>>);

impl Journal {
    /// Opens a journal, making it with mode 0600 when it is not there, and holds it until this is dropped.
    ///
    /// # Errors
    /// When another process holds it, when it is of another migration, is damaged, or cannot be written.
    pub(super) fn open(path: &Path, identity: &Identity) -> Result<(Self, Past)> {
        let fail = failure("open the journal", path);
        let options = OpenOptions::new().read(true).append(true).create(true).mode(0o600).clone();
        let mut file = options.open(path).map_err(&fail)?;
        lock(&file, path, FlockOperation::NonBlockingLockExclusive)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(&fail)?;
        let past = parse(&file, path, identity)?;
        // A torn line would swallow the next one.
        file.set_len(past.whole).map_err(&fail)?;
        file.seek(SeekFrom::End(0)).map_err(&fail)?;
        let first = match &past.identity {
            Some(_) => Event::Resume,
            None => Event::Begin { version: VERSION, identity: identity.clone() },
        };
        let first = encode(&first);
        if let Err(error) = file.write_all(&first).and_then(|()| file.sync_data()) {
            let _ = file.set_len(past.whole);
            return Err(fail(error));
        }
        let whole = past.whole + first.len() as u64;
        if past.identity.is_none() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(&fail)?;
        }
        let (lines, queue) = mpsc::channel();
        let writer = std::thread::Builder::new().name("journal".to_owned());
        let writer = writer.spawn(move || keep(file, whole, &queue)).map_err(&fail)?;
        Ok((Self { lines: Some(lines), writer: Some(writer), path: path.to_owned() }, past))
    }

    /// Writes one line, and returns when it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written: what is not written down must not be done.
    pub(super) async fn write(&self, event: &Event) -> Result<()> {
        let (done, written) = oneshot::channel();
        let gone = || std::io::Error::other("the writer ended");
        let sent = self.lines.as_ref().is_some_and(|lines| lines.send((encode(event), done)).is_ok());
        let result = if sent { written.await.unwrap_or_else(|_| Err(gone())) } else { Err(gone()) };
        result.map_err(failure("write the journal", &self.path))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // The file, and with it the lock, is let go before this returns.
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Writes what comes, all that waits at once with one `fdatasync`.
///
/// What a full disk took of it in part is cut off again, lest a later line, for which there is room, stands behind a torn
/// one. `whole` is how long the file is.
fn keep(mut file: File, mut whole: u64, queue: &mpsc::Receiver<Pending>) {
    while let Ok((mut bytes, done)) = queue.recv() {
        let mut waiting = vec![done];
        while let Ok((more, done)) = queue.try_recv() {
            bytes.extend(more);
            waiting.push(done);
        }
        let result = file.write_all(&bytes).and_then(|()| file.sync_data());
        let usable = match &result {
            Ok(()) => {
                whole += bytes.len() as u64;
                true
            }
            Err(_) => file.set_len(whole).is_ok(),
        };
        for done in waiting {
            let _ = done.send(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(error
                    .raw_os_error()
                    .map_or_else(|| std::io::Error::other(error.to_string()), std::io::Error::from_raw_os_error)),
            });
        }
        if !usable {
            return;
        }
    }
}

/// Makes a line: the event with the time, by this machine's clock, for people. Order is the order of lines.
fn encode(event: &Event) -> Vec<u8> {
    #[derive(Serialize)]
    struct Timed<'a> {
        at: String,
        #[serde(flatten)]
        event: &'a Event,
    }
    let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    // Maps with text keys alone: this cannot fail.
    let mut line = serde_json::to_vec(&Timed { at, event }).unwrap_or_default();
    line.push(b'\n');
    line
}

fn parse(file: &File, path: &Path, identity: &Identity) -> Result<Past> {
    let fail = failure("read the journal", path);
    let shown = || path.display().to_string();
    let mut reader = BufReader::new(file);
    let mut past = Past::default();
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        bytes.clear();
        let read = std::io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut bytes).map_err(&fail)?;
        if read == 0 {
            break;
        }
        number += 1;
        let damaged = || Error::Argument {
            name: format!("the journal {}", shown()),
            problem: format!("is damaged, or no journal: line {number} cannot be read"),
            cure: Some("give another file; what the targets have already is found without it".into()),
        };
        if bytes.last() != Some(&b'\n') {
            // What was torn off is cut off; of somebody else's file nothing is.
            if number == 1 && !is_begin(&bytes, identity) {
                return Err(damaged());
            }
            break;
        }
        let Ok(event) = serde_json::from_slice::<Event>(&bytes) else {
            let last = reader.fill_buf().map_err(&fail)?.is_empty();
            if last && number > 1 {
                break;
            }
            return Err(damaged());
        };
        match &event {
            Event::Begin { version, .. } if *version != VERSION => {
                return Err(Error::Argument {
                    name: format!("the journal {}", shown()),
                    problem: format!("has form {version}, and this ctrsh reads form {VERSION}"),
                    cure: None,
                });
            }
            Event::Begin { identity: found, .. } if found != identity => {
                return Err(Error::Conflict {
                    what: "journal",
                    name: shown(),
                    state: format!("is of another migration: {found}"),
                    cure: Some(format!("give another file for the migration of {identity}")),
                });
            }
            _ => {}
        }
        past.whole += read as u64;
        past.note(event);
    }
    Ok(past)
}

/// Returns whether these bytes are how the first line of a journal begins, whenever that was written.
fn is_begin(bytes: &[u8], identity: &Identity) -> bool {
    let line = encode(&Event::Begin { version: VERSION, identity: identity.clone() });
    let is_like = |(a, b): (&u8, &u8)| a == b || (a.is_ascii_digit() && b.is_ascii_digit());
    bytes.len() < line.len() && bytes.iter().zip(&line).all(is_like)
}

fn lock(file: &File, path: &Path, operation: FlockOperation) -> Result<()> {
    // A process that was just started by this one holds what this one had open until it runs its own program.
    let mut result = flock(file, operation);
    for _ in 0..LOCK_TRIES {
        if result != Err(rustix::io::Errno::WOULDBLOCK) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        result = flock(file, operation);
    }
    match result {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Conflict {
            what: "journal",
            name: path.display().to_string(),
            state: "is in use by a migration that runs now".into(),
            cure: Some("wait for it, or give another file".into()),
        }),
        Err(error) => Err(failure("lock the journal", path)(error.into())),
    }
}

fn failure(attempted: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let path = path.display().to_string();
    move |source| Error::File { attempted, path: path.clone(), source }
}

/// Makes the line of a failure.
pub(super) fn failed(line: Line, kind: Kind, message: &str) -> Event {
    Event::Failed { line, kind: kind.as_str().to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Failure;

    fn identity() -> Identity {
        Identity { from: vec!["docker:".into()], to: "registry:harbor.example/shop".into(), shard: None }
    }

    fn line(target: &str) -> Line {
        Line { source: "a".into(), target: target.into(), digest: Some(Digest::sha256(b"x")), ..Line::default() }
    }

    fn write(path: &Path, events: &[Event]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (journal, _) = Journal::open(path, &identity()).unwrap();
        for event in events {
            runtime.block_on(journal.write(event)).unwrap();
        }
    }

    #[test]
    fn what_was_written_is_read_from_a_file_torn_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.journal");
        let lease = Event::Lease { place: "p".into(), id: "l".into() };
        write(&path, &[lease, Event::Start(line("a")), Event::Start(line("b")), Event::Done(line("a"))]);
        write(&path, &[failed(line("b"), Kind::Timeout, "slow")]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let whole = std::fs::read(&path).unwrap();
        let past = read(&path, &identity()).unwrap();
        assert_eq!(past.lease, Some(("p".into(), "l".into())));
        assert_eq!((past.entries["a"].last, past.entries["b"].last), (Last::Complete, Last::Failed));
        let ends: Vec<usize> = (1..=whole.len()).filter(|n| whole[n - 1] == b'\n').collect();
        for cut in (0..whole.len()).filter(|cut| cut % 11 == 0 || ends.contains(cut) || ends.contains(&(cut + 1))) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let lines = ends.iter().filter(|end| **end <= cut).count();
            let past = read(&path, &identity()).unwrap();
            assert_eq!(past.whole as usize, ends[..lines].last().copied().unwrap_or(0), "{cut}");
            // It is written on as if the torn line had never been.
            write(&path, &[Event::Done(line("c"))]);
            let again = read(&path, &identity()).unwrap();
            assert_eq!(again.entries["c"].last, Last::Complete, "{cut}");
            assert_eq!(again.entries.len(), past.entries.len() + 1, "{cut}");
        }
    }

    #[test]
    fn a_file_that_is_no_journal_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.journal");
        for foreign in [&b"{\"compact\": true}"[..], b"x", &[0; 2 << 20], b"{\"at\":\"yesterday"] {
            std::fs::write(&path, foreign).unwrap();
            for error in [Journal::open(&path, &identity()).err().unwrap(), read(&path, &identity()).unwrap_err()] {
                assert!(error.to_string().contains("no journal"), "{error}");
            }
            assert_eq!(std::fs::read(&path).unwrap(), foreign);
        }
    }

    #[test]
    fn another_migration_a_second_writer_and_damage_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.journal");
        let (held, _) = Journal::open(&path, &identity()).unwrap();
        let error = Journal::open(&path, &identity()).err().unwrap();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains("in use"), "{error}");
        assert!(read(&path, &identity()).unwrap_err().to_string().contains("in use"));
        drop(held);
        let other = Identity { to: "registry:elsewhere".into(), ..identity() };
        let error = read(&path, &other).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains("of another migration: docker: to registry:harbor.example/shop"), "{error}");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.insert_str(0, "nonsense\n");
        std::fs::write(&path, text).unwrap();
        let error = read(&path, &identity()).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
