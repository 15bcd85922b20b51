//! Processes as `/proc` shows them, named by pid and start time so that a reused pid is never taken for another.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process, ever: the pid and when it started, in clock ticks since boot (proc_pid_stat(5), field 22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Process {
    /// Its pid.
    pub(super) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(super) start: u64,
}

/// What `/proc/PID/stat` says.
struct Stat {
    state: u8,
    parent: i32,
    start: u64,
}

impl Process {
    /// Returns the living process with this pid; a zombie does not live.
    pub(super) fn find(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (!matches!(stat.state, b'Z' | b'X')).then_some(Self { pid, start: stat.start })
    }

    /// Returns the process that calls this.
    pub(super) fn current() -> Option<Self> {
        Self::find(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Returns whether it still runs.
    pub(super) fn is_alive(&self) -> bool {
        Self::find(self.pid) == Some(*self)
    }

    /// Sends SIGKILL and returns a descriptor to wait on, or nothing when the process is gone already.
    fn kill(&self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // The descriptor pins the process, so that what is true after opening it stays true.
        if !self.is_alive() {
            return None;
        }
        pidfd_send_signal(&fd, Signal::KILL).ok()?;
        Some(fd)
    }
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads the line; the command stands in parentheses and may hold spaces and parentheses itself.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        // Fields 5 to 21 stand between the parent (4) and the start time (22).
        let start = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, start })
    }
}

/// Every process there is, with its parent.
pub(super) struct Table(HashMap<i32, (Process, i32)>);

impl Table {
    /// Reads `/proc`, leaving out zombies and what ends meanwhile.
    pub(super) fn read() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let processes = pids.filter_map(|pid| {
            let stat = Stat::read(pid)?;
            (!matches!(stat.state, b'Z' | b'X')).then_some((pid, (Process { pid, start: stat.start }, stat.parent)))
        });
        Self(processes.collect())
    }

    /// Returns the processes whose arguments pass the test.
    pub(super) fn with_arguments(&self, test: impl Fn(&[&[u8]]) -> bool) -> HashSet<Process> {
        let matches = |pid: i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            test(&line.split(|byte| *byte == 0).collect::<Vec<_>>())
        };
        self.0.values().filter(|(process, _)| matches(process.pid)).map(|(process, _)| *process).collect()
    }

    /// Adds to a set all descendants of its members.
    pub(super) fn add_descendants(&self, set: &mut HashSet<Process>) {
        loop {
            let pids: HashSet<i32> = set.iter().map(|process| process.pid).collect();
            let children = self.0.values().filter(|(_, parent)| pids.contains(parent)).map(|(process, _)| *process);
            let before = set.len();
            set.extend(children.collect::<Vec<_>>());
            if set.len() == before {
                return;
            }
        }
    }
}

/// Kills processes and waits for their end, at most until a moment; returns whether all are gone.
pub(super) fn kill_all<'a>(processes: impl IntoIterator<Item = &'a Process>, until: Instant) -> bool {
    let waits: Vec<OwnedFd> = processes.into_iter().filter_map(Process::kill).collect();
    waits.iter().all(|fd| ended(fd, until.saturating_duration_since(Instant::now())))
}

/// Waits until the process of a pidfd ends: the descriptor then becomes readable (pidfd_open(2)).
fn ended(fd: &OwnedFd, within: Duration) -> bool {
    let Ok(within) = Timespec::try_from(within) else { return false };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&within)), Ok(count) if count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_command_with_parentheses_does_not_confuse_the_fields() {
        let line = "42 (a) S (b)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start), (b'S', 7, 98765));
    }

    #[test]
    fn descendants_are_found_and_die() {
        let mut child = Command::new("sh").args(["-c", "sleep 77 & wait"]).spawn().unwrap();
        let shell = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        let mut set = HashSet::from([shell]);
        let deadline = Instant::now() + Duration::from_secs(5);
        while set.len() < 2 && Instant::now() < deadline {
            Table::read().add_descendants(&mut set);
        }
        assert_eq!(set.len(), 2, "the shell and its sleep");
        assert!(kill_all(&set, Instant::now() + Duration::from_secs(5)));
        assert!(set.iter().all(|process| !process.is_alive()));
        child.wait().unwrap();
    }

    #[test]
    fn a_reused_pid_is_not_killed() {
        let mut child = Command::new("sleep").arg("77").spawn().unwrap();
        let mut process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        process.start += 1;
        assert!(kill_all(&[process], Instant::now() + Duration::from_secs(1)));
        assert!(child.try_wait().unwrap().is_none(), "the other process lives on");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
