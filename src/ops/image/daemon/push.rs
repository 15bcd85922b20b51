//! `push` with `via: "daemon"`: the daemon sends an image of the namespace to a registry.

use async_trait::async_trait;

use super::{Party, remote};
use crate::containerd::transfer::Remote;
use crate::grant::Access;
use crate::kind::Failure;
use crate::oci::{Descriptor, Reference};
use crate::ops::copy::Totals;
use crate::ops::graph::{self, Selection};
use crate::ops::image::foresee::{UNKNOWN_SIZE, made_by};
use crate::ops::image::{Copied, Endpoint, PushOptions, get};
use crate::ops::lease::Leased;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// Has the daemon send an image.
pub struct PushByDaemon {
    target: Reference,
    options: PushOptions,
    found: Option<(Remote, String, Descriptor)>,
}

impl PushByDaemon {
    /// Sends the image of that name, or another one, to a reference.
    #[must_use]
    pub fn new(target: Reference, options: PushOptions) -> Self {
        Self { target, options, found: None }
    }

    fn copied(&self, root: Descriptor, totals: Totals) -> Copied {
        Copied { target: Endpoint::Registry(self.target.clone()), root, totals, companions: 0, image: None }
    }

    /// Finds what is sent, and how many bytes that is, where that is known: all of the image has to be here.
    async fn find(&self, ctx: &Context) -> Result<(String, Descriptor, Option<u64>)> {
        let name = self.options.source.clone().unwrap_or_else(|| self.target.to_string());
        let image = get(ctx, &name).await?;
        let (source, root) = Endpoint::here(&image.name).source(ctx, &self.options.registry).await?;
        if made_by(ctx, &root).is_some() {
            return Ok((image.name, root, None));
        }
        let incomplete = |missing: String| Error::Incomplete { image: image.name.clone(), missing };
        let graph = graph::walk(&*source, None, &root, &Selection::Present).await.map_err(|error| {
            if error.kind() == crate::kind::Kind::NotFound { incomplete(error.to_string()) } else { error }
        })?;
        if graph.left_out.is_empty() {
            return Ok((image.name.clone(), root, Some(graph.size())));
        }
        let count = graph.left_out.len();
        Err(Error::Argument {
            name: "via \"daemon\"".into(),
            problem: format!(
                "sends an image whole, and {count} of what {} lists {} not here",
                image.name,
                if count == 1 { "is" } else { "are" }
            ),
            cure: Some("leave via away to send the platform that is here, or pull it with all_platforms before".into()),
        })
    }
}

#[async_trait]
impl Operation for PushByDaemon {
    type Output = Copied;
    const NAME: &'static str = "push";

    fn subject(&self) -> String {
        self.target.to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Copied>> {
        if self.options.manifest.is_some() {
            return Err(Error::Argument {
                name: "manifest".into(),
                problem: "cannot be given when the daemon sends the image: it sends images by their names".into(),
                cure: Some("leave via away".into()),
            });
        }
        if self.options.platform.is_some() {
            return Err(Error::Argument {
                name: "platform".into(),
                problem: "cannot be chosen when the daemon sends the image: it sends all of it".into(),
                cure: Some("leave via away".into()),
            });
        }
        let remote = remote(ctx, &self.target, &self.options.registry).await?;
        let (name, root, bytes) = self.find(ctx).await?;
        let target = self.target.locator();
        let plan = Plan::new(self.copied(root.clone(), Totals::default()));
        let plan = plan.step(Access::Write, ctx.target(), format!("have the daemon send {name}"));
        let send = format!("send the content of {name}");
        let plan = match bytes {
            Some(bytes) => plan.transfer(target.clone(), send, bytes).step(
                Access::Write,
                target,
                format!("point {} to {}", self.target, root.digest),
            ),
            None => plan.step(Access::Write, target.clone(), format!("{send}, {UNKNOWN_SIZE}")).step(
                Access::Write,
                target,
                format!("point {} to it", self.target),
            ),
        };
        self.found = Some((remote, name, root));
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Copied> {
        let (remote, name, root) = match &self.found {
            Some(found) => found.clone(),
            None => {
                let remote = remote(ctx, &self.target, &self.options.registry).await?;
                let (name, root, _) = self.find(ctx).await?;
                (remote, name, root)
            }
        };
        // A stream belongs to a lease; without one, the daemon's collector may end it.
        let leased = Leased::new(ctx).await?;
        let party = Party::new(ctx, &self.target, &self.options.registry);
        leased.client().transfer().push(&name, &remote, &party).await?;
        let totals = party.finish();
        leased.release().await?;
        Ok(self.copied(root, totals))
    }
}
