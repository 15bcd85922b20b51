//! What differs between a container's files and those of its image, where both are folders of this host.
//!
//! No folder is mounted and no link is followed. Of an overlay only the upper folder is walked, which has what was
//! written; a whole copy is compared with what it was made of, name by name. The container may run meanwhile: what
//! vanishes under the walk is left out.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::layers::{self, Found};
use crate::oci::spec::IdMap;
use crate::ops::{Error, Result};

/// How deep folders may nest.
const DEPTH: usize = 1000;
/// How many changes are listed. A script takes no more of them as maps.
const MAX_CHANGES: usize = 300_000;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The image has nothing there.
    Added,
    /// The image has something else there.
    Modified,
    /// The container has nothing there.
    Deleted,
}

impl Fate {
    /// Returns its name in scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
        }
    }
}

/// A file that a container changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it is in the container.
    pub path: PathBuf,
    /// What became of it.
    pub fate: Fate,
}

/// The files of a container, and those that they are compared with.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    /// The folder of the container's files.
    pub(super) upper: String,
    /// Those of the image, the topmost first.
    pub(super) lower: Vec<String>,
    /// Whether the container's folder has all its files, and not only those that were written.
    pub(super) is_whole: bool,
    /// How users and groups of the image are shown to the container, where the kernel maps them.
    pub(super) maps: [Vec<IdMap>; 2],
}

impl Comparison {
    /// Returns what differs, sorted by path.
    ///
    /// # Errors
    /// [`Error::File`] when a folder cannot be read, or there is too much.
    pub(super) fn run(&self, cancel: &CancellationToken) -> Result<Vec<Change>> {
        let failed = |folder: &str| Error::file("read", Path::new(folder));
        let root = |folder: &String| layers::open([folder]).map_err(failed(folder));
        let mut walk = Walk {
            comparison: self,
            upper: root(&self.upper)?.remove(0),
            lower: self.lower.iter().map(root).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
            cancel,
            pending: Vec::new(),
            changes: Vec::new(),
        };
        let all = (0..self.lower.len()).collect();
        walk.pending.push(Pending { path: PathBuf::new(), depth: 0, below: all, is_whole: self.is_whole });
        // A list of what is ahead in place of a call within a call: folders may nest deep.
        while let Some(next) = walk.pending.pop() {
            match walk.folder(&next) {
                Err(_) if cancel.is_cancelled() => return Err(Error::Cancelled),
                other => other.map_err(Error::file("read", &Path::new(&self.upper).join(&next.path)))?,
            }
        }
        let mut changes = walk.changes;
        changes.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        Ok(changes)
    }

    /// Returns whether two entries of one name are not the same.
    fn differs(&self, upper: &Entry<'_>, lower: &Entry<'_>) -> io::Result<bool> {
        let (new, old) = (upper.stat, lower.stat);
        let kind = FileType::from_raw_mode(new.st_mode);
        let shown = |maps: &[IdMap], id: u32| maps.iter().find_map(|map| map.host_of(id)).unwrap_or(id);
        let [users, groups] = &self.maps;
        let owner = (shown(users, old.st_uid), shown(groups, old.st_gid));
        if new.st_mode != old.st_mode || (new.st_uid, new.st_gid) != owner {
            return Ok(true);
        }
        if kind == FileType::Directory {
            return Ok(false);
        }
        // Only what was opened to write, or made anew, is in the upper folder of an overlay.
        if !self.is_whole {
            return Ok(true);
        }
        let about = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_rdev);
        Ok(about(new) != about(old) || (kind == FileType::Symlink && upper.target()? != lower.target()?))
    }
}

/// One name of a folder, and what is known of it.
struct Entry<'a> {
    folder: &'a OwnedFd,
    name: &'a OsStr,
    stat: &'a Stat,
}

impl Entry<'_> {
    fn target(&self) -> io::Result<Vec<u8>> {
        Ok(readlinkat(self.folder, self.name, Vec::new())?.into_bytes())
    }
}

/// A folder that is still to be looked into. It is opened only then, so that descriptors do not grow with the folders.
struct Pending {
    path: PathBuf,
    depth: usize,
    /// Which folders of the image have it.
    below: Vec<usize>,
    /// Whether nothing of the image shines through: what the container has not got there is deleted.
    is_whole: bool,
}

struct Walk<'a> {
    comparison: &'a Comparison,
    upper: OwnedFd,
    lower: Vec<OwnedFd>,
    cancel: &'a CancellationToken,
    pending: Vec<Pending>,
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn folder(&mut self, this: &Pending) -> io::Result<()> {
        if this.depth > DEPTH {
            return Err(io::Error::other("its folders nest too deep"));
        }
        let Some(upper) = descend(&self.upper, &this.path)? else { return Ok(()) };
        if layers::is_moved(&upper) {
            let why =
                "it was moved as a whole (redirect_dir of overlayfs); snapshots::diff makes a layer of what changed";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let is_whole = this.is_whole || layers::is_opaque(&upper);
        let (mut below, mut lower) = (Vec::new(), Vec::new());
        for layer in &this.below {
            if let Some(folder) = descend(&self.lower[*layer], &this.path)? {
                below.push(*layer);
                lower.push(folder);
            }
        }
        let present = names(&upper)?;
        for name in &present {
            let Some((entry, found)) = self.entry(this, &upper, &lower, name)? else { continue };
            let found = found.map_or_else(Vec::new, |found| found.folders);
            if FileType::from_raw_mode(entry.st_mode) == FileType::Directory {
                self.pending.push(Pending {
                    path: this.path.join(name),
                    depth: this.depth + 1,
                    below: found.into_iter().map(|(layer, _)| below[layer]).collect(),
                    is_whole,
                });
            }
        }
        if is_whole {
            let mut absent = BTreeSet::new();
            for folder in &lower {
                absent.extend(names(folder)?.into_iter().filter(|name| !present.contains(name)));
            }
            for name in absent {
                if layers::lookup(&lower, &name)?.is_some() {
                    self.note(this.path.join(name), Fate::Deleted)?;
                }
            }
        }
        Ok(())
    }

    /// Notes what became of one name that the container's folder has. Returns what stands there, and what the image
    /// has.
    fn entry(
        &mut self,
        this: &Pending,
        upper: &OwnedFd,
        lower: &[OwnedFd],
        name: &OsStr,
    ) -> io::Result<Option<(Stat, Option<Found>)>> {
        if self.cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let stat = match statat(upper, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let found = layers::lookup(lower, name)?;
        let fate = match &found {
            _ if !self.comparison.is_whole && layers::is_whiteout(&stat) => {
                if found.is_some() {
                    self.note(this.path.join(name), Fate::Deleted)?;
                }
                return Ok(None);
            }
            None => Some(Fate::Added),
            Some(found) => {
                let new = Entry { folder: upper, name, stat: &stat };
                let old = Entry { folder: &lower[found.layer], name, stat: &found.stat };
                match self.comparison.differs(&new, &old) {
                    // A link that vanished after it was seen.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    differs => differs?.then_some(Fate::Modified),
                }
            }
        };
        if let Some(fate) = fate {
            self.note(this.path.join(name), fate)?;
        }
        Ok(Some((stat, found)))
    }

    fn note(&mut self, path: PathBuf, fate: Fate) -> io::Result<()> {
        if self.changes.len() == MAX_CHANGES {
            let why = format!("more than {MAX_CHANGES} files differ; snapshots::diff makes a layer of them");
            return Err(io::Error::other(why));
        }
        self.changes.push(Change { path: Path::new("/").join(path), fate });
        Ok(())
    }
}

/// Opens a folder below another one, name by name and following no link; none when it is not there any more.
fn descend(root: &OwnedFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    let step = |folder: &OwnedFd, name: &OsStr, how: OFlags| {
        let flags = how | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            other => other.map(Some).map_err(io::Error::from),
        }
    };
    let mut at: Option<OwnedFd> = None;
    for name in path {
        match step(at.as_ref().unwrap_or(root), name, OFlags::PATH)? {
            None => return Ok(None),
            below => at = below,
        }
    }
    step(at.as_ref().unwrap_or(root), OsStr::from_bytes(b"."), OFlags::RDONLY)
}

/// Lists a folder.
fn names(folder: &OwnedFd) -> io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(OsString::from_vec(name));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn whole(upper: &Path, lower: &[&Path]) -> Comparison {
        let text = |path: &Path| path.display().to_string();
        let lower = lower.iter().map(|path| text(path)).collect();
        Comparison { upper: text(upper), lower, is_whole: true, maps: [Vec::new(), Vec::new()] }
    }

    fn told(comparison: &Comparison) -> Vec<String> {
        let changes = comparison.run(&CancellationToken::new()).unwrap();
        changes.iter().map(|change| format!("{} {}", change.fate.as_str(), change.path.display())).collect()
    }

    #[test]
    fn a_whole_copy_is_compared_name_by_name() {
        let place = tempfile::tempdir().unwrap();
        let (new, old, below) = (place.path().join("new"), place.path().join("old"), place.path().join("below"));
        fs::create_dir_all(new.join("same/deeper")).unwrap();
        fs::create_dir_all(old.join("same/deeper")).unwrap();
        fs::create_dir_all(below.join("low")).unwrap();
        fs::write(below.join("low/file"), "").unwrap();
        symlink("here", old.join("link")).unwrap();
        assert_eq!(told(&whole(&new, &[])), ["added /same", "added /same/deeper"]);
        assert_eq!(told(&whole(&new, &[&old, &below])), ["deleted /link", "deleted /low"]);
        fs::create_dir_all(new.join("link/inside")).unwrap();
        fs::create_dir_all(new.join("low")).unwrap();
        fs::write(old.join("same/file"), "one").unwrap();
        fs::write(new.join("same/file"), "two!").unwrap();
        fs::set_permissions(new.join("same/deeper"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(new.join("a-b"), "").unwrap();
        let seen = told(&whole(&new, &[&old, &below]));
        let expected = [
            "added /a-b",
            "modified /link",
            "added /link/inside",
            "deleted /low/file",
            "modified /same/deeper",
            "modified /same/file",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn owners_are_compared_as_the_kernel_maps_them() {
        let place = tempfile::tempdir().unwrap();
        for root in ["new", "old"] {
            fs::create_dir_all(place.path().join(root).join("folder")).unwrap();
        }
        let (new, old) = (place.path().join("new"), place.path().join("old"));
        let mut comparison = whole(&new, &[&old]);
        assert_eq!(told(&comparison), [""; 0]);
        let container = fs::metadata(&old).unwrap().uid();
        comparison.maps[0].push(IdMap { container, host: container + 1, size: 1 });
        assert_eq!(told(&comparison), ["modified /folder"]);
    }

    #[test]
    fn what_nests_too_deep_and_what_is_stopped_end_the_walk() {
        let place = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        fs::create_dir_all(place.path().join("a/".repeat(DEPTH))).unwrap();
        assert_eq!(whole(place.path(), &[]).run(&cancel).unwrap().len(), DEPTH);
        fs::create_dir(place.path().join("a/".repeat(DEPTH)).join("a")).unwrap();
        let error = whole(place.path(), &[]).run(&cancel).unwrap_err().to_string();
        assert!(error.ends_with("nest too deep"), "{error}");
        cancel.cancel();
        assert!(matches!(whole(place.path(), &[]).run(&cancel), Err(Error::Cancelled)));
        // What removes the place holds a descriptor for each level.
        for depth in (1..=DEPTH + 1).rev() {
            fs::remove_dir(place.path().join("a/".repeat(depth))).unwrap();
        }
    }
}
