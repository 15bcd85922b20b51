//! An image of a namespace as a source of a dry run: with the documents and configs that earlier changes would have left.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;

use super::get;
use crate::containerd::content::sources;
use crate::containerd::store::ContainerdStore;
use crate::oci::store::{self, BlobReader, ImageSource};
use crate::oci::{Descriptor, Parsed, manifest};
use crate::ops::content::{Held, only_counted};
use crate::ops::{Context, Error, Result, Seen};

/// Opens an image of the context's namespace.
///
/// # Errors
/// When there is no connection.
pub(super) async fn source(ctx: &Context, image: &str) -> Result<Box<dyn ImageSource>> {
    let store = ContainerdStore::new(ctx.client().await?, image);
    if !ctx.is_dry_run() {
        return Ok(Box::new(store));
    }
    Ok(Box::new(Here { held: Held::new(ctx).await?, store, image: image.to_owned() }))
}

struct Here {
    held: Held,
    store: ContainerdStore,
    image: String,
}

impl Here {
    async fn document(&self, descriptor: &Descriptor) -> Result<Option<Bytes>> {
        self.held.bytes(&descriptor.digest, manifest::MAX_SIZE).await
    }
}

#[async_trait]
impl ImageSource for Here {
    fn name(&self) -> String {
        self.image.clone()
    }

    fn daemon(&self) -> Option<String> {
        self.store.daemon()
    }

    async fn resolve(&self) -> store::Result<Descriptor> {
        Ok(get(self.held.context(), &self.image).await?.target)
    }

    async fn manifest(&self, descriptor: &Descriptor) -> store::Result<Bytes> {
        let missing = || Error::Incomplete {
            image: self.image.clone(),
            missing: format!("{} is not in the store", descriptor.digest),
        };
        Ok(self.document(descriptor).await?.ok_or_else(missing)?)
    }

    /// Opens what is at hand: nothing of a dry run reads layers.
    async fn open(&self, descriptor: &Descriptor, offset: u64) -> store::Result<BlobReader> {
        if let Some(bytes) = self.held.kept(&descriptor.digest) {
            return Ok(BlobReader { start: 0, stream: Box::pin(stream::iter([Ok(bytes)])) });
        }
        match self.store.open(descriptor, offset).await {
            Err(_) if matches!(self.held.foreseen(&descriptor.digest), Seen::As(_)) => {
                Err(only_counted(&descriptor.digest).into())
            }
            other => other,
        }
    }

    async fn holds(&self, descriptor: &Descriptor) -> store::Result<bool> {
        let mut open = vec![descriptor.clone()];
        while let Some(next) = open.pop() {
            if !next.media_type.is_manifest() && !next.media_type.is_index() {
                if self.held.info(&next.digest).await?.is_none() {
                    return Ok(false);
                }
                continue;
            }
            match self.document(&next).await? {
                Some(bytes) => open.extend(Parsed::read(&next, &bytes)?.children()),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn mount_candidates(&self, registry: &str, descriptor: &Descriptor) -> store::Result<Vec<String>> {
        let info = self.held.info(&descriptor.digest).await?;
        Ok(info.map(|info| sources(registry, &info.labels)).unwrap_or_default())
    }
}
