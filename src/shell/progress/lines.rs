//! Progress as lines that stay, at most one every few seconds for each piece of work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;

use super::Entry;
use crate::ops::Meter;
use crate::shell::screen::Screen;

/// How often one piece of work tells how far it is.
const EVERY: Duration = Duration::from_secs(5);

/// One piece of work, told in lines.
pub(super) struct LineMeter {
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

impl LineMeter {
    pub(super) fn new(screen: Arc<Screen>, label: String, total: Option<u64>, entry: Entry) -> Self {
        let state = State { bytes: 0, phase: "started", told: Instant::now() };
        Self { screen, label, total, state: Mutex::new(state), _entry: entry }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if state.told.elapsed() >= EVERY {
            state.told = Instant::now();
            let of = self.total.map(|total| format!(" of {}", BinaryBytes(total))).unwrap_or_default();
            self.screen.tell(&format!("{}: {} {}{of}", self.label, state.phase, BinaryBytes(state.bytes)));
        }
    }
}

impl Meter for LineMeter {
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
        let bytes = self.state.lock().unwrap_or_else(PoisonError::into_inner).bytes;
        let moved = if bytes > 0 { format!(", {}", BinaryBytes(bytes)) } else { String::new() };
        self.screen.tell(&format!("{}: {outcome}{moved}", self.label));
    }
}
