//! How an image comes into the namespace, wherever it comes from: content, unpacked layers, and last of all its name.

use std::borrow::Cow;

use futures_util::FutureExt;
use futures_util::future::try_join_all;

use super::foresee::{self, UNKNOWN_SIZE, Unpacking};
use crate::containerd::images::Image;
use crate::containerd::store::ContainerdStore;
use crate::containerd::{Client, Labels};
use crate::grant::Access;
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Manifest, Matcher};
use crate::ops::content::{LAYER, SNAPSHOT};
use crate::ops::copy::{Copy, Totals};
use crate::ops::graph::{self, Document, Graph, Selection};
use crate::ops::lease::Leased;
use crate::ops::unpack::{Feed, Unpacker};
use crate::ops::{Context, Effect, Error, Plan, Result, Seen};

/// The namespace of the kubelet.
const KUBERNETES: &str = "k8s.io";
/// What makes an image visible to the kubelet (containerd internal/cri/labels).
const CRI_IMAGE: (&str, &str) = ("io.cri-containerd.image", "managed");

/// What is to become of an image here.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Which platforms were asked for.
    pub platforms: Matcher,
    /// Whether layers are unpacked.
    pub unpack: bool,
    /// Where they are unpacked; without it, the place's default.
    pub snapshotter: Option<String>,
    /// Labels for the image's record.
    pub labels: Labels,
    /// Whether documents and configs are enough, and layers stay where they are.
    pub metadata_only: bool,
    /// Whether manifests whose layers were unpacked no longer keep them, so that the collector takes their blobs.
    pub discard_layers: bool,
}

impl Default for Arrival {
    fn default() -> Self {
        Self {
            platforms: Matcher::host(),
            unpack: true,
            snapshotter: None,
            labels: Labels::new(),
            metadata_only: false,
            discard_layers: false,
        }
    }
}

impl Arrival {
    /// Returns the labels that the record gets in a place.
    pub(super) fn labels(&self, ctx: &Context) -> Labels {
        let mut labels = self.labels.clone();
        if ctx.namespace() == KUBERNETES {
            labels.insert(CRI_IMAGE.0.to_owned(), CRI_IMAGE.1.to_owned());
        }
        labels
    }

    /// Returns what of the graph comes here.
    fn coming<'a>(&self, graph: &'a Graph) -> Cow<'a, Graph> {
        if self.metadata_only { Cow::Owned(graph.metadata()) } else { Cow::Borrowed(graph) }
    }

    /// Says what the record would be.
    fn preview(&self, ctx: &Context, name: &str, root: &Descriptor) -> Image {
        let now = chrono::Utc::now();
        Image { name: name.to_owned(), target: plain(root), labels: self.labels(ctx), created_at: now, updated_at: now }
    }

    /// Adds that unpacked layers are let go of, where that is wanted: they may have been here before.
    pub(super) fn discarding<T>(&self, ctx: &Context, plan: Plan<T>, name: &str) -> Plan<T> {
        if !self.discard_layers {
            return plan;
        }
        plan.step(Access::Delete, ctx.target(), format!("leave the unpacked layers of {name} to the collector"))
    }

    /// Adds what the arrival of an image does, and in a dry run what would be here then.
    ///
    /// # Errors
    /// What reading the configs failed with, or that there is no connection.
    pub(super) async fn plan<T>(
        &self,
        ctx: &Context,
        plan: Plan<T>,
        name: &str,
        root: &Descriptor,
        graph: &Graph,
        source: &dyn ImageSource,
    ) -> Result<(Plan<T>, Image)> {
        let preview = self.preview(ctx, name, root);
        let coming = self.coming(graph);
        let graph = &*coming;
        // Only who is shown the plan needs to know what is here already.
        let (bytes, effects) = match ctx.is_dry_run() {
            true => self.foresee(ctx, source, graph, &preview).await?,
            false => (graph.size(), Vec::new()),
        };
        let mut plan = plan.transfer(ctx.target(), format!("fetch the content of {name}"), bytes);
        if self.unpack {
            plan = plan.step(Access::Write, ctx.target(), format!("unpack the layers of {name}"));
        }
        plan = self.discarding(ctx, plan, name);
        let mut plan = plan
            .step(Access::Write, ctx.target(), format!("point image {name} to {}", root.digest))
            .effect(Effect::exists(&ctx.place_name(), name, preview.clone()));
        plan.effects.extend(effects);
        Ok((plan, preview))
    }

    /// Adds up what would come, and works out what would be here then beside the image's record.
    async fn foresee(
        &self,
        ctx: &Context,
        source: &dyn ImageSource,
        graph: &Graph,
        image: &Image,
    ) -> Result<(u64, Vec<Effect>)> {
        let manifests = if self.unpack { runnable(graph, &self.platforms) } else { Vec::new() };
        let snapshotter = match manifests.is_empty() {
            true => String::new(),
            false => super::snapshotter(ctx, self.snapshotter.as_deref()).await?,
        };
        let unpacking = Unpacking { manifests: &manifests, snapshotter: &snapshotter, discards: self.discard_layers };
        let (bytes, mut effects) = foresee::arrival(ctx, source, graph, &unpacking).await?;
        if ctx.namespace() == KUBERNETES {
            for manifest in runnable(graph, &self.platforms) {
                let name = manifest.config.digest.to_string();
                let record = Image { name: name.clone(), ..image.clone() };
                effects.push(Effect::exists(&ctx.place_name(), &name, record));
            }
        }
        Ok((bytes, effects))
    }

    /// Adds the arrival of an image of which nothing is known before it is made.
    pub(super) fn plan_unknown<T>(
        &self,
        ctx: &Context,
        plan: Plan<T>,
        name: &str,
        root: &Descriptor,
    ) -> (Plan<T>, Image) {
        let preview = Image { target: root.clone(), ..self.preview(ctx, name, root) };
        let mut plan = plan.step(Access::Write, ctx.target(), format!("fetch the content of {name}, {UNKNOWN_SIZE}"));
        if self.unpack {
            plan = plan.step(Access::Write, ctx.target(), format!("unpack the layers of {name}"));
        }
        let plan = self
            .discarding(ctx, plan, name)
            .step(Access::Write, ctx.target(), format!("point image {name} to it"))
            .effect(Effect::exists(&ctx.place_name(), name, preview.clone()));
        (plan, preview)
    }

    /// Brings the image in. Returns its record, and what was sent.
    ///
    /// # Errors
    /// What moving or unpacking it failed with; nothing of it stays then that was not here before.
    pub(in crate::ops) async fn bring(
        &self,
        ctx: &Context,
        source: &dyn ImageSource,
        name: &str,
        root: &Descriptor,
        graph: &Graph,
    ) -> Result<(Image, Totals)> {
        let labels = self.labels(ctx);
        let coming = self.coming(graph);
        let graph = &*coming;
        let wanted = if self.unpack { runnable(graph, &self.platforms) } else { Vec::new() };
        let snapshotter = async {
            if wanted.is_empty() {
                return Ok(String::new());
            }
            super::snapshotter(ctx, self.snapshotter.as_deref()).await
        };
        let (leased, snapshotter) = tokio::try_join!(Leased::new(ctx), snapshotter)?;
        let client = leased.client();
        let sink = ContainerdStore::new(client.clone(), name).with_source(source).with_image_labels(labels.clone());
        let mut feeds = Vec::new();
        let mut unpacking = Vec::new();
        for manifest in &wanted {
            let (feed, unpacker) = Unpacker::new(client, &snapshotter, manifest, ctx.progress(), ctx.debts());
            feeds.push(feed);
            unpacking.push(unpacker.run().boxed());
        }
        let copying = copy(ctx, source, &sink, graph, feeds);
        let (totals, _) = tokio::try_join!(copying, try_join_all(unpacking))?;
        let image = sink.record(root).await?;
        self.show(ctx, client, graph, root).await?;
        self.discard(client, graph).await?;
        leased.release().await?;
        Ok((image, totals))
    }

    /// Makes the record by which the kubelet knows an image, where there is one.
    async fn show(&self, ctx: &Context, client: &Client, graph: &Graph, root: &Descriptor) -> Result<()> {
        if ctx.namespace() == KUBERNETES {
            for manifest in runnable(graph, &self.platforms) {
                client.images().put(manifest.config.digest.as_str(), &plain(root), &self.labels(ctx)).await?;
            }
        }
        Ok(())
    }

    /// Does what is left of the arrival of an image whose content and record are here. The client should have a lease.
    ///
    /// # Errors
    /// [`OciError::NoPlatform`](crate::oci::Error::NoPlatform) when the image has nothing for the platforms, else what
    /// unpacking failed with.
    pub(super) async fn complete(&self, ctx: &Context, client: &Client, image: &Image) -> Result<()> {
        let store = ContainerdStore::new(client.clone(), &image.name);
        let selection = Selection::Matching(self.platforms.clone());
        let graph = graph::walk(&store, None, &image.target, &selection).await?;
        if self.unpack {
            let snapshotter = super::snapshotter(ctx, self.snapshotter.as_deref()).await?;
            for manifest in runnable(&graph, &self.platforms) {
                let (feed, unpacker) = Unpacker::new(client, &snapshotter, &manifest, ctx.progress(), ctx.debts());
                // All that will arrive is here.
                drop(feed);
                unpacker.run().await?;
            }
        }
        self.show(ctx, client, &graph, &image.target).await?;
        self.discard(client, &graph).await
    }

    /// Removes the references to layers from the manifests whose layers are unpacked; those of other platforms keep theirs.
    async fn discard(&self, client: &Client, graph: &Graph) -> Result<()> {
        if !self.discard_layers {
            return Ok(());
        }
        let content = client.content();
        for document in &graph.documents {
            let Some(manifest) = document.manifest() else { continue };
            let config = content.info(&manifest.config.digest).await?;
            if !config.labels.keys().any(|key| key.starts_with(SNAPSHOT)) {
                continue;
            }
            let digest = &document.descriptor.digest;
            let kept = content.info(digest).await?.labels.into_keys().filter(|key| key.starts_with(LAYER));
            let cleared: Labels = kept.map(|key| (key, String::new())).collect();
            if !cleared.is_empty() {
                content.set_labels(digest, &cleared).await?;
            }
        }
        Ok(())
    }
}

/// Refuses to take a name that points elsewhere.
///
/// # Errors
/// [`Error::AlreadyExists`].
pub(in crate::ops) async fn refuse_taken(ctx: &Context, name: &str, root: &Descriptor) -> Result<()> {
    let present = match ctx.overlay().get::<Image>(&ctx.place_name(), name) {
        Seen::As(image) => image,
        Seen::Gone => return Ok(()),
        Seen::Unknown => match ctx.client().await?.images().get(name).await {
            Ok(image) => image,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        },
    };
    if present.target.digest == root.digest {
        return Ok(());
    }
    Err(Error::AlreadyExists {
        what: "image",
        name: name.to_owned(),
        cure: Some(format!("it points to {}; #{{ force: true }} points it here", present.target.digest)),
    })
}

/// A record holds what ctr puts there: the three fields and nothing of how the descriptor was come by.
fn plain(root: &Descriptor) -> Descriptor {
    Descriptor::new(root.media_type.clone(), root.digest.clone(), root.size)
}

/// Moves the content, telling the unpackers of each blob that has arrived; when it ends, all has.
async fn copy(
    ctx: &Context,
    source: &dyn ImageSource,
    sink: &ContainerdStore,
    graph: &Graph,
    feeds: Vec<Feed>,
) -> Result<Totals> {
    let arrived = |blob: &Descriptor| feeds.iter().for_each(|feed| feed.arrived(blob));
    let copy =
        Copy { source, sink, graph, flights: ctx.flights(), progress: &**ctx.progress(), arrived: Some(&arrived) };
    copy.run().await
}

/// Picks the manifests to unpack: those that were asked for by name, and of all platforms only this host's.
fn runnable(graph: &Graph, matcher: &Matcher) -> Vec<Manifest> {
    let documents = graph.documents.iter().filter(|document| !document.descriptor.is_attestation());
    let images: Vec<_> = documents.filter(|document| document.manifest().is_some_and(is_image)).collect();
    let chosen: Vec<_> = match matcher {
        Matcher::Any(_) => images,
        Matcher::All if images.len() <= 1 => images,
        Matcher::All => {
            let host = Matcher::host();
            let rank = |document: &Document| host.rank(document.descriptor.platform.as_ref()?);
            let ranked = images.into_iter().filter_map(|document| Some((rank(document)?, document)));
            ranked.min_by_key(|(rank, _)| *rank).map(|(_, document)| document).into_iter().collect()
        }
    };
    chosen.into_iter().filter_map(Document::manifest).cloned().collect()
}

/// Says whether a manifest is of an image, and not of some other artifact.
fn is_image(manifest: &Manifest) -> bool {
    let config = &manifest.config.media_type;
    let unnamed = config.as_str() == "application/octet-stream";
    config.is_config() || (unnamed && manifest.layers.iter().all(|layer| layer.media_type.is_layer()))
}
