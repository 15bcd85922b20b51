//! A Unix socket before a daemon's, which counts the bytes that pass.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// A counting socket; its task ends with the runtime.
#[derive(Debug, Clone)]
pub struct Counter {
    path: PathBuf,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Counter {
    /// Listens at a path, before the socket of a daemon.
    pub async fn start(path: PathBuf, upstream: &Path) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let counter = Self { path, sent: Arc::default(), received: Arc::default() };
        let (serving, upstream) = (counter.clone(), upstream.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(daemon) = UnixStream::connect(&upstream).await else { continue };
                let ((from_client, to_client), (from_daemon, to_daemon)) = (client.into_split(), daemon.into_split());
                tokio::spawn(pass(from_client, to_daemon, Arc::clone(&serving.sent)));
                tokio::spawn(pass(from_daemon, to_client, Arc::clone(&serving.received)));
            }
        });
        counter
    }

    pub fn socket(&self) -> &Path {
        &self.path
    }

    /// Returns how many bytes the daemon was sent, and how many it answered, since the last call.
    pub fn take(&self) -> (u64, u64) {
        (self.sent.swap(0, Ordering::SeqCst), self.received.swap(0, Ordering::SeqCst))
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, count: Arc<AtomicU64>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length) = from.read(&mut buffer).await {
        count.fetch_add(length as u64, Ordering::SeqCst);
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    // The other side learns that nothing more comes.
    to.shutdown().await.ok();
}
