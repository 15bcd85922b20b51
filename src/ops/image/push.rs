//! `push`: sends an image of the namespace to a registry.

use async_trait::async_trait;

use crate::containerd::images::Image;
use crate::containerd::store::ContainerdStore;
use crate::grant::Access;
use crate::oci::store::ImageSink;
use crate::oci::{Descriptor, Matcher, Reference};
use crate::ops::copy::{Copy, Totals};
use crate::ops::graph::{self, Graph, Selection};
use crate::ops::image::get;
use crate::ops::{Context, Error, Level, Operation, Plan, Result};
use crate::registry::{self, RegistryStore};

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

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The target.
    pub reference: String,
    /// What it points to now.
    pub target: Descriptor,
    /// What was sent.
    pub totals: Totals,
}

/// Sends an image.
pub struct Push {
    target: Reference,
    options: PushOptions,
    found: Option<Found>,
}

struct Found {
    image: Image,
    root: Descriptor,
    /// What to send; none when the target points to the root already.
    graph: Option<Graph>,
}

impl Push {
    /// Sends the image of that name, or another one, to a reference.
    #[must_use]
    pub fn new(target: Reference, options: PushOptions) -> Self {
        Self { target, options, found: None }
    }

    fn sink(&self, ctx: &Context) -> RegistryStore {
        RegistryStore::sink(ctx.registry(), &self.target, ctx.grant(), &self.options.registry)
    }
}

#[async_trait]
impl Operation for Push {
    type Output = Pushed;
    const NAME: &'static str = "push";

    fn subject(&self) -> String {
        self.target.to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Pushed>> {
        let name = self.options.source.clone().unwrap_or_else(|| self.target.to_string());
        let image = get(ctx, &name).await?;
        let store = ContainerdStore::new(ctx.client().await?, &image.name);
        let sink = self.sink(ctx);
        let current = sink.current().await?;
        let is_there = |root: &Descriptor| current.as_ref().is_some_and(|current| current.digest == root.digest);
        let mut root = image.target.clone();
        let mut graph = None;
        if self.options.platform.is_some() || !is_there(&root) {
            let whole = walk_present(&store, &image).await?;
            let (chosen, chosen_graph) = choose(&store, &image, whole, self.options.platform.as_ref()).await?;
            root = chosen;
            graph = (!is_there(&root)).then_some(chosen_graph);
        }
        let reference = self.target.to_string();
        let preview = Pushed { reference: reference.clone(), target: root.clone(), totals: Totals::default() };
        let mut plan = Plan::new(preview);
        if let Some(graph) = &graph {
            if root.digest != image.target.digest {
                let text =
                    format!("{reference}: one platform of {} is sent, so its digest is {}", image.name, root.digest);
                ctx.note(Level::Info, &text);
            }
            let target = self.target.locator();
            plan = plan.transfer(target.clone(), format!("send the content of {}", image.name), graph.size()).step(
                Access::Write,
                target,
                format!("point {reference} to {}", root.digest),
            );
        }
        self.found = Some(Found { image, root, graph });
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Pushed> {
        let sink = self.sink(ctx);
        let reference = self.target.to_string();
        let Some(found) = self.found else { return Err(Error::not_found("image", &reference, [])) };
        let Some(graph) = found.graph else {
            return Ok(Pushed { reference, target: found.root, totals: Totals::default() });
        };
        let source = ContainerdStore::new(ctx.client().await?, &found.image.name);
        let copy = Copy {
            source: &source,
            sink: &sink,
            graph: &graph,
            flights: ctx.flights(),
            progress: &**ctx.progress(),
            arrived: None,
        };
        let totals = copy.run().await?;
        sink.finish(&found.root).await?;
        Ok(Pushed { reference, target: found.root, totals })
    }
}

async fn walk_present(store: &ContainerdStore, image: &Image) -> Result<Graph> {
    graph::walk(store, None, &image.target, &Selection::Present).await.map_err(|error| missing(image, error))
}

fn missing(image: &Image, error: Error) -> Error {
    use crate::kind::{Failure, Kind};
    if error.kind() == Kind::NotFound {
        return Error::Incomplete { image: image.name.clone(), missing: error.to_string() };
    }
    error
}

/// Decides what is sent: the whole image when all of it is here, else the one platform that was asked for or fits best.
///
/// A registry does not take an index whose images it lacks.
async fn choose(
    store: &ContainerdStore,
    image: &Image,
    whole: Graph,
    platform: Option<&Matcher>,
) -> Result<(Descriptor, Graph)> {
    if platform.is_none() && whole.left_out.is_empty() {
        return Ok((image.target.clone(), whole));
    }
    let host = Matcher::host();
    let matcher = platform.unwrap_or(&host);
    let images: Vec<Descriptor> = whole
        .documents
        .iter()
        .filter(|document| document.manifest().is_some())
        .map(|document| document.descriptor.clone())
        .collect();
    if images.len() == 1 && images.first().is_some_and(|only| only.digest == image.target.digest) {
        return Ok((image.target.clone(), whole));
    }
    let Some(best) = matcher.select(&images).into_iter().next().cloned() else {
        return Err(Error::Incomplete {
            image: image.name.clone(),
            missing: format!("nothing of it is here whole for {matcher}"),
        });
    };
    let graph = graph::walk(store, None, &best, &Selection::Present).await?;
    Ok((best, graph))
}
