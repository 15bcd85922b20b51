//! The connection to one daemon.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tonic::transport::Channel;
use tower_service::Service;

use super::Result;
use super::error::{Error, NoConnection};

/// Where containerd listens when nothing else is said (its `defaults.DefaultAddress`).
pub const DEFAULT_SOCKET: &str = "/run/containerd/containerd.sock";

/// Sockets of containerds that other products bring along; only ever named in a hint.
const OTHER_SOCKETS: [&str; 6] = [
    DEFAULT_SOCKET,
    "/run/k3s/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/var/run/docker/containerd/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/k0s/containerd.sock",
];

/// The bytes that a daemon may send ahead of their being read, for one stream and for all together. The default of
/// HTTP/2, 64 KiB, stops the daemon after every other message of a content read.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Where a daemon listens: the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(PathBuf);

impl Endpoint {
    /// Takes a path, or one with `unix://` before it, as ctr does.
    ///
    /// # Errors
    /// [`Error::Address`] when it is empty or has another scheme.
    pub fn parse(address: &str) -> Result<Self> {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        if path.is_empty() || path.contains("://") || path.contains('\0') {
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

impl Default for Endpoint {
    fn default() -> Self {
        Self(DEFAULT_SOCKET.into())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// How to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions {
    /// How long the socket may take to accept, at first and at each reconnect.
    pub connect_timeout: Duration,
}

impl Default for ConnectOptions {
    /// Waits ten seconds, as ctr does.
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10) }
    }
}

/// One daemon. Cheap to clone; all clones share one connection, which is made anew when the daemon was restarted.
#[derive(Clone)]
pub struct Node {
    channel: Channel,
    shared: Arc<Shared>,
}

/// What all clones of a node share.
struct Shared {
    endpoint: Arc<Endpoint>,
    /// The content store's folder, once somebody asked for it; none when the daemon does not tell.
    content_folder: OnceCell<Option<PathBuf>>,
    /// Who writes blobs, by the order in which they began.
    writers: Mutex<BTreeSet<u64>>,
}

/// Connects to a daemon.
///
/// # Errors
/// [`Error::NoConnection`], at once when there is no socket, no permission or nobody listening, and after the timeout
/// otherwise.
pub async fn connect(endpoint: Endpoint, options: ConnectOptions) -> Result<Node> {
    let endpoint = Arc::new(endpoint);
    // The authority is never resolved; it is what the daemon sees as `:authority`.
    let channel = Channel::from_static("http://localhost")
        .connect_timeout(options.connect_timeout)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let connector = Connector { endpoint: endpoint.clone(), timeout: options.connect_timeout };
    match channel.connect_with_connector(connector).await {
        Ok(channel) => {
            let shared = Shared { endpoint, content_folder: OnceCell::new(), writers: Mutex::default() };
            Ok(Node { channel, shared: Arc::new(shared) })
        }
        Err(error) => Err(NoConnection::find(&error).map_or_else(
            || Error::NoConnection(NoConnection::new(&endpoint, &io::Error::from(io::ErrorKind::Other))),
            |found| Error::NoConnection(found.clone()),
        )),
    }
}

impl Node {
    /// Returns where the daemon listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    pub(super) fn content_folder(&self) -> &OnceCell<Option<PathBuf>> {
        &self.shared.content_folder
    }

    /// Enters one who writes a blob, until the turn is dropped.
    pub(super) fn writing(&self) -> Turn {
        let mut writers = self.shared.writers();
        let turn = writers.last().map_or(0, |last| last + 1);
        writers.insert(turn);
        Turn { shared: self.shared.clone(), turn }
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.endpoint().path()).finish()
    }
}

/// One of those who write blobs.
pub(super) struct Turn {
    shared: Arc<Shared>,
    turn: u64,
}

impl Turn {
    /// Returns whether nobody who began earlier is still writing.
    pub(super) fn is_first(&self) -> bool {
        self.shared.writers().first() == Some(&self.turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.writers().remove(&self.turn);
    }
}

impl Shared {
    fn writers(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the socket, for the first connection and for every later one.
struct Connector {
    endpoint: Arc<Endpoint>,
    timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = NoConnection;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoConnection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoConnection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = self.endpoint.clone();
        let timeout = self.timeout;
        Box::pin(async move {
            match tokio::time::timeout(timeout, UnixStream::connect(endpoint.path())).await {
                Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
                Ok(Err(error)) => Err(NoConnection::new(&endpoint, &error)),
                Err(_) => Err(NoConnection::new(&endpoint, &io::Error::from(io::ErrorKind::TimedOut))),
            }
        })
    }
}

/// Returns the sockets of other containerds that exist here.
pub(super) fn other_sockets(than: &Path) -> Vec<PathBuf> {
    OTHER_SOCKETS.iter().map(PathBuf::from).filter(|path| path != than && path.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_with_or_without_its_scheme() {
        for address in ["/run/x.sock", "unix:///run/x.sock"] {
            assert_eq!(Endpoint::parse(address).unwrap().path(), Path::new("/run/x.sock"));
        }
        for bad in ["", "unix://", "tcp://127.0.0.1:1234"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
