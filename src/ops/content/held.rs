//! What a namespace has, as reads see it: in a dry run, with what its earlier changes would have left.

use bytes::Bytes;

use super::exists;
use crate::containerd::Client;
use crate::containerd::content::Info;
use crate::oci::Digest;
use crate::ops::{Context, Effect, Error, Result, Seen};

/// Bytes that would be here. A dry run keeps those of documents and configs, as they say what an image is.
#[derive(Debug, Clone)]
struct Kept(Bytes);

/// The content of a namespace.
#[derive(Clone)]
pub struct Held {
    ctx: Context,
    client: Client,
}

impl Held {
    /// Looks into the namespace of a context.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn new(ctx: &Context) -> Result<Self> {
        Ok(Self { ctx: ctx.clone(), client: ctx.client().await? })
    }

    /// Returns the client that the daemon is asked by.
    pub(in crate::ops) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the context that it looks into.
    pub(in crate::ops) fn context(&self) -> &Context {
        &self.ctx
    }

    /// Looks one blob up; none when it is not here.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn info(&self, digest: &Digest) -> Result<Option<Info>> {
        match self.foreseen(digest) {
            Seen::As(info) => return Ok(Some(info)),
            Seen::Gone => return Ok(None),
            Seen::Unknown => {}
        }
        match self.client.content().info(digest).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a blob whole, and verified; none when it is not here.
    ///
    /// # Errors
    /// When it has more bytes than the limit, or is one that a dry run has only counted.
    pub async fn bytes(&self, digest: &Digest, limit: u64) -> Result<Option<Bytes>> {
        let foreseen = self.foreseen(digest);
        if foreseen == Seen::Gone {
            return Ok(None);
        }
        if let Some(bytes) = self.kept(digest) {
            return Ok(Some(bytes));
        }
        match self.client.content().bytes(digest, limit).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() && foreseen == Seen::Unknown => Ok(None),
            Err(error) if error.is_not_found() => Err(only_counted(digest)),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the bytes that a change of the dry run would have brought, where it kept them.
    pub(in crate::ops) fn kept(&self, digest: &Digest) -> Option<Bytes> {
        kept(&self.ctx, digest)
    }

    /// Returns what the dry run knows of a blob.
    pub(in crate::ops) fn foreseen(&self, digest: &Digest) -> Seen<Info> {
        self.ctx.overlay().get(&self.ctx.place_name(), digest.as_str())
    }
}

/// Returns the bytes that a change of the dry run would have brought, where it kept them.
pub(super) fn kept(ctx: &Context, digest: &Digest) -> Option<Bytes> {
    if ctx.overlay().get::<Info>(&ctx.place_name(), digest.as_str()) == Seen::Gone {
        return None;
    }
    match ctx.overlay().get::<Kept>(&ctx.place_name(), digest.as_str()) {
        Seen::As(Kept(bytes)) => Some(bytes),
        Seen::Gone | Seen::Unknown => None,
    }
}

/// Says that content would be here, and what its bytes are where they are at hand.
pub(in crate::ops) fn would_be_here(ctx: &Context, info: &Info, bytes: Option<Bytes>) -> Vec<Effect> {
    let kept = bytes.map(|bytes| Effect::exists(&ctx.place_name(), info.digest.as_str(), Kept(bytes)));
    std::iter::once(exists(ctx, info)).chain(kept).collect()
}

/// Says that the bytes of a blob would be here, and are not read in a dry run.
pub(in crate::ops) fn only_counted(digest: &Digest) -> Error {
    let state = "would be here, but its bytes are not known in a dry run".to_owned();
    Error::Conflict { what: "content", name: digest.to_string(), state, cure: None }
}
