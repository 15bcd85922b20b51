//! One bar for a whole migration: the bytes of all blobs of all its images.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::ops::plan::Step;
use crate::ops::progress::{Level, Meter, Progress};

/// Adds what each piece of work moves to one meter. What turned out to be there is taken off again.
pub(super) struct Whole {
    /// Where remarks go.
    inner: Arc<dyn Progress>,
    meter: Arc<dyn Meter>,
}

impl Whole {
    pub(super) fn new(inner: Arc<dyn Progress>, label: &str, total: u64) -> Self {
        let meter = inner.meter(label, Some(total));
        Self { inner, meter }
    }

    pub(super) fn done(&self) {
        self.meter.done("done");
    }
}

impl Progress for Whole {
    fn meter(&self, _label: &str, _total: Option<u64>) -> Arc<dyn Meter> {
        Arc::new(Part { meter: Arc::clone(&self.meter), own: AtomicU64::new(0), counts: AtomicBool::new(true) })
    }

    fn note(&self, level: Level, text: &str) {
        self.inner.note(level, text);
    }

    fn planned(&self, operation: &str, subject: &str, steps: &[Step]) {
        self.inner.planned(operation, subject, steps);
    }
}

struct Part {
    meter: Arc<dyn Meter>,
    own: AtomicU64,
    counts: AtomicBool,
}

impl Meter for Part {
    fn advance(&self, bytes: u64) {
        if self.counts.load(Ordering::Relaxed) {
            self.own.fetch_add(bytes, Ordering::Relaxed);
            self.meter.advance(bytes);
        }
    }

    fn rewind(&self, bytes: u64) {
        let bytes = bytes.min(self.own.load(Ordering::Relaxed));
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.meter.rewind(bytes);
    }

    fn phase(&self, phase: &'static str) {
        // Unpacking counts the bytes of a layer a second time.
        if phase == "unpacking" {
            self.counts.store(false, Ordering::Relaxed);
            self.rewind(u64::MAX);
        }
    }

    fn done(&self, outcome: &'static str) {
        if outcome != "done" {
            self.rewind(u64::MAX);
        }
    }
}
