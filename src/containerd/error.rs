//! What can go wrong between ctrsh and containerd.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;

use tonic::{Code, Status};

use super::beside::NoAnswer;
use super::connect::{Endpoint, other_sockets};
use super::guard::Stopped;
use crate::grant::Refused;
use crate::kind::{Failure, Kind, NO_SPACE, OVER_QUOTA, READ_ONLY};
use crate::oci::Digest;
use crate::oci::excerpt;

/// Why a call to containerd failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection to the daemon.
    #[error(transparent)]
    NoConnection(NoConnection),
    /// A socket beside the daemon's own gives no answer.
    #[error(transparent)]
    NoAnswer(NoAnswer),
    /// The guard did not let the RPC pass.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The RPC is missing from the access table, so nobody can tell what it may do.
    #[error("{rpc} has no access class, and was not sent")]
    Unlisted {
        /// The RPC's path.
        rpc: String,
    },
    /// The daemon answered with an error.
    #[error("{action} {subject}: {message}")]
    Call {
        /// What sort of error it is.
        fault: Fault,
        /// What was attempted, such as `get image`.
        action: &'static str,
        /// What it was attempted on.
        subject: String,
        /// The daemon's words.
        message: String,
    },
    /// The daemon could not move an image between a registry and its store.
    #[error("{action} {subject} by the daemon: {message}")]
    Transfer {
        /// What sort of failure it was.
        kind: Kind,
        /// What was attempted: `pull` or `push`.
        action: &'static str,
        /// The image.
        subject: String,
        /// The daemon's words.
        message: String,
        /// What to do about it.
        cure: Option<&'static str>,
    },
    /// The daemon's answer lacks something that it must have, or has something that cannot be.
    #[error("{action} {subject}: the daemon's answer makes no sense: {reason}")]
    Answer {
        /// What was attempted.
        action: &'static str,
        /// What it was attempted on.
        subject: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A blob of an image is not in the content store.
    #[error("{image} is incomplete here: {digest} is not in the content store")]
    Incomplete {
        /// The image.
        image: String,
        /// The blob.
        digest: Digest,
    },
    /// The content store's file cannot be read.
    #[error("read content {digest}: {source}")]
    Stored {
        /// The blob.
        digest: Digest,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not a name that containerd takes.
    #[error("'{text}' cannot be a {what}: {reason}")]
    Name {
        /// Whose name it would be.
        what: &'static str,
        /// The text as given, shortened.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not an address that containerd can listen on.
    #[error("'{address}' is not the address of a Unix socket")]
    Address {
        /// The text as given, shortened.
        address: String,
    },
    /// A document or a digest that cannot be used.
    #[error(transparent)]
    Oci(#[from] crate::oci::Error),
}

/// What sort of error the daemon answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It does not exist.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// It is in a state that forbids the call.
    Conflict,
    /// Another writer holds it.
    Locked,
    /// The content is not what its digest or size promises.
    Integrity,
    /// The lease that the call was made under is gone.
    LeaseGone,
    /// The write began elsewhere than the ingest ends.
    Offset,
    /// The daemon's disk is full, or its quota used up.
    NoSpace,
    /// The file system that the daemon writes to takes no changes.
    ReadOnly,
    /// The daemon refuses the arguments.
    Invalid,
    /// The daemon has no such RPC: it is too old, or the plugin is off.
    Unsupported,
    /// The connection broke, or the daemon is stopping.
    Unavailable,
    /// The answer does not fit into one message.
    TooLarge,
    /// The daemon gave up waiting.
    Timeout,
    /// Someone cancelled it at the daemon's side.
    Cancelled,
    /// The daemon does not let this user do it.
    Denied,
    /// Anything else.
    Other,
}

/// How a shim begins what the runtime said (runc's shim, `pkg/process`).
const RUNTIME: &str = "OCI runtime";

/// What the daemon says of a filter that it cannot read (containerd `pkg/filters`).
const BAD_FILTER: &str = "filters: parse error";

impl Fault {
    /// Sorts a status. Some conditions differ in their text only; the words are those of containerd 1.6 to 2.2.
    fn of(status: &Status) -> Self {
        let text = status.message();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match status.code() {
            // A runtime says the same of a container's own files and cgroups.
            _ if says(&[NO_SPACE, OVER_QUOTA]) && !says(&[RUNTIME]) => Self::NoSpace,
            _ if says(&[READ_ONLY]) && !says(&[RUNTIME]) => Self::ReadOnly,
            Code::NotFound
                if text.starts_with("lease ") || says(&["\": lease does not exist", "lease does not exist"]) =>
            {
                Self::LeaseGone
            }
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::Unavailable if says(&["locked for", "locked since", "is locked"]) => Self::Locked,
            Code::FailedPrecondition if says(&["unexpected commit", "failed size validation"]) => Self::Integrity,
            Code::FailedPrecondition | Code::Aborted => Self::Conflict,
            // The daemon's words (grpc-go), or our own library's where the daemon has a higher limit (tonic).
            Code::ResourceExhausted | Code::OutOfRange if says(&["larger than max", "message length too large"]) => {
                Self::TooLarge
            }
            Code::OutOfRange => Self::Offset,
            Code::InvalidArgument => Self::Invalid,
            Code::Unknown if says(&["failed parsing subscription filters"]) => Self::Invalid,
            Code::Unimplemented => Self::Unsupported,
            Code::DeadlineExceeded => Self::Timeout,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::DataLoss => Self::Integrity,
            // hyper says "canceled" when the connection went before the request did.
            Code::Cancelled if status.source().is_some() || says(&["operation was canceled", "connection closed"]) => {
                Self::Unavailable
            }
            Code::Cancelled => Self::Cancelled,
            Code::Unavailable => Self::Unavailable,
            // The connection broke in the middle of an answer (hyper, h2) …
            Code::Unknown | Code::Internal if status.source().is_some_and(is_transport) => Self::Unavailable,
            Code::Unknown
                if says(&[
                    "cannot delete a running process",
                    "cannot start a",
                    "cannot exec in a",
                    "cannot delete a",
                    "cannot kill a",
                    "cannot pause a",
                    "cannot resume a",
                    "process already finished",
                    "must be stopped before deletion",
                    "not running",
                ]) =>
            {
                Self::Conflict
            }
            _ => Self::Other,
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::NotFound | Self::LeaseGone => Kind::NotFound,
            Self::AlreadyExists => Kind::AlreadyExists,
            Self::Conflict | Self::Locked | Self::Offset => Kind::Conflict,
            Self::Integrity => Kind::Integrity,
            Self::NoSpace => Kind::NoSpace,
            Self::Invalid | Self::Unsupported | Self::TooLarge => Kind::Usage,
            Self::Unavailable => Kind::Unavailable,
            Self::Timeout => Kind::Timeout,
            Self::Cancelled => Kind::Cancelled,
            Self::Denied | Self::ReadOnly => Kind::Denied,
            Self::Other => Kind::Internal,
        }
    }
}

impl Error {
    /// Sorts the status of one call.
    pub(crate) fn from_status(action: &'static str, subject: &str, status: &Status) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = status.source();
        while let Some(error) = cause {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                match stopped {
                    Stopped::Refused(refused) => return Self::Refused(refused.clone()),
                    Stopped::Unlisted(rpc) => return Self::Unlisted { rpc: rpc.clone() },
                    Stopped::Body(_) | Stopped::Transport(_) => {}
                }
            }
            if let Some(lost) = error.downcast_ref::<NoConnection>() {
                return Self::NoConnection(lost.clone());
            }
            cause = error.source();
        }
        let fault = Fault::of(status);
        let message = match fault {
            Fault::NotFound if status.message().contains(subject) => "not found".to_owned(),
            Fault::AlreadyExists if status.message().contains(subject) => "exists already".to_owned(),
            Fault::Unavailable => "the connection to containerd broke".to_owned(),
            _ => excerpt_long(status.message()),
        };
        Self::Call { fault, action, subject: excerpt(subject), message }
    }

    /// Returns what sort of error the daemon answered, if it was the daemon.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Call { fault, .. } => Some(*fault),
            _ => None,
        }
    }

    /// Returns whether the thing does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.fault() == Some(Fault::NotFound)
    }

    /// Returns whether the daemon does not serve the call.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.fault() == Some(Fault::Unsupported)
    }

    /// Returns whether the thing exists already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.fault() == Some(Fault::AlreadyExists)
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoConnection(error) => error.kind(),
            Self::NoAnswer(error) => error.kind(),
            Self::Refused(refused) => refused.kind(),
            Self::Unlisted { .. } | Self::Answer { .. } => Kind::Internal,
            Self::Call { fault, .. } => fault.kind(),
            Self::Transfer { kind, .. } => *kind,
            Self::Incomplete { .. } => Kind::Integrity,
            Self::Stored { .. } => Kind::Unavailable,
            Self::Name { .. } | Self::Address { .. } => Kind::Usage,
            Self::Oci(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoConnection(error) => error.hint(),
            Self::NoAnswer(error) => error.hint(),
            Self::Refused(refused) => refused.hint(),
            Self::Oci(error) => error.hint(),
            Self::Name { .. } => {
                Some("up to 76 letters and digits, with single . _ - between them, such as k8s.io".into())
            }
            Self::Address { .. } => Some("give a path, such as /run/containerd/containerd.sock".into()),
            Self::Call { fault: Fault::Invalid, message, .. } if message.starts_with(BAD_FILTER) => Some(
                "a filter is a field, an operator and a value: name==docker.io/library/busybox:1, name~=busybox, labels.app==web"
                    .into(),
            ),
            Self::Call { fault, .. } => match fault {
                Fault::NoSpace => Some("make room on the disk that holds containerd's root folder".into()),
                Fault::ReadOnly => Some(
                    "the disk became read-only, as the kernel makes it after an error: see dmesg, check it, and mount it anew"
                        .into(),
                ),
                Fault::TooLarge => Some("ask for less of it at once, by a filter".into()),
                Fault::Unsupported => Some("this containerd is too old for it, or the plugin is switched off".into()),
                Fault::Locked => Some("another client is writing the same content; try again when it is done".into()),
                Fault::LeaseGone => {
                    Some("it was deleted or has expired; leases::list() shows those that are there".into())
                }
                Fault::Unavailable => Some("see whether containerd is running: systemctl status containerd".into()),
                _ => None,
            },
            Self::Incomplete { .. } => {
                Some("pull or load it again; discard_unpacked_layers leaves nothing that can be copied on".into())
            }
            Self::Stored { .. } => {
                Some("the disk that holds containerd's root folder may be failing; see dmesg".into())
            }
            Self::Transfer { cure, .. } => cure.map(Into::into),
            Self::Unlisted { .. } | Self::Answer { .. } => None,
        }
    }

    fn retryable(&self) -> bool {
        self.kind().is_temporary() || self.fault() == Some(Fault::Locked)
    }
}

/// Why there is no connection to a daemon's socket.
#[derive(Debug, Clone)]
pub struct NoConnection {
    socket: PathBuf,
    reason: io::ErrorKind,
    text: String,
}

impl NoConnection {
    pub(super) fn new(endpoint: &Endpoint, error: &io::Error) -> Self {
        Self { socket: endpoint.path().to_owned(), reason: error.kind(), text: error.to_string() }
    }

    /// Looks for one among an error's causes.
    pub(super) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    fn kind(&self) -> Kind {
        match self.reason {
            io::ErrorKind::PermissionDenied => Kind::Denied,
            io::ErrorKind::TimedOut => Kind::Timeout,
            _ => Kind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        let others = other_sockets(&self.socket);
        let elsewhere = || {
            let names: Vec<_> = others.iter().map(|path| path.display().to_string()).collect();
            if names.is_empty() { String::new() } else { format!("; a socket is at {}", names.join(" and ")) }
        };
        Some(match self.reason {
            io::ErrorKind::NotFound => {
                format!(
                    "is containerd running? start it with systemctl start containerd, or name its socket with --address{}",
                    elsewhere()
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("run it as root, with sudo, or as a member of the group that owns {}", self.socket.display())
            }
            io::ErrorKind::ConnectionRefused => {
                format!("the daemon that made the socket is gone: systemctl restart containerd{}", elsewhere())
            }
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                "containerd is there but takes no connections; see journalctl -u containerd".to_owned()
            }
            _ => format!("name containerd's socket with --address{}", elsewhere()),
        })
    }
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.display();
        match self.reason {
            io::ErrorKind::NotFound => write!(f, "there is no containerd socket at {socket}"),
            io::ErrorKind::PermissionDenied => write!(f, "no permission to use the containerd socket {socket}"),
            io::ErrorKind::ConnectionRefused => write!(f, "nobody listens on the containerd socket {socket}"),
            io::ErrorKind::TimedOut => write!(f, "the containerd socket {socket} did not accept in time"),
            _ => write!(f, "cannot connect to {socket}: {}", self.text),
        }
    }
}

impl StdError for NoConnection {}

/// Returns the mapping of a failed call's status, for `map_err`: `failed("get image", name)`.
pub(crate) fn failed<S: AsRef<str>>(action: &'static str, subject: S) -> impl Fn(Status) -> Error + use<S> {
    move |status| Error::from_status(action, subject.as_ref(), &status)
}

fn is_transport(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<tonic::transport::Error>() || error.is::<io::Error>() {
            return true;
        }
        // hyper's and h2's own types are not this crate's to name; they call themselves so.
        let text = error.to_string();
        if text.contains("connection") || text.contains("broken pipe") || text.contains("h2 protocol error") {
            return true;
        }
        next = error.source();
    }
    false
}

/// Escapes the daemon's words and keeps so many of them that the cause, which stands last, is there.
pub(super) fn excerpt_long(text: &str) -> String {
    const MOST: usize = 600;
    let text = text.trim();
    let escaped: String = text.chars().flat_map(char::escape_debug).collect();
    let escaped = escaped.replace("\\\"", "\"").replace("\\'", "'");
    if escaped.len() <= MOST {
        return escaped;
    }
    let from = escaped.char_indices().rev().nth(MOST).map_or(0, |(at, _)| at);
    format!("…{}", &escaped[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_disk_is_told_from_a_containers() {
        let fault = |message: &str| Fault::of(&Status::unknown(message));
        for (words, expected) in
            [(NO_SPACE, Fault::NoSpace), (OVER_QUOTA, Fault::NoSpace), (READ_ONLY, Fault::ReadOnly)]
        {
            assert_eq!(fault(&format!("open /var/lib/containerd/x: {words}")), expected);
            let of_runtime =
                format!("failed to create shim task: OCI runtime create failed: write /x: {words}: unknown");
            assert_eq!(fault(&of_runtime), Fault::Other);
        }
    }
}
