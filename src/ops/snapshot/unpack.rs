//! `snapshots::unpack`: makes snapshots of an image's layers.

use async_trait::async_trait;

use super::{Snapshot, get};
use crate::containerd::images::Image;
use crate::grant::Access;
use crate::oci::{Descriptor, Digest, Matcher, Parsed, manifest};
use crate::ops::content::Held;
use crate::ops::image::{detail, get as image_of_name, snapshotter};
use crate::ops::lease::Leased;
use crate::ops::unpack::Unpacker;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// Unpacks an image by its name, or a manifest or index by its digest.
#[derive(Debug)]
pub struct Unpack {
    what: String,
    platform: Matcher,
    snapshotter: Option<String>,
    found: Option<Descriptor>,
}

impl Unpack {
    /// Unpacks it for the platform, into a snapshotter or the place's default.
    #[must_use]
    pub fn new(what: &str, platform: Matcher, snapshotter: Option<String>) -> Self {
        Self { what: what.to_owned(), platform, snapshotter, found: None }
    }

    async fn find(&self, ctx: &Context) -> Result<Descriptor> {
        let Ok(digest) = self.what.parse::<Digest>() else {
            return Ok(image_of_name(ctx, &self.what).await?.target);
        };
        // A record of CRI has the digest of a config for its name.
        if let Ok(Image { target, .. }) = image_of_name(ctx, &self.what).await {
            return Ok(target);
        }
        let neither = || Error::argument(&self.what, "is neither a manifest nor an index");
        let held = Held::new(ctx).await?;
        if held.info(&digest).await?.is_some_and(|info| info.size > manifest::MAX_SIZE) {
            return Err(neither());
        }
        let bytes = held.bytes(&digest, manifest::MAX_SIZE).await?.ok_or_else(|| Error::NotFound {
            what: "manifest",
            name: self.what.clone(),
            nearest: None,
            cure: Some("images().map(|i| i.digest) lists those that images point to".into()),
        })?;
        let media_type = manifest::sniff(&bytes).filter(|known| known.is_manifest() || known.is_index());
        let descriptor = Descriptor::new(media_type.ok_or_else(neither)?, digest, bytes.len() as u64);
        // A config looks like a manifest that does not say what it is.
        Parsed::read(&descriptor, &bytes).map_err(|_| neither())?;
        Ok(descriptor)
    }
}

#[async_trait]
impl Operation for Unpack {
    type Output = Option<Snapshot>;
    const NAME: &'static str = "unpack";

    fn subject(&self) -> String {
        self.what.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Option<Snapshot>>> {
        self.found = Some(self.find(ctx).await?);
        Ok(Plan::new(None).step(Access::Write, ctx.target(), format!("unpack the layers of {}", self.what)))
    }

    async fn apply(self, ctx: &Context) -> Result<Option<Snapshot>> {
        let target = match self.found {
            Some(target) => target,
            None => self.find(ctx).await?,
        };
        let snapshotter = snapshotter(ctx, self.snapshotter.as_deref()).await?;
        let leased = Leased::new(ctx).await?;
        let manifest = detail(&Held::new(ctx).await?, &target, &self.platform).await?.manifest;
        let (_, manifest) = manifest.ok_or_else(|| Error::Incomplete {
            image: self.what.clone(),
            missing: format!("its manifest for {} is not in the store", self.platform),
        })?;
        let (feed, unpacker) = Unpacker::new(leased.client(), &snapshotter, &manifest, ctx.progress(), ctx.debts());
        // All that will arrive is here.
        drop(feed);
        let unpacked = unpacker.run().await?;
        leased.release().await?;
        match unpacked.top {
            Some(top) => Ok(Some(get(ctx, &snapshotter, top.as_str()).await?)),
            None => Ok(None),
        }
    }
}
