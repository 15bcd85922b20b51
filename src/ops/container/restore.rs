//! `restore`: makes a container of a checkpoint, and starts it.

use async_trait::async_trait;
use chrono::DateTime;

use super::checkpoint::{CONTAINER, IMAGE_NAME, PARENT, RUNTIME, RUNTIME_OPTIONS, SNAPSHOTTER, SPEC, STATE};
use super::create::unpack;
use super::host::facts;
use super::rootfs::user_files;
use super::start::{Detached, Making, create_task_with, has_terminal, running};
use super::{STOP_SIGNAL_LABEL, Signal, Snapshot, network, reaching};
use crate::containerd::containers::{Container, Runtime, read_spec};
use crate::containerd::images::{Deletion, Image};
use crate::containerd::snapshots::{Kind, Mount};
use crate::containerd::{Client, Labels, identifier};
use crate::grant::Access;
use crate::oci::manifest::{self, Index};
use crate::oci::spec::{Basis, SpecOptions, UserFiles, build};
use crate::oci::{Descriptor, Digest, Error as OciError, ImageConfig, Manifest, Matcher, Parsed, Spec};
use crate::ops::lease::Leased;
use crate::ops::snapshot::{Wanted, make};
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Level, Operation, Plan, Result, Seen, image};

/// What a restoration may be told.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Whether the files that the container had changed come back.
    pub rw: bool,
    /// Whether its processes go on where they were.
    pub live: bool,
    /// Whether it is started.
    pub start: bool,
    /// The snapshotter; none for the one that it had.
    pub snapshotter: Option<String>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { rw: false, live: false, start: true, snapshotter: None }
    }
}

/// Makes a container of a checkpoint. When any step fails, nothing of it is left.
#[derive(Debug)]
pub struct Restore {
    id: String,
    checkpoint: String,
    options: RestoreOptions,
    found: Option<Found>,
}

/// What a checkpoint holds.
#[derive(Debug)]
struct Found {
    /// The image of the container, under its name.
    image: Image,
    /// Whether that has a record here.
    named: bool,
    manifest: Manifest,
    config: ImageConfig,
    runtime: Runtime,
    snapshotter: String,
    /// How it ran; none in what ctr wrote without `--task`.
    spec: Option<Spec>,
    /// What it had changed, when that is wanted.
    layer: Option<Descriptor>,
    /// The state of its processes, when that is wanted.
    state: Option<Descriptor>,
}

impl Restore {
    /// Makes a container with this id of the checkpoint that an image of this name is.
    #[must_use]
    pub fn new(id: &str, checkpoint: &str, options: RestoreOptions) -> Self {
        Self { id: id.to_owned(), checkpoint: checkpoint.to_owned(), options, found: None }
    }

    fn unusable(&self, state: impl Into<String>, cure: Option<&str>) -> Error {
        let cure = cure.map(str::to_owned);
        Error::Conflict { what: "image", name: self.checkpoint.clone(), state: state.into(), cure }
    }

    async fn part(&self, client: &Client, index: &Index, media_type: &str) -> Result<Option<Vec<u8>>> {
        match index.manifests.iter().find(|part| part.media_type.as_str() == media_type) {
            None => Ok(None),
            Some(part) => Ok(Some(client.content().bytes(&part.digest, manifest::MAX_SIZE).await?.to_vec())),
        }
    }

    async fn find(&self, ctx: &Context, checkpoint: &Image) -> Result<Found> {
        let client = ctx.client().await?;
        const CURE: &str = "container(ID).checkpoint(NAME) makes one";
        if !checkpoint.target.media_type.is_index() {
            return Err(self.unusable("is no checkpoint", Some(CURE)));
        }
        let bytes = client.content().bytes(&checkpoint.target.digest, manifest::MAX_SIZE).await?;
        let Parsed::Index(index) = Parsed::read(&checkpoint.target, &bytes)? else {
            return Err(self.unusable("is no checkpoint", Some(CURE)));
        };
        let said = |key: &str| index.annotations.get(key).filter(|value| !value.is_empty()).cloned();
        let (Some(name), Some(runtime), Some(snapshotter)) = (said(IMAGE_NAME), said(RUNTIME), said(SNAPSHOTTER))
        else {
            return Err(self.unusable("is no checkpoint", Some(CURE)));
        };
        let broken = |what, reason| {
            Error::from(OciError::Document { what, digest: checkpoint.target.digest.to_string(), reason })
        };
        let options = self.part(&client, &index, RUNTIME_OPTIONS).await?;
        let runtime =
            Runtime::read(&runtime, options.as_deref()).map_err(|why| broken("runtime of checkpoint", why))?;
        let spec = self.part(&client, &index, SPEC).await?;
        let spec = spec.map(|bytes| read_spec(&bytes)).transpose().map_err(|why| broken("spec of checkpoint", why))?;
        let spec = spec.map(|spec| self.adapt(ctx, spec, said(CONTAINER).as_deref()));
        let (image, named) = self.image(ctx, &index, &name).await?;
        let (_, manifest, config) = image::image_of(ctx, &image, &Matcher::host()).await?;
        let top = config.chain_ids().pop().map(|digest| digest.to_string()).unwrap_or_default();
        let mut layer = None;
        if self.options.rw {
            layer = index.manifests.iter().find(|part| part.media_type.is_layer()).cloned();
            if layer.is_none() {
                let cure = "it was made without rw; without rw it is restored with the image's files";
                return Err(self.unusable("holds no changed files", Some(cure)));
            }
            if index.annotations.get(PARENT).is_some_and(|parent| *parent != top) {
                let state = format!("holds changes of other layers than {name} has now");
                return Err(self.unusable(state, Some("a checkpoint with image has its layers with it")));
            }
        }
        let state = index.manifests.iter().find(|part| part.media_type.as_str() == STATE).cloned();
        let state = state.filter(|_| self.options.live);
        if self.options.live && state.is_none() {
            let cure = "it was made without task; without live its program is started anew";
            return Err(self.unusable("holds no state of processes", Some(cure)));
        }
        let snapshotter = self.options.snapshotter.clone().unwrap_or(snapshotter);
        Ok(Found { image, named, manifest, config, runtime, snapshotter, spec, layer, state })
    }

    /// Finds the container's image: the checkpoint's own, or the one that has its name here.
    async fn image(&self, ctx: &Context, index: &Index, name: &str) -> Result<(Image, bool)> {
        let own = index.manifests.iter().find(|part| part.media_type.is_manifest() || part.media_type.is_index());
        let record = match ctx.client().await?.images().get(name).await {
            Ok(image) => Some(image),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let named = record.is_some();
        match (own, record) {
            (Some(own), record) => {
                let target = Descriptor::new(own.media_type.clone(), own.digest.clone(), own.size);
                let now = chrono::Utc::now();
                let made = Image {
                    name: name.to_owned(),
                    target: target.clone(),
                    labels: Labels::new(),
                    created_at: now,
                    updated_at: now,
                };
                Ok((record.map_or(made, |record| Image { target, ..record }), named))
            }
            (None, Some(record)) => Ok((record, true)),
            (None, None) => Err(Error::NotFound {
                what: "image",
                name: name.to_owned(),
                nearest: None,
                cure: Some(format!("the checkpoint was made without image: pull(\"{name}\") fetches it")),
            }),
        }
    }

    /// Takes out of the spec what was the old container's own.
    fn adapt(&self, ctx: &Context, mut spec: Spec, old: Option<&str>) -> Spec {
        let (Some((namespace, id)), Some(linux)) = (old.and_then(|old| old.split_once('/')), &mut spec.linux) else {
            return spec;
        };
        if linux.cgroups_path == format!("/{namespace}/{id}") {
            linux.cgroups_path = format!("/{}/{}", ctx.namespace(), self.id);
        }
        let network = network::netns(namespace, id).to_string_lossy().into_owned();
        for joined in linux.namespaces.iter_mut().filter(|joined| joined.path == network) {
            joined.path = String::new();
            ctx.note(Level::Warn, &format!("{} had a network by cni, and {} has none of its own", id, self.id));
        }
        spec
    }

    fn record(&self, name: String, found: Option<&Found>, spec: Option<Spec>) -> Container {
        let signal = found.and_then(|found| found.config.config.stop_signal.clone()).filter(|text| !text.is_empty());
        let signal = signal.unwrap_or_else(|| Signal::TERM.to_string());
        Container {
            id: self.id.clone(),
            image: name,
            labels: [(STOP_SIGNAL_LABEL.to_owned(), signal)].into(),
            created_at: DateTime::default(),
            updated_at: DateTime::default(),
            runtime: found.map(|found| found.runtime.clone()).unwrap_or_default(),
            snapshotter: found.map(|found| found.snapshotter.clone()).unwrap_or_default(),
            snapshot_key: self.id.clone(),
            spec,
            extensions: Default::default(),
            sandbox: None,
        }
    }

    /// Makes a spec as `create` does, for a checkpoint that has none.
    fn build(&self, ctx: &Context, config: &ImageConfig, users: &UserFiles, options: &SpecOptions) -> Result<Spec> {
        let facts = facts(options);
        let basis = Basis { namespace: ctx.namespace(), id: &self.id, image: Some(config), users, host: &facts };
        Ok(build(&basis, options)?)
    }

    fn taken(&self, what: &'static str) -> Error {
        let cure = Some("choose another id for the container".to_owned());
        Error::AlreadyExists { what, name: self.id.clone(), cure }
    }

    fn not_restored(&self, error: &Error) -> Error {
        Error::Conflict {
            what: "container",
            name: self.id.clone(),
            state: format!("could not go on where it was: {error}"),
            cure: Some(
                "this needs CRIU (the package criu) and a kernel for it: criu check; without live it starts anew"
                    .into(),
            ),
        }
    }

    /// Makes the root filesystem.
    async fn files(&self, ctx: &Context, client: &Client, found: &Found, undo: &mut Undo) -> Result<Vec<Mount>> {
        let parent = found.config.chain_ids().last().map(Digest::to_string);
        let snapshots = client.snapshots(&found.snapshotter);
        if let Some(parent) = &parent {
            match snapshots.stat(parent).await {
                Err(error) if error.is_not_found() => unpack(ctx, client, &found.snapshotter, &found.manifest).await?,
                other => drop(other?),
            }
        }
        let wanted = Wanted { key: self.id.clone(), parent, kind: Kind::Active, labels: Labels::new() };
        let mounts = match make(client, &found.snapshotter, wanted, undo).await? {
            Err(error) if error.is_already_exists() => return Err(self.taken("snapshot")),
            other => other?,
        };
        if let Some(layer) = &found.layer {
            client.diff().apply(layer, &mounts).await?;
        }
        Ok(mounts)
    }
}

#[async_trait]
impl Operation for Restore {
    type Output = Container;
    const NAME: &'static str = "restore";

    fn subject(&self) -> String {
        format!("{} from {}", self.id, self.checkpoint)
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Container>> {
        identifier::check("container id", &self.id)?;
        let checkpoint = image::get(ctx, &self.checkpoint).await?;
        self.checkpoint.clone_from(&checkpoint.name);
        match super::get(ctx, &self.id).await {
            Ok(_) => return Err(self.taken("container")),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        // What a dry run has only pretended to write has nothing to look into.
        let pretended = matches!(ctx.overlay().get::<Image>(&ctx.place_name(), &checkpoint.name), Seen::As(_));
        let found = if pretended { None } else { Some(self.find(ctx, &checkpoint).await?) };
        let spec = match &found {
            Some(Found { spec: None, config, .. }) => {
                // Names are looked up in the files, which are not there yet.
                let guess = SpecOptions { user: Some("0:0".into()), ..SpecOptions::default() };
                Some(self.build(ctx, config, &UserFiles::None, &guess)?)
            }
            other => other.as_ref().and_then(|found| found.spec.clone()),
        };
        let name = found.as_ref().map(|found| found.image.name.clone()).unwrap_or_default();
        let preview = self.record(name, found.as_ref(), spec);
        let mut plan = Plan::new(preview.clone());
        if let Some(found) = found.as_ref().filter(|found| !found.named) {
            let action = format!("point image {} to {}", found.image.name, found.image.target.digest);
            plan = plan.step(Access::Write, ctx.target(), action);
        }
        plan = plan.step(Access::Write, ctx.target(), format!("prepare snapshot {}", self.id));
        if self.options.rw {
            plan = plan.step(Access::Write, ctx.target(), format!("bring back what {} holds", self.checkpoint));
        }
        let action = format!("create container {} from {}", self.id, self.checkpoint);
        plan = plan.step(Access::Run, ctx.target(), action);
        plan = reaching(plan, ctx, &preview, |reason| format!("let container {} reach the host: it {reason}", self.id));
        if self.options.start {
            let task = running(&self.id, &Default::default());
            plan = plan.step(Access::Run, ctx.target(), format!("start container {}", self.id)).effect(Effect::exists(
                &ctx.place_name(),
                &self.id,
                task,
            ));
        } else if self.options.live {
            return Err(Error::argument("live", "starts it; leave start out"));
        }
        self.found = found;
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, preview)))
    }

    async fn apply(mut self, ctx: &Context) -> Result<Container> {
        let Some(found) = self.found.take() else { return Err(Error::not_found("image", &self.checkpoint, [])) };
        let mut undo = Undo::new(ctx.debts());
        let leased = Leased::new(ctx).await?;
        let client = leased.client();
        let mounts = self.files(ctx, client, &found, &mut undo).await?;
        let spec = match found.spec.clone() {
            Some(spec) => spec,
            None => {
                let text = format!("{} has no spec: {} gets its image's, as create gives it", self.checkpoint, self.id);
                ctx.note(Level::Warn, &text);
                let users = tokio::task::spawn_blocking(move || user_files(&mounts)).await;
                let users = users.unwrap_or_else(|error| UserFiles::Unreadable(error.to_string()));
                self.build(ctx, &found.config, &users, &SpecOptions::default())?
            }
        };
        if !found.named {
            let Image { name, target, .. } = found.image.clone();
            let (images, undoing, gone) = (client.images(), client.undoing().images(), name.clone());
            let back = async move { undoing.delete(&gone, None, Deletion::Later).await };
            let step = async move { images.create(&name, &target, &Labels::new()).await };
            match undo.step(format!("image {}", found.image.name), step, back).await? {
                Err(error) if error.is_already_exists() => {}
                other => drop(other?),
            }
        }
        let record = self.record(found.image.name.clone(), Some(&found), Some(spec));
        let (containers, undoing, gone) = (client.containers(), client.undoing().containers(), self.id.clone());
        let back = async move { undoing.delete(&gone).await };
        let step = async move { containers.create(&record).await };
        let container = match undo.step(format!("container {}", self.id), step, back).await? {
            Err(error) if error.is_already_exists() => return Err(self.taken("container")),
            other => other?,
        };
        leased.release().await?;
        if self.options.start {
            let client = ctx.client().await?;
            let terminal = has_terminal(&container);
            let output = Detached::choose(ctx, &self.id, None, None, terminal)?;
            let stdio = output.stdio(terminal);
            let is_live = found.state.is_some();
            let fresh = Snapshot { container: container.clone(), task: None };
            let making = Making { checkpoint: found.state, ..Making::default() };
            let created = create_task_with(&client, &fresh, &stdio, making, &mut undo).await;
            created.map_err(|error| if is_live { self.not_restored(&error) } else { error })?;
            client.tasks().start(&self.id, "").await.map_err(|error| {
                let error = Error::from(error);
                if is_live { self.not_restored(&error) } else { error }
            })?;
            output.leave();
        }
        undo.forget();
        Ok(container)
    }
}
