//! `snapshots::label`: sets and removes labels of a snapshot.

use async_trait::async_trait;

use super::{Snapshot, get, place};
use crate::containerd::Labels;
use crate::grant::Access;
use crate::ops::{Context, Effect, Operation, Plan, Result, image};

/// Sets labels of a snapshot; those not named stay as they are.
#[derive(Debug)]
pub struct Label {
    key: String,
    labels: Labels,
    snapshotter: Option<String>,
}

impl Label {
    /// Sets these labels. An empty value removes a label, as in containerd.
    #[must_use]
    pub fn new(key: &str, labels: Labels, snapshotter: Option<String>) -> Self {
        Self { key: key.to_owned(), labels, snapshotter }
    }
}

#[async_trait]
impl Operation for Label {
    type Output = Snapshot;
    const NAME: &'static str = "label snapshot";

    fn subject(&self) -> String {
        self.key.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Snapshot>> {
        let snapshotter = image::snapshotter(ctx, self.snapshotter.as_deref()).await?;
        let mut found = get(ctx, &snapshotter, &self.key).await?;
        let mut changed = Vec::new();
        for (key, value) in &self.labels {
            if value.is_empty() {
                found.info.labels.remove(key);
                changed.push(format!("{key} removed"));
            } else {
                found.info.labels.insert(key.clone(), value.clone());
                changed.push(format!("{key}={value}"));
            }
        }
        let plan = Plan::new(found.clone());
        if changed.is_empty() {
            return Ok(plan);
        }
        let action = format!("label snapshot {}: {}", self.key, changed.join(", "));
        let effect = Effect::exists(&place(ctx, &snapshotter), &self.key, found);
        self.snapshotter = Some(snapshotter);
        Ok(plan.step(Access::Write, ctx.target(), action).effect(effect))
    }

    async fn apply(self, ctx: &Context) -> Result<Snapshot> {
        let snapshotter = image::snapshotter(ctx, self.snapshotter.as_deref()).await?;
        // An empty mask would replace the whole record by nothing.
        if self.labels.is_empty() {
            return get(ctx, &snapshotter, &self.key).await;
        }
        let info = ctx.client().await?.snapshots(&snapshotter).set_labels(&self.key, &self.labels).await?;
        Ok(Snapshot { snapshotter, info })
    }
}
