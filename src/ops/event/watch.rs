//! A subscription that outlives the connection, and whose memory is bounded.
//!
//! containerd keeps what a subscriber does not read, without a limit (`core/events/exchange`), so a slow reader would fill the
//! daemon's memory. A [`Watch`] reads at once, keeps up to 16 MiB, and counts what it had to leave out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Filters;
use crate::containerd::events::{Event, EventStream};
use crate::containerd::{Client, Error as Failed, Fault};
use crate::grant::{Access, Allow};
use crate::ops::{Context, Error, Level, Progress, Result};

/// How many bytes of events wait to be taken, at most.
const CAPACITY: usize = 16 << 20;

/// What an event takes beside what it came in.
const OVERHEAD: usize = 512;

/// The pauses between attempts to subscribe anew.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a watch sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// Something happened.
    Event(Event),
    /// Events may have been missed. The event says why, with the topic [`Happening::GAP`].
    Gap(Event),
}

impl Happening {
    /// The topic of what a watch says itself.
    pub const GAP: &'static str = "/ctrsh/gap";

    /// Makes the event that says that events may have been missed, and why.
    #[must_use]
    pub fn gap(namespace: &str, reason: &str, missed: Option<u64>) -> Event {
        let mut fields = Map::from_iter([("reason".to_owned(), Value::from(reason))]);
        fields.extend(missed.map(|missed| ("missed".to_owned(), json!(missed))));
        Event {
            at: Utc::now(),
            namespace: namespace.to_owned(),
            topic: Self::GAP.to_owned(),
            type_url: "ctrsh.Gap".to_owned(),
            fields,
            raw: None,
            size: 0,
        }
    }
}

/// A standing subscription; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    inbox: Arc<Inbox>,
    reader: JoinHandle<()>,
}

impl Watch {
    /// Subscribes. What happens after this returns is seen.
    ///
    /// The daemon asks nobody who is granted what: events of namespaces that may not be read are left out here.
    ///
    /// When the connection breaks, as with a restart of the daemon, it subscribes anew until that works; then comes a
    /// [`Happening::Gap`].
    ///
    /// # Errors
    /// When a filter is not one, or there is no connection.
    pub async fn open(ctx: &Context, filters: &Filters) -> Result<Self> {
        let client = ctx.client().await?;
        let stream = client.events().subscribe(&filters.sent).await?;
        let inbox = Arc::new(Inbox { namespace: client.namespace().to_owned(), ..Inbox::default() });
        let subscription = Subscription {
            client,
            filters: filters.sent.clone(),
            allow: ctx.grant().allow().clone(),
            progress: Arc::clone(ctx.progress()),
        };
        let reader = subscription.read(stream, Arc::clone(&inbox));
        Ok(Self { inbox, reader: tokio::spawn(reader) })
    }

    /// Waits for what comes next. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// Why the subscription cannot go on.
    pub async fn next(&mut self) -> Result<Happening> {
        loop {
            if let Some(next) = self.inbox.state().take(&self.inbox.namespace) {
                return next;
            }
            self.inbox.filled.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What was read and not taken yet.
#[derive(Debug, Default)]
struct Inbox {
    namespace: String,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Happening>,
    /// How many bytes wait.
    size: usize,
    /// How many were left out since the last one that was kept.
    missed: u64,
    end: Option<Failed>,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, event: Event) {
        self.state().put(event, &self.namespace, CAPACITY);
        self.filled.notify_one();
    }

    fn reconnected(&self) {
        let gap = Happening::gap(&self.namespace, "reconnected", None);
        let mut state = self.state();
        state.close_gap(&self.namespace);
        state.waiting.push_back(Happening::Gap(gap));
        drop(state);
        self.filled.notify_one();
    }

    fn end(&self, why: Failed) {
        self.state().end = Some(why);
        self.filled.notify_one();
    }
}

impl State {
    fn put(&mut self, event: Event, namespace: &str, capacity: usize) {
        let size = event.size + OVERHEAD;
        if self.size + size > capacity && !self.waiting.is_empty() {
            self.missed += 1;
            return;
        }
        self.close_gap(namespace);
        self.size += size;
        self.waiting.push_back(Happening::Event(event));
    }

    fn close_gap(&mut self, namespace: &str) {
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            self.waiting.push_back(Happening::Gap(Happening::gap(namespace, "overflow", Some(missed))));
        }
    }

    fn take(&mut self, namespace: &str) -> Option<Result<Happening>> {
        match self.waiting.pop_front() {
            Some(next) => {
                if let Happening::Event(event) = &next {
                    self.size -= event.size + OVERHEAD;
                }
                Some(Ok(next))
            }
            None if self.missed > 0 => {
                self.close_gap(namespace);
                self.waiting.pop_front().map(Ok)
            }
            None => self.end.take().map(|why| Err(Error::from(why))),
        }
    }
}

/// What is subscribed to.
struct Subscription {
    client: Client,
    filters: Vec<String>,
    allow: Allow,
    progress: Arc<dyn Progress>,
}

impl Subscription {
    /// Reads events into the inbox, and subscribes anew when the connection breaks.
    async fn read(self, mut stream: EventStream, inbox: Arc<Inbox>) {
        loop {
            while let Some(next) = stream.next().await {
                match next {
                    Ok(event) if self.may_see(&event) => inbox.put(event),
                    Ok(_) => {}
                    Err(error) if is_lasting(&error) => return inbox.end(error),
                    Err(_) => break,
                }
            }
            let broken = "the connection to containerd broke while waiting for events; it is made anew";
            self.progress.note(Level::Warn, broken);
            let mut pause = PAUSE;
            stream = loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                match self.client.events().subscribe(&self.filters).await {
                    Ok(stream) => break stream,
                    Err(error) if is_lasting(&error) => return inbox.end(error),
                    Err(_) => {}
                }
            };
            inbox.reconnected();
        }
    }

    fn may_see(&self, event: &Event) -> bool {
        self.allow.covers(Access::Read, &format!("containerd/{}", event.namespace))
    }
}

/// Says whether subscribing anew would fail the same way.
fn is_lasting(error: &Failed) -> bool {
    match error {
        Failed::Call { fault, .. } => matches!(fault, Fault::Invalid | Fault::Unsupported | Fault::Denied),
        Failed::NoConnection(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> Event {
        Event { fields: Map::from_iter([("n".to_owned(), json!(number))]), ..Happening::gap("n", "", None) }
    }

    fn taken(state: &mut State) -> Vec<String> {
        std::iter::from_fn(|| state.take("n"))
            .map(|next| match next.unwrap() {
                Happening::Event(event) => event.fields["n"].to_string(),
                Happening::Gap(gap) => format!("{} {}", gap.fields["reason"], gap.fields["missed"]),
            })
            .collect()
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_is_missing() {
        let mut state = State::default();
        let capacity = 3 * OVERHEAD;
        for number in 0..5 {
            state.put(event(number), "n", capacity);
        }
        assert!(matches!(state.take("n"), Some(Ok(Happening::Event(_)))));
        state.put(event(5), "n", capacity);
        assert_eq!(taken(&mut state), ["1", "2", "\"overflow\" 2", "5"]);
        assert_eq!(state.size, 0);
        for number in 0..5 {
            state.put(event(number), "n", capacity);
        }
        assert_eq!(taken(&mut state), ["0", "1", "2", "\"overflow\" 2"]);
        // One that is larger than all that may wait comes alone.
        state.put(event(9), "n", 1);
        assert_eq!(taken(&mut state), ["9"]);
    }
}
