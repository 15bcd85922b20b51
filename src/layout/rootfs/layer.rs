//! The one layer of an image that is made of a root filesystem.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::write::GzEncoder;

use super::config::RootfsOptions;
use super::tree;
use crate::layout::archive::{Stop, TarBytes, Unfolded, Walker, drain, sniff, unfold};
use crate::layout::error::{Error, Result};
use crate::layout::stream::{CHUNK, Piece};
use crate::oci::media_type::Compression;
use crate::oci::{Algorithm, Digest, Hasher};

/// The most entries that a root filesystem's tar may have.
const MAX_ENTRIES: usize = 10_000_000;
/// The most bytes that a root filesystem's tar may unfold to: 256 GiB.
const MAX_UNPACKED: u64 = 256 << 30;

/// Who is told of bytes as they are read.
pub(super) type Passed = Box<dyn Fn(u64) + Send + Sync>;

/// A layer in a nameless file.
pub(super) struct Layer {
    /// The digest of the compressed tar.
    pub(super) digest: Digest,
    /// The digest of the tar.
    pub(super) diff_id: Digest,
    /// The compressed tar.
    pub(super) piece: Piece,
}

/// Makes a layer of a folder.
pub(super) fn of_folder(
    source: &Path,
    options: &RootfsOptions,
    spool: &Path,
    stop: &Stop,
    passed: Passed,
) -> Result<Layer> {
    let mut layer = LayerWriter::new(spool, passed)?;
    tree::write(source, options.clamp_mtime, &mut layer, stop)?;
    layer.finish()
}

/// Makes a layer of a tar, plain or compressed.
pub(super) fn of_tar(source: &Path, spool: &Path, stop: &Stop, passed: Passed) -> Result<Layer> {
    let name: Arc<str> = source.display().to_string().into();
    let failed = |error| Error::io("read", source, error);
    let mut file = File::open(source).map_err(|error| Error::io("open", source, error))?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(6).read_to_end(&mut head).map_err(failed)?;
    let compression = sniff(&head).map_err(|format| Error::Compression { archive: name.to_string(), format })?;
    let whole = io::Cursor::new(head).chain(file);
    if compression == Compression::Gzip {
        return of_gzip(&name, whole, spool, stop, &passed);
    }
    let mut layer = LayerWriter::new(spool, passed)?;
    check(&name, Box::new(whole), stop, |bytes| layer.write_all(bytes))?;
    layer.finish()
}

/// Takes a gzip as it is: compressing it anew would cost time and change its digest for nothing.
fn of_gzip(name: &Arc<str>, mut source: impl Read, spool: &Path, stop: &Stop, passed: &Passed) -> Result<Layer> {
    let mut out = spool_file(spool)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut len = 0;
    let mut buffer = vec![0; CHUNK];
    loop {
        stop.check().map_err(|error| Error::io("read", &**name, error))?;
        let n = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", &**name, error)),
        };
        hasher.update(&buffer[..n]);
        out.write_all(&buffer[..n]).map_err(|error| Error::io("write to", spool, error))?;
        len += n as u64;
        passed(n as u64);
    }
    out.rewind().map_err(|error| Error::io("read", spool, error))?;
    let copy = out.try_clone().map_err(|error| Error::io("read", spool, error))?;
    let mut diff_id = Hasher::new(Algorithm::Sha256);
    check(name, Box::new(copy), stop, |bytes| {
        diff_id.update(bytes);
        Ok(())
    })?;
    Ok(Layer { digest: hasher.finish(), diff_id: diff_id.finish(), piece: piece(out, len) })
}

/// Walks a tar to see that it is one, passing on all its bytes.
fn check<F: FnMut(&[u8]) -> Result<()>>(
    name: &Arc<str>,
    source: Box<dyn Read + Send>,
    stop: &Stop,
    pass: F,
) -> Result<()> {
    let passing = Passing { bytes: unfold(name, source, MAX_UNPACKED, stop)?, pass };
    let mut walker = Walker::new(passing, Arc::clone(name), MAX_ENTRIES);
    let mut files = 0_u64;
    while walker.next()?.is_some() {
        files += 1;
    }
    if files == 0 {
        return Err(Error::Tar { archive: name.to_string(), reason: "it has no entries".into() });
    }
    // A layer's diff id covers the padding too.
    drain(name, &mut walker.into_inner(), &mut vec![0; CHUNK])
}

/// Passes on all that is read.
struct Passing<F> {
    bytes: Unfolded,
    pass: F,
}

impl<F: FnMut(&[u8]) -> Result<()>> Read for Passing<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read(buffer)?;
        (self.pass)(&buffer[..n]).map_err(io::Error::other)?;
        Ok(n)
    }
}

impl<F: FnMut(&[u8]) -> Result<()>> TarBytes for Passing<F> {
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(count).unwrap_or(CHUNK))];
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

/// Compresses a tar into a nameless file and hashes it on both sides.
pub(super) struct LayerWriter {
    plain: Hasher,
    encoder: GzEncoder<Hashing<BufWriter<File>>>,
    spool: Arc<str>,
    passed: Passed,
}

impl LayerWriter {
    fn new(spool: &Path, passed: Passed) -> Result<Self> {
        let out = BufWriter::with_capacity(CHUNK, spool_file(spool)?);
        let hashing = Hashing { inner: out, hasher: Hasher::new(Algorithm::Sha256), count: 0 };
        // The encoder's header has neither name nor time, so that equal tars make equal layers.
        Ok(Self {
            plain: Hasher::new(Algorithm::Sha256),
            encoder: GzEncoder::new(hashing, flate2::Compression::default()),
            spool: spool.display().to_string().into(),
            passed,
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.plain.update(bytes);
        (self.passed)(bytes.len() as u64);
        self.encoder.write_all(bytes).map_err(|error| Error::io("write to", &*self.spool, error))
    }

    fn finish(self) -> Result<Layer> {
        let failed = |error| Error::io("write to", &*self.spool, error);
        let Hashing { inner, hasher, count } = self.encoder.finish().map_err(failed)?;
        let file = inner.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(Layer { digest: hasher.finish(), diff_id: self.plain.finish(), piece: piece(file, count) })
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write_all(self, bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes and counts what passes.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn spool_file(spool: &Path) -> Result<File> {
    std::fs::create_dir_all(spool)
        .and_then(|()| tempfile::tempfile_in(spool))
        .map_err(|error| Error::io("make a spool file in", spool, error))
}

fn piece(file: File, len: u64) -> Piece {
    Piece { file: Arc::new(file), start: 0, len, name: "the layer's spool file".into() }
}
