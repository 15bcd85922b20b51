//! `copy`: moves an image from any endpoint to any other. `pull`, `push`, `load` and `save` are this with fewer choices.

use std::path::Path;

use async_trait::async_trait;

use super::arrive::{Arrival, refuse_taken};
use super::companions::{self, Companion};
use super::endpoint::Endpoint;
use super::foresee::{UNKNOWN_SIZE, made_by};
use crate::containerd::images::Image;
use crate::containerd::store::ContainerdStore;
use crate::grant::Access;
use crate::kind::{BoxFailure, Failure, Kind};
use crate::layout::{ArchiveWriter, LayoutFolder, Selector, WriteOptions};
use crate::oci::media_type::Compression;
use crate::oci::store::{ImageSink, ImageSource};
use crate::oci::{Descriptor, Matcher};
use crate::ops::copy::{Copy as Movement, Totals};
use crate::ops::graph::{self, Graph, Selection};
use crate::ops::registry as ops_registry;
use crate::ops::{Context, Error, Level, Operation, Plan, Result, docker};
use crate::registry::{self, RegistryStore};

/// Which images of an index are copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Platforms {
    /// All that the source has whole, and with them their attestations.
    #[default]
    Present,
    /// All; when one is missing that is an error.
    All,
    /// The one that fits best, alone and under its own digest.
    One(Matcher),
    /// Those that fit best, with their attestations, in an index that lists only them and so has a digest of its own.
    Listed(Matcher),
    /// Those that fit best, under the index as it is. A registry takes no index that lacks images: there it is as `One`.
    Fitting(Matcher),
}

/// What a copy may be told.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// Which images of an index are copied.
    pub platforms: Platforms,
    /// What becomes of the image when it comes into a namespace.
    pub arrival: Arrival,
    /// Whether a name of the namespace that points elsewhere is pointed to the image.
    pub force: bool,
    /// How an archive is compressed as a whole; without it, as its name says.
    pub compression: Option<Compression>,
    /// Whether what refers to the image goes along: signatures, attestations, SBOMs.
    pub referrers: bool,
    /// Whether tags go along that name the image's digest, as `sha256-….sig` of cosign does.
    pub digest_tags: bool,
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
    /// How many referrers and digest tags went along, those that were there counted too.
    pub companions: usize,
    /// Its record, when it came into a namespace.
    pub image: Option<Image>,
}

/// Moves an image.
pub struct Copy {
    source: Endpoint,
    opened: Option<(Box<dyn ImageSource>, Descriptor)>,
    target: Endpoint,
    options: CopyOptions,
    found: Option<Found>,
}

pub(super) struct Found {
    source: Box<dyn ImageSource>,
    pub(super) root: Descriptor,
    /// What to move; none when the target points to the root already.
    pub(super) graph: Option<Graph>,
    companions: Vec<Companion>,
    /// Whether nothing is known of it before it is made.
    pub(super) unknown: bool,
}

impl Copy {
    /// Moves what one endpoint points to into another.
    #[must_use]
    pub fn new(source: Endpoint, target: Endpoint, options: CopyOptions) -> Self {
        Self { source, opened: None, target, options, found: None }
    }

    /// Takes the source as it was opened before.
    pub(super) fn opened(mut self, source: impl ImageSource + 'static, root: &Descriptor) -> Self {
        self.open(Box::new(source), root);
        self
    }

    /// Takes the source as it was opened before.
    pub(in crate::ops) fn opened_as(mut self, source: Box<dyn ImageSource>, root: &Descriptor) -> Self {
        self.open(source, root);
        self
    }

    /// Takes the source as it was opened before.
    pub(super) fn open(&mut self, source: Box<dyn ImageSource>, root: &Descriptor) {
        self.opened = Some((source, root.clone()));
    }

    /// Returns what its plan found: what is copied, and the graph that the target may lack; none when it has all.
    pub(crate) fn found(&self) -> Option<(&Descriptor, Option<&Graph>)> {
        self.found.as_ref().map(|found| (&found.root, found.graph.as_ref()))
    }

    /// Finds what is to be moved.
    pub(super) async fn find(&mut self, ctx: &Context) -> Result<&Found> {
        let found = self.look(ctx).await.map_err(|error| self.explained(error))?;
        Ok(self.found.insert(found))
    }

    /// What a namespace lacks of its own image is told as such.
    fn explained(&self, error: Error) -> Error {
        match &self.source {
            Endpoint::Containerd { name, .. }
                if error.kind() == Kind::NotFound && !matches!(error, Error::NotFound { .. }) =>
            {
                Error::Incomplete { image: name.clone(), missing: error.to_string() }
            }
            _ => error,
        }
    }

    async fn look(&mut self, ctx: &Context) -> Result<Found> {
        if self.options.referrers || self.options.digest_tags {
            companions::check(&self.source, &self.target)?;
        }
        let (source, root) = match self.opened.take() {
            Some(opened) => opened,
            None => match &self.source {
                Endpoint::Docker { engine, name } => {
                    docker::open(ctx, engine.as_ref(), name, &self.target, &self.options.registry).await?
                }
                other => other.source(ctx, &self.options.registry).await?,
            },
        };
        if made_by(ctx, &root).is_some() {
            return Ok(Found { source, root, graph: Some(Graph::default()), companions: Vec::new(), unknown: true });
        }
        let current = match &self.target {
            Endpoint::Registry(reference) => ops_registry::held(ctx, reference, &self.options.registry).await?,
            _ => None,
        };
        let is_there = |root: &Descriptor| current.as_ref().is_some_and(|current| current.digest == root.digest);
        let all = matches!(self.options.platforms, Platforms::Present | Platforms::All);
        let accompanied = self.options.referrers || self.options.digest_tags;
        if all && !accompanied && is_there(&root) {
            return Ok(Found { source, root, graph: None, companions: Vec::new(), unknown: false });
        }
        let whole = root.digest.clone();
        let (root, graph) = self.select(ctx, &*source, root).await?;
        self.check_digest(&root, root.digest == whole)?;
        let companions = match accompanied {
            true => companions::find(ctx, (&self.source, &*source), &self.target, &graph, &self.options).await?,
            false => Vec::new(),
        };
        let graph = (!is_there(&root)).then_some(graph);
        Ok(Found { source, root, graph, companions, unknown: false })
    }

    /// Decides what goes: the root as it is, one image of it, or an index of some.
    async fn select(&self, ctx: &Context, source: &dyn ImageSource, root: Descriptor) -> Result<(Descriptor, Graph)> {
        let selection = match &self.options.platforms {
            Platforms::Present if self.source.may_be_partial() => Selection::Present,
            Platforms::Present | Platforms::All => Selection::Matching(Matcher::All),
            Platforms::One(matcher) | Platforms::Fitting(matcher) => Selection::Matching(matcher.clone()),
            Platforms::Listed(matcher) => Selection::Attested(matcher.clone()),
        };
        // Over the network it pays to read from the target the documents that it has.
        let stored = match (&self.source, &self.target) {
            (Endpoint::Registry(_), Endpoint::Containerd { name, .. }) => {
                Some(ContainerdStore::new(self.target.context(ctx).client().await?, name))
            }
            _ => None,
        };
        let stored = stored.as_ref().map(|stored| stored as &dyn ImageSink);
        let graph = graph::walk(source, stored, &root, &selection).await?;
        if graph.left_out.is_empty() {
            return Ok((root, graph));
        }
        let (target, source_name) = (self.target.label(), self.source.label());
        if matches!(self.options.platforms, Platforms::Listed(_)) {
            let graph = graph.narrowed()?;
            let root = graph.root().map_or(root, |document| document.descriptor.clone());
            let text =
                format!("{target}: some platforms of {source_name} are copied, so its digest is {}", root.digest);
            ctx.note(Level::Info, &text);
            return Ok((root, graph));
        }
        if self.target.may_be_partial() && !matches!(self.options.platforms, Platforms::One(_)) {
            return Ok((root, graph));
        }
        let root = self.one(&graph)?;
        let graph = graph::walk(source, stored, &root, &Selection::Matching(Matcher::All)).await?;
        let text = format!("{target}: one platform of {source_name} is copied, so its digest is {}", root.digest);
        ctx.note(Level::Info, &text);
        Ok((root, graph))
    }

    /// Makes sure that what goes to a registry by its digest has that digest, before anything is sent that would not be named.
    fn check_digest(&self, root: &Descriptor, is_whole: bool) -> Result<()> {
        let Endpoint::Registry(reference) = &self.target else { return Ok(()) };
        if reference.digest().is_none_or(|wanted| *wanted == root.digest) {
            return Ok(());
        }
        let (what, cure) = match is_whole {
            true => (self.source.label(), "give a tag"),
            false => (format!("what is copied of {}", self.source.label()), "give a tag, or copy all platforms"),
        };
        Err(Error::Argument {
            name: format!("the target {reference}"),
            problem: format!("names a digest, and that of {what} is {}", root.digest),
            cure: Some(cure.into()),
        })
    }

    /// Picks the one image of an index that goes alone, as a registry does not take an index whose images it lacks.
    fn one(&self, graph: &Graph) -> Result<Descriptor> {
        let images = graph.documents.iter().filter(|document| document.manifest().is_some());
        let images: Vec<Descriptor> = images.map(|document| document.descriptor.clone()).collect();
        let host = Matcher::host();
        let matcher = match &self.options.platforms {
            Platforms::One(matcher) | Platforms::Fitting(matcher) => matcher,
            Platforms::Present | Platforms::All | Platforms::Listed(_) => &host,
        };
        matcher.select(&images).into_iter().next().cloned().ok_or_else(|| Error::Incomplete {
            image: self.source.label(),
            missing: format!("nothing of it is there whole for {matcher}"),
        })
    }

    async fn archive(&self, ctx: &Context, found: &Found, path: &Path, selector: &Selector) -> Result<Totals> {
        let compression = self.options.compression.unwrap_or_else(|| Compression::of_name(path));
        let options = WriteOptions { compression, platforms: Matcher::host(), spool: ctx.settings().temp_dir.clone() };
        let writer = ArchiveWriter::create(path, options).await.map_err(BoxFailure::from)?;
        let totals = found.send(ctx, &writer.image(selector.clone())).await?;
        writer.close().await.map_err(BoxFailure::from)?;
        Ok(totals)
    }

    /// Writes what was found into an archive that may hold other images too.
    pub(super) async fn write(&self, ctx: &Context, writer: &ArchiveWriter) -> Result<()> {
        if let (Some(found), Endpoint::Archive { selector, .. }) = (&self.found, &self.target) {
            found.send(ctx, &writer.image(selector.clone())).await?;
        }
        Ok(())
    }

    /// Plans the move of what another change of the dry run would make, of which nothing is known before it is made.
    fn plan_unknown(&self, ctx: &Context, found: &Found) -> (Plan<()>, Option<Image>) {
        let (plan, source) = (Plan::new(()), self.source.label());
        match &self.target {
            Endpoint::Registry(reference) => {
                let target = reference.locator();
                let send = format!("send the content of {source}, {UNKNOWN_SIZE}");
                let plan = plan.step(Access::Write, target.clone(), send);
                (plan.step(Access::Write, target, format!("point {reference} to it")), None)
            }
            Endpoint::Containerd { name, .. } => {
                let there = self.target.context(ctx);
                let (plan, image) = self.options.arrival.plan_unknown(&there, plan, name, &found.root);
                (plan, Some(image))
            }
            Endpoint::Layout { path, .. } | Endpoint::Archive { path, .. } => {
                let action = format!("write {source} to {}, {UNKNOWN_SIZE}", self.target);
                (plan.path(ctx.local(path), action), None)
            }
            Endpoint::Docker { .. } => (plan, None),
        }
    }

    fn copied(&self, found: &Found, totals: Totals, image: Option<Image>) -> Copied {
        let (root, companions) = (found.root.clone(), found.companions.len());
        Copied { target: self.target.clone(), root, totals, companions, image }
    }
}

impl Found {
    /// Moves it into a sink, what goes along first: who sees the image sees its signatures.
    pub(super) async fn send(&self, ctx: &Context, sink: &dyn ImageSink) -> Result<Totals> {
        let Some(graph) = &self.graph else { return Ok(Totals::default()) };
        send(ctx, &*self.source, graph, &self.root, sink).await
    }

    /// Adds up what is to be moved.
    pub(super) fn size(&self) -> u64 {
        self.graph.as_ref().map_or(0, Graph::size)
    }

    async fn send_companions(&self, ctx: &Context, options: &registry::Options) -> Result<Totals> {
        let mut totals = Totals::default();
        for Companion { target, root, graph, is_list } in &self.companions {
            let Some(graph) = graph else { continue };
            totals += match target {
                Endpoint::Registry(reference) => {
                    let sink = RegistryStore::sink(ctx.registry(), reference, ctx.grant(), options);
                    send(ctx, &*self.source, graph, root, &sink).await?
                }
                Endpoint::Layout { path, selector } => {
                    let folder = LayoutFolder::new(path, selector.clone());
                    let sink = if *is_list { folder.listing() } else { folder };
                    send(ctx, &*self.source, graph, root, &sink).await?
                }
                // Nothing goes along to these.
                Endpoint::Containerd { .. } | Endpoint::Docker { .. } | Endpoint::Archive { .. } => Totals::default(),
            };
        }
        Ok(totals)
    }
}

async fn send(
    ctx: &Context,
    source: &dyn ImageSource,
    graph: &Graph,
    root: &Descriptor,
    sink: &dyn ImageSink,
) -> Result<Totals> {
    let movement = Movement { source, sink, graph, flights: ctx.flights(), progress: &**ctx.progress(), arrived: None };
    let totals = movement.run().await?;
    let _turn = ctx.flights().turn(&sink.name(), &root.digest).await;
    sink.finish(root).await?;
    Ok(totals)
}

/// Says that an engine takes no images from here: it would pull them apart and give them other digests.
fn source_only(target: &Endpoint) -> Error {
    Error::Argument {
        name: target.to_string(),
        problem: "cannot be copied to: a Docker Engine is only a source".into(),
        cure: Some(
            "push it to a registry and docker pull it, or copy it to archive:FILE and docker load -i FILE".into(),
        ),
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
        if matches!(self.target, Endpoint::Docker { .. }) {
            return Err(source_only(&self.target));
        }
        self.find(ctx).await?;
        let Some(found) = &self.found else { return Err(nothing(&self.source)) };
        if found.unknown {
            let (plan, image) = self.plan_unknown(ctx, found);
            return Ok(plan.returning(self.copied(found, Totals::default(), image)));
        }
        let mut plan = Plan::new(());
        let mut preview = None;
        let along: u64 = found.companions.iter().filter_map(|one| one.graph.as_ref()).map(Graph::size).sum();
        if along > 0 {
            let what = format!("send what refers to {}", self.source.label());
            plan = match &self.target {
                Endpoint::Layout { path, .. } => plan.path(ctx.local(path), what),
                Endpoint::Registry(reference) => plan.transfer(reference.locator(), what, along),
                Endpoint::Containerd { .. } | Endpoint::Docker { .. } | Endpoint::Archive { .. } => plan,
            };
        }
        let plan = match (&self.target, &found.graph) {
            (_, None) => plan,
            (Endpoint::Registry(reference), Some(graph)) => {
                let target = reference.locator();
                let point = format!("point {reference} to {}", found.root.digest);
                let send = format!("send the content of {}", self.source.label());
                plan.transfer(target.clone(), send, graph.size()).step(Access::Write, target, point)
            }
            (Endpoint::Containerd { name, .. }, Some(graph)) => {
                let there = self.target.context(ctx);
                if !self.options.force {
                    refuse_taken(&there, name, &found.root).await?;
                }
                let (plan, image) =
                    self.options.arrival.plan(&there, plan, name, &found.root, graph, &*found.source).await?;
                preview = Some(image);
                plan
            }
            (Endpoint::Docker { .. }, Some(_)) => return Err(source_only(&self.target)),
            (Endpoint::Layout { path, .. } | Endpoint::Archive { path, .. }, Some(_)) => {
                let action = format!("write {} to {}", self.source.label(), self.target);
                plan.path(ctx.local(path), action)
            }
        };
        Ok(plan.returning(self.copied(found, Totals::default(), preview)))
    }

    async fn apply(mut self, ctx: &Context) -> Result<Copied> {
        let Some(found) = self.found.take() else { return Err(nothing(&self.source)) };
        let mut totals = found.send_companions(ctx, &self.options.registry).await?;
        let mut image = None;
        totals += match &self.target {
            Endpoint::Registry(reference) => {
                let sink = RegistryStore::sink(ctx.registry(), reference, ctx.grant(), &self.options.registry);
                found.send(ctx, &sink).await?
            }
            Endpoint::Layout { path, selector } => found.send(ctx, &LayoutFolder::new(path, selector.clone())).await?,
            Endpoint::Docker { .. } => return Err(source_only(&self.target)),
            Endpoint::Archive { path, selector } => self.archive(ctx, &found, path, selector).await?,
            Endpoint::Containerd { name, .. } => match &found.graph {
                Some(graph) => {
                    let there = self.target.context(ctx);
                    let arrival = &self.options.arrival;
                    let (record, totals) = arrival.bring(&there, &*found.source, name, &found.root, graph).await?;
                    image = Some(record);
                    totals
                }
                None => Totals::default(),
            },
        };
        Ok(self.copied(&found, totals, image))
    }
}

/// Says that nothing was found before it was to be moved.
fn nothing(source: &Endpoint) -> Error {
    Error::not_found("image", &source.to_string(), [])
}
