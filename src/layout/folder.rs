//! OCI image layouts in a folder (image-spec image-layout.md).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::blob::{HashingFile, check, check_size};
use super::error::{Error, Result};
use super::names::{self, ListedImage, Selector};
use super::stream::{Piece, blocking};
use crate::oci::store::{self, BlobReader, BlobWriter, ImageSink, ImageSource, Labels};
use crate::oci::{Descriptor, Digest, Index, MediaType, Parsed, manifest};

/// The longest `index.json` that is read: 20 MiB, as in an archive.
const MAX_INDEX: u64 = 20 << 20;

/// One image of a layout folder, or its place there: a source and a sink.
///
/// The folder is made by the first write. Writers in several processes do not disturb each other: a blob appears whole
/// under its digest, and `index.json` is changed under a lock on the folder.
#[derive(Debug, Clone)]
pub struct LayoutFolder {
    root: PathBuf,
    name: Arc<str>,
    selector: Selector,
    /// Whether it is a list that others may add to at the same time.
    is_list: bool,
}

impl LayoutFolder {
    /// Names an image in a folder. Touches nothing.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, selector: Selector) -> Self {
        let root = root.into();
        Self { name: root.display().to_string().into(), root, selector, is_list: false }
    }

    /// Makes it a list: what stands in the index that the name points to when another is written is in that one as well.
    #[must_use]
    pub fn listing(mut self) -> Self {
        self.is_list = true;
        self
    }

    /// Lists the images of the layout.
    ///
    /// # Errors
    /// When the folder is no layout or cannot be read.
    pub async fn images(&self) -> Result<Vec<ListedImage>> {
        self.run(|layout| {
            layout.check()?;
            let value = layout.read_index()?.ok_or_else(|| layout.invalid("it has no index.json"))?;
            let index: Index = serde_json::from_value(value).map_err(|error| layout.broken(&error))?;
            Ok(names::list(index))
        })
        .await
    }

    /// Returns whether the layout has a blob or manifest: a layout may hold only some platforms of an image.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn contains(&self, digest: &Digest) -> Result<bool> {
        let digest = digest.clone();
        self.run(move |layout| Ok(layout.open_blob(&digest)?.is_some())).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let this = self.clone();
        blocking(&self.name, move || work(&this)).await
    }

    fn check(&self) -> Result<()> {
        let bytes = match fs::read(self.root.join("oci-layout")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.root.is_dir() => {
                return Err(self.invalid("it has no file oci-layout"));
            }
            Err(error) => return Err(Error::io("read", self.root.join("oci-layout"), error)),
        };
        let layout: Value = serde_json::from_slice(&bytes).map_err(|_| self.invalid("its oci-layout is not JSON"))?;
        match layout.get("imageLayoutVersion").and_then(Value::as_str) {
            Some("1.0.0") => Ok(()),
            Some(other) => Err(self.invalid(&format!("its version is {}", crate::oci::excerpt(other)))),
            None => Err(self.invalid("its oci-layout has no version")),
        }
    }

    fn invalid(&self, reason: &str) -> Error {
        Error::NoLayout { path: self.name.to_string(), reason: reason.to_owned() }
    }

    fn broken(&self, error: &serde_json::Error) -> Error {
        Error::Document { document: format!("{}/index.json", self.name), reason: error.to_string() }
    }

    fn read_index(&self) -> Result<Option<Value>> {
        let path = self.root.join("index.json");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_INDEX + 1).read_to_end(&mut bytes).map_err(|error| Error::io("read", &path, error))?;
        if bytes.len() as u64 > MAX_INDEX {
            return Err(Error::Limit {
                archive: self.name.to_string(),
                what: format!("an index.json of more than {MAX_INDEX} bytes"),
            });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.broken(&error))
    }

    /// Opens the folder of an algorithm's blobs. No part of its path below the layout may be a link, so that a layout from
    /// elsewhere cannot make us read or write other files of this machine.
    fn open_algorithm(&self, digest: &Digest) -> io::Result<OwnedFd> {
        let folder = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.root, folder, Mode::empty())?;
        let blobs = openat(&root, "blobs", folder | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(openat(&blobs, digest.algorithm().as_str(), folder | OFlags::NOFOLLOW, Mode::empty())?)
    }

    /// Opens a blob, which may not be a link either.
    fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let path = self.blob_path(digest);
        let open = || -> io::Result<File> {
            // Without NONBLOCK a named pipe would hold us up.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            Ok(openat(self.open_algorithm(digest)?, digest.hex(), flags, Mode::empty())?.into())
        };
        let file = match open() {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let metadata = file.metadata().map_err(|error| Error::io("read", &path, error))?;
        if !metadata.is_file() {
            return Err(Error::io("read", path, io::Error::from(io::ErrorKind::InvalidInput)));
        }
        Ok(Some((file, metadata.len())))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    async fn piece(&self, descriptor: &Descriptor) -> Result<Piece> {
        let digest = descriptor.digest.clone();
        let found = self.run(move |layout| layout.open_blob(&digest)).await?;
        let (file, len) =
            found.ok_or_else(|| Error::Missing { path: self.name.to_string(), what: descriptor.digest.to_string() })?;
        check_size(&self.name, descriptor, len)?;
        let name = self.blob_path(&descriptor.digest).display().to_string().into();
        Ok(Piece { file: Arc::new(file), start: 0, len, name })
    }

    /// Makes the folder and its marks where they are missing. Two processes may do that at once.
    fn prepare(&self, digest: &Digest) -> Result<()> {
        let mark = self.root.join("oci-layout");
        if mark.is_file() && self.open_algorithm(digest).is_ok() {
            return Ok(());
        }
        let fresh = match fs::read_dir(&self.root) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        // A folder full of something else is no place for a layout.
        if !fresh && !self.root.join("blobs").is_dir() && !self.root.join("index.json").exists() {
            self.check()?;
        }
        let blobs = self.root.join("blobs").join(digest.algorithm().as_str());
        fs::create_dir_all(&blobs).map_err(|error| Error::io("make folder", &blobs, error))?;
        self.open_algorithm(digest).map_err(|error| Error::io("write to", &blobs, error))?;
        if !mark.exists() {
            self.replace(&mark, super::archive::OCI_LAYOUT)?;
        }
        Ok(())
    }

    fn temporary(&self) -> Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix(".ctrsh-")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&self.root)
            .map_err(|error| Error::io("make a file in", &self.root, error))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = self.temporary()?;
        file.write_all(bytes).map_err(|error| Error::io("write", path, error))?;
        file.persist(path).map_err(|error| Error::io("rename to", path, error.error))?;
        Ok(())
    }

    /// Returns the list with what is in the one that the name points to, which may have been written after this one was made.
    fn joined(&self, index: &Value, list: &Descriptor) -> Result<Descriptor> {
        let known: Index = serde_json::from_value(index.clone()).map_err(|error| self.broken(&error))?;
        let Some(known) = names::list(known).into_iter().find(|image| self.selector.is_name_of(image)) else {
            return Ok(list.clone());
        };
        let mut all = self.read_list(&known.target)?;
        for entry in self.read_list(list)? {
            if !all.iter().any(|other| other.digest == entry.digest) {
                all.push(entry);
            }
        }
        let bytes = serde_json::to_vec(&Index::of(all)).map_err(|error| self.broken(&error))?;
        let joined = Descriptor::new(MediaType::OciIndex, Digest::sha256(&bytes), bytes.len() as u64);
        self.prepare(&joined.digest)?;
        self.replace(&self.blob_path(&joined.digest), &bytes)?;
        Ok(joined)
    }

    /// Reads a list; what is none, or is not there, has no entries to keep.
    fn read_list(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let Some((file, _)) = self.open_blob(&descriptor.digest)? else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        let path = self.blob_path(&descriptor.digest);
        let limited = file.take(manifest::MAX_SIZE).read_to_end(&mut bytes);
        limited.map_err(|error| Error::io("read", &path, error))?;
        check(&self.name, descriptor, &bytes)?;
        match Parsed::read(descriptor, &bytes) {
            Ok(Parsed::Index(index)) => Ok(index.manifests),
            Ok(Parsed::Manifest(_)) => Ok(Vec::new()),
            Err(source) => Err(Error::Oci { path: self.name.to_string(), source }),
        }
    }

    /// Points the name to an image, under a lock, keeping all other entries as they are.
    fn point(&self, root: &Descriptor) -> Result<()> {
        self.prepare(&root.digest)?;
        let folder = File::open(&self.root).map_err(|error| Error::io("open", &self.root, error))?;
        // The lock goes with the descriptor, whatever happens to us.
        flock(&folder, FlockOperation::LockExclusive).map_err(|error| Error::io("lock", &self.root, error.into()))?;
        let mut index = self.read_index()?.unwrap_or_else(|| json!({ "schemaVersion": 2, "manifests": [] }));
        let mut entry = if self.is_list { self.joined(&index, root)? } else { root.clone() };
        entry.annotations.extend(self.selector.annotations());
        let entry = serde_json::to_value(&entry).map_err(|error| self.broken(&error))?;
        let Some(document) = index.as_object_mut() else {
            return Err(self.invalid("its index.json is no object"));
        };
        let manifests = document.entry("manifests").or_insert(Value::Null);
        if manifests.is_null() {
            *manifests = json!([]);
        }
        let Some(manifests) = manifests.as_array_mut() else {
            return Err(self.invalid("its index.json has no list of manifests"));
        };
        let named = matches!(self.selector, Selector::Name(_));
        manifests.retain(|other| match serde_json::from_value::<Descriptor>(other.clone()) {
            Ok(other) => {
                let other = ListedImage::read(other);
                let nameless = other.name.is_none() && other.tag.is_none();
                // The name moves; a nameless entry of the same image says nothing more.
                !(if named { self.selector.is_name_of(&other) } else { nameless && other.target.digest == root.digest })
            }
            Err(_) => true,
        });
        manifests.push(entry);
        let bytes = serde_json::to_vec(&index).map_err(|error| self.broken(&error))?;
        self.replace(&self.root.join("index.json"), &bytes)
    }
}

#[async_trait]
impl ImageSource for LayoutFolder {
    fn name(&self) -> String {
        self.name.to_string()
    }

    async fn resolve(&self) -> store::Result<Descriptor> {
        let images = self.images().await?;
        Ok(self.selector.find(&self.name, &images)?.target)
    }

    async fn manifest(&self, descriptor: &Descriptor) -> store::Result<Bytes> {
        let piece = self.piece(descriptor).await?;
        if piece.len > manifest::MAX_SIZE {
            return Err(Error::Limit {
                archive: self.name.to_string(),
                what: format!("a manifest of {} bytes, {}", piece.len, descriptor.digest),
            }
            .into());
        }
        let bytes = piece.bytes().await?;
        check(&self.name, descriptor, &bytes)?;
        Ok(bytes)
    }

    async fn holds(&self, descriptor: &Descriptor) -> store::Result<bool> {
        Ok(self.contains(&descriptor.digest).await?)
    }

    async fn open(&self, descriptor: &Descriptor, offset: u64) -> store::Result<BlobReader> {
        Ok(BlobReader { start: offset, stream: self.piece(descriptor).await?.stream(offset) })
    }
}

#[async_trait]
impl ImageSink for LayoutFolder {
    fn name(&self) -> String {
        self.name.to_string()
    }

    async fn has(&self, descriptor: &Descriptor) -> store::Result<bool> {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        // A blob of another length is a damaged one, which the rename of a good one mends.
        Ok(self.run(move |layout| Ok(layout.open_blob(&digest)?.is_some_and(|(_, len)| len == size))).await?)
    }

    async fn current(&self) -> store::Result<Option<Descriptor>> {
        if self.selector == Selector::Only {
            return Ok(None);
        }
        let selector = self.selector.clone();
        let found = self
            .run(move |layout| {
                let Some(value) = layout.read_index()? else { return Ok(None) };
                let index: Index = serde_json::from_value(value).map_err(|error| layout.broken(&error))?;
                Ok(names::list(index).into_iter().find(|image| match selector {
                    Selector::Name(_) => selector.is_name_of(image),
                    _ => selector.fits(image),
                }))
            })
            .await?;
        Ok(found.map(|image| image.target))
    }

    async fn write(&self, descriptor: &Descriptor, _labels: &Labels) -> store::Result<Option<Box<dyn BlobWriter>>> {
        let digest = descriptor.digest.clone();
        let (temporary, file) = self
            .run(move |layout| {
                layout.prepare(&digest)?;
                let temporary = layout.temporary()?;
                let file = temporary.as_file().try_clone();
                Ok((temporary, file.map_err(|error| Error::io("make a file in", &layout.root, error))?))
            })
            .await?;
        let path = self.blob_path(&descriptor.digest);
        let blob = HashingFile::new(Arc::new(file), 0, descriptor, path.display().to_string().into(), None);
        Ok(Some(Box::new(FolderWriter { blob, temporary, path })))
    }

    async fn put_manifest(&self, descriptor: &Descriptor, bytes: Bytes, _labels: &Labels) -> store::Result<()> {
        check(&self.name, descriptor, &bytes)?;
        let digest = descriptor.digest.clone();
        self.run(move |layout| {
            layout.prepare(&digest)?;
            layout.replace(&layout.blob_path(&digest), &bytes)
        })
        .await?;
        Ok(())
    }

    async fn finish(&self, root: &Descriptor) -> store::Result<()> {
        let root = root.clone();
        Ok(self.run(move |layout| layout.point(&root)).await?)
    }

    fn verifies(&self) -> bool {
        true
    }
}

/// A blob on its way into a folder.
struct FolderWriter {
    blob: HashingFile,
    temporary: NamedTempFile,
    path: PathBuf,
}

#[async_trait]
impl BlobWriter for FolderWriter {
    fn offset(&self) -> u64 {
        self.blob.taken()
    }

    async fn write(&mut self, bytes: Bytes) -> store::Result<()> {
        Ok(self.blob.write(bytes).await?)
    }

    async fn commit(self: Box<Self>) -> store::Result<()> {
        let Self { blob, temporary, path } = *self;
        blob.finish(|| ()).await?;
        let name = path.display().to_string();
        Ok(blocking(&name, move || {
            temporary.persist(&path).map_err(|error| Error::io("rename to", &path, error.error))?;
            Ok(())
        })
        .await?)
    }

    async fn close(self: Box<Self>, _discard: bool) -> store::Result<()> {
        // The temporary file goes with the writer.
        self.blob.abandon().await;
        Ok(())
    }
}
