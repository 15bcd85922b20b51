//! Taking a sandbox apart, by its owner or by the next sandbox after the owner was killed.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::containers::Containers;
use super::error::Error;
use super::folder::Folder;
use super::process::{Process, Table, kill_all};
use super::{mounts, process};

/// How long processes may take to die and cgroups to empty.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills every process of a sandbox, removes what it left anywhere, and the folder last.
///
/// The daemons die first: while containerd lives it may start another task, and it runs a program for every shim that
/// it sees die. Each step also works when a part of it was done before, so that a cleaning that was itself killed is
/// finished by the next one.
///
/// # Errors
/// Fails, leaving the folder, when a process survives or something stays mounted.
pub(super) fn clean(folder: &Folder) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    kill_all(&folder.marker().daemons, until);
    let path = folder.path();
    let state = folder.join("state");
    let mut containers = Containers::find(path);
    loop {
        let processes = processes(path, &state, &containers);
        if processes.is_empty() {
            break;
        }
        if !kill_all(&processes, until) || Instant::now() >= until {
            let pids = processes.iter().filter(|one| one.is_alive()).map(|one| one.pid).collect();
            return Err(Error::Alive { folder: path.into(), pids });
        }
        // A container that was being created a moment ago may have its state only now.
        containers = Containers::find(path);
    }
    containers.remove(until);
    mounts::unmount_below(path)?;
    folder.remove()
}

/// Finds the shims, the programs they run and the processes of the containers.
fn processes(folder: &Path, state: &Path, containers: &Containers) -> HashSet<Process> {
    let table = Table::read();
    let mut found = table.with_arguments(|arguments| is_ours(arguments, folder, state));
    table.add_descendants(&mut found);
    found.extend(containers.processes());
    found.retain(|one| Some(*one) != process::Process::current());
    found
}

/// Returns whether the arguments are those of a shim of this sandbox, or of runc called by one.
///
/// A shim has containerd's socket behind `-address`; runc has paths in the state folder (`--bundle`, `--log`).
/// A program that a user pointed at the socket, as in `ctr --address`, is not killed.
fn is_ours(arguments: &[&[u8]], folder: &Path, state: &Path) -> bool {
    let socket = folder.join("containerd.sock");
    let (socket, state) = (socket.as_os_str().as_encoded_bytes(), state.as_os_str().as_encoded_bytes());
    let is_shim = arguments.windows(2).any(|pair| pair == [b"-address".as_slice(), socket]);
    let in_state = |argument: &[u8]| argument.strip_prefix(state).is_some_and(|rest| rest.starts_with(b"/"));
    let is_runtime = arguments.windows(2).any(|pair| match pair {
        [flag, value] => (*flag == b"--bundle" || *flag == b"--log") && in_state(value),
        _ => false,
    });
    is_shim || is_runtime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_and_runtimes_of_this_sandbox_are_ours() {
        let folder = Path::new("/tmp/ctrsh-sandbox-1");
        let state = folder.join("state");
        let ours = |line: &str| is_ours(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>(), folder, &state);
        assert!(ours("shim -namespace a -id b -address /tmp/ctrsh-sandbox-1/containerd.sock"));
        assert!(ours("runc --log /tmp/ctrsh-sandbox-1/state/io.containerd.runtime.v2.task/a/b/log.json create b"));
        assert!(!ours("shim -namespace a -id b -address /tmp/ctrsh-sandbox-12/containerd.sock"));
        assert!(!ours("ctr --address /tmp/ctrsh-sandbox-1/containerd.sock version"));
        assert!(!ours("tail -f /tmp/ctrsh-sandbox-1/state/log"));
    }
}
