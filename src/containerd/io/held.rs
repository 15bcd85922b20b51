//! Readers that keep a shim from waiting for one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::FifoFolder;
use crate::containerd::tasks::Stdio;

/// Readers of a process's outputs that read nothing, and the folder of its FIFOs.
#[derive(Debug)]
pub struct Held {
    _readers: Vec<File>,
    _folder: Option<FifoFolder>,
}

/// Keeps a process's FIFOs and readers at them, though those who asked for it give up meanwhile: the shim opens them for writing,
/// waits for ever where nobody reads (fifo(7)), and where they are gone lets a process run on that nobody knows. For as long as
/// it may be about to do so.
#[must_use]
pub fn hold(stdio: &Stdio) -> Held {
    let open = |path: &String| {
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).ok()
    };
    // What begins otherwise is the address of a log (`file:`, `binary:`), and opened by the shim alone.
    let outputs = [&stdio.stdout, &stdio.stderr].into_iter().filter(|path| path.starts_with('/'));
    Held { _readers: outputs.filter_map(open).collect(), _folder: stdio.folder.clone() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use rustix::fs::Mode;
    use tokio::net::unix::pipe;

    use super::*;
    use crate::containerd::io::{Pipes, Shape};

    #[tokio::test]
    async fn a_shim_that_opens_outputs_late_does_not_wait_for_who_gave_up() {
        let run = tempfile::tempdir().unwrap();
        let pipes = Pipes::open(run.path(), "c", Shape::Apart { stdin: false }).unwrap();
        let stdio = Stdio { stderr: "file:///nowhere/log".into(), ..pipes.stdio().clone() };
        let held = hold(&stdio);
        let path = stdio.stdout.clone();
        // As a shim that has found the file by now, and opens it when it is no longer there.
        let found = rustix::fs::open(&path, OFlags::PATH, Mode::empty()).unwrap();
        drop((pipes, stdio));
        assert!(pipe::OpenOptions::new().open_sender(&path).is_ok());
        drop(held);
        assert!(!Path::new(&path).exists());
        let error = pipe::OpenOptions::new().open_sender(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NXIO.raw_os_error()), "somebody reads it still");
    }
}
