//! `label`: sets and removes labels of a container.

use async_trait::async_trait;

use super::{get, labels_reach, reaches_host};
use crate::containerd::Labels;
use crate::containerd::containers::Container;
use crate::grant::Access;
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// What the labels begin with by which the daemon's restart monitor goes (containerd `core/runtime/restart`).
const MONITOR: &str = "containerd.io/restart.";

/// Sets labels of a container; those not named stay as they are.
#[derive(Debug)]
pub struct Label {
    id: String,
    labels: Labels,
}

impl Label {
    /// Sets these labels. An empty value removes a label, as in containerd.
    #[must_use]
    pub fn new(id: &str, labels: Labels) -> Self {
        Self { id: id.to_owned(), labels }
    }
}

#[async_trait]
impl Operation for Label {
    type Output = Container;
    const NAME: &'static str = "label";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Container>> {
        let mut container = get(ctx, &self.id).await?;
        let mut changed = Vec::new();
        for (key, value) in &self.labels {
            if value.is_empty() {
                container.labels.remove(key);
                changed.push(format!("{key} removed"));
            } else {
                container.labels.insert(key.clone(), value.clone());
                changed.push(format!("{key}={value}"));
            }
        }
        let mut plan = Plan::new(container.clone());
        if changed.is_empty() {
            return Ok(plan);
        }
        let action = format!("label container {}: {}", self.id, changed.join(", "));
        plan = plan.step(Access::Run, ctx.target(), action);
        let log = labels_reach(&self.labels);
        // The daemon's restart monitor starts what carries its label.
        let starts = self.labels.iter().any(|(key, value)| key.starts_with(MONITOR) && !value.is_empty());
        if let Some(reason) = log.or_else(|| starts.then(|| reaches_host(&container, ctx.namespace())).flatten()) {
            plan =
                plan.step(Access::Host, ctx.target(), format!("let container {} reach the host: it {reason}", self.id));
        }
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, container)))
    }

    async fn apply(self, ctx: &Context) -> Result<Container> {
        let containers = ctx.client().await?.containers();
        // An empty mask would replace the whole record by nothing.
        if self.labels.is_empty() {
            return Ok(containers.get(&self.id).await?);
        }
        Ok(containers.set_labels(&self.id, &self.labels).await?)
    }
}
