//! Taking back what an operation made when it does not come to its end.
//!
//! An operation that makes something temporary (a lease, a snapshot, a task) pushes how to take it back onto an [`Undo`].
//! When it succeeds it calls [`Undo::forget`]. When it fails, or is dropped half way because the user pressed Ctrl-C, the
//! steps go to the [`Debts`] of the context, and whoever waited for the operation settles them before it returns.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long settling may take before the rest is left to leases' expiry.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is still to be taken back.
#[derive(Clone, Default)]
pub struct Debts(Arc<Mutex<Vec<Job>>>);

impl Debts {
    fn take(&self) -> Vec<Job> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes back everything, the newest first, and what that leaves to be taken back; gives up after ten seconds.
    pub async fn settle(&self) {
        let all = async {
            loop {
                let jobs = self.take();
                if jobs.is_empty() {
                    return;
                }
                for job in jobs {
                    job.await;
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }
}

/// The steps back of one operation.
#[must_use = "dropping it takes everything back"]
pub struct Undo {
    debts: Debts,
    jobs: Vec<Job>,
}

impl Undo {
    /// Starts with nothing to take back.
    pub fn new(debts: &Debts) -> Self {
        Self { debts: debts.clone(), jobs: Vec::new() }
    }

    /// Adds how to take back what was just made. Steps run in reverse order; a step treats "not found" as done.
    pub fn push(&mut self, job: impl Future<Output = ()> + Send + 'static) {
        self.jobs.push(Box::pin(job));
    }

    /// Keeps what was made.
    pub fn forget(mut self) {
        self.jobs.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let mut debts = self.debts.0.lock().unwrap_or_else(PoisonError::into_inner);
        debts.extend(self.jobs.drain(..).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn steps_run_in_reverse_and_only_when_dropped() {
        let debts = Debts::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        for (name, keep) in [("a", true), ("b", false)] {
            let mut undo = Undo::new(&debts);
            for step in 1..3 {
                let seen = seen.clone();
                undo.push(async move { seen.lock().unwrap().push(format!("{name}{step}")) });
            }
            if keep {
                undo.forget();
            }
        }
        debts.settle().await;
        assert_eq!(*seen.lock().unwrap(), ["b2", "b1"]);
    }
}
