//! Taking back what an operation made when it does not come to its end.
//!
//! An operation that makes something temporary (a lease, a snapshot, a task) pushes how to take it back onto an [`Undo`].
//! When it succeeds it calls [`Undo::forget`]. When it fails, or is dropped half way because the user pressed Ctrl-C, the
//! steps go to the [`Debts`] of the context, and whoever waited for the operation settles them before it returns.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::containerd;
use crate::kind::chain;
use crate::ops::Result;

/// How long settling may take before the rest is left to leases' expiry.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a step may take at the least when the one before it came to its end: a slow daemon is not one that is gone.
const STEP_PATIENCE: Duration = Duration::from_secs(3);

/// One step back, which may say why it failed, and what stays when it is not made.
struct Job {
    what: String,
    back: Pin<Box<dyn Future<Output = Option<String>> + Send>>,
}

/// What a step back came to.
pub trait Outcome {
    /// Returns why what was to go stays, if it does; that it is gone already is what was wanted.
    fn failure(self) -> Option<String>;
}

/// A step that cannot fail, or tells by itself what stays.
impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<T> Outcome for containerd::Result<T> {
    fn failure(self) -> Option<String> {
        self.err().filter(|error| !error.is_not_found()).map(|error| chain(&error))
    }
}

/// The steps back of one operation, in their order.
struct Steps {
    since: Instant,
    jobs: VecDeque<Job>,
}

/// What is still to be taken back, by operation.
#[derive(Clone, Default)]
pub struct Debts(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Somebody who settled is done with an operation.
    done: Notify,
}

#[derive(Default)]
struct State {
    owed: VecDeque<Steps>,
    /// How many operations are being taken back.
    in_hand: usize,
}

impl Debts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Current<'_>> {
        let mut state = self.state();
        let steps = state.owed.pop_front()?;
        state.in_hand += 1;
        Some(Current { debts: self, steps })
    }

    /// Takes back everything, of each operation the newest first, and what that leaves to be taken back. What is not done
    /// within ten seconds stays, and is named in a warning; as long as steps come to their end, the next has three seconds of
    /// its own, so that none stays for what the one before it took. What is under way when this is dropped is owed as before.
    ///
    /// Several may settle at once: the steps of one operation are made by one of them, one after the other, and none of them
    /// returns before the others are done with what was owed.
    pub async fn settle(&self) {
        let begun = Instant::now();
        loop {
            let done = self.0.done.notified();
            while let Some(mut current) = self.next() {
                // Whoever failed later than this began has as long as if nobody had been at it.
                let mut end = begun.max(current.steps.since) + PATIENCE;
                while let Some(Job { what, back }) = current.steps.jobs.front_mut() {
                    let why = match tokio::time::timeout_at(end, back).await {
                        Ok(why) => {
                            end = end.max(Instant::now() + STEP_PATIENCE);
                            why
                        }
                        Err(_) => Some(format!("it was not taken back within {} s", PATIENCE.as_secs())),
                    };
                    if let Some(why) = why {
                        tracing::warn!("{what} is left behind: {why}");
                    }
                    current.steps.jobs.pop_front();
                }
            }
            let (owed, in_hand) = {
                let state = self.state();
                (!state.owed.is_empty(), state.in_hand > 0)
            };
            // Who had it in hand was dropped meanwhile.
            if owed {
                continue;
            }
            if !in_hand || tokio::time::timeout_at(begun + PATIENCE, done).await.is_err() {
                return;
            }
        }
    }
}

/// The steps that are under way. Those that are left are owed again when nobody waits for them any more.
struct Current<'a> {
    debts: &'a Debts,
    steps: Steps,
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let jobs = std::mem::take(&mut self.steps.jobs);
        let mut state = self.debts.state();
        if !jobs.is_empty() {
            state.owed.push_front(Steps { since: self.steps.since, jobs });
        }
        state.in_hand -= 1;
        drop(state);
        self.debts.0.done.notify_waiters();
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

    /// Adds how to take back what was just made. Steps run in reverse order.
    ///
    /// `what` names what stays when the step fails or there is no time left for it.
    pub fn push<O: Outcome>(&mut self, what: impl Into<String>, back: impl Future<Output = O> + Send + 'static) {
        self.jobs.push(Job { what: what.into(), back: Box::pin(async move { back.await.failure() }) });
    }

    /// Does a step, and notes how to take it back, which is done only when the step was.
    ///
    /// The step runs in a task of its own: a request that is dropped half way may be carried out all the same, and only its
    /// answer tells whether what it names was made by it or was there before.
    ///
    /// # Errors
    /// The outer one when the program is about to end or the step has a bug, the inner one what it failed with.
    pub async fn step<T: Send + 'static, E: Send + 'static, O: Outcome>(
        &mut self,
        what: impl Into<String>,
        step: impl Future<Output = std::result::Result<T, E>> + Send + 'static,
        back: impl Future<Output = O> + Send + 'static,
    ) -> Result<std::result::Result<T, E>> {
        let (made, answer) = oneshot::channel::<()>();
        let back = async move {
            answer.await.ok()?;
            back.await.failure()
        };
        self.jobs.push(Job { what: what.into(), back: Box::pin(back) });
        let doing = tokio::spawn(async move {
            let result = step.await;
            if result.is_ok() {
                let _ = made.send(());
            }
            result
        });
        Ok(doing.await?)
    }

    /// Keeps what was made.
    pub fn forget(mut self) {
        self.jobs.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            let steps = Steps { since: Instant::now(), jobs: self.jobs.drain(..).rev().collect() };
            self.debts.state().owed.push_back(steps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerd::Fault;

    #[tokio::test]
    async fn steps_run_in_reverse_and_only_when_dropped() {
        let debts = Debts::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        for (name, keep) in [("a", true), ("b", false)] {
            let mut undo = Undo::new(&debts);
            for step in 1..3 {
                let seen = seen.clone();
                undo.push(name, async move { seen.lock().unwrap().push(format!("{name}{step}")) });
            }
            if keep {
                undo.forget();
            }
        }
        debts.settle().await;
        assert_eq!(*seen.lock().unwrap(), ["b2", "b1"]);
    }

    #[tokio::test]
    async fn a_step_is_taken_back_when_it_was_done_though_nobody_waited_for_it() {
        let debts = Debts::default();
        for (result, taken_back) in [(Ok(()), true), (Err(()), false)] {
            let back = Arc::new(Mutex::new(false));
            let mut undo = Undo::new(&debts);
            let (go, wait) = oneshot::channel::<()>();
            let noted = back.clone();
            let step = async move {
                let _ = wait.await;
                result
            };
            let step = undo.step("it", step, async move { *noted.lock().unwrap() = true });
            let waited = tokio::time::timeout(Duration::from_millis(1), step).await;
            assert!(waited.is_err(), "it is over before it may begin");
            drop(undo);
            go.send(()).unwrap();
            debts.settle().await;
            assert_eq!(*back.lock().unwrap(), taken_back);
        }
    }

    #[tokio::test]
    async fn a_step_that_panics_was_not_cancelled() {
        use crate::kind::{Failure, Kind};
        let mut undo = Undo::new(&Debts::default());
        let step = async { if true { panic!("it broke") } else { Ok::<(), ()>(()) } };
        let error = undo.step("it", step, async {}).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{error}");
    }

    #[tokio::test]
    async fn a_step_that_nobody_waits_for_is_still_owed() {
        let debts = Debts::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (go, wait) = oneshot::channel::<()>();
        let mut undo = Undo::new(&debts);
        for name in ["later", "now"] {
            let seen = seen.clone();
            undo.push(name, async move { seen.lock().unwrap().push(name) });
        }
        undo.push("waits", async move { drop(wait.await) });
        drop(undo);
        assert!(tokio::time::timeout(Duration::from_millis(1), debts.settle()).await.is_err());
        go.send(()).unwrap();
        debts.settle().await;
        assert_eq!(*seen.lock().unwrap(), ["now", "later"]);
    }

    #[tokio::test]
    async fn the_steps_of_one_operation_stay_in_order_when_several_settle() {
        let debts = Debts::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Undo::new(&debts);
        for (name, pauses) in [("snapshot", 0), ("container", 0), ("task", 3)] {
            let seen = seen.clone();
            undo.push(name, async move {
                for _ in 0..pauses {
                    tokio::task::yield_now().await;
                }
                seen.lock().unwrap().push(name);
            });
        }
        drop(undo);
        tokio::join!(debts.settle(), debts.settle());
        assert_eq!(*seen.lock().unwrap(), ["task", "container", "snapshot"]);
    }

    #[tokio::test]
    async fn nobody_returns_while_another_still_takes_back_what_was_owed() {
        let debts = Debts::default();
        let (go, wait) = oneshot::channel::<()>();
        let mut undo = Undo::new(&debts);
        undo.push("waits", async move { drop(wait.await) });
        drop(undo);
        let first = debts.settle();
        tokio::pin!(first);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut first).await.is_err());
        let second = debts.settle();
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut second).await.is_err(), "it returned before");
        go.send(()).unwrap();
        tokio::join!(first, second);
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_late_has_as_much_time_as_the_first() {
        let debts = Debts::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let owe = |name: &'static str, takes: u64| {
            let (seen, mut undo) = (seen.clone(), Undo::new(&debts));
            undo.push(name, async move {
                tokio::time::sleep(Duration::from_secs(takes)).await;
                seen.lock().unwrap().push(name);
            });
        };
        owe("first", 9);
        let settling = debts.clone();
        let settled = tokio::spawn(async move { settling.settle().await });
        tokio::time::sleep(Duration::from_secs(8)).await;
        owe("second", 5);
        settled.await.unwrap();
        assert_eq!(*seen.lock().unwrap(), ["first", "second"]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_step_stays_for_what_the_one_before_it_took() {
        let debts = Debts::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Undo::new(&debts);
        for (name, takes) in [("never", 4), ("snapshot", 2), ("container", 2), ("task", 9)] {
            let seen = seen.clone();
            undo.push(name, async move {
                tokio::time::sleep(Duration::from_secs(takes)).await;
                seen.lock().unwrap().push(name);
            });
        }
        drop(undo);
        debts.settle().await;
        assert_eq!(*seen.lock().unwrap(), ["task", "container", "snapshot"]);
    }

    /// Keeps what is warned of.
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            struct Text<'a>(&'a mut String);
            impl tracing::field::Visit for Text<'_> {
                fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                    self.0.push_str(&format!("{value:?} "));
                }
            }
            let mut text = String::new();
            event.record(&mut Text(&mut text));
            self.0.lock().unwrap().push(text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_is_named() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let warnings = Warnings::default();
        let subscriber = tracing_subscriber::registry().with(warnings.clone());
        let guard = tracing::subscriber::set_default(subscriber);
        let debts = Debts::default();
        let mut undo = Undo::new(&debts);
        undo.push("lease one", std::future::pending::<()>());
        undo.push("snapshot two", std::future::pending::<()>());
        undo.push("task three", async {});
        let answer = |fault| {
            let (action, subject, message) = ("delete container", "four".to_owned(), "it has a task".to_owned());
            containerd::Result::<()>::Err(containerd::Error::Call { fault, action, subject, message })
        };
        undo.push("container four", async move { answer(Fault::Conflict) });
        undo.push("what is gone", async move { answer(Fault::NotFound) });
        let made = async { Ok::<(), ()>(()) };
        undo.step("container five", made, async move { answer(Fault::Conflict) }).await.unwrap().unwrap();
        drop(undo);
        debts.settle().await;
        drop(guard);
        let seen = warnings.0.lock().unwrap();
        let (time, task) = ("it was not taken back within 10 s", "delete container four: it has a task");
        let wanted = [("container five", task), ("container four", task), ("snapshot two", time), ("lease one", time)];
        assert_eq!(seen.len(), wanted.len(), "{seen:?}");
        for (said, (what, why)) in seen.iter().zip(wanted) {
            assert!(said.contains(&format!("{what} is left behind: {why}")), "{seen:?}");
        }
    }
}
