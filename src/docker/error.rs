//! What can go wrong between ctrsh and a Docker Engine.

use std::io;
use std::time::Duration;

use super::address::Address;
use crate::grant::Refused;
use crate::kind::{Failure, Kind, READ_ONLY};
use crate::socket;

/// Why a call to a Docker Engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an address that is reached.
    #[error("'{address}' is not the address of a Unix socket")]
    Address {
        /// The text as given, shortened.
        address: String,
    },
    /// There is no connection to the engine.
    #[error("{}", no_connection(.engine, .reason))]
    NoConnection {
        /// Where it should listen.
        engine: Address,
        /// What the kernel said.
        reason: io::Error,
    },
    /// The grant does not cover the request.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Not a name that an image can have.
    #[error("'{name}' cannot be the name of an image")]
    Name {
        /// The text as given, shortened.
        name: String,
    },
    /// The engine has no such image.
    #[error("the Docker Engine at {engine} has no image {name}")]
    NoImage {
        /// The engine.
        engine: Address,
        /// The name asked for.
        name: String,
    },
    /// The engine answered with an error.
    #[error("{action} of the Docker Engine: {message}")]
    Call {
        /// What was attempted, such as `list images`.
        action: String,
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The connection ended before the answer did.
    #[error("{action} of the Docker Engine: the connection broke: {reason}")]
    Broken {
        /// What was attempted.
        action: String,
        /// What the connection said.
        reason: String,
    },
    /// The engine said nothing for too long.
    #[error("{action} of the Docker Engine: no answer within {}", humantime::format_duration(*.limit))]
    Silent {
        /// What was attempted.
        action: String,
        /// How long it was waited.
        limit: Duration,
    },
    /// The engine speaks no version of the API that is spoken here.
    #[error("the Docker Engine at {engine} speaks {spoken}, and at least version 1.24 of the API is needed")]
    TooOld {
        /// The engine.
        engine: Address,
        /// What it speaks.
        spoken: String,
    },
    /// The answer is not what the API promises.
    #[error("{action} of the Docker Engine: the answer makes no sense: {reason}")]
    Answer {
        /// What was attempted.
        action: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

fn no_connection(engine: &Address, reason: &io::Error) -> String {
    let socket = engine.path().display();
    match reason.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => format!("there is no Docker socket at {socket}"),
        io::ErrorKind::PermissionDenied => format!("no permission to use the Docker socket {socket}"),
        io::ErrorKind::ConnectionRefused => format!("nobody listens on the Docker socket {socket}"),
        io::ErrorKind::TimedOut => format!("the Docker socket {socket} did not accept in time"),
        _ => format!("cannot connect to {socket}: {reason}"),
    }
}

impl Error {
    /// Says what was attempted when a request came to nothing.
    pub(super) fn of(action: &str, engine: &Address, error: socket::Error) -> Self {
        let action = action.to_owned();
        match error {
            socket::Error::Refused(refused) => Self::Refused(refused),
            socket::Error::NoConnection(reason) => Self::NoConnection { engine: engine.clone(), reason },
            socket::Error::Silent(limit) => Self::Silent { action, limit },
            socket::Error::Broken(reason) => Self::Broken { action, reason },
            socket::Error::Request(reason) => Self::Answer { action, reason },
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Address { .. } | Self::Name { .. } | Self::TooOld { .. } => Kind::Usage,
            Self::NoConnection { reason, .. } => match reason.kind() {
                io::ErrorKind::PermissionDenied => Kind::Denied,
                io::ErrorKind::TimedOut => Kind::Timeout,
                _ => Kind::Unavailable,
            },
            Self::Refused(refused) => refused.kind(),
            Self::NoImage { .. } => Kind::NotFound,
            // The engine packs an export on its own disk first, and tells what ails that only in words.
            Self::Call { message, status, .. } => Kind::of_words(message).unwrap_or(match status {
                400 => Kind::Usage,
                401 | 403 => Kind::Denied,
                404 => Kind::NotFound,
                409 => Kind::Conflict,
                503 => Kind::Unavailable,
                _ => Kind::Internal,
            }),
            Self::Broken { .. } => Kind::Unavailable,
            Self::Silent { .. } => Kind::Timeout,
            Self::Answer { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Address { address } if address.contains("://") && !address.starts_with("unix:") => Some(
                "ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST brings another machine's engine here; name it unix:///tmp/engine.sock"
                    .into(),
            ),
            Self::Address { .. } => Some("give an absolute path, such as unix:///var/run/docker.sock".into()),
            Self::NoConnection { engine, reason } => Some(match reason.kind() {
                io::ErrorKind::PermissionDenied => format!(
                    "run it as root, with sudo, or as a member of the group that owns {} (most often docker)",
                    engine.path().display()
                ),
                io::ErrorKind::ConnectionRefused => {
                    "the engine that made the socket is gone: systemctl restart docker".into()
                }
                io::ErrorKind::TimedOut => {
                    "the engine is there but takes no connections; see journalctl -u docker".into()
                }
                _ => "is the Docker Engine running? start it with systemctl start docker, or name its socket with \
                      --docker-host or DOCKER_HOST; a rootless engine's is in $XDG_RUNTIME_DIR"
                    .into(),
            }),
            Self::Refused(refused) => refused.hint(),
            Self::NoImage { .. } => Some("docker().images() lists what it has; docker pull fetches it".into()),
            Self::Call { .. } if self.kind() == Kind::NoSpace => {
                Some("make room on the disk that holds the engine's data (docker info: Docker Root Dir)".into())
            }
            Self::Call { message, .. } if message.contains(READ_ONLY) => Some(
                "the disk that holds the engine's data (docker info: Docker Root Dir) became read-only; see dmesg".into(),
            ),
            Self::Broken { .. } => Some("see whether the engine is running: systemctl status docker".into()),
            Self::Silent { .. } => Some("see what the engine is doing: journalctl -u docker".into()),
            Self::TooOld { .. } => Some("update the engine; 1.24 came with Docker 1.12".into()),
            Self::Name { .. } => Some("write NAME[:TAG], NAME@DIGEST or an image's id".into()),
            Self::Call { .. } | Self::Answer { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{NO_SPACE, OVER_QUOTA};

    #[test]
    fn each_way_of_not_being_there_has_its_name_and_cure() {
        let error = |kind: io::ErrorKind| Error::NoConnection { engine: Address::default(), reason: kind.into() };
        for (reason, kind, message, cure) in [
            (io::ErrorKind::NotFound, Kind::Unavailable, "there is no Docker socket at /var/run", "--docker-host"),
            (io::ErrorKind::PermissionDenied, Kind::Denied, "no permission to use the Docker socket", "group"),
            (io::ErrorKind::ConnectionRefused, Kind::Unavailable, "nobody listens on the Docker socket", "restart"),
            (io::ErrorKind::TimedOut, Kind::Timeout, "did not accept in time", "journalctl"),
        ] {
            let error = error(reason);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().unwrap().contains(cure), "{error}");
        }
    }

    #[test]
    fn what_ails_the_engines_disk_is_named() {
        for (words, kind) in [(NO_SPACE, Kind::NoSpace), (OVER_QUOTA, Kind::NoSpace), (READ_ONLY, Kind::Denied)] {
            let message = format!("write /var/lib/docker/tmp/docker-export-1/x/layer.tar: {words}");
            let error = Error::Call { action: "export x".into(), status: 500, message };
            assert_eq!(error.kind(), kind);
            assert!(error.hint().unwrap().contains("Docker Root Dir"));
        }
    }
}
