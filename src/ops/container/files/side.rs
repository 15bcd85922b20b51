//! The two places that files are copied between: a container's root, and this host.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

/// How often a path is looked up anew when something was renamed meanwhile (`openat2(2)`, EAGAIN).
const TRIES: usize = 64;

/// One of the two places.
pub(super) struct Side {
    /// The root that no path and no link leads out of; none for the host's own.
    pub(super) root: Option<OwnedFd>,
    /// What stands before a path in messages.
    pub(super) label: String,
}

/// Where something goes.
pub(super) struct Place {
    /// The folder.
    pub(super) folder: OwnedFd,
    /// The name that it gets there; without one, what is in it goes into the folder.
    pub(super) name: Option<OsString>,
    /// How that is told.
    pub(super) shown: String,
}

impl Side {
    /// Opens what a path leads to. In a container links are resolved as its processes see them.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let Some(root) = &self.root else { return Ok(openat(CWD, path, flags, Mode::empty())?) };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match openat2(root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => {
                    return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel is older than Linux 5.6"));
                }
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Returns how a path is told.
    pub(super) fn name(&self, path: &Path) -> String {
        format!("{}{}", self.label, path.display())
    }

    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Decides where a source goes, as `docker cp` does: into a folder that is there, else it gets that name.
    ///
    /// `name` is the source's own; a folder without one, or of which only the content is meant, is merged into what is
    /// there.
    pub(super) fn place(&self, target: &Path, name: Option<&OsStr>, is_folder: bool) -> io::Result<Place> {
        match self.open(target, OFlags::PATH) {
            Ok(found) if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Directory => {
                let shown = self.name(&name.map_or_else(|| target.to_owned(), |name| target.join(name)));
                Ok(Place { folder: self.folder(target)?, name: name.map(OsStr::to_owned), shown })
            }
            Ok(_) if is_folder => Err(Errno::NOTDIR.into()),
            Ok(_) => self.beside(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let wants_folder = target.as_os_str().as_encoded_bytes().ends_with(b"/");
                if wants_folder && !is_folder { Err(error) } else { self.beside(target) }
            }
            Err(error) => Err(error),
        }
    }

    fn beside(&self, target: &Path) -> io::Result<Place> {
        let name = target.file_name().ok_or(Errno::NOENT)?;
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Place { folder: self.folder(folder)?, name: Some(name.to_owned()), shown: self.name(target) })
    }
}
