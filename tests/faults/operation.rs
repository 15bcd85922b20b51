//! The operations that faults hit: the requests of which all movement of images is made.

use ctrsh::kind::Kind;

use super::kinds::Outcome;

/// One request of the distribution API, as a part of what a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Asking for a token.
    Token,
    /// What a tag points to.
    Resolve,
    /// Reading a manifest.
    Manifest,
    /// Reading a config.
    Config,
    /// Reading a layer.
    Layer,
    /// Asking whether a blob is there.
    Exists,
    /// Opening an upload.
    Open,
    /// Sending a blob in one request.
    Whole,
    /// Sending a piece of a blob.
    Piece,
    /// Closing an upload that went in pieces.
    Close,
    /// Taking a blob from another repository.
    Mount,
    /// Storing a manifest under its tag.
    PutManifest,
    /// Listing tags.
    Tags,
    /// Listing what refers to a manifest.
    Referrers,
}

/// What a user does, of which an operation is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// From the registry into containerd.
    Pull,
    /// From a layout into the registry.
    Push,
    /// From one repository of the registry into another.
    Copy,
    /// Listing tags.
    Tags,
    /// Listing referrers.
    Referrers,
}

impl Operation {
    pub const ALL: [Self; 14] = [
        Self::Token,
        Self::Resolve,
        Self::Manifest,
        Self::Config,
        Self::Layer,
        Self::Exists,
        Self::Open,
        Self::Whole,
        Self::Piece,
        Self::Close,
        Self::Mount,
        Self::PutManifest,
        Self::Tags,
        Self::Referrers,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Resolve => "resolve",
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Exists => "exists",
            Self::Open => "open an upload",
            Self::Whole => "push in one request",
            Self::Piece => "push in pieces",
            Self::Close => "close an upload",
            Self::Mount => "mount",
            Self::PutManifest => "push a manifest",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
        }
    }

    pub const fn deed(self) -> Deed {
        match self {
            Self::Token | Self::Resolve | Self::Manifest | Self::Config | Self::Layer => Deed::Pull,
            Self::Exists | Self::Open | Self::Whole | Self::Piece | Self::Close | Self::PutManifest => Deed::Push,
            Self::Mount => Deed::Copy,
            Self::Tags => Deed::Tags,
            Self::Referrers => Deed::Referrers,
        }
    }

    /// Returns whether it changes nothing in the registry.
    pub const fn reads(self) -> bool {
        !matches!(self, Self::Open | Self::Whole | Self::Piece | Self::Close | Self::Mount | Self::PutManifest)
    }

    /// Returns whether its answer has a body.
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Manifest | Self::Config | Self::Layer | Self::Tags)
    }

    /// Returns whether blobs go up in pieces.
    pub const fn in_pieces(self) -> bool {
        matches!(self, Self::Piece | Self::Close)
    }

    /// Returns whether its answer may take long, as a blob is made of an upload.
    pub const fn commits(self) -> bool {
        matches!(self, Self::Whole | Self::Close)
    }

    /// Returns what a status has to come to that says no.
    pub fn refusal(self, status: u16) -> Option<Outcome> {
        use Outcome::{Harmless, Refused};
        let kind = match status {
            401 | 403 => Kind::Unauthorized,
            404 => Kind::NotFound,
            507 => Kind::NoSpace,
            _ => Kind::Internal,
        };
        Some(match (self, status) {
            // Not every registry knows HEAD; a GET says it then.
            (Self::Resolve, 400 | 405) => Harmless,
            // A blob that is not known to be there is sent.
            (Self::Exists, 404 | 405) => Harmless,
            // What has no list of referrers has a tag in its stead.
            (Self::Referrers, 400 | 404 | 405) => Harmless,
            (_, 507) if self.reads() => return None,
            _ => Refused(kind),
        })
    }
}
