//! Folders of FIFOs, which nobody else can look into and which go when nobody needs them any more.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The folders that go with their handles.
static THERE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn there<T>(work: impl FnOnce(&mut BTreeSet<PathBuf>) -> T) -> T {
    work(&mut THERE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Removes the folders whose handles are still in use, for a program that ends at once: nothing that holds one is taken apart
/// then.
pub fn remove_folders() {
    there(std::mem::take).iter().for_each(|path| remove(path));
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        // Whoever deleted the process took it along.
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %path.display(), %error, "a FIFO folder was left behind");
    }
}

/// A folder for the FIFOs of one process. It goes with its last handle, unless it was left to the process.
#[derive(Debug, Clone)]
pub struct FifoFolder(Arc<Folder>);

#[derive(Debug)]
struct Folder(PathBuf);

impl FifoFolder {
    /// Makes one with a name of its own.
    ///
    /// # Errors
    /// Fails when `parent` cannot be written.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        loop {
            let path = parent.join(format!("fifo-{:016x}", rand::random::<u64>()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    there(|all| all.insert(path.clone()));
                    return Ok(Self(Arc::new(Folder(path))));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.0
    }

    /// Lets it stay until [`remove_fifos`](super::remove_fifos) takes it away.
    pub(super) fn leave(&self) {
        there(|all| all.remove(self.path()));
    }
}

/// Two are the same when they are one folder.
impl PartialEq for FifoFolder {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
    }
}

impl Eq for FifoFolder {}

impl Drop for Folder {
    fn drop(&mut self) {
        if there(|all| all.remove(&self.0)) {
            remove(&self.0);
        }
    }
}

/// Makes a folder that only this user can look into, or checks that it is one.
///
/// # Errors
/// Fails when it is a link, no folder, or another user's: what is put there could be swapped.
pub fn private_folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a folder"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    Ok(())
}
