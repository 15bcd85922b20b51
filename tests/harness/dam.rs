//! A Unix socket in front of containerd's that holds back what a client sends after so many bytes: the client is half way
//! then, and stays there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A running dam; its task ends when it is dropped.
pub struct Dam {
    socket: PathBuf,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

struct State {
    upstream: PathBuf,
    /// How many bytes the clients have sent, and after how many they are held back.
    sent: AtomicU64,
    limit: u64,
    full: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Dam {
    /// Builds one at a path that is free.
    pub async fn build(upstream: &Path, socket: &Path, limit: u64) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (full, open) = (watch::Sender::new(false), watch::Sender::new(false));
        let state = Arc::new(State { upstream: upstream.to_owned(), sent: AtomicU64::new(0), limit, full, open });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                // Either side may go away at any moment.
                tokio::spawn(async move { state.serve(client).await.ok() });
            }
        });
        Self { socket: socket.to_owned(), state, _task: AbortOnDropHandle::new(task) }
    }

    /// Returns where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until something is held back.
    pub async fn full(&self) {
        let mut full = self.state.full.subscribe();
        let filled = tokio::time::timeout(Duration::from_secs(30), full.wait_for(|full| *full)).await;
        filled.expect("nothing was held back within 30 s").unwrap();
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.state.open.send_replace(true);
    }
}

impl State {
    async fn serve(&self, client: UnixStream) -> std::io::Result<()> {
        let daemon = UnixStream::connect(&self.upstream).await?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_daemon, mut to_daemon) = daemon.into_split();
        let there = async {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = from_client.read(&mut buffer).await?;
                if count == 0 {
                    return to_daemon.shutdown().await;
                }
                let sent = self.sent.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
                if sent > self.limit {
                    self.full.send_replace(true);
                    let _ = self.open.subscribe().wait_for(|open| *open).await;
                }
                to_daemon.write_all(&buffer[..count]).await?;
            }
        };
        let back = async {
            tokio::io::copy(&mut from_daemon, &mut to_client).await?;
            to_client.shutdown().await
        };
        tokio::try_join!(there, back).map(|_| ())
    }
}
