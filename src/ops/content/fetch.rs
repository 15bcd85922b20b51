//! `content::fetch_object`, `content::fetch_blob`: what a registry has by a digest, without a daemon.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;

use super::read::MAX_READ;
use crate::oci::{Descriptor, Digest, MediaType, Reference};
use crate::ops::file::{Target, resolve};
use crate::ops::{Context, Error, Operation, Plan, Result, registry as ops_registry};
use crate::registry::{Options, Repository};

/// Reads a manifest or index of a repository: by its digest, or what the reference points to.
///
/// # Errors
/// Of kind `not_found` when the registry does not have it.
pub async fn object(
    ctx: &Context,
    reference: &Reference,
    digest: Option<Digest>,
    options: &Options,
) -> Result<(Descriptor, Bytes)> {
    let reference = digest.map_or_else(|| reference.clone(), |digest| reference.with_digest(digest));
    ops_registry::document(ctx, &reference, None, options).await
}

fn repository(ctx: &Context, reference: &Reference, options: &Options) -> Repository {
    ctx.registry().repository(reference.registry(), reference.repository(), ctx.grant(), options)
}

fn octets() -> MediaType {
    MediaType::parse("application/octet-stream")
}

/// Reads blobs of a repository one after the other into memory, each verified; together at most [`MAX_READ`].
///
/// # Errors
/// Of kind `not_found` when the registry does not have one.
pub async fn blobs(ctx: &Context, reference: &Reference, digests: &[Digest], options: &Options) -> Result<Bytes> {
    let repository = repository(ctx, reference, options);
    let mut all = bytes::BytesMut::new();
    for digest in digests {
        let size = repository.blob_size(digest).await?;
        if all.len() as u64 + size > MAX_READ {
            let problem = format!("makes it more than the {MAX_READ} bytes that are read into memory");
            let cure = Some("the option 'path' writes to a file".to_owned());
            return Err(Error::Argument { name: digest.to_string(), problem, cure });
        }
        all.extend_from_slice(&repository.blob(&Descriptor::new(octets(), digest.clone(), size), MAX_READ).await?);
    }
    Ok(all.freeze())
}

/// Writes blobs of a repository one after the other into a local file, each verified.
pub struct FetchBlobs {
    reference: Reference,
    digests: Vec<Digest>,
    path: PathBuf,
    options: Options,
    sizes: Vec<u64>,
}

impl FetchBlobs {
    /// Writes these blobs into this file.
    #[must_use]
    pub fn new(reference: Reference, digests: Vec<Digest>, path: PathBuf, options: Options) -> Self {
        Self { reference, digests, path, options, sizes: Vec::new() }
    }
}

#[async_trait]
impl Operation for FetchBlobs {
    type Output = u64;
    const NAME: &'static str = "content::fetch_blob";

    fn subject(&self) -> String {
        self.reference.locator()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<u64>> {
        let repository = repository(ctx, &self.reference, &self.options);
        self.sizes.clear();
        for digest in &self.digests {
            self.sizes.push(repository.blob_size(digest).await?);
        }
        let size = self.sizes.iter().sum();
        let path = resolve(ctx, &self.path);
        let action = format!("write {size} bytes of {} to {}", self.reference.locator(), self.path.display());
        Ok(Plan::new(size).path(ctx.local(&path), action))
    }

    async fn apply(self, ctx: &Context) -> Result<u64> {
        let repository = repository(ctx, &self.reference, &self.options);
        let mut target = Target::create(&resolve(ctx, &self.path)).await?;
        for (digest, size) in self.digests.iter().zip(&self.sizes) {
            let blob = Descriptor::new(octets(), digest.clone(), *size);
            let reader = repository.open_blob(&blob, 0).await?;
            target.take(digest, *size, reader.stream).await?;
        }
        target.finish().await?;
        Ok(self.sizes.iter().sum())
    }
}
