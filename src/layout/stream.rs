//! Parts of files as streams of bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::error::{Error, Result};
use crate::oci::store;

/// How many bytes one read or write moves.
pub(crate) const CHUNK: usize = 1 << 20;

/// Runs file work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    path: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Worker { path: path.to_owned() }),
    }
}

/// Returns the program's own standard output where a path names it.
///
/// Opened by that name, a file that a shell sent the output to would be written from its beginning, and one that takes the
/// name of another in the end would leave what else the program prints behind.
///
/// # Errors
/// When the program has none.
pub fn standard_output(path: &Path) -> io::Result<Option<File>> {
    const NAMES: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    if !NAMES.iter().any(|name| path == Path::new(name)) {
        return Ok(None);
    }
    Ok(Some(rustix::io::dup(rustix::stdio::stdout())?.into()))
}

/// A piece of an open file: the place of a blob.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The file.
    pub(crate) file: Arc<File>,
    /// Where the blob begins in it.
    pub(crate) start: u64,
    /// How long the blob is.
    pub(crate) len: u64,
    /// What messages call it.
    pub(crate) name: Arc<str>,
}

impl Piece {
    /// Reads so many bytes, or what there is, at an offset within the piece. Blocks.
    pub(crate) fn read(&self, offset: u64, most: usize) -> Result<Bytes> {
        let want = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(most);
        let mut buffer = vec![0; want];
        let mut have = 0;
        while have < want {
            match self.file.read_at(&mut buffer[have..], self.start + offset + have as u64) {
                // The file was longer when it was opened: somebody cut it.
                Ok(0) => {
                    return Err(Error::Truncated { archive: self.name.to_string(), entry: "its last bytes".into() });
                }
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &*self.name, error)),
            }
        }
        Ok(buffer.into())
    }

    /// Streams the piece from an offset to its end.
    pub(crate) fn stream(self, offset: u64) -> BoxStream<'static, store::Result<Bytes>> {
        stream::try_unfold((self, offset), |(piece, offset)| async move {
            if offset >= piece.len {
                return Ok(None);
            }
            let name = Arc::clone(&piece.name);
            let (piece, bytes) = blocking(&name, move || {
                let bytes = piece.read(offset, CHUNK)?;
                Ok((piece, bytes))
            })
            .await?;
            let next = offset + bytes.len() as u64;
            Ok(Some((bytes, (piece, next))))
        })
        .boxed()
    }

    /// Reads the whole piece into memory; the caller has checked its length. Blocks.
    pub(crate) fn read_all(&self) -> Result<Bytes> {
        let mut all = Vec::with_capacity(usize::try_from(self.len).unwrap_or_default());
        while (all.len() as u64) < self.len {
            all.extend_from_slice(&self.read(all.len() as u64, CHUNK)?);
        }
        Ok(all.into())
    }

    /// Reads the whole piece into memory; the caller has checked its length.
    pub(crate) async fn bytes(self) -> Result<Bytes> {
        let name = Arc::clone(&self.name);
        blocking(&name, move || self.read_all()).await
    }
}
