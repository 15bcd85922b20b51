//! What is a thread's own while it runs a part of a script: the leases that `with_lease` holds around it, and what cancels it
//! beside the user.
//!
//! Threads of one script share its context, but not these: two closures that run at the same time have each its own.

use std::cell::RefCell;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// A lease, by the name of the place that it is in and its id.
pub(crate) type Entry = (String, Arc<str>);

thread_local! {
    static LEASES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    static CANCEL: RefCell<Option<CancellationToken>> = const { RefCell::new(None) };
}

/// Returns the leases of the thread, the innermost last.
pub(crate) fn current() -> Vec<Entry> {
    LEASES.with_borrow(Clone::clone)
}

/// Gives the thread back the leases that it had before.
#[must_use = "dropping it ends it"]
pub(crate) struct Scope(Vec<Entry>);

/// Makes these the thread's leases until the scope is dropped.
pub(crate) fn enter(leases: Vec<Entry>) -> Scope {
    Scope(LEASES.replace(leases))
}

impl Drop for Scope {
    fn drop(&mut self) {
        LEASES.set(std::mem::take(&mut self.0));
    }
}

/// Returns what cancels the thread's part of the script, when that is not only the user.
pub(crate) fn cancel() -> Option<CancellationToken> {
    CANCEL.with_borrow(Clone::clone)
}

/// Gives the thread back what cancelled it before.
#[must_use = "dropping it ends it"]
pub(crate) struct Cancelled(Option<CancellationToken>);

/// Has this cancel what the thread runs until the scope is dropped.
pub(crate) fn cancelled_by(cancel: Option<CancellationToken>) -> Cancelled {
    Cancelled(CANCEL.replace(cancel))
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        CANCEL.set(self.0.take());
    }
}
