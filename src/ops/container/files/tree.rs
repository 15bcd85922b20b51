//! Copies a file, or a tree of them, from one folder to another.
//!
//! Everything is opened relative to its folder and never through a link, so that neither a tree that changes meanwhile nor
//! one that was made to mislead can lead elsewhere.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, StatxAttributes, StatxFlags,
    Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, copy_file_range, fchmod, fchown, fsetxattr, fstat,
    ftruncate, futimens, linkat, mkdirat, mknodat, openat, openat2, renameat, seek, statx, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::item::{Item, is_view, open_as};
use super::side::Place;
use crate::layout;
use crate::ops::progress::Meter;
use crate::ops::{Error, Result};

/// How deep folders may lie in one another: each that is open costs two descriptors.
const MAX_DEPTH: usize = 256;
/// How much is copied before it is looked whether to go on.
const CHUNK: u64 = 8 << 20;
/// How much is read at once where the kernel cannot copy.
const BUFFER: usize = 1 << 20;
/// How long what the kernel has nothing to say of yet is left alone before it is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// What a file must not bring along to a host: it would run there as somebody else.
const SET_IDS: u32 = 0o6000;

/// What becomes of owners, modes and what is neither file, folder nor link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Whether owners, attributes and devices are kept as they are.
    pub(super) archive: bool,
    /// Whom the copies belong to otherwise; without it, to whoever copies.
    pub(super) owner: Option<(Uid, Gid)>,
    /// Whether files lose their set-user-ID and set-group-ID bits.
    pub(super) harmless: bool,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many files, links and folders.
    pub files: u64,
    /// How many bytes of files.
    pub bytes: u64,
    /// How many things that are not copied: sockets, devices unless all is kept, and what shows the kernel's state.
    pub left_out: u64,
    /// How many files and folders have attributes that the target's file system does not take.
    pub bare: u64,
}

/// A copy under way.
pub(super) struct Copying {
    rules: Rules,
    as_root: bool,
    cancel: CancellationToken,
    meter: Arc<dyn Meter>,
    place: Place,
    /// Whether what is copied is itself in a view of the kernel's.
    of_view: bool,
    /// The copy of each file that has several names, from the folder of the place.
    links: HashMap<(u64, u64), PathBuf>,
    tally: Tally,
    bare: Cell<u64>,
    source: String,
}

impl Copying {
    /// Begins a copy to a place; `source` is how it is told where from.
    pub(super) fn new(
        rules: Rules,
        source: String,
        place: Place,
        cancel: CancellationToken,
        meter: Arc<dyn Meter>,
    ) -> Self {
        let as_root = rustix::process::geteuid().is_root();
        let (links, tally) = (HashMap::new(), Tally::default());
        Self { rules, as_root, cancel, meter, place, of_view: false, links, tally, bare: Cell::new(0), source }
    }

    /// Copies all of it.
    pub(super) fn run(mut self, item: Item) -> Result<Tally> {
        let top = Path::new("");
        let folder = self.place.folder.try_clone().map_err(|error| self.unwritten(top, error))?;
        self.of_view = matches!(&item, Item::Folder(from, _) if is_view(from));
        match (self.place.name.clone(), item) {
            (Some(name), item) => self.put(item, &folder, &name, top, 1)?,
            (None, Item::Folder(from, _)) => self.content(&from, &folder, top, 1)?,
            (None, _) => return Err(self.unwritten(top, Errno::ISDIR.into())),
        }
        Ok(Tally { bare: self.bare.get(), ..self.tally })
    }

    fn unread(&self, path: &Path, error: io::Error) -> Error {
        Error::file("read", &below(Path::new(&self.source), path))(error)
    }

    fn unwritten(&self, path: &Path, error: io::Error) -> Error {
        Error::file("write", &below(Path::new(&self.place.shown), path))(error)
    }

    fn content(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(self.unread(path, io::Error::other(format!("folders lie more than {MAX_DEPTH} deep"))));
        }
        for name in names(from).map_err(|error| self.unread(path, error))? {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            match Item::below(from, &name) {
                Ok(item) => self.put(item, to, OsStr::from_bytes(name.to_bytes()), &path, depth)?,
                // A container that runs changes its files.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.unread(&path, error)),
            }
        }
        Ok(())
    }

    fn put(&mut self, item: Item, to: &OwnedFd, name: &OsStr, path: &Path, depth: usize) -> Result<()> {
        self.go_on()?;
        let done = match item {
            Item::Folder(from, stat) => {
                let (folder, is_new) = make(to, name).map_err(|error| self.unwritten(path, error))?;
                if !self.of_view && is_view(&from) {
                    self.tally.left_out += 1;
                } else {
                    self.content(&from, &folder, path, depth + 1)?;
                }
                // A folder that was there keeps what it is.
                if is_new { self.dress(&folder, &stat, Some(from.as_fd())) } else { Ok(()) }
            }
            Item::File(file, stat) => return self.file(&file, &stat, to, name, path),
            Item::Link(target, stat) => self.replace(to, name, |temporary| {
                symlinkat(target.as_c_str(), to, temporary)?;
                if let Some((uid, gid)) = self.owner(&stat) {
                    chownat(to, temporary, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                utimensat(to, temporary, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
            }),
            Item::Special(stat) => {
                let kind = FileType::from_raw_mode(stat.st_mode);
                let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
                if kind != FileType::Fifo && !(is_device && self.rules.archive && self.as_root) {
                    self.tally.left_out += 1;
                    return Ok(());
                }
                self.replace(to, name, |temporary| {
                    let mode = Mode::from_raw_mode(self.mode(&stat));
                    mknodat(to, temporary, kind, mode, stat.st_rdev)?;
                    // What the umask took away, of what was made and not of what has its name by now.
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let made = openat(to, temporary, flags, Mode::empty())?;
                    if FileType::from_raw_mode(fstat(&made)?.st_mode) == kind {
                        chmodat(CWD, open_as(&made).as_str(), mode, AtFlags::empty())?;
                    }
                    if let Some((uid, gid)) = self.owner(&stat) {
                        chownat(to, temporary, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                    }
                    utimensat(to, temporary, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
                })
            }
        };
        done.map_err(|error| self.unwritten(path, error))?;
        self.tally.files += 1;
        Ok(())
    }

    /// Copies a file whole, which then takes its name, or makes another name of the copy that there is.
    fn file(&mut self, from: &File, stat: &Stat, to: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&key).cloned()
            && self.replace(to, name, |temporary| self.link(&first, to, temporary)).is_ok()
        {
            self.tally.files += 1;
            return Ok(());
        }
        if is_mount(to, name) {
            // As on a container's /etc/hosts: another file would take the mount away (rename(2)), so this one is written.
            let there = mounted(to, name, stat).map_err(|error| self.unwritten(path, error))?;
            self.tally.bytes += self.data(from, &there, path)?;
        } else {
            self.tally.bytes += self.place(from, stat, to, name, path)?;
            if stat.st_nlink > 1 {
                let name = self.place.name.as_deref().unwrap_or_default();
                self.links.insert(key, below(Path::new(name), path));
            }
        }
        self.tally.files += 1;
        Ok(())
    }

    /// Copies a file under another name, and gives it its own when it is whole. Returns its length.
    fn place(&self, from: &File, stat: &Stat, to: &OwnedFd, name: &OsStr, path: &Path) -> Result<u64> {
        let temporary = temporary();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(to, &temporary, flags, Mode::from_raw_mode(0o600));
        let copy = File::from(made.map_err(|error| self.unwritten(path, error.into()))?);
        let copied = self.data(from, &copy, path).and_then(|length| {
            let dressed = self.dress(copy.as_fd(), stat, Some(from.as_fd()));
            dressed.map_err(|error| self.unwritten(path, error))?;
            renameat(to, &temporary, to, name).map_err(|error| self.unwritten(path, error.into()))?;
            Ok(length)
        });
        if copied.is_err() {
            let _ = unlinkat(to, &temporary, AtFlags::empty());
        }
        copied
    }

    /// Makes another name of a file that was copied before.
    fn link(&self, first: &Path, to: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let first = openat2(
            &self.place.folder,
            first,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?;
        linkat(&first, c"", to, name, AtFlags::EMPTY_PATH)
    }

    /// Makes something under another name, which then takes the place of what has the name.
    fn replace(
        &self,
        to: &OwnedFd,
        name: &OsStr,
        make: impl FnOnce(&OsStr) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        if is_mount(to, name) {
            return Err(Errno::BUSY.into());
        }
        let temporary = temporary();
        let made = make(OsStr::new(&temporary)).and_then(|()| renameat(to, &temporary, to, name));
        // Of two names of one file a rename takes none away.
        let _ = unlinkat(to, &temporary, AtFlags::empty());
        Ok(made?)
    }

    /// Copies what is in a file, and returns how much that is; its holes stay holes.
    fn data(&self, from: &File, to: &File, path: &Path) -> Result<u64> {
        let unread = |error: Errno| self.unread(path, error.into());
        let size = u64::try_from(fstat(from).map_err(unread)?.st_size).unwrap_or_default();
        // What the kernel shows says that it is empty. Any other file ends where it does now: who appends to it faster than it
        // is copied would fill the disk.
        if size == 0 && is_view(from) {
            return self.range(from, to, 0, u64::MAX, path);
        }
        let mut at = 0;
        while at < size {
            let begin = match seek(from, SeekFrom::Data(at)) {
                // Nothing but a hole follows.
                Err(Errno::NXIO) => break,
                // The file system knows no holes.
                Err(Errno::INVAL) => at,
                other => other.map_err(unread)?,
            };
            let end = match seek(from, SeekFrom::Hole(begin)) {
                Err(Errno::INVAL | Errno::NXIO) => size,
                other => other.map_err(unread)?.min(size),
            };
            at = self.range(from, to, begin, end, path)?;
            // It became shorter meanwhile.
            if at < end {
                return Ok(at);
            }
        }
        ftruncate(to, size).map_err(|error| self.unwritten(path, error.into()))?;
        Ok(size)
    }

    /// Copies a part of a file, and returns where that ended.
    fn range(&self, from: &File, to: &File, begin: u64, end: u64, path: &Path) -> Result<u64> {
        let (mut source, mut target) = (from, to);
        let mut buffer = Vec::new();
        let mut at = begin;
        while at < end {
            self.go_on()?;
            let wanted = usize::try_from((end - at).min(CHUNK)).unwrap_or(BUFFER);
            // The kernel copies without us where it can, and says wrongly of procfs that there is nothing.
            let by_kernel = buffer.is_empty() && end != u64::MAX;
            let copied = match by_kernel
                .then(|| copy_file_range(from, Some(&mut at.clone()), to, Some(&mut at.clone()), wanted))
            {
                Some(Ok(copied @ 1..)) => copied,
                _ => {
                    if buffer.is_empty() {
                        buffer.resize(BUFFER, 0);
                        source.seek(io::SeekFrom::Start(at)).map_err(|error| self.unread(path, error))?;
                        target.seek(io::SeekFrom::Start(at)).map_err(|error| self.unwritten(path, error))?;
                    }
                    let part = &mut buffer[..wanted.min(BUFFER)];
                    let read = self.read(source, part, path)?;
                    target.write_all(&part[..read]).map_err(|error| self.unwritten(path, error))?;
                    read
                }
            };
            if copied == 0 {
                break;
            }
            self.meter.advance(copied as u64);
            at += copied as u64;
        }
        Ok(at)
    }

    /// Reads what there is of a file, as soon as there is something.
    fn read(&self, mut source: &File, part: &mut [u8], path: &Path) -> Result<usize> {
        loop {
            match source.read(part) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // As of /proc/kmsg, which was opened so that it says this.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                other => return other.map_err(|error| self.unread(path, error)),
            }
            self.go_on()?;
        }
    }

    /// Fails when the user stopped it.
    fn go_on(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn mode(&self, stat: &Stat) -> u32 {
        let mode = stat.st_mode & 0o7777;
        if self.rules.harmless && !self.rules.archive { mode & !SET_IDS } else { mode }
    }

    fn owner(&self, stat: &Stat) -> Option<(Uid, Gid)> {
        let kept = self.rules.archive.then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        kept.or(self.rules.owner).filter(|_| self.as_root)
    }

    /// Gives a copy its owner, mode, attributes and time.
    fn dress(&self, copy: impl AsFd, stat: &Stat, from: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(stat) {
            fchown(&copy, Some(uid), Some(gid))?;
        }
        // After the owner, whose change takes some bits away.
        fchmod(&copy, Mode::from_raw_mode(self.mode(stat)))?;
        if let Some(from) = from.filter(|_| self.rules.archive) {
            self.attributes(from, copy.as_fd())?;
        }
        Ok(futimens(&copy, &times(stat))?)
    }

    /// Copies the attributes that are a file's own, such as its capabilities; those that a security module gives are not.
    fn attributes(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        for (name, value) in layout::xattrs(from)? {
            match fsetxattr(to, &name, &value, XattrFlags::empty()) {
                Ok(()) => {}
                // The file is whole without them, and no other one would do better there.
                Err(Errno::OPNOTSUPP) => {
                    self.bare.set(self.bare.get() + 1);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Returns whether something is mounted at a name. The kernel lets who is in another mount namespace take its place.
fn is_mount(folder: &OwnedFd, name: &OsStr) -> bool {
    let Ok(found) = statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) else { return false };
    if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    }
    // Linux before 5.8 does not say.
    let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
    fstat(folder).is_ok_and(|of| of.st_dev != device)
}

/// Opens a file that is mounted on a name, to be written anew with the one that `from` tells of.
fn mounted(folder: &OwnedFd, name: &OsStr, from: &Stat) -> io::Result<File> {
    let found = openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::BUSY.into());
    }
    // Writing it anew begins with emptying it.
    if (stat.st_dev, stat.st_ino) == (from.st_dev, from.st_ino) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is the same file, mounted there"));
    }
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    Ok(File::from(openat(CWD, open_as(&found).as_str(), flags, Mode::empty())?))
}

/// Joins what may be empty.
fn below(folder: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { folder.to_owned() } else { folder.join(path) }
}

/// Makes a folder, or opens the one that is there; says which.
fn make(to: &OwnedFd, name: &OsStr) -> io::Result<(OwnedFd, bool)> {
    let is_new = match mkdirat(to, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok((openat(to, name, flags, Mode::empty())?, is_new))
}

fn temporary() -> String {
    format!(".ctrsh-{:016x}", rand::random::<u64>())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or_default(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Lists a folder, sorted.
fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a file grow whenever something was copied.
    struct Grow(File);

    impl Meter for Grow {
        fn advance(&self, _bytes: u64) {
            if self.0.metadata().unwrap().len() < 32 << 20 {
                (&self.0).write_all(&[7; 4096]).unwrap();
            }
        }

        fn rewind(&self, _bytes: u64) {}

        fn phase(&self, _phase: &'static str) {}

        fn done(&self, _outcome: &'static str) {}
    }

    #[test]
    fn what_was_empty_is_copied_to_where_it_ends_by_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let growing = std::fs::OpenOptions::new().append(true).create(true).open(path("log")).unwrap();
        let from = File::open(path("log")).unwrap();
        let stat = fstat(&from).unwrap();
        (&growing).write_all(b"begun").unwrap();
        let there = OwnedFd::from(File::open(folder.path()).unwrap());
        let place = Place { folder: there.try_clone().unwrap(), name: None, shown: String::new() };
        let rules = Rules { archive: false, owner: None, harmless: false };
        let meter = Arc::new(Grow(growing));
        let mut copying = Copying::new(rules, String::new(), place, CancellationToken::new(), meter);
        copying.file(&from, &stat, &there, OsStr::new("copy"), Path::new("copy")).unwrap();
        assert_eq!(std::fs::read(path("copy")).unwrap(), b"begun");
        assert_eq!((copying.tally.files, copying.tally.bytes), (1, 5));
    }
}
