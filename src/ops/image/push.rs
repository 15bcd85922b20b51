//! `push`: sends an image of the namespace to a registry.

use async_trait::async_trait;

use super::copy::{Copied, Copy, CopyOptions, Platforms};
use super::endpoint::Endpoint;
use crate::oci::{Matcher, Reference};
use crate::ops::{Context, Operation, Plan, Result};
use crate::registry;

/// What a push may be told.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The name of the image here, when it is not that of the target.
    pub source: Option<String>,
    /// The one platform to send; without it, all of the image that are here.
    pub platform: Option<Matcher>,
    /// How to reach the registry.
    pub registry: registry::Options,
}

/// Sends an image.
pub struct Push {
    target: String,
    copy: Copy,
}

impl Push {
    /// Sends the image of that name, or another one, to a reference.
    #[must_use]
    pub fn new(target: Reference, options: PushOptions) -> Self {
        let name = target.to_string();
        let platforms = options.platform.map_or(Platforms::Present, Platforms::One);
        let settings = CopyOptions { platforms, registry: options.registry, ..CopyOptions::default() };
        let source = Endpoint::here(options.source.as_deref().unwrap_or(&name));
        Self { target: name, copy: Copy::new(source, Endpoint::Registry(target), settings) }
    }
}

#[async_trait]
impl Operation for Push {
    type Output = Copied;
    const NAME: &'static str = "push";

    fn subject(&self) -> String {
        self.target.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Copied>> {
        self.copy.plan(ctx).await
    }

    async fn apply(self, ctx: &Context) -> Result<Copied> {
        self.copy.apply(ctx).await
    }
}
