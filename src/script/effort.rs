//! How much a thread of a script computes without doing anything else.
//!
//! What runs away is found by the operations of the interpreter between two calls that wait for something: a daemon, a
//! registry, an event, the clock. A script that works for days is none.

use std::cell::Cell;

thread_local! {
    /// How many operations the interpreter counted on this thread.
    static SEEN: Cell<u64> = const { Cell::new(0) };
    /// How many it had counted when the thread last waited.
    static RESTED: Cell<u64> = const { Cell::new(0) };
}

/// Starts to count.
pub(crate) fn begin() {
    SEEN.set(0);
    RESTED.set(0);
}

/// Notes that the thread waits for something.
pub(crate) fn rest() {
    RESTED.set(SEEN.get());
}

/// Takes the interpreter's count, and returns whether it is too much. Zero means no limit.
pub(crate) fn is_too_much(count: u64, limit: u64) -> bool {
    // A thread of a batch goes on from the count of the thread that began it.
    if SEEN.replace(count) == 0 {
        RESTED.set(RESTED.get().max(count.saturating_sub(1)));
    }
    limit > 0 && count.saturating_sub(RESTED.get()) > limit
}
