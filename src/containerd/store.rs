//! A namespace's images as a source and a sink of image movement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::content::{self, SmallWriter, gc_labels, source_labels};
use super::images::Image;
use super::{Client, Error, Labels, Result};
use crate::kind::{Failure, Kind};
use crate::oci::store::{self, BlobReader, BlobWriter, ImageSink, ImageSource, Origin};
use crate::oci::{Descriptor, Parsed, manifest};

/// From how many bytes on a blob is read from the store's own file.
const WORTH_A_FILE: u64 = 64 << 10;

/// One image, by its name, in one namespace of one daemon.
///
/// As a sink it wants a client with a lease: what is written or found present is kept by the lease until
/// [`ImageSink::finish`] has made the record, which is what keeps it from then on.
#[derive(Debug, Clone)]
pub struct ContainerdStore {
    client: Client,
    image: String,
    origin: Option<Origin>,
    image_labels: Labels,
    /// Whether another namespace of the daemon has what is to come, and shares it as far as is known.
    shares: Arc<AtomicBool>,
}

impl ContainerdStore {
    /// Takes the image of this name.
    #[must_use]
    pub fn new(client: Client, image: &str) -> Self {
        Self { client, image: image.to_owned(), origin: None, image_labels: Labels::new(), shares: Arc::default() }
    }

    /// Says what is to be written. When the source is another namespace of the same daemon, that one's content is taken
    /// as it is, unless the daemon keeps namespaces apart (its `content_sharing_policy`).
    #[must_use]
    pub fn with_source(self, source: &dyn ImageSource) -> Self {
        let shares = source.daemon().is_some_and(|daemon| daemon == self.client.node().endpoint().to_string());
        Self { shares: Arc::new(shares.into()), ..self }.with_origin(source.origin())
    }

    /// Notes on every blob, also on those that are there already, that this repository has it, so that a later push to
    /// the same registry can mount it.
    #[must_use]
    pub fn with_origin(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin;
        self
    }

    /// Sets these labels on the image record, such as `io.cri-containerd.image=managed`.
    #[must_use]
    pub fn with_image_labels(mut self, labels: Labels) -> Self {
        self.image_labels = labels;
        self
    }

    /// Returns the client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Points the image to the root.
    ///
    /// # Errors
    /// When the daemon refuses the name, or cannot be reached.
    pub async fn record(&self, root: &Descriptor) -> Result<Image> {
        // A record holds what ctr puts there: the three fields and nothing of how the descriptor was come by.
        let target = Descriptor::new(root.media_type.clone(), root.digest.clone(), root.size);
        self.client.images().put(&self.image, &target, &self.image_labels).await
    }

    fn labels(&self, given: &Labels) -> Labels {
        let mut labels = given.clone();
        if let Some(origin) = &self.origin {
            labels.extend(source_labels(origin, given));
        }
        labels
    }

    async fn find(&self, descriptor: &Descriptor) -> Result<bool> {
        let content = self.client.content();
        // Asking first is cheap; opening at once would make an ingest, with a write to the daemon's database, for each
        // blob that is not there.
        let info = match content.info(&descriptor.digest).await {
            Err(error) if error.is_not_found() => return self.take_over(descriptor).await,
            other => other?,
        };
        // Only now is it kept: opening it for writing adds it to the lease, being looked up does not.
        if let Some(writer) = content.open(descriptor, &Labels::new()).await? {
            // It was collected between the two calls.
            writer.discard().await?;
            return Ok(false);
        }
        if let Some(origin) = &self.origin {
            let labels = source_labels(origin, &info.labels);
            if labels.iter().any(|(key, value)| info.labels.get(key) != Some(value)) {
                content.set_labels(&descriptor.digest, &labels).await?;
            }
        }
        Ok(true)
    }

    /// Takes a blob over from another namespace: opening it by its digest adds it to this one.
    async fn take_over(&self, descriptor: &Descriptor) -> Result<bool> {
        if !self.shares.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match self.client.content().open(descriptor, &Labels::new()).await? {
            None => Ok(true),
            Some(writer) => {
                self.shares.store(false, Ordering::Relaxed);
                writer.discard().await?;
                Ok(false)
            }
        }
    }
}

#[async_trait]
impl ImageSource for ContainerdStore {
    fn name(&self) -> String {
        self.image.clone()
    }

    fn daemon(&self) -> Option<String> {
        Some(self.client.node().endpoint().to_string())
    }

    async fn resolve(&self) -> store::Result<Descriptor> {
        Ok(self.client.images().get(&self.image).await?.target)
    }

    async fn manifest(&self, descriptor: &Descriptor) -> store::Result<Bytes> {
        Ok(self.client.content().bytes(&descriptor.digest, manifest::MAX_SIZE).await?)
    }

    async fn open(&self, descriptor: &Descriptor, offset: u64) -> store::Result<BlobReader> {
        let content = self.client.content();
        // For less it is not worth looking for the file.
        let opened = if descriptor.size < WORTH_A_FILE {
            content.read(&descriptor.digest, offset).await
        } else {
            content.open_to_read(&descriptor.digest, offset).await
        };
        let stream = opened.map_err(|error| match error.is_not_found() {
            true => Error::Incomplete { image: self.image.clone(), digest: descriptor.digest.clone() },
            false => error,
        })?;
        Ok(BlobReader { start: offset, stream: Box::pin(futures_util::TryStreamExt::map_err(stream, Into::into)) })
    }

    /// Looks up every blob, so it costs a request each.
    async fn holds(&self, descriptor: &Descriptor) -> store::Result<bool> {
        let content = self.client.content();
        let mut open = vec![descriptor.clone()];
        while let Some(next) = open.pop() {
            let known = match content.info(&next.digest).await {
                Ok(_) => true,
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(error.into()),
            };
            if !known {
                return Ok(false);
            }
            if next.media_type.is_manifest() || next.media_type.is_index() {
                let bytes = content.bytes(&next.digest, manifest::MAX_SIZE).await?;
                open.extend(Parsed::read(&next, &bytes)?.children());
            }
        }
        Ok(true)
    }

    async fn mount_candidates(&self, registry: &str, descriptor: &Descriptor) -> store::Result<Vec<String>> {
        match self.client.content().info(&descriptor.digest).await {
            Ok(info) => Ok(content::sources(registry, &info.labels)),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl ImageSink for ContainerdStore {
    /// Whatever the image, its content goes into one store: it is that which must not be sent to twice.
    fn name(&self) -> String {
        format!("{} {}", self.client.node().endpoint(), self.client.namespace())
    }

    async fn has(&self, descriptor: &Descriptor) -> store::Result<bool> {
        Ok(self.find(descriptor).await?)
    }

    async fn current(&self) -> store::Result<Option<Descriptor>> {
        match self.client.images().get(&self.image).await {
            Ok(image) => Ok(Some(image.target)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn stored(&self, descriptor: &Descriptor) -> store::Result<Option<Bytes>> {
        match self.client.content().bytes(&descriptor.digest, manifest::MAX_SIZE).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            // What is damaged here may be whole at the source.
            Err(error) if error.kind() == Kind::Integrity => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, descriptor: &Descriptor, labels: &Labels) -> store::Result<Option<Box<dyn BlobWriter>>> {
        let (content, labels) = (self.client.content(), self.labels(labels));
        if descriptor.size <= SmallWriter::MAX_SIZE {
            return Ok(Some(Box::new(SmallWriter::new(content, descriptor, labels))));
        }
        let writer = content.open(descriptor, &labels).await?;
        Ok(writer.map(|writer| Box::new(writer) as Box<dyn BlobWriter>))
    }

    fn wants_order(&self) -> bool {
        false
    }

    /// Stores the document with the labels that keep its children.
    async fn put_manifest(&self, descriptor: &Descriptor, bytes: Bytes, labels: &Labels) -> store::Result<()> {
        let mut labels = self.labels(labels);
        labels.extend(gc_labels(&Parsed::read(descriptor, &bytes)?));
        self.client.content().put(descriptor, bytes, &labels).await?;
        Ok(())
    }

    /// Whoever stored the document may not have labelled it, as `ctr content ingest` does not.
    async fn adopt(&self, descriptor: &Descriptor, bytes: &Bytes) -> store::Result<()> {
        let labels = gc_labels(&Parsed::read(descriptor, bytes)?);
        self.client.content().ensure_labels(&descriptor.digest, &labels).await?;
        Ok(())
    }

    async fn finish(&self, root: &Descriptor) -> store::Result<()> {
        self.record(root).await?;
        Ok(())
    }

    fn verifies(&self) -> bool {
        true
    }
}
