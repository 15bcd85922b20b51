//! Exit statuses.

use super::interrupt::Why;
use crate::kind::{Failure, Kind};
use crate::script::Report;

/// Done.
pub const DONE: u8 = 0;
/// The script failed.
pub const FAILED: u8 = 1;
/// The command line, the configuration or the script's syntax is wrong.
pub const USAGE: u8 = 2;
/// A batch ended, and some of its items failed.
pub const BATCH: u8 = 3;
/// There is no connection to containerd.
pub const DISCONNECTED: u8 = 4;
/// Access was denied.
pub const DENIED: u8 = 5;
/// A disk, or a quota, is full.
pub const NO_SPACE: u8 = 6;
/// The user interrupted it: 128 and the number of the signal, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Returns the status for something that was stopped.
#[must_use]
pub const fn of_stop(why: Why) -> u8 {
    match why {
        Why::Interrupted => INTERRUPTED,
        Why::Terminated => 143,
        Why::HungUp => 129,
        Why::Closed => 141,
        Why::TimedOut => FAILED,
    }
}

/// Returns the status for an evaluation that failed.
#[must_use]
pub fn of_report(report: &Report) -> u8 {
    if let Some(status) = report.exit.and_then(|status| u8::try_from(status).ok()) {
        return status;
    }
    if report.parse {
        return USAGE;
    }
    if report.error.disconnected {
        return DISCONNECTED;
    }
    of_kind(report.error.kind)
}

/// Returns the status for a failure outside of an evaluation.
#[must_use]
pub fn of_failure(failure: &dyn Failure) -> u8 {
    match failure.kind() {
        Kind::Usage => USAGE,
        kind => of_kind(kind),
    }
}

/// Returns the status for an operation that the shell itself carried out.
#[must_use]
pub fn of_operation(error: &crate::ops::Error) -> u8 {
    if error.is_disconnected() { DISCONNECTED } else { of_kind(error.kind()) }
}

pub(crate) const fn of_kind(kind: Kind) -> u8 {
    match kind {
        Kind::Denied => DENIED,
        Kind::NoSpace => NO_SPACE,
        Kind::Cancelled => INTERRUPTED,
        _ => FAILED,
    }
}
