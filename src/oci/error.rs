//! What can be wrong with a document or a name.

use crate::kind::{Failure, Kind};

/// Why a document or a name was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a digest that this program lets near a path or an address.
    #[error("'{text}' is not a valid digest: {reason}")]
    Digest {
        /// The text as given, shortened.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not an image reference.
    #[error("'{text}' is not a valid image reference: {reason}")]
    Reference {
        /// The text as given, shortened.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a platform.
    #[error("'{text}' is not a valid platform: {reason}")]
    Platform {
        /// The text as given, shortened.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option of a container that cannot be used.
    #[error("{option} '{value}' cannot be used: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value, shortened.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest, index or config that cannot be used.
    #[error("{what} {digest} cannot be used: {reason}")]
    Document {
        /// What it was meant to be.
        what: &'static str,
        /// Its digest, or where it came from.
        digest: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A kind of image that containerd gave up long ago.
    #[error("{digest} is a Docker schema 1 manifest, which is not supported")]
    Schema1 {
        /// Its digest, or where it came from.
        digest: String,
    },
    /// The image has nothing for the platform asked for.
    #[error("no image for platform {wanted} in {digest}")]
    NoPlatform {
        /// The platforms asked for.
        wanted: String,
        /// The index.
        digest: String,
        /// The platforms there are.
        present: Vec<String>,
    },
    /// Bytes that are not what their descriptor promises.
    #[error("{subject} should be {expected} but is {actual}")]
    Mismatch {
        /// What was read, and from where.
        subject: String,
        /// The digest or size that was promised.
        expected: String,
        /// The digest or size that came.
        actual: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Digest { .. } | Self::Reference { .. } | Self::Platform { .. } | Self::Option { .. } => Kind::Usage,
            Self::NoPlatform { .. } => Kind::NotFound,
            Self::Document { .. } | Self::Schema1 { .. } | Self::Mismatch { .. } => Kind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Digest { .. } => Some("a digest is sha256: and 64 lower-case hex digits".into()),
            Self::Reference { .. } => {
                Some("a full reference looks like docker.io/library/nginx:alpine or HOST/NAME@sha256:…".into())
            }
            Self::Platform { .. } => Some("a platform is OS/ARCH[/VARIANT], like linux/arm64".into()),
            Self::Schema1 { .. } => Some("push the image again with a tool of this decade, then pull it".into()),
            Self::NoPlatform { present, .. } if !present.is_empty() => {
                Some(format!("it has {}; name one with platform", present.join(", ")))
            }
            Self::Mismatch { .. } => {
                Some("what was fetched is damaged or not what was asked for; nothing was kept".into())
            }
            Self::NoPlatform { .. } | Self::Document { .. } | Self::Option { .. } => None,
        }
    }
}

/// Makes the error of an option that cannot be used.
pub(crate) fn refuse(option: &'static str, value: &str, reason: impl Into<String>) -> Error {
    Error::Option { option, value: excerpt(value), reason: reason.into() }
}

/// Shortens and escapes text from outside, so that it fits a message and cannot command a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    if text.chars().nth(120).is_some() {
        short.push('…');
    }
    short
}
