//! The details of the events that containerd itself sends, by the type that they name (containerd `api/events`).

use chrono::SecondsFormat;
use containerd_client::events as wire_events;
use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use prost::{DecodeError, Message};
use prost_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::containerd::wire;

/// `containerd-client` does not generate the events of sandboxes (containerd `api/events/sandbox.proto`).
#[derive(Clone, PartialEq, Message)]
struct SandboxEvent {
    #[prost(string, tag = "1")]
    sandbox_id: String,
    #[prost(uint32, tag = "2")]
    exit_status: u32,
    #[prost(message, optional, tag = "3")]
    exited_at: Option<Timestamp>,
}

/// Reads the details; none when the type is not known here, or the bytes are not of it.
pub(super) fn read(type_url: &str, bytes: &[u8]) -> Option<Map<String, Value>> {
    // The daemon writes the bare name; tolerate a prefix, which protobuf's own convention has.
    // The events of images are in their service's package.
    let (package, name) = type_url.rsplit('/').next()?.rsplit_once('.')?;
    if !matches!(package, "containerd.events" | "containerd.services.images.v1") {
        return None;
    }
    match value(name, bytes) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

fn value(name: &str, bytes: &[u8]) -> Result<Value, DecodeError> {
    use wire_events as e;
    Ok(match name {
        "ContainerCreate" => {
            let it = e::ContainerCreate::decode(bytes)?;
            json!({"id": it.id, "image": it.image, "runtime": it.runtime.map(|runtime| runtime.name)})
        }
        "ContainerUpdate" => {
            let it = e::ContainerUpdate::decode(bytes)?;
            json!({"id": it.id, "image": it.image, "labels": it.labels, "snapshot_key": it.snapshot_key})
        }
        "ContainerDelete" => json!({"id": e::ContainerDelete::decode(bytes)?.id}),
        "ContentCreate" => {
            let it = e::ContentCreate::decode(bytes)?;
            json!({"digest": it.digest, "size": it.size})
        }
        "ContentDelete" => json!({"digest": e::ContentDelete::decode(bytes)?.digest}),
        "ImageCreate" => {
            let it = api::ImageCreate::decode(bytes)?;
            json!({"name": it.name, "labels": it.labels})
        }
        "ImageUpdate" => {
            let it = api::ImageUpdate::decode(bytes)?;
            json!({"name": it.name, "labels": it.labels})
        }
        "ImageDelete" => json!({"name": api::ImageDelete::decode(bytes)?.name}),
        "NamespaceCreate" => {
            let it = e::NamespaceCreate::decode(bytes)?;
            json!({"name": it.name, "labels": it.labels})
        }
        "NamespaceUpdate" => {
            let it = e::NamespaceUpdate::decode(bytes)?;
            json!({"name": it.name, "labels": it.labels})
        }
        "NamespaceDelete" => json!({"name": e::NamespaceDelete::decode(bytes)?.name}),
        "SandboxCreate" | "SandboxStart" => json!({"sandbox_id": SandboxEvent::decode(bytes)?.sandbox_id}),
        "SandboxExit" => {
            let it = SandboxEvent::decode(bytes)?;
            json!({"sandbox_id": it.sandbox_id, "exit_status": it.exit_status, "exited_at": time(it.exited_at)})
        }
        "SnapshotPrepare" => {
            let it = e::SnapshotPrepare::decode(bytes)?;
            json!({"key": it.key, "parent": it.parent, "snapshotter": it.snapshotter})
        }
        "SnapshotCommit" => {
            let it = e::SnapshotCommit::decode(bytes)?;
            json!({"key": it.key, "name": it.name, "snapshotter": it.snapshotter})
        }
        "SnapshotRemove" => {
            let it = e::SnapshotRemove::decode(bytes)?;
            json!({"key": it.key, "snapshotter": it.snapshotter})
        }
        other => return task(other, bytes),
    })
}

fn task(name: &str, bytes: &[u8]) -> Result<Value, DecodeError> {
    use wire_events as e;
    Ok(match name {
        "TaskCreate" => {
            let it = e::TaskCreate::decode(bytes)?;
            let io = it.io.map(
                |io| json!({"stdin": io.stdin, "stdout": io.stdout, "stderr": io.stderr, "terminal": io.terminal}),
            );
            json!({
                "container_id": it.container_id, "bundle": it.bundle, "pid": it.pid, "checkpoint": it.checkpoint,
                "rootfs": it.rootfs.iter().map(mount).collect::<Vec<_>>(), "io": io,
            })
        }
        "TaskStart" => {
            let it = e::TaskStart::decode(bytes)?;
            json!({"container_id": it.container_id, "pid": it.pid})
        }
        "TaskDelete" => {
            let it = e::TaskDelete::decode(bytes)?;
            exit(&it.container_id, &it.id, it.pid, it.exit_status, it.exited_at)
        }
        "TaskExit" => {
            let it = e::TaskExit::decode(bytes)?;
            exit(&it.container_id, &it.id, it.pid, it.exit_status, it.exited_at)
        }
        "TaskOOM" => json!({"container_id": e::TaskOom::decode(bytes)?.container_id}),
        "TaskExecAdded" => {
            let it = e::TaskExecAdded::decode(bytes)?;
            json!({"container_id": it.container_id, "exec_id": it.exec_id})
        }
        "TaskExecStarted" => {
            let it = e::TaskExecStarted::decode(bytes)?;
            json!({"container_id": it.container_id, "exec_id": it.exec_id, "pid": it.pid})
        }
        "TaskPaused" => json!({"container_id": e::TaskPaused::decode(bytes)?.container_id}),
        "TaskResumed" => json!({"container_id": e::TaskResumed::decode(bytes)?.container_id}),
        "TaskCheckpointed" => {
            let it = e::TaskCheckpointed::decode(bytes)?;
            json!({"container_id": it.container_id, "checkpoint": it.checkpoint})
        }
        _ => Value::Null,
    })
}

fn exit(container: &str, id: &str, pid: u32, status: u32, at: Option<Timestamp>) -> Value {
    json!({"container_id": container, "id": id, "pid": pid, "exit_status": status, "exited_at": time(at)})
}

fn mount(mount: &Mount) -> Value {
    json!({"type": mount.r#type, "source": mount.source, "target": mount.target, "options": mount.options})
}

fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| wire::time(Some(at)).to_rfc3339_opts(SecondsFormat::Nanos, true))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn an_exit_tells_who_and_how() {
        let event = wire_events::TaskExit {
            container_id: "web".into(),
            id: "exec-1".into(),
            pid: 7,
            exit_status: 137,
            exited_at: Some(Timestamp { seconds: 1, nanos: 5 }),
        };
        let fields = read("containerd.events.TaskExit", &event.encode_to_vec()).unwrap();
        assert_eq!(fields["container_id"], "web");
        assert_eq!(fields["exit_status"], 137);
        assert_eq!(fields["exited_at"], "1970-01-01T00:00:01.000000005Z");
        assert!(read("containerd.events.Unheard", b"").is_none());
        assert!(read("other.events.TaskExit", b"").is_none());
        assert!(read("containerd.events.TaskExit", b"\xff\xff").is_none());
    }

    #[test]
    fn every_event_of_the_protocol_is_read_with_all_its_fields() {
        for (name, fields) in messages() {
            let package = if name.starts_with("Image") { "containerd.services.images.v1" } else { "containerd.events" };
            let known = read(&format!("{package}.{name}"), b"").unwrap_or_else(|| panic!("{name} is not read"));
            assert_eq!(known.keys().cloned().collect::<BTreeSet<_>>(), fields, "{name}");
        }
    }

    /// Reads the messages and their fields from the protocol files that `containerd-client` brings along.
    fn messages() -> Vec<(String, BTreeSet<String>)> {
        let folder = crate::containerd::access::protocol_folder().join("events");
        let mut found: Vec<(String, BTreeSet<String>)> = Vec::new();
        for entry in std::fs::read_dir(&folder).unwrap() {
            found.extend(messages_of(&entry.unwrap().path()));
        }
        // TaskIO is a part of TaskCreate.
        found.retain(|(name, _)| name != "TaskIO");
        assert!(found.len() > 25, "only {} messages in {}", found.len(), folder.display());
        found
    }

    fn messages_of(path: &Path) -> Vec<(String, BTreeSet<String>)> {
        let text = std::fs::read_to_string(path).unwrap();
        let (mut found, mut depth) = (Vec::<(String, BTreeSet<String>)>::new(), 0);
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["message", name, "{"] if depth == 0 => found.push((name.to_owned(), BTreeSet::new())),
                [.., name, "=", _] if depth == 1 && line.ends_with(';') => {
                    found.last_mut().unwrap().1.insert(name.to_owned());
                }
                _ => {}
            }
            depth += line.matches('{').count();
            depth -= line.matches('}').count();
        }
        found
    }
}
