//! Timestamps as scripts see them.

use chrono::{DateTime, SecondsFormat, Utc};
use rhai::{Engine, INT};

use crate::script::units;

/// A point in time, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub DateTime<Utc>);

impl Time {
    /// Returns it as RFC 3339 writes it, to the second.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.0.to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// Returns how long ago it was, in the largest unit.
    #[must_use]
    pub fn ago(self) -> String {
        let age = Utc::now().signed_duration_since(self.0);
        match age.to_std() {
            Err(_) => "in the future".into(),
            Ok(age) if age.as_secs() < 2 => "just now".into(),
            Ok(age) if age.as_secs() < 60 => format!("{} s ago", age.as_secs()),
            Ok(age) if age.as_secs() < 365 * 86_400 => {
                let shown = units::show_duration(age);
                let mut parts = shown.split(' ');
                match (parts.next(), parts.next()) {
                    (Some(number), Some(unit)) => format!("{number} {unit} ago"),
                    _ => shown,
                }
            }
            Ok(_) => self.0.format("%Y-%m-%d").to_string(),
        }
    }
}

/// What editors are told of the type.
pub(crate) const DEFINITIONS: &str = "
/// The seconds since 1970, in UTC.
fn get unix(this: Time) -> int;

/// The seconds since then; less than zero in the future.
fn get age(this: Time) -> int;

op -(Time, Time) -> int;
op -(Time, int) -> Time;
op +(Time, int) -> Time;
";

/// Binds the type with its operators: times compare, their difference is in seconds, and seconds can be added.
pub(crate) fn bind(engine: &mut Engine) {
    engine
        .register_type_with_name::<Time>("Time")
        .register_fn("to_string", |time: &mut Time| time.to_rfc3339())
        .register_fn("to_debug", |time: &mut Time| time.to_rfc3339())
        .register_fn("-", |a: Time, b: Time| (a.0 - b.0).num_seconds())
        .register_fn("-", |a: Time, seconds: INT| shifted(a, -seconds))
        .register_fn("+", |a: Time, seconds: INT| shifted(a, seconds))
        .register_fn("<", |a: Time, b: Time| a < b)
        .register_fn("<=", |a: Time, b: Time| a <= b)
        .register_fn(">", |a: Time, b: Time| a > b)
        .register_fn(">=", |a: Time, b: Time| a >= b)
        .register_fn("==", |a: Time, b: Time| a == b)
        .register_fn("!=", |a: Time, b: Time| a != b)
        .register_get("unix", |time: &mut Time| time.0.timestamp())
        .register_get("age", |time: &mut Time| Utc::now().signed_duration_since(time.0).num_seconds());
}

fn shifted(time: Time, seconds: INT) -> Time {
    let moved = chrono::Duration::try_seconds(seconds).and_then(|delta| time.0.checked_add_signed(delta));
    Time(moved.unwrap_or(time.0))
}
