//! Which access each of containerd's RPCs needs.
//!
//! Leases are this program's own bookkeeping, so making and deleting them is `write`. `Content.Abort` throws away what an
//! ingest has received so far, which is nobody's content yet. A transfer pulls, pushes or imports.

use crate::grant::Access::{self, Delete, Read, Run, Write};

struct Service {
    name: &'static str,
    /// What it takes to delete again what an operation has just made itself.
    undo: Access,
    rpcs: &'static [(&'static str, Access)],
}

const SERVICES: &[Service] = &[
    Service {
        name: "containerd.services.containers.v1.Containers",
        undo: Run,
        rpcs: &[
            ("Create", Run),
            ("Delete", Delete),
            ("Get", Read),
            ("List", Read),
            ("ListStream", Read),
            ("Update", Run),
        ],
    },
    Service {
        name: "containerd.services.content.v1.Content",
        undo: Write,
        rpcs: &[
            ("Abort", Write),
            ("Delete", Delete),
            ("Info", Read),
            ("List", Read),
            ("ListStatuses", Read),
            ("Read", Read),
            ("Status", Read),
            ("Update", Write),
            ("Write", Write),
        ],
    },
    Service { name: "containerd.services.diff.v1.Diff", undo: Write, rpcs: &[("Apply", Write), ("Diff", Write)] },
    Service {
        name: "containerd.services.events.v1.Events",
        undo: Write,
        rpcs: &[("Forward", Write), ("Publish", Write), ("Subscribe", Read)],
    },
    Service {
        name: "containerd.services.images.v1.Images",
        undo: Write,
        rpcs: &[("Create", Write), ("Delete", Delete), ("Get", Read), ("List", Read), ("Update", Write)],
    },
    Service {
        name: "containerd.services.introspection.v1.Introspection",
        undo: Read,
        rpcs: &[("PluginInfo", Read), ("Plugins", Read), ("Server", Read)],
    },
    Service {
        name: "containerd.services.leases.v1.Leases",
        undo: Write,
        rpcs: &[
            ("AddResource", Write),
            ("Create", Write),
            ("Delete", Write),
            ("DeleteResource", Write),
            ("List", Read),
            ("ListResources", Read),
        ],
    },
    Service {
        name: "containerd.services.namespaces.v1.Namespaces",
        undo: Write,
        rpcs: &[("Create", Write), ("Delete", Delete), ("Get", Read), ("List", Read), ("Update", Write)],
    },
    Service {
        name: "containerd.services.sandbox.v1.Controller",
        undo: Run,
        rpcs: &[
            ("Create", Run),
            ("Metrics", Read),
            ("Platform", Read),
            ("Shutdown", Delete),
            ("Start", Run),
            ("Status", Read),
            ("Stop", Run),
            ("Update", Run),
            ("Wait", Read),
        ],
    },
    Service {
        name: "containerd.services.sandbox.v1.Store",
        undo: Run,
        rpcs: &[("Create", Run), ("Delete", Delete), ("Get", Read), ("List", Read), ("Update", Run)],
    },
    Service {
        name: "containerd.services.snapshots.v1.Snapshots",
        undo: Write,
        rpcs: &[
            ("Cleanup", Delete),
            ("Commit", Write),
            ("List", Read),
            ("Mounts", Read),
            ("Prepare", Write),
            ("Remove", Delete),
            ("Stat", Read),
            ("Update", Write),
            ("Usage", Read),
            ("View", Write),
        ],
    },
    Service { name: "containerd.services.streaming.v1.Streaming", undo: Write, rpcs: &[("Stream", Write)] },
    Service {
        name: "containerd.services.tasks.v1.Tasks",
        undo: Run,
        rpcs: &[
            ("Checkpoint", Run),
            ("CloseIO", Run),
            ("Create", Run),
            ("Delete", Delete),
            ("DeleteProcess", Run),
            ("Exec", Run),
            ("Get", Read),
            ("Kill", Run),
            ("List", Read),
            ("ListPids", Read),
            ("Metrics", Read),
            ("Pause", Run),
            ("ResizePty", Run),
            ("Resume", Run),
            ("Start", Run),
            ("Update", Run),
            ("Wait", Read),
        ],
    },
    Service { name: "containerd.services.transfer.v1.Transfer", undo: Write, rpcs: &[("Transfer", Write)] },
    Service { name: "containerd.services.version.v1.Version", undo: Read, rpcs: &[("Version", Read)] },
];

/// Returns the access that an RPC needs, by its path `/SERVICE/METHOD`; nothing when the table does not have it.
///
/// With `undoing`, a deletion needs what the making needed.
#[must_use]
pub fn of(rpc: &str, undoing: bool) -> Option<Access> {
    let (service, method) = rpc.strip_prefix('/')?.split_once('/')?;
    let service = SERVICES.iter().find(|s| s.name == service)?;
    let (_, access) = service.rpcs.iter().find(|(name, _)| *name == method)?;
    Some(if undoing && *access == Delete { service.undo } else { *access })
}

/// Lists every RPC of the table with its access.
pub fn all() -> impl Iterator<Item = (String, Access)> {
    SERVICES.iter().flat_map(|s| s.rpcs.iter().map(|(rpc, access)| (format!("/{}/{rpc}", s.name), *access)))
}

/// Returns an RPC as messages name it: `Images/Create` for `/containerd.services.images.v1.Images/Create`.
pub(super) fn short(rpc: &str) -> &str {
    rpc.rmatch_indices('.').next().map_or(rpc, |(at, _)| &rpc[at + 1..])
}

/// Returns the folder of the protocol files that `containerd-client` was generated from.
#[cfg(test)]
pub(super) fn protocol_folder() -> std::path::PathBuf {
    let host = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // What other platforms need was not downloaded.
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform", host, "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|p| p["name"] == "containerd-client").unwrap();
    let root = std::path::Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
    root.join("vendor/github.com/containerd/containerd/api")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    /// Reads `package`, `service` and `rpc` lines of the protocol files that `containerd-client` was generated from.
    fn rpcs_of_the_protocol() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![protocol_folder().join("services")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                // The crate generates nothing from the ttrpc folder: that is what shims speak.
                if path.is_dir() && !path.ends_with("ttrpc") {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "proto") {
                    found.extend(rpcs_of_file(&path));
                }
            }
        }
        found
    }

    fn rpcs_of_file(path: &PathBuf) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let (mut package, mut service, mut found) = ("", "", Vec::new());
        for line in text.lines().map(str::trim) {
            let word =
                |rest: &'static str| line.strip_prefix(rest).map(|l| l.split([' ', '(', ';', '{']).next().unwrap());
            package = word("package ").unwrap_or(package);
            service = word("service ").unwrap_or(service);
            found.extend(word("rpc ").map(|rpc| format!("/{package}.{service}/{rpc}")));
        }
        found
    }

    #[test]
    fn the_table_has_every_rpc_of_the_protocol_and_no_other() {
        let protocol = rpcs_of_the_protocol();
        assert!(protocol.len() > 80, "only {} RPCs were found in the protocol files", protocol.len());
        let table: BTreeSet<String> = all().map(|(rpc, _)| rpc).collect();
        assert_eq!(table, protocol);
    }

    #[test]
    fn an_rpc_that_changes_things_is_not_a_read() {
        for (rpc, access) in all() {
            let method = rpc.rsplit('/').next().unwrap();
            let looks = ["Get", "List", "Info", "Stat", "Read", "Subscribe", "Version", "Wait", "Metrics", "Mounts"]
                .iter()
                .chain(&["Usage", "Plugin", "Server", "Platform"])
                .any(|word| method.starts_with(word));
            assert_eq!(access == Read, looks, "{rpc} is {access}");
        }
    }

    #[test]
    fn what_is_not_listed_has_no_access() {
        assert_eq!(of("/containerd.services.images.v1.Images/Purge", false), None);
        assert_eq!(of("/containerd.services.images.v2.Images/Get", false), None);
        assert_eq!(of("", false), None);
    }

    #[test]
    fn undoing_needs_what_making_needed() {
        assert_eq!(of("/containerd.services.snapshots.v1.Snapshots/Remove", false), Some(Delete));
        assert_eq!(of("/containerd.services.snapshots.v1.Snapshots/Remove", true), Some(Write));
        assert_eq!(of("/containerd.services.tasks.v1.Tasks/Delete", true), Some(Run));
    }
}
