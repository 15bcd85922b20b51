//! What a migration came to, and its reports as JSON, CSV and HTML.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::oci::Digest;
use crate::ops::progress::show_size;
use crate::ops::{Error, Result};

/// What became of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It would be moved.
    Planned,
    /// It was moved.
    Done,
    /// The target had it.
    Skipped,
    /// It could not be moved.
    Failed,
}

impl State {
    /// Returns the name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// What became of one image, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where from.
    pub source: String,
    /// Where to.
    pub target: String,
    /// What became of it.
    pub state: State,
    /// What it is.
    pub digest: Option<Digest>,
    /// Bytes of blobs that were sent, or would be at most.
    pub bytes: u64,
    /// How often it was tried.
    pub tries: u32,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// When it ended, in milliseconds from the beginning of the migration.
    pub ended: u64,
    /// The kind of the failure, what it says, and what can be done.
    pub failure: Option<(Kind, String, Option<String>)>,
}

/// What a migration came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The images, in the order of the plan.
    pub outcomes: Vec<Outcome>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl Report {
    /// Counts the images of which that became.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.state == state).count()
    }

    /// Returns how many bytes of blobs were sent.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.outcomes.iter().map(|outcome| outcome.bytes).sum()
    }

    /// Writes it in the form that a file's name asks for: `.json`, `.csv` or `.html`.
    ///
    /// # Errors
    /// That there is no such form.
    pub fn render(&self, file: &str) -> Result<String> {
        match file.rsplit('.').next() {
            Some("json") => Ok(format!("{:#}\n", self.json())),
            Some("csv") => self.csv(),
            Some("html") => Ok(self.html()),
            _ => Err(Error::Argument {
                name: format!("the report {file}"),
                problem: "has no form".into(),
                cure: Some("call it .json, .csv or .html".into()),
            }),
        }
    }

    /// Returns it as JSON. Sizes are bytes, times seconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let items = self.outcomes.iter().map(Outcome::json);
        json!({
            "total": self.outcomes.len(),
            "planned": self.count(State::Planned),
            "done": self.count(State::Done),
            "skipped": self.count(State::Skipped),
            "failed": self.count(State::Failed),
            "bytes": self.bytes(),
            "seconds": seconds(self.millis),
            "items": items.collect::<Vec<_>>(),
        })
    }

    fn csv(&self) -> Result<String> {
        const COLUMNS: [&str; 9] =
            ["source", "target", "state", "digest", "bytes", "tries", "seconds", "kind", "message"];
        let mut writer = csv::Writer::from_writer(Vec::new());
        let fail = |error: csv::Error| Error::argument("the report", format!("cannot be written: {error}"));
        writer.write_record(COLUMNS).map_err(fail)?;
        for outcome in &self.outcomes {
            let item = outcome.json();
            let cell = |key: &str| match item.get(key) {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => String::new(),
                Some(other) => other.to_string(),
            };
            writer.write_record(COLUMNS.map(cell)).map_err(fail)?;
        }
        let bytes = writer.into_inner().map_err(|error| fail(error.into_error().into()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns a page that needs nothing else: the sums, a chart of bytes and failures over time, the images.
    fn html(&self) -> String {
        let mut rows = String::new();
        for outcome in &self.outcomes {
            let failure = outcome.failure.as_ref();
            let message = failure.map_or_else(String::new, |(kind, message, _)| format!("{kind}: {message}"));
            let digest = outcome.digest.as_ref().map_or("", Digest::as_str);
            let _ = writeln!(
                rows,
                "<tr class=\"{state}\"><td>{state}</td><td>{}</td><td>{}</td><td><code>{}</code></td><td>{}</td><td>{:.1}</td><td>{}</td></tr>",
                escape(&outcome.source),
                escape(&outcome.target),
                escape(digest),
                show_size(outcome.bytes),
                seconds(outcome.millis),
                escape(&message),
                state = outcome.state.as_str(),
            );
        }
        format!(
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Migration of {total} images</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }}
table {{ border-collapse: collapse; width: 100%; font-size: 13px }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; overflow-wrap: anywhere }}
tr.failed td {{ background: #fdecea }}
svg {{ width: 100%; height: auto; max-width: 60rem }}
.bytes {{ fill: none; stroke: #1f6feb; stroke-width: 2 }}
.failures {{ fill: none; stroke: #c62828; stroke-width: 2 }}
text {{ font: 12px system-ui, sans-serif; fill: #555 }}
</style>
</head>
<body>
<h1>Migration of {total} images</h1>
<p>{done} moved, {skipped} there already, {failed} failed; {bytes} sent in {seconds:.1} s.</p>
{chart}
<table>
<thead><tr><th>state</th><th>source</th><th>target</th><th>digest</th><th>sent</th><th>seconds</th><th>failure</th></tr></thead>
<tbody>
{rows}</tbody>
</table>
</body>
</html>
"#,
            total = self.outcomes.len(),
            done = self.count(State::Done),
            skipped = self.count(State::Skipped),
            failed = self.count(State::Failed),
            bytes = show_size(self.bytes()),
            seconds = seconds(self.millis),
            chart = self.chart(),
        )
    }

    /// Draws bytes and failures over time, both from zero to their sum.
    fn chart(&self) -> String {
        const WIDTH: f64 = 800.0;
        const HEIGHT: f64 = 200.0;
        let mut ends: Vec<&Outcome> = self.outcomes.iter().collect();
        ends.sort_by_key(|outcome| outcome.ended);
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { ratio(part, whole) };
        let (all, failures) = (self.bytes(), self.count(State::Failed) as u64);
        let (mut sent, mut failed) = (0, 0);
        let (mut bytes, mut fails) = (format!("0,{HEIGHT}"), format!("0,{HEIGHT}"));
        for outcome in ends {
            sent += outcome.bytes;
            let x = WIDTH * share(outcome.ended, self.millis).min(1.0);
            let _ = write!(bytes, " {x:.1},{:.1}", HEIGHT * (1.0 - share(sent, all)));
            let before = HEIGHT * (1.0 - share(failed, failures));
            failed += u64::from(outcome.state == State::Failed);
            let _ = write!(fails, " {x:.1},{before:.1} {x:.1},{:.1}", HEIGHT * (1.0 - share(failed, failures)));
        }
        format!(
            r#"<svg viewBox="-10 -20 820 250" role="img" aria-label="Bytes and failures over time">
<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="gray"/>
<polyline class="bytes" points="{bytes}"/>
<polyline class="failures" points="{fails}"/>
<text x="4" y="-6">{} sent (blue), {failures} failed (red)</text>
<text x="{WIDTH}" y="218" text-anchor="end">{:.1} s</text>
</svg>"#,
            show_size(all),
            seconds(self.millis),
        )
    }
}

impl Outcome {
    /// Returns it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut item = json!({
            "source": self.source,
            "target": self.target,
            "state": self.state.as_str(),
            "digest": self.digest.as_ref().map(Digest::as_str),
            "bytes": self.bytes,
            "tries": self.tries,
            "seconds": seconds(self.millis),
        });
        if let (Some((kind, message, hint)), Some(item)) = (&self.failure, item.as_object_mut()) {
            item.insert("kind".into(), kind.as_str().into());
            item.insert("message".into(), message.clone().into());
            item.insert("hint".into(), hint.clone().into());
        }
        item
    }
}

/// Turns milliseconds into seconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a migration takes less than 2^53 ms")]
pub(super) fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "it is for a picture")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let outcome = |target: &str, state, bytes, ended| Outcome {
            source: "registry:a/<b>:1".into(),
            target: target.into(),
            state,
            digest: None,
            bytes,
            tries: 1,
            millis: 500,
            ended,
            failure: (state == State::Failed).then(|| (Kind::NotFound, "no such \"tag\", x".into(), None)),
        };
        Report {
            outcomes: vec![
                outcome("one", State::Done, 2048, 500),
                outcome("two", State::Failed, 0, 1000),
                outcome("three", State::Skipped, 0, 1500),
            ],
            millis: 2000,
        }
    }

    #[test]
    fn each_form_has_every_image() {
        let report = report();
        let json = report.json();
        assert_eq!(
            (json["total"].as_u64(), json["done"].as_u64(), json["failed"].as_u64()),
            (Some(3), Some(1), Some(1))
        );
        assert_eq!(json["items"][1]["kind"], "not_found");
        let csv = report.render("r.csv").unwrap();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
        assert_eq!((rows.len(), &rows[1][8], &rows[0][4]), (3, "no such \"tag\", x", "2048"));
        let html = report.render("a/r.html").unwrap();
        assert_eq!(html.matches("<tr class=").count(), 3);
        assert!(html.contains("a/&lt;b&gt;:1") && !html.contains("<b>"), "{html}");
        assert!(html.contains("points=\"0,200 200.0,0.0 400.0,0.0 600.0,0.0\""), "{html}");
        assert!(!html.contains("http"), "the page loads nothing");
        assert!(report.render("r.txt").is_err());
    }
}
