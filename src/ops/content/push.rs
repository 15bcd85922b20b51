//! `content::push_object`: sends one blob or manifest to a registry.

use async_trait::async_trait;
use futures_util::TryStreamExt;

use super::info;
use crate::oci::store::{ImageSink, Labels};
use crate::oci::{Descriptor, Digest, MediaType, Parsed, Reference, manifest};
use crate::ops::{Context, Operation, Plan, Result};
use crate::registry::{Options, RegistryStore};

/// Sends one object of the content store to a repository, without what it refers to.
pub struct PushObject {
    reference: Reference,
    digest: Digest,
    media_type: MediaType,
    options: Options,
    found: Option<Descriptor>,
}

impl PushObject {
    /// Sends what has this digest as an object of this media type.
    #[must_use]
    pub fn new(reference: Reference, digest: Digest, media_type: MediaType, options: Options) -> Self {
        Self { reference, digest, media_type, options, found: None }
    }

    fn is_document(&self) -> bool {
        self.media_type.is_manifest() || self.media_type.is_index()
    }
}

#[async_trait]
impl Operation for PushObject {
    type Output = Descriptor;
    const NAME: &'static str = "content::push_object";

    fn subject(&self) -> String {
        format!("{} to {}", self.digest, self.reference.locator())
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Descriptor>> {
        let size = info(ctx, &self.digest).await?.size;
        let descriptor = Descriptor::new(self.media_type.clone(), self.digest.clone(), size);
        self.found = Some(descriptor.clone());
        let action = format!("send {} {} to {}", self.media_type, self.digest, self.reference.locator());
        Ok(Plan::new(descriptor).transfer(self.reference.locator(), action, size))
    }

    async fn apply(self, ctx: &Context) -> Result<Descriptor> {
        let size = self.found.as_ref().map_or(0, |found| found.size);
        let descriptor = Descriptor::new(self.media_type.clone(), self.digest.clone(), size);
        let content = ctx.client().await?.content();
        let sink = RegistryStore::sink(ctx.registry(), &self.reference, ctx.grant(), &self.options);
        if self.is_document() {
            let bytes = content.bytes(&self.digest, manifest::MAX_SIZE).await?;
            Parsed::read(&descriptor, &bytes)?;
            // Under its tag when the reference has one, as an image is sent.
            let selector = self.reference.tag().unwrap_or(self.digest.as_str());
            sink.repository().put_manifest(selector, &descriptor, bytes).await?;
            return Ok(descriptor);
        }
        if sink.has(&descriptor).await? {
            return Ok(descriptor);
        }
        let Some(mut writer) = sink.write(&descriptor, &Labels::new()).await? else { return Ok(descriptor) };
        let begin = writer.offset();
        let sent = async {
            let mut bytes = content.open_to_read(&self.digest, begin).await?;
            while let Some(part) = bytes.try_next().await? {
                writer.write(part).await?;
            }
            crate::ops::Result::Ok(())
        }
        .await;
        match sent {
            Ok(()) => writer.commit().await?,
            Err(error) => {
                let _ = writer.close(true).await;
                return Err(error);
            }
        }
        Ok(descriptor)
    }
}
