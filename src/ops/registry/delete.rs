//! `delete`: removes a tag or a manifest from a registry.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{check_held, gone, is_gone, repository};
use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::oci::{Digest, Reference};
use crate::ops::{Context, Error, Operation, Plan, Result};
use crate::registry::{self, Options, Repository};

/// How many tags are asked at the same time for what they point to.
const PARALLEL: usize = 16;

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// The repository, `REGISTRY/NAME`.
    pub repository: String,
    /// What the tags pointed to.
    pub digest: Digest,
    /// The tags that are gone.
    pub tags: Vec<String>,
}

/// Removes a tag, or a manifest with all of its tags.
///
/// A tag is deleted as a tag where the registry can do that. Most can only delete manifests by digest, and with one all
/// tags of it (distribution-spec, Content Management); that is done when the tag is the only one, and refused otherwise
/// unless `all_tags` is set.
#[derive(Debug)]
pub struct Delete {
    reference: Reference,
    all_tags: bool,
    options: Options,
    found: Option<Found>,
}

#[derive(Debug)]
struct Found {
    digest: Digest,
    /// The tags that point to it, the one that was named first.
    tags: Vec<String>,
}

impl Delete {
    /// Deletes what a reference names: its digest with all tags, else its tag.
    #[must_use]
    pub fn new(reference: Reference, all_tags: bool, options: Options) -> Self {
        Self { reference, all_tags, options, found: None }
    }

    /// Returns the tag that alone is meant, when one is.
    fn tag(&self) -> Option<&str> {
        self.reference.tag().filter(|_| self.reference.digest().is_none() && !self.all_tags)
    }

    /// Finds the digest, and who else points to it.
    async fn look(&self, ctx: &Context) -> Result<Found> {
        check_held(ctx, &self.reference)?;
        // What a mirror remembers is not what would be deleted, and its tags are not all that go along.
        let repository = repository(ctx, &self.reference, &self.options).for_push();
        let digest = repository.resolve(self.reference.selector()).await?.digest;
        let own = self.reference.tag().map(str::to_owned);
        let mut all = match repository.tags().await {
            // A registry may forget a repository that has no tags left, with manifests in it.
            Err(error) if error.kind() == Kind::NotFound => Vec::new(),
            other => other?,
        };
        all.retain(|tag| Some(tag) != own.as_ref() && !is_gone(ctx, &self.reference, tag));
        let others = all.into_iter().map(|tag| points_to(&repository, tag, &digest));
        let mut others: Vec<String> =
            stream::iter(others).buffer_unordered(PARALLEL).try_filter_map(async |tag| Ok(tag)).try_collect().await?;
        others.sort_unstable();
        let own = match self.reference.digest() {
            // The tag beside a digest says nothing of where it points.
            Some(_) => match own {
                Some(tag) => points_to(&repository, tag, &digest).await?,
                None => None,
            },
            None => own,
        };
        Ok(Found { digest, tags: own.into_iter().chain(others).collect() })
    }

    async fn delete_tag(&self, repository: &Repository, tag: &str, found: Found) -> Result<Deleted> {
        let refusal = match repository.delete_tag(tag).await {
            Ok(()) => return Ok(self.deleted(found.digest, vec![tag.to_owned()])),
            // Not a digest, unsupported, not allowed: what registries say that know no tags here.
            Err(registry::Error::Answer(answer)) if matches!(answer.status.as_u16(), 400 | 405 | 501) => {
                answer.to_string()
            }
            Err(error @ registry::Error::NotFound { .. }) => match repository.resolve(tag).await {
                Ok(_) => error.to_string(),
                Err(_) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        if let [_, others @ ..] = &found.tags[..]
            && !others.is_empty()
        {
            return Err(Error::Unsupported {
                registry: repository.registry().to_owned(),
                what: "delete a tag alone",
                reason: format!("{refusal}; {} would go with it, having the same digest", others.join(", ")),
                kind: Kind::Conflict,
                cure: "#{ all_tags: true } deletes them all".to_owned(),
            });
        }
        self.delete_manifest(repository, found).await
    }

    async fn delete_manifest(&self, repository: &Repository, found: Found) -> Result<Deleted> {
        match repository.delete_manifest(&found.digest).await {
            Ok(()) => Ok(self.deleted(found.digest, found.tags)),
            Err(registry::Error::Answer(answer)) if answer.has("UNSUPPORTED") || answer.status.as_u16() == 405 => {
                Err(Error::Unsupported {
                    registry: repository.registry().to_owned(),
                    what: "delete manifests",
                    reason: answer.to_string(),
                    kind: Kind::Conflict,
                    cure: "Docker's registry needs storage.delete.enabled: true; hosted ones have their own interface"
                        .to_owned(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn deleted(&self, digest: Digest, tags: Vec<String>) -> Deleted {
        Deleted { repository: self.reference.locator(), digest, tags }
    }
}

/// Returns the tag when it points to the digest; one that points to nothing any more does not.
async fn points_to(repository: &Repository, tag: String, digest: &Digest) -> Result<Option<String>> {
    match repository.resolve(&tag).await {
        Ok(found) => Ok((found.digest == *digest).then_some(tag)),
        // Signatures and the like may be of types that are no image's.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Integrity) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = Deleted;
    const NAME: &'static str = "delete";

    fn subject(&self) -> String {
        self.reference.to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Deleted>> {
        let found = self.look(ctx).await?;
        let (target, digest) = (self.reference.locator(), &found.digest);
        let plan = match self.tag() {
            Some(tag) => {
                let others = match &found.tags[..] {
                    [_, others @ ..] if !others.is_empty() => {
                        format!(
                            ", which {} have as well; refused where the registry has to delete those, too",
                            others.join(", ")
                        )
                    }
                    _ => String::new(),
                };
                let action = format!("delete tag {target}:{tag} of {digest}{others}");
                Plan::new(self.deleted(digest.clone(), vec![tag.to_owned()]))
                    .step(Access::Delete, target, action)
                    .effect(gone(&self.reference, tag))
            }
            None => {
                let mut plan = Plan::new(self.deleted(digest.clone(), found.tags.clone()))
                    .step(Access::Delete, target.clone(), format!("delete manifest {target}@{digest}"))
                    .effect(gone(&self.reference, digest.as_str()));
                for tag in &found.tags {
                    let action = format!("delete tag {target}:{tag}, which points to it");
                    plan = plan.step(Access::Delete, target.clone(), action).effect(gone(&self.reference, tag));
                }
                plan
            }
        };
        self.found = Some(found);
        Ok(plan)
    }

    async fn apply(mut self, ctx: &Context) -> Result<Deleted> {
        let found = match self.found.take() {
            Some(found) => found,
            None => self.look(ctx).await?,
        };
        let repository = repository(ctx, &self.reference, &self.options).for_push();
        match self.tag() {
            Some(tag) => self.delete_tag(&repository, tag, found).await,
            None => self.delete_manifest(&repository, found).await,
        }
    }
}
