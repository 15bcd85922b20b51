//! Stopping what runs: Ctrl-C, signals, timeouts and a reader that went away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Within what time a second Ctrl-C asks what is waited for, and a third ends the program.
const IMPATIENT: Duration = Duration::from_secs(1);

/// Why something was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The process was told to end.
    Terminated,
    /// Its terminal went away.
    HungUp,
    /// Nobody reads its output any more.
    Closed,
    /// It took longer than allowed.
    TimedOut,
}

/// What is running now, and how to stop it.
#[derive(Default)]
pub struct Interrupt {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<CancellationToken>,
    /// Whether anything was begun: before that there is nothing that could be left half done.
    begun: bool,
    why: Option<Why>,
    pressed: Option<(Instant, u32)>,
    impatient: Option<Hook>,
    cleanup: Vec<Hook>,
    terminal: Option<Termios>,
    /// Who gets the signals in place of this program.
    forwarded: Option<mpsc::UnboundedSender<Forwarded>>,
    /// Whether those are listened to that end the program unless somebody gets them.
    all: bool,
}

/// What a process is told that gets this program's signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// A signal, by its number.
    Signal(u32),
    /// The user pressed Ctrl-C again and again.
    Enough,
}

/// The signals of this program, as long as a process gets them.
pub struct Forwarding<'a> {
    interrupt: &'a Interrupt,
    signals: mpsc::UnboundedReceiver<Forwarded>,
}

impl Forwarding<'_> {
    /// Waits for the next one.
    pub async fn next(&mut self) -> Forwarded {
        match self.signals.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Forwarding<'_> {
    fn drop(&mut self) {
        self.interrupt.state().forwarded = None;
    }
}

/// Signals that a process may want too, beside those that are always listened to.
fn others() -> [SignalKind; 4] {
    [SignalKind::quit(), SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()]
}

type Hook = Arc<dyn Fn() + Send + Sync>;

impl Interrupt {
    /// Makes one that remembers how the terminal is set now, so that it can be set back whatever happens.
    #[must_use]
    pub fn new() -> Self {
        let state = State { terminal: tcgetattr(std::io::stdin()).ok(), ..State::default() };
        Self { state: Mutex::new(state) }
    }

    /// Listens to signals until the runtime ends.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub fn listen(self: &Arc<Self>, runtime: &tokio::runtime::Handle) -> std::io::Result<()> {
        let _inside = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let this = Arc::clone(self);
        runtime.spawn(async move {
            loop {
                let (why, kind) = tokio::select! {
                    _ = interrupt.recv() => (Why::Interrupted, SignalKind::interrupt()),
                    _ = terminate.recv() => (Why::Terminated, SignalKind::terminate()),
                    _ = hangup.recv() => (Why::HungUp, SignalKind::hangup()),
                };
                if this.forward(kind) {
                    continue;
                }
                let handled = Arc::clone(&this);
                // Hooks take daemons down, which takes longer than a task may.
                tokio::task::spawn_blocking(move || handled.signalled(why));
            }
        });
        Ok(())
    }

    /// Begins something that can be stopped.
    pub fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        let mut state = self.state();
        state.running = Some(token.clone());
        state.begun = true;
        // A reason to end the whole program outlives what was running when it came.
        state.why = state.why.filter(|why| *why != Why::Interrupted && *why != Why::TimedOut);
        if state.why.is_some() {
            token.cancel();
        }
        state.pressed = None;
        token
    }

    /// Ends it and returns why it was stopped, if it was.
    pub fn end(&self) -> Option<Why> {
        let mut state = self.state();
        state.running = None;
        state.why
    }

    /// Returns why the program as a whole has to end, if it has to.
    #[must_use]
    pub fn leaving(&self) -> Option<Why> {
        self.state().why.filter(|why| !matches!(why, Why::Interrupted | Why::TimedOut))
    }

    /// Returns whether what is running has to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state().running.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Stops what is running.
    pub fn stop(&self, why: Why) {
        let mut state = self.state();
        if why == Why::TimedOut && state.running.is_none() {
            return;
        }
        state.why.get_or_insert(why);
        if let Some(token) = &state.running {
            token.cancel();
        }
    }

    /// Takes it that nothing was begun: what there is by now is taken down [before the exit](Self::before_exit).
    pub fn begin_anew(&self) {
        self.state().begun = false;
    }

    /// Sets what says what is being waited for, when the user asks by a second Ctrl-C.
    pub fn when_impatient(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.state().impatient = Some(Arc::new(hook));
    }

    /// Adds what has to be done before the process ends, however it ends.
    pub fn before_exit(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.state().cleanup.push(Arc::new(hook));
    }

    /// Has a process get the signals in place of this program, until what is returned is dropped. To be called in the runtime.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub fn forwarding(self: &Arc<Self>) -> std::io::Result<Forwarding<'_>> {
        let (to, signals) = mpsc::unbounded_channel();
        let first = {
            let mut state = self.state();
            state.forwarded = Some(to);
            state.pressed = None;
            !std::mem::replace(&mut state.all, true)
        };
        let forwarding = Forwarding { interrupt: self, signals };
        for kind in others().into_iter().filter(|_| first) {
            let mut listened = signal(kind)?;
            let this = Arc::clone(self);
            tokio::spawn(async move {
                while listened.recv().await.is_some() {
                    if !this.forward(kind) {
                        // As if nobody listened.
                        this.clean_up();
                        std::process::exit(128 + kind.as_raw_value());
                    }
                }
            });
        }
        Ok(forwarding)
    }

    /// Hands a signal to the process that gets them; returns whether there is one.
    fn forward(&self, kind: SignalKind) -> bool {
        let (to, presses) = {
            let mut state = self.state();
            let Some(to) = state.forwarded.clone() else { return false };
            let presses = if kind == SignalKind::interrupt() { state.press() } else { 0 };
            (to, presses)
        };
        match presses {
            // Nobody is told of a signal that the process itself may answer.
            0..3 => to.send(Forwarded::Signal(u32::try_from(kind.as_raw_value()).unwrap_or_default())).is_ok(),
            3 => to.send(Forwarded::Enough).is_ok(),
            _ => {
                self.leave(Why::Interrupted);
                true
            }
        }
    }

    /// Has what is running now end this program, once it has come to its own end.
    pub fn leave_after(&self, why: Why) {
        self.state().why.get_or_insert(why);
    }

    fn signalled(&self, why: Why) {
        let (running, begun, presses, hook) = {
            let mut state = self.state();
            let presses = if why == Why::Interrupted { state.press() } else { 1 };
            (state.running.is_some(), state.begun, presses, state.impatient.clone())
        };
        match (why, running) {
            // At the prompt, or between two things that belong together.
            (Why::Interrupted, false) if begun => {}
            // At the prompt the thread waits for a key: nothing else would end it.
            (_, false) => self.leave(why),
            (_, true) if presses > 2 => self.leave(why),
            (_, true) => {
                self.stop(why);
                if presses == 2
                    && let Some(hook) = hook
                {
                    hook();
                }
            }
        }
    }

    /// Does what has to be done before the process ends.
    pub fn clean_up(&self) {
        let (hooks, terminal) = {
            let mut state = self.state();
            (std::mem::take(&mut state.cleanup), state.terminal.clone())
        };
        if let Some(terminal) = terminal {
            // A terminal that is gone needs no setting back.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &terminal);
        }
        for hook in hooks {
            hook();
        }
    }

    /// Ends the process from here: the main thread waits for a key or a lost answer and cannot return a status.
    fn leave(&self, why: Why) {
        self.clean_up();
        std::process::exit(super::status::of_stop(why).into());
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts how often Ctrl-C was pressed within a short time.
    fn press(&mut self) -> u32 {
        let presses = match self.pressed {
            Some((at, presses)) if at.elapsed() < IMPATIENT => presses + 1,
            _ => 1,
        };
        self.pressed = Some((Instant::now(), presses));
        presses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_stops_only_what_is_running() {
        let interrupt = Interrupt::new();
        let first = interrupt.begin();
        interrupt.signalled(Why::Interrupted);
        assert!(first.is_cancelled());
        assert_eq!(interrupt.end(), Some(Why::Interrupted));
        interrupt.signalled(Why::Interrupted);
        assert!(!interrupt.begin().is_cancelled());
        assert_eq!(interrupt.end(), None);
    }

    #[test]
    fn a_closed_output_ends_everything() {
        let interrupt = Interrupt::new();
        interrupt.begin();
        interrupt.stop(Why::Closed);
        interrupt.end();
        assert!(interrupt.begin().is_cancelled());
        assert_eq!(interrupt.leaving(), Some(Why::Closed));
    }

    #[test]
    fn a_second_press_asks() {
        let interrupt = Interrupt::new();
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        interrupt.when_impatient(move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        interrupt.begin();
        interrupt.signalled(Why::Interrupted);
        interrupt.signalled(Why::Interrupted);
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
