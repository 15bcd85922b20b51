//! Walks the headers of a tar, within bounds.
//!
//! The `tar` crate reads extension headers of any length into memory and expands sparse files. An archive from outside
//! may not do that to us, so this walker takes the crate's header type and does the walking itself. Where readers of tar
//! disagree it decides as Go's `archive/tar` does, because that is what containerd and Docker read with.

use std::io::{self, Read};
use std::sync::Arc;

use tar::{EntryType, Header};

use crate::layout::error::{Error, Result};

const BLOCK: u64 = 512;
/// The longest extension header (long name, PAX records) that is read: 1 MiB, as in Go's `archive/tar`.
const MAX_EXTENSION: u64 = 1 << 20;
/// The longest name, as in Linux.
const MAX_NAME: usize = 4096;

/// Bytes that can be read and skipped.
pub(crate) trait Bytes: Read {
    /// Skips bytes.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// What an entry is, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file with content.
    File,
    /// A symbolic link, with what it points to.
    Symlink(String),
    /// A hard link, with the entry that it is another name of.
    Hardlink(String),
    /// A folder, a device or something unknown.
    Other,
}

/// One entry of a tar.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its name as it stands in the archive.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// How many bytes of content follow.
    pub(crate) size: u64,
    /// Where the content begins in the tar.
    pub(crate) start: u64,
}

/// Walks a tar entry by entry.
pub(crate) struct Walker<R> {
    bytes: R,
    archive: Arc<str>,
    position: u64,
    rest: u64,
    padding: u64,
    count: usize,
    limit: usize,
    last: String,
}

impl<R: Bytes> Walker<R> {
    /// Begins at the start of a tar that may have so many entries.
    pub(crate) fn new(bytes: R, archive: Arc<str>, limit: usize) -> Self {
        Self { bytes, archive, position: 0, rest: 0, padding: 0, count: 0, limit, last: "its first entry".into() }
    }

    /// Goes to the next entry, over what was not read of the last one.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut long_name = None;
        let mut long_link = None;
        let mut pax = Pax::default();
        loop {
            let over = self.rest + self.padding;
            self.skip(over)?;
            (self.rest, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                if long_name.is_some() || long_link.is_some() || pax.any {
                    return Err(self.truncated());
                }
                return Ok(None);
            };
            self.count += 1;
            if self.count > self.limit {
                return Err(Error::Limit {
                    archive: self.archive.to_string(),
                    what: format!("more than {} entries", self.limit),
                });
            }
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|error| self.broken(error.to_string()))?;
            match kind {
                EntryType::GNULongName => long_name = Some(self.extension(size)?),
                EntryType::GNULongLink => long_link = Some(self.extension(size)?),
                EntryType::XHeader => pax = Pax::read(&self.extension(size)?).map_err(|reason| self.broken(reason))?,
                EntryType::XGlobalHeader => {
                    self.extension(size)?;
                }
                _ => {
                    let name = pax
                        .path
                        .take()
                        .or_else(|| long_name.take().map(until_nul))
                        .unwrap_or_else(|| header.path_bytes().into_owned());
                    let name = self.text(name)?;
                    self.last.clone_from(&name);
                    if kind == EntryType::GNUSparse || pax.sparse {
                        return Err(Error::Sparse { archive: self.archive.to_string(), entry: name });
                    }
                    let link = pax
                        .link
                        .take()
                        .or_else(|| long_link.take().map(until_nul))
                        .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                        .unwrap_or_default();
                    let (kind, size) = match kind {
                        EntryType::Regular | EntryType::Continuous if !name.ends_with('/') => {
                            (Kind::File, pax.size.unwrap_or(size))
                        }
                        EntryType::Symlink => (Kind::Symlink(self.text(link)?), 0),
                        EntryType::Link => (Kind::Hardlink(self.text(link)?), 0),
                        EntryType::Char | EntryType::Block | EntryType::Directory | EntryType::Fifo => (Kind::Other, 0),
                        _ => (Kind::Other, pax.size.unwrap_or(size)),
                    };
                    self.content(size)?;
                    return Ok(Some(Entry { name, kind, size, start: self.position }));
                }
            }
        }
    }

    /// Reads content of the entry that [`Self::next`] returned; 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let n = loop {
            match self.bytes.read(&mut buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| self.failed(error))?,
            }
        };
        if n == 0 {
            return Err(self.truncated());
        }
        self.rest -= n as u64;
        self.position += n as u64;
        Ok(n)
    }

    /// Gives the bytes back, standing after the last header that was read.
    pub(crate) fn into_inner(self) -> R {
        self.bytes
    }

    fn content(&mut self, size: u64) -> Result<()> {
        let padded = size.checked_add(BLOCK - 1).ok_or_else(|| self.broken("a size overflows".into()))? & !(BLOCK - 1);
        self.position.checked_add(padded).ok_or_else(|| self.broken("a size overflows".into()))?;
        (self.rest, self.padding) = (size, padded - size);
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(Error::Limit {
                archive: self.archive.to_string(),
                what: format!("an extension header of {size} bytes after {}", self.last),
            });
        }
        self.content(size)?;
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        let mut have = 0;
        while have < data.len() {
            have += self.read(&mut data[have..])?;
        }
        Ok(data)
    }

    /// Reads the next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut have = 0;
        while have < block.len() {
            match self.bytes.read(&mut block[have..]) {
                // Archives without the two zero blocks at the end exist; Go takes them too.
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(self.truncated()),
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.position += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(self.broken(match self.count {
                0 => "it does not begin with a tar header".into(),
                _ => format!("the header after {} has a wrong checksum", self.last),
            }));
        }
        Ok(Some(header))
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        if count > 0 {
            self.bytes.skip(count).map_err(|error| self.failed(error))?;
            self.position += count;
        }
        Ok(())
    }

    fn text(&self, bytes: Vec<u8>) -> Result<String> {
        if bytes.len() > MAX_NAME {
            return Err(self.broken(format!("a name after {} is longer than {MAX_NAME} bytes", self.last)));
        }
        // Names in other encodings are of no interest: every name that an image archive needs is ASCII.
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn failed(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                self.broken(format!("its compressed bytes are damaged after {}", self.last))
            }
            // A limit of the reader below, which brings its own error.
            _ => match error.downcast::<Error>() {
                Ok(own) => own,
                Err(error) => Error::io("read", &*self.archive, error),
            },
        }
    }

    fn truncated(&self) -> Error {
        Error::Truncated { archive: self.archive.to_string(), entry: self.last.clone() }
    }

    fn broken(&self, reason: String) -> Error {
        Error::Tar { archive: self.archive.to_string(), reason }
    }
}

/// The PAX records that count here (POSIX.1-2017, pax, section "pax Extended Header").
#[derive(Default)]
struct Pax {
    any: bool,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Pax {
    fn read(data: &[u8]) -> std::result::Result<Self, String> {
        let mut pax = Self { any: true, ..Self::default() };
        let mut rest = data;
        // A record is "LENGTH KEY=VALUE\n"; the length counts, because a value may hold newlines.
        while rest.first().is_some_and(|byte| *byte != 0) {
            let (key, value, next) = record(rest).ok_or("a PAX header is damaged")?;
            rest = next;
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"linkpath" => pax.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    pax.size = Some(size.ok_or("a PAX header has a size that is no number")?);
                }
                key if key.starts_with(b"GNU.sparse.") => pax.sparse = true,
                _ => {}
            }
        }
        Ok(pax)
    }
}

/// Splits the first record off PAX data.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let len: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let pair = data.get(space + 1..len.checked_sub(1)?)?;
    if data.get(len - 1) != Some(&b'\n') {
        return None;
    }
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], &data[len..]))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Cleans a name as Go's `path.Clean` does. An absolute name stays absolute and one that climbs out stays outside, so
/// that neither is ever taken for a file of the archive.
pub(crate) fn clean(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if name.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if name.starts_with('/') { format!("/{joined}") } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Bytes for &[u8] {
        fn skip(&mut self, count: u64) -> io::Result<()> {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if count > self.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *self = &self[count..];
            Ok(())
        }
    }

    fn walk(tar: &[u8]) -> Result<Vec<Entry>> {
        let mut walker = Walker::new(tar, "x.tar".into(), 10);
        std::iter::from_fn(|| walker.next().transpose()).collect()
    }

    #[test]
    fn names_are_cleaned_as_go_does() {
        for (name, cleaned) in [
            ("./manifest.json", "manifest.json"),
            ("a/../manifest.json", "manifest.json"),
            ("../manifest.json", "../manifest.json"),
            ("a/../../manifest.json", "../manifest.json"),
            ("/manifest.json", "/manifest.json"),
            ("/../manifest.json", "/manifest.json"),
            ("blobs//sha256/./x", "blobs/sha256/x"),
        ] {
            assert_eq!(clean(name), cleaned, "{name}");
        }
    }

    #[test]
    fn long_names_and_content_are_found() {
        let name = "n".repeat(300);
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, &name, &b"abc"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let entries = walk(&tar).unwrap();
        assert_eq!(entries[0].name, name);
        assert_eq!(&tar[usize::try_from(entries[0].start).unwrap()..][..3], b"abc");
    }

    #[test]
    fn sparse_files_of_both_kinds_are_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append_pax_extensions([("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.realsize", b"64424509440")])
            .unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        builder.append_data(&mut header, "layer.tar", &b""[..]).unwrap();
        assert!(matches!(walk(&builder.into_inner().unwrap()), Err(Error::Sparse { .. })));

        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(0);
        header.set_path("layer.tar").unwrap();
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &b""[..]).unwrap();
        assert!(matches!(walk(&builder.into_inner().unwrap()), Err(Error::Sparse { .. })));
    }

    #[test]
    fn values_of_pax_may_hold_newlines() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("SCHILY.xattr.user.x", &b"a\n1 b"[..]), ("path", b"deep/name")]).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        builder.append_data(&mut header, "short", &b""[..]).unwrap();
        assert_eq!(walk(&builder.into_inner().unwrap()).unwrap()[0].name, "deep/name");
        for bad in ["x", "9 a=b\n", "3 a", "0 a=b\n", "7 path=\n", "99999999999999999999 a=b\n"] {
            assert!(Pax::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_hold() {
        let mut builder = tar::Builder::new(Vec::new());
        for i in 0..11 {
            let mut header = Header::new_gnu();
            header.set_size(0);
            builder.append_data(&mut header, format!("{i}"), &b""[..]).unwrap();
        }
        assert!(matches!(walk(&builder.into_inner().unwrap()), Err(Error::Limit { .. })));

        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(matches!(walk(header.as_bytes()), Err(Error::Limit { .. })));
        header.set_entry_type(EntryType::Regular);
        header.set_size(u64::MAX - 5);
        header.set_cksum();
        assert!(matches!(walk(header.as_bytes()), Err(Error::Tar { .. })));
    }

    #[test]
    fn a_cut_archive_names_the_entry() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(2000);
        builder.append_data(&mut header, "layer.tar", &[7; 2000][..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let error = walk(&tar[..1500]).unwrap_err();
        assert_eq!(error.to_string(), "x.tar is cut off in layer.tar");
        assert!(matches!(walk(&[b'x'; 600]), Err(Error::Tar { .. })));
    }
}
