//! `content::label`: sets and removes labels of a blob.

use async_trait::async_trait;

use super::{exists, info};
use crate::containerd::Labels;
use crate::containerd::content::Info;
use crate::grant::Access;
use crate::oci::Digest;
use crate::ops::{Context, Operation, Plan, Result};

/// Sets labels of a blob; those not named stay as they are.
#[derive(Debug)]
pub struct Label {
    digest: Digest,
    labels: Labels,
}

impl Label {
    /// Sets these labels. An empty value removes a label, as in containerd.
    #[must_use]
    pub fn new(digest: Digest, labels: Labels) -> Self {
        Self { digest, labels }
    }
}

#[async_trait]
impl Operation for Label {
    type Output = Info;
    const NAME: &'static str = "content::label";

    fn subject(&self) -> String {
        self.digest.to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Info>> {
        let mut blob = info(ctx, &self.digest).await?;
        let mut changed = Vec::new();
        for (key, value) in &self.labels {
            if value.is_empty() {
                blob.labels.remove(key);
                changed.push(format!("{key} removed"));
            } else {
                blob.labels.insert(key.clone(), value.clone());
                changed.push(format!("{key}={value}"));
            }
        }
        if changed.is_empty() {
            return Ok(Plan::new(blob));
        }
        let effect = exists(ctx, &blob);
        let action = format!("label content {}: {}", self.digest, changed.join(", "));
        Ok(Plan::new(blob).step(Access::Write, ctx.target(), action).effect(effect))
    }

    async fn apply(self, ctx: &Context) -> Result<Info> {
        // An empty mask would replace all labels by none.
        if self.labels.is_empty() {
            return info(ctx, &self.digest).await;
        }
        Ok(ctx.client().await?.content().set_labels(&self.digest, &self.labels).await?)
    }
}
