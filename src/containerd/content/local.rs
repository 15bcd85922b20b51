//! Reading a blob from the content store's own folder.
//!
//! containerd's content store keeps each blob in a file `blobs/ALGORITHM/HEX` (its `plugins/content/local`) and tells the
//! folder to whoever asks for its plugins. Where this process can open that file, the bytes need not go through the daemon,
//! which costs both sides a copy or two and the daemon half a second of a processor for each GiB. Whether the namespace has
//! the blob is still the daemon's to say.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use rustix::fs::OFlags;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::Content;
use crate::containerd::{Error, Result};
use crate::oci::Digest;

/// The sort of plugin that has the folder, and what it calls it.
const STORE: &str = "type==io.containerd.content.v1";
const FOLDER: &str = "root";

/// The bytes read at a time.
const CHUNK: usize = 256 << 10;

impl Content {
    /// Reads a blob from an offset to its end, without the daemon where that can be done. The bytes are not verified.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when the namespace has no such blob.
    pub async fn open_to_read(&self, digest: &Digest, offset: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        let Some(folder) = self.folder().await else { return self.read(digest, offset).await };
        let size = self.info(digest).await?.size;
        let Some(file) = open(&folder, digest, size, offset) else { return self.read(digest, offset).await };
        let failure = {
            let digest = digest.clone();
            move |source| Error::Stored { digest: digest.clone(), source }
        };
        let bytes = tokio::fs::File::from_std(file).take(size.saturating_sub(offset));
        Ok(ReaderStream::with_capacity(bytes, CHUNK).map_err(failure).boxed())
    }

    async fn folder(&self) -> Option<PathBuf> {
        let find = async || {
            let plugins = self.0.introspection().plugins(&[STORE.to_owned()]).await.ok()?;
            // With more than one, which of them has the blob cannot be told.
            let [store] = plugins.as_slice() else { return None };
            store.exports.get(FOLDER).map(PathBuf::from).filter(|folder| folder.is_absolute())
        };
        self.0.node().content_folder().get_or_init(find).await.clone()
    }
}

/// Opens the blob's file, unless it is out of reach, or is not the blob: the daemon may live on another machine or in
/// another mount namespace.
fn open(folder: &Path, digest: &Digest, size: u64, offset: u64) -> Option<File> {
    let path = folder.join("blobs").join(digest.algorithm().as_str()).join(digest.hex());
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let about = file.metadata().ok()?;
    if !about.is_file() || about.len() != size {
        return None;
    }
    file.seek(SeekFrom::Start(offset)).ok()?;
    Some(file)
}
