//! `content::delete`: deletes blobs.

use async_trait::async_trait;

use super::info;
use crate::containerd::content::Info;
use crate::oci::Digest;
use crate::ops::disk::{Holdings, Item};
use crate::ops::{Context, Effect, Error, Level, Operation, Plan, Result};

/// Deletes blobs from the namespace.
#[derive(Debug)]
pub struct Delete {
    digests: Vec<Digest>,
    force: bool,
}

impl Delete {
    /// Deletes these blobs; with `force` also those that an image refers to.
    #[must_use]
    pub fn new(digests: Vec<Digest>, force: bool) -> Self {
        Self { digests, force }
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = Vec<Digest>;
    const NAME: &'static str = "content::delete";

    fn subject(&self) -> String {
        self.digests.iter().map(Digest::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Every blob has to exist, so that a misspelt digest among many deletes nothing.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Vec<Digest>>> {
        self.digests.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        self.digests.dedup();
        let mut plan = Plan::new(self.digests.clone());
        for digest in &self.digests {
            let blob = info(ctx, digest).await?;
            plan = plan
                .frees(ctx.target(), format!("delete content {digest}"), blob.size)
                .effect(Effect::gone::<Info>(&ctx.place_name(), digest.as_str()));
        }
        if !self.force {
            let held = Holdings::read(ctx, ctx.namespace(), &[]).await?;
            for image in &held.images {
                let reached = held.reached_by(image);
                let needed = self.digests.iter().find(|digest| reached.contains(&Item::Blob((*digest).clone())));
                if let Some(digest) = needed {
                    return Err(Error::Conflict {
                        what: "content",
                        name: digest.to_string(),
                        state: format!("belongs to the image {}", image.name),
                        cure: Some("delete the image, or give #{ force: true } to leave it incomplete".to_owned()),
                    });
                }
            }
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Vec<Digest>> {
        let content = ctx.client().await?.content();
        let mut failed: Option<Error> = None;
        for digest in &self.digests {
            match content.delete(digest).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) if failed.is_none() => failed = Some(error.into()),
                Err(error) => ctx.note(Level::Warn, &error.to_string()),
            }
        }
        failed.map_or(Ok(self.digests), Err)
    }
}
