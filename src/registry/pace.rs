//! How fast one host is asked: its wish to be left alone, the rate, and how many requests run at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::config::Limits;

/// How many bytes a second of a body come at least.
const FLOOR: f64 = 1024.0;

/// The paces of all hosts, by origin.
#[derive(Debug)]
pub(super) struct Paces {
    limits: Limits,
    hosts: Mutex<HashMap<url::Origin, Arc<Pace>>>,
}

impl Paces {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, hosts: Mutex::default() }
    }

    pub(super) fn of(&self, origin: url::Origin) -> Arc<Pace> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(origin).or_insert_with(|| Arc::new(Pace::new(self.limits))))
    }
}

/// The pace of one host, shared by all that ask it.
#[derive(Debug)]
pub(super) struct Pace {
    /// Held only until an answer's headers are there, so that nobody waits here while holding one.
    requests: Arc<Semaphore>,
    /// Held until the bytes of a download are read.
    downloads: Arc<Semaphore>,
    gap: Option<Duration>,
    next: Mutex<Turn>,
}

/// Among which others a request waits for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    /// Those whose answer is soon read.
    Requests,
    /// Those whose answer is a blob, which takes a while to read.
    Downloads,
    /// None: it ends what holds the place of another, and has no time to wait for one.
    Endings,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    /// When the host may be asked again after it asked to be left alone.
    quiet_until: Option<Instant>,
    /// When the next request may begin by the rate.
    slot: Option<Instant>,
}

/// When a request may begin.
enum Next {
    Now,
    /// At its place in the rate.
    Slot(Instant),
    /// Not before then; ask again.
    Quiet(Instant),
}

impl Pace {
    fn new(limits: Limits) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(limits.requests.max(1))),
            downloads: Arc::new(Semaphore::new(limits.downloads.max(1))),
            gap: limits.rate.filter(|rate| *rate > 0.0).map(|rate| Duration::from_secs_f64(1.0 / rate)),
            next: Mutex::new(Turn { quiet_until: None, slot: None }),
        }
    }

    /// Notes that the host asks to be left alone for so long from now.
    pub(super) fn quiet(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut turn = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        turn.quiet_until = Some(turn.quiet_until.map_or(until, |old| old.max(until)));
    }

    /// Returns how long the host still wants to be left alone.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let turn = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        turn.quiet_until?.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())
    }

    /// Waits until the next request may begin, and takes its place in the rate.
    pub(super) async fn turn(&self) {
        loop {
            match self.next() {
                Next::Now => return,
                Next::Slot(at) => return tokio::time::sleep_until(at).await,
                Next::Quiet(until) => tokio::time::sleep_until(until).await,
            }
        }
    }

    fn next(&self) -> Next {
        let now = Instant::now();
        let mut turn = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = turn.quiet_until.filter(|until| *until > now) {
            return Next::Quiet(until);
        }
        turn.quiet_until = None;
        let Some(gap) = self.gap else { return Next::Now };
        let slot = turn.slot.map_or(now, |slot| slot.max(now));
        turn.slot = Some(slot + gap);
        Next::Slot(slot)
    }

    /// Waits for a place among the others, if it needs one.
    pub(super) async fn place(&self, among: Among) -> Option<OwnedSemaphorePermit> {
        let places = match among {
            Among::Requests => &self.requests,
            Among::Downloads => &self.downloads,
            Among::Endings => return None,
        };
        // Never closed, so there is always a permit.
        Arc::clone(places).acquire_owned().await.ok()
    }
}

/// How fast a body comes, counted over the time that was spent waiting for it: who reads slowly is not held against it.
#[derive(Debug, Default)]
pub(super) struct Crawl {
    waited: Duration,
    bytes: u64,
}

impl Crawl {
    /// Counts what came, and returns whether it was less than the floor over the whole of a window.
    pub(super) fn is_too_slow(&mut self, waited: Duration, bytes: usize, window: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < window {
            return false;
        }
        let came = std::mem::take(self);
        (came.bytes as f64) < FLOOR * came.waited.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_crawls_is_told_from_one_that_is_read_slowly() {
        let (second, window) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut crawl = Crawl::default();
        assert!((0..59).all(|_| !crawl.is_too_slow(second, 1000, window)));
        assert!(crawl.is_too_slow(second, 1000, window));
        // A new window begins; what comes fast enough may go on.
        assert!((0..600).all(|_| !crawl.is_too_slow(second, 1100, window)));
        assert!((0..600).all(|_| !crawl.is_too_slow(Duration::ZERO, 1, window)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_to_be_left_alone_is_shared_and_the_longest_counts() {
        let pace = Pace::new(Limits::default());
        pace.quiet(Duration::from_secs(20));
        pace.quiet(Duration::from_secs(5));
        let start = Instant::now();
        tokio::join!(pace.turn(), pace.turn());
        assert_eq!(start.elapsed().as_secs(), 20);
        pace.turn().await;
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_spaces_requests() {
        let pace = Pace::new(Limits { rate: Some(10.0), ..Limits::default() });
        let start = Instant::now();
        for _ in 0..11 {
            pace.turn().await;
        }
        assert_eq!(start.elapsed().as_millis(), 1000);
    }
}
