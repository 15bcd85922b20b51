//! A reference in a registry as a source and a sink of images.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::presence::nearest_first;
use super::uploads::Loose;
use super::{Client, Error, Options, Repository, Upload};
use crate::grant::Grant;
use crate::oci::store::{BlobReader, BlobWriter, ImageSink, ImageSource, Labels, Origin, Result};
use crate::oci::{self, Descriptor, Digest, Reference};

/// A reference in a registry, as `ops::copy` reads from it or writes to it.
#[derive(Debug)]
pub struct RegistryStore {
    repository: Repository,
    reference: Reference,
    /// Manifests that are not sent yet. The last one is held back, because the root goes straight to its tag.
    held: Mutex<Vec<(Descriptor, Bytes)>>,
    /// Uploads that a mount opened instead of mounting.
    opened: std::sync::Mutex<HashMap<Digest, Upload>>,
    /// What was written by this store: what of it was interrupted is this one's to resume, or to take back.
    written: std::sync::Mutex<HashSet<Digest>>,
}

impl RegistryStore {
    /// Makes a source of what a reference points to.
    #[must_use]
    pub fn source(client: &Client, reference: &Reference, grant: &Grant, options: &Options) -> Self {
        Self::new(client.repository(reference.registry(), reference.repository(), grant, options), reference)
    }

    /// Makes a sink that will make a reference point to an image.
    #[must_use]
    pub fn sink(client: &Client, reference: &Reference, grant: &Grant, options: &Options) -> Self {
        let repository = client.repository(reference.registry(), reference.repository(), grant, options);
        Self::new(repository.for_push(), reference)
    }

    fn new(repository: Repository, reference: &Reference) -> Self {
        Self {
            repository,
            reference: reference.clone(),
            held: Mutex::default(),
            opened: std::sync::Mutex::default(),
            written: std::sync::Mutex::default(),
        }
    }

    /// Returns the repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    fn opened(&self, digest: &Digest) -> Option<Upload> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(digest)
    }

    async fn send(&self, selector: &str, (descriptor, bytes): &(Descriptor, Bytes)) -> super::Result<()> {
        self.repository.put_manifest(selector, descriptor, bytes.clone()).await
    }

    /// Sends all manifests but the newest, each by its digest; those that fail are kept for the next try.
    async fn send_all_but_last(held: &mut Vec<(Descriptor, Bytes)>, store: &Self) -> super::Result<()> {
        while held.len() > 1 {
            let selector = held[0].0.digest.to_string();
            store.send(&selector, &held[0]).await?;
            held.remove(0);
        }
        Ok(())
    }
}

impl Drop for RegistryStore {
    /// Takes back uploads that a mount opened and nobody used, and those that were to be resumed and were not.
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let opened = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        let written = std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        let (interrupted, origin) = (&self.repository.session.shared.interrupted, self.repository.origin());
        let kept = written.iter().filter_map(|digest| interrupted.take(&origin, digest));
        for upload in opened.into_values().chain(kept) {
            self.repository.session.shared.endings.spawn(upload.delete());
        }
    }
}

#[async_trait]
impl ImageSource for RegistryStore {
    fn name(&self) -> String {
        self.repository.locator().to_owned()
    }

    async fn resolve(&self) -> Result<Descriptor> {
        Ok(self.repository.resolve(self.reference.selector()).await?)
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Bytes> {
        Ok(self.repository.manifest(descriptor).await?)
    }

    async fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobReader> {
        Ok(self.repository.open_blob(descriptor, offset).await?)
    }

    fn origin(&self) -> Option<Origin> {
        Some(self.repository.origin())
    }

    async fn mount_candidates(&self, registry: &str, descriptor: &Descriptor) -> Result<Vec<String>> {
        let mut names = Vec::new();
        if registry == self.repository.registry() {
            names.push(self.repository.name().to_owned());
        }
        let known = self.repository.session.shared.presence.holders(registry, &descriptor.digest);
        names.extend(known.into_iter().filter(|name| name != self.repository.name()));
        Ok(names)
    }
}

#[async_trait]
impl ImageSink for RegistryStore {
    fn name(&self) -> String {
        self.repository.locator().to_owned()
    }

    async fn has(&self, descriptor: &Descriptor) -> Result<bool> {
        let repository = &self.repository;
        let (presence, digest) = (&repository.session.shared.presence, &descriptor.digest);
        if presence.has(repository.registry(), repository.name(), digest) {
            return Ok(true);
        }
        let is_manifest = descriptor.media_type.is_index() || descriptor.media_type.is_manifest();
        let has =
            if is_manifest { repository.has_manifest(digest).await? } else { repository.has_blob(digest).await? };
        if has {
            presence.note(repository.registry(), repository.name(), digest);
        }
        Ok(has)
    }

    fn home(&self) -> Option<Origin> {
        Some(self.repository.origin())
    }

    async fn holders(&self, descriptor: &Descriptor) -> Result<Vec<Origin>> {
        let registry = self.repository.registry();
        let mut names = self.repository.session.shared.presence.holders(registry, &descriptor.digest);
        // What is here need not come from elsewhere.
        if names.iter().any(|name| name == self.repository.name()) {
            return Ok(Vec::new());
        }
        nearest_first(&mut names, self.repository.name());
        Ok(names.into_iter().map(|repository| Origin { registry: registry.to_owned(), repository }).collect())
    }

    async fn current(&self) -> Result<Option<Descriptor>> {
        match self.repository.resolve(self.reference.selector()).await {
            Ok(descriptor) => Ok(Some(descriptor)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn mount(&self, descriptor: &Descriptor, from: &Origin) -> Result<bool> {
        if from.registry != self.repository.registry() || from.repository == self.repository.name() {
            return Ok(false);
        }
        // An upload that is open already would be left behind by another try.
        if self.opened.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&descriptor.digest) {
            return Ok(false);
        }
        match self.repository.mount(&descriptor.digest, &from.repository).await? {
            None => Ok(true),
            Some(upload) => {
                let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
                opened.insert(descriptor.digest.clone(), upload);
                Ok(false)
            }
        }
    }

    async fn write(&self, descriptor: &Descriptor, _labels: &Labels) -> Result<Option<Box<dyn BlobWriter>>> {
        let (shared, digest) = (&self.repository.session.shared, &descriptor.digest);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
        if let Some(kept) = shared.interrupted.take(&self.repository.origin(), digest) {
            let loose = Loose::new(kept.clone());
            match kept.resume(descriptor).await {
                Ok(writer) => {
                    loose.take();
                    return Ok(Some(Box::new(writer)));
                }
                Err(error) => tracing::debug!(%error, "an upload cannot be resumed"),
            }
        }
        if let Some(upload) = self.opened(digest) {
            return Ok(Some(Box::new(upload.writer(descriptor))));
        }
        Ok(Some(Box::new(self.repository.upload().await?.writer(descriptor))))
    }

    async fn put_manifest(&self, descriptor: &Descriptor, bytes: Bytes, _labels: &Labels) -> Result<()> {
        let mut held = self.held.lock().await;
        held.retain(|(known, _)| known.digest != descriptor.digest);
        held.push((descriptor.clone(), bytes));
        Ok(Self::send_all_but_last(&mut held, self).await?)
    }

    async fn finish(&self, root: &Descriptor) -> Result<()> {
        if let Some(wanted) = self.reference.digest().filter(|wanted| **wanted != root.digest) {
            return Err(Error::from(oci::Error::Mismatch {
                subject: format!("the image for {}", self.reference),
                expected: wanted.to_string(),
                actual: root.digest.to_string(),
            })
            .into());
        }
        let selector = self.reference.tag().unwrap_or(root.digest.as_str());
        let mut held = self.held.lock().await;
        Self::send_all_but_last(&mut held, self).await?;
        match held.pop() {
            Some(last) if last.0.digest == root.digest => self.send(selector, &last).await?,
            last => {
                if let Some(other) = last {
                    self.send(other.0.digest.as_str(), &other).await?;
                }
                // The root was there before; only the tag is new.
                if self.reference.tag().is_some() {
                    let bytes = self.repository.manifest(root).await?;
                    self.send(selector, &(root.clone(), bytes)).await?;
                }
            }
        }
        Ok(())
    }

    /// Every registry checks the digest that closes an upload (distribution-spec, `DIGEST_INVALID`), so hashing here as
    /// well would only cost time; its refusal is an error of kind `integrity`.
    fn verifies(&self) -> bool {
        true
    }
}
