//! Asking before more than one thing is deleted, at the prompt only.

use std::io::{BufRead, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::escape;
use super::interrupt::Interrupt;
use super::screen::Screen;
use super::style::Role;
use crate::grant::Access;
use crate::ops::{Confirm, Step};

/// How many of the things to delete are named.
const NAMED: usize = 10;

/// Asks on the terminal while the prompt is what runs things; scripts are not asked.
pub struct Asking {
    screen: Arc<Screen>,
    interrupt: Arc<Interrupt>,
    on: AtomicBool,
    one_at_a_time: Mutex<()>,
}

impl Asking {
    /// Makes one that does not ask yet.
    #[must_use]
    pub fn new(screen: &Arc<Screen>, interrupt: &Arc<Interrupt>) -> Self {
        Self {
            screen: Arc::clone(screen),
            interrupt: Arc::clone(interrupt),
            on: AtomicBool::new(false),
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Begins or stops asking.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Waits for a line without missing a Ctrl-C.
    fn answer(&self) -> Option<String> {
        let stdin = std::io::stdin();
        let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while !self.interrupt.is_stopped() {
            let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut waiting, Some(&tick)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    let mut line = String::new();
                    return stdin.lock().read_line(&mut line).ok().map(|_| line);
                }
                Err(_) => return None,
            }
        }
        None
    }
}

impl Confirm for Asking {
    fn confirm(&self, operation: &str, subject: &str, steps: &[Step]) -> bool {
        if !self.on.load(Ordering::Relaxed) || !std::io::stdin().is_terminal() {
            return true;
        }
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let deletions: Vec<&Step> = steps.iter().filter(|step| step.access == Access::Delete).collect();
        for step in deletions.iter().take(NAMED) {
            let freed = step.bytes.map(|bytes| format!(", frees {}", crate::script::units::show_size(bytes)));
            self.screen.tell(&format!("  {}{}", escape::line(&step.action), freed.unwrap_or_default()));
        }
        if deletions.len() > NAMED {
            self.screen.tell(&format!("  … and {} more", deletions.len() - NAMED));
        }
        let question =
            format!("{operation} {}: go on with {} deletions? [y/N]", escape::line(subject), deletions.len());
        self.screen.tell(&self.screen.err_palette().paint(Role::Warning, &question));
        self.answer().is_some_and(|line| matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
