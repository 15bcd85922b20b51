//! Progress as bars: one a piece of work, and one for all together once there are several.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Entry;
use crate::ops::Meter;
use crate::shell::screen::Screen;

/// From how many columns on there is room for long labels and a bar of a size of its own.
const ROOMY: u16 = 112;
/// How many columns there are when nobody says it.
const DEFAULT_COLUMNS: u16 = 80;

/// What a bar shows.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// A piece of work of a known size, among others.
    Part,
    /// The only one, or all together.
    Whole,
    /// A piece of work whose size nobody knows.
    Unknown,
}

/// The bars of a terminal.
pub(super) struct Bars {
    multi: MultiProgress,
    sum: Arc<Mutex<Sum>>,
}

/// All pieces of work together, from when there was none under way.
#[derive(Default)]
struct Sum {
    bar: Option<ProgressBar>,
    /// The first piece of work, as long as it is the only one.
    alone: Option<ProgressBar>,
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
        let look = match total {
            None => Look::Unknown,
            Some(_) if sum.all == 1 => Look::Whole,
            Some(_) => Look::Part,
        };
        bar.set_style(look.style());
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if sum.all == 1 {
            sum.alone = total.and(Some(bar.clone()));
        }
        if sum.all == 2 {
            if let Some(first) = sum.alone.take() {
                first.set_style(Look::Part.style());
            }
            let all = self.multi.add(ProgressBar::new(sum.total));
            all.set_style(Look::Whole.style());
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

impl Look {
    /// Returns the style for the terminal as wide as it is now.
    fn style(self) -> ProgressStyle {
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
        let columns = size.map(|size| size.ws_col).filter(|columns| *columns > 0);
        let template = self.template(columns.unwrap_or(DEFAULT_COLUMNS));
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        style.progress_chars("━╸─")
    }

    /// Returns what fits this many columns, from 80 on: on a narrow terminal the bar is what the rest leaves.
    fn template(self, columns: u16) -> String {
        let (name, bar) = if columns < ROOMY { (20, "wide_bar:") } else { (32, "bar:24") };
        let amount = "{binary_bytes:>10} of {binary_total_bytes:10}";
        match self {
            Self::Part => format!("{{prefix:{name}!}} {{{bar}.cyan/blue}} {amount} {{msg}}"),
            Self::Whole => {
                format!("{{prefix:{name}!}} {{{bar}.green/blue}} {amount} {{binary_bytes_per_sec}} {{eta}} {{msg}}")
            }
            Self::Unknown => format!("{{prefix:{name}!}} {{spinner:.cyan}} {{binary_bytes:>10}} {{msg}}"),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_one() {
        for look in [Look::Part, Look::Whole, Look::Unknown] {
            for columns in [40, 80, ROOMY, 300] {
                let template = look.template(columns);
                assert!(ProgressStyle::with_template(&template).is_ok(), "{template}");
            }
        }
    }
}
