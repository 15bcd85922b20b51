//! Why the shell could not begin.

use std::path::PathBuf;

use crate::kind::{Failure, Kind};
use crate::{containerd, ops};

/// Why the shell could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The threads or signal handlers could not be made.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    /// The address or a name is no such thing.
    #[error(transparent)]
    Containerd(#[from] containerd::Error),
    /// The audit file could not be opened.
    #[error(transparent)]
    Operation(#[from] ops::Error),
    /// A script could not be read.
    #[error("cannot read the script {}: {source}", path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The terminal could not be used.
    #[error("cannot use the terminal: {0}")]
    Terminal(std::io::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Start(_) | Self::Terminal(_) => Kind::Internal,
            Self::Containerd(error) => error.kind(),
            Self::Operation(error) => error.kind(),
            Self::Script { .. } => Kind::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Containerd(error) => error.hint(),
            Self::Operation(error) => error.hint(),
            Self::Script { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                let text = path.to_string_lossy();
                (text.contains('(') || text.contains(' '))
                    .then(|| format!("to evaluate an expression: ctrsh -e '{}'", text.replace('\'', "\"")))
            }
            _ => None,
        }
    }
}
