//! `checkpoint`: writes a container down as an image that it can be restored from.
//!
//! The image is an index as containerd's client writes it (containerd `client/container.go`, Checkpoint, and
//! `client/container_checkpoint_opts.go`): annotations say what made and ran the container, and each part is a child.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;

use super::commit::LAYER;
use super::{get, not_running, status};
use crate::containerd::containers::Container;
use crate::containerd::images::Image;
use crate::containerd::tasks::{self, Status};
use crate::containerd::{Client, ContainerdStore, Labels, content};
use crate::grant::Access;
use crate::oci::manifest::Index;
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Digest, Matcher, MediaType, Parsed, Platform, Reference};
use crate::ops::image::{self, refuse_taken};
use crate::ops::lease::Leased;
use crate::ops::snapshot::{self, Packing};
use crate::ops::task::freeze;
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, Seen};

/// The annotation with the name of the container's image.
pub(super) const IMAGE_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with the name of its runtime.
pub(super) const RUNTIME: &str = "io.containerd.checkpoint.runtime";
/// The annotation with the snapshotter of its files.
pub(super) const SNAPSHOTTER: &str = "io.containerd.checkpoint.snapshotter";
/// The annotation with the snapshot that its changes stand on. It is ctrsh's own, as the two that follow.
pub(super) const PARENT: &str = "ctrsh.checkpoint.parent";
/// The annotation with its namespace and id.
pub(super) const CONTAINER: &str = "ctrsh.checkpoint.container";

/// The media type of a spec.
pub(super) const SPEC: &str = "application/vnd.containerd.container.checkpoint.config.v1+proto";
/// The media type of the runtime's options.
pub(super) const RUNTIME_OPTIONS: &str = "application/vnd.containerd.container.checkpoint.runtime.options+proto";
/// The media type of the options that the state was taken with.
const CHECKPOINT_OPTIONS: &str = "application/vnd.containerd.container.checkpoint.options.v1+proto";
/// The media type of the state of processes.
pub(super) const STATE: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";

/// What goes into a checkpoint beside the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Whether the files that it changed do.
    pub rw: bool,
    /// Whether its image does.
    pub image: bool,
    /// Whether the state of its processes does.
    pub task: bool,
    /// Whether the container ends with that.
    pub exit: bool,
    /// A folder of the daemon's host for the log of CRIU.
    pub work_path: Option<PathBuf>,
    /// Whether a name that points elsewhere is pointed to it.
    pub force: bool,
}

/// Writes a container down as an image.
#[derive(Debug)]
pub struct Checkpoint {
    id: String,
    name: Reference,
    options: CheckpointOptions,
    found: Option<Found>,
}

/// What is written down.
#[derive(Debug)]
struct Found {
    container: Container,
    /// Whether it runs, and is paused meanwhile.
    runs: bool,
    /// What its image points to; none where a dry run made it.
    image: Option<Descriptor>,
    /// The snapshot that its files stand on.
    parent: Option<String>,
}

impl Checkpoint {
    /// Calls the image of the container `name`.
    #[must_use]
    pub fn new(id: &str, name: Reference, options: CheckpointOptions) -> Self {
        Self { id: id.to_owned(), name, options, found: None }
    }

    fn conflict(&self, state: &str, cure: Option<String>) -> Error {
        Error::Conflict { what: "container", name: self.id.clone(), state: state.to_owned(), cure }
    }

    async fn find(&self, ctx: &Context) -> Result<Found> {
        let container = get(ctx, &self.id).await?;
        if container.snapshot_key.is_empty() || container.image.is_empty() {
            return Err(self.conflict("is of no image, and could not be restored from a checkpoint", None));
        }
        if (self.options.exit || self.options.work_path.is_some()) && !self.options.task {
            return Err(Error::argument("exit and work_path", "are about the state of the processes; give task too"));
        }
        let task = status(ctx, &self.id).await?.filter(|task| task.status.is_alive());
        if self.options.task && task.is_none() {
            return Err(not_running(&self.id));
        }
        let runs = task.is_some_and(|task| task.status == Status::Running);
        if matches!(ctx.overlay().get::<Container>(&ctx.place_name(), &self.id), Seen::As(_)) {
            return Ok(Found { container, runs, image: None, parent: None });
        }
        if container.spec.is_none() {
            return Err(self.conflict("has a spec that is not for Linux", None));
        }
        let parent = snapshot::get(ctx, &container.snapshotter, &container.snapshot_key).await?.info.parent;
        let image = if self.options.image { Some(self.image(ctx, &container, parent.as_deref()).await?) } else { None };
        Ok(Found { container, runs, image, parent })
    }

    /// Finds the image, which goes in with all its platforms where they are all here, and else with this host's alone.
    async fn image(&self, ctx: &Context, container: &Container, parent: Option<&str>) -> Result<Descriptor> {
        let image = image::get(ctx, &container.image).await?;
        let (descriptor, _, config) = image::image_of(ctx, &image, &Matcher::host()).await?;
        if config.chain_ids().pop().map(|digest| digest.to_string()).as_deref() != parent {
            let state = format!("does not stand on the layers that {} has now", image.name);
            return Err(self.conflict(&state, Some("without image its changes alone are kept".to_owned())));
        }
        let store = ContainerdStore::new(ctx.client().await?, &image.name);
        let target = &image.target;
        for chosen in [target, &descriptor] {
            if store.holds(chosen).await? {
                return Ok(chosen.clone());
            }
        }
        Err(Error::Incomplete {
            image: image.name,
            missing: format!("not all of {} is in the store", descriptor.digest),
        })
    }

    /// Writes the parts. Returns them in the order of containerd's client.
    async fn parts(&self, ctx: &Context, client: &Client, found: &Found, undo: &mut Undo) -> Result<Vec<Descriptor>> {
        let container = &found.container;
        let mut parts = Vec::new();
        if let Some(options) = container.runtime.options_bytes() {
            parts.push(put(client, RUNTIME_OPTIONS, options).await?);
        }
        // The daemon adds the spec to the state that it takes.
        if let Some(spec) = container.spec_bytes()?.filter(|_| !self.options.task) {
            parts.push(put(client, SPEC, spec).await?);
        }
        parts.extend(found.image.clone());
        if self.options.rw {
            let packing = Packing {
                snapshotter: &container.snapshotter,
                from: None,
                to: &container.snapshot_key,
                media_type: &MediaType::parse(LAYER),
                reference: None,
                labels: &Labels::new(),
            };
            let layer = packing.run(ctx, client, undo).await?;
            parts.push(Descriptor { platform: Some(Platform::host()), ..layer });
        }
        if self.options.task {
            let options = tasks::CheckpointOptions {
                exit: self.options.exit,
                file_locks: true,
                work_path: self.options.work_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
                ..tasks::CheckpointOptions::default()
            };
            let taken = client.tasks().checkpoint(&self.id, &options).await;
            let taken = taken.map_err(|error| crate::ops::task::not_checkpointed(&self.id, error))?;
            parts.extend(taken.into_iter().map(|part| Descriptor { platform: Some(Platform::host()), ..part }));
            parts.push(put(client, CHECKPOINT_OPTIONS, options.to_bytes()).await?);
        }
        Ok(parts)
    }
}

/// Stores a part. The client should have a lease.
async fn put(client: &Client, media_type: &str, bytes: Vec<u8>) -> Result<Descriptor> {
    let mut part = Descriptor::new(MediaType::parse(media_type), Digest::sha256(&bytes), bytes.len() as u64);
    client.content().put(&part, Bytes::from(bytes), &Labels::new()).await?;
    part.platform = Some(Platform::host());
    Ok(part)
}

#[async_trait]
impl Operation for Checkpoint {
    type Output = Image;
    const NAME: &'static str = "checkpoint";

    fn subject(&self) -> String {
        format!("{} as {}", self.id, self.name)
    }

    /// The checkpoint's digest is not known before it is made: a dry run returns the name with nothing behind it.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        let found = self.find(ctx).await?;
        let name = self.name.to_string();
        let now = chrono::Utc::now();
        let target = Descriptor::new(MediaType::OciIndex, Digest::sha256(b""), 0);
        if !self.options.force {
            refuse_taken(ctx, &name, &target).await?;
        }
        let target = image::unknown(target, Self::NAME);
        let preview = Image { name: name.clone(), target, labels: Labels::new(), created_at: now, updated_at: now };
        let mut plan = Plan::new(preview.clone());
        if found.runs {
            plan = plan.step(Access::Run, ctx.target(), format!("pause container {} for a moment", self.id));
        }
        if self.options.task {
            let end = if self.options.exit { " and end it" } else { "" };
            plan = plan.step(Access::Run, ctx.target(), format!("checkpoint the task of {}{end}", self.id));
        }
        if let Some(path) = &self.options.work_path {
            plan = plan.host_path(ctx.local(path), format!("write the log of CRIU to {}", path.display()));
        }
        if self.options.rw {
            let action = format!("pack what container {} changed into a layer", self.id);
            plan = plan.step(Access::Write, ctx.target(), action);
        }
        let plan = plan
            .step(Access::Write, ctx.target(), format!("point image {name} to the checkpoint of {}", self.id))
            .effect(Effect::exists(&ctx.place_name(), &name, preview));
        self.found = Some(found);
        Ok(plan)
    }

    async fn apply(mut self, ctx: &Context) -> Result<Image> {
        let found = match self.found.take() {
            Some(found) => found,
            None => self.find(ctx).await?,
        };
        let leased = Leased::new(ctx).await?;
        let client = leased.client();
        // The views are taken back when all is done, too.
        let mut undo = Undo::new(ctx.debts());
        let mut pausing = Undo::new(ctx.debts());
        if found.runs {
            let (tasks, id) = (client.tasks(), self.id.clone());
            let (resuming, resumed) = (client.undoing().tasks(), self.id.clone());
            let back = async move { resuming.resume(&resumed).await };
            let what = format!("the pause of {id}");
            pausing.step(what, async move { freeze(&tasks, &id).await }, back).await??;
        }
        let parts = self.parts(ctx, client, &found, &mut undo).await?;
        if found.runs && !self.options.exit {
            client.tasks().resume(&self.id).await?;
        }
        pausing.forget();
        let Found { container, parent, .. } = found;
        let mut index = Index::of(parts);
        index.annotations = [
            (IMAGE_NAME, container.image),
            (RUNTIME, container.runtime.name),
            (SNAPSHOTTER, container.snapshotter),
            (PARENT, parent.unwrap_or_default()),
            (CONTAINER, format!("{}/{}", ctx.namespace(), self.id)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        // Cannot fail: all keys are strings.
        let bytes = Bytes::from(serde_json::to_vec(&index).unwrap_or_default());
        let root = Descriptor::new(MediaType::OciIndex, Digest::sha256(&bytes), bytes.len() as u64);
        let name = self.name.to_string();
        if !self.options.force {
            refuse_taken(ctx, &name, &root).await?;
        }
        client.content().put(&root, bytes, &content::gc_labels(&Parsed::Index(index))).await?;
        let image = client.images().put(&name, &root, &Labels::new()).await?;
        leased.release().await?;
        Ok(image)
    }
}
