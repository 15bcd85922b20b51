//! `from_rootfs`: makes an image of a folder or a tar, as `docker import` does.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::arrive::{Arrival, refuse_taken};
use crate::containerd::images::Image;
use crate::kind::BoxFailure;
use crate::layout::{BuiltImage, RootfsOptions, from_rootfs};
use crate::oci::Reference;
use crate::ops::graph::{self, Graph, Selection};
use crate::ops::{Context, Error, Operation, Plan, Result};

/// Makes an image of files.
pub struct FromRootfs {
    path: PathBuf,
    name: Reference,
    config: RootfsOptions,
    arrival: Arrival,
    force: bool,
    found: Option<(BuiltImage, Graph)>,
}

impl FromRootfs {
    /// Makes an image of that name. Without `force`, a name that points elsewhere is left alone.
    #[must_use]
    pub fn new(path: PathBuf, name: Reference, config: RootfsOptions, arrival: Arrival, force: bool) -> Self {
        Self { path, name, config, arrival, force, found: None }
    }
}

#[async_trait]
impl Operation for FromRootfs {
    type Output = Image;
    const NAME: &'static str = "from_rootfs";

    fn subject(&self) -> String {
        format!("{} from {}", self.name, self.path.display())
    }

    /// Builds the layer into a file that is gone with the plan: only then is it known what the image would be.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        ctx.check_path("reading it", &self.path)?;
        let meter = ctx.progress().meter(&format!("files of {}", self.path.display()), None);
        meter.phase("packing");
        let packed = Arc::clone(&meter);
        let built = from_rootfs(&self.path, &self.config, &ctx.settings().temp_dir, move |bytes| packed.advance(bytes));
        let built = built.await.map_err(BoxFailure::from)?;
        meter.done("packed");
        let name = self.name.to_string();
        if !self.force {
            refuse_taken(ctx, &name, built.target()).await?;
        }
        let graph = graph::walk(&built, None, built.target(), &Selection::Present).await?;
        let (plan, preview) = self.arrival.plan(ctx, Plan::new(()), &name, built.target(), &graph, &built).await?;
        self.found = Some((built, graph));
        Ok(plan.returning(preview))
    }

    async fn apply(self, ctx: &Context) -> Result<Image> {
        let name = self.name.to_string();
        let Some((built, graph)) = &self.found else { return Err(Error::not_found("image", &name, [])) };
        Ok(self.arrival.bring(ctx, built, &name, built.target(), graph).await?.0)
    }
}
