//! Writes image archives that Docker, containerd and skopeo read.
//!
//! An archive is an OCI layout in a tar with a `manifest.json` for Docker beside it, entries sorted by name and without
//! times, as containerd's exporter writes it (core/images/archive/exporter.go): equal images make equal archives. Blobs
//! come in any order and several at a time, so each gets a region of the file as soon as its length is known and is
//! written there. When all content was announced ([`ImageSink::expect`]) the regions are sorted from the start and the file
//! is final; otherwise the regions are put in order at the end.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tar::{EntryType, Header};
use tempfile::{NamedTempFile, TempPath};

use super::index::blob_path;
use super::lists;
use crate::layout::blob::{HashingFile, Hold, check};
use crate::layout::error::{Error, Result};
use crate::layout::names::Selector;
use crate::layout::stream::{blocking, standard_output};
use crate::oci::media_type::Compression;
use crate::oci::store::{self, BlobWriter, ImageSink, Labels};
use crate::oci::{Algorithm, Descriptor, Digest, Matcher};

/// The length of a tar block.
const BLOCK: usize = 512;
/// The longest blob: 1 PiB.
const MAX_BLOB: u64 = 1 << 50;

/// How an archive is written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// How the archive is compressed as a whole. Layers mostly are compressed already.
    pub compression: Compression,
    /// Which platform `manifest.json` shows Docker of an image that has several.
    pub platforms: Matcher,
    /// The folder for a spool file when the archive goes to a stream. Nothing of it stays.
    pub spool: PathBuf,
}

/// An archive in the making. Dropped before it is closed, nothing of it stays.
#[derive(Clone)]
pub struct ArchiveWriter(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    /// Holds the blobs as a tar.
    file: Arc<File>,
    options: WriteOptions,
    state: Mutex<State>,
}

struct State {
    output: Option<Output>,
    end: u64,
    regions: HashMap<Digest, Region>,
    manifests: HashMap<Digest, Bytes>,
    images: Vec<(Selector, Option<Descriptor>)>,
}

/// Where a finished archive goes.
enum Output {
    /// To a path, by renaming the temporary file that lies beside it.
    File { temporary: TempPath, target: PathBuf },
    /// To a path, through a compressor.
    Compressed { target: PathBuf },
    /// To a stream.
    Stream(Box<dyn Write + Send>),
}

/// The place of a blob within the file.
#[derive(Clone)]
struct Region {
    /// Where its header begins.
    start: u64,
    /// How long its header is; the content follows.
    head: u64,
    size: u64,
    done: Arc<AtomicBool>,
    /// Held while somebody writes there.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl ArchiveWriter {
    /// Begins an archive at a path, which appears there when it is complete. A pipe or device is written to as it is.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written to.
    pub async fn create(path: &Path, options: WriteOptions) -> Result<Self> {
        let path = path.to_owned();
        blocking(&path.display().to_string(), move || {
            let name: Arc<str> = path.display().to_string().into();
            let own = standard_output(&path).map_err(|error| Error::io("open", &path, error))?;
            // A link is written through, as by any shell redirection.
            let target = fs::canonicalize(&path).unwrap_or(path);
            let stream = match own {
                None if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) => {
                    let opened = File::options().write(true).open(&target);
                    Some(opened.map_err(|error| Error::io("open", &target, error))?)
                }
                own => own,
            };
            if let Some(stream) = stream {
                if stream.is_terminal() {
                    return Err(Error::Terminal { path: name.to_string() });
                }
                return Self::spooled(name, Output::Stream(Box::new(stream)), options);
            }
            if options.compression != Compression::None {
                return Self::spooled(name, Output::Compressed { target }, options);
            }
            let (file, temporary) = beside(&target)?.into_parts();
            Self::new(name, file, Output::File { temporary, target }, options)
        })
        .await
    }

    /// Begins an archive that goes to a stream, such as standard output; the name is for messages.
    ///
    /// # Errors
    /// When the spool folder cannot be written to.
    pub async fn to_stream(name: &str, stream: Box<dyn Write + Send>, options: WriteOptions) -> Result<Self> {
        let own = Arc::from(name);
        blocking(name, move || Self::spooled(own, Output::Stream(stream), options)).await
    }

    fn spooled(name: Arc<str>, output: Output, options: WriteOptions) -> Result<Self> {
        let failed = |error| Error::io("make a spool file in", &options.spool, error);
        fs::create_dir_all(&options.spool).map_err(failed)?;
        let file = tempfile::tempfile_in(&options.spool).map_err(failed)?;
        Self::new(name, file, output, options)
    }

    fn new(name: Arc<str>, file: File, output: Output, options: WriteOptions) -> Result<Self> {
        let state = State {
            output: Some(output),
            end: 2 * BLOCK as u64,
            regions: HashMap::new(),
            manifests: HashMap::new(),
            images: Vec::new(),
        };
        let shared = Shared { name, file: Arc::new(file), options, state: Mutex::new(state) };
        shared.put(&[folder("blobs/"), folder("blobs/sha256/")].concat(), 0)?;
        Ok(Self(Arc::new(shared)))
    }

    /// Returns a sink for one image of the archive. Images that share blobs share their bytes.
    #[must_use]
    pub fn image(&self, name: Selector) -> ArchiveImage {
        let mut state = self.0.state();
        state.images.push((name, None));
        ArchiveImage { shared: Arc::clone(&self.0), number: state.images.len() - 1 }
    }

    /// Writes the lists, puts the archive in its place and returns its length in bytes.
    ///
    /// # Errors
    /// When something cannot be written, or the archive was closed before.
    pub async fn close(self) -> Result<u64> {
        let shared = self.0;
        blocking(&Arc::clone(&shared.name), move || shared.close()).await
    }
}

/// Makes a temporary file in the folder of a target.
fn beside(target: &Path) -> Result<NamedTempFile> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".ctrsh-")
        .suffix(".tar")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|error| Error::io("make a file in", folder, error))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is a few maps that are never left half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the region of a blob, making one when there is none. Blocks.
    fn region(&self, digest: &Digest, size: u64) -> Result<Region> {
        let mut state = self.state();
        if state.output.is_none() {
            return Err(Error::Closed { path: self.name.to_string() });
        }
        if let Some(region) = state.regions.get(digest).filter(|region| region.size == size) {
            return Ok(region.clone());
        }
        let header = header(&blob_path(digest), size, 0o444, EntryType::Regular);
        let region =
            Region { start: state.end, head: header.len() as u64, size, done: Arc::default(), turn: Arc::default() };
        // No disk holds more; and every sum below stays far from the end of the integers.
        if size > MAX_BLOB {
            return Err(Error::Limit { archive: self.name.to_string(), what: format!("a blob of {size} bytes") });
        }
        self.put(&header, region.start)?;
        state.end += region.span();
        state.regions.insert(digest.clone(), region.clone());
        Ok(region)
    }

    fn put(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(|error| Error::io("write", &*self.name, error))
    }

    /// Blocks.
    fn close(&self) -> Result<u64> {
        let mut state = self.state();
        let Some(output) = state.output.take() else {
            return Err(Error::Closed { path: self.name.to_string() });
        };
        let mut blobs: Vec<(&Digest, &Region)> =
            state.regions.iter().filter(|(_, region)| region.done.load(Ordering::Acquire)).collect();
        blobs.sort_by(|a, b| a.0.cmp(b.0));
        let tail = self.tail(&state)?;
        let in_order = blobs.len() == state.regions.len()
            && blobs.windows(2).all(|pair| pair[0].1.start < pair[1].1.start)
            && blobs.iter().all(|(digest, _)| digest.algorithm() == Algorithm::Sha256);
        self.file.set_len(state.end).map_err(|error| Error::io("write", &*self.name, error))?;
        match output {
            Output::File { temporary, target } if in_order => {
                self.put(&tail, state.end)?;
                persist(temporary, &target)?;
                Ok(state.end + tail.len() as u64)
            }
            Output::File { target, .. } | Output::Compressed { target } => {
                let (mut file, temporary) = beside(&target)?.into_parts();
                self.fold(&mut file, &blobs, &tail)?;
                let len = file.metadata().map_err(|error| Error::io("write", &target, error))?.len();
                persist(temporary, &target)?;
                Ok(len)
            }
            Output::Stream(stream) => {
                let mut counted = Counted { inner: stream, count: 0 };
                self.fold(&mut counted, &blobs, &tail)?;
                counted.flush().map_err(|error| Error::io("write", &*self.name, error))?;
                Ok(counted.count)
            }
        }
    }

    /// Writes the archive in order, compressed as the options say.
    fn fold<W: Write>(&self, out: &mut W, blobs: &[(&Digest, &Region)], tail: &[u8]) -> Result<()> {
        let written = match self.options.compression {
            Compression::None => self.assemble(out, blobs, tail),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                self.assemble(&mut encoder, blobs, tail).and_then(|()| encoder.finish().map(drop))
            }
            Compression::Zstd => zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL).and_then(|mut encoder| {
                self.assemble(&mut encoder, blobs, tail)?;
                encoder.finish().map(drop)
            }),
        };
        written.map_err(|error| Error::io("write", &*self.name, error))
    }

    fn assemble<W: Write>(&self, out: &mut W, blobs: &[(&Digest, &Region)], tail: &[u8]) -> io::Result<()> {
        out.write_all(&folder("blobs/"))?;
        let mut algorithm = None;
        for (digest, region) in blobs {
            if algorithm.replace(digest.algorithm()) != Some(digest.algorithm()) {
                out.write_all(&folder(&format!("blobs/{}/", digest.algorithm().as_str())))?;
            }
            let mut source = &*self.file;
            source.seek(SeekFrom::Start(region.start))?;
            // From file to file the kernel copies (copy_file_range), without a byte through here.
            let copied = io::copy(&mut source.take(region.span()), out)?;
            if copied != region.span() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        out.write_all(tail)
    }

    /// Returns what follows the blobs: the lists, and the end of the tar.
    fn tail(&self, state: &State) -> Result<Vec<u8>> {
        let document = |error: serde_json::Error| Error::Document {
            document: format!("the list of {}", self.name),
            reason: error.to_string(),
        };
        let images: Vec<(&Selector, &Descriptor)> =
            state.images.iter().filter_map(|(name, root)| Some((name, root.as_ref()?))).collect();
        let index = lists::oci_index(&images).map_err(document)?;
        let docker = lists::docker_manifest(&images, &state.manifests, &self.options.platforms).map_err(document)?;
        let mut tail = Vec::new();
        // manifest.json only when it would say something: Docker refuses an empty one.
        let files = [
            ("index.json", 0o644, Some(index)),
            ("manifest.json", 0o644, docker),
            ("oci-layout", 0o444, Some(lists::OCI_LAYOUT.to_vec())),
        ];
        for (name, mode, content) in files {
            let Some(content) = content else { continue };
            tail.extend_from_slice(&header(name, content.len() as u64, mode, EntryType::Regular));
            tail.extend_from_slice(&content);
            tail.resize(tail.len().next_multiple_of(BLOCK), 0);
        }
        tail.resize(tail.len() + 2 * BLOCK, 0);
        Ok(tail)
    }
}

impl Region {
    /// Returns the length with header and padding.
    fn span(&self) -> u64 {
        self.head + self.size.next_multiple_of(BLOCK as u64)
    }
}

/// Makes the entry of a folder.
fn folder(name: &str) -> Vec<u8> {
    header(name, 0, 0o755, EntryType::Directory)
}

fn persist(temporary: TempPath, target: &Path) -> Result<()> {
    temporary.persist(target).map_err(|error| Error::io("rename to", target, error.error))
}

/// Makes the header of an entry: one block, or three when the name is longer than the 100 bytes that a header holds.
fn header(name: &str, size: u64, mode: u32, kind: EntryType) -> Vec<u8> {
    const NAME: usize = 100;
    let block = |name: &[u8], size, kind| {
        let mut header = Header::new_gnu();
        let len = name.len().min(NAME);
        header.as_old_mut().name[..len].copy_from_slice(&name[..len]);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        *header.as_bytes()
    };
    let mut blocks = Vec::with_capacity(BLOCK);
    if name.len() > NAME {
        blocks.extend_from_slice(&block(b"././@LongLink", name.len() as u64 + 1, EntryType::GNULongName));
        blocks.extend_from_slice(name.as_bytes());
        blocks.resize((blocks.len() + 1).next_multiple_of(BLOCK), 0);
    }
    blocks.extend_from_slice(&block(name.as_bytes(), size, kind));
    blocks
}

/// Counts what passes.
struct Counted<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// One image on its way into an archive.
#[derive(Clone)]
pub struct ArchiveImage {
    shared: Arc<Shared>,
    number: usize,
}

impl ArchiveImage {
    async fn region(&self, descriptor: &Descriptor) -> Result<Region> {
        let (shared, digest, size) = (Arc::clone(&self.shared), descriptor.digest.clone(), descriptor.size);
        blocking(&self.shared.name, move || shared.region(&digest, size)).await
    }

    /// Takes the turn to write a blob; `None` when somebody else did it.
    async fn start(&self, descriptor: &Descriptor) -> Result<Option<RegionWriter>> {
        let region = self.region(descriptor).await?;
        let turn = Arc::clone(&region.turn).lock_owned().await;
        if region.done.load(Ordering::Acquire) {
            return Ok(None);
        }
        let hold: Hold = Arc::new(turn);
        let (file, name) = (Arc::clone(&self.shared.file), Arc::clone(&self.shared.name));
        let blob = HashingFile::new(file, region.start + region.head, descriptor, name, Some(hold));
        Ok(Some(RegionWriter { blob, done: region.done }))
    }
}

#[async_trait]
impl ImageSink for ArchiveImage {
    fn name(&self) -> String {
        self.shared.name.to_string()
    }

    async fn has(&self, descriptor: &Descriptor) -> store::Result<bool> {
        let state = self.shared.state();
        Ok(state.regions.get(&descriptor.digest).is_some_and(|region| region.done.load(Ordering::Acquire)))
    }

    async fn current(&self) -> store::Result<Option<Descriptor>> {
        Ok(None)
    }

    async fn expect(&self, content: &[Descriptor]) -> store::Result<()> {
        let mut content: Vec<Descriptor> = content.to_vec();
        content.sort_by(|a, b| a.digest.cmp(&b.digest));
        let shared = Arc::clone(&self.shared);
        blocking(&self.shared.name, move || {
            content.iter().try_for_each(|descriptor| shared.region(&descriptor.digest, descriptor.size).map(drop))
        })
        .await?;
        Ok(())
    }

    async fn write(&self, descriptor: &Descriptor, _labels: &Labels) -> store::Result<Option<Box<dyn BlobWriter>>> {
        Ok(self.start(descriptor).await?.map(|writer| Box::new(writer) as Box<dyn BlobWriter>))
    }

    async fn put_manifest(&self, descriptor: &Descriptor, bytes: Bytes, _labels: &Labels) -> store::Result<()> {
        check(&self.shared.name, descriptor, &bytes)?;
        if let Some(mut writer) = self.start(descriptor).await? {
            writer.blob.write(bytes.clone()).await?;
            writer.end().await?;
        }
        self.shared.state().manifests.insert(descriptor.digest.clone(), bytes);
        Ok(())
    }

    async fn finish(&self, root: &Descriptor) -> store::Result<()> {
        if let Some(image) = self.shared.state().images.get_mut(self.number) {
            image.1 = Some(root.clone());
        }
        Ok(())
    }

    fn verifies(&self) -> bool {
        true
    }
}

/// A blob on its way into its region.
struct RegionWriter {
    blob: HashingFile,
    done: Arc<AtomicBool>,
}

impl RegionWriter {
    async fn end(self) -> Result<()> {
        // The turn ends with the blob, after which the mark is seen by whoever waited for it.
        self.blob.finish(move || self.done.store(true, Ordering::Release)).await
    }
}

#[async_trait]
impl BlobWriter for RegionWriter {
    fn offset(&self) -> u64 {
        self.blob.taken()
    }

    async fn write(&mut self, bytes: Bytes) -> store::Result<()> {
        Ok(self.blob.write(bytes).await?)
    }

    async fn commit(self: Box<Self>) -> store::Result<()> {
        Ok(self.end().await?)
    }

    async fn close(self: Box<Self>, _discard: bool) -> store::Result<()> {
        self.blob.abandon().await;
        Ok(())
    }
}
