//! `namespaces::purge`: removes a namespace with all that is in it.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{Delete, get};
use crate::containerd::Client;
use crate::containerd::content::{Info, Status};
use crate::containerd::images::{Deletion, Image};
use crate::containerd::leases::Lease;
use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::oci::Digest;
use crate::ops::disk::{Bytes, Item, everywhere, measure};
use crate::ops::error::settled;
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, container, content, lease, sandbox, snapshot, task};

/// How many containers, and how many blobs, are removed at the same time.
const PARALLEL: usize = 8;
/// How many running containers are named when they stand against it.
const NAMED: usize = 5;

/// Removes a namespace: its containers with what runs in them, sandboxes, images, ingests, snapshots, content and leases.
#[derive(Debug)]
pub struct Purge {
    name: String,
    force: bool,
    cgroup: bool,
    containers: Vec<container::Delete>,
    sandboxes: Vec<sandbox::Delete>,
    snapshots: Vec<snapshot::Delete>,
    blobs: Vec<Digest>,
    found: Purged,
}

/// What went with a namespace; in a plan, what would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// The namespace.
    pub namespace: String,
    /// The ids of its containers, sorted.
    pub containers: Vec<String>,
    /// The ids of its sandboxes, sorted.
    pub sandboxes: Vec<String>,
    /// The names of its images, sorted.
    pub images: Vec<String>,
    /// The refs of what was being written, sorted.
    pub ingests: Vec<String>,
    /// The ids of its leases, sorted.
    pub leases: Vec<String>,
    /// How many snapshots it had.
    pub snapshots: u64,
    /// How many blobs it had.
    pub blobs: u64,
    /// What no other namespace holds.
    pub freed: Bytes,
}

impl Purge {
    /// Removes this namespace; with `force`, what runs in it is killed first, and with `cgroup` its cgroup goes too.
    #[must_use]
    pub fn new(name: &str, force: bool, cgroup: bool) -> Self {
        Self {
            name: name.to_owned(),
            force,
            cgroup,
            containers: Vec::new(),
            sandboxes: Vec::new(),
            snapshots: Vec::new(),
            blobs: Vec::new(),
            found: Purged { namespace: name.to_owned(), ..Purged::default() },
        }
    }

    /// Works out what would go, without the permission to do it, and whatever runs.
    ///
    /// # Errors
    /// When there is no connection, or reading one of the namespaces was not granted.
    pub async fn preview(mut self, ctx: &Context) -> Result<Purged> {
        self.force = true;
        Ok(self.plan(ctx).await?.preview)
    }

    /// Says which containers run.
    async fn running(&self, inside: &Context) -> Result<()> {
        let mut runs = task::list(inside).await?;
        runs.retain(|task| task.status.is_alive() && self.found.containers.contains(&task.id));
        if runs.is_empty() {
            return Ok(());
        }
        let named: Vec<&str> = runs.iter().take(NAMED).map(|task| task.id.as_str()).collect();
        let more = match runs.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(Error::Conflict {
            what: "namespace",
            name: self.name.clone(),
            state: format!("has containers that run: {}{more}", named.join(", ")),
            cure: Some("stop them first, or give #{ force: true }, which kills them".to_owned()),
        })
    }

    /// Adds what the namespace keeps on disk, by snapshotters and as a whole: what is in it for images is legion.
    async fn stored(&mut self, ctx: &Context, inside: &Context, mut plan: Plan<()>) -> Result<Plan<()>> {
        let (here, others): (Vec<_>, Vec<_>) =
            everywhere(ctx).await?.into_iter().partition(|place| place.namespace == self.name);
        let elsewhere: HashSet<&Digest> = others.iter().flat_map(|place| place.blobs.keys()).collect();
        let Some(held) = here.into_iter().next() else { return Ok(plan) };
        let sizes = measure(ctx, &self.name, held.snapshots.keys()).await?;
        let mut keys: BTreeMap<&str, (Vec<String>, u64)> = BTreeMap::new();
        for item in held.snapshots.keys() {
            if let Item::Snapshot { snapshotter, key } = item {
                let (keys, bytes) = keys.entry(snapshotter).or_default();
                keys.push(key.clone());
                *bytes += sizes.get(item).copied().unwrap_or_default();
            }
        }
        let target = inside.target();
        for (snapshotter, (keys, bytes)) in keys {
            let count = keys.len();
            let mut delete = snapshot::Delete::new(keys, Some(snapshotter.to_owned()), true);
            plan.effects.extend(delete.plan(inside).await?.effects);
            plan = plan.frees(&target, format!("delete {count} snapshots of {snapshotter}"), bytes);
            self.snapshots.push(delete);
            self.found.snapshots += count as u64;
            self.found.freed.snapshots += bytes;
        }
        self.blobs = held.blobs.keys().cloned().collect();
        if !held.blobs.is_empty() {
            let alone = held.blobs.iter().filter(|(digest, _)| !elsewhere.contains(digest));
            self.found.freed.content = alone.map(|(_, size)| size).sum();
            self.found.blobs = held.blobs.len() as u64;
            let place = inside.place_name();
            plan.effects.extend(self.blobs.iter().map(|digest| Effect::gone::<Info>(&place, digest.as_str())));
            let action = format!("delete {} blobs", held.blobs.len());
            plan = plan.frees(&target, action, self.found.freed.content);
        }
        Ok(plan)
    }
}

#[async_trait]
impl Operation for Purge {
    type Output = Purged;
    const NAME: &'static str = "purge namespace";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Purged>> {
        get(ctx, &self.name).await?;
        let inside = ctx.in_namespace(&self.name);
        let (place, target) = (inside.place_name(), inside.target());
        let containers = container::list(&inside, &[]).await?;
        self.found.containers = containers.into_iter().map(|container| container.id).collect();
        if !self.force {
            self.running(&inside).await?;
        }
        let mut plan = Plan::new(());
        for id in &self.found.containers {
            let mut delete = container::Delete::new(id, true, false);
            (plan, ()) = plan.and(delete.plan(&inside).await?);
            self.containers.push(delete);
        }
        let sandboxes = match sandbox::list(&inside, &[]).await {
            // A daemon before sandboxes has none.
            Err(Error::Lacking { .. }) => Vec::new(),
            listed => listed?,
        };
        for found in sandboxes {
            let id = found.sandbox.id;
            let mut delete = sandbox::Delete::new(&id, true);
            (plan, ()) = plan.and(delete.plan(&inside).await?);
            self.sandboxes.push(delete);
            self.found.sandboxes.push(id);
        }
        for image in crate::ops::image::list(&inside, &[]).await? {
            plan =
                plan.step(Access::Delete, &target, format!("delete image {}", image.name))
                    .effect(Effect::gone::<Image>(&place, &image.name));
            self.found.images.push(image.name);
        }
        for ingest in content::active(&inside, None).await? {
            plan = plan
                .step(Access::Write, &target, format!("abort ingest {}", ingest.reference))
                .effect(Effect::gone::<Status>(&place, &ingest.reference));
            self.found.ingests.push(ingest.reference);
        }
        plan = self.stored(ctx, &inside, plan).await?;
        // To the daemon it is a write, as a lease's own maker ends it.
        plan = plan.step(Access::Write, &target, "let the collector take what is left");
        for lease in lease::list(&inside, &[]).await? {
            plan = plan
                .step(Access::Delete, &target, format!("delete lease {}", lease.id))
                .effect(Effect::gone::<Lease>(&place, &lease.id));
            self.found.leases.push(lease.id);
        }
        Ok(Delete::new(&self.name, self.cgroup).steps(ctx, plan).returning(self.found.clone()))
    }

    /// What was shown goes; what came meanwhile keeps the namespace.
    async fn apply(self, ctx: &Context) -> Result<Purged> {
        let inside = ctx.in_namespace(&self.name);
        let client = inside.client().await?;
        let jobs = stream::iter(self.containers).map(|delete| delete.apply(&inside));
        whole(jobs.buffer_unordered(PARALLEL).collect().await)?;
        // One that stands against it does not keep the others.
        let mut failed = Vec::new();
        for delete in self.sandboxes {
            failed.push(delete.apply(&inside).await);
        }
        for name in &self.found.images {
            failed.push(settled(client.images().delete(name, None, Deletion::Later).await));
        }
        for reference in &self.found.ingests {
            failed.push(settled(client.content().abort(reference).await));
        }
        // Where the collector took a child a moment before, containerd goes on counting it and refuses the parent, which
        // the collector alone can take then (core/metadata/gc.go leaves the parent's list of children as it is).
        let mut refused = None;
        for delete in self.snapshots {
            match delete.apply(&inside).await {
                Err(error) if error.kind() == Kind::Conflict => refused = Some(error),
                answer => failed.push(answer.map(drop)),
            }
        }
        let jobs = stream::iter(self.blobs).map(|digest| {
            let content = client.content();
            async move { content.delete(&digest).await }
        });
        failed.extend(jobs.buffer_unordered(PARALLEL).map(settled).collect::<Vec<_>>().await);
        for id in &self.found.leases {
            failed.push(settled(client.leases().delete(id, Deletion::Later).await));
        }
        whole(failed)?;
        collect(&inside, &client).await?;
        match Delete::new(&self.name, self.cgroup).apply(ctx).await {
            Err(Error::Conflict { what, name, state, .. }) => {
                if let Some(refused) = refused {
                    return Err(refused);
                }
                let state = format!("{state}: something was made in it meanwhile");
                Err(Error::Conflict {
                    what,
                    name,
                    state,
                    cure: Some("stop what uses it, and purge it again".to_owned()),
                })
            }
            ended => ended.map(|()| self.found),
        }
    }
}

/// Lets the collector run, and waits for it: the end of a lease does that.
async fn collect(inside: &Context, client: &Client) -> Result<()> {
    let mut undo = Undo::new(inside.debts());
    let lease = lease::make(client, &mut undo).await?;
    lease::end(client, &lease).await?;
    undo.forget();
    Ok(())
}

/// Fails with all that failed.
fn whole(answers: Vec<Result<()>>) -> Result<()> {
    Error::several(answers.into_iter().filter_map(Result::err).collect()).map_or(Ok(()), Err)
}
