//! Writes a folder as a tar.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, major, minor, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use crate::layout::archive::Stop;
use crate::layout::error::{Error, Result};
use crate::layout::xattrs;

/// The longest name that a tar header holds itself.
const NAME: usize = 100;

/// Writes what lies below a folder, sorted by name, without the folder itself: its mode is that of the place where
/// somebody unpacked a root filesystem and says nothing of `/`.
pub(super) fn write(root: &Path, clamp: Option<DateTime<Utc>>, out: impl Write, stop: &Stop) -> Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| Error::io("open", root, error.into()))?;
    let clamp = clamp.map(|time| u64::try_from(time.timestamp()).unwrap_or_default());
    let mut tree = Tree { root, clamp, tar: Builder::new(out), links: HashMap::new(), stop };
    tree.folder(&folder, Path::new(""))?;
    tree.tar.finish().map_err(|error| failed("write the tar of", root, error))
}

struct Tree<'a, W: Write> {
    root: &'a Path,
    clamp: Option<u64>,
    tar: Builder<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    stop: &'a Stop,
}

impl<W: Write> Tree<'_, W> {
    /// Writes what is in a folder. Everything is opened relative to its folder and never through a link, so that a tree that
    /// changes under us cannot lead elsewhere.
    fn folder(&mut self, folder: &OwnedFd, path: &Path) -> Result<()> {
        for name in self.names(folder, path)? {
            let path = path.join(std::ffi::OsStr::from_bytes(&name));
            self.stop.check().map_err(|error| self.error("read", &path, error))?;
            let stat = statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| self.error("read", &path, error.into()))?;
            self.entry(folder, &name, &path, &stat)?;
        }
        Ok(())
    }

    fn names(&self, folder: &OwnedFd, path: &Path) -> Result<Vec<Vec<u8>>> {
        let read = || -> io::Result<Vec<Vec<u8>>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(folder)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(name.to_vec());
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|error| self.error("list", path, error))
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: &Path, stat: &Stat) -> Result<()> {
        let fail = |error: rustix::io::Errno| Error::io("read", self.root.join(path), error.into());
        let open =
            |extra| openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | extra, Mode::empty());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let child = open(OFlags::DIRECTORY).map_err(fail)?;
                let xattrs = xattrs(&child).map_err(|error| self.error("read", path, error))?;
                self.append(path, EntryType::Directory, stat, None, &xattrs, io::empty())?;
                self.folder(&child, path)
            }
            FileType::RegularFile => {
                // Without NONBLOCK a pipe that took the file's place meanwhile would hold us up.
                let file = open(OFlags::NONBLOCK).map_err(fail)?;
                let xattrs = xattrs(&file).map_err(|error| self.error("read", path, error))?;
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).cloned() {
                        // Who unpacks it may give the file its owner again, which takes its capabilities away (chown(2);
                        // containerd `pkg/archive/tar.go`).
                        return self.append(path, EntryType::Link, stat, Some(&first), &xattrs, io::empty());
                    }
                    self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
                }
                self.append(path, EntryType::Regular, stat, None, &xattrs, File::from(file))
            }
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).map_err(fail)?;
                let target = PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes()));
                self.append(path, EntryType::Symlink, stat, Some(&target), &[], io::empty())
            }
            FileType::CharacterDevice => self.append(path, EntryType::Char, stat, None, &[], io::empty()),
            FileType::BlockDevice => self.append(path, EntryType::Block, stat, None, &[], io::empty()),
            FileType::Fifo => self.append(path, EntryType::Fifo, stat, None, &[], io::empty()),
            // A socket means nothing without its process, and tar has no type for it.
            _ => Ok(()),
        }
    }

    fn append(
        &mut self,
        path: &Path,
        kind: EntryType,
        stat: &Stat,
        link: Option<&Path>,
        xattrs: &[(CString, Vec<u8>)],
        content: impl Read,
    ) -> Result<()> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        let link = link.map(|link| link.as_os_str().as_bytes().to_vec()).unwrap_or_default();
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len().min(NAME)].copy_from_slice(&name[..name.len().min(NAME)]);
        old.linkname[..link.len().min(NAME)].copy_from_slice(&link[..link.len().min(NAME)]);
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        // Before 1970 there is no tar.
        let mtime = u64::try_from(stat.st_mtime).unwrap_or_default();
        header.set_mtime(self.clamp.map_or(mtime, |clamp| mtime.min(clamp)));
        let size = if kind == EntryType::Regular { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
        header.set_size(size);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let failed = |error| failed("write the tar of", self.root, error);
            header.set_device_major(major(stat.st_rdev)).map_err(failed)?;
            header.set_device_minor(minor(stat.st_rdev)).map_err(failed)?;
        }
        header.set_cksum();

        let mut records: Vec<(&str, &[u8])> = Vec::new();
        if name.len() > NAME {
            records.push(("path", &name));
        }
        if link.len() > NAME {
            records.push(("linkpath", &link));
        }
        // A name that is no text cannot be the key of a record (pax(1)).
        let keyed = xattrs.iter().filter_map(|(name, value)| Some((name.to_str().ok()?, value.as_slice())));
        let keyed: Vec<_> = keyed.map(|(name, value)| (format!("SCHILY.xattr.{name}"), value)).collect();
        records.extend(keyed.iter().map(|(key, value)| (key.as_str(), *value)));

        let mut content = Exact { inner: content, left: size, short: false };
        let written = self.tar.append_pax_extensions(records).and_then(|()| self.tar.append(&header, &mut content));
        if content.short {
            return Err(Error::Changed {
                path: self.root.join(path).display().to_string(),
                expected: size,
                actual: size - content.left,
            });
        }
        written.map_err(|error| failed("read", &self.root.join(path), error))
    }

    fn error(&self, action: &'static str, path: &Path, error: io::Error) -> Error {
        Error::io(action, self.root.join(path), error)
    }
}

/// Gives exactly the bytes that a header announced.
struct Exact<R> {
    inner: R,
    left: u64,
    short: bool,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..want])?;
        if n == 0 {
            self.short = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Brings out an error of this layer that a writer below had to wrap.
fn failed(action: &'static str, path: &Path, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::io(action, path, error),
    }
}
