//! `copy`: moves an image from any endpoint to any other.

use std::path::Path;

use async_trait::async_trait;

use super::arrive::{Arrival, refuse_taken};
use super::endpoint::Endpoint;
use crate::grant::Access;
use crate::kind::BoxFailure;
use crate::layout::{ArchiveWriter, LayoutFolder, Selector, WriteOptions};
use crate::oci::media_type::Compression;
use crate::oci::store::{ImageSink, ImageSource};
use crate::oci::{Descriptor, Matcher};
use crate::ops::copy::{Copy as Movement, Totals};
use crate::ops::graph::{self, Graph, Selection};
use crate::ops::{Context, Error, Level, Operation, Plan, Result};
use crate::registry::{self, RegistryStore};

/// Which images of an index are copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Platforms {
    /// All that the source has whole, and with them their attestations.
    #[default]
    Present,
    /// All; when one is missing that is an error.
    All,
    /// The one that fits best.
    One(Matcher),
}

/// What a copy may be told.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// Which images of an index are copied.
    pub platforms: Platforms,
    /// What becomes of the image when it comes into the namespace.
    pub arrival: Arrival,
    /// Whether a name of the namespace that points elsewhere is pointed to the image.
    pub force: bool,
    /// How registries are reached.
    pub registry: registry::Options,
}

/// What a copy came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Where the image is now.
    pub target: Endpoint,
    /// What it is there.
    pub root: Descriptor,
    /// What was sent.
    pub totals: Totals,
}

/// Moves an image.
pub struct Copy {
    source: Endpoint,
    target: Endpoint,
    options: CopyOptions,
    found: Option<Found>,
}

struct Found {
    source: Box<dyn ImageSource>,
    root: Descriptor,
    /// What to move; none when the target points to the root already.
    graph: Option<Graph>,
}

impl Copy {
    /// Moves what one endpoint points to into another.
    #[must_use]
    pub fn new(source: Endpoint, target: Endpoint, options: CopyOptions) -> Self {
        Self { source, target, options, found: None }
    }

    /// Finds what is to be moved.
    async fn look(&self, ctx: &Context) -> Result<Found> {
        let (source, mut root) = self.source.source(ctx, &self.options.registry).await?;
        let current = match &self.target {
            Endpoint::Registry(reference) => {
                RegistryStore::sink(ctx.registry(), reference, ctx.grant(), &self.options.registry).current().await?
            }
            _ => None,
        };
        let is_there = |root: &Descriptor| current.as_ref().is_some_and(|current| current.digest == root.digest);
        if is_there(&root) && !matches!(self.options.platforms, Platforms::One(_)) {
            return Ok(Found { source, root, graph: None });
        }
        let selection = match &self.options.platforms {
            Platforms::Present if self.source.may_be_partial() => Selection::Present,
            Platforms::Present | Platforms::All => Selection::Matching(Matcher::All),
            Platforms::One(matcher) => Selection::Matching(matcher.clone()),
        };
        let mut graph = graph::walk(&*source, None, &root, &selection).await?;
        let is_part = !graph.left_out.is_empty();
        if is_part && (matches!(self.options.platforms, Platforms::One(_)) || !self.target.may_be_partial()) {
            root = self.one(&graph)?;
            graph = graph::walk(&*source, None, &root, &Selection::Matching(Matcher::All)).await?;
            let text =
                format!("{}: one platform of {} is copied, so its digest is {}", self.target, self.source, root.digest);
            ctx.note(Level::Info, &text);
        }
        let graph = (!is_there(&root)).then_some(graph);
        Ok(Found { source, root, graph })
    }

    /// Picks the one image of an index that goes alone, as a registry does not take an index whose images it lacks.
    fn one(&self, graph: &Graph) -> Result<Descriptor> {
        let images = graph.documents.iter().filter(|document| document.manifest().is_some());
        let images: Vec<Descriptor> = images.map(|document| document.descriptor.clone()).collect();
        let host = Matcher::host();
        let matcher = match &self.options.platforms {
            Platforms::One(matcher) => matcher,
            Platforms::Present | Platforms::All => &host,
        };
        matcher.select(&images).into_iter().next().cloned().ok_or_else(|| Error::Incomplete {
            image: self.source.to_string(),
            missing: format!("nothing of it is there whole for {matcher}"),
        })
    }

    async fn movement(&self, ctx: &Context, found: &Found, sink: &dyn ImageSink) -> Result<Totals> {
        let Some(graph) = &found.graph else { return Ok(Totals::default()) };
        let movement = Movement {
            source: &*found.source,
            sink,
            graph,
            flights: ctx.flights(),
            progress: &**ctx.progress(),
            arrived: None,
        };
        let totals = movement.run().await?;
        sink.finish(&found.root).await?;
        Ok(totals)
    }

    async fn archive(&self, ctx: &Context, found: &Found, path: &Path, selector: &Selector) -> Result<Totals> {
        let options = WriteOptions {
            compression: Compression::None,
            platforms: Matcher::host(),
            spool: ctx.settings().temp_dir.clone(),
        };
        let writer = ArchiveWriter::create(path, options).await.map_err(BoxFailure::from)?;
        let sink = writer.image(selector.clone());
        let totals = self.movement(ctx, found, &sink).await?;
        writer.close().await.map_err(BoxFailure::from)?;
        Ok(totals)
    }
}

#[async_trait]
impl Operation for Copy {
    type Output = Copied;
    const NAME: &'static str = "copy";

    fn subject(&self) -> String {
        format!("{} to {}", self.source, self.target)
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Copied>> {
        let found = self.look(ctx).await?;
        let copied = Copied { target: self.target.clone(), root: found.root.clone(), totals: Totals::default() };
        let plan = Plan::new(());
        let plan = match (&self.target, &found.graph) {
            (_, None) => plan,
            (Endpoint::Registry(reference), Some(graph)) => {
                let target = reference.locator();
                let point = format!("point {reference} to {}", found.root.digest);
                let send = format!("send the content of {}", self.source);
                plan.transfer(target.clone(), send, graph.size()).step(Access::Write, target, point)
            }
            (Endpoint::Containerd(name), Some(graph)) => {
                if !self.options.force {
                    refuse_taken(ctx, name, &found.root).await?;
                }
                self.options.arrival.plan(ctx, plan, name, &found.root, graph).await?.0
            }
            (Endpoint::Layout { path, .. } | Endpoint::Archive { path, .. }, Some(_)) => {
                let action = format!("write {} to {}", self.source, self.target);
                plan.step(ctx.path_access(path), path.display().to_string(), action)
            }
        };
        self.found = Some(found);
        Ok(plan.returning(copied))
    }

    async fn apply(mut self, ctx: &Context) -> Result<Copied> {
        let Some(found) = self.found.take() else {
            return Err(Error::not_found("image", &self.source.to_string(), []));
        };
        let totals = match &self.target {
            Endpoint::Registry(reference) => {
                let sink = RegistryStore::sink(ctx.registry(), reference, ctx.grant(), &self.options.registry);
                self.movement(ctx, &found, &sink).await?
            }
            Endpoint::Layout { path, selector } => {
                self.movement(ctx, &found, &LayoutFolder::new(path, selector.clone())).await?
            }
            Endpoint::Archive { path, selector } => self.archive(ctx, &found, path, selector).await?,
            Endpoint::Containerd(name) => match &found.graph {
                Some(graph) => self.options.arrival.bring(ctx, &*found.source, name, &found.root, graph).await?.1,
                None => Totals::default(),
            },
        };
        Ok(Copied { target: self.target, root: found.root, totals })
    }
}
