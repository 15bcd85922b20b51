//! How far operations are: bars on a terminal, lines elsewhere, JSON for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

mod bars;
mod json;
mod lines;

use super::escape;
use super::screen::Screen;
use super::style::Role;
use crate::ops::{Level, Meter, Progress, Step};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Bars that are drawn again and again.
    Bars,
    /// Lines that stay.
    Lines,
    /// A JSON object a line.
    Json,
    /// Nothing but remarks and plans.
    None,
}

const MODES: [(Mode, &str); 5] =
    [(Mode::Auto, "auto"), (Mode::Bars, "bars"), (Mode::Lines, "lines"), (Mode::Json, "json"), (Mode::None, "none")];

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MODES.iter().find(|(mode, _)| mode == self).map_or("auto", |(_, name)| name))
    }
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = MODES.iter().find(|(_, name)| *name == text);
        found.map(|(mode, _)| *mode).ok_or("is not one of auto, bars, lines, json, none")
    }
}

/// Shows progress on a screen. All modes share what is under way, so that an impatient user can be told.
pub struct Shown {
    screen: Arc<Screen>,
    mode: Mode,
    active: Arc<Active>,
    bars: Option<bars::Bars>,
}

impl Shown {
    /// Makes one; `Auto` decides by whether standard error is a terminal.
    #[must_use]
    pub fn new(mode: Mode, screen: &Arc<Screen>) -> Self {
        let mode = match mode {
            Mode::Auto if screen.err_is_terminal() => Mode::Bars,
            Mode::Auto => Mode::Lines,
            other => other,
        };
        let bars = (mode == Mode::Bars).then(|| bars::Bars::new(screen));
        Self { screen: Arc::clone(screen), mode, active: Arc::default(), bars }
    }

    /// Returns what is under way, oldest first.
    #[must_use]
    pub fn active(&self) -> Vec<String> {
        self.active.labels()
    }
}

impl Progress for Shown {
    fn meter(&self, label: &str, total: Option<u64>) -> Arc<dyn Meter> {
        let label = escape::line(label).into_owned();
        let entry = self.active.enter(&label);
        match (&self.bars, self.mode) {
            (Some(bars), _) => Arc::new(bars.meter(&label, total, entry)),
            (None, Mode::Json) => Arc::new(json::JsonMeter::new(Arc::clone(&self.screen), label, total, entry)),
            (None, Mode::None) => Arc::new(Unshown { _entry: entry }),
            (None, _) => Arc::new(lines::LineMeter::new(Arc::clone(&self.screen), label, total, entry)),
        }
    }

    fn note(&self, level: Level, text: &str) {
        if self.mode == Mode::Json {
            let level = match level {
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            };
            let note = serde_json::json!({ "note": { "level": level, "text": text } });
            self.screen.tell(&escape::json(&note.to_string()));
            return;
        }
        let (role, word) = match level {
            Level::Info => (Role::Note, "note"),
            Level::Warn => (Role::Warning, "warning"),
            Level::Error => (Role::Error, "error"),
        };
        self.screen.remark(role, word, text);
    }

    fn planned(&self, operation: &str, subject: &str, steps: &[Step]) {
        if self.mode == Mode::Json || self.screen.json_errors() {
            let step = |s: &Step| {
                serde_json::json!({
                    "access": s.access.as_str(), "target": s.target, "action": s.action, "bytes": s.bytes,
                })
            };
            let plan = serde_json::json!({ "planned": {
                "operation": operation, "subject": subject, "steps": steps.iter().map(step).collect::<Vec<_>>(),
            }});
            self.screen.tell(&escape::json(&plan.to_string()));
            return;
        }
        let palette = self.screen.err_palette();
        let mut text = palette.paint(Role::Note, "dry run");
        text.push_str(&format!(": {operation} {}", escape::line(subject)));
        if steps.is_empty() {
            text.push_str(": nothing to do");
        }
        for step in steps {
            let access = palette.paint(Role::Faint, &format!("[{} {}]", step.access, escape::line(&step.target)));
            text.push_str(&format!("\n  {} {access}", escape::line(&step.action)));
            if let Some(bytes) = step.bytes {
                text.push_str(&format!(" {}", indicatif::BinaryBytes(bytes)));
            }
        }
        self.screen.tell(&text);
    }
}

/// What is under way.
#[derive(Default)]
struct Active {
    next: AtomicU64,
    entries: Mutex<BTreeMap<u64, String>>,
}

impl Active {
    fn enter(self: &Arc<Self>, label: &str) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(id, label.to_owned());
        Entry { id, active: Arc::clone(self) }
    }

    fn labels(&self) -> Vec<String> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// One thing under way, for as long as this lives.
struct Entry {
    id: u64,
    active: Arc<Active>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.active.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// A meter that nobody sees.
struct Unshown {
    _entry: Entry,
}

impl Meter for Unshown {
    fn advance(&self, _bytes: u64) {}

    fn rewind(&self, _bytes: u64) {}

    fn phase(&self, _phase: &'static str) {}

    fn done(&self, _outcome: &'static str) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::screen::tests::captured;

    #[test]
    fn lines_tell_the_end_of_each_piece_of_work() {
        let (screen, written) = captured();
        let shown = Shown::new(Mode::Auto, &screen);
        let meter = shown.meter("layer sha256:1234", Some(2048));
        meter.phase("downloading");
        meter.advance(2048);
        assert_eq!(shown.active(), ["layer sha256:1234"]);
        meter.done("done");
        drop(meter);
        assert!(shown.active().is_empty());
        assert_eq!(written.err(), "layer sha256:1234: done, 2.00 KiB\n");
    }

    #[test]
    fn json_has_an_object_a_line() {
        let (screen, written) = captured();
        let shown = Shown::new(Mode::Json, &screen);
        shown.meter("a\x1b", None).done("exists");
        shown.note(Level::Warn, "look");
        let lines: Vec<serde_json::Value> = written.err().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.last().unwrap()["note"]["level"], "warn");
        assert_eq!(lines[lines.len() - 2]["progress"]["outcome"], "exists");
        assert_eq!(lines[0]["progress"]["label"], "a\\u{1b}");
    }

    #[test]
    fn a_plan_shows_its_steps() {
        let (screen, written) = captured();
        let step = Step {
            access: crate::grant::Access::Write,
            target: "containerd/default".into(),
            action: "create image a".into(),
            bytes: Some(1 << 20),
        };
        let shown = Shown::new(Mode::None, &screen);
        shown.planned("tag", "a", &[step]);
        shown.planned("tag", "b", &[]);
        assert_eq!(
            written.err(),
            "dry run: tag a\n  create image a [write containerd/default] 1.00 MiB\ndry run: tag b: nothing to do\n"
        );
    }

    #[test]
    fn meters_may_be_used_from_several_threads() {
        let (screen, written) = captured();
        let shown = Shown::new(Mode::Lines, &screen);
        let meter = shown.meter("all", Some(4000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| meter.advance(1)));
            }
        });
        meter.done("done");
        assert_eq!(written.err().lines().last(), Some("all: done, 3.91 KiB"));
    }
}
