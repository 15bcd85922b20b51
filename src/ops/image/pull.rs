//! `pull`: fetches an image from a registry into the namespace, and unpacks it while later layers still arrive.

use async_trait::async_trait;

use super::arrive::Arrival;
use super::copy::{Copy, CopyOptions, Platforms};
use super::endpoint::Endpoint;
use crate::containerd::images::Image;
use crate::oci::Reference;
use crate::ops::{Context, Error, Operation, Plan, Result};
use crate::registry;

/// Fetches an image.
pub struct Pull {
    name: String,
    copy: Copy,
}

impl Pull {
    /// Fetches what the reference points to.
    #[must_use]
    pub fn new(reference: Reference, arrival: Arrival, registry: registry::Options) -> Self {
        let platforms = Platforms::Fitting(arrival.platforms.clone());
        let options = CopyOptions { platforms, arrival, force: true, registry, ..CopyOptions::default() };
        let name = reference.to_string();
        let copy = Copy::new(Endpoint::Registry(reference), Endpoint::here(&name), options);
        Self { name, copy }
    }
}

#[async_trait]
impl Operation for Pull {
    type Output = Image;
    const NAME: &'static str = "pull";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        let (plan, copied) = Plan::new(()).and(self.copy.plan(ctx).await?);
        Ok(plan.returning(copied.image.ok_or_else(|| Error::not_found("image", &self.name, []))?))
    }

    async fn apply(self, ctx: &Context) -> Result<Image> {
        self.copy.apply(ctx).await?.image.ok_or_else(|| Error::not_found("image", &self.name, []))
    }
}
