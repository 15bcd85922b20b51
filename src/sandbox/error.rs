//! Why a sandbox could not be started or cleaned.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::kind::{Failure, Kind};

/// Why a sandbox could not be started or cleaned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Mounts, cgroups and namespaces need the superuser.
    #[error("a sandbox needs root, and this process runs as user {uid}")]
    NotRoot {
        /// The effective user id.
        uid: u32,
    },
    /// A program that the sandbox starts is not installed.
    #[error("{program} was not found in {searched}")]
    MissingProgram {
        /// The program's file name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// The folders searched, as a PATH.
        searched: String,
    },
    /// The folder's path leaves no room for a socket's name (`sun_path` holds 108 bytes, unix(7)).
    #[error("{} is too long for the path of a socket", path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
    },
    /// A file or folder of the sandbox could not be made, read or removed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program ended before it was ready.
    #[error("{} ended with {status} before it was ready{}", program.display(), said(log))]
    Ended {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// A program was not ready in time.
    #[error("{} was not ready within {} s{}", program.display(), within.as_secs(), said(log))]
    NotReady {
        /// The program.
        program: PathBuf,
        /// How long it was waited for.
        within: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// Processes of the sandbox did not die.
    #[error("processes {pids:?} of the sandbox {} do not end", folder.display())]
    Alive {
        /// The sandbox.
        folder: PathBuf,
        /// The processes that are left.
        pids: Vec<i32>,
    },
    /// Something is still mounted in the sandbox, so its files are left alone.
    #[error("cannot unmount {}", path.display())]
    Mounted {
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Puts the last lines of a log behind a message.
fn said(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(": {}", log.replace('\n', "; ")) }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotRoot { .. } => Kind::Denied,
            Self::MissingProgram { .. } => Kind::NotFound,
            Self::PathTooLong { .. } => Kind::Usage,
            Self::File { source, .. } | Self::Spawn { source, .. } | Self::Mounted { source, .. } => {
                Kind::of_io(source).unwrap_or(Kind::Internal)
            }
            Self::Ended { .. } => Kind::Unavailable,
            Self::NotReady { .. } => Kind::Timeout,
            Self::Alive { .. } => Kind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRoot { .. } => Some("run it with sudo".into()),
            Self::MissingProgram { program, package, .. } => {
                Some(format!("on Debian or Ubuntu: apt-get install {package}; elsewhere install {program}"))
            }
            Self::PathTooLong { .. } => Some("choose a shorter temporary folder".into()),
            Self::Alive { folder, .. } => Some(format!("see them with: ps -ef | grep {}", folder.display())),
            Self::Mounted { path, .. } => Some(format!("see who uses it with: fuser -vm {}", path.display())),
            Self::Spawn { program, .. } => {
                Some(format!("check that {} is there and may be executed", program.display()))
            }
            Self::File { .. } | Self::Ended { .. } | Self::NotReady { .. } => None,
        }
    }
}
