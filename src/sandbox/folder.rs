//! The sandbox's folder: made for one owner, locked while it lives, found again when the owner was killed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::process::Process;

/// The first part of a sandbox folder's name.
const PREFIX: &str = "ctrsh-sandbox-";
/// The file that the owner holds locked; the kernel lets go of the lock however the owner ends.
const LOCK: &str = "lock";
/// The file that names the owner and the processes it started.
const MARKER: &str = "sandbox.json";
/// The longest name that a socket in the folder has; containerd adds `.ttrpc` to its own.
const LONGEST_SOCKET: &str = "containerd.sock.ttrpc";
/// The room for a path in `sockaddr_un`, without the closing zero (unix(7)).
const SUN_PATH: usize = 107;

/// Who made a sandbox, and what it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// The boot that the start times count from.
    pub(super) boot: String,
    /// The process that made the sandbox.
    pub(super) owner: Option<Process>,
    /// The daemons that it started.
    pub(super) daemons: Vec<Process>,
}

/// A sandbox's folder, locked by this process.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    marker: Marker,
    /// Held for the lock on it.
    _lock: File,
}

impl Folder {
    /// Makes a new folder, readable by its owner alone, and locks it.
    pub(super) fn create(base: &Path) -> Result<Self, Error> {
        // The path ends up in sockets and mount tables, where it has to be absolute and without links.
        let base = base.canonicalize().map_err(|source| Error::File { action: "find", path: base.into(), source })?;
        loop {
            let path = base.join(format!("{PREFIX}{:08x}", rand::random::<u32>()));
            let socket = path.join(LONGEST_SOCKET);
            if socket.as_os_str().len() > SUN_PATH {
                return Err(Error::PathTooLong { path: socket });
            }
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(Error::File { action: "create", path, source }),
            }
            // Another sandbox that looks for stale folders may be faster than this lock; then it removes the folder.
            if let Some(lock) = try_lock(&path.join(LOCK), true)? {
                let marker = Marker { boot: boot(), owner: Process::current(), daemons: Vec::new() };
                let folder = Self { path, marker, _lock: lock };
                folder.write_marker()?;
                return Ok(folder);
            }
        }
    }

    /// Takes over the folders below `base` whose owners are gone.
    ///
    /// A folder that is no sandbox's, is another user's, or is still locked by its owner is left alone.
    pub(super) fn stale(base: &Path) -> Vec<Self> {
        let Ok(base) = base.canonicalize() else { return Vec::new() };
        let entries = fs::read_dir(base).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
        named.filter_map(|entry| Self::take_over(entry.path())).collect()
    }

    fn take_over(path: PathBuf) -> Option<Self> {
        let about = fs::symlink_metadata(&path).ok()?;
        let mine = about.uid() == rustix::process::geteuid().as_raw();
        if !about.is_dir() || !mine || about.permissions().mode() & 0o077 != 0 {
            return None;
        }
        let lock = try_lock(&path.join(LOCK), false).ok()??;
        let marker = fs::read(path.join(MARKER)).ok().and_then(|bytes| serde_json::from_slice::<Marker>(&bytes).ok());
        let mut marker = marker.unwrap_or_else(|| Marker { boot: boot(), owner: None, daemons: Vec::new() });
        if marker.boot != boot() {
            // After a reboot the same pid and start time would name a stranger.
            marker.daemons.clear();
        }
        Some(Self { path, marker, _lock: lock })
    }

    /// Returns where the folder is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns who made it and what was started.
    pub(super) fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Returns the path of a file in the folder.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a folder in it, readable by its owner alone.
    pub(super) fn make_folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| Error::File { action: "create", path: path.clone(), source })?;
        Ok(path)
    }

    /// Writes a file in it, readable by its owner alone.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        use std::io::Write;
        let path = self.join(name);
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| Error::File { action: "write", path: path.clone(), source })?;
        Ok(path)
    }

    /// Notes a daemon that was started, for whoever has to clean up after a kill.
    pub(super) fn note(&mut self, daemon: Process) -> Result<(), Error> {
        self.marker.daemons.push(daemon);
        self.write_marker()
    }

    /// Writes the marker by way of a rename, so that it is never read half written.
    fn write_marker(&self) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(&self.marker).unwrap_or_default();
        let new = self.write("sandbox.json.new", &text)?;
        let path = self.join(MARKER);
        fs::rename(new, &path).map_err(|source| Error::File { action: "write", path, source })
    }

    /// Removes the folder with all that is in it; nothing may be mounted there any more.
    ///
    /// The marker and the lock go last: a removal that fails or is killed half way is found again and finished.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let gone = |done: io::Result<()>, path: &Path| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|source| Error::File { action: "remove", path: path.into(), source }),
        };
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.path());
        let (last, rest): (Vec<_>, Vec<_>) = entries.partition(|path| path.ends_with(LOCK) || path.ends_with(MARKER));
        for path in rest {
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|about| about.is_dir());
            gone(if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }, &path)?;
        }
        for path in last {
            gone(fs::remove_file(&path), &path)?;
        }
        gone(fs::remove_dir(&self.path), &self.path)
    }
}

/// Locks a file without waiting; returns nothing when another process holds the lock or the file is missing.
fn try_lock(path: &Path, create: bool) -> Result<Option<File>, Error> {
    let failed = |source| Error::File { action: "lock", path: path.into(), source };
    let flags = rustix::fs::OFlags::NOFOLLOW.bits();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .mode(0o600)
        .custom_flags(i32::try_from(flags).unwrap_or_default())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    }
    // The file may have been removed between opening and locking; a lock on a removed file guards nothing.
    let same = fs::metadata(path).ok().zip(file.metadata().ok()).is_some_and(|(a, b)| a.ino() == b.ino());
    Ok(same.then_some(file))
}

/// Returns the id of this boot (random(4), boot_id).
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_stale_only_when_its_owner_let_go() {
        let base = tempfile::tempdir().unwrap();
        let mut folder = Folder::create(base.path()).unwrap();
        let me = Process::current().unwrap();
        folder.note(me).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(Folder::stale(base.path()).is_empty(), "it is locked");
        let path = folder.path().to_owned();
        drop(folder);
        let found = Folder::stale(base.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path(), path);
        assert_eq!(found[0].marker().owner, Some(me));
        assert_eq!(found[0].marker().daemons, [me]);
        found[0].remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn daemons_of_an_earlier_boot_are_forgotten() {
        let base = tempfile::tempdir().unwrap();
        let mut folder = Folder::create(base.path()).unwrap();
        folder.marker.boot = "another".into();
        folder.note(Process::current().unwrap()).unwrap();
        drop(folder);
        assert_eq!(Folder::stale(base.path())[0].marker().daemons, []);
    }

    #[test]
    fn what_is_no_sandbox_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("ctrsh-sandbox-00000001");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(open.join(LOCK), "").unwrap();
        let bare = base.path().join("ctrsh-sandbox-00000002");
        fs::DirBuilder::new().mode(0o700).create(bare).unwrap();
        std::os::unix::fs::symlink(&open, base.path().join("ctrsh-sandbox-00000003")).unwrap();
        assert!(Folder::stale(base.path()).is_empty());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("x".repeat(80));
        fs::create_dir(&long).unwrap();
        assert!(matches!(Folder::create(&long), Err(Error::PathTooLong { .. })));
    }
}
