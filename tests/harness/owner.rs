//! Which trial a folder of the suite belongs to: what is below another's comes and goes while one looks.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

thread_local! {
    /// The trial that runs on this thread. A thread that a trial starts is nobody's, and so are the folders that it makes.
    static TRIAL: Cell<Option<u32>> = const { Cell::new(None) };
}

static OWNERS: Mutex<Option<HashMap<PathBuf, u32>>> = Mutex::new(None);

/// Begins a trial on this thread.
pub fn begin() {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    TRIAL.set(Some(COUNTER.fetch_add(1, Ordering::Relaxed)));
}

/// Returns a name that only this trial's folder has.
pub fn named(name: &str) -> String {
    TRIAL.get().map_or_else(|| name.to_owned(), |trial| format!("{name}-{trial}"))
}

/// Notes that a folder is this trial's.
pub fn claim(folder: &Path) {
    if let Some(trial) = TRIAL.get() {
        let mut owners = OWNERS.lock().unwrap_or_else(PoisonError::into_inner);
        owners.get_or_insert_default().insert(folder.to_owned(), trial);
    }
}

/// Returns whether a folder is known to be another trial's.
pub fn is_of_another(folder: &Path) -> bool {
    let Some(own) = TRIAL.get() else { return false };
    let owners = OWNERS.lock().unwrap_or_else(PoisonError::into_inner);
    owners.as_ref().and_then(|owners| owners.get(folder)).is_some_and(|owner| *owner != own)
}
