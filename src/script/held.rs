//! The leases that `with_lease` holds around what a thread runs.
//!
//! Threads of one script share its context, but not the leases: two closures that run at the same time have each its own.

use std::cell::RefCell;
use std::sync::Arc;

/// A lease, by the name of the place that it is in and its id.
pub(crate) type Entry = (String, Arc<str>);

thread_local! {
    static LEASES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
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
