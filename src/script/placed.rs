//! The context that a thread of a batch has for itself.
//!
//! `namespace("k8s.io")` holds for all calls of a script that follow. Inside an item of a batch it holds for that item: others
//! run at the same time, and must not be led elsewhere by it.

use std::cell::RefCell;

use crate::ops::Context;

thread_local! {
    static OWN: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// Returns the thread's own context, if it has one.
pub(crate) fn own() -> Option<Context> {
    OWN.with_borrow(Clone::clone)
}

/// Changes the thread's own context, if it has one, and says whether it has.
pub(crate) fn change(context: &Context) -> bool {
    OWN.with_borrow_mut(|own| own.as_mut().map(|own| *own = context.clone()).is_some())
}

/// Gives the thread back what it had before.
#[must_use = "dropping it ends it"]
pub(crate) struct Scope(Option<Context>);

/// Gives the thread a context of its own until the scope is dropped.
pub(crate) fn enter(context: Context) -> Scope {
    Scope(OWN.replace(Some(context)))
}

impl Drop for Scope {
    fn drop(&mut self) {
        OWN.set(self.0.take());
    }
}
