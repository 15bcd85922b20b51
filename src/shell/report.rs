//! A failed evaluation, as people and programs are told of it.

use std::fmt::Write as _;

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::escape;
use super::style::{Palette, Role};
use crate::script::{Location, Report};

/// Where the lines of a source come from.
pub trait Sources {
    /// Returns the text of a source: the main one without a name, else a file or module.
    fn text(&self, source: Option<&str>) -> Option<String>;
}

/// Draws a report for people, without a line end behind the last line.
///
/// `quiet` leaves out the place when it says no more than that the only line of the input failed.
#[must_use]
pub fn draw(report: &Report, sources: &dyn Sources, palette: Palette, terminal: bool, quiet: bool) -> String {
    let safe = |text: &str| if terminal { escape::text(text).into_owned() } else { text.to_owned() };
    let word = palette.paint(Role::Error, "error");
    let mut text = format!("{word}: {}", palette.paint(Role::Heading, &safe(&report.error.message)));
    let mut trace = report.trace.iter();
    if let Some(first) = trace.next()
        && !(quiet && report.trace.len() == 1)
    {
        excerpt(&mut text, first, sources, palette);
    }
    for location in trace {
        let inside = location.function.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
        let line = line_of(location, sources).map(|line| format!(": {}", shown(line.trim()))).unwrap_or_default();
        let place = format!("  called from {}{inside}", escape::line(&place(location)));
        let _ = write!(text, "\n{}{}", palette.paint(Role::Frame, &place), palette.paint(Role::Faint, &line));
    }
    if let Some(hint) = &report.error.hint {
        let _ = write!(text, "\n  {}: {}", palette.paint(Role::Note, "hint"), safe(hint));
    }
    text
}

/// Shows the line with a mark below the place.
fn excerpt(text: &mut String, location: &Location, sources: &dyn Sources, palette: Palette) {
    let number = location.line.to_string();
    let margin = " ".repeat(number.len());
    let frame = |frame: &str| palette.paint(Role::Frame, frame);
    let inside = location.function.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
    let _ = write!(text, "\n{margin}{} {}{inside}", frame("-->"), escape::line(&place(location)));
    let Some(line) = line_of(location, sources) else { return };
    let before: String = line.chars().take(location.column.saturating_sub(1)).collect();
    let rest: String = line.chars().skip(location.column.saturating_sub(1)).collect();
    let marked = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').count().max(1);
    let indent = " ".repeat(shown(&before).width());
    let mark = palette.paint(Role::Error, &"^".repeat(marked));
    let _ = write!(text, "\n{margin} {}", frame("|"));
    let _ = write!(text, "\n{} {}", frame(&format!("{number} |")), shown(&line));
    let _ = write!(text, "\n{margin} {} {indent}{mark}", frame("|"));
}

/// Returns a line with its tabs as spaces, so that the mark stands where it should.
fn shown(line: &str) -> String {
    escape::line(&line.replace('\t', "    ")).into_owned()
}

fn line_of(location: &Location, sources: &dyn Sources) -> Option<String> {
    let text = sources.text(location.source.as_deref())?;
    text.lines().nth(location.line.checked_sub(1)?).map(str::to_owned)
}

fn place(location: &Location) -> String {
    let source = location.source.as_deref().unwrap_or("input");
    format!("{source}:{}:{}", location.line, location.column)
}

/// Makes the JSON object that programs get, with the status that the process would end with.
#[must_use]
pub fn json(report: &Report, status: u8) -> Value {
    let at = |location: &Location| {
        json!({
            "source": location.source, "line": location.line, "column": location.column, "function": location.function,
        })
    };
    let error = &report.error;
    json!({ "error": {
        "kind": error.kind.as_str(),
        "message": error.message,
        "hint": error.hint,
        "operation": error.operation,
        "subject": error.subject,
        "retryable": error.retryable,
        "parse": report.parse,
        "trace": report.trace.iter().map(at).collect::<Vec<_>>(),
        "status": status,
    }})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::script::Thrown;

    struct One(&'static str);

    impl Sources for One {
        fn text(&self, _source: Option<&str>) -> Option<String> {
            Some(self.0.to_owned())
        }
    }

    fn report(trace: Vec<Location>) -> Report {
        let hint = Some("did you mean pull?".into());
        let error = Thrown::plain(Kind::Usage, "unknown function pul (&str)".into(), hint);
        Report { error, trace, parse: false, exit: None }
    }

    fn at(line: usize, column: usize, function: Option<&str>) -> Location {
        Location { source: Some("a.rhai".into()), line, column, function: function.map(str::to_owned) }
    }

    #[test]
    fn the_mark_stands_below_the_word() {
        let sources = One("// first\n\tlet x = pul(\"a\");\nrun()");
        let report = report(vec![at(2, 10, Some("run")), at(3, 1, None)]);
        assert_eq!(
            draw(&report, &sources, Palette::new(false), true, false),
            "error: unknown function pul (&str)\n \
             --> a.rhai:2:10 in run\n  \
             |\n\
             2 |     let x = pul(\"a\");\n  \
             |             ^^^\n  \
             called from a.rhai:3:1: run()\n  \
             hint: did you mean pull?"
        );
    }

    #[test]
    fn at_the_prompt_one_line_needs_no_place() {
        let text = draw(&report(vec![at(1, 1, None)]), &One("pul(\"a\")"), Palette::new(false), true, true);
        assert_eq!(text, "error: unknown function pul (&str)\n  hint: did you mean pull?");
    }

    #[test]
    fn programs_get_the_place_and_the_status() {
        let value = json(&report(vec![at(2, 10, None)]), 1);
        assert_eq!(value["error"]["kind"], "usage");
        assert_eq!(value["error"]["trace"][0]["line"], 2);
        assert_eq!(value["error"]["status"], 1);
    }
}
