//! A server of one test's own, which it may kill and start again.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that serves; dropping it kills it.
pub struct Server {
    name: &'static str,
    child: Option<Child>,
}

impl Server {
    pub fn new(name: &'static str) -> Self {
        Self { name, child: None }
    }

    /// Starts it, and waits until it answers.
    pub fn start(&mut self, command: &mut Command, answers: impl Fn() -> bool) {
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(20);
        while !answers() {
            assert!(Instant::now() < end, "{} did not start", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.as_ref().unwrap().id().cast_signed();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Kills it without a chance to clean up.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
