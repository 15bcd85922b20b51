//! What can go wrong in an operation.

use crate::containerd::io::Output;
use crate::grant::{Access, Refused};
pub use crate::kind::nearest;
use crate::kind::{BoxFailure, Failure, Kind};
use crate::{containerd, docker, oci, registry};

/// What every operation returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A change failed; the source says why.
    #[error("{operation} {subject}: {source}")]
    Failed {
        /// The verb, as scripts call it.
        operation: &'static str,
        /// What it was done to.
        subject: String,
        /// The reason.
        #[source]
        source: Box<Error>,
    },
    /// An endpoint failed.
    #[error("{}", crate::kind::chain(&**.0))]
    Endpoint(BoxFailure),
    /// The plan has a step that the grant does not allow.
    #[error("{operation} {subject} needs '{access}' access to {to} to {action}, which was not granted")]
    Denied {
        /// The verb.
        operation: &'static str,
        /// What it was to be done to.
        subject: String,
        /// The class that is missing.
        access: Access,
        /// The daemon, registry or path that the step would change.
        to: String,
        /// What the step does there.
        action: String,
    },
    /// The user was asked and said no.
    #[error("{operation} {subject}: not confirmed, nothing was changed")]
    NotConfirmed {
        /// The verb.
        operation: &'static str,
        /// What it was to be done to.
        subject: String,
    },
    /// There is no such thing.
    #[error("no such {what}: {name}")]
    NotFound {
        /// The noun: image, container, …
        what: &'static str,
        /// Its name.
        name: String,
        /// A name that exists and is close.
        nearest: Option<String>,
        /// What would make it exist.
        cure: Option<String>,
    },
    /// The name is taken.
    #[error("{what} {name} already exists")]
    AlreadyExists {
        /// The noun.
        what: &'static str,
        /// Its name.
        name: String,
        /// What to do about it.
        cure: Option<String>,
    },
    /// It is in a state that forbids the call.
    #[error("{what} {name} {state}")]
    Conflict {
        /// The noun.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its state, as the rest of a sentence: `is running`.
        state: String,
        /// What to do about it.
        cure: Option<String>,
    },
    /// An argument or option cannot be used.
    #[error("{name} {problem}")]
    Argument {
        /// The argument or option, with its value where that helps.
        name: String,
        /// What is wrong, as the rest of a sentence.
        problem: String,
        /// What would be right.
        cure: Option<String>,
    },
    /// Content that an image needs is missing here.
    #[error("{image} is incomplete here: {missing}")]
    Incomplete {
        /// The image.
        image: String,
        /// What is missing.
        missing: String,
    },
    /// A registry does not do what was asked of it, for anyone or for this user.
    #[error("{registry} does not {what}: {reason}")]
    Unsupported {
        /// The registry.
        registry: String,
        /// What it does not do, as the rest of a sentence.
        what: &'static str,
        /// What it said, or what stands against it.
        reason: String,
        /// What kind of failure that is.
        kind: Kind,
        /// What to do about it.
        cure: String,
    },
    /// A local file could not be used.
    #[error("{attempted} {path}: {source}")]
    File {
        /// What was attempted: `read`, `write`, `mount`, …
        attempted: &'static str,
        /// The path.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// It took longer than allowed.
    #[error("{attempted} took longer than {}", humantime::format_duration(*.limit))]
    Timeout {
        /// What was attempted.
        attempted: String,
        /// The limit.
        limit: std::time::Duration,
    },
    /// A command took longer than allowed, and was killed.
    #[error("a command in container {container} took longer than {}", humantime::format_duration(*.limit))]
    Overdue {
        /// The container.
        container: String,
        /// The limit.
        limit: std::time::Duration,
        /// What it had written by then.
        output: Box<Output>,
    },
    /// What was waited for may have come while nobody listened.
    #[error("{waiting} may have come unseen: {reason}")]
    Missed {
        /// What was waited for.
        waiting: String,
        /// Why nobody listened.
        reason: String,
    },
    /// The daemon lacks a part.
    #[error("the containerd at {daemon} has no {what}: {reason}")]
    Lacking {
        /// Where it listens.
        daemon: String,
        /// What it lacks.
        what: &'static str,
        /// How that is known.
        reason: String,
        /// What to do about it.
        cure: String,
    },
    /// Several things failed, each for its own reason.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Self>),
    /// A part of this program ended before it was through: a bug of it.
    #[error("a part of ctrsh broke: {0}")]
    Broken(String),
    /// The user stopped it.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Says that a thing does not exist, with the nearest of the names that do.
    pub fn not_found<'a>(what: &'static str, name: &str, existing: impl IntoIterator<Item = &'a str>) -> Self {
        Self::NotFound { what, name: name.to_owned(), nearest: nearest(name, existing), cure: None }
    }

    /// Says that an argument or option cannot be used.
    pub fn argument(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Argument { name: name.into(), problem: problem.into(), cure: None }
    }

    /// Wraps what the system said of a file or folder.
    pub(in crate::ops) fn file(
        attempted: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::File { attempted, path, source }
    }

    /// Makes one failure of many; none of none.
    #[must_use]
    pub fn several(mut failures: Vec<Self>) -> Option<Self> {
        if failures.len() > 1 { Some(Self::Several(failures)) } else { failures.pop() }
    }

    /// Returns the innermost failure's verb and subject, for error objects and the audit line.
    #[must_use]
    pub fn context(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Failed { operation, subject, .. }
            | Self::Denied { operation, subject, .. }
            | Self::NotConfirmed { operation, subject } => Some((operation, subject)),
            _ => None,
        }
    }

    /// Returns what a command that took too long had written.
    #[must_use]
    pub fn output(&self) -> Option<&Output> {
        match self {
            Self::Failed { source, .. } => source.output(),
            Self::Overdue { output, .. } => Some(output),
            _ => None,
        }
    }

    /// Returns whether a registry's quota does not leave room for it.
    #[must_use]
    pub fn is_quota(&self) -> bool {
        match self {
            Self::Failed { source, .. } => source.is_quota(),
            Self::Endpoint(failure) => {
                let error: &dyn std::error::Error = &**failure;
                let answer = error.downcast_ref().and_then(registry::Error::answer);
                answer.is_some_and(|answer| answer.meaning() == Some(registry::Meaning::OverQuota))
            }
            _ => false,
        }
    }

    /// Returns whether there is no connection to the daemon at all.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        match self {
            Self::Failed { source, .. } => source.is_disconnected(),
            Self::Endpoint(failure) => {
                let error: &dyn std::error::Error = &**failure;
                matches!(error.downcast_ref(), Some(containerd::Error::NoConnection(_)))
                    || matches!(error.downcast_ref(), Some(docker::Error::NoConnection { .. }))
            }
            _ => false,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Failed { source, .. } => source.kind(),
            Self::Endpoint(failure) => failure.kind(),
            Self::Denied { .. } => Kind::Denied,
            Self::NotConfirmed { .. } | Self::Cancelled => Kind::Cancelled,
            Self::NotFound { .. } => Kind::NotFound,
            Self::AlreadyExists { .. } => Kind::AlreadyExists,
            Self::Conflict { .. } => Kind::Conflict,
            Self::Argument { .. } => Kind::Usage,
            Self::Incomplete { .. } => Kind::Integrity,
            Self::Unsupported { kind, .. } => *kind,
            Self::Several(failures) => failures.first().map_or(Kind::Internal, Self::kind),
            Self::Timeout { .. } | Self::Overdue { .. } => Kind::Timeout,
            Self::Missed { .. } => Kind::Unavailable,
            Self::Lacking { .. } => Kind::Usage,
            Self::Broken(_) => Kind::Internal,
            Self::File { source, .. } => Kind::of_io(source).unwrap_or(Kind::Internal),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { source, .. } => source.hint(),
            Self::Endpoint(failure) => failure.hint(),
            Self::Denied { access, to, .. } => {
                Some(format!("run it with --allow …,{access} or, for this target alone, {access}={to}"))
            }
            Self::NotFound { nearest, cure, .. } => {
                nearest.as_ref().map(|name| format!("did you mean {name}?")).or_else(|| cure.clone())
            }
            Self::AlreadyExists { cure, .. } | Self::Conflict { cure, .. } | Self::Argument { cure, .. } => {
                cure.clone()
            }
            Self::Unsupported { cure, .. } | Self::Lacking { cure, .. } => Some(cure.clone()),
            Self::Missed { .. } => Some("look whether it is so by now, and wait again if not".into()),
            Self::Several(failures) => failures.iter().find_map(Self::hint),
            Self::Broken(_) => Some("this is a bug of ctrsh: please report it, with what was run".into()),
            Self::Incomplete { .. } => Some("pull it again for the platforms that are needed".into()),
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("run it as a user who may, most often root".into())
            }
            Self::Overdue { output, .. } => output.last_line().map(|line| format!("it wrote last: {line}")),
            Self::NotConfirmed { .. } | Self::Timeout { .. } | Self::Cancelled | Self::File { .. } => None,
        }
    }

    fn retryable(&self) -> bool {
        match self {
            Self::Failed { source, .. } => source.retryable(),
            Self::Endpoint(failure) => failure.retryable(),
            Self::Several(failures) => failures.iter().all(Self::retryable),
            other => other.kind().is_temporary(),
        }
    }

    fn exhausted(&self) -> bool {
        match self {
            Self::Failed { source, .. } => source.exhausted(),
            Self::Endpoint(failure) => failure.exhausted(),
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Failed { source, .. } => source.retry_after(),
            Self::Endpoint(failure) => failure.retry_after(),
            _ => None,
        }
    }
}

impl From<tokio::task::JoinError> for Error {
    /// A task that was not let end was given up with all else; only a bug ends one otherwise.
    fn from(error: tokio::task::JoinError) -> Self {
        if error.is_cancelled() { Self::Cancelled } else { Self::Broken(error.to_string()) }
    }
}

impl From<BoxFailure> for Error {
    fn from(failure: BoxFailure) -> Self {
        if failure.kind() == Kind::Cancelled { Self::Cancelled } else { Self::Endpoint(failure) }
    }
}

impl From<containerd::Error> for Error {
    fn from(error: containerd::Error) -> Self {
        BoxFailure::from(error).into()
    }
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        BoxFailure::from(error).into()
    }
}

impl From<oci::Error> for Error {
    fn from(error: oci::Error) -> Self {
        BoxFailure::from(error).into()
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        BoxFailure::from(refused).into()
    }
}

/// Takes what is gone already for deleted.
pub(in crate::ops) fn settled(answer: containerd::Result<()>) -> Result<()> {
    match answer {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_bug_and_nothing_that_the_user_did() {
        let panics = tokio::task::spawn_blocking(|| -> Result<()> { panic!("what broke") });
        let broken: Result<()> = async { panics.await? }.await;
        let broken = broken.unwrap_err();
        assert_eq!(broken.kind(), Kind::Internal);
        assert!(broken.to_string().contains("what broke"), "{broken}");
        let waits = tokio::spawn(std::future::pending::<Result<()>>());
        waits.abort();
        let given_up: Result<()> = async { waits.await? }.await;
        assert_eq!(given_up.unwrap_err().kind(), Kind::Cancelled);
    }
}
