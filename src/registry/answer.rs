//! What a registry answers with when it does not do what was asked.

use std::time::Duration;

use reqwest::StatusCode;

use crate::kind::Kind;

/// An error that a registry answered with (distribution-spec, section Error Codes).
#[derive(Debug, thiserror::Error)]
#[error("{}{action}: {host} answered {status}{}{detail}", meant(self), if detail.is_empty() { "" } else { ": " })]
pub struct Answer {
    /// The request.
    pub action: String,
    /// `SCHEME://HOST[:PORT]`.
    pub host: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// The registry's error codes, such as `MANIFEST_UNKNOWN`.
    pub codes: Vec<String>,
    /// What the registry said, escaped and shortened.
    pub detail: String,
    /// How long it asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether credentials were sent.
    pub authenticated: bool,
    /// Whether the next try will be made in another way: with a new token, or in smaller pieces.
    pub another_way: bool,
}

/// What an answer says of the state of a registry, beyond its status: Harbor and docker-registry tell these by words alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The registry's own disk is full.
    DiskFull,
    /// The registry's own disk takes no changes.
    ReadOnly,
    /// The quota of the project does not leave room for it.
    OverQuota,
    /// There is no project of this name.
    NoProject(String),
}

/// Writes what stands before an answer that has a meaning.
fn meant(answer: &Answer) -> String {
    match answer.meaning() {
        Some(Meaning::DiskFull) => "the registry's disk is full: ".to_owned(),
        Some(Meaning::ReadOnly) => "the registry's disk is read-only: ".to_owned(),
        Some(Meaning::OverQuota) => "the project's quota is used up: ".to_owned(),
        Some(Meaning::NoProject(name)) => format!("there is no project {name}: "),
        None => String::new(),
    }
}

impl Answer {
    /// Returns what it says beyond its status.
    #[must_use]
    pub fn meaning(&self) -> Option<Meaning> {
        match Kind::of_words(&self.detail).filter(|_| self.status.is_server_error()) {
            Some(Kind::NoSpace) => return Some(Meaning::DiskFull),
            Some(Kind::Denied) => return Some(Meaning::ReadOnly),
            _ => {}
        }
        // "adding 2 MiB of storage resource, which when updated to current usage of 9 MiB will exceed …"
        if self.detail.contains("exceed the configured upper limit") {
            return Some(Meaning::OverQuota);
        }
        // "UNAUTHORIZED: project shop not found"
        let refused = matches!(self.status.as_u16(), 401 | 403 | 404);
        let (_, rest) = self.detail.split_once("project ").filter(|_| refused)?;
        let (name, _) = rest.split_once(" not found")?;
        (!name.is_empty() && !name.contains(' ')).then(|| Meaning::NoProject(name.to_owned()))
    }

    /// Returns the host that answered, without its scheme.
    pub(super) fn authority(&self) -> &str {
        self.host.split_once("://").map_or(self.host.as_str(), |(_, authority)| authority)
    }

    /// Returns whether the registry gave this error code.
    #[must_use]
    pub fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|c| c == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{NO_SPACE, OVER_QUOTA, READ_ONLY};

    #[test]
    fn what_is_said_in_words_is_heard() {
        let meaning = |status: u16, detail: &str| {
            let answer = Answer {
                action: "PUT /v2/shop/x".into(),
                host: "https://harbor.example".into(),
                status: StatusCode::from_u16(status).unwrap(),
                codes: Vec::new(),
                detail: detail.into(),
                retry_after: None,
                authenticated: true,
                another_way: false,
            };
            assert_eq!(answer.authority(), "harbor.example");
            answer.meaning()
        };
        let full = "DENIED: adding 2.0 MiB of storage resource, which when updated to current usage of 9.0 MiB will exceed the configured upper limit of 10.0 MiB.";
        for status in [403, 412, 500] {
            assert_eq!(meaning(status, full), Some(Meaning::OverQuota));
        }
        for (words, meant) in
            [(NO_SPACE, Meaning::DiskFull), (OVER_QUOTA, Meaning::DiskFull), (READ_ONLY, Meaning::ReadOnly)]
        {
            let said = format!("UNKNOWN: unknown error: {words}");
            assert_eq!(meaning(500, &said), Some(meant));
            assert_eq!(meaning(400, &said), None);
        }
        let named = Some(Meaning::NoProject("shop".into()));
        assert_eq!(meaning(401, "UNAUTHORIZED: project shop not found"), named);
        assert_eq!(meaning(401, "UNAUTHORIZED: project shop not found: project shop not found"), named);
        assert_eq!(meaning(404, "NOT_FOUND: project shop not found"), named);
        for other in
            ["", "UNAUTHORIZED: authentication required", "project not found", "the project of yours is not found"]
        {
            assert_eq!(meaning(404, other), None, "{other}");
        }
        assert_eq!(meaning(500, "project shop not found"), None);
    }
}
