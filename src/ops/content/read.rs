//! `content::get`, `content::save`: the bytes of a blob.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;

use super::held::{kept, only_counted};
use super::info;
use crate::containerd::content::Info;
use crate::oci::Digest;
use crate::ops::file::{Target, resolve};
use crate::ops::{Context, Error, Operation, Plan, Result, Seen};

/// The most bytes that are read into memory, as many as a script's strings may have.
pub const MAX_READ: u64 = 16 << 20;

/// Reads a blob, or `size` bytes of it from an offset. A blob that is read whole is verified.
///
/// # Errors
/// [`Error::NotFound`] when it is not here; [`Error::Argument`] when that is more than [`MAX_READ`].
pub async fn bytes(ctx: &Context, digest: &Digest, offset: u64, size: Option<u64>) -> Result<Bytes> {
    let blob = info(ctx, digest).await?;
    let rest = blob.size.saturating_sub(offset);
    let size = size.map_or(rest, |size| size.min(rest));
    if size > MAX_READ {
        let problem = format!("has {size} bytes, and at most {MAX_READ} are read into memory");
        let cure = Some("content::save writes it to a file; 'offset' and 'size' read a part".to_owned());
        return Err(Error::Argument { name: digest.to_string(), problem, cure });
    }
    if let Some(bytes) = kept(ctx, digest) {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = begin + usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len() - begin);
        return Ok(bytes.slice(begin..end));
    }
    let content = ctx.client().await?.content();
    if matches!(ctx.overlay().get::<Info>(&ctx.place_name(), digest.as_str()), Seen::As(_)) {
        // A label may be all that the dry run would have changed of it.
        content
            .info(digest)
            .await
            .map_err(|error| if error.is_not_found() { only_counted(digest) } else { error.into() })?;
    }
    if size == blob.size {
        return Ok(content.bytes(digest, MAX_READ).await?);
    }
    let mut part = BytesMut::new();
    if size > 0 {
        let mut stream = content.read(digest, offset).await?;
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        while part.len() < wanted
            && let Some(next) = stream.try_next().await?
        {
            part.extend_from_slice(&next[..next.len().min(wanted - part.len())]);
        }
    }
    Ok(part.freeze())
}

/// Writes a blob into a local file, verified.
#[derive(Debug)]
pub struct Save {
    digest: Digest,
    path: PathBuf,
    found: Option<Info>,
}

impl Save {
    /// Writes this blob into this file.
    #[must_use]
    pub fn new(digest: Digest, path: PathBuf) -> Self {
        Self { digest, path, found: None }
    }
}

#[async_trait]
impl Operation for Save {
    type Output = u64;
    const NAME: &'static str = "content::save";

    fn subject(&self) -> String {
        self.digest.to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<u64>> {
        let path = resolve(ctx, &self.path);
        let blob = info(ctx, &self.digest).await?;
        let action = format!("write the {} bytes of {} to {}", blob.size, self.digest, self.path.display());
        let size = blob.size;
        self.found = Some(blob);
        Ok(Plan::new(size).path(ctx.local(&path), action))
    }

    async fn apply(self, ctx: &Context) -> Result<u64> {
        let size = self.found.map_or(0, |found| found.size);
        let mut target = Target::create(&resolve(ctx, &self.path)).await?;
        let stream = ctx.client().await?.content().open_to_read(&self.digest, 0).await?;
        target.take(&self.digest, size, stream).await?;
        target.finish().await?;
        Ok(size)
    }
}
