//! `snapshots::prepare` and `snapshots::view`: make a snapshot that can be mounted.

use std::path::PathBuf;

use async_trait::async_trait;

use super::{Snapshot, attach, client, keeping, not_found, place, taken};
use crate::containerd::snapshots::{Info, Kind, Mount};
use crate::containerd::{self, Client, Labels};
use crate::grant::Access;
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Operation, Plan, Result, Seen, image};

/// What a preparation may be told.
#[derive(Debug, Clone, Default)]
pub struct PrepareOptions {
    /// Labels for the snapshot. An empty value leaves out one that it would have.
    pub labels: Labels,
    /// The snapshotter; without it, the place's default.
    pub snapshotter: Option<String>,
    /// The folder of this host to mount it on.
    pub target: Option<PathBuf>,
}

/// Makes an active snapshot, which can be written.
pub type Prepare = Make<false>;

/// Makes a view, which can be read.
pub type View = Make<true>;

/// Makes a snapshot.
#[derive(Debug)]
pub struct Make<const VIEW: bool> {
    key: String,
    parent: Option<String>,
    options: PrepareOptions,
}

impl<const VIEW: bool> Make<VIEW> {
    const KIND: Kind = if VIEW { Kind::View } else { Kind::Active };

    /// Makes it on a committed snapshot, or empty without a parent.
    #[must_use]
    pub fn new(key: &str, parent: Option<String>, options: PrepareOptions) -> Self {
        Self { key: key.to_owned(), parent, options }
    }

    fn preview(&self, ctx: &Context, snapshotter: &str) -> Snapshot {
        let now = chrono::Utc::now();
        let info = Info {
            name: self.key.clone(),
            parent: self.parent.clone(),
            kind: Self::KIND,
            created_at: now,
            updated_at: now,
            labels: keeping(ctx, &self.options.labels),
        };
        Snapshot { snapshotter: snapshotter.to_owned(), info }
    }
}

#[async_trait]
impl<const VIEW: bool> Operation for Make<VIEW> {
    type Output = Vec<Mount>;
    const NAME: &'static str = if VIEW { "view snapshot" } else { "prepare snapshot" };

    fn subject(&self) -> String {
        self.key.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Vec<Mount>>> {
        let snapshotter = image::snapshotter(ctx, self.options.snapshotter.as_deref()).await?;
        let at = place(ctx, &snapshotter);
        // Whether the key is free and the parent there is the daemon's to say; only a dry run asks first.
        if ctx.is_dry_run() {
            let is_taken = match ctx.overlay().get::<Snapshot>(&at, &self.key) {
                Seen::As(_) => true,
                Seen::Gone => false,
                Seen::Unknown => super::get(ctx, &snapshotter, &self.key).await.is_ok(),
            };
            if is_taken {
                return Err(taken(&self.key));
            }
            if let Some(parent) = &self.parent {
                super::get(ctx, &snapshotter, parent).await?;
            }
        }
        let on = self.parent.as_ref().map_or_else(String::new, |parent| format!(" on {parent}"));
        let mut plan = Plan::new(Vec::new())
            .step(Access::Write, ctx.target(), format!("make {} snapshot {}{on}", Self::KIND.as_str(), self.key))
            .effect(Effect::exists(&at, &self.key, self.preview(ctx, &snapshotter)));
        if let Some(target) = &self.options.target {
            let action = format!("mount snapshot {} on {}", self.key, target.display());
            plan = plan.host_path(ctx.local(target), action);
        }
        self.options.snapshotter = Some(snapshotter);
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Vec<Mount>> {
        let snapshotter = image::snapshotter(ctx, self.options.snapshotter.as_deref()).await?;
        let wanted = Wanted {
            key: self.key.clone(),
            parent: self.parent.clone(),
            kind: Self::KIND,
            labels: keeping(ctx, &self.options.labels),
        };
        let mut undo = Undo::new(ctx.debts());
        let mounts = match make(&client(ctx).await?, &snapshotter, wanted, &mut undo).await? {
            Ok(mounts) => mounts,
            Err(error) if error.is_already_exists() => return Err(taken(&self.key)),
            Err(error) if error.is_not_found() => {
                return Err(match &self.parent {
                    Some(parent) => not_found(ctx, &snapshotter, parent).await,
                    None => error.into(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(target) = &self.options.target {
            attach(&mounts, target)?;
        }
        undo.forget();
        Ok(mounts)
    }
}

/// A snapshot to be made.
pub(in crate::ops) struct Wanted {
    /// What it is to be called.
    pub(in crate::ops) key: String,
    /// What it stands on.
    pub(in crate::ops) parent: Option<String>,
    /// [`Kind::View`], or else active.
    pub(in crate::ops) kind: Kind,
    /// Its labels.
    pub(in crate::ops) labels: Labels,
}

/// Makes a snapshot, and says how it is taken back.
///
/// # Errors
/// The outer one when the operation was cancelled, the inner one what the daemon answered.
pub(in crate::ops) async fn make(
    client: &Client,
    snapshotter: &str,
    wanted: Wanted,
    undo: &mut Undo,
) -> Result<containerd::Result<Vec<Mount>>> {
    let what = format!("snapshot {} of {snapshotter}", wanted.key);
    let (undoing, key) = (client.undoing().snapshots(snapshotter), wanted.key.clone());
    let back = async move { undoing.remove(&key).await };
    let snapshots = client.snapshots(snapshotter);
    let step = async move {
        let Wanted { key, parent, kind, labels } = wanted;
        match kind {
            Kind::View => snapshots.view(&key, parent.as_deref(), &labels).await,
            _ => snapshots.prepare(&key, parent.as_deref(), &labels).await,
        }
    };
    undo.step(what, step, back).await
}
