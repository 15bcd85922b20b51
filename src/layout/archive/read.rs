//! Opens archives: finds where each entry lies, in the archive itself or in a spool file.
//!
//! A plain tar in a file is scanned header by header and read in place. Anything else (gzip, zstd, a pipe) passes once;
//! what it holds goes to one nameless temporary file that the system frees when the reader is gone, whatever happens.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::MultiGzDecoder;

use super::walk::{self, Bytes, Kind, Walker};
use crate::layout::error::{Error, Result};
use crate::layout::stream::{CHUNK, Piece};
use crate::oci::media_type::Compression;

/// The most entries that an image archive may have.
const MAX_ENTRIES: usize = 100_000;
/// How many bytes may follow the end of a compressed or piped tar: more is no padding.
const MAX_TRAILER: u64 = 16 << 20;
/// The longest zstd window that is decoded: 128 MiB, as `zstd -d` takes by default (RFC 8878, section 3.1.1.1.2, asks 8 MiB).
const ZSTD_WINDOW_LOG: u32 = 27;

/// How an archive is read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The folder for the spool file of a compressed or piped archive. Nothing of it stays.
    pub spool: PathBuf,
    /// The most bytes that a compressed or piped archive may unfold to.
    pub max_unpacked: u64,
}

impl ReadOptions {
    /// Spools to a folder, at most 256 GiB.
    #[must_use]
    pub fn new(spool: impl Into<PathBuf>) -> Self {
        Self { spool: spool.into(), max_unpacked: 256 << 30 }
    }
}

/// What an archive holds and where it lies.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) name: Arc<str>,
    file: Arc<File>,
    entries: HashMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
}

impl Contents {
    /// Finds a file by its clean name, through links within the archive.
    pub(crate) fn piece(&self, name: &str) -> Option<Piece> {
        let mut name = name;
        // Docker chains at most one link; a circle ends here too.
        for _ in 0..8 {
            if let Some((start, len)) = self.entries.get(name) {
                let label = format!("{} in {}", crate::oci::excerpt(name), self.name);
                return Some(Piece { file: Arc::clone(&self.file), start: *start, len: *len, name: label.into() });
            }
            name = self.links.get(name)?;
        }
        None
    }

    fn new(name: Arc<str>, file: File) -> Self {
        Self { name, file: Arc::new(file), entries: HashMap::new(), links: BTreeMap::new() }
    }

    /// Notes a file or link; as in every tar, a later entry of the same name replaces an earlier one.
    fn note(&mut self, entry: &walk::Entry, start: u64) {
        let name = walk::clean(&entry.name);
        match &entry.kind {
            Kind::File => {
                self.links.remove(&name);
                self.entries.insert(name, (start, entry.size));
            }
            Kind::Symlink(target) => {
                // Joined as Go's path.Join does it; what leads outside finds no entry later.
                let target = match name.rsplit_once('/') {
                    Some((folder, _)) => walk::clean(&format!("{folder}/{target}")),
                    None => walk::clean(target),
                };
                self.entries.remove(&name);
                self.links.insert(name, target);
            }
            Kind::Hardlink(target) => {
                self.entries.remove(&name);
                self.links.insert(name, walk::clean(target));
            }
            Kind::Other => {}
        }
    }
}

/// Tells work on another thread that nobody waits for it any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Returns a guard that stops the work when it is dropped.
    pub(crate) fn guard(&self) -> StopGuard {
        StopGuard(self.clone())
    }

    /// Fails when nobody waits any more.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// Stops the work when dropped.
pub(crate) struct StopGuard(Stop);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Opens the archive at a path. Blocks.
pub(crate) fn open(path: &Path, options: &ReadOptions, stop: &Stop) -> Result<Contents> {
    let name: Arc<str> = path.display().to_string().into();
    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    let metadata = file.metadata().map_err(|error| Error::io("open", path, error))?;
    if metadata.is_dir() {
        return Err(Error::io("read", path, io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return spool(name, Box::new(file), options, stop);
    }
    let mut head = [0; 6];
    let have = file.read_at(&mut head, 0).map_err(|error| Error::io("read", path, error))?;
    match sniff(&head[..have]) {
        Ok(Compression::None) => scan(name, file, metadata.len()),
        _ => spool(name, Box::new(file), options, stop),
    }
}

/// Scans a plain tar in a file.
fn scan(name: Arc<str>, file: File, len: u64) -> Result<Contents> {
    let mut contents = Contents::new(Arc::clone(&name), file);
    let place = Place { file: Arc::clone(&contents.file), at: 0 };
    let mut walker = Walker::new(place, Arc::clone(&name), MAX_ENTRIES);
    while let Some(entry) = walker.next()? {
        // What an entry announces has to be in the file: a header costs nothing, bytes do.
        if entry.start.saturating_add(entry.size) > len {
            return Err(Error::Truncated { archive: name.to_string(), entry: entry.name });
        }
        contents.note(&entry, entry.start);
    }
    Ok(contents)
}

/// Reads an archive that can be read only once, or only forward, into a spool file. Blocks.
pub(crate) fn spool(
    name: Arc<str>,
    reader: Box<dyn Read + Send>,
    options: &ReadOptions,
    stop: &Stop,
) -> Result<Contents> {
    let failed = |error| Error::io("make a spool file in", &options.spool, error);
    std::fs::create_dir_all(&options.spool).map_err(failed)?;
    let mut out = tempfile::tempfile_in(&options.spool).map_err(failed)?;
    let mut contents = Contents::new(
        Arc::clone(&name),
        out.try_clone().map_err(|error| Error::io("make a spool file in", &options.spool, error))?,
    );
    let bytes = unfold(&name, reader, options.max_unpacked, stop)?;
    let mut walker = Walker::new(bytes, Arc::clone(&name), MAX_ENTRIES);
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while let Some(entry) = walker.next()? {
        if entry.kind == Kind::File {
            loop {
                let n = walker.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                out.write_all(&buffer[..n]).map_err(|error| Error::io("write to", &options.spool, error))?;
            }
        }
        contents.note(&entry, at);
        if entry.kind == Kind::File {
            at += entry.size;
        }
    }
    drain(&name, &mut walker.into_inner(), &mut buffer)?;
    Ok(contents)
}

/// Reads what follows the tar, which makes the decompressor check its sums and lets the writer of a pipe end in peace.
pub(crate) fn drain(name: &str, bytes: &mut impl Read, buffer: &mut [u8]) -> Result<()> {
    let mut rest = 0_u64;
    loop {
        match bytes.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => rest += n as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::Truncated { archive: name.to_owned(), entry: "its compressed end".into() });
            }
            Err(error) => return Err(Error::io("read the end of", name, error)),
        }
        if rest > MAX_TRAILER {
            return Err(Error::Limit {
                archive: name.to_owned(),
                what: format!("more than {MAX_TRAILER} bytes after the end of its tar"),
            });
        }
    }
}

/// The plain bytes of a possibly compressed stream, counted.
pub(crate) struct Unfolded {
    reader: Box<dyn Read + Send>,
    name: Arc<str>,
    left: u64,
    limit: u64,
    stop: Stop,
}

/// Decompresses a stream by what it begins with. Blocks until there are a few bytes.
pub(crate) fn unfold(name: &Arc<str>, mut reader: Box<dyn Read + Send>, limit: u64, stop: &Stop) -> Result<Unfolded> {
    let mut head = [0; 6];
    let mut have = 0;
    while have < head.len() {
        match reader.read(&mut head[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", &**name, error)),
        }
    }
    if have == 0 {
        return Err(Error::Tar { archive: name.to_string(), reason: "it is empty".into() });
    }
    let compression =
        sniff(&head[..have]).map_err(|format| Error::Compression { archive: name.to_string(), format })?;
    let whole = BufReader::with_capacity(CHUNK, io::Cursor::new(head[..have].to_vec()).chain(reader));
    let reader: Box<dyn Read + Send> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let failed = |error| Error::io("decompress", &**name, error);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
            Box::new(decoder)
        }
    };
    Ok(Unfolded { reader, name: Arc::clone(name), left: limit, limit, stop: stop.clone() })
}

/// Tells the compression from the first bytes; the error is the name of a format that is not supported.
pub(crate) fn sniff(head: &[u8]) -> std::result::Result<Compression, &'static str> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // A skippable frame may come first (RFC 8878, section 3.1.2).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err("xz"),
        [b'B', b'Z', b'h', ..] => Err("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err("lz4"),
        [b'P', b'K', 3, 4, ..] => Err("zip"),
        _ => Ok(Compression::None),
    }
}

impl Read for Unfolded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        let n = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::other(Error::Limit {
                archive: self.name.to_string(),
                what: format!("more than {} bytes when unpacked", self.limit),
            })
        })?;
        Ok(n)
    }
}

impl Bytes for Unfolded {
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        while count > 0 {
            let want = usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len());
            match self.read(&mut buffer[..want]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => count -= n as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A position in a file that others read too.
struct Place {
    file: Arc<File>,
    at: u64,
}

impl Read for Place {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Bytes for Place {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        self.at = self.at.checked_add(count).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}
