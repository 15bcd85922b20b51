//! `pull`: fetches an image from a registry into the namespace, and unpacks it while later layers still arrive.

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::try_join_all;

use crate::containerd::images::Image;
use crate::containerd::store::ContainerdStore;
use crate::containerd::{Client, Labels};
use crate::grant::Access;
use crate::oci::store::{ImageSink, ImageSource};
use crate::oci::{Descriptor, Manifest, Matcher, Reference};
use crate::ops::copy::{Copy, Totals};
use crate::ops::graph::{self, Graph, Selection};
use crate::ops::lease::Leased;
use crate::ops::unpack::{Feed, Unpacker};
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};
use crate::registry::{self, RegistryStore};

/// The namespace of the kubelet.
const KUBERNETES: &str = "k8s.io";
/// What makes an image visible to the kubelet (containerd internal/cri/labels).
const CRI_IMAGE: (&str, &str) = ("io.cri-containerd.image", "managed");

/// What a pull may be told.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Which platforms are fetched.
    pub platforms: Matcher,
    /// Whether layers are unpacked.
    pub unpack: bool,
    /// Where they are unpacked; without it, the place's default.
    pub snapshotter: Option<String>,
    /// Labels for the image's record.
    pub labels: Labels,
    /// How to reach the registry.
    pub registry: registry::Options,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platforms: Matcher::host(),
            unpack: true,
            snapshotter: None,
            labels: Labels::new(),
            registry: registry::Options::default(),
        }
    }
}

/// Fetches an image.
pub struct Pull {
    reference: Reference,
    options: PullOptions,
    found: Option<(Descriptor, Graph)>,
}

impl Pull {
    /// Fetches what the reference points to.
    #[must_use]
    pub fn new(reference: Reference, options: PullOptions) -> Self {
        Self { reference, options, found: None }
    }

    fn source(&self, ctx: &Context) -> RegistryStore {
        RegistryStore::source(ctx.registry(), &self.reference, ctx.grant(), &self.options.registry)
    }

    fn labels(&self, ctx: &Context) -> Labels {
        let mut labels = self.options.labels.clone();
        if ctx.namespace() == KUBERNETES {
            labels.insert(CRI_IMAGE.0.to_owned(), CRI_IMAGE.1.to_owned());
        }
        labels
    }
}

#[async_trait]
impl Operation for Pull {
    type Output = Image;
    const NAME: &'static str = "pull";

    fn subject(&self) -> String {
        self.reference.to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        let name = self.reference.to_string();
        let source = self.source(ctx);
        let client = ctx.client().await?;
        let stored = ContainerdStore::new(client.clone(), &name);
        let root = source.resolve().await?;
        let graph =
            graph::walk(&source, Some(&stored), &root, &Selection::Matching(self.options.platforms.clone())).await?;
        let now = chrono::Utc::now();
        let target = Descriptor::new(root.media_type.clone(), root.digest.clone(), root.size);
        let preview = Image { name: name.clone(), target, labels: self.labels(ctx), created_at: now, updated_at: now };
        let mut plan = Plan::new(preview.clone());
        // Only who is shown the plan needs to know what is here already.
        let missing = if ctx.is_dry_run() { missing(&client, &graph).await? } else { graph.size() };
        plan = plan.transfer(ctx.target(), format!("fetch the content of {name}"), missing);
        if self.options.unpack {
            plan = plan.step(Access::Write, ctx.target(), format!("unpack the layers of {name}"));
        }
        plan = plan
            .step(Access::Write, ctx.target(), format!("point image {name} to {}", root.digest))
            .effect(Effect::exists(&ctx.place_name(), &name, preview));
        self.found = Some((root, graph));
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Image> {
        let name = self.reference.to_string();
        let labels = self.labels(ctx);
        let source = self.source(ctx);
        let Some((root, graph)) = &self.found else { return Err(Error::not_found("image", &name, [])) };
        let leased = Leased::new(ctx).await?;
        let client = leased.client();
        let sink =
            ContainerdStore::new(client.clone(), &name).with_origin(source.origin()).with_image_labels(labels.clone());
        let wanted = if self.options.unpack { unpacked(graph, &self.options.platforms) } else { Vec::new() };
        let snapshotter = match wanted.is_empty() {
            true => String::new(),
            false => super::snapshotter(ctx, self.options.snapshotter.as_deref()).await?,
        };
        let mut feeds = Vec::new();
        let mut unpacking = Vec::new();
        for manifest in &wanted {
            let (feed, unpacker) = Unpacker::new(client, &snapshotter, manifest, ctx.progress(), ctx.debts());
            feeds.push(feed);
            unpacking.push(unpacker.run().boxed());
        }
        let copying = copy(ctx, &source, &sink, graph, feeds);
        let (_, _) = tokio::try_join!(copying, try_join_all(unpacking))?;
        sink.finish(root).await?;
        if ctx.namespace() == KUBERNETES {
            name_by_config(client, graph, &self.options.platforms, root, &labels).await?;
        }
        let image = client.images().get(&name).await?;
        leased.release().await?;
        Ok(image)
    }
}

/// Moves the content, telling the unpackers of each blob that has arrived; when it ends, all has.
async fn copy(
    ctx: &Context,
    source: &RegistryStore,
    sink: &ContainerdStore,
    graph: &Graph,
    feeds: Vec<Feed>,
) -> Result<Totals> {
    let arrived = |blob: &Descriptor| feeds.iter().for_each(|feed| feed.arrived(blob));
    let copy =
        Copy { source, sink, graph, flights: ctx.flights(), progress: &**ctx.progress(), arrived: Some(&arrived) };
    copy.run().await
}

/// Adds up what the store lacks.
async fn missing(client: &Client, graph: &Graph) -> Result<u64> {
    let mut bytes = 0;
    for descriptor in graph.blobs.iter().chain(graph.documents.iter().map(|document| &document.descriptor)) {
        match client.content().info(&descriptor.digest).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => bytes += descriptor.size,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// Picks the manifests to unpack: those that were asked for by name, and of all platforms only this host's.
fn unpacked(graph: &Graph, matcher: &Matcher) -> Vec<Manifest> {
    let documents = graph.documents.iter().filter(|document| !document.descriptor.is_attestation());
    let images: Vec<_> = documents.filter(|document| document.manifest().is_some_and(is_image)).collect();
    let chosen: Vec<_> = match matcher {
        Matcher::Any(_) => images,
        Matcher::All if images.len() <= 1 => images,
        Matcher::All => {
            let host = Matcher::host();
            let rank = |document: &graph::Document| host.rank(document.descriptor.platform.as_ref()?);
            let ranked = images.into_iter().filter_map(|document| Some((rank(document)?, document)));
            ranked.min_by_key(|(rank, _)| *rank).map(|(_, document)| document).into_iter().collect()
        }
    };
    chosen.into_iter().filter_map(graph::Document::manifest).cloned().collect()
}

/// Says whether a manifest is of an image, and not of some other artifact.
fn is_image(manifest: &Manifest) -> bool {
    let config = &manifest.config.media_type;
    config.is_config()
        || (config.as_str() == "application/octet-stream" && manifest.layers.iter().all(|l| l.media_type.is_layer()))
}

/// Makes the record `sha256:<config>` by which the kubelet knows an image.
async fn name_by_config(
    client: &Client,
    graph: &Graph,
    matcher: &Matcher,
    root: &Descriptor,
    labels: &Labels,
) -> Result<()> {
    let target = Descriptor::new(root.media_type.clone(), root.digest.clone(), root.size);
    for manifest in unpacked(graph, matcher) {
        client.images().put(manifest.config.digest.as_str(), &target, labels).await?;
    }
    Ok(())
}
