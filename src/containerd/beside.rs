//! Sockets beside the daemon's own: the one that it is measured by, and those of shims.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::kind::{Failure, Kind};
use crate::socket;

use super::error::Error;

/// Whose socket it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// The daemon's, for measuring it.
    Debug,
    /// That of a shim, by its id.
    Shim(String),
    /// That of a shim, for measuring it.
    ShimDebug(String),
}

/// Why a socket beside the daemon's gives no answer.
#[derive(Debug)]
pub struct NoAnswer {
    whose: Whose,
    socket: PathBuf,
    reason: socket::Error,
}

/// Says whose socket it was that gave no answer.
pub(super) fn no_answer(whose: &Whose, socket: &Path, reason: socket::Error) -> Error {
    match reason {
        socket::Error::Refused(refused) => Error::Refused(refused),
        reason => Error::NoAnswer(NoAnswer { whose: whose.clone(), socket: socket.to_owned(), reason }),
    }
}

impl NoAnswer {
    /// Returns whether the connection ended before the answer.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.reason, socket::Error::Broken(_))
    }
}

impl Failure for NoAnswer {
    fn kind(&self) -> Kind {
        match &self.reason {
            socket::Error::Refused(refused) => refused.kind(),
            socket::Error::NoConnection(reason) => match reason.kind() {
                io::ErrorKind::PermissionDenied => Kind::Denied,
                io::ErrorKind::TimedOut => Kind::Timeout,
                io::ErrorKind::NotFound if matches!(self.whose, Whose::Shim(_)) => Kind::NotFound,
                _ => Kind::Unavailable,
            },
            socket::Error::Silent(_) => Kind::Timeout,
            socket::Error::Broken(_) => Kind::Unavailable,
            socket::Error::Request(_) => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let denied = matches!(&self.reason, socket::Error::NoConnection(reason)
            if reason.kind() == io::ErrorKind::PermissionDenied);
        if denied {
            return Some("run it as root, or with sudo".into());
        }
        match (&self.whose, &self.reason) {
            (Whose::Debug, socket::Error::NoConnection(_)) => Some(format!(
                "containerd listens there when its config.toml has address = {:?} under [debug], after a restart; \
                 the option 'address' names another socket",
                self.socket
            )),
            (Whose::ShimDebug(_), socket::Error::NoConnection(_)) => Some(
                "containerd 2.0 and later start a shim with such a socket while their own log level is debug".into(),
            ),
            (Whose::ShimDebug(_), socket::Error::Silent(_)) => {
                Some("some shims open this socket and serve nothing on it, as Debian's of containerd 2.1".into())
            }
            (Whose::Shim(_), socket::Error::NoConnection(_)) => Some(
                "tasks() lists what runs; a container that shares a shim, as those of a pod do, has its sandbox's id \
                 as the shim's, and the option 'address' names a socket"
                    .into(),
            ),
            (Whose::Shim(_), _) => Some("see what the shim does: its process has the id in its command line".into()),
            (Whose::Debug, _) => Some("see what containerd does: journalctl -u containerd".into()),
            _ => None,
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.display();
        let whose = match &self.whose {
            Whose::Debug => "containerd's debug socket".to_owned(),
            Whose::Shim(id) => format!("the socket of shim {id}"),
            Whose::ShimDebug(id) => format!("the debug socket of shim {id}"),
        };
        match &self.reason {
            socket::Error::NoConnection(reason) => match reason.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => write!(f, "{whose} is not there: {socket}"),
                io::ErrorKind::PermissionDenied => write!(f, "no permission to use {whose}, {socket}"),
                io::ErrorKind::ConnectionRefused => write!(f, "nobody listens on {whose}, {socket}"),
                io::ErrorKind::TimedOut => write!(f, "{whose}, {socket}, did not accept in time"),
                _ => write!(f, "cannot connect to {whose}, {socket}: {reason}"),
            },
            reason => write!(f, "{whose}, {socket}: {reason}"),
        }
    }
}

impl std::error::Error for NoAnswer {}
