//! `inspect`, `config`, `manifest`, `history`, `chain_id`: what an image says of itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::containerd::images::Image;
use crate::oci::manifest::MAX_DEPTH;
use crate::oci::{Descriptor, Digest, Error as OciError, ImageConfig, Manifest, Matcher, Parsed, Platform, config};
use crate::ops::content::Held;
use crate::ops::image::detail::{detail, image_config};
use crate::ops::image::foresee::made_by;
use crate::ops::{Context, Error, Result, snapshot};

/// How many blobs of a document are looked up at the same time.
const PARALLEL: usize = 8;
/// How many pieces of content an image may be made of. Documents of a few kilobytes that list each other over and over would
/// otherwise come to millions.
const MAX_NODES: usize = 10_000;

/// Reads the manifest or index that an image's record points to, as it is written.
///
/// # Errors
/// [`Error::Incomplete`] when it is not here.
pub async fn manifest(ctx: &Context, image: &Image) -> Result<Value> {
    let held = Held::new(ctx).await?;
    match held.bytes(&image.target.digest, crate::oci::manifest::MAX_SIZE).await? {
        Some(bytes) => json(&image.target, "manifest", &bytes),
        None => Err(missing(ctx, image, "its manifest")),
    }
}

/// Reads the config of the image that fits best, as it is written.
///
/// # Errors
/// [`Error::Incomplete`] when it is not here.
pub async fn config(ctx: &Context, image: &Image, matcher: &Matcher) -> Result<Value> {
    let (_, manifest) = platform_manifest(ctx, image, matcher).await?;
    let held = Held::new(ctx).await?;
    match held.bytes(&manifest.config.digest, config::MAX_SIZE).await? {
        Some(bytes) => json(&manifest.config, "image config", &bytes),
        None => Err(missing(ctx, image, "its config")),
    }
}

/// Reads the manifest and config of the image that fits best.
///
/// # Errors
/// [`Error::Incomplete`] when one of them is not here.
pub async fn image_of(ctx: &Context, image: &Image, matcher: &Matcher) -> Result<(Descriptor, Manifest, ImageConfig)> {
    let (descriptor, manifest) = platform_manifest(ctx, image, matcher).await?;
    match image_config(&Held::new(ctx).await?, &manifest).await? {
        Some(config) => Ok((descriptor, manifest, config)),
        None => Err(missing(ctx, image, "its config")),
    }
}

async fn platform_manifest(ctx: &Context, image: &Image, matcher: &Matcher) -> Result<(Descriptor, Manifest)> {
    let found = detail(&Held::new(ctx).await?, &image.target, matcher).await?;
    found.manifest.ok_or_else(|| missing(ctx, image, &format!("its manifest for {matcher}")))
}

fn json(descriptor: &Descriptor, what: &'static str, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| {
        crate::oci::Error::Document { what, digest: descriptor.digest.to_string(), reason: error.to_string() }.into()
    })
}

fn missing(ctx: &Context, image: &Image, what: &str) -> Error {
    if let Some(verb) = made_by(ctx, &image.target) {
        let state = format!("would be made by {verb}, and what it says is not known in a dry run");
        return Error::Conflict { what: "image", name: image.name.clone(), state, cure: None };
    }
    Error::Incomplete { image: image.name.clone(), missing: format!("{what} is not in the store") }
}

/// Returns the name of the topmost snapshot of the image that fits best, unpacked or not; none for one without layers.
///
/// # Errors
/// [`Error::Incomplete`] when its manifest or config is not here.
pub async fn chain_id(ctx: &Context, image: &Image, matcher: &Matcher) -> Result<Option<Digest>> {
    Ok(image_of(ctx, image, matcher).await?.2.chain_ids().pop())
}

/// What an inspection looks at beside the documents.
#[derive(Debug, Clone)]
pub struct InspectOptions {
    /// Whether the documents and configs are returned too.
    pub content: bool,
    /// Where unpacked layers are looked for.
    pub snapshotter: String,
}

/// One piece of content of an image, and all below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What points to it.
    pub descriptor: Descriptor,
    /// Whether it is here.
    pub here: bool,
    /// What it says, when that was asked for and it is here: a document or a config.
    pub content: Option<Value>,
    /// The rest, by what it is.
    pub kind: NodeKind,
}

/// What a piece of content is.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// A list of images, with what it lists; nothing when it is not here.
    Index(Vec<Node>),
    /// One image.
    Manifest {
        /// The platform, by the index or the config.
        platform: Option<Platform>,
        /// Whether its layers are unpacked; unknown when the manifest or the config is not here.
        unpacked: Option<bool>,
        /// The config, when the manifest is here.
        config: Option<Box<Node>>,
        /// The layers, the base first, when the manifest is here.
        layers: Vec<Node>,
    },
    /// A layer.
    Layer {
        /// The digest of the uncompressed tar, when the config is here.
        diff_id: Option<Digest>,
        /// The name of its snapshot, when the config is here.
        chain_id: Option<Digest>,
    },
    /// A config, or a blob of an artifact.
    Blob,
}

impl Node {
    /// Returns what is below it.
    #[must_use]
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            NodeKind::Index(children) => children.iter().collect(),
            NodeKind::Manifest { config, layers, .. } => config.as_deref().into_iter().chain(layers).collect(),
            NodeKind::Layer { .. } | NodeKind::Blob => Vec::new(),
        }
    }

    /// Lists it and all below it.
    #[must_use]
    pub fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        let mut next = 0;
        while let Some(node) = all.get(next).copied() {
            all.extend(node.children());
            next += 1;
        }
        all
    }
}

/// Looks at all content of an image: what its documents list, whatever the platform, and what of it is here.
///
/// # Errors
/// When a document is here and cannot be used, or there is no connection.
pub async fn inspect(ctx: &Context, image: &Image, options: &InspectOptions) -> Result<Node> {
    let look = Look {
        held: Held::new(ctx).await?,
        snapshotter: options.snapshotter.clone(),
        content: options.content,
        nodes: AtomicUsize::new(0),
    };
    look.node(image.target.clone(), 0).await
}

struct Look {
    held: Held,
    snapshotter: String,
    content: bool,
    /// How many pieces were looked at.
    nodes: AtomicUsize,
}

impl Look {
    fn count(&self, descriptor: &Descriptor) -> Result<()> {
        if self.nodes.fetch_add(1, Ordering::Relaxed) < MAX_NODES {
            return Ok(());
        }
        let reason = format!("the image lists more than {MAX_NODES} pieces of content");
        Err(OciError::Document { what: "manifest", digest: descriptor.digest.to_string(), reason }.into())
    }

    fn node(&self, descriptor: Descriptor, depth: usize) -> BoxFuture<'_, Result<Node>> {
        Box::pin(async move {
            self.count(&descriptor)?;
            if depth > MAX_DEPTH {
                let reason = format!("indexes nest more than {MAX_DEPTH} deep");
                let digest = descriptor.digest.to_string();
                return Err(OciError::Document { what: "index", digest, reason }.into());
            }
            if !descriptor.media_type.is_index() && !descriptor.media_type.is_manifest() {
                return self.blob(descriptor, NodeKind::Blob).await;
            }
            let Some(bytes) = self.held.bytes(&descriptor.digest, crate::oci::manifest::MAX_SIZE).await? else {
                let kind = match descriptor.media_type.is_index() {
                    true => NodeKind::Index(Vec::new()),
                    false => NodeKind::Manifest {
                        platform: descriptor.platform.clone(),
                        unpacked: None,
                        config: None,
                        layers: Vec::new(),
                    },
                };
                return Ok(Node { descriptor, here: false, content: None, kind });
            };
            let kind = match Parsed::read(&descriptor, &bytes)? {
                Parsed::Index(index) => {
                    let children = stream::iter(index.manifests).map(|child| self.node(child, depth + 1));
                    NodeKind::Index(children.buffered(PARALLEL).try_collect().await?)
                }
                Parsed::Manifest(manifest) => self.manifest(&descriptor, manifest).await?,
            };
            let content = self.content.then(|| json(&descriptor, "manifest", &bytes)).transpose()?;
            Ok(Node { descriptor, here: true, content, kind })
        })
    }

    async fn manifest(&self, descriptor: &Descriptor, manifest: Manifest) -> Result<NodeKind> {
        let image = if descriptor.is_attestation() { None } else { image_config(&self.held, &manifest).await? };
        let mut config = self.blob(manifest.config.clone(), NodeKind::Blob).await?;
        if self.content && config.here && manifest.config.media_type.is_config() {
            let bytes = self.held.bytes(&manifest.config.digest, config::MAX_SIZE).await?;
            config.content = bytes.map(|bytes| json(&manifest.config, "image config", &bytes)).transpose()?;
        }
        let (diff_ids, chain) =
            image.as_ref().map(|image| (image.rootfs.diff_ids.clone(), image.chain_ids())).unwrap_or_default();
        let unpacked = match chain.last() {
            Some(top) => Some(snapshot::is_there(self.held.context(), &self.snapshotter, top.as_str()).await?),
            None => None,
        };
        let mut ids = diff_ids.into_iter().zip(chain);
        let mut layers: Vec<(Descriptor, NodeKind)> = Vec::new();
        for layer in manifest.layers {
            let kind = match layer.media_type.is_layer() {
                true => {
                    let (diff_id, chain_id) = ids.next().unzip();
                    NodeKind::Layer { diff_id, chain_id }
                }
                false => NodeKind::Blob,
            };
            layers.push((layer, kind));
        }
        let layers = stream::iter(layers).map(|(layer, kind)| self.blob(layer, kind));
        Ok(NodeKind::Manifest {
            platform: descriptor.platform.clone().or_else(|| image.map(|image| image.platform.normalized())),
            unpacked,
            config: Some(Box::new(config)),
            layers: layers.buffered(PARALLEL).try_collect().await?,
        })
    }

    async fn blob(&self, descriptor: Descriptor, kind: NodeKind) -> Result<Node> {
        self.count(&descriptor)?;
        let here = self.held.info(&descriptor.digest).await?.is_some();
        Ok(Node { descriptor, here, content: None, kind })
    }
}
