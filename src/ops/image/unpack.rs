//! `unpack`: makes snapshots of an image's layers.

use async_trait::async_trait;

use super::{get, image_of, snapshotter};
use crate::containerd::images::Image;
use crate::grant::Access;
use crate::oci::Matcher;
use crate::ops::lease::Leased;
use crate::ops::unpack::Unpacker;
use crate::ops::{Context, Operation, Plan, Result};

/// Unpacks an image whose content is here.
pub struct Unpack {
    name: String,
    platform: Matcher,
    snapshotter: Option<String>,
    found: Option<Image>,
}

impl Unpack {
    /// Unpacks the image of that name for the platform, into a snapshotter or the place's default.
    #[must_use]
    pub fn new(name: &str, platform: Matcher, snapshotter: Option<String>) -> Self {
        Self { name: name.to_owned(), platform, snapshotter, found: None }
    }
}

#[async_trait]
impl Operation for Unpack {
    type Output = u64;
    const NAME: &'static str = "unpack";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<u64>> {
        let image = get(ctx, &self.name).await?;
        let action = format!("unpack the layers of {}", image.name);
        self.found = Some(image);
        Ok(Plan::new(0).step(Access::Write, ctx.target(), action))
    }

    async fn apply(self, ctx: &Context) -> Result<u64> {
        let image = match self.found {
            Some(image) => image,
            None => get(ctx, &self.name).await?,
        };
        let snapshotter = snapshotter(ctx, self.snapshotter.as_deref()).await?;
        let (_, manifest, _) = image_of(ctx, &image, &self.platform).await?;
        let leased = Leased::new(ctx).await?;
        let (feed, unpacker) = Unpacker::new(leased.client(), &snapshotter, &manifest, ctx.progress(), ctx.debts());
        // All that will arrive is here.
        drop(feed);
        let unpacked = unpacker.run().await?;
        leased.release().await?;
        Ok(unpacked.layers as u64)
    }
}
