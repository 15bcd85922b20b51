//! Where a Docker Engine listens.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Result;
use super::error::Error;

/// Where the engine listens when nothing else is said (docker/cli opts/hosts.go, DefaultUnixSocket).
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where an engine listens: the path of a Unix socket.
///
/// `tcp://` is not taken, not even to this machine: without client certificates whoever reaches the port is root, and
/// `ssh -L` carries a Unix socket from another machine just as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(PathBuf);

impl Address {
    /// Takes an absolute path, or one with `unix://` before it, as `DOCKER_HOST` has it.
    ///
    /// # Errors
    /// [`Error::Address`] when it is no such path.
    pub fn parse(address: &str) -> Result<Self> {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        if !path.starts_with('/') || path.contains('\0') {
            return Err(Error::Address { address: crate::oci::excerpt(address) });
        }
        Ok(Self(path.into()))
    }

    /// Returns the socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Address {
    fn default() -> Self {
        Self(DEFAULT_SOCKET.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Failure;

    #[test]
    fn an_address_is_an_absolute_path_with_or_without_its_scheme() {
        for address in ["/run/x.sock", "unix:///run/x.sock"] {
            assert_eq!(Address::parse(address).unwrap().to_string(), "unix:///run/x.sock");
        }
        for bad in ["", "unix://", "docker.sock", "unix://docker.sock", "/run/\0"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_machine_is_reached_by_ssh() {
        for remote in ["tcp://127.0.0.1:2375", "ssh://root@host.example"] {
            let error = Address::parse(remote).unwrap_err();
            assert!(error.to_string().contains(remote), "{error}");
            assert!(error.hint().unwrap().contains("ssh -nNT -L"), "{error:?}");
        }
    }
}
