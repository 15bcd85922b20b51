//! A blob on its way into a file, hashed as it passes.

use std::any::Any;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::error::{Error, Result};
use super::stream::CHUNK;
use crate::oci::{self, Descriptor, Hasher};

/// Writes a blob into its place in a file and checks length and digest at the end.
///
/// Small writes are gathered to a chunk; a chunk is hashed and written on a blocking thread while the next one is on its
/// way.
pub(crate) struct HashingFile {
    file: Arc<File>,
    start: u64,
    descriptor: Descriptor,
    path: Arc<str>,
    taken: u64,
    buffer: BytesMut,
    hasher: Option<Hasher>,
    busy: Option<JoinHandle<Result<Hasher>>>,
    hold: Option<Hold>,
}

/// What has to live until the last byte is written, even when the writer itself was dropped half-way.
pub(crate) type Hold = Arc<dyn Any + Send + Sync>;

impl HashingFile {
    /// Begins a blob at an offset of the file.
    pub(crate) fn new(
        file: Arc<File>,
        start: u64,
        descriptor: &Descriptor,
        path: Arc<str>,
        hold: Option<Hold>,
    ) -> Self {
        Self {
            file,
            start,
            path,
            taken: 0,
            buffer: BytesMut::new(),
            hasher: Some(Hasher::new(descriptor.digest.algorithm())),
            busy: None,
            hold,
            descriptor: descriptor.clone(),
        }
    }

    /// Returns how many bytes were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next bytes. Stops at the first byte more than the descriptor promises.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let total = self.taken + bytes.len() as u64;
        if total > self.descriptor.size {
            return Err(self.mismatch(format!("{} bytes", self.descriptor.size), format!("at least {total} bytes")));
        }
        self.taken = total;
        if self.buffer.is_empty() && bytes.len() >= CHUNK {
            return self.flush(bytes).await;
        }
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= CHUNK {
            let chunk = self.buffer.split().freeze();
            self.flush(chunk).await?;
        }
        Ok(())
    }

    /// Waits for the last bytes, compares length and digest, and calls `done` while it still holds what it holds.
    pub(crate) async fn finish(mut self, done: impl FnOnce()) -> Result<()> {
        let rest = self.buffer.split().freeze();
        if !rest.is_empty() {
            self.flush(rest).await?;
        }
        self.settle().await?;
        if self.taken != self.descriptor.size {
            return Err(self.mismatch(format!("{} bytes", self.descriptor.size), format!("{} bytes", self.taken)));
        }
        let actual = self.hasher.take().map(Hasher::finish);
        match actual {
            Some(actual) if actual == self.descriptor.digest => {
                done();
                Ok(())
            }
            Some(actual) => Err(self.mismatch(self.descriptor.digest.to_string(), actual.to_string())),
            None => Err(Error::Worker { path: self.path.to_string() }),
        }
    }

    async fn flush(&mut self, bytes: Bytes) -> Result<()> {
        self.settle().await?;
        let Some(mut hasher) = self.hasher.take() else {
            return Err(Error::Worker { path: self.path.to_string() });
        };
        let (file, path) = (Arc::clone(&self.file), Arc::clone(&self.path));
        let hold = self.hold.clone();
        let at = self.start + self.taken - bytes.len() as u64;
        self.busy = Some(tokio::task::spawn_blocking(move || {
            hasher.update(&bytes);
            file.write_all_at(&bytes, at).map_err(|error| Error::io("write", &*path, error))?;
            drop(hold);
            Ok(hasher)
        }));
        Ok(())
    }

    /// Waits for the chunk that is being written.
    async fn settle(&mut self) -> Result<()> {
        if let Some(busy) = self.busy.take() {
            let hasher = busy.await.map_err(|_| Error::Worker { path: self.path.to_string() })??;
            self.hasher = Some(hasher);
        }
        Ok(())
    }

    /// Waits until nothing writes to the file any more, whatever became of it.
    pub(crate) async fn abandon(mut self) {
        // The outcome matters to nobody: the place is written again or thrown away.
        let _ = self.settle().await;
    }

    fn mismatch(&self, expected: String, actual: String) -> Error {
        Error::Oci {
            path: self.path.to_string(),
            source: oci::Error::Mismatch { subject: self.descriptor.digest.to_string(), expected, actual },
        }
    }
}

/// Compares bytes in memory with the length and digest of their descriptor.
pub(crate) fn check(path: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    check_size(path, descriptor, bytes.len() as u64)?;
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == descriptor.digest {
        return Ok(());
    }
    Err(Error::Oci {
        path: path.to_owned(),
        source: oci::Error::Mismatch {
            subject: descriptor.digest.to_string(),
            expected: descriptor.digest.to_string(),
            actual: actual.to_string(),
        },
    })
}

/// Compares the length of a stored blob with its descriptor's.
pub(crate) fn check_size(path: &str, descriptor: &Descriptor, actual: u64) -> Result<()> {
    if actual == descriptor.size {
        return Ok(());
    }
    Err(Error::Oci {
        path: path.to_owned(),
        source: oci::Error::Mismatch {
            subject: descriptor.digest.to_string(),
            expected: format!("{} bytes", descriptor.size),
            actual: format!("{actual} bytes"),
        },
    })
}
