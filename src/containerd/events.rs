//! What happens in the daemon, as it happens.

use std::task::Poll;

use chrono::{DateTime, Utc};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::{events as wire_events, types};
use futures_util::future::{self, FutureExt, TryFutureExt};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use prost::Message;
use serde_json::{Map, Value, json};

use super::error::failed;
use super::guard::Guard;
use super::{Client, Result, service, wire};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// In which namespace.
    pub namespace: String,
    /// What, such as `/tasks/exit`.
    pub topic: String,
    /// The details, such as `container_id` and `exit_status`; empty for an event of an unknown type.
    pub fields: Map<String, Value>,
}

/// The event service.
#[derive(Debug, Clone)]
pub struct Events(Client);

impl Client {
    /// Returns the event service.
    #[must_use]
    pub fn events(&self) -> Events {
        Events(self.clone())
    }
}

impl Events {
    fn rpc(&self) -> EventsClient<Guard> {
        service!(EventsClient<_>, self.0)
    }

    /// Subscribes to the events that match any of the filters; without filters to all of every namespace.
    ///
    /// The request is on its way when this returns; that it was refused is the stream's first item. The daemon answers
    /// nothing before there is an event, so there is nothing to wait for here.
    ///
    /// Nothing is repeated: what happened before, or while the connection was broken, must be looked up.
    pub async fn subscribe(&self, filters: &[String]) -> BoxStream<'static, Result<Event>> {
        const ACTION: &str = "subscribe to events of";
        let (mut rpc, namespace) = (self.rpc(), self.0.namespace().to_owned());
        let request = api::SubscribeRequest { filters: filters.to_vec() };
        let mut call = async move {
            let answer = rpc.subscribe(request).await.map_err(failed(ACTION, &namespace))?;
            Ok(answer.into_inner().map_err(failed(ACTION, namespace)).map_ok(Event::from_wire))
        }
        .boxed();
        match futures_util::poll!(&mut call) {
            Poll::Ready(answer) => future::ready(answer).try_flatten_stream().boxed(),
            Poll::Pending => call.try_flatten_stream().boxed(),
        }
    }
}

impl Event {
    fn from_wire(envelope: types::Envelope) -> Self {
        let fields = envelope.event.and_then(|any| fields(&any.type_url, &any.value));
        Self {
            at: wire::time(envelope.timestamp),
            namespace: envelope.namespace,
            topic: envelope.topic,
            fields: fields.unwrap_or_default(),
        }
    }
}

/// Reads the details of the types that containerd itself sends (containerd `api/events`).
fn fields(type_url: &str, bytes: &[u8]) -> Option<Map<String, Value>> {
    use wire_events as e;
    // The daemon writes the bare name; tolerate a prefix, which protobuf's own convention has.
    // The events of images are in their service's package.
    let (package, name) = type_url.rsplit('/').next()?.rsplit_once('.')?;
    if !matches!(package, "containerd.events" | "containerd.services.images.v1") {
        return None;
    }
    let value = match name {
        "ContainerCreate" => {
            let it = e::ContainerCreate::decode(bytes).ok()?;
            json!({"id": it.id, "image": it.image, "runtime": it.runtime.map(|runtime| runtime.name)})
        }
        "ContainerUpdate" => {
            let it = e::ContainerUpdate::decode(bytes).ok()?;
            json!({"id": it.id, "image": it.image, "labels": it.labels, "snapshot_key": it.snapshot_key})
        }
        "ContainerDelete" => json!({"id": e::ContainerDelete::decode(bytes).ok()?.id}),
        "ContentDelete" => json!({"digest": e::ContentDelete::decode(bytes).ok()?.digest}),
        "ImageCreate" => {
            let it = api::ImageCreate::decode(bytes).ok()?;
            json!({"name": it.name, "labels": it.labels})
        }
        "ImageUpdate" => {
            let it = api::ImageUpdate::decode(bytes).ok()?;
            json!({"name": it.name, "labels": it.labels})
        }
        "ImageDelete" => json!({"name": api::ImageDelete::decode(bytes).ok()?.name}),
        "NamespaceCreate" => {
            let it = e::NamespaceCreate::decode(bytes).ok()?;
            json!({"name": it.name, "labels": it.labels})
        }
        "NamespaceUpdate" => {
            let it = e::NamespaceUpdate::decode(bytes).ok()?;
            json!({"name": it.name, "labels": it.labels})
        }
        "NamespaceDelete" => json!({"name": e::NamespaceDelete::decode(bytes).ok()?.name}),
        "SnapshotPrepare" => {
            let it = e::SnapshotPrepare::decode(bytes).ok()?;
            json!({"key": it.key, "parent": it.parent, "snapshotter": it.snapshotter})
        }
        "SnapshotCommit" => {
            let it = e::SnapshotCommit::decode(bytes).ok()?;
            json!({"key": it.key, "name": it.name, "snapshotter": it.snapshotter})
        }
        "SnapshotRemove" => {
            let it = e::SnapshotRemove::decode(bytes).ok()?;
            json!({"key": it.key, "snapshotter": it.snapshotter})
        }
        "TaskCreate" => {
            let it = e::TaskCreate::decode(bytes).ok()?;
            json!({"container_id": it.container_id, "pid": it.pid, "bundle": it.bundle})
        }
        "TaskStart" => {
            let it = e::TaskStart::decode(bytes).ok()?;
            json!({"container_id": it.container_id, "pid": it.pid})
        }
        "TaskDelete" => {
            let it = e::TaskDelete::decode(bytes).ok()?;
            json!({"container_id": it.container_id, "id": it.id, "pid": it.pid, "exit_status": it.exit_status})
        }
        "TaskExit" => {
            let it = e::TaskExit::decode(bytes).ok()?;
            json!({"container_id": it.container_id, "id": it.id, "pid": it.pid, "exit_status": it.exit_status})
        }
        "TaskOOM" => json!({"container_id": e::TaskOom::decode(bytes).ok()?.container_id}),
        "TaskExecAdded" => {
            let it = e::TaskExecAdded::decode(bytes).ok()?;
            json!({"container_id": it.container_id, "exec_id": it.exec_id})
        }
        "TaskExecStarted" => {
            let it = e::TaskExecStarted::decode(bytes).ok()?;
            json!({"container_id": it.container_id, "exec_id": it.exec_id, "pid": it.pid})
        }
        "TaskPaused" => json!({"container_id": e::TaskPaused::decode(bytes).ok()?.container_id}),
        "TaskResumed" => json!({"container_id": e::TaskResumed::decode(bytes).ok()?.container_id}),
        "TaskCheckpointed" => {
            let it = e::TaskCheckpointed::decode(bytes).ok()?;
            json!({"container_id": it.container_id, "checkpoint": it.checkpoint})
        }
        _ => return None,
    };
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_tells_who_and_how() {
        let event = wire_events::TaskExit {
            container_id: "web".into(),
            id: "exec-1".into(),
            pid: 7,
            exit_status: 137,
            exited_at: None,
        };
        let fields = fields("containerd.events.TaskExit", &event.encode_to_vec()).unwrap();
        assert_eq!(fields["container_id"], "web");
        assert_eq!(fields["exit_status"], 137);
        assert!(super::fields("containerd.events.Unheard", b"").is_none());
        assert!(super::fields("containerd.events.TaskExit", b"\xff\xff").is_none());
    }
}
