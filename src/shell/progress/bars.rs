//! Progress as bars: one a piece of work, and one for all together once there are several.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Entry;
use crate::ops::Meter;
use crate::shell::screen::Screen;

const KNOWN: &str = "{prefix:32!} {bar:24.cyan/blue} {binary_bytes:>10} of {binary_total_bytes:10} {msg}";
const UNKNOWN: &str = "{prefix:32!} {spinner:.cyan} {binary_bytes:>10} {msg}";
const TOTAL: &str =
    "{prefix:32!} {bar:24.green/blue} {binary_bytes:>10} of {binary_total_bytes:10} {binary_bytes_per_sec} {eta}";

/// The bars of a terminal.
pub(super) struct Bars {
    multi: MultiProgress,
    sum: Arc<Mutex<Sum>>,
}

/// All pieces of work together, from when there was none under way.
#[derive(Default)]
struct Sum {
    bar: Option<ProgressBar>,
    under_way: usize,
    done: usize,
    all: usize,
    bytes: u64,
    total: u64,
}

impl Bars {
    pub(super) fn new(screen: &Screen) -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15));
        let aside = multi.clone();
        screen.set_aside(move |write| aside.suspend(write));
        Self { multi, sum: Arc::default() }
    }

    pub(super) fn meter(&self, label: &str, total: Option<u64>, entry: Entry) -> BarMeter {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.under_way += 1;
        sum.all += 1;
        sum.total += total.unwrap_or_default();
        let bar = match &sum.bar {
            Some(last) => self.multi.insert_before(last, ProgressBar::new(total.unwrap_or_default())),
            None => self.multi.add(ProgressBar::new(total.unwrap_or_default())),
        };
        bar.set_style(style(if total.is_some() { KNOWN } else { UNKNOWN }));
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if sum.all == 2 {
            let all = self.multi.add(ProgressBar::new(sum.total));
            all.set_style(style(TOTAL));
            sum.bar = Some(all);
        }
        sum.draw();
        BarMeter { bar, sum: Arc::clone(&self.sum), counted: total.is_some(), _entry: entry }
    }
}

impl Sum {
    fn draw(&self) {
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
            bar.set_position(self.bytes);
            bar.set_prefix(format!("{} of {} done", self.done, self.all));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸─")
}

/// One piece of work, drawn as a bar that vanishes at its end.
pub(super) struct BarMeter {
    bar: ProgressBar,
    sum: Arc<Mutex<Sum>>,
    counted: bool,
    _entry: Entry,
}

impl BarMeter {
    fn sum(&self, change: impl FnOnce(&mut Sum)) {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut sum);
        sum.draw();
    }
}

impl Meter for BarMeter {
    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        if self.counted {
            self.sum(|sum| sum.bytes = sum.bytes.saturating_add(bytes));
        }
    }

    fn rewind(&self, bytes: u64) {
        self.bar.dec(bytes.min(self.bar.position()));
        if self.counted {
            self.sum(|sum| sum.bytes = sum.bytes.saturating_sub(bytes));
        }
    }

    fn phase(&self, phase: &'static str) {
        self.bar.set_message(phase);
    }

    fn done(&self, _outcome: &'static str) {
        self.bar.finish_and_clear();
        self.sum(|sum| sum.done += 1);
    }
}

impl Drop for BarMeter {
    fn drop(&mut self) {
        // Also after a failure or Ctrl-C: no bar stays on the screen.
        self.bar.finish_and_clear();
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.under_way -= 1;
        if sum.under_way == 0 {
            if let Some(bar) = sum.bar.take() {
                bar.finish_and_clear();
            }
            *sum = Sum::default();
        }
    }
}
