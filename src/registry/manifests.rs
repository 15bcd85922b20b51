//! Manifests and indexes: finding, reading, storing and deleting them (distribution-spec, Pulling and Pushing Manifests).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};

use super::hosts::Capability;
use super::transport::{Body, Reply};
use super::{Error, Repository, Result};
use crate::oci::{self, Algorithm, Descriptor, Digest, Hasher, MediaType, Parsed, manifest};

const DIGEST: &str = "docker-content-digest";
const SUBJECT: &str = "oci-subject";

/// A manifest that came, with what its registry called it.
struct Received {
    said: Option<MediaType>,
    bytes: Bytes,
}

impl Repository {
    /// Finds what a tag or digest points to: its media type, digest and size.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the registry does not have it; [`Error::Document`] when it answers with something else.
    pub async fn resolve(&self, selector: &str) -> Result<Descriptor> {
        let path = format!("manifests/{selector}");
        let mut call = self.call(Method::HEAD, capability(selector), &path);
        call.headers.insert(ACCEPT, HeaderValue::from_static(MediaType::ACCEPT));
        match self.send(call).await {
            Ok(done) => match self.described(selector, &done.reply)? {
                Some(descriptor) => Ok(descriptor),
                None => Ok(self.fetch(selector).await?.0),
            },
            // Some registries know no HEAD; what a GET says counts then.
            Err(Error::Answer(a)) if matches!(a.status.as_u16(), 400 | 405 | 501) => Ok(self.fetch(selector).await?.0),
            Err(error) => Err(error.about(|| self.named(selector))),
        }
    }

    /// Reads the descriptor from an answer's headers, if they have all of it.
    fn described(&self, selector: &str, reply: &Reply) -> Result<Option<Descriptor>> {
        let wanted = selector.parse::<Digest>().ok();
        let said = reply.header(DIGEST).map(str::parse::<Digest>).transpose()?;
        if let (Some(wanted), Some(said)) = (&wanted, &said)
            && wanted.algorithm() == said.algorithm()
            && wanted != said
        {
            return Err(mismatch(self.named(selector), wanted, said));
        }
        // A HEAD has no body to count, so the header is all there is.
        let size = reply.header("content-length").and_then(|text| text.parse::<u64>().ok()).filter(|size| *size > 0);
        let media_type = reply.header(CONTENT_TYPE.as_str()).map(MediaType::parse);
        let (Some(digest), Some(size), Some(media_type)) = (wanted.or(said), size, media_type) else { return Ok(None) };
        if media_type == MediaType::DockerSchema1 {
            return Err(oci::Error::Schema1 { digest: self.named(selector) }.into());
        }
        // Another type may be one that the server gives to everything; the document knows better.
        Ok((media_type.is_index() || media_type.is_manifest()).then(|| Descriptor::new(media_type, digest, size)))
    }

    /// Reads what a tag or digest points to, with its descriptor.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the registry does not have it; [`Error::Document`] when the bytes are not those of the
    /// digest asked for, or are no manifest.
    pub async fn fetch(&self, selector: &str) -> Result<(Descriptor, Bytes)> {
        let Received { said, bytes } = match selector.parse::<Digest>() {
            Ok(wanted) => self.receive_exactly(&wanted, None).await?,
            Err(_) => self.receive(selector, None).await?,
        };
        let digest = selector.parse().unwrap_or_else(|_| Digest::sha256(&bytes));
        let Some(media_type) = said.or_else(|| manifest::sniff(&bytes)) else {
            let reason = "it is neither a manifest nor an index".to_owned();
            return Err(oci::Error::Document { what: "answer for", digest: self.named(selector), reason }.into());
        };
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        Parsed::read(&descriptor, &bytes)?;
        Ok((descriptor, bytes))
    }

    /// Reads the manifest or index that a descriptor points to.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the registry does not have it; [`Error::Document`] when the bytes are not those of the
    /// descriptor, or the registry calls them something else than the descriptor does.
    pub async fn manifest(&self, descriptor: &Descriptor) -> Result<Bytes> {
        if let Some(bytes) = embedded(descriptor) {
            return Ok(bytes);
        }
        let selector = descriptor.digest.as_str();
        let Received { said, bytes } = self.receive_exactly(&descriptor.digest, Some(&descriptor.media_type)).await?;
        if let Some(said) = said.filter(|said| *said != descriptor.media_type) {
            let reason = format!("the registry calls it {said}, and its descriptor {}", descriptor.media_type);
            return Err(oci::Error::Document { what: "manifest", digest: self.named(selector), reason }.into());
        }
        Ok(bytes)
    }

    /// Reads what has a digest. Bytes of another are asked for once more: they may have been damaged on the way.
    async fn receive_exactly(&self, wanted: &Digest, prefer: Option<&MediaType>) -> Result<Received> {
        let mut again = true;
        loop {
            let received = self.receive(wanted.as_str(), prefer).await?;
            let actual = hash(wanted.algorithm(), &received.bytes);
            if actual == *wanted {
                return Ok(received);
            }
            if !std::mem::take(&mut again) {
                return Err(mismatch(self.named(wanted.as_str()), wanted, &actual));
            }
        }
    }

    async fn receive(&self, selector: &str, prefer: Option<&MediaType>) -> Result<Received> {
        let path = format!("manifests/{selector}");
        let mut call = self.call(Method::GET, capability(selector), &path);
        let accept = prefer.and_then(|own| HeaderValue::from_str(&format!("{own}, {}", MediaType::ACCEPT)).ok());
        call.headers.insert(ACCEPT, accept.unwrap_or(HeaderValue::from_static(MediaType::ACCEPT)));
        call.whole = Some(manifest::MAX_SIZE);
        let done = self.send(call).await.map_err(|e| e.about(|| self.named(selector)))?;
        done.reply.refuse_page()?;
        // Generic types such as `application/json` say nothing.
        let said = done.reply.header(CONTENT_TYPE.as_str()).map(MediaType::parse);
        let said = said.filter(|t| t.is_index() || t.is_manifest() || *t == MediaType::DockerSchema1);
        Ok(Received { said, bytes: done.reply.body })
    }

    /// Returns whether the repository has a manifest or index.
    ///
    /// # Errors
    /// Whatever keeps the registry from saying so.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        match self.resolve(digest.as_str()).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores a manifest or index by its exact bytes under a tag or its digest, after all that it points to.
    ///
    /// A subject that the registry does not list by itself is listed in the subject's tag (distribution-spec, section
    /// Pushing Manifests with Subject).
    ///
    /// # Errors
    /// Of kind `integrity` when the registry finds that the digest is another.
    pub async fn put_manifest(&self, selector: &str, descriptor: &Descriptor, bytes: Bytes) -> Result<()> {
        let path = format!("manifests/{selector}");
        let mut call = self.call(Method::PUT, Capability::Push, &path);
        let media_type = HeaderValue::from_str(descriptor.media_type.as_str()).map_err(|_| oci::Error::Document {
            what: "manifest",
            digest: self.named(selector),
            reason: "its media type cannot stand in a header".into(),
        })?;
        call.headers.insert(CONTENT_TYPE, media_type);
        call.body = Body::Bytes(bytes.clone());
        let puts = self.session.shared.puts(self.locator());
        let done = if descriptor.media_type.is_index() {
            let _alone = puts.write().await;
            self.send(call).await
        } else {
            let _together = puts.read().await;
            self.send(call).await
        };
        let done = done.map_err(|e| self.notice(e))?;
        if let Some(said) = done.reply.header(DIGEST).and_then(|text| text.parse::<Digest>().ok())
            && said.algorithm() == descriptor.digest.algorithm()
            && said != descriptor.digest
        {
            return Err(mismatch(self.named(selector), &descriptor.digest, &said));
        }
        let listed = done.reply.headers().contains_key(SUBJECT);
        self.session.shared.presence.note(self.registry(), self.name(), &descriptor.digest);
        if !listed {
            self.list_referrer(descriptor, &bytes).await?;
        }
        Ok(())
    }

    /// Deletes a manifest or index, and with it all tags that point to it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not there; an [`Answer`](super::Answer) of status 405 when the registry allows no
    /// deletion.
    pub async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.delete(digest.as_str()).await?;
        self.session.shared.presence.forget_one(self.registry(), self.name(), digest);
        Ok(())
    }

    /// Deletes a tag and leaves what it points to. Older registries allow only whole manifests to be deleted.
    ///
    /// # Errors
    /// As [`delete_manifest`](Self::delete_manifest).
    pub async fn delete_tag(&self, tag: &str) -> Result<()> {
        self.delete(tag).await
    }

    async fn delete(&self, selector: &str) -> Result<()> {
        let path = format!("manifests/{selector}");
        let call = self.call(Method::DELETE, Capability::Push, &path);
        self.send(call).await.map(drop).map_err(|e| e.about(|| self.named(selector)))
    }
}

/// Returns what a host must be able to do to find a tag or a digest.
fn capability(selector: &str) -> Capability {
    if selector.contains(':') { Capability::Pull } else { Capability::Resolve }
}

/// Returns the bytes that stand in the descriptor itself, if they are what it points to.
fn embedded(descriptor: &Descriptor) -> Option<Bytes> {
    let bytes = STANDARD.decode(descriptor.data.as_ref()?).ok()?;
    (bytes.len() as u64 == descriptor.size && hash(descriptor.digest.algorithm(), &bytes) == descriptor.digest)
        .then(|| bytes.into())
}

fn hash(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

fn mismatch(subject: String, expected: &Digest, actual: &Digest) -> Error {
    oci::Error::Mismatch { subject, expected: expected.to_string(), actual: actual.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_a_descriptor_counts_only_when_it_fits() {
        let mut descriptor = Descriptor::new(MediaType::OciManifest, Digest::sha256(b"{}"), 2);
        assert_eq!(embedded(&descriptor), None);
        descriptor.data = Some(STANDARD.encode("{}"));
        assert_eq!(embedded(&descriptor).as_deref(), Some(&b"{}"[..]));
        descriptor.data = Some(STANDARD.encode("[]"));
        assert_eq!(embedded(&descriptor), None);
    }
}
