//! The cgroup that a container is about to be started in.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::containerd::containers::Container;
use crate::oci::spec::cgroup_reach;
use crate::ops::{Error, Result};

/// Where cgroups are mounted, version 1, 2 or both.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Refuses a container whose cgroup has processes of the host in it, as one called like a service of systemd in a namespace
/// called like its slice would: its end would be theirs. runc 1.1 goes on there with a warning, 1.2 refuses it.
///
/// Processes in PID namespaces of their own are left to the runtime: they are of containers.
///
/// # Errors
/// [`Error::Conflict`] with the processes.
pub(super) fn check_free(container: &Container, namespace: &str) -> Result<()> {
    let Some(spec) = &container.spec else { return Ok(()) };
    // Another one than containerd's was chosen, by somebody who had access to the host.
    if cgroup_reach(spec, namespace, &container.id).is_some() {
        return Ok(());
    }
    let Some(linux) = &spec.linux else { return Ok(()) };
    let Some(relative) = linux.cgroups_path.strip_prefix('/').map(Path::new) else { return Ok(()) };
    if relative.as_os_str().is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    let own = fs::read_link("/proc/self/ns/pid").ok();
    let on_host = |pid: &u32| own.is_some() && fs::read_link(format!("/proc/{pid}/ns/pid")).ok() == own;
    let mut found: Vec<u32> = places(relative).iter().flat_map(|folder| processes(folder)).filter(on_host).collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        return Ok(());
    }
    let pids: Vec<String> = found.iter().map(ToString::to_string).collect();
    Err(Error::Conflict {
        what: "container",
        name: container.id.clone(),
        state: format!("would share cgroup {} with processes of the host: {}", linux.cgroups_path, pids.join(", ")),
        cure: Some("create it under another id or in another namespace".into()),
    })
}

/// Returns where a cgroup is in each hierarchy.
fn places(relative: &Path) -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([root.to_owned()]);
    all.map(|hierarchy| hierarchy.join(relative)).filter(|folder| folder.is_dir()).collect()
}

/// Lists the processes in a cgroup and in those below it.
fn processes(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes(&entry.path()));
        }
    }
    found
}
