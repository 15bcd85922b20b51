//! A daemon of the sandbox: found, started, waited for.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::folder::Folder;
use super::process::Process;
use super::spawn::Spawner;

/// How many lines of a daemon's log an error quotes.
const QUOTED_LINES: usize = 5;

/// A daemon that was started.
#[derive(Debug)]
pub(super) struct Daemon {
    program: PathBuf,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program with its output in a log file of the folder, and notes it in the folder's marker.
    pub(super) fn start(
        folder: &mut Folder,
        spawner: &Spawner,
        program: &Path,
        arguments: &[&str],
        search: &[PathBuf],
    ) -> Result<Self, Error> {
        let spawn_error = |source| Error::Spawn { program: program.into(), source };
        let mut name = program.file_name().map(OsString::from).unwrap_or_default();
        name.push(format!("-{}.log", folder.marker().daemons.len()));
        let log = folder.path().join(name);
        let file = File::create(&log).map_err(|source| Error::File { action: "create", path: log.clone(), source })?;
        let mut command = Command::new(program);
        // A clean environment: no proxy, token or configuration of the user changes what the daemons do. Temporary
        // mounts of containerd land below the folder by TMPDIR.
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::join_paths(search).unwrap_or_default())
            .env("TMPDIR", folder.join("tmp"))
            .env("HOME", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(spawn_error)?)
            .stderr(file);
        let child = spawner.spawn(command).map_err(spawn_error)?;
        let daemon = Self { program: program.into(), child, log };
        if let Some(process) = i32::try_from(daemon.child.id()).ok().and_then(Process::find) {
            folder.note(process)?;
        }
        Ok(daemon)
    }

    /// Waits until `ready` finds what it looks for; it is given the daemon's log.
    pub(super) fn wait_until<T>(
        &mut self,
        within: Duration,
        mut ready: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + within;
        let mut pause = Duration::from_millis(1);
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(found) = ready(&log) {
                return Ok(found);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Error::Ended { program: self.program.clone(), status, log: self.end_of_log() });
            }
            if Instant::now() >= deadline {
                return Err(Error::NotReady { program: self.program.clone(), within, log: self.end_of_log() });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        }
    }

    /// Returns its pid.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, if it still runs, and takes its exit status, so that no zombie stays.
    pub(super) fn reap(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Returns the last lines of its log.
    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(QUOTED_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.reap();
    }
}

/// Finds a program in a list of folders.
pub(super) fn find(program: &'static str, package: &'static str, search: &[PathBuf]) -> Result<PathBuf, Error> {
    use std::os::unix::fs::PermissionsExt;
    let runnable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let found = search.iter().map(|folder| folder.join(program)).find(runnable);
    found.ok_or_else(|| {
        let searched = std::env::join_paths(search).unwrap_or_default().to_string_lossy().into_owned();
        Error::MissingProgram { program, package, searched }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Failure;

    #[test]
    fn a_missing_program_names_the_package() {
        let error = find("containerd", "containerd", &["/nonexistent".into(), "/tmp".into()]).unwrap_err();
        assert_eq!(error.to_string(), "containerd was not found in /nonexistent:/tmp");
        assert!(error.hint().unwrap().contains("apt-get install containerd"));
        assert!(find("sh", "dash", &["/bin".into()]).is_ok());
    }
}
