//! The containers of a sandbox as runc and the kernel know them: state folders, cgroups, sockets of the shims.
//!
//! containerd keeps these outside its own folders, in places that all daemons of a machine share. A container is the
//! sandbox's when its root file system lies in the sandbox's folder.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::process::Process;

/// Where runc keeps its state, a folder a namespace and one a container (containerd runtime/v2/runc, `RuncRoot`).
const RUNC_ROOT: &str = "/run/containerd/runc";
/// Where the shims' sockets are (containerd runtime/v2/shim, `socketRoot`).
const SHIM_SOCKETS: &str = "/run/containerd/s";
/// The name of containerd's folders for bundles (in its state) and for their data (in its root), one a namespace.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Where cgroups are mounted, version 1, 2 or both.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The part of runc's `state.json` that is needed here.
#[derive(Deserialize)]
struct State {
    #[serde(default)]
    cgroup_paths: HashMap<String, PathBuf>,
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    rootfs: PathBuf,
}

/// What containers of a sandbox have outside its folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Containers {
    /// Their cgroups, one for each hierarchy of version 1.
    cgroups: BTreeSet<PathBuf>,
    /// Their state folders.
    states: BTreeSet<PathBuf>,
    /// The sockets of their shims.
    sockets: BTreeSet<PathBuf>,
    /// Folders that runc makes for a namespace and does not remove with its last container.
    parents: BTreeSet<PathBuf>,
}

impl Containers {
    /// Finds what belongs to the sandbox in `folder`.
    pub(super) fn find(folder: &Path) -> Self {
        let mut found = Self::default();
        for path in children(Path::new(RUNC_ROOT)).into_iter().flat_map(|namespace| children(&namespace)) {
            let text = fs::read(path.join("state.json")).unwrap_or_default();
            let Ok(state) = serde_json::from_slice::<State>(&text) else { continue };
            if state.config.rootfs.starts_with(folder) {
                found.cgroups.extend(state.cgroup_paths.into_values().filter(|path| is_inner_cgroup(path)));
                found.states.insert(path);
            }
        }
        let bundles = folder.join("state").join(TASKS);
        for bundle in children(&bundles).into_iter().flat_map(|namespace| children(&namespace)) {
            found.sockets.extend(shim_socket(&bundle));
            // runc makes the state folder before it writes the state: a kill between the two leaves it empty.
            let Ok(name) = bundle.strip_prefix(&bundles) else { continue };
            let state = Path::new(RUNC_ROOT).join(name);
            if state.is_dir() && !state.join("state.json").exists() {
                found.states.insert(state);
            }
        }
        let hierarchies = children(Path::new(CGROUPS)).into_iter().chain([CGROUPS.into()]);
        let roots: Vec<PathBuf> = hierarchies.filter(|path| is_cgroup_root(path)).chain([RUNC_ROOT.into()]).collect();
        // containerd puts a container's cgroup at /NAMESPACE/ID (containerd oci/spec.go, `WithNamespacedCgroup`).
        for namespace in children(&folder.join("root").join(TASKS)).into_iter().chain(children(&bundles)) {
            let Some(name) = namespace.file_name() else { continue };
            found.parents.extend(roots.iter().map(|root| root.join(name)));
        }
        found
    }

    /// Returns the processes in the cgroups, thawing what is frozen: a frozen process of version 1 hears no signal.
    pub(super) fn processes(&self) -> HashSet<Process> {
        for cgroup in &self.cgroups {
            let freezer = cgroup.join("freezer.state");
            if freezer.exists() {
                // A cgroup that is gone meanwhile needs no thawing.
                let _ = fs::write(freezer, "THAWED");
            }
        }
        let pids = self.cgroups.iter().flat_map(|cgroup| pids_below(cgroup));
        let inner = pids.filter(|pid| *pid > 1 && *pid != rustix::process::getpid().as_raw_nonzero().get());
        inner.filter_map(Process::find).collect()
    }

    /// Removes cgroups, state folders and sockets, once the processes are dead.
    pub(super) fn remove(&self, until: Instant) {
        for cgroup in &self.cgroups {
            remove_cgroup(cgroup, until);
        }
        for state in &self.states {
            let _ = fs::remove_dir_all(state);
        }
        // A container of another daemon in a namespace of the same name keeps the folder from being removed.
        for parent in &self.parents {
            let _ = fs::remove_dir(parent);
        }
        for socket in &self.sockets {
            let _ = fs::remove_file(socket);
        }
    }
}

/// Lists the entries of a folder; a missing folder has none.
fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Returns whether a cgroup is some way below the root of its hierarchy.
fn is_inner_cgroup(path: &Path) -> bool {
    let clean = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    let root = path.ancestors().find(|folder| is_cgroup_root(folder));
    clean && root.is_some_and(|root| root != path)
}

/// Returns whether a folder is where a hierarchy is mounted: there the parent folder is on another device.
fn is_cgroup_root(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).ok().map(|about| about.dev());
    path.starts_with(CGROUPS)
        && path.parent().is_some_and(|parent| device(path).is_some() && device(path) != device(parent))
}

/// Lists the processes in a cgroup and in those below it.
fn pids_below(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let below = children(cgroup).into_iter().filter(|path| path.is_dir()).flat_map(|path| pids_below(&path));
    text.lines().filter_map(|line| line.parse().ok()).chain(below).collect()
}

/// Removes a cgroup and those below it. The kernel takes a moment to let go of processes that have just died.
fn remove_cgroup(cgroup: &Path, until: Instant) {
    for child in children(cgroup).into_iter().filter(|path| path.is_dir()) {
        remove_cgroup(&child, until);
    }
    let mut pause = Duration::from_millis(1);
    while let Err(error) = fs::remove_dir(cgroup) {
        if error.kind() != std::io::ErrorKind::ResourceBusy || Instant::now() >= until {
            return;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Reads which socket the shim of a bundle listens on: `address` before containerd 2, `bootstrap.json` since.
fn shim_socket(bundle: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Bootstrap {
        address: String,
    }
    let address = fs::read_to_string(bundle.join("address")).ok().or_else(|| {
        let text = fs::read(bundle.join("bootstrap.json")).ok()?;
        Some(serde_json::from_slice::<Bootstrap>(&text).ok()?.address)
    })?;
    let path = Path::new(address.trim().strip_prefix("unix://")?).to_owned();
    (path.parent() == Some(Path::new(SHIM_SOCKETS))).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_from_both_kinds_of_bundle_and_only_from_the_shims_folder() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(shim_socket(bundle.path()), None);
        let bootstrap = r#"{"version":3,"address":"unix:///run/containerd/s/abc","protocol":"ttrpc"}"#;
        fs::write(bundle.path().join("bootstrap.json"), bootstrap).unwrap();
        assert_eq!(shim_socket(bundle.path()), Some("/run/containerd/s/abc".into()));
        fs::write(bundle.path().join("address"), "unix:///run/containerd/s/def").unwrap();
        assert_eq!(shim_socket(bundle.path()), Some("/run/containerd/s/def".into()));
        fs::write(bundle.path().join("address"), "unix:///etc/passwd").unwrap();
        assert_eq!(shim_socket(bundle.path()), None);
    }

    #[test]
    fn the_root_of_a_hierarchy_is_never_taken_for_a_containers_cgroup() {
        for path in ["/", "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/tmp/x", "/sys/fs/cgroup/memory/../x"] {
            assert!(!is_inner_cgroup(Path::new(path)), "{path}");
        }
        let hierarchy = children(Path::new(CGROUPS)).into_iter().find(|path| is_cgroup_root(path));
        let root = hierarchy.unwrap_or_else(|| CGROUPS.into());
        assert!(is_inner_cgroup(&root.join("some/container")), "{}", root.display());
    }
}
