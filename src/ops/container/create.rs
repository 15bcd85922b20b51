//! `create`: makes a container from an image.

use async_trait::async_trait;
use chrono::DateTime;
use tokio::sync::oneshot;

use super::host::facts;
use super::rootfs::user_files;
use super::{STOP_SIGNAL_LABEL, Signal, reach};
use crate::containerd::containers::{Container, DEFAULT_RUNTIME, RuncOptions, Runtime};
use crate::containerd::images::Image;
use crate::containerd::{Client, Labels, identifier};
use crate::grant::Access;
use crate::oci::spec::{Basis, SpecOptions, UserFiles, build};
use crate::oci::{Digest, ImageConfig, Manifest, Matcher, Spec};
use crate::ops::lease::Leased;
use crate::ops::undo::Undo;
use crate::ops::unpack::Unpacker;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, Seen, image};

/// The longest key and value of a label together (containerd `pkg/labels`).
const MAX_LABEL: usize = 4096;

/// How a container is made.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// How it runs; its labels are the container's.
    pub spec: SpecOptions,
    /// The snapshotter; none for the default.
    pub snapshotter: Option<String>,
    /// Labels of the snapshot.
    pub snapshotter_labels: Labels,
    /// The runtime; none for `io.containerd.runc.v2`.
    pub runtime: Option<String>,
    /// Options of a runc runtime.
    pub runc: RuncOptions,
    /// Which platform of the image.
    pub platform: Option<Matcher>,
}

/// Makes a container: a snapshot of its own on the image's layers, and a record.
#[derive(Debug)]
pub struct Create {
    id: String,
    image: String,
    options: CreateOptions,
    found: Option<(Image, Option<(Manifest, ImageConfig)>)>,
}

impl Create {
    /// Makes a container with this id from an image, or with `spec.rootfs` from a folder of the host and no image.
    #[must_use]
    pub fn new(id: &str, image: &str, options: CreateOptions) -> Self {
        Self { id: id.to_owned(), image: image.to_owned(), options, found: None }
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn config(&self) -> Option<&ImageConfig> {
        self.found.as_ref().and_then(|(_, content)| content.as_ref()).map(|(_, config)| config)
    }

    fn build(&self, ctx: &Context, options: &SpecOptions, users: &UserFiles) -> Result<Spec> {
        let facts = facts(options);
        let basis = Basis { namespace: ctx.namespace(), id: &self.id, image: self.config(), users, host: &facts };
        Ok(build(&basis, options)?)
    }

    /// Returns the labels: the image author's, the image record's, then those asked for.
    fn labels(&self) -> Labels {
        let mut labels = Labels::new();
        if let Some((image, _)) = &self.found {
            let config = self.config();
            let of_config = config.iter().flat_map(|config| &config.config.labels);
            for (key, value) in of_config.chain(&image.labels) {
                // What an image says must not steer containerd itself (CVE-2026-53488).
                let reserved = key.starts_with("containerd.io/") || key.starts_with("io.cri-containerd");
                if !reserved && key.len() + value.len() <= MAX_LABEL {
                    labels.insert(key.clone(), value.clone());
                }
            }
            let signal = config.and_then(|config| config.config.stop_signal.clone());
            let signal = signal.filter(|signal| !signal.is_empty()).unwrap_or_else(|| Signal::TERM.to_string());
            labels.insert(STOP_SIGNAL_LABEL.to_owned(), signal);
        }
        labels.extend(self.options.spec.labels.clone());
        labels
    }

    fn record(&self, spec: Option<Spec>, snapshotter: String) -> Container {
        let name = self.options.runtime.clone().unwrap_or_else(|| DEFAULT_RUNTIME.to_owned());
        let runc = name.starts_with("io.containerd.runc.");
        Container {
            id: self.id.clone(),
            image: self.found.as_ref().map(|(image, _)| image.name.clone()).unwrap_or_default(),
            labels: self.labels(),
            created_at: DateTime::default(),
            updated_at: DateTime::default(),
            runtime: Runtime { name, options: runc.then(|| self.options.runc.clone()) },
            snapshot_key: if snapshotter.is_empty() { String::new() } else { self.id.clone() },
            snapshotter,
            spec,
            extensions: std::collections::BTreeMap::new(),
            sandbox: None,
        }
    }

    fn reach(&self, record: &Container) -> Option<&'static str> {
        let runc = &self.options.runc;
        if !record.runtime.name.starts_with("io.containerd.") || !runc.binary_name.is_empty() || !runc.root.is_empty() {
            return Some("is run by a program of the host");
        }
        reach(record.spec.as_ref(), &self.options.spec.labels)
    }

    fn taken(&self) -> Error {
        Error::AlreadyExists {
            what: "container",
            name: self.id.clone(),
            cure: Some(format!("container(\"{0}\").delete() removes it, or choose another id", self.id)),
        }
    }
}

#[async_trait]
impl Operation for Create {
    type Output = Container;
    const NAME: &'static str = "create";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Container>> {
        identifier::check("container id", &self.id)?;
        let mut snapshotter = String::new();
        if self.options.spec.rootfs.is_none() {
            let image = image::get(ctx, &self.image).await?;
            let matcher = self.options.platform.clone().unwrap_or_else(Matcher::host);
            let content = match image::image_of(ctx, &image, &matcher).await {
                Ok((_, manifest, config)) => Some((manifest, config)),
                // What a dry run has only pretended to pull has no content to look into.
                Err(_) if matches!(ctx.overlay().get::<Image>(&ctx.place_name(), &image.name), Seen::As(_)) => None,
                Err(error) => return Err(error),
            };
            self.found = Some((image, content));
            snapshotter = image::snapshotter(ctx, self.options.snapshotter.as_deref()).await?;
        }
        // Names are looked up in the snapshot, which is not there yet; who it runs as does not change what it reaches.
        let guess = SpecOptions { user: Some("0:0".into()), ..self.options.spec.clone() };
        let spec = match self.build(ctx, &guess, &UserFiles::None) {
            Ok(spec) => Some(spec),
            Err(_) if self.found.is_some() && self.config().is_none() => None,
            Err(error) => return Err(error),
        };
        let preview = self.record(spec, snapshotter);
        if ctx.is_dry_run() {
            match super::get(ctx, &self.id).await {
                Ok(_) => return Err(self.taken()),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let of = if preview.image.is_empty() { String::new() } else { format!(" from {}", preview.image) };
        let mut plan = Plan::new(preview.clone());
        if !preview.snapshotter.is_empty() {
            plan = plan.step(Access::Write, ctx.target(), format!("prepare snapshot {}", self.id));
        }
        plan = plan.step(Access::Run, ctx.target(), format!("create container {}{of}", self.id));
        if let Some(reason) = self.reach(&preview) {
            plan =
                plan.step(Access::Host, ctx.target(), format!("let container {} reach the host: it {reason}", self.id));
        }
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Container> {
        if self.options.spec.rootfs.is_some() {
            let spec = self.build(ctx, &self.options.spec, &host_users(&self.options.spec))?;
            let record = self.record(Some(spec), String::new());
            let mut undo = Undo::new(ctx.debts());
            let made = self.write(&ctx.client().await?, record, &mut undo).await?;
            undo.forget();
            return Ok(made);
        }
        let Some((_, Some((manifest, config)))) = &self.found else {
            return Err(Error::not_found("image", &self.image, []));
        };
        let snapshotter = image::snapshotter(ctx, self.options.snapshotter.as_deref()).await?;
        let top = config.chain_ids().last().map(Digest::to_string);
        // Until the record refers to it, only a lease keeps the snapshot from the collector.
        let leased = Leased::new(ctx).await?;
        let client = leased.client();
        let snapshots = client.snapshots(&snapshotter);
        let prepared = snapshots.prepare(&self.id, top.as_deref(), &self.options.snapshotter_labels).await;
        let mounts = match prepared {
            Ok(mounts) => mounts,
            Err(error) if error.is_already_exists() => return Err(self.occupied(ctx, &snapshotter).await),
            Err(error) if error.is_not_found() => {
                unpack(ctx, client, &snapshotter, manifest).await?;
                snapshots.prepare(&self.id, top.as_deref(), &self.options.snapshotter_labels).await?
            }
            Err(error) => return Err(error.into()),
        };
        let mut undo = Undo::new(ctx.debts());
        let (undoing, key) = (client.undoing().snapshots(&snapshotter), self.id.clone());
        undo.push(async move {
            if let Err(error) = undoing.remove(&key).await
                && !error.is_not_found()
            {
                tracing::warn!(%key, %error, "a snapshot was left behind");
            }
        });
        let users = tokio::task::spawn_blocking(move || user_files(&mounts))
            .await
            .unwrap_or_else(|error| UserFiles::Unreadable(error.to_string()));
        let spec = self.build(ctx, &self.options.spec, &users)?;
        let record = self.record(Some(spec), snapshotter);
        let made = self.write(client, record, &mut undo).await?;
        undo.forget();
        leased.release().await?;
        Ok(made)
    }
}

impl Create {
    /// Writes the record, in a task of its own: a request that is dropped half way may be carried out all the same, and
    /// whoever takes it back has to know.
    async fn write(&self, client: &Client, record: Container, undo: &mut Undo) -> Result<Container> {
        let (tell, told) = oneshot::channel();
        let (undoing, id) = (client.undoing().containers(), record.id.clone());
        undo.push(async move {
            if told.await == Ok(true) {
                let _ = undoing.delete(&id).await;
            }
        });
        let maker = client.containers();
        let making = tokio::spawn(async move {
            let made = maker.create(&record).await;
            let _ = tell.send(made.is_ok());
            made
        });
        match making.await.map_err(|_| Error::Cancelled)? {
            Err(error) if error.is_already_exists() => Err(self.taken()),
            other => Ok(other?),
        }
    }

    /// Says whose the snapshot is that has the container's id already.
    async fn occupied(&self, ctx: &Context, snapshotter: &str) -> Error {
        match super::get(ctx, &self.id).await {
            Ok(_) => self.taken(),
            Err(_) => Error::AlreadyExists {
                what: "snapshot",
                name: self.id.clone(),
                cure: Some(format!(
                    "no container uses it; remove it from {snapshotter}, or choose another id for the container"
                )),
            },
        }
    }
}

/// Unpacks an image whose content is here, as `ctr run` does.
async fn unpack(ctx: &Context, client: &Client, snapshotter: &str, manifest: &Manifest) -> Result<()> {
    let (feed, unpacker) = Unpacker::new(client, snapshotter, manifest, ctx.progress(), ctx.debts());
    feed.arrived(&manifest.config);
    for layer in &manifest.layers {
        feed.arrived(layer);
    }
    drop(feed);
    unpacker.run().await?;
    Ok(())
}

/// Reads the user files of a folder of the host.
fn host_users(options: &SpecOptions) -> UserFiles {
    let source = options.rootfs.clone().unwrap_or_default();
    user_files(&[crate::containerd::snapshots::Mount {
        kind: "bind".to_owned(),
        source,
        target: String::new(),
        options: Vec::new(),
    }])
}
