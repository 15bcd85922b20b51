//! `--log`: what the layers below remark goes to standard error, without disturbing bars or the prompt.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;

use super::Screen;
use super::escape;
use super::style::Role;

/// Whose remarks are shown: libraries write headers, and with them credentials, into theirs.
const OURS: &str = "ctrsh";

/// The least important remarks that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold(LevelFilter);

impl Default for Threshold {
    /// Shows warnings: what they tell of is not an error of the script, but the user has to know.
    fn default() -> Self {
        Self(LevelFilter::WARN)
    }
}

impl FromStr for Threshold {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // LevelFilter takes numbers and capitals as well.
        let known = ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
        let level = text.parse().ok().filter(|_| known);
        level.map(Self).ok_or("is not one of off, error, warn, info, debug, trace")
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Begins to show remarks, until the process ends. Only the first call in a process counts.
pub fn begin(Threshold(level): Threshold, screen: &Arc<Screen>) {
    let ours = Targets::new().with_target(OURS, level);
    let log = Log { screen: Arc::clone(screen), start: Instant::now(), timed: level > LevelFilter::WARN };
    // A second shell in the same process writes to the log of the first.
    let _ = tracing::subscriber::set_global_default(registry().with(log.with_filter(ours)));
}

struct Log {
    screen: Arc<Screen>,
    start: Instant,
    /// Whether each line says when it was: who only sees warnings has no use for it.
    timed: bool,
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let seconds = self.start.elapsed().as_secs_f64();
        let (level, module) = (event.metadata().level(), event.metadata().target());
        if self.screen.json_errors() {
            let log = serde_json::json!({ "log": {
                "level": level.as_str().to_ascii_lowercase(), "seconds": seconds, "module": module,
                "message": line.message, "fields": line.fields.into_iter().collect::<serde_json::Map<_, _>>(),
            }});
            self.screen.tell(&escape::json(&log.to_string()));
            return;
        }
        let mut text = line.message;
        for (name, value) in line.fields {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(text, " {name}={value}");
        }
        if self.timed {
            text = format!("{seconds:.4} s {module}: {text}");
        }
        self.screen.remark(role(*level), word(*level), &text);
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn role(level: Level) -> Role {
    match level {
        Level::ERROR => Role::Error,
        Level::WARN => Role::Warning,
        Level::INFO => Role::Note,
        Level::DEBUG | Level::TRACE => Role::Faint,
    }
}

/// A remark taken apart.
#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<(String, serde_json::Value)>,
}

impl Line {
    fn add(&mut self, field: &Field, value: serde_json::Value) {
        self.fields.push((field.name().to_owned(), value));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, text.into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_one_of_the_words() {
        assert_eq!("debug".parse(), Ok(Threshold(LevelFilter::DEBUG)));
        assert_eq!(Threshold::default().to_string(), "warn");
        for bad in ["", "3", "WARN", "verbose"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
    }
}
