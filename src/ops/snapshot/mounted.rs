//! Snapshots that are mounted for as long as an operation looks at their files.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use super::mount::attach;
use crate::containerd::snapshots::Mount;
use crate::ops::{Error, Result};

/// A folder on which a filesystem is mounted while this lives.
pub(in crate::ops) struct Mounted {
    folder: PathBuf,
}

impl Mounted {
    /// Mounts a filesystem on a new folder below another one.
    pub(in crate::ops) fn new(mounts: &[Mount], below: &Path) -> Result<Self> {
        let failed = |source| Error::File { attempted: "mount in", path: below.display().to_string(), source };
        fs::create_dir_all(below).map_err(failed)?;
        let folder = tempfile::Builder::new().prefix("ctrsh-mount-").tempdir_in(below).map_err(failed)?.keep();
        let this = Self { folder };
        attach(mounts, &this.folder)?;
        Ok(this)
    }

    /// Returns the folder.
    pub(in crate::ops) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        while unmount(&self.folder, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
        if let Err(error) = fs::remove_dir(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "a folder was left behind");
        }
    }
}
