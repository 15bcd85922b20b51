//! What options of a container need to know of this machine.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::oci::spec::{Device, HostFacts, SpecOptions};
use crate::ops::{Error, Result};

/// Folders of `/dev` that are not devices of the machine (containerd `oci/utils_unix.go`, getDevices).
const NOT_DEVICES: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// How deep `/dev` is searched.
const DEPTH: usize = 8;

/// Looks up what these options need, and nothing else.
pub(super) fn facts(options: &SpecOptions) -> HostFacts {
    let mut facts = HostFacts::default();
    if options.net_host {
        facts.hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    if options.privileged {
        facts.capabilities = capabilities();
        collect(Path::new("/dev"), DEPTH, &mut facts.devices);
    }
    facts
}

/// Looks up a device node, or every one below a folder.
///
/// # Errors
/// [`Error::Argument`] when there is none.
pub fn device(path: &str) -> Result<Vec<Device>> {
    let no = |problem: &str| Error::argument(format!("device {path}"), problem);
    let resolved = fs::canonicalize(path).map_err(|_| no("does not exist"))?;
    let mut found = Vec::new();
    if resolved.is_dir() {
        collect(&resolved, DEPTH, &mut found);
    } else if let Some(mut node) = node(&resolved) {
        // A link is what the container asked for by its own name.
        path.clone_into(&mut node.path);
        found.push(node);
    }
    if found.is_empty() { Err(no("is not a device")) } else { Ok(found) }
}

fn collect(folder: &Path, depth: usize, into: &mut Vec<Device>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if found.is_dir() {
            if depth > 0 && !NOT_DEVICES.contains(&&*name) {
                collect(&path, depth - 1, into);
            }
        } else if name != "console" {
            into.extend(node(&path));
        }
    }
}

/// Describes a device node.
pub(super) fn node(path: &Path) -> Option<Device> {
    let found = fs::symlink_metadata(path).ok()?;
    let kind = match found.file_type() {
        kind if kind.is_block_device() => "b",
        kind if kind.is_char_device() => "c",
        _ => return None,
    };
    let number = found.rdev();
    Some(Device {
        path: path.to_string_lossy().into_owned(),
        kind: kind.to_owned(),
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        file_mode: Some(found.mode() & 0o7777),
        uid: Some(found.uid()),
        gid: Some(found.gid()),
    })
}

/// Lists the capabilities that this process has, as only they can be given away.
fn capabilities() -> Vec<String> {
    let Ok(sets) = rustix::thread::capabilities(None) else { return Vec::new() };
    sets.effective
        .iter_names()
        .filter(|(_, one)| one.bits().is_power_of_two())
        .map(|(name, _)| format!("CAP_{name}"))
        .collect()
}
