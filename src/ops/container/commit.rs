//! `commit`: makes an image of a container's files.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::{get, status};
use crate::containerd::containers::Container;
use crate::containerd::images::Image;
use crate::containerd::tasks::Status;
use crate::containerd::{Client, ContainerdStore, Labels};
use crate::grant::Access;
use crate::oci::store::{self, BlobReader, ImageSource};
use crate::oci::{Descriptor, Digest, Manifest, Matcher, MediaType, Reference};
use crate::ops::graph::{self, Selection};
use crate::ops::image::{self, Arrival, refuse_taken};
use crate::ops::lease::Leased;
use crate::ops::snapshot::{self, Packing};
use crate::ops::task::freeze;
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, Seen};

/// A layer's diff id, which the daemon notes on what it packs.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// What the daemon packs. It is of the same bytes as Docker's, whose name it does not know.
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What a commit may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOptions {
    /// Whether a container that runs is paused while its files are packed.
    pub pause: bool,
    /// Who made the image.
    pub author: Option<String>,
    /// A remark for its history.
    pub message: Option<String>,
    /// Its default arguments, in place of those of the container's image.
    pub cmd: Option<Vec<String>>,
    /// Its program, in place of that of the container's image.
    pub entrypoint: Option<Vec<String>>,
    /// Whether a name that points elsewhere is pointed to it.
    pub force: bool,
}

impl Default for CommitOptions {
    fn default() -> Self {
        Self { pause: true, author: None, message: None, cmd: None, entrypoint: None, force: false }
    }
}

/// Makes an image of a container's image and what the container changed of its files.
#[derive(Debug)]
pub struct Commit {
    id: String,
    name: Reference,
    options: CommitOptions,
    found: Option<Found>,
}

/// What it is made of.
#[derive(Debug)]
struct Found {
    container: Container,
    runs: bool,
    /// The container's image; none when a dry run made the container.
    base: Option<Base>,
}

#[derive(Debug)]
struct Base {
    image: Image,
    descriptor: Descriptor,
    manifest: Manifest,
    config: Value,
}

impl Commit {
    /// Calls the image of the container's files `name`.
    #[must_use]
    pub fn new(id: &str, name: Reference, options: CommitOptions) -> Self {
        Self { id: id.to_owned(), name, options, found: None }
    }

    fn conflict(&self, state: String, cure: Option<String>) -> Error {
        Error::Conflict { what: "container", name: self.id.clone(), state, cure }
    }

    async fn find(&self, ctx: &Context) -> Result<Found> {
        let container = get(ctx, &self.id).await?;
        if container.snapshot_key.is_empty() {
            let cure = Some("from_rootfs(…) makes an image of a folder".to_owned());
            return Err(self.conflict("has a root filesystem of the host and no snapshot".into(), cure));
        }
        let runs = status(ctx, &self.id).await?.is_some_and(|task| task.status == Status::Running);
        let base = match ctx.overlay().get::<Container>(&ctx.place_name(), &self.id) {
            Seen::As(_) => None,
            _ => Some(self.base(ctx, &container).await?),
        };
        Ok(Found { container, runs, base })
    }

    /// Finds the image whose layers the container stands on.
    async fn base(&self, ctx: &Context, container: &Container) -> Result<Base> {
        let matcher = Matcher::host();
        let image = image::get(ctx, &container.image).await?;
        let (descriptor, manifest, config) = image::image_of(ctx, &image, &matcher).await?;
        let stands_on = snapshot::get(ctx, &container.snapshotter, &container.snapshot_key).await?.info.parent;
        let top = config.chain_ids().pop().map(|digest| digest.to_string());
        if stands_on != top {
            let state = format!("does not stand on the layers that {} has now", image.name);
            let cure = format!("snapshots::diff(\"{}\") packs what it changed", container.snapshot_key);
            return Err(self.conflict(state, Some(cure)));
        }
        let config = image::config(ctx, &image, &matcher).await?;
        let client = ctx.client().await?;
        for layer in &manifest.layers {
            match client.content().info(&layer.digest).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    let missing = format!("layer {} is not in the store", layer.digest);
                    return Err(Error::Incomplete { image: image.name, missing });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Base { image, descriptor, manifest, config })
    }

    /// Packs what the container changed. Returns the layer and its diff id.
    async fn pack(
        &self,
        ctx: &Context,
        client: &Client,
        found: &Found,
        undo: &mut Undo,
    ) -> Result<(Descriptor, Digest)> {
        let mut pausing = Undo::new(ctx.debts());
        let pauses = found.runs && self.options.pause;
        if pauses {
            let (tasks, id) = (client.tasks(), self.id.clone());
            let (resuming, resumed) = (client.undoing().tasks(), self.id.clone());
            let back = async move { resuming.resume(&resumed).await };
            pausing
                .step(format!("the pause of container {id}"), async move { freeze(&tasks, &id).await }, back)
                .await??;
        }
        let packing = Packing {
            snapshotter: &found.container.snapshotter,
            from: None,
            to: &found.container.snapshot_key,
            media_type: &MediaType::parse(LAYER),
            reference: None,
            labels: &Labels::new(),
        };
        let layer = packing.run(ctx, client, undo).await?;
        if pauses {
            client.tasks().resume(&self.id).await?;
        }
        pausing.forget();
        let labels = client.content().info(&layer.digest).await?.labels;
        let diff_id = labels.get(UNCOMPRESSED).and_then(|text| text.parse().ok());
        let diff_id =
            diff_id.ok_or_else(|| Error::argument(layer.digest.to_string(), "has no diff id from the daemon"))?;
        Ok((layer, diff_id))
    }

    /// Writes the image's config: that of the base with one layer more.
    fn config(&self, container: &Container, mut config: Value, diff_id: &Digest) -> Value {
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let args = container.spec.as_ref().and_then(|spec| spec.process.as_ref()).map(|process| process.args.join(" "));
        let mut entry = json!({ "created": now, "created_by": args.unwrap_or_default() });
        config["created"] = now.into();
        if let Some(author) = &self.options.author {
            entry["author"] = author.as_str().into();
            config["author"] = author.as_str().into();
        }
        if let Some(message) = &self.options.message {
            entry["comment"] = message.as_str().into();
        }
        for (key, words) in [("Entrypoint", &self.options.entrypoint), ("Cmd", &self.options.cmd)] {
            if let Some(words) = words {
                config["config"][key] = json!(words);
            }
        }
        // Where there is a history, it has an entry for each layer.
        let layers = config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
        let is_told = |entry: &&Value| entry["empty_layer"] != true;
        let told = config["history"].as_array().map_or(0, |entries| entries.iter().filter(is_told).count());
        for _ in told..layers {
            push(&mut config["history"], json!({}));
        }
        push(&mut config["rootfs"]["diff_ids"], json!(diff_id));
        push(&mut config["history"], entry);
        config
    }
}

/// Adds to a list, which Go leaves out or writes as `null` when it is empty.
fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

#[async_trait]
impl Operation for Commit {
    type Output = Image;
    const NAME: &'static str = "commit";

    fn subject(&self) -> String {
        format!("{} as {}", self.id, self.name)
    }

    /// The image's digest is not known before it is made: a dry run returns the name with what the container's image points to.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        let found = self.find(ctx).await?;
        let name = self.name.to_string();
        let now = chrono::Utc::now();
        let target = match &found.base {
            Some(base) => base.image.target.clone(),
            None => Descriptor::new(MediaType::OciManifest, Digest::sha256(b""), 0),
        };
        let target = image::unknown(target, Self::NAME);
        if !self.options.force {
            let unlike = Descriptor::new(MediaType::OciManifest, Digest::sha256(b""), 0);
            refuse_taken(ctx, &name, &unlike).await?;
        }
        let preview = Image { name: name.clone(), target, labels: Labels::new(), created_at: now, updated_at: now };
        let mut plan = Plan::new(preview.clone());
        if found.runs && self.options.pause {
            plan = plan.step(Access::Run, ctx.target(), format!("pause container {} for a moment", self.id));
        }
        let plan = plan
            .step(Access::Write, ctx.target(), format!("pack what container {} changed into a layer", self.id))
            .step(Access::Write, ctx.target(), format!("point image {name} to {} and the layer", found.container.image))
            .effect(Effect::exists(&ctx.place_name(), &name, preview));
        self.found = Some(found);
        Ok(plan)
    }

    async fn apply(mut self, ctx: &Context) -> Result<Image> {
        let found = match self.found.take() {
            Some(found) => found,
            None => self.find(ctx).await?,
        };
        let Some(base) = &found.base else { return Err(Error::not_found("container", &self.id, [])) };
        let leased = Leased::new(ctx).await?;
        // The views are taken back when all is done, too.
        let mut undo = Undo::new(ctx.debts());
        let (mut layer, diff_id) = self.pack(ctx, leased.client(), &found, &mut undo).await?;
        if base.descriptor.media_type == MediaType::DockerManifest {
            layer.media_type = MediaType::parse(DOCKER_LAYER);
        }
        let name = self.name.to_string();
        let store = ContainerdStore::new(leased.client().clone(), &base.image.name);
        let made = Made::new(store, base, self.config(&found.container, base.config.clone(), &diff_id), layer);
        if !self.options.force {
            refuse_taken(ctx, &name, &made.root).await?;
        }
        let graph = graph::walk(&made, None, &made.root, &Selection::Matching(Matcher::All)).await?;
        let arrival = Arrival {
            platforms: Matcher::All,
            unpack: true,
            snapshotter: Some(found.container.snapshotter.clone()),
            labels: Labels::new(),
            ..Arrival::default()
        };
        let (image, _) = arrival.bring(ctx, &made, &name, &made.root, &graph).await?;
        leased.release().await?;
        Ok(image)
    }
}

/// The new image: documents in memory, the layers in the store.
struct Made {
    store: ContainerdStore,
    root: Descriptor,
    documents: HashMap<Digest, Bytes>,
}

impl Made {
    fn new(store: ContainerdStore, base: &Base, config: Value, layer: Descriptor) -> Self {
        let mut documents = HashMap::new();
        let mut add = |media_type: &MediaType, bytes: Vec<u8>| {
            let described = Descriptor::new(media_type.clone(), Digest::sha256(&bytes), bytes.len() as u64);
            documents.insert(described.digest.clone(), Bytes::from(bytes));
            described
        };
        let config = add(&base.manifest.config.media_type, config.to_string().into_bytes());
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(base.descriptor.media_type.clone()),
            artifact_type: None,
            config,
            layers: base.manifest.layers.iter().cloned().chain([layer]).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        // Cannot fail: all keys are strings.
        let root = add(&base.descriptor.media_type, serde_json::to_vec(&manifest).unwrap_or_default());
        Self { store, root, documents }
    }
}

#[async_trait]
impl ImageSource for Made {
    fn name(&self) -> String {
        ImageSource::name(&self.store)
    }

    async fn resolve(&self) -> store::Result<Descriptor> {
        Ok(self.root.clone())
    }

    async fn manifest(&self, descriptor: &Descriptor) -> store::Result<Bytes> {
        match self.documents.get(&descriptor.digest) {
            Some(bytes) => Ok(bytes.clone()),
            None => self.store.manifest(descriptor).await,
        }
    }

    async fn open(&self, descriptor: &Descriptor, offset: u64) -> store::Result<BlobReader> {
        match self.documents.get(&descriptor.digest) {
            None => self.store.open(descriptor, offset).await,
            Some(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(BlobReader { start: offset, stream: stream::iter([Ok(bytes.slice(start..))]).boxed() })
            }
        }
    }
}
