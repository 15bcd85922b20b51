//! A containerd of one test's own, which it may kill, start again and give a small disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ctrsh::containerd::{self, ConnectOptions, Endpoint, Node};

use super::process::Server;

/// A running daemon; dropping it kills it.
pub struct Daemon {
    folder: PathBuf,
    server: Server,
    /// The only authority that it trusts, when not the machine's.
    authority: Option<PathBuf>,
}

impl Daemon {
    /// Starts one whose files all lie in a folder.
    pub fn start(folder: &Path) -> Self {
        Self::configured(folder, "")
    }

    /// Starts one in which a namespace does not see the content of another.
    pub fn isolated(folder: &Path) -> Self {
        Self::configured(
            folder,
            "[plugins.\"io.containerd.metadata.v1.bolt\"]\ncontent_sharing_policy = \"isolated\"\n",
        )
    }

    /// Starts one as [`Daemon::isolated`] does, which trusts servers of an authority.
    pub fn trusting(folder: &Path, authority: &Path) -> Self {
        let mut daemon = Self::isolated(folder);
        daemon.kill();
        daemon.authority = Some(authority.to_owned());
        daemon.run();
        daemon
    }

    fn configured(folder: &Path, more: &str) -> Self {
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n",
            root = folder.join("root"),
            state = folder.join("state"),
            socket = folder.join("containerd.sock"),
        );
        std::fs::write(folder.join("config.toml"), config + more).unwrap();
        let mut daemon = Self { folder: folder.to_owned(), server: Server::new("containerd"), authority: None };
        daemon.run();
        daemon
    }

    fn run(&mut self) {
        let mut command = Command::new("containerd");
        command
            .env("PATH", super::env::path())
            .arg("--config")
            .arg(self.folder.join("config.toml"))
            .stderr(Stdio::null());
        if let Some(authority) = &self.authority {
            // Go's crypto/x509 reads it in place of the machine's.
            command.env("SSL_CERT_FILE", authority);
        }
        let socket = self.socket();
        self.server.start(&mut command, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.server.signal(signal);
    }

    /// Kills it without a chance to clean up.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Kills it and starts it again on the same files.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    pub async fn node(&self) -> Node {
        let endpoint = Endpoint::parse(self.socket().to_str().unwrap()).unwrap();
        containerd::connect(endpoint, ConnectOptions::default()).await.unwrap()
    }
}
