//! A registry beside the sandbox's containerd, on a free port of the loopback.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::config;
use super::daemon::{self, Daemon};
use super::error::Error;
use super::folder::Folder;
use super::spawn::Spawner;

/// The registry's file name, also that of its Debian package.
pub(super) const PROGRAM: &str = "docker-registry";

/// How a registry is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// The certificate chain and the key, as PEM files, for HTTPS instead of HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// A password file in the format of `htpasswd -B`, for Basic authentication.
    pub htpasswd: Option<PathBuf>,
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    daemon: Daemon,
}

/// A registry that was started and is not known to listen yet.
pub(super) struct Starting(Daemon);

impl Registry {
    /// Starts a registry in the sandbox's folder.
    pub(super) fn start(
        folder: &mut Folder,
        spawner: &Spawner,
        search: &[PathBuf],
        number: usize,
        options: &RegistryOptions,
    ) -> Result<Starting, Error> {
        let program = daemon::find(PROGRAM, PROGRAM, search)?;
        let data = folder.make_folder(&format!("registry-{number}"))?;
        let tls = options.tls.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let text = config::registry(&data, tls, options.htpasswd.as_deref());
        let file = folder.write(&format!("registry-{number}.yml"), &text)?;
        Daemon::start(folder, spawner, &program, &["serve", &file.to_string_lossy()], search).map(Starting)
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its name as it stands in front of an image reference: `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Kills it and takes its exit status.
    pub(super) fn reap(&mut self) {
        self.daemon.reap();
    }
}

impl Starting {
    /// Waits until the registry says in its log where it listens.
    pub(super) fn wait(mut self, within: Duration) -> Result<Registry, Error> {
        let address = self.0.wait_until(within, config::listening_on)?;
        Ok(Registry { address, daemon: self.0 })
    }
}

/// Returns whether a registry can be started: whether its program lies in one of the folders.
#[must_use]
pub fn registry_installed(search: &[PathBuf]) -> bool {
    search.iter().any(|folder| {
        fs::metadata(folder.join(PROGRAM)).is_ok_and(|about| about.permissions().mode() & 0o111 != 0 && about.is_file())
    })
}
