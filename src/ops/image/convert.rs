//! `convert`: makes an image with the same files in another form.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::detail::image_config;
use super::uncompress::{is_compressed, uncompress};
use super::{foresee, get, here, refuse_taken};
use crate::containerd::ContainerdStore;
use crate::containerd::content::Info;
use crate::containerd::images::Image;
use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::oci::convert::Conversion;
use crate::oci::store::ImageSink;
use crate::oci::{Descriptor, Digest, Matcher, Parsed, Reference};
use crate::ops::content::Held;
use crate::ops::graph::{self, Graph, Selection};
use crate::ops::lease::Leased;
use crate::ops::progress::Level;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// How many layers are converted at the same time.
const PARALLEL: usize = 4;

/// What a conversion may be told.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Whether layers are stored without compression.
    pub uncompress: bool,
    /// Whether Docker's media types become OCI's.
    pub oci: bool,
    /// Which images of an index go into the new one.
    pub platforms: Matcher,
    /// Whether a name that points elsewhere is pointed to the result.
    pub force: bool,
}

/// Makes a converted image of one that is here.
#[derive(Debug)]
pub struct Convert {
    source: String,
    target: Reference,
    options: ConvertOptions,
    found: Option<Found>,
}

/// What is to be done.
#[derive(Debug)]
struct Found {
    image: Image,
    graph: Graph,
    /// The layers to uncompress, with their diff ids where a config tells them.
    compressed: Vec<(Descriptor, Option<Digest>)>,
}

impl Convert {
    /// Converts the image of that name and calls the result `target`.
    #[must_use]
    pub fn new(source: &str, target: Reference, options: ConvertOptions) -> Self {
        Self { source: source.to_owned(), target, options, found: None }
    }

    async fn find(&self, ctx: &Context) -> Result<Found> {
        let image = get(ctx, &self.source).await?;
        let held = Held::new(ctx).await?;
        let incomplete = |missing: String| Error::Incomplete { image: image.name.clone(), missing };
        let store = here::source(ctx, &image.name).await?;
        let selection = Selection::Matching(self.options.platforms.clone());
        let graph = match graph::walk(&*store, None, &image.target, &selection).await {
            Err(error @ Error::Endpoint(_)) if error.kind() == Kind::NotFound && !is_platform(&error) => {
                return Err(incomplete(error.to_string()));
            }
            other => other?,
        };
        if let Some(Parsed::Index(index)) = graph.root().map(|root| &root.parsed) {
            for one in self.options.platforms.each() {
                if one.select(&index.manifests).is_empty() {
                    return Err(graph::no_platform(&one, &image.target, &index.manifests));
                }
            }
        }
        let mut missing = Vec::new();
        for blob in &graph.blobs {
            if held.info(&blob.digest).await?.is_none() {
                missing.push(blob.digest.to_string());
            }
        }
        if !missing.is_empty() {
            return Err(incomplete(format!("{} not in the store", missing.join(", "))));
        }
        let compressed = if self.options.uncompress { compressed(&held, &graph).await? } else { Vec::new() };
        Ok(Found { image, graph, compressed })
    }

    fn conversion(&self, graph: &Graph) -> Conversion {
        Conversion {
            to_oci: self.options.oci,
            replaced: HashMap::new(),
            gone: graph.left_out.iter().map(|descriptor| descriptor.digest.clone()).collect(),
        }
    }

    /// Returns what the layer is called once it is uncompressed.
    fn renamed(&self, plain: Descriptor) -> Descriptor {
        if self.options.oci { Descriptor { media_type: plain.media_type.to_oci(), ..plain } } else { plain }
    }

    /// Works out the result's root as far as it can be known: not when layers are still to be uncompressed that are not here
    /// in that form. The documents that would be written come with it.
    async fn foreseen(&self, ctx: &Context, found: &Found) -> Result<Option<(Descriptor, Vec<(Descriptor, Bytes)>)>> {
        let held = Held::new(ctx).await?;
        let mut conversion = self.conversion(&found.graph);
        for (layer, diff_id) in &found.compressed {
            let Some(diff_id) = diff_id else { return Ok(None) };
            let Some(Info { size, .. }) = held.info(diff_id).await? else { return Ok(None) };
            let media_type = layer.media_type.uncompressed();
            let plain = self.renamed(Descriptor::new(media_type, diff_id.clone(), size));
            conversion.replaced.insert(layer.digest.clone(), plain);
        }
        let mut root = found.image.target.clone();
        let mut made = Vec::new();
        for document in &found.graph.documents {
            root = document.descriptor.clone();
            if let Some((new, bytes)) = conversion.apply(&document.descriptor, &document.bytes)? {
                conversion.replaced.insert(document.descriptor.digest.clone(), new.clone());
                made.push((new.clone(), bytes));
                root = new;
            }
        }
        Ok(Some((root, made)))
    }

    /// Plans the conversion of what another change of the dry run would make, of which nothing is known before it is made.
    fn plan_unknown(&self, ctx: &Context, source: Image) -> Plan<Image> {
        let convert = format!("convert the documents of {}, which are not known in a dry run", source.name);
        let name = self.target.to_string();
        let preview = Image { name: name.clone(), ..source };
        Plan::new(preview.clone())
            .step(Access::Write, ctx.target(), convert)
            .step(Access::Write, ctx.target(), format!("point image {name} to the result"))
            .effect(Effect::exists(&ctx.place_name(), &name, preview))
    }

    /// Makes everything but the name.
    async fn build(&self, ctx: &Context, found: &Found, sink: &ContainerdStore) -> Result<Descriptor> {
        let Found { image, graph, compressed } = found;
        let lacks = |descriptor: &Descriptor| Error::Incomplete {
            image: image.name.clone(),
            missing: format!("{} went while it was being converted", descriptor.digest),
        };
        let mut conversion = self.conversion(graph);
        let job = |blob: &Descriptor| {
            let (blob, layer) = (blob.clone(), compressed.iter().find(|(layer, _)| layer.digest == blob.digest));
            async move {
                match layer {
                    Some((layer, diff_id)) => {
                        let plain = uncompress(sink.client(), layer, diff_id.as_ref(), ctx.progress()).await?;
                        Ok(Some((layer.digest.clone(), self.renamed(plain))))
                    }
                    // From now on the lease keeps it.
                    None if sink.has(&blob).await? => Ok(None),
                    None => Err(lacks(&blob)),
                }
            }
            .boxed()
        };
        let jobs: Vec<BoxFuture<'_, Result<_>>> = graph.blobs.iter().map(job).collect();
        let plain: Vec<_> = stream::iter(jobs).buffer_unordered(PARALLEL).try_collect().await?;
        conversion.replaced.extend(plain.into_iter().flatten());
        let mut root = image.target.clone();
        // Children come before their parents, which then know their new digests.
        for document in &graph.documents {
            root = document.descriptor.clone();
            match conversion.apply(&document.descriptor, &document.bytes)? {
                Some((new, bytes)) => {
                    sink.put_manifest(&new, bytes, &Default::default()).await?;
                    conversion.replaced.insert(document.descriptor.digest.clone(), new.clone());
                    root = new;
                }
                None if sink.has(&document.descriptor).await? => {
                    sink.adopt(&document.descriptor, &document.bytes).await?;
                }
                None => return Err(lacks(&document.descriptor)),
            }
        }
        Ok(root)
    }
}

/// Returns whether an index has nothing for the platforms that are wanted.
fn is_platform(error: &Error) -> bool {
    let Error::Endpoint(failure) = error else { return false };
    let failure: &dyn std::error::Error = &**failure;
    matches!(failure.downcast_ref(), Some(crate::oci::Error::NoPlatform { .. }))
}

/// Finds the layers that are compressed, with their diff ids where a config tells them.
async fn compressed(held: &Held, graph: &Graph) -> Result<Vec<(Descriptor, Option<Digest>)>> {
    let mut found: Vec<(Descriptor, Option<Digest>)> = Vec::new();
    let mut seen = HashSet::new();
    for manifest in graph.documents.iter().filter_map(|document| document.manifest()) {
        let layers: Vec<_> = manifest.layers.iter().filter(|layer| layer.media_type.is_layer()).collect();
        let config = if layers.is_empty() { None } else { image_config(held, manifest).await? };
        let diff_ids = config.map(|config| config.rootfs.diff_ids).filter(|ids| ids.len() == layers.len());
        for (index, layer) in layers.into_iter().enumerate() {
            if seen.insert(layer.digest.clone()) && is_compressed(held, layer).await? {
                let diff_id = diff_ids.as_ref().and_then(|ids| ids.get(index)).cloned();
                found.push((layer.clone(), diff_id));
            }
        }
    }
    Ok(found)
}

#[async_trait]
impl Operation for Convert {
    type Output = Image;
    const NAME: &'static str = "convert";

    fn subject(&self) -> String {
        format!("{} to {}", self.source, self.target)
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        let source = get(ctx, &self.source).await?;
        if foresee::made_by(ctx, &source.target).is_some() {
            return Ok(self.plan_unknown(ctx, source));
        }
        let found = self.find(ctx).await?;
        let name = self.target.to_string();
        let (foreseen, made) = self.foreseen(ctx, &found).await?.unzip();
        if !self.options.force && name != found.image.name {
            // An image that is here whole has its layers here, so what cannot be foreseen is not what the name points to.
            let root = foreseen
                .clone()
                .unwrap_or_else(|| Descriptor::new(found.image.target.media_type.clone(), Digest::sha256(b""), 0));
            refuse_taken(ctx, &name, &root).await?;
        }
        let preview = Image {
            name: name.clone(),
            target: foreseen.unwrap_or_else(|| foresee::unknown(found.image.target.clone(), Self::NAME)),
            ..found.image.clone()
        };
        let mut plan = Plan::new(preview.clone());
        for (layer, _) in &found.compressed {
            plan = plan.step(Access::Write, ctx.target(), format!("uncompress layer {}", layer.digest));
        }
        plan.effects = foresee::documents(ctx, made.unwrap_or_default())?;
        let plan = plan
            .step(Access::Write, ctx.target(), format!("convert the documents of {}", found.image.name))
            .step(Access::Write, ctx.target(), format!("point image {name} to the result"))
            .effect(Effect::exists(&ctx.place_name(), &name, preview));
        self.found = Some(found);
        Ok(plan)
    }

    async fn apply(mut self, ctx: &Context) -> Result<Image> {
        let found = match self.found.take() {
            Some(found) => found,
            None => self.find(ctx).await?,
        };
        let name = self.target.to_string();
        let leased = Leased::new(ctx).await?;
        let sink = ContainerdStore::new(leased.client().clone(), &name);
        let sink = sink.with_image_labels(found.image.labels.clone());
        let root = self.build(ctx, &found, &sink).await?;
        if !self.options.force && name != found.image.name {
            refuse_taken(ctx, &name, &root).await?;
        }
        let image = sink.record(&root).await?;
        leased.release().await?;
        if root.digest == found.image.target.digest {
            ctx.note(Level::Info, &format!("{name} is {} as it was: there was nothing to convert", found.image.name));
        } else {
            let old = &found.image.target.digest;
            let text = format!("{name} has a digest of its own; signatures and attestations are of {old}");
            ctx.note(Level::Info, &text);
        }
        Ok(image)
    }
}
