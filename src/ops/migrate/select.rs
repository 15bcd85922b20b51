//! Which of the images that a source lists are migrated.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use globset::{GlobBuilder, GlobMatcher};
use regex_lite::Regex;
use semver::{Version, VersionReq};

use super::Candidate;
use crate::oci::Reference;
use crate::ops::{Error, Result};

/// A pattern for names: a glob, or a regular expression between slashes.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// `*` stays within a part of the path, `**` does not.
    Glob(GlobMatcher),
    /// Anywhere in the name.
    Regex(Regex),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// That it is none, and why.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason: String| Error::argument(format!("the pattern '{text}'"), format!("is none: {reason}"));
        if let Some(regex) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|r| !r.is_empty()) {
            return Regex::new(regex).map(Self::Regex).map_err(|error| bad(error.to_string()));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        glob.map(|glob| Self::Glob(glob.compile_matcher())).map_err(|error| bad(error.kind().to_string()))
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(name),
            Self::Regex(regex) => regex.is_match(name),
        }
    }

    /// Returns whether it fits any of the ways in which people write the name.
    #[must_use]
    pub fn matches(&self, reference: &Reference) -> bool {
        let full = reference.to_string();
        let short = full.strip_prefix(reference.registry()).map_or(full.as_str(), |rest| rest.trim_start_matches('/'));
        let familiar = reference.familiar();
        let bare = familiar.split_once('@').map_or(familiar.as_str(), |(name, _)| name);
        let untagged = reference.tag().and_then(|tag| bare.strip_suffix(tag)).map_or(bare, |n| n.trim_end_matches(':'));
        [full.as_str(), &reference.locator(), short, reference.repository(), &familiar, untagged]
            .iter()
            .any(|name| self.fits(name))
    }
}

/// What is taken.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Any of these has to fit; all fit when there are none.
    pub include: Vec<Pattern>,
    /// None of these may fit.
    pub exclude: Vec<Pattern>,
    /// The range that the tag has to be in, as a semantic version.
    pub semver: Option<VersionReq>,
    /// How many of each repository, the newest first.
    pub newest: Option<usize>,
    /// Only images made within this time.
    pub newer_than: Option<Duration>,
    /// Only images made before this time.
    pub older_than: Option<Duration>,
}

impl Filters {
    /// Keeps what the names allow.
    #[must_use]
    pub fn by_name(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        candidates.retain(|candidate| {
            let name = &candidate.name;
            (self.include.is_empty() || self.include.iter().any(|pattern| pattern.matches(name)))
                && !self.exclude.iter().any(|pattern| pattern.matches(name))
                && self.semver.as_ref().is_none_or(|range| version(name).is_some_and(|v| range.matches(&v)))
        });
        candidates
    }

    /// Returns whether it matters when these were made, which costs reading their configs.
    #[must_use]
    pub fn wants_times(&self, candidates: &[Candidate]) -> bool {
        self.newer_than.is_some()
            || self.older_than.is_some()
            || (self.newest.is_some() && !leaders(candidates).all(|(_, candidate)| version(&candidate.name).is_some()))
    }

    /// Keeps what the times allow, and of each repository the newest. An image without a time counts as the oldest. A name by
    /// digest stays with a tag that it stands beside.
    #[must_use]
    pub fn by_time(&self, mut candidates: Vec<Candidate>, now: DateTime<Utc>) -> Vec<Candidate> {
        let before = |age: Duration| chrono::TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age));
        let made = |candidate: &Candidate| candidate.created.unwrap_or(DateTime::UNIX_EPOCH);
        if let Some(limit) = self.newer_than.and_then(before) {
            candidates.retain(|candidate| made(candidate) >= limit);
        }
        if let Some(limit) = self.older_than.and_then(before) {
            candidates.retain(|candidate| made(candidate) < limit);
        }
        let Some(newest) = self.newest else { return candidates };
        let mut groups: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, candidate) in leaders(&candidates) {
            groups.entry(candidate.name.locator()).or_default().push(index);
        }
        let mut kept = vec![false; candidates.len()];
        for mut group in groups.into_values() {
            let versions = || group.iter().map(|index| candidates.get(*index).and_then(|c| version(&c.name)));
            if versions().all(|version| version.is_some()) {
                group.sort_by_cached_key(|index| Reverse(candidates.get(*index).and_then(|c| version(&c.name))));
            } else {
                group.sort_by_key(|index| Reverse(candidates.get(*index).map(made)));
            }
            for index in group.into_iter().take(newest) {
                if let Some(slot) = kept.get_mut(index) {
                    *slot = true;
                }
            }
        }
        let tags = candidates.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(candidate, _)| candidate.name.clone());
        let tags: HashSet<Reference> = tags.collect();
        let mut kept = kept.into_iter();
        candidates.retain(|candidate| {
            kept.next().unwrap_or_default() || candidate.beside.iter().any(|tag| tags.contains(tag))
        });
        candidates
    }
}

/// Returns those that count, with their places: a name by digest does not where a tag does that it stands beside.
fn leaders(candidates: &[Candidate]) -> impl Iterator<Item = (usize, &Candidate)> {
    let names: HashSet<&Reference> = candidates.iter().map(|candidate| &candidate.name).collect();
    let all = candidates.iter().enumerate();
    all.filter(move |(_, candidate)| !candidate.beside.iter().any(|tag| names.contains(tag)))
}

/// Reads a range as Cargo writes it, `>=1.2, <2`; a space alone separates too.
///
/// # Errors
/// That it is none, and why.
pub fn range(text: &str) -> Result<VersionReq> {
    let mut spaced = String::new();
    for word in text.replace(',', " ").split_whitespace() {
        let operator = spaced.ends_with(['<', '>', '=', '^', '~']);
        if !spaced.is_empty() && !operator {
            spaced.push_str(", ");
        }
        spaced.push_str(word.strip_prefix('v').unwrap_or(word));
    }
    VersionReq::parse(&spaced).map_err(|error| Error::Argument {
        name: format!("the range '{text}'"),
        problem: format!("is none: {error}"),
        cure: Some("write it like >=1.2, <2".into()),
    })
}

/// Reads a tag as a semantic version, `v1`, `1.2` and `1.2.3-rc.1` among them.
#[must_use]
pub fn version(name: &Reference) -> Option<Version> {
    let tag = name.tag()?;
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    let (core, rest) = tag.find(['-', '+']).map_or((tag, ""), |at| tag.split_at(at));
    if core.split('.').any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let missing = 3_usize.checked_sub(core.split('.').count())?;
    Version::parse(&format!("{core}{}{rest}", ".0".repeat(missing))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::image::Endpoint;

    fn candidate(text: &str, days: i64) -> Candidate {
        let name: Reference = text.parse().unwrap();
        let created = Some(DateTime::UNIX_EPOCH + chrono::TimeDelta::days(days));
        Candidate { created, ..Candidate::new(Endpoint::Registry(name.clone()), name) }
    }

    fn names(filters: &Filters, list: &[(&str, i64)]) -> Vec<String> {
        let candidates = list.iter().map(|(name, days)| candidate(name, *days)).collect();
        let now = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(100);
        let left = filters.by_time(filters.by_name(candidates), now);
        left.iter().map(|candidate| candidate.name.familiar()).collect()
    }

    #[test]
    fn patterns_fit_the_ways_in_which_people_write_names() {
        let name: Reference = "docker.io/library/nginx:1.25".parse().unwrap();
        for fits in ["nginx", "nginx:1.*", "library/nginx", "library/*", "docker.io/**", "/^nginx:/", "/25$/", "n*"] {
            assert!(Pattern::parse(fits).unwrap().matches(&name), "{fits}");
        }
        for other in ["ngin", "library", "docker.io/*", "/^1.25/", "redis*"] {
            assert!(!Pattern::parse(other).unwrap().matches(&name), "{other}");
        }
        let port: Reference = "localhost:5000/a/b:1".parse().unwrap();
        assert!(Pattern::parse("a/b").unwrap().matches(&port));
        assert!(Pattern::parse("a/*").unwrap().matches(&port));
        assert!(Pattern::parse("/(/").is_err() && Pattern::parse("{a").is_err());
    }

    #[test]
    fn ranges_take_tags_as_people_write_versions() {
        let list = [("a:v1.2", 1), ("a:1.9.9", 1), ("a:2", 1), ("a:latest", 1), ("a:1.3.0-rc.1", 1), ("a:1.2.3.4", 1)];
        let filters = Filters { semver: Some(range(">=1.2 <2").unwrap()), ..Filters::default() };
        assert_eq!(names(&filters, &list), ["a:v1.2", "a:1.9.9"]);
        let filters = Filters { semver: Some(range(">= 1.2, < 3").unwrap()), ..Filters::default() };
        assert_eq!(names(&filters, &list), ["a:v1.2", "a:1.9.9", "a:2"]);
        assert!(range("newest").is_err());
    }

    #[test]
    fn the_newest_are_so_by_version_or_else_by_time() {
        let filters = Filters { newest: Some(2), ..Filters::default() };
        let list = [("a:1.9", 9), ("a:1.10", 1), ("a:1.2", 5), ("b:x", 1), ("b:y", 3), ("b:z", 2)];
        assert_eq!(names(&filters, &list), ["a:1.9", "a:1.10", "b:y", "b:z"]);
        let day = Duration::from_secs(86_400);
        let filters = Filters { newer_than: Some(day * 99), older_than: Some(day * 97), ..Filters::default() };
        assert_eq!(names(&filters, &list), ["a:1.10", "b:x", "b:z"]);
    }

    #[test]
    fn a_name_by_digest_stays_with_its_tag() {
        let digest = |fill: &str| format!("a@sha256:{}", fill.repeat(64));
        let beside = |fill: &str, tag: &str| {
            let beside = vec![tag.parse().unwrap()];
            Candidate { beside, created: None, ..candidate(&digest(fill), 0) }
        };
        let list = vec![beside("1", "a:1.9"), candidate("a:1.9", 9), candidate("a:1.10", 1), beside("2", "a:1.10")];
        let filters = Filters { newest: Some(1), ..Filters::default() };
        assert!(!filters.wants_times(&list));
        let left = filters.by_time(list, Utc::now());
        let left: Vec<_> = left.iter().map(|candidate| candidate.name.familiar()).collect();
        assert_eq!(left, ["a:1.10", &digest("2")]);
        // Where its tag is not among them it counts itself.
        let filters = Filters { newest: Some(1), ..Filters::default() };
        assert_eq!(filters.by_time(vec![beside("1", "a:1.9")], Utc::now()).len(), 1);
    }
}
