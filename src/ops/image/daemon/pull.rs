//! `pull` with `via: "daemon"`: the daemon fetches an image into the namespace.

use async_trait::async_trait;

use super::{Party, remote};
use crate::containerd::images::{Deletion, Image};
use crate::containerd::leases::Resource;
use crate::containerd::transfer::{Remote, Stored};
use crate::containerd::{self, Client};
use crate::grant::Access;
use crate::oci::{Matcher, Reference};
use crate::ops::graph::{self, Selection};
use crate::ops::image::{Arrival, Endpoint};
use crate::ops::lease::Leased;
use crate::ops::undo::Undo;
use crate::ops::{Context, Operation, Plan, Result};
use crate::registry;

/// Has the daemon fetch an image.
pub struct PullByDaemon {
    reference: Reference,
    name: String,
    arrival: Arrival,
    options: registry::Options,
    remote: Option<Remote>,
}

impl PullByDaemon {
    /// Fetches what the reference points to.
    #[must_use]
    pub fn new(reference: Reference, arrival: Arrival, options: registry::Options) -> Self {
        let name = reference.to_string();
        Self { reference, name, arrival, options, remote: None }
    }

    /// Says what the record is to be, and what the daemon may unpack.
    async fn stored(&self, ctx: &Context, before: Option<&Image>) -> Result<Stored> {
        // The daemon replaces all labels of a record that it finds.
        let mut labels = before.map(|image| image.labels.clone()).unwrap_or_default();
        labels.extend(self.arrival.labels(ctx));
        let (platforms, one, unpack) = match &self.arrival.platforms {
            // The daemon would unpack every platform, not only those it is told.
            Matcher::All => (Vec::new(), false, Vec::new()),
            Matcher::Any(wanted) => match wanted.as_slice() {
                [platform] => (platform.vector(), true, wanted.clone()),
                _ => (wanted.clone(), false, wanted.clone()),
            },
        };
        let mut stored = Stored { name: self.name.clone(), labels, platforms, one, ..Stored::default() };
        if self.arrival.unpack {
            stored.unpack = unpack;
            stored.snapshotter = crate::ops::image::snapshotter(ctx, self.arrival.snapshotter.as_deref()).await?;
        }
        Ok(stored)
    }
}

/// Makes the record what it was before the daemon pointed it to an image that could not be used.
async fn restore(client: Client, before: Option<Image>, now: Image) -> containerd::Result<()> {
    let images = client.images();
    match &before {
        Some(before) => images.retarget(&before.name, &before.target, &before.labels).await.map(drop),
        None => images.delete(&now.name, Some(&now.target), Deletion::Later).await,
    }
}

#[async_trait]
impl Operation for PullByDaemon {
    /// None where nobody looked what it would be.
    type Output = Option<Image>;
    const NAME: &'static str = "pull";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Option<Image>>> {
        // The requests are the daemon's, so nobody else asks whether they are granted.
        ctx.grant().check_access(Access::Read, "pull", &self.reference.locator())?;
        self.remote = Some(remote(ctx, &self.reference, &self.options).await?);
        let plan = Plan::new(None);
        if ctx.is_dry_run() {
            // Only who is shown the plan needs to know what would come; the daemon cannot be asked without fetching it.
            let registry = Endpoint::Registry(self.reference.clone());
            let (source, root) = registry.source(ctx, &self.options).await?;
            let selection = Selection::Matching(self.arrival.platforms.clone());
            let graph = graph::walk(&*source, None, &root, &selection).await?;
            let (plan, image) = self.arrival.plan(ctx, plan, &self.name, &root, &graph, &*source).await?;
            return Ok(plan.returning(Some(image)));
        }
        let mut plan = plan.step(Access::Write, ctx.target(), format!("have the daemon fetch {}", self.name));
        if self.arrival.unpack {
            plan = plan.step(Access::Write, ctx.target(), format!("unpack the layers of {}", self.name));
        }
        plan = self.arrival.discarding(ctx, plan, &self.name);
        Ok(plan.step(Access::Write, ctx.target(), format!("point image {} to what was fetched", self.name)))
    }

    async fn apply(self, ctx: &Context) -> Result<Option<Image>> {
        let remote = match &self.remote {
            Some(remote) => remote.clone(),
            None => remote(ctx, &self.reference, &self.options).await?,
        };
        // The daemon's own lease would stay for a day when the call is cancelled; this one does not.
        let leased = Leased::new(ctx).await?;
        let client = leased.client();
        let before = match client.images().get(&self.name).await {
            Ok(image) => Some(image),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        if let (Some(before), Some(lease)) = (&before, client.lease()) {
            client.leases().add_resource(lease, &Resource::Content(before.target.digest.clone())).await?;
        }
        let stored = self.stored(ctx, before.as_ref()).await?;
        let party = Party::new(ctx, &self.reference, &self.options);
        client.transfer().pull(&remote, &stored, &party).await?;
        party.finish();
        let image = client.images().get(&self.name).await?;
        let mut undo = Undo::new(ctx.debts());
        undo.push(
            format!("image {} at {}", image.name, image.target.digest),
            restore(client.undoing(), before, image.clone()),
        );
        self.arrival.complete(ctx, client, &image).await?;
        undo.forget();
        leased.release().await?;
        Ok(Some(image))
    }
}
