//! How an operation tells how far it is. The shell draws it; operations only report.

use std::sync::Arc;

/// Receives what running operations report.
pub trait Progress: Send + Sync {
    /// Begins to show one piece of work. `total` is in bytes when known.
    fn meter(&self, label: &str, total: Option<u64>) -> Arc<dyn Meter>;

    /// Shows a remark that is not an error.
    fn note(&self, level: Level, text: &str);

    /// Shows the steps of a change that a dry run stopped before.
    fn planned(&self, operation: &str, subject: &str, steps: &[crate::ops::plan::Step]);
}

/// One piece of work being shown.
pub trait Meter: Send + Sync {
    /// Adds bytes that are done.
    fn advance(&self, bytes: u64);

    /// Takes back bytes that have to be moved again.
    fn rewind(&self, bytes: u64);

    /// Says what is being done now: `downloading`, `unpacking`, …
    fn phase(&self, phase: &'static str);

    /// Ends it. Without this call the work counts as failed when the meter is dropped.
    fn done(&self, outcome: &'static str);
}

/// How important a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warn,
    /// Worth acting.
    Error,
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn meter(&self, _label: &str, _total: Option<u64>) -> Arc<dyn Meter> {
        Arc::new(Self)
    }

    fn note(&self, _level: Level, _text: &str) {}

    fn planned(&self, _operation: &str, _subject: &str, _steps: &[crate::ops::plan::Step]) {}
}

impl Meter for Silent {
    fn advance(&self, _bytes: u64) {}

    fn rewind(&self, _bytes: u64) {}

    fn phase(&self, _phase: &'static str) {}

    fn done(&self, _outcome: &'static str) {}
}

/// Writes a size in the largest binary unit that leaves at least one whole.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
