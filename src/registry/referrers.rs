//! What refers to a manifest: signatures, attestations, SBOMs (distribution-spec, section Listing Referrers).

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::hosts::Capability;
use super::link::Pages;
use super::session::Call;
use super::target::Target;
use super::{Error, Repository, Result};
use crate::oci::{Descriptor, Digest, Index, MediaType, Parsed, manifest};

impl Repository {
    /// Lists what refers to a manifest, of one artifact type or of all.
    ///
    /// A registry without such a list is asked for the tag that stands in for it.
    ///
    /// # Errors
    /// Whatever keeps the registry from answering; nothing that refers to it is an empty list.
    pub async fn referrers(&self, digest: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>> {
        let mut all = match self.listed(digest, artifact_type).await? {
            Some(listed) => listed,
            None => self.tagged(digest).await?.map(|index| index.manifests).unwrap_or_default(),
        };
        // A registry need not filter.
        if let Some(wanted) = artifact_type {
            all.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(wanted));
        }
        Ok(all)
    }

    /// Asks the registry's own list; `None` when it keeps none.
    async fn listed(&self, digest: &Digest, artifact_type: Option<&str>) -> Result<Option<Vec<Descriptor>>> {
        let query = artifact_type.map(|wanted| ("artifactType", wanted.to_owned()));
        let mut target = Target::Path(format!("{}/referrers/{digest}", self.name()), query.into_iter().collect());
        let (mut all, mut pages, mut first) = (Vec::new(), Pages::default(), true);
        loop {
            let whole = Some(manifest::MAX_SIZE);
            let call = Call { target, whole, ..self.call(Method::GET, Capability::Referrers, "") };
            let done = match self.send(call).await {
                Ok(done) => done,
                Err(Error::Answer(a)) if first && matches!(a.status.as_u16(), 400 | 404 | 405) => return Ok(None),
                // A page of the web where the list should be: a registry that is too old to know the path.
                Err(Error::NotARegistry { .. }) if first => return Ok(None),
                Err(error) => return Err(error),
            };
            let media_type = done.reply.header(CONTENT_TYPE.as_str()).map(MediaType::parse);
            if media_type != Some(MediaType::OciIndex) {
                return Ok(None);
            }
            let next = pages.after(&done)?;
            let index: Index = serde_json::from_slice(&done.reply.body)
                .map_err(|_| done.reply.nonsense("it is not an index of referrers"))?;
            all.extend(index.manifests);
            match next {
                Some(place) => target = Target::Named(place),
                None => return Ok(Some(all)),
            }
            first = false;
        }
    }

    /// Reads the index that stands in for a list.
    async fn tagged(&self, digest: &Digest) -> Result<Option<Index>> {
        match self.fetch(&digest.referrers_tag()).await {
            Ok((descriptor, bytes)) => match Parsed::read(&descriptor, &bytes)? {
                Parsed::Index(index) => Ok(Some(index)),
                Parsed::Manifest(_) => Ok(None),
            },
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a manifest with a subject to the index that stands in for a list.
    pub(super) async fn list_referrer(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let (subject, mut entry) = match Parsed::read(descriptor, bytes)? {
            Parsed::Manifest(manifest) => {
                let artifact_type =
                    manifest.artifact_type.unwrap_or_else(|| manifest.config.media_type.as_str().to_owned());
                (manifest.subject, with(descriptor, Some(artifact_type), manifest.annotations))
            }
            Parsed::Index(index) => (index.subject, with(descriptor, index.artifact_type, index.annotations)),
        };
        let Some(subject) = subject else { return Ok(()) };
        entry.platform = None;
        // The tag is read and written anew: of two who do that at once one would lose its entry.
        let list = self.session.shared.list(&self.named(subject.digest.as_str()));
        let _alone = list.lock().await;
        let mut index = self.tagged(&subject.digest).await?.unwrap_or_else(|| Index::of(Vec::new()));
        if index.manifests.iter().any(|known| known.digest == entry.digest) {
            return Ok(());
        }
        index.manifests.push(entry);
        // It stands in for a list, and refers to nothing itself.
        index.subject = None;
        // Cannot fail: all keys are strings.
        let bytes = Bytes::from(serde_json::to_vec(&index).unwrap_or_default());
        let own = Descriptor::new(MediaType::OciIndex, Digest::sha256(&bytes), bytes.len() as u64);
        Box::pin(self.put_manifest(&subject.digest.referrers_tag(), &own, bytes)).await
    }
}

fn with(
    descriptor: &Descriptor,
    artifact_type: Option<String>,
    annotations: std::collections::BTreeMap<String, String>,
) -> Descriptor {
    Descriptor {
        artifact_type,
        annotations,
        ..Descriptor::new(descriptor.media_type.clone(), descriptor.digest.clone(), descriptor.size)
    }
}
