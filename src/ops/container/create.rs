//! `create`: makes a container from an image.

use async_trait::async_trait;
use chrono::DateTime;

use super::host::facts;
use super::network::{self, NetworkOptions};
use super::rootfs::user_files;
use super::userns::{Maps, moves_ids, remapped};
use super::{STOP_SIGNAL_LABEL, Signal, reaching};
use crate::containerd::containers::{Container, DEFAULT_RUNTIME, Extension, RuncOptions, Runtime};
use crate::containerd::images::Image;
use crate::containerd::{Client, Labels, identifier};
use crate::grant::Access;
use crate::oci::spec::{Basis, NamespaceJoin, SpecOptions, UserFiles, build};
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
    /// The file with the options of a runtime that is no runc.
    pub runtime_config_path: Option<String>,
    /// Which platform of the image.
    pub platform: Option<Matcher>,
    /// The sandbox that it belongs to; containerd 1.7 and later.
    pub sandbox: Option<String>,
    /// Leaves the ids of a user namespace to a snapshotter that moves them, in place of making a root filesystem that has them.
    pub remap_labels: bool,
    /// Gives it a network of the host's.
    pub network: Option<NetworkOptions>,
    /// Loads containerd's default AppArmor profile under this name, and runs it under that.
    pub apparmor_default_profile: Option<String>,
}

/// Makes a container: a snapshot of its own on the image's layers, and a record.
#[derive(Debug)]
pub struct Create {
    id: String,
    image: String,
    options: CreateOptions,
    found: Option<(Image, Option<(Manifest, ImageConfig)>)>,
    extension: Option<(String, Extension)>,
    /// Whether the root filesystem is made anew, with the owners of a user namespace.
    remaps: bool,
}

impl Create {
    /// Makes a container with this id from an image, or with `spec.rootfs` from a folder of the host and no image.
    #[must_use]
    pub fn new(id: &str, image: &str, options: CreateOptions) -> Self {
        Self { id: id.to_owned(), image: image.to_owned(), options, found: None, extension: None, remaps: false }
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
            runtime: Runtime {
                name,
                options: runc.then(|| self.options.runc.clone()),
                config_path: self.options.runtime_config_path.clone(),
            },
            snapshot_key: if snapshotter.is_empty() { String::new() } else { self.id.clone() },
            snapshotter,
            spec,
            extensions: self.extension.clone().into_iter().collect(),
            sandbox: self.options.sandbox.clone(),
        }
    }

    /// Refuses options that contradict one another, and works out those that say something of the spec.
    fn settle(&mut self, namespace: &str) -> Result<()> {
        let options = &mut self.options;
        let name = options.runtime.as_deref().unwrap_or(DEFAULT_RUNTIME);
        let is_runc = name.starts_with("io.containerd.runc.");
        if is_runc && options.runtime_config_path.is_some() {
            return Err(Error::argument("runtime_config_path", "is for runtimes that are no runc; give runtime too"));
        }
        if !is_runc && options.runc != RuncOptions::default() {
            return Err(Error::argument("runtime", format!("{name} takes no options of runc")));
        }
        if options.runc.systemd_cgroup && options.spec.cgroup.as_deref().is_none_or(str::is_empty) {
            return Err(Error::argument("runc_systemd_cgroup", "needs cgroup, such as machine.slice:ctrsh:box"));
        }
        if options.remap_labels && options.spec.uid_map.is_empty() {
            return Err(Error::argument("remap_labels", "says something of uidmap and gidmap; give them too"));
        }
        if let Some(profile) = &options.apparmor_default_profile {
            if options.spec.apparmor_profile.as_ref().is_some_and(|other| other != profile) {
                return Err(Error::argument("apparmor_profile", "and apparmor_default_profile cannot both be given"));
            }
            options.spec.apparmor_profile = Some(profile.clone());
        }
        if let Some(wanted) = &options.network {
            let joins = options.spec.with_ns.iter().any(|join| join.kind == "network");
            if options.spec.net_host || joins || options.spec.config.is_some() {
                return Err(Error::argument("cni", "makes a network; net_host, with_ns and config name another one"));
            }
            self.extension = Some(network::choose(namespace, &self.id, wanted)?);
            let path = network::netns(namespace, &self.id).to_string_lossy().into_owned();
            options.spec.with_ns.push(NamespaceJoin { kind: "network".to_owned(), path });
        }
        Ok(())
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
        self.settle(ctx.namespace())?;
        if let Some(sandbox) = &self.options.sandbox {
            // containerd would make the record for one that is not there.
            crate::ops::sandbox::get(ctx, sandbox).await?;
        }
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
            let left_to_it = self.options.remap_labels && moves_ids(ctx, &snapshotter).await?;
            self.remaps = !self.options.spec.uid_map.is_empty() && !left_to_it;
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
        plan = reaching(plan, ctx, &preview, |reason| format!("let container {} reach the host: it {reason}", self.id));
        if let Some(profile) = &self.options.apparmor_default_profile {
            plan = plan.step(Access::Host, ctx.target(), format!("load the AppArmor profile {profile}"));
        }
        if self.remaps {
            plan = plan.step(Access::Host, ctx.target(), "mount the image and change the owners of its files");
        }
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Container> {
        if let Some(profile) = self.options.apparmor_default_profile.clone() {
            let loaded = tokio::task::spawn_blocking(move || super::apparmor::load_default(&profile)).await;
            loaded??;
        }
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
        let mut labels = self.options.snapshotter_labels.clone();
        let maps = Maps { users: &self.options.spec.uid_map, groups: &self.options.spec.gid_map };
        if self.options.remap_labels {
            labels.extend(maps.labels());
        }
        let shifted = async || {
            unpack(ctx, client, &snapshotter, manifest).await?;
            let undoing = client.undoing().snapshots(&snapshotter);
            remapped(ctx, &snapshots, undoing, top.as_deref(), maps).await
        };
        let parent = if self.remaps { Some(shifted().await?) } else { top.clone() };
        let prepared = snapshots.prepare(&self.id, parent.as_deref(), &labels).await;
        let mounts = match prepared {
            Ok(mounts) => mounts,
            Err(error) if error.is_already_exists() => return Err(self.occupied(ctx, &snapshotter).await),
            Err(error) if error.is_not_found() && self.remaps => {
                // It was there, and nothing kept it from the collector; what is made now the lease keeps.
                let parent = shifted().await?;
                snapshots.prepare(&self.id, Some(&parent), &labels).await?
            }
            Err(error) if error.is_not_found() => {
                unpack(ctx, client, &snapshotter, manifest).await?;
                snapshots.prepare(&self.id, parent.as_deref(), &labels).await?
            }
            Err(error) => return Err(error.into()),
        };
        let mut undo = Undo::new(ctx.debts());
        let (undoing, key) = (client.undoing().snapshots(&snapshotter), self.id.clone());
        undo.push(format!("snapshot {key} of {snapshotter}"), async move { undoing.remove(&key).await });
        let users = tokio::task::spawn_blocking(move || user_files(&mounts))
            .await
            .unwrap_or_else(|error| UserFiles::Unreadable(error.to_string()));
        let spec = self.build(ctx, &self.options.spec, &users)?;
        let record = self.record(Some(spec), snapshotter);
        let made = self.write(client, record, &mut undo).await?;
        // Whoever drops this while the lease is let go knows of no container yet.
        leased.release().await?;
        undo.forget();
        Ok(made)
    }
}

impl Create {
    /// Writes the record.
    async fn write(&self, client: &Client, record: Container, undo: &mut Undo) -> Result<Container> {
        let what = format!("container {}", record.id);
        let (undoing, id) = (client.undoing().containers(), record.id.clone());
        let back = async move { undoing.delete(&id).await };
        let (containers, sandbox) = (client.containers(), record.sandbox.clone());
        let step = async move { containers.create(&record).await };
        match undo.step(what, step, back).await? {
            Err(error) if error.is_already_exists() => Err(self.taken()),
            Ok(made) if made.sandbox != sandbox => Err(Error::Argument {
                name: "sandbox".to_owned(),
                problem: "is not kept by this containerd".to_owned(),
                cure: Some("containers belong to sandboxes since containerd 1.7".to_owned()),
            }),
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
pub(super) async fn unpack(ctx: &Context, client: &Client, snapshotter: &str, manifest: &Manifest) -> Result<()> {
    let (feed, unpacker) = Unpacker::new(client, snapshotter, manifest, ctx.progress(), ctx.debts());
    feed.arrived(&manifest.config);
    for layer in &manifest.layers {
        feed.arrived(layer);
    }
    drop(feed);
    unpacker.run().await?;
    Ok(())
}

/// Returns why a container with this runtime needs access to the host, if it does.
pub(super) fn runs_on_host(runtime: &Runtime) -> Option<&'static str> {
    let runc = runtime.options.as_ref();
    let named = runc.is_some_and(|runc| !runc.binary_name.is_empty() || !runc.root.is_empty());
    let of_host = named || runtime.config_path.is_some() || !runtime.name.starts_with("io.containerd.");
    of_host.then_some("is run by a program of the host")
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
