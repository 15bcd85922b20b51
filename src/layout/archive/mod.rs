//! Image archives: tar files as `docker save`, `ctr images export` and `skopeo copy` write them.

mod index;
mod lists;
mod read;
mod walk;
mod write;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use self::index::Listing;
pub(crate) use self::lists::OCI_LAYOUT;
use self::read::Contents;
pub use self::read::ReadOptions;
pub(crate) use self::read::{Stop, Unfolded, drain, sniff, unfold};
pub(crate) use self::walk::{Bytes as TarBytes, Walker};
pub use self::write::{ArchiveImage, ArchiveWriter, WriteOptions};
use super::blob::{check, check_size};
use super::error::{Error, Result};
use super::names::{ListedImage, Selector};
use super::stream::{Piece, blocking};
use crate::oci::store::{self, BlobReader, ImageSource};
use crate::oci::{Descriptor, Digest, manifest};

/// An open image archive: Docker's format, an OCI layout in a tar, or both in one; plain, gzip or zstd.
#[derive(Debug, Clone)]
pub struct ArchiveReader(Arc<Archive>);

/// Two are the same when they are one opening of a file.
impl PartialEq for ArchiveReader {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ArchiveReader {}

#[derive(Debug)]
struct Archive {
    contents: Contents,
    listing: Listing,
}

impl ArchiveReader {
    /// Opens an archive file, or a named pipe.
    ///
    /// A plain tar in a file is read in place; of anything else the contents go to a spool file first.
    ///
    /// # Errors
    /// When it cannot be read, is cut off, breaks a bound, or is no image archive.
    pub async fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let (path, options) = (path.to_owned(), options.clone());
        let stop = Stop::default();
        let _guard = stop.guard();
        blocking(&path.display().to_string(), move || Self::read(read::open(&path, &options, &stop)?)).await
    }

    /// Reads an archive from a stream, such as standard input; the name is for messages.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub async fn from_reader(name: &str, reader: Box<dyn Read + Send>, options: &ReadOptions) -> Result<Self> {
        let (own, options) = (Arc::from(name), options.clone());
        let stop = Stop::default();
        let _guard = stop.guard();
        blocking(name, move || Self::read(read::spool(own, reader, &options, &stop)?)).await
    }

    fn read(contents: Contents) -> Result<Self> {
        let listing = index::read(&contents)?;
        Ok(Self(Arc::new(Archive { contents, listing })))
    }

    /// Returns the images in the archive's order, an image with several names once for each. May be empty.
    #[must_use]
    pub fn images(&self) -> &[ListedImage] {
        &self.0.listing.images
    }

    /// Returns the archive's list of images as an index, which [`Self::source_for`] copies like an image: the one that it
    /// has, or the one that containerd makes of an archive of Docker's.
    #[must_use]
    pub fn index(&self) -> Option<ListedImage> {
        let target = self.0.listing.index.clone()?;
        Some(ListedImage { name: None, tag: None, target })
    }

    /// Finds an image by name, tag or digest.
    ///
    /// # Errors
    /// [`Error::NoImage`] when there is none, [`Error::Ambiguous`] when none was named and there are several.
    pub fn find(&self, selector: &Selector) -> Result<ListedImage> {
        selector.find(&self.0.contents.name, self.images())
    }

    /// Returns whether the archive has a blob or manifest: archives may hold only some platforms of an image.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.0.listing.made.contains_key(digest) || self.0.piece(digest).is_some()
    }

    /// Returns one of its images as a source to copy from.
    #[must_use]
    pub fn source_for(&self, image: &ListedImage) -> ArchiveSource {
        ArchiveSource { archive: Arc::clone(&self.0), target: image.target.clone() }
    }
}

impl Archive {
    fn piece(&self, digest: &Digest) -> Option<Piece> {
        self.listing.blobs.get(digest).cloned().or_else(|| self.contents.piece(&index::blob_path(digest)))
    }

    /// Finds a blob and holds its length against the descriptor's.
    fn blob(&self, descriptor: &Descriptor) -> Result<Piece> {
        let piece = self.piece(&descriptor.digest).ok_or_else(|| Error::Missing {
            path: self.contents.name.to_string(),
            what: descriptor.digest.to_string(),
        })?;
        check_size(&self.contents.name, descriptor, piece.len)?;
        Ok(piece)
    }
}

/// One image of an archive, as a source.
#[derive(Debug, Clone)]
pub struct ArchiveSource {
    archive: Arc<Archive>,
    target: Descriptor,
}

#[async_trait]
impl ImageSource for ArchiveSource {
    fn name(&self) -> String {
        self.archive.contents.name.to_string()
    }

    async fn resolve(&self) -> store::Result<Descriptor> {
        Ok(self.target.clone())
    }

    async fn manifest(&self, descriptor: &Descriptor) -> store::Result<Bytes> {
        if let Some(bytes) = self.archive.listing.made.get(&descriptor.digest) {
            return Ok(bytes.clone());
        }
        let piece = self.archive.blob(descriptor)?;
        if piece.len > manifest::MAX_SIZE {
            return Err(Error::Limit {
                archive: self.name(),
                what: format!("a manifest of {} bytes, {}", piece.len, descriptor.digest),
            }
            .into());
        }
        let bytes = piece.bytes().await?;
        check(&self.archive.contents.name, descriptor, &bytes)?;
        Ok(bytes)
    }

    /// An archive of one platform's image may list the others, and holds nothing of them.
    async fn holds(&self, descriptor: &Descriptor) -> store::Result<bool> {
        Ok(self.archive.listing.made.contains_key(&descriptor.digest)
            || self.archive.piece(&descriptor.digest).is_some())
    }

    async fn open(&self, descriptor: &Descriptor, offset: u64) -> store::Result<BlobReader> {
        let piece = self.archive.blob(descriptor)?;
        Ok(BlobReader { start: offset, stream: piece.stream(offset) })
    }
}
