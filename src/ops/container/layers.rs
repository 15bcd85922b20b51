//! The layers of a filesystem that is not mounted, and what they make together.
//!
//! They are merged as overlayfs does it (kernel `Documentation/filesystems/overlayfs.rst`): the topmost entry counts, a
//! whiteout hides what is below, folders merge unless opaque. No link is followed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::containerd::snapshots::Mount;

/// The folders that a filesystem is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folders {
    /// The one that is written, or the only one. Several that are only read have none.
    pub(super) upper: Option<String>,
    /// Those below it, the topmost first.
    pub(super) lower: Vec<String>,
}

impl Folders {
    /// Finds them in how a snapshot is mounted.
    ///
    /// # Errors
    /// Why they are only to be seen when it is mounted.
    pub(super) fn of(mounts: &[Mount]) -> io::Result<Self> {
        let unsupported = |why: String| io::Error::new(io::ErrorKind::Unsupported, why);
        let [mount] = mounts else { return Err(unsupported("it is made of several mounts".into())) };
        match mount.kind.as_str() {
            "bind" => Ok(Self { upper: Some(mount.source.clone()), lower: Vec::new() }),
            "overlay" => {
                let lower = option(mount, "lowerdir").into_iter().flat_map(|text| text.split(':'));
                Ok(Self {
                    upper: option(mount, "upperdir").map(str::to_owned),
                    lower: lower.map(str::to_owned).collect(),
                })
            }
            other => {
                let kind = crate::oci::excerpt(other);
                Err(unsupported(format!("it is a {kind} filesystem that would have to be mounted")))
            }
        }
    }
}

/// Returns an option of a mount that has a value.
pub(super) fn option<'a>(mount: &'a Mount, name: &str) -> Option<&'a str> {
    mount.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

/// Opens folders to look names up in.
pub(super) fn open<'a>(folders: impl IntoIterator<Item = &'a String>) -> io::Result<Vec<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    folders.into_iter().map(|folder| Ok(openat(CWD, folder.as_str(), flags, Mode::empty())?)).collect()
}

/// What stands at one name of a merged folder.
pub(super) struct Found {
    /// What the topmost layer says of it.
    pub(super) stat: Stat,
    /// Which layer that is.
    pub(super) layer: usize,
    /// For a folder those that merge into it, each with its layer, the topmost first.
    pub(super) folders: Vec<(usize, OwnedFd)>,
}

/// Looks a name up in a folder that these merge into.
pub(super) fn lookup(layers: &[OwnedFd], name: &OsStr) -> io::Result<Option<Found>> {
    let mut merged: Option<Found> = None;
    for (layer, above) in layers.iter().enumerate() {
        let stat = match statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            // Below a folder only folders merge; a file or whiteout there ends what shines through.
            if merged.is_none() && !is_whiteout(&stat) {
                merged = Some(Found { stat, layer, folders: Vec::new() });
            }
            break;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(above, name, flags, Mode::empty())?;
        let ends = is_opaque(&folder);
        merged.get_or_insert(Found { stat, layer, folders: Vec::new() }).folders.push((layer, folder));
        if ends {
            break;
        }
    }
    Ok(merged)
}

/// Returns whether an entry hides what is below it.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Returns whether a folder hides what the layers below have of it.
pub(super) fn is_opaque(folder: &OwnedFd) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0_u8; 4];
        rustix::fs::fgetxattr(folder, *name, &mut value[..]).is_ok_and(|length| value.starts_with(b"y") && length == 1)
    })
}

/// Returns whether the layers below have a folder under another name: overlayfs moves one so with `redirect_dir`.
pub(super) fn is_moved(folder: &OwnedFd) -> bool {
    ["trusted.overlay.redirect", "user.overlay.redirect"]
        .iter()
        .any(|name| rustix::fs::fgetxattr(folder, *name, &mut [0_u8; 0][..]).is_ok())
}
