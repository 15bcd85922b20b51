//! What is known of which repository holds which content, so that a batch asks and sends each thing once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::oci::Digest;

/// How long it counts: a prompt stays open for days, and registries collect garbage.
const LIFE: Duration = Duration::from_secs(15 * 60);
/// How many repositories are kept for one blob of a registry.
const MAX_HOLDERS: usize = 8;

/// A memory of what registries hold.
#[derive(Debug, Default)]
pub(super) struct Presence(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// By registry and digest, the repositories with the time they were last seen to have it, the latest last. Those
    /// without a time are only supposed to have it.
    holders: HashMap<String, HashMap<Digest, Vec<Holder>>>,
}

/// A repository, with the time it was last seen to have the content.
type Holder = (String, Option<Instant>);

impl Presence {
    /// Notes that a repository has the content.
    pub(super) fn note(&self, registry: &str, repository: &str, digest: &Digest) {
        self.keep(registry, repository, digest, Some(Instant::now()));
    }

    /// Notes that a repository may have the content, which is enough to try to mount it.
    pub(super) fn suppose(&self, registry: &str, repository: &str, digest: &Digest) {
        if !self.has(registry, repository, digest) {
            self.keep(registry, repository, digest, None);
        }
    }

    fn keep(&self, registry: &str, repository: &str, digest: &Digest, seen: Option<Instant>) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let blobs = memory.holders.entry(registry.to_owned()).or_default();
        let holders = blobs.entry(digest.clone()).or_default();
        holders.retain(|(name, _)| name != repository);
        if holders.len() == MAX_HOLDERS {
            holders.remove(0);
        }
        holders.push((repository.to_owned(), seen));
    }

    /// Returns whether a repository is known to have the content.
    pub(super) fn has(&self, registry: &str, repository: &str, digest: &Digest) -> bool {
        self.all(registry, digest).into_iter().any(|(name, is_known)| is_known && name == repository)
    }

    /// Returns the repositories that have the content, or are supposed to, the latest first.
    pub(super) fn holders(&self, registry: &str, digest: &Digest) -> Vec<String> {
        self.all(registry, digest).into_iter().map(|(name, _)| name).collect()
    }

    /// Returns the repositories with whether they are known to have the content.
    fn all(&self, registry: &str, digest: &Digest) -> Vec<(String, bool)> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(holders) = memory.holders.get(registry).and_then(|blobs| blobs.get(digest)) else { return Vec::new() };
        let counts = |seen: &Option<Instant>| seen.is_none_or(|seen| seen.elapsed() < LIFE);
        let counting = holders.iter().rev().filter(|(_, seen)| counts(seen));
        counting.map(|(name, seen)| (name.clone(), seen.is_some())).collect()
    }

    /// Forgets all that a repository was known to have, because it turned out to lack some of it.
    pub(super) fn forget(&self, registry: &str, repository: &str) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(blobs) = memory.holders.get_mut(registry) else { return };
        for holders in blobs.values_mut() {
            holders.retain(|(name, _)| name != repository);
        }
        blobs.retain(|_, holders| !holders.is_empty());
    }

    /// Forgets one content of a repository.
    pub(super) fn forget_one(&self, registry: &str, repository: &str, digest: &Digest) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holders) = memory.holders.get_mut(registry).and_then(|blobs| blobs.get_mut(digest)) {
            holders.retain(|(name, _)| name != repository);
        }
    }

    /// Returns how many different contents are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.holders.values().map(HashMap::len).sum::<usize>()
    }
}

/// Puts the repositories first whose names are nearest to another's by their common path: those are the likeliest to be
/// readable with the same credentials.
pub(super) fn nearest_first(names: &mut [String], to: &str) {
    let common = |name: &str| name.split('/').zip(to.split('/')).take_while(|(a, b)| a == b).count();
    names.sort_by_key(|name| std::cmp::Reverse(common(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn holders_are_remembered_for_a_while() {
        let presence = Presence::default();
        let digest = Digest::sha256(b"x");
        presence.note("r", "a", &digest);
        presence.note("r", "b", &digest);
        presence.note("r", "a", &digest);
        assert_eq!(presence.holders("r", &digest), ["a", "b"]);
        assert!(presence.has("r", "a", &digest) && !presence.has("s", "a", &digest));
        presence.forget("r", "a");
        assert_eq!(presence.holders("r", &digest), ["b"]);
        tokio::time::advance(LIFE).await;
        assert!(presence.holders("r", &digest).is_empty());
        presence.suppose("r", "c", &digest);
        presence.note("r", "d", &digest);
        presence.suppose("r", "d", &digest);
        assert_eq!(presence.holders("r", &digest), ["d", "c"]);
        assert!(presence.has("r", "d", &digest) && !presence.has("r", "c", &digest));
        presence.forget_one("r", "c", &digest);
        presence.forget("r", "b");
        presence.forget("r", "d");
        assert_eq!(presence.len(), 0);
    }

    #[test]
    fn the_nearest_repository_goes_first_and_others_keep_their_order() {
        let mut names = ["x/y", "team/other", "team/app/base", "a/b"].map(String::from);
        nearest_first(&mut names, "team/app/web");
        assert_eq!(names, ["team/app/base", "team/other", "x/y", "a/b"]);
    }
}
