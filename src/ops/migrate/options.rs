//! What a migration is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use rand::Rng;

use super::Candidate;
use super::journal::Identity;
use crate::kind::Failure;
use crate::oci::Digest;
use crate::ops::Error;
use crate::ops::image::{CopyOptions, Endpoint};

/// The longest pause before another try.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// One image and where it goes.
#[derive(Debug)]
pub struct Item {
    /// The image.
    pub candidate: Candidate,
    /// Where it goes.
    pub target: Endpoint,
}

/// One share of a migration that several workers split among them without talking to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: NonZeroUsize,
}

impl Shard {
    /// Makes share `index` of `count`, from 0 on, as an Indexed Job of Kubernetes counts.
    #[must_use]
    pub fn new(index: usize, count: usize) -> Option<Self> {
        let count = NonZeroUsize::new(count)?;
        (index < count.get()).then_some(Self { index, count })
    }

    /// Returns whether a target is in the share. Only its name decides, so that it does not matter what else is listed.
    #[must_use]
    pub fn has(&self, target: &str) -> bool {
        let digest = Digest::sha256(target.as_bytes());
        let number = u64::from_str_radix(digest.hex().get(..15).unwrap_or_default(), 16).unwrap_or_default();
        number % self.count.get() as u64 == self.index as u64
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// What a migration may be told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which migration it is, for the journal.
    pub identity: Identity,
    /// Where the journal is.
    pub journal: Option<PathBuf>,
    /// Which share is done.
    pub shard: Option<Shard>,
    /// How many images move at the same time.
    pub jobs: usize,
    /// How often an image is tried again after a failure that may pass.
    pub retries: u32,
    /// The pause before the first retry; it doubles.
    pub delay: Duration,
    /// Whether the other images go on when one fails.
    pub keep_going: bool,
    /// Whether only those are moved that the journal has as failed.
    pub retry_failed: bool,
    /// Whether the targets are asked for their digests once more at the end.
    pub verify: bool,
    /// How many requests begin within a second, for each registry.
    pub rate: Option<f64>,
    /// How each image is copied.
    pub copy: CopyOptions,
}

impl Options {
    /// Returns how long to wait after a failure, when so many tries were made: what the other side asked for, or the
    /// delay, doubled with each try, less up to half of it so that images that failed together do not return together.
    pub(super) fn pause(&self, tries: u32, error: &Error) -> Duration {
        let doubled = self.delay.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(MAX_DELAY);
        error.retry_after().unwrap_or_else(|| doubled.mul_f64(rand::rng().random_range(0.5..=1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_in_one_share() {
        for count in 1..5 {
            let shares: Vec<Shard> = (0..count).map(|index| Shard::new(index, count).unwrap()).collect();
            let mut sizes = vec![0; count];
            for number in 0..400 {
                let target = format!("registry:h.example/app{number}:1");
                let owners: Vec<usize> = (0..count).filter(|index| shares[*index].has(&target)).collect();
                assert_eq!(owners.len(), 1, "{target}");
                sizes[owners[0]] += 1;
            }
            assert!(sizes.iter().all(|size| *size > 250 / count), "{sizes:?}");
        }
        assert!(Shard::new(2, 2).is_none() && Shard::new(0, 0).is_none());
    }
}
