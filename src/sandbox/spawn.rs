//! Starting daemons that never outlive this process.
//!
//! The only unsafe code of the project: the death signal (`PR_SET_PDEATHSIG`, prctl(2)) has to be set in the child
//! between fork and exec.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// A command, and where its child is to be sent.
type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts processes from one thread that lives as long as this value.
///
/// The kernel sends the death signal when the *thread* that forked ends, so a pool's thread must not do it. When this
/// value is dropped, or the whole process is killed, the kernel kills every process that it started.
#[derive(Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    /// Starts the thread.
    pub(super) fn new() -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::Builder::new().name("sandbox".into()).spawn(move || {
            for (mut command, reply) in inbox {
                // When nobody waits for the child any more, it ends with this thread.
                let _ = reply.send(spawn(&mut command));
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts a process in a process group of its own, where Ctrl-C of the terminal does not reach it.
    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.process_group(0);
        let (reply, child) = mpsc::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.requests.send((command, reply)).map_err(|_| gone())?;
        child.recv().map_err(|_| gone())?
    }
}

/// Forks and sets the death signal in the child.
fn spawn(command: &mut Command) -> io::Result<Child> {
    let parent = rustix::process::getpid();
    let die_with_parent = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the signal was set.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    };
    // SAFETY: the closure runs in the child after fork, where only async-signal-safe calls are allowed: it makes two
    // system calls (prctl and getppid) and allocates nothing.
    unsafe { command.pre_exec(die_with_parent) };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn what_was_started_dies_with_the_spawner() {
        let spawner = Spawner::new().unwrap();
        let mut command = Command::new("sleep");
        command.arg("77");
        let mut child = spawner.spawn(command).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        drop(spawner);
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let error = Spawner::new().unwrap().spawn(Command::new("/nonexistent/program")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
