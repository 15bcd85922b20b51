//! The table.

use std::fmt::Write;

use crate::contest::{Outcome, Who};
use crate::stage::Stage;

/// Writes the results as Markdown.
pub fn table(stage: &Stage, outcomes: &[Outcome]) -> String {
    let mut text = stage.description();
    text.push_str(
        "\n| workload | rounds | ctr | ctrsh | ctrsh / ctr | to reach | peak ctr | peak ctrsh | to reach | beside |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let _ = writeln!(text, "{}", row(outcome));
    }
    text
}

fn row(outcome: &Outcome) -> String {
    let rounds = outcome.of(Who::Ctrsh).map_or(0, <[_]>::len);
    let ratio = outcome.ratio(Who::Ctr);
    let peak = outcome.peak(Who::Ctrsh);
    let others = [Who::Skopeo, Who::Crane].into_iter().filter_map(|who| {
        let (time, ratio, peak) = (outcome.time(who)?, outcome.ratio(who)?, outcome.peak(who)?);
        Some(format!("{} {}, {peak:.0} MiB, ctrsh / {0} {ratio:.2}", who.name(), seconds(time)))
    });
    let cells = [
        outcome.name.clone(),
        rounds.to_string(),
        outcome.time(Who::Ctr).map_or_else(String::new, seconds),
        outcome.time(Who::Ctrsh).map_or_else(String::new, seconds),
        ratio.map_or_else(String::new, |ratio| mark(ratio, outcome.bar.ratio, 2)),
        outcome.bar.ratio.map_or_else(String::new, |bar| format!("{bar:.2}")),
        outcome.peak(Who::Ctr).map_or_else(String::new, |peak| format!("{peak:.1}")),
        peak.map_or_else(String::new, |peak| mark(peak, outcome.bar.peak, 1)),
        outcome.bar.peak.map_or_else(String::new, |bar| format!("{bar:.0}")),
        others.collect::<Vec<_>>().join("; "),
    ];
    format!("| {} |", cells.join(" | "))
}

/// Writes a figure, in bold when it is over what is to be reached.
fn mark(value: f64, bar: Option<f64>, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if bar.is_some_and(|bar| value > bar) { format!("**{text}**") } else { text }
}

fn seconds(time: f64) -> String {
    if time < 1.0 { format!("{:.1} ms", time * 1000.0) } else { format!("{time:.2} s") }
}
