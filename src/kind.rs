//! The kinds of failure that every layer shares.
//!
//! Each layer has its own error enum; all of them implement [`Failure`], so that whoever stands above can ask what kind
//! of failure it was, whether trying again may help, and what the user can do about it, without knowing the layer.

use std::fmt;
use std::io;
use std::time::Duration;

/// What a program in Go or C says of a disk that is full (ENOSPC).
pub(crate) const NO_SPACE: &str = "no space left on device";
/// What it says of a quota that is used up (EDQUOT).
pub(crate) const OVER_QUOTA: &str = "disk quota exceeded";
/// What it says of a file system that takes no changes (EROFS), as many become after an error of their disk.
pub(crate) const READ_ONLY: &str = "read-only file system";

/// What kind of failure it was.
///
/// The kind sets the exit status of the process and is what a script reads as `e.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// The call itself was wrong: an argument, an option, a name.
    Usage,
    /// The grant lacks the access that the call needs, or the system does not let this user, or anybody, do it.
    Denied,
    /// The thing named does not exist.
    NotFound,
    /// The thing to be made exists already.
    AlreadyExists,
    /// The thing is in a state that forbids the call.
    Conflict,
    /// The other side wants other credentials.
    Unauthorized,
    /// The other side cannot be reached, or not now.
    Unavailable,
    /// It took longer than allowed.
    Timeout,
    /// Bytes are not what their digest, size or format promises.
    Integrity,
    /// A disk, or a quota, is full.
    NoSpace,
    /// The user stopped it.
    Cancelled,
    /// A bug of this program, or an answer that makes no sense.
    Internal,
}

impl Kind {
    /// Every kind, in declaration order.
    pub const ALL: [Self; 12] = [
        Self::Usage,
        Self::Denied,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::Unauthorized,
        Self::Unavailable,
        Self::Timeout,
        Self::Integrity,
        Self::NoSpace,
        Self::Cancelled,
        Self::Internal,
    ];

    /// Returns the kind's name as scripts see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Integrity => "integrity",
            Self::NoSpace => "no_space",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// Returns the kind that scripts see by this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Sorts what the kernel said of a file; none when it depends on what the file is for.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Option<Self> {
        Some(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::NoSpace,
            io::ErrorKind::ResourceBusy => Self::Conflict,
            _ => return None,
        })
    }

    /// Sorts a message of another program that ends in what the kernel said to it.
    #[must_use]
    pub fn of_words(message: &str) -> Option<Self> {
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&[NO_SPACE, OVER_QUOTA]) {
            Some(Self::NoSpace)
        } else if says(&[READ_ONLY]) {
            Some(Self::Denied)
        } else {
            None
        }
    }

    /// Returns whether the same call may succeed a moment later, when nothing more is known of the failure.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every layer's error can tell.
pub trait Failure: std::error::Error + Send + Sync + 'static {
    /// Returns the kind of the failure.
    fn kind(&self) -> Kind;

    /// Returns what the user can do about it, as one lower-case sentence without a full stop.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Returns whether trying the same again may help.
    fn retryable(&self) -> bool {
        self.kind().is_temporary()
    }

    /// Returns whether it was tried again below, as often and as long as makes sense.
    fn exhausted(&self) -> bool {
        false
    }

    /// Returns how long the other side asked to be left alone (RFC 9110, section 10.2.3).
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// A failure of whatever layer stands below.
pub type BoxFailure = Box<dyn Failure>;

impl<E: Failure> From<E> for BoxFailure {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// Writes an error with all its causes on one line, outermost first, leaving out a cause that its parent repeats.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text
}

/// Says how alike two names are, from 0 to 1. Two letters that changed places count for little, in short names too.
fn likeness(a: &str, b: &str) -> f64 {
    let swapped =
        a.len() > 2 && a.len() == b.len() && strsim::osa_distance(a, b) == 1 && strsim::hamming(a, b) == Ok(2);
    strsim::jaro_winkler(a, b).max(if swapped { 0.85 } else { 0.0 })
}

/// Finds the name closest to a misspelt one, when one is close enough to be meant.
#[must_use]
pub fn nearest<'a>(name: &str, existing: impl IntoIterator<Item = &'a str>) -> Option<String> {
    existing
        .into_iter()
        .map(|candidate| (likeness(name, candidate), candidate))
        .filter(|(score, candidate)| *score > 0.8 && *candidate != name)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_finds_the_name() {
        let near = |name: &str| nearest(name, ["web", "database", "cat"]);
        for slip in ["wbe", "ewb", "wec", "webb"] {
            assert_eq!(near(slip).as_deref(), Some("web"), "{slip}");
        }
        assert_eq!(near("databsae").as_deref(), Some("database"));
        for other in ["bat", "x", "web", "nothing-alike"] {
            assert_eq!(near(other), None, "{other}");
        }
    }
}
