//! What can go wrong between this program and a registry.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use super::answer::{Answer, Meaning};
use super::cause::Cause;
use crate::grant::Refused;
use crate::kind::{Failure, Kind};
use crate::oci;

/// Why a registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The guard did not let the request pass.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What came is not the document or the bytes that were asked for.
    #[error(transparent)]
    Document(#[from] oci::Error),
    /// No connection could be made.
    #[error("{action}: cannot connect to {host}: {}", root(source))]
    Unreachable {
        /// The request.
        action: String,
        /// `SCHEME://HOST[:PORT]`.
        host: String,
        /// What the HTTP crate said.
        source: reqwest::Error,
    },
    /// The connection broke while the request or its answer was on the way.
    #[error("{action}: the connection to {host} broke: {}", root(source))]
    Broken {
        /// The request.
        action: String,
        /// `SCHEME://HOST[:PORT]`.
        host: String,
        /// What the HTTP crate said.
        source: reqwest::Error,
    },
    /// No answer, or no further byte, within the time allowed.
    #[error("{action}: {host} sent nothing for {}", humantime::format_duration(*after))]
    Silent {
        /// The request.
        action: String,
        /// `SCHEME://HOST[:PORT]`.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// Bytes came, but too slowly to wait for the rest.
    #[error("{action}: {host} sent less than 1 KiB a second for {}", humantime::format_duration(*after))]
    Slow {
        /// The request.
        action: String,
        /// `SCHEME://HOST[:PORT]`.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// The registry answered with an error.
    #[error(transparent)]
    Answer(Box<Answer>),
    /// A request that failed again and again, each time in a way that may pass.
    #[error("{last}; it was tried {tries} times")]
    Exhausted {
        /// How often it was made.
        tries: u32,
        /// How it failed the last time.
        last: Box<Error>,
    },
    /// A tag, manifest, blob or repository that the registry does not have.
    #[error("{subject} is not in the registry: {answer}")]
    NotFound {
        /// What was looked for.
        subject: String,
        /// What the registry said.
        answer: Box<Answer>,
    },
    /// The registry asks to be left alone for longer than is worth waiting.
    #[error("{action}: {host} asks to wait {}", humantime::format_duration(*wait))]
    Throttled {
        /// The request.
        action: String,
        /// `SCHEME://HOST[:PORT]`.
        host: String,
        /// How long it asks to wait, from now.
        wait: Duration,
    },
    /// What answers there speaks HTTP, but is no registry.
    #[error("{action}: {host} is not a registry: it answered {status} with {what}")]
    NotARegistry {
        /// The request.
        action: String,
        /// `SCHEME://HOST[:PORT]`.
        host: String,
        /// The status of the answer.
        status: StatusCode,
        /// What the answer is instead.
        what: String,
    },
    /// What answers there has no projects to be asked for and made.
    #[error("{registry} is not a Harbor: {reason}")]
    NotHarbor {
        /// The registry.
        registry: String,
        /// What it answered instead.
        reason: String,
    },
    /// A redirect, link or upload location that is not followed.
    #[error("{action}: {host} points to {target}, which is not followed: {reason}")]
    Detour {
        /// The request.
        action: String,
        /// Who pointed there.
        host: String,
        /// Where it points, without its query.
        target: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// A token service that the credentials are not sent to.
    #[error("{host} wants its password sent to {realm}, which is not its own: {reason}")]
    Realm {
        /// The registry's host.
        host: String,
        /// The token service it named.
        realm: String,
        /// Why it is not trusted.
        reason: &'static str,
    },
    /// An answer that makes no sense.
    #[error("{action}: {host} gave an answer that makes no sense: {reason}")]
    Nonsense {
        /// The request.
        action: String,
        /// `SCHEME://HOST[:PORT]`.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Credentials could not be had.
    #[error("cannot get the credentials for {host}: {reason}")]
    Credentials {
        /// The registry.
        host: String,
        /// What went wrong, and where.
        reason: String,
    },
    /// Credentials could not be kept or forgotten.
    #[error("cannot change the credentials for {host}: {reason}")]
    Keeping {
        /// The registry.
        host: String,
        /// What went wrong, and where.
        reason: String,
    },
    /// A file of the hosts folder that cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    Hosts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key that cannot be used.
    #[error("{} cannot be used for TLS: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A TLS or proxy set-up that cannot be used.
    #[error("the {what} cannot be set up: {reason}")]
    SetUp {
        /// What was set up.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The hosts folder leaves no host that may do this.
    #[error("no host of {registry} is allowed to {capability} by the hosts folder")]
    NoHost {
        /// The registry.
        registry: String,
        /// The capability that every host lacks.
        capability: &'static str,
    },
    /// A blob ended before its size was reached.
    #[error("{subject} ended after {actual} of {expected} bytes")]
    Short {
        /// The blob.
        subject: String,
        /// The size of its descriptor.
        expected: u64,
        /// How far it came.
        actual: u64,
    },
    /// The bytes given to an upload are not as many as were announced.
    #[error("{subject} has {actual} bytes where {expected} were announced")]
    Length {
        /// The blob.
        subject: String,
        /// The size of its descriptor.
        expected: u64,
        /// How many bytes came.
        actual: u64,
    },
}

impl Error {
    /// Returns the registry's answer, when that is the error.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) | Self::NotFound { answer, .. } => Some(answer),
            Self::Exhausted { last, .. } => last.answer(),
            _ => None,
        }
    }

    /// Returns whether no name server knows the host.
    pub(super) fn is_unknown_host(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if Cause::of(source) == Cause::Unknown)
    }

    /// Returns the HTTP status when the registry answered with an error.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::NotARegistry { status, .. } => Some(*status),
            other => other.answer().map(|answer| answer.status),
        }
    }

    /// Names what was looked for when the registry does not have it.
    pub(super) fn about(self, subject: impl FnOnce() -> String) -> Self {
        match self {
            Self::Answer(answer) if answer.status == StatusCode::NOT_FOUND => {
                Self::NotFound { subject: subject(), answer }
            }
            other => other,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refused) => refused.kind(),
            Self::Document(document) => document.kind(),
            Self::Exhausted { last, .. } => last.kind(),
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Short { .. } | Self::Throttled { .. } => {
                Kind::Unavailable
            }
            Self::Silent { .. } | Self::Slow { .. } => Kind::Timeout,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Realm { .. } | Self::Credentials { .. } => Kind::Unauthorized,
            Self::NotARegistry { .. }
            | Self::Keeping { .. }
            | Self::Hosts { .. }
            | Self::Certificate { .. }
            | Self::NotHarbor { .. }
            | Self::SetUp { .. } => Kind::Usage,
            Self::NoHost { .. } => Kind::Usage,
            Self::Detour { .. } | Self::Nonsense { .. } => Kind::Internal,
            Self::Length { .. } => Kind::Integrity,
            Self::Answer(answer) => match (answer.meaning(), answer.status.as_u16()) {
                (Some(Meaning::DiskFull | Meaning::OverQuota), _) => Kind::NoSpace,
                (Some(Meaning::ReadOnly), _) => Kind::Denied,
                (Some(Meaning::NoProject(_)), _) => Kind::NotFound,
                (None, 401 | 403) => Kind::Unauthorized,
                (None, 404) => Kind::NotFound,
                (None, 409) => Kind::Conflict,
                (None, 408 | 504) => Kind::Timeout,
                (None, 429 | 500 | 502 | 503 | 522) => Kind::Unavailable,
                (None, 507) => Kind::NoSpace,
                _ if answer.has("DIGEST_INVALID") || answer.has("SIZE_INVALID") => Kind::Integrity,
                _ => Kind::Internal,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refused) => refused.hint(),
            Self::Document(document) => document.hint(),
            Self::Exhausted { last, .. } => last.hint(),
            Self::Unreachable { source, .. } => Some(
                match Cause::of(source) {
                    Cause::Certificate => {
                        "name the registry's CA with tlscacert or in hosts.toml; skip_verify turns the check off"
                    }
                    Cause::NotTls => "the registry seems to speak plain HTTP; say so with plain_http",
                    Cause::Unknown => {
                        "check the registry's name, and whether this machine can resolve names (/etc/resolv.conf)"
                    }
                    Cause::Refused | Cause::Forbidden | Cause::Other => {
                        "check the registry's name and port, the network and the proxy settings"
                    }
                }
                .into(),
            ),
            Self::Answer(answer) | Self::NotFound { answer, .. } if answer.meaning().is_some() => {
                let host = answer.authority();
                answer.meaning().map(|meaning| match meaning {
                    Meaning::DiskFull => "make room on the disk of the registry, and call it again".to_owned(),
                    Meaning::ReadOnly => "see what ails the disk of the registry, and call it again".to_owned(),
                    Meaning::OverQuota => format!(
                        "registry(\"{host}\").project(NAME) shows its quota; raise it in Harbor, or delete what is old"
                    ),
                    Meaning::NoProject(name) => {
                        format!("make it with registry(\"{host}\").create_project(\"{name}\"), if this is a Harbor")
                    }
                })
            }
            Self::Answer(answer) if matches!(answer.status.as_u16(), 401 | 403) => Some(if answer.authenticated {
                "these credentials are wrong, or not enough for what was asked".into()
            } else {
                "give a user and password, or log in first".into()
            }),
            Self::NotFound { .. } => Some("check the name; some registries answer so when a login is missing".into()),
            Self::Throttled { wait, .. } => {
                Some(format!("try again in {}; a login often raises the limit", humantime::format_duration(*wait)))
            }
            Self::NotHarbor { .. } => {
                Some("only Harbor has projects; most registries make a repository with the first push".into())
            }
            Self::NotARegistry { .. } => Some("check the registry's name and port".into()),
            Self::Broken { .. } | Self::Silent { .. } | Self::Slow { .. } => {
                Some("see whether a proxy or load balancer ends long transfers".into())
            }
            Self::Realm { realm, .. } => {
                Some(format!("if {realm} is right, allow it as a token host of this registry"))
            }
            Self::Hosts { .. } => Some("correct the file or move it away; it is not skipped silently".into()),
            _ => None,
        }
    }

    fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => {
                matches!(Cause::of(source), Cause::Refused | Cause::Unknown | Cause::Other)
            }
            Self::Broken { .. } | Self::Silent { .. } | Self::Slow { .. } | Self::Short { .. } => true,
            Self::Throttled { .. } => false,
            Self::Exhausted { last, .. } => last.retryable(),
            Self::Answer(answer) if answer.meaning().is_some() => false,
            Self::Answer(answer) => answer.another_way || super::retry::temporary(answer.status),
            _ => false,
        }
    }

    fn exhausted(&self) -> bool {
        matches!(self, Self::Exhausted { .. })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Exhausted { last, .. } => last.retry_after(),
            Self::Answer(answer) => answer.retry_after,
            Self::Throttled { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}

/// Returns the innermost cause, which is the one that says what happened.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    plain(&cause.to_string(), 300)
}

/// Shortens and escapes text of the other side, so that it fits a message and cannot command a terminal.
pub(super) fn plain(text: &str, limit: usize) -> String {
    let mut short = String::new();
    for c in text.chars().take(limit) {
        // Bidirectional controls reorder what a terminal shows (CVE-2021-42574).
        let bidi = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
        if c.is_control() || bidi {
            short.extend(c.escape_unicode());
        } else {
            short.push(c);
        }
    }
    if text.chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_other_side_cannot_command_a_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\u{202e}c", 50), "a\\u{1b}[31mb\\u{202e}c");
        assert_eq!(plain("abcdef", 3), "abc…");
    }

    #[test]
    fn statuses_have_kinds() {
        let answer = |status: u16, codes: &[&str]| {
            Error::Answer(Box::new(Answer {
                action: "GET x".into(),
                host: "https://x".into(),
                status: StatusCode::from_u16(status).unwrap(),
                codes: codes.iter().map(|c| (*c).to_owned()).collect(),
                detail: String::new(),
                retry_after: None,
                authenticated: false,
                another_way: false,
            }))
        };
        assert_eq!(answer(401, &[]).kind(), Kind::Unauthorized);
        assert_eq!(answer(404, &[]).kind(), Kind::NotFound);
        assert_eq!(answer(400, &["DIGEST_INVALID"]).kind(), Kind::Integrity);
        assert!(answer(502, &[]).retryable());
        assert!(!answer(400, &[]).retryable());
        assert_eq!(
            answer(404, &[]).about(|| "x/y:z".into()).to_string(),
            "x/y:z is not in the registry: GET x: https://x answered 404 Not Found"
        );
    }
}
