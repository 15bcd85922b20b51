//! `pull`: fetches an image from a registry into the namespace, and unpacks it while later layers still arrive.

use async_trait::async_trait;

use super::arrive::Arrival;
use crate::containerd::images::Image;
use crate::containerd::store::ContainerdStore;
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Reference};
use crate::ops::graph::{self, Graph, Selection};
use crate::ops::{Context, Error, Operation, Plan, Result};
use crate::registry::{self, RegistryStore};

/// Fetches an image.
pub struct Pull {
    reference: Reference,
    arrival: Arrival,
    registry: registry::Options,
    found: Option<(Descriptor, Graph)>,
}

impl Pull {
    /// Fetches what the reference points to.
    #[must_use]
    pub fn new(reference: Reference, arrival: Arrival, registry: registry::Options) -> Self {
        Self { reference, arrival, registry, found: None }
    }

    fn source(&self, ctx: &Context) -> RegistryStore {
        RegistryStore::source(ctx.registry(), &self.reference, ctx.grant(), &self.registry)
    }
}

#[async_trait]
impl Operation for Pull {
    type Output = Image;
    const NAME: &'static str = "pull";

    fn subject(&self) -> String {
        self.reference.to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        let name = self.reference.to_string();
        let source = self.source(ctx);
        let stored = ContainerdStore::new(ctx.client().await?, &name);
        let root = source.resolve().await?;
        let selection = Selection::Matching(self.arrival.platforms.clone());
        let graph = graph::walk(&source, Some(&stored), &root, &selection).await?;
        let (plan, preview) = self.arrival.plan(ctx, Plan::new(()), &name, &root, &graph).await?;
        self.found = Some((root, graph));
        Ok(plan.returning(preview))
    }

    async fn apply(self, ctx: &Context) -> Result<Image> {
        let name = self.reference.to_string();
        let source = self.source(ctx);
        let Some((root, graph)) = &self.found else { return Err(Error::not_found("image", &name, [])) };
        Ok(self.arrival.bring(ctx, &source, &name, root, graph).await?.0)
    }
}
