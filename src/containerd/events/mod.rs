//! What happens in the daemon, as it happens.

use chrono::{DateTime, SecondsFormat, Utc};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::types;
use futures_util::future::{FutureExt, TryFutureExt};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use prost::Message;
use serde_json::{Map, Value};

use super::error::failed;
use super::guard::Guard;
use super::{Client, Result, service, wire};

mod payload;

/// The topics that containerd 1.6 to 2.1 and its shims publish (containerd `api/events`, `core/runtime/events.go`).
pub const TOPICS: [&str; 28] = [
    "/containers/create",
    "/containers/delete",
    "/containers/update",
    "/content/create",
    "/content/delete",
    "/images/create",
    "/images/delete",
    "/images/update",
    "/namespaces/create",
    "/namespaces/delete",
    "/namespaces/update",
    "/sandboxes/create",
    "/sandboxes/exit",
    "/sandboxes/start",
    "/snapshot/commit",
    "/snapshot/prepare",
    "/snapshot/remove",
    "/tasks/checkpointed",
    "/tasks/create",
    "/tasks/delete",
    "/tasks/exec-added",
    "/tasks/exec-started",
    "/tasks/exit",
    "/tasks/oom",
    "/tasks/paused",
    "/tasks/resumed",
    "/tasks/start",
    "/tasks/?",
];

/// What the details of an event name its subject by, the first that it has.
const SUBJECTS: [&str; 6] = ["container_id", "sandbox_id", "id", "key", "name", "digest"];

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// In which namespace.
    pub namespace: String,
    /// What, such as `/tasks/exit`.
    pub topic: String,
    /// The type of its details, such as `containerd.events.TaskExit`.
    pub type_url: String,
    /// The details, such as `container_id` and `exit_status`, by the names of the protocol; times as RFC 3339.
    pub fields: Map<String, Value>,
    /// The details as they came, when they are of a type that is not known here.
    pub raw: Option<Vec<u8>>,
    /// How many bytes it came in.
    pub size: usize,
}

/// The events of a subscription.
pub type EventStream = BoxStream<'static, Result<Event>>;

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
    /// When this returns the subscription stands: what happens after it is in the stream. The daemon itself answers
    /// nothing before there is an event, so two more requests go over the same connection behind the subscription, and
    /// their answers are waited for.
    ///
    /// Nothing is repeated: what happened before, or while the connection was broken, must be looked up. The daemon drops
    /// nothing either, it keeps what is not read in its own memory (containerd `core/events/exchange`), so read on.
    ///
    /// # Errors
    /// When a filter is not one, or there is no connection.
    pub async fn subscribe(&self, filters: &[String]) -> Result<EventStream> {
        const ACTION: &str = "subscribe to events of";
        const ROUND_TRIPS: usize = 2;
        let (mut rpc, namespace) = (self.rpc(), self.0.namespace().to_owned());
        let request = api::SubscribeRequest { filters: filters.to_vec() };
        let mut call = async move {
            let answer = rpc.subscribe(request).await.map_err(failed(ACTION, &namespace))?;
            Ok(answer.into_inner().map_err(failed(ACTION, namespace)).map_ok(Event::from_wire))
        }
        .boxed();
        for _ in 0..ROUND_TRIPS {
            tokio::select! {
                biased;
                answer = &mut call => return answer.map(StreamExt::boxed),
                version = self.0.version() => { version?; }
            }
        }
        Ok(call.try_flatten_stream().boxed())
    }
}

impl Event {
    fn from_wire(envelope: types::Envelope) -> Self {
        let size = envelope.encoded_len();
        let (type_url, value) = envelope.event.map(|any| (any.type_url, any.value)).unwrap_or_default();
        let known = payload::read(&type_url, &value);
        let raw = known.is_none().then_some(value);
        // Types that are no protocol buffers travel as JSON (containerd/typeurl).
        let fields = known.or_else(|| serde_json::from_slice(raw.as_deref()?).ok()).unwrap_or_default();
        Self {
            at: wire::time(envelope.timestamp),
            namespace: envelope.namespace,
            topic: envelope.topic,
            type_url,
            fields,
            raw,
            size,
        }
    }

    /// Returns what it happened to: the id of a container, the name of an image, the key of a snapshot.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        SUBJECTS.iter().find_map(|key| self.fields.get(*key)?.as_str())
    }

    /// Returns the time as RFC 3339 with nanoseconds.
    #[must_use]
    pub fn time(&self) -> String {
        self.at.to_rfc3339_opts(SecondsFormat::Nanos, true)
    }
}

#[cfg(test)]
mod tests {
    use containerd_client::events as wire_events;
    use prost_types::Any;

    use super::*;

    fn envelope(type_url: &str, value: Vec<u8>) -> types::Envelope {
        types::Envelope {
            timestamp: None,
            namespace: "n".into(),
            topic: "/t".into(),
            event: Some(Any { type_url: type_url.into(), value }),
        }
    }

    #[test]
    fn what_is_not_known_is_kept_as_it_came() {
        let event = Event::from_wire(envelope("example.v1.Odd", vec![0xff, 7]));
        assert_eq!((event.type_url.as_str(), event.raw), ("example.v1.Odd", Some(vec![0xff, 7])));
        assert!(event.fields.is_empty());
        let event = Event::from_wire(envelope("example/json", br#"{"id":"x"}"#.to_vec()));
        assert_eq!((event.subject(), event.raw.is_some()), (Some("x"), true));
        let event = Event::from_wire(types::Envelope { event: None, ..envelope("", Vec::new()) });
        assert_eq!((event.type_url.as_str(), event.subject()), ("", None));
    }

    #[test]
    fn what_is_known_tells_its_subject() {
        let exit = wire_events::TaskExit { container_id: "web".into(), id: "exec-1".into(), ..Default::default() };
        let event = Event::from_wire(envelope("containerd.events.TaskExit", exit.encode_to_vec()));
        assert_eq!((event.subject(), &event.raw), (Some("web"), &None));
        assert!(event.size > 40);
    }
}
