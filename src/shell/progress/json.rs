//! Progress as JSON objects on standard error, a line each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Entry;
use crate::ops::Meter;
use crate::shell::escape;
use crate::shell::screen::Screen;

/// How often one piece of work tells how far it is.
const EVERY: Duration = Duration::from_secs(1);

/// One piece of work, told in JSON.
pub(super) struct JsonMeter {
    screen: Arc<Screen>,
    label: String,
    total: Option<u64>,
    state: Mutex<State>,
    _entry: Entry,
}

struct State {
    bytes: u64,
    phase: &'static str,
    told: Instant,
}

impl JsonMeter {
    pub(super) fn new(screen: Arc<Screen>, label: String, total: Option<u64>, entry: Entry) -> Self {
        let state = State { bytes: 0, phase: "started", told: Instant::now() };
        let meter = Self { screen, label, total, state: Mutex::new(state), _entry: entry };
        meter.tell(0, "started", None);
        meter
    }

    fn tell(&self, bytes: u64, phase: &str, outcome: Option<&str>) {
        let event = json!({ "progress": {
            "label": self.label, "phase": phase, "bytes": bytes, "total": self.total, "outcome": outcome,
        }});
        self.screen.tell(&escape::json(&event.to_string()));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if state.told.elapsed() >= EVERY {
            state.told = Instant::now();
            self.tell(state.bytes, state.phase, None);
        }
    }
}

impl Meter for JsonMeter {
    fn advance(&self, bytes: u64) {
        self.change(|state| state.bytes = state.bytes.saturating_add(bytes));
    }

    fn rewind(&self, bytes: u64) {
        self.change(|state| state.bytes = state.bytes.saturating_sub(bytes));
    }

    fn phase(&self, phase: &'static str) {
        self.change(|state| state.phase = phase);
    }

    fn done(&self, outcome: &'static str) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell(state.bytes, state.phase, Some(outcome));
    }
}
