//! What a call may do: its access classes, whether it plans or applies, and its cancel token.
//!
//! A [`Grant`] travels with every client. The guards of the containerd and registry layers ask it about each request
//! just before the request would be sent; nothing else decides.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use tokio_util::sync::CancellationToken;

use crate::kind::{Failure, Kind};

/// A class of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Looks at things.
    Read,
    /// Changes images, content, snapshots, labels and leases, here or in a registry.
    Write,
    /// Creates, starts, stops and executes in containers.
    Run,
    /// Deletes things.
    Delete,
    /// Reads and writes local files below the working folder.
    Files,
    /// Reaches the host: local processes, other files, the environment, and containers that reach the host.
    Host,
}

impl Access {
    /// Every class, in declaration order.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Run, Self::Delete, Self::Files, Self::Host];

    /// Returns the class's name as `--allow` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Run => "run",
            Self::Delete => "delete",
            Self::Files => "files",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of access classes, each limited to subjects or not.
///
/// A subject is `containerd/NAMESPACE` for a call to a daemon, `HOST[:PORT]/REPOSITORY` for a request to a registry, and
/// a path for a file. A class that is named without a pattern covers every subject.
#[derive(Debug, Clone, Default)]
pub struct Allow(BTreeMap<Access, Vec<GlobMatcher>>);

impl Allow {
    /// Returns the set that holds every class.
    #[must_use]
    pub fn all() -> Self {
        Self::of(&Access::ALL)
    }

    /// Returns what a script has when nothing is said: everything but the host.
    #[must_use]
    pub fn script() -> Self {
        Self::of(&[Access::Read, Access::Write, Access::Run, Access::Delete, Access::Files])
    }

    /// Returns the set of these classes, unlimited.
    #[must_use]
    pub fn of(classes: &[Access]) -> Self {
        Self(classes.iter().map(|class| (*class, Vec::new())).collect())
    }

    /// Returns whether the set covers the class for the subject.
    #[must_use]
    pub fn covers(&self, access: Access, subject: &str) -> bool {
        self.0.get(&access).is_some_and(|patterns| patterns.is_empty() || patterns.iter().any(|p| p.is_match(subject)))
    }

    /// Returns whether the set has the class for at least some subject.
    #[must_use]
    pub fn has(&self, access: Access) -> bool {
        self.0.contains_key(&access)
    }
}

/// Why an access list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    /// There is no such class.
    #[error("unknown access class '{0}'")]
    UnknownClass(String),
    /// The pattern is not a glob.
    #[error("'{pattern}' is not a glob pattern")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What the glob parser said.
        source: globset::Error,
    },
}

impl Failure for AllowError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        let names: Vec<_> = Access::ALL.iter().map(|a| a.as_str()).collect();
        Some(format!("the classes are {}, each alone or as CLASS=GLOB", names.join(", ")))
    }
}

impl FromStr for Allow {
    type Err = AllowError;

    /// Reads `read,write=harbor.example/**,write=registry.example/team-*/*`, or `all`. `*` is anything but `/`, `**` anything.
    fn from_str(text: &str) -> Result<Self, AllowError> {
        let mut set = Self::default();
        let mut unlimited = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if part == "all" {
                return Ok(Self::all());
            }
            let (name, pattern) = part.split_once('=').map_or((part, None), |(n, p)| (n, Some(p)));
            let access = Access::ALL
                .into_iter()
                .find(|a| a.as_str() == name)
                .ok_or_else(|| AllowError::UnknownClass(name.to_owned()))?;
            let patterns = set.0.entry(access).or_default();
            match pattern {
                None => unlimited.push(access),
                Some(pattern) => patterns.push(
                    GlobBuilder::new(pattern)
                        .literal_separator(true)
                        .build()
                        .map_err(|source| AllowError::Pattern { pattern: pattern.to_owned(), source })?
                        .compile_matcher(),
                ),
            }
        }
        for access in unlimited {
            set.0.insert(access, Vec::new());
        }
        Ok(set)
    }
}

/// Whether changes are made or only worked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Changes are made.
    Apply,
    /// Only reads pass; a change that is tried all the same is refused before it is sent.
    Plan,
}

/// What a call may do.
#[derive(Debug, Clone)]
pub struct Grant {
    allow: Arc<Allow>,
    mode: Mode,
    cancel: CancellationToken,
}

/// Why a guard did not let a request pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The user stopped the operation.
    #[error("cancelled")]
    Cancelled,
    /// The grant lacks the class for this subject.
    #[error("{action} needs '{access}' access to {subject}, which was not granted")]
    Denied {
        /// The class that is missing.
        access: Access,
        /// The RPC or HTTP method that was about to be sent.
        action: String,
        /// What it was about to be sent to.
        subject: String,
    },
    /// A change was tried while only planning: a bug of the operation, caught before it did harm.
    #[error("{action} on {subject} was tried while planning, and not sent")]
    Planning {
        /// The RPC or HTTP method that was about to be sent.
        action: String,
        /// What it was about to be sent to.
        subject: String,
    },
}

impl Failure for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Cancelled => Kind::Cancelled,
            Self::Denied { .. } => Kind::Denied,
            Self::Planning { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { access, .. } => Some(format!("run it with --allow …,{access}")),
            Self::Cancelled | Self::Planning { .. } => None,
        }
    }
}

impl Grant {
    /// Makes a grant that applies changes.
    #[must_use]
    pub fn new(allow: Allow, cancel: CancellationToken) -> Self {
        Self { allow: Arc::new(allow), mode: Mode::Apply, cancel }
    }

    /// Returns the same grant for planning: whatever is not a read is refused.
    #[must_use]
    pub fn planning(&self) -> Self {
        Self { mode: Mode::Plan, ..self.clone() }
    }

    /// Returns the same grant under another cancel token.
    #[must_use]
    pub fn with_cancel(&self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self.clone() }
    }

    /// Returns the token that stops everything done under this grant.
    #[must_use]
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Returns the access set.
    #[must_use]
    pub fn allow(&self) -> &Allow {
        &self.allow
    }

    /// Returns whether changes are made or only worked out.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Decides on something that changes nothing but needs more than `read`, also while planning.
    ///
    /// # Errors
    /// [`Refused::Denied`] when the class is not granted for the subject.
    pub fn check_access(&self, access: Access, action: &str, subject: &str) -> Result<(), Refused> {
        if self.allow.covers(access, subject) {
            return Ok(());
        }
        Err(Refused::Denied { access, action: action.to_owned(), subject: subject.to_owned() })
    }

    /// Decides on one request that is about to be sent.
    ///
    /// # Errors
    /// [`Refused::Cancelled`] when the token was cancelled, [`Refused::Denied`] when the class is not granted for the
    /// subject, [`Refused::Planning`] when it is not a read and the grant only plans.
    pub fn check(&self, access: Access, action: &str, subject: &str) -> Result<(), Refused> {
        if self.cancel.is_cancelled() {
            return Err(Refused::Cancelled);
        }
        if !self.allow.covers(access, subject) {
            return Err(Refused::Denied { access, action: action.to_owned(), subject: subject.to_owned() });
        }
        if self.mode == Mode::Plan && access != Access::Read {
            return Err(Refused::Planning { action: action.to_owned(), subject: subject.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scoped_class_covers_only_its_subjects() {
        let allow: Allow = "read,write=harbor.example/**,delete=harbor.example/*".parse().unwrap();
        assert!(allow.covers(Access::Read, "anything"));
        assert!(allow.covers(Access::Write, "harbor.example/team/app"));
        assert!(allow.covers(Access::Delete, "harbor.example/app"));
        assert!(!allow.covers(Access::Write, "docker.io/library/app"));
        assert!(!allow.covers(Access::Delete, "harbor.example/team/app"));
    }

    #[test]
    fn a_plan_refuses_whatever_is_not_a_read() {
        let grant = Grant::new(Allow::all(), CancellationToken::new()).planning();
        assert_eq!(grant.check(Access::Read, "GET", "x"), Ok(()));
        for access in Access::ALL.into_iter().filter(|a| *a != Access::Read) {
            assert!(matches!(grant.check(access, "PUT", "x"), Err(Refused::Planning { .. })), "{access}");
        }
    }

    #[test]
    fn an_unknown_class_names_the_classes() {
        let error = "reed".parse::<Allow>().unwrap_err();
        assert_eq!(error.to_string(), "unknown access class 'reed'");
        assert!(error.hint().unwrap().contains("read, write, run, delete, files, host"));
    }
}
