//! The input and output of processes: FIFOs for what is attached, log files for what is not.
//!
//! A process gets FIFOs only while someone reads them; a detached container writes to a file through its shim, so that
//! nothing of this program has to stay. FIFOs lie in a folder of their own (0700) that goes with its [`Pipes`] and the
//! [`Stdio`]s that name it, whatever happens to the process.

mod folder;
mod held;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

pub use self::folder::{FifoFolder, private_folder, remove_folders};
pub use self::held::{Held, hold};
use super::tasks::{Stdio, Task};

/// What Go's `url.Parse` would not take as part of a path.
const NOT_IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'"').add(b'<').add(b'>');

/// How many bytes are read from a FIFO at once: what a pipe holds (pipe(7)).
const CHUNK: usize = 64 << 10;

/// How many characters of a line are told.
const LINE: usize = 200;

/// Which ends of a process are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Output and error output apart, and input when `stdin` says so.
    Apart {
        /// Whether there is input.
        stdin: bool,
    },
    /// A terminal: input, and one output.
    Terminal,
}

/// The caller's ends of the FIFOs of one process.
///
/// Create one before the process is made, since opening a FIFO for writing waits for a reader; read only once it was
/// started, since a FIFO without a writer looks as if it had ended.
#[derive(Debug)]
pub struct Pipes {
    stdio: Stdio,
    stdin: Option<Sender>,
    stdout: Receiver,
    stderr: Option<Receiver>,
}

impl Pipes {
    /// Makes the FIFOs of a process in a new folder below `run_dir`, and opens the caller's ends.
    ///
    /// # Errors
    /// Fails when `run_dir` cannot be made, or is a link or another user's.
    pub fn open(run_dir: &Path, name: &str, shape: Shape) -> io::Result<Self> {
        Self::make(run_dir, name, shape, true)
    }

    /// Makes the FIFOs of a process that nobody is at yet. Its input is not opened: whoever attaches first does that, and
    /// until then the shim waits. What it writes stays in the FIFOs, as much as they hold (pipe(7): 64 KiB).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn unattended(run_dir: &Path, name: &str, shape: Shape) -> io::Result<Self> {
        Self::make(run_dir, name, shape, false)
    }

    fn make(run_dir: &Path, name: &str, shape: Shape, attended: bool) -> io::Result<Self> {
        private_folder(run_dir)?;
        let folder = FifoFolder::new(run_dir)?;
        let fifo = |end: &str| -> io::Result<PathBuf> {
            let path = folder.path().join(format!("{name}-{end}"));
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            Ok(path)
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (with_stdin, terminal) = match shape {
            Shape::Apart { stdin } => (stdin, false),
            Shape::Terminal => (true, true),
        };
        let mut stdio = Stdio { terminal, ..Stdio::default() };
        let stdout = fifo("stdout")?;
        stdio.stdout = text(&stdout);
        let stdout = OpenOptions::new().open_receiver(stdout)?;
        let stderr = if terminal {
            None
        } else {
            let path = fifo("stderr")?;
            stdio.stderr = text(&path);
            Some(OpenOptions::new().open_receiver(path)?)
        };
        let stdin = if with_stdin {
            let path = fifo("stdin")?;
            stdio.stdin = text(&path);
            // Linux lets a FIFO be opened for both (fifo(7)): the shim is not there yet to be the reader.
            attended.then(|| OpenOptions::new().read_write(true).open_sender(path)).transpose()?
        } else {
            None
        };
        stdio.folder = Some(folder);
        Ok(Self { stdio, stdin, stdout, stderr })
    }

    /// Returns what the daemon is told.
    #[must_use]
    pub fn stdio(&self) -> &Stdio {
        &self.stdio
    }

    /// Takes the end that writes the process's input. Dropping it is one half of ending the input; the other is
    /// [`super::tasks::Tasks::close_stdin`].
    pub fn take_stdin(&mut self) -> Option<Sender> {
        self.stdin.take()
    }

    /// Reads both outputs until they end, keeping at most `limit` bytes of each and dropping what comes after.
    ///
    /// What was read so far stays in `output` when the future is dropped.
    ///
    /// # Errors
    /// Fails when a FIFO cannot be read.
    pub async fn collect(&mut self, output: &mut Output, limit: usize) -> io::Result<()> {
        let Output { stdout, stderr } = output;
        let errors = async {
            match &mut self.stderr {
                Some(pipe) => drain(pipe, stderr, limit).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(drain(&mut self.stdout, stdout, limit), errors)?;
        Ok(())
    }

    /// Makes a terminal of them.
    #[must_use]
    pub fn into_terminal(self) -> Terminal {
        Terminal {
            stdin: self.stdin,
            stdout: Some(self.stdout),
            stderr: self.stderr,
            stdin_path: PathBuf::from(&self.stdio.stdin),
            is_terminal: self.stdio.terminal,
            folder: self.stdio.folder,
        }
    }

    /// Lets go of them for whoever attaches later: the FIFOs stay until [`remove_fifos`] takes them away.
    pub fn leave(self) {
        if let Some(folder) = &self.stdio.folder {
            folder.leave();
        }
    }
}

/// What a process wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// To its output.
    pub stdout: Captured,
    /// To its error output.
    pub stderr: Captured,
}

impl Output {
    /// Returns the last line that is not empty, of its error output when that has one.
    #[must_use]
    pub fn last_line(&self) -> Option<String> {
        [&self.stderr, &self.stdout].into_iter().find_map(Captured::last_line)
    }
}

/// The beginning of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The bytes that were kept.
    pub bytes: Vec<u8>,
    /// How many more there were.
    pub dropped: u64,
}

impl Captured {
    /// Returns the text, with a mark for what is not UTF-8.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Returns the last line, when it was kept.
    fn last_line(&self) -> Option<String> {
        if self.dropped > 0 {
            return None;
        }
        let line = self.bytes.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
        let text = String::from_utf8_lossy(line);
        (!text.trim().is_empty()).then(|| text.trim().chars().take(LINE).collect())
    }
}

async fn drain(pipe: &mut Receiver, into: &mut Captured, limit: usize) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = pipe.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let kept = count.min(limit.saturating_sub(into.bytes.len()));
        into.bytes.extend_from_slice(&buffer[..kept]);
        into.dropped += (count - kept) as u64;
    }
}

/// The terminal of a process, or its outputs and input, for a shell to drive.
#[derive(Debug)]
pub struct Terminal {
    stdin: Option<Sender>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    stdin_path: PathBuf,
    is_terminal: bool,
    folder: Option<FifoFolder>,
}

impl Terminal {
    /// Opens the FIFOs of a process that runs already.
    ///
    /// # Errors
    /// Fails when they are not there.
    pub fn attach(task: &Task) -> io::Result<Self> {
        let output = |path: &str| -> io::Result<Option<Receiver>> {
            (!path.is_empty()).then(|| OpenOptions::new().open_receiver(path)).transpose()
        };
        let stdin = match task.stdin.as_str() {
            "" => None,
            path => match OpenOptions::new().open_sender(path) {
                // Nobody reads it any more: its input has ended.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => None,
                other => Some(other?),
            },
        };
        Ok(Self {
            stdin,
            stdout: output(&task.stdout)?,
            stderr: if task.terminal || task.stderr == task.stdout { None } else { output(&task.stderr)? },
            stdin_path: PathBuf::from(&task.stdin),
            is_terminal: task.terminal,
            folder: None,
        })
    }

    /// Returns whether the process has a terminal, and not outputs and input apart.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Reads what the process wrote; nothing means that it has ended. May be dropped and called again.
    ///
    /// # Errors
    /// Fails when the FIFO cannot be read.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (out, err) = (self.stdout.as_ref(), self.stderr.as_ref());
            // Each is asked whether it is ready, as the buffer cannot be lent to two.
            let is_out = match (out, err) {
                (None, None) => return Ok(0),
                (Some(out), None) => out.readable().await.map(|()| true)?,
                (None, Some(err)) => err.readable().await.map(|()| false)?,
                (Some(out), Some(err)) => tokio::select! {
                    ready = out.readable() => ready.map(|()| true)?,
                    ready = err.readable() => ready.map(|()| false)?,
                },
            };
            let from = if is_out { &mut self.stdout } else { &mut self.stderr };
            let Some(pipe) = from else { continue };
            match pipe.try_read(buffer) {
                Ok(0) => *from = None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Takes the end that keys are written to, so that it can be written while another task reads.
    pub fn take_stdin(&mut self) -> Option<Sender> {
        self.stdin.take()
    }

    /// Takes the ends that output and error output are read from, so that each can be read by a task of its own.
    pub fn take_outputs(&mut self) -> (Option<Receiver>, Option<Receiver>) {
        (self.stdout.take(), self.stderr.take())
    }

    /// Returns one of a process whose output goes elsewhere, and which has no input.
    #[must_use]
    pub fn none() -> Self {
        Self { stdin: None, stdout: None, stderr: None, stdin_path: PathBuf::new(), is_terminal: false, folder: None }
    }

    /// Writes keys.
    ///
    /// # Errors
    /// Fails when the FIFO cannot be written; keys after [`take_stdin`](Self::take_stdin) go nowhere.
    pub async fn write(&mut self, keys: &[u8]) -> io::Result<()> {
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(keys).await,
            None => Ok(()),
        }
    }

    /// Lets go of the process, which runs on: its FIFOs stay. Returns a writing end of its input, which somebody has to keep
    /// open: when the last one is closed the shim takes that for the end of the input, and of the terminal.
    ///
    /// # Errors
    /// Fails when the FIFO cannot be opened.
    pub fn leave(self) -> io::Result<Option<OwnedFd>> {
        if let Some(folder) = &self.folder {
            folder.leave();
        }
        self.input()
    }

    /// Opens another writing end of the terminal's input; nothing when nobody reads it any more, and without a terminal: that
    /// input the shim itself keeps open.
    ///
    /// # Errors
    /// Fails when the FIFO cannot be opened.
    pub fn input(&self) -> io::Result<Option<OwnedFd>> {
        if !self.is_terminal || self.stdin_path.as_os_str().is_empty() {
            return Ok(None);
        }
        let file = fs::OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&self.stdin_path);
        match file {
            Ok(file) => Ok(Some(file.into())),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Removes the FIFOs of a process that is gone, and their folder, when a client made one for them: what is not a FIFO of that
/// process stays.
pub fn remove_fifos(task: &Task) {
    for path in [&task.stdin, &task.stdout, &task.stderr] {
        let path = Path::new(path);
        let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            [task.exec_id.as_deref(), Some(task.id.as_str())].into_iter().flatten().any(|owner| name.starts_with(owner))
        });
        if named && fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
            let _ = fs::remove_file(path);
            // Goes when it is empty, and stays when it is not.
            let _ = path.parent().map(fs::remove_dir);
        }
    }
}

/// Where a detached process's output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Null,
    /// To the end of a file.
    File(PathBuf),
    /// Wherever a `binary://` URI or another one that the shim knows leads.
    Uri(String),
}

impl LogTarget {
    /// Returns where the output of a container goes unless told otherwise.
    #[must_use]
    pub fn of_container(log_dir: &Path, namespace: &str, id: &str) -> Self {
        Self::File(log_dir.join(namespace).join(format!("{id}.log")))
    }

    /// Reads a URI as ctr's `--log-uri` takes it; a bare path is a file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            Self::Null
        } else if let Some(path) = text.strip_prefix("file://") {
            Self::File(PathBuf::from(percent_decode_str(path).decode_utf8_lossy().into_owned()))
        } else if text.contains("://") {
            Self::Uri(text.to_owned())
        } else {
            Self::File(PathBuf::from(text))
        }
    }

    /// Returns what the daemon is told: both outputs go to the same place. Each keeps its order; between the two it is
    /// that in which the shim read them, from two pipes.
    #[must_use]
    pub fn stdio(&self) -> Stdio {
        let uri = match self {
            Self::Null => String::new(),
            Self::File(path) => {
                format!("file://{}", utf8_percent_encode(&path.to_string_lossy(), NOT_IN_PATH))
            }
            Self::Uri(uri) => uri.clone(),
        };
        Stdio { stdout: uri.clone(), stderr: uri, ..Stdio::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn fifos_carry_bytes_both_ways_and_go_with_their_folder() {
        let run = tempfile::tempdir().unwrap();
        let mut pipes = Pipes::open(run.path(), "c", Shape::Apart { stdin: true }).unwrap();
        let folder = pipes.stdio.folder.as_ref().unwrap().path().to_owned();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let stdio = pipes.stdio().clone();
        let mut shim_out = OpenOptions::new().open_sender(&stdio.stdout).unwrap();
        let mut shim_err = OpenOptions::new().open_sender(&stdio.stderr).unwrap();
        let mut shim_in = OpenOptions::new().open_receiver(&stdio.stdin).unwrap();
        pipes.take_stdin().unwrap().write_all(b"keys").await.unwrap();
        let mut keys = String::new();
        shim_in.read_to_string(&mut keys).await.unwrap();
        assert_eq!(keys, "keys");
        shim_out.write_all(b"0123456789").await.unwrap();
        shim_err.write_all(b"oh").await.unwrap();
        drop((shim_out, shim_err));
        let mut output = Output::default();
        pipes.collect(&mut output, 4).await.unwrap();
        assert_eq!(output.stdout, Captured { bytes: b"0123".to_vec(), dropped: 6 });
        assert_eq!(output.stderr.text(), "oh");
        assert_eq!(output.last_line().as_deref(), Some("oh"));
        drop(pipes);
        assert!(folder.exists(), "whom they were named to may open them still");
        drop(stdio);
        assert!(!folder.exists());
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_run_folder_that_is_a_link_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("run");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        let error = Pipes::open(&link, "c", Shape::Terminal).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn log_targets_are_read_and_written() {
        let target = LogTarget::of_container(Path::new("/var/log/my logs"), "ns", "c");
        assert_eq!(target.stdio().stdout, "file:///var/log/my%20logs/ns/c.log");
        assert_eq!(LogTarget::parse(&target.stdio().stdout), target);
        assert_eq!(LogTarget::parse("/x"), LogTarget::File("/x".into()));
        assert_eq!(LogTarget::parse("binary:///b?k=v").stdio().stderr, "binary:///b?k=v");
        assert_eq!(LogTarget::parse(""), LogTarget::Null);
    }
}
