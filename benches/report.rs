//! The table.

use std::fmt::Write;

use crate::contest::{Aims, Entry, Outcome};
use crate::stage::Stage;

/// Writes the results as Markdown.
pub fn table(stage: &Stage, outcomes: &[Outcome]) -> String {
    let mut text = stage.description();
    text.push_str(
        "\n| workload | rounds | who | time | CPU s | peak MiB | ctrsh / it | to reach |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let ours = outcome.entries.iter().filter_map(|entry| Some((entry, entry.aims.as_ref()?)));
        for (number, (entry, aims)) in ours.enumerate() {
            rows(&mut text, outcome, entry, aims, number == 0);
        }
    }
    text
}

/// Writes a row for a way of ctrsh, and one for each that it is measured against: all of them for the first way, those
/// with a goal for the others.
fn rows(text: &mut String, outcome: &Outcome, ours: &Entry, aims: &Aims, first: bool) {
    let name = if first { outcome.name.as_str() } else { "" };
    let rounds = if first { outcome.rounds.to_string() } else { String::new() };
    let time = seconds(ours.time());
    let (cpu, peak) = (limited(ours.cpu(), aims.cpu, 2), limited(Some(ours.peak()), aims.peak, 1));
    let _ = writeln!(text, "| {name} | {rounds} | {} | {time} | {cpu} | {peak} | | |", ours.name);
    for other in outcome.entries.iter().filter(|entry| entry.aims.is_none()) {
        let aim = aims.ratio(other.name);
        if !first && aim.is_none() {
            continue;
        }
        let (time, peak, ratio) = (seconds(other.time()), other.peak(), ours.ratio(other));
        let cpu = limited(other.cpu(), None, 2);
        let ratio = mark(format!("{ratio:.2}"), aim.is_some_and(|aim| ratio > aim));
        let aim = aim.map_or_else(String::new, |aim| format!("{aim:.2}"));
        let _ = writeln!(text, "| | | {} | {time} | {cpu} | {peak:.1} | {ratio} | {aim} |", other.name);
    }
}

/// Writes a figure, and what it is to stay within.
fn limited(value: Option<f64>, limit: Option<f64>, digits: usize) -> String {
    let Some(value) = value else { return String::new() };
    let text = mark(format!("{value:.digits$}"), limit.is_some_and(|limit| value > limit));
    limit.map_or_else(|| text.clone(), |limit| format!("{text} of {limit:.0}"))
}

/// Puts a figure in bold when it misses its goal.
fn mark(text: String, misses: bool) -> String {
    if misses { format!("**{text}**") } else { text }
}

fn seconds(time: f64) -> String {
    if time < 1.0 { format!("{:.1} ms", time * 1000.0) } else { format!("{time:.2} s") }
}
