//! `diff`: what a container changed of its image's files.

use std::io;
use std::path::Path;

use async_trait::async_trait;

use super::changes::{Change, Comparison};
use super::get;
use super::layers::{self, Folders};
use crate::containerd::Labels;
use crate::containerd::containers::Container;
use crate::containerd::snapshots::{Kind, Mount};
use crate::grant::Access;
use crate::ops::lease::Leased;
use crate::ops::snapshot::{self, Wanted, make};
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Operation, Plan, Result, Seen, execute};

/// Lists what a container has other than its image, sorted by path.
///
/// The files of an overlay tell it by themselves. A whole copy is compared with a view of its parent, which is a change
/// for that moment: a dry run does not make it, and finds nothing.
///
/// # Errors
/// [`Error::NotFound`] when there is no such container, [`Error::Conflict`] when its files cannot be looked into here.
pub async fn diff(ctx: &Context, id: &str) -> Result<Vec<Change>> {
    let container = get(ctx, id).await?;
    if container.snapshot_key.is_empty() {
        let cure = "only what stands on a snapshot can be compared with it".to_owned();
        return Err(conflict(&container, "has a root filesystem of the host and no snapshot".into(), Some(cure)));
    }
    let Container { snapshotter, snapshot_key: key, .. } = &container;
    let info = match snapshot::get(ctx, snapshotter, key).await {
        // One that a dry run made.
        Err(Error::NotFound { .. }) if matches!(ctx.overlay().get::<Container>(&ctx.place_name(), id), Seen::As(_)) => {
            return Ok(Vec::new());
        }
        found => found?.info,
    };
    if info.kind == Kind::View {
        return Ok(Vec::new());
    }
    let mounts = snapshot::mounts(ctx, snapshotter, key).await?;
    let folders = folders(&container, &mounts)?;
    // All layers and nothing above them.
    let Some(upper) = folders.upper else { return Ok(Vec::new()) };
    let is_overlay = !folders.lower.is_empty();
    let maps = ["uidmap", "gidmap"].map(|name| {
        let maps = mounts.iter().filter_map(|mount| layers::option(mount, name)).flat_map(|text| text.split(','));
        maps.filter_map(|text| text.parse().ok()).collect()
    });
    let comparison = Comparison { upper, lower: folders.lower, is_whole: !is_overlay, maps };
    match info.parent {
        Some(parent) if !is_overlay => execute(ctx, Viewed { container, comparison, parent }).await,
        _ => compare(ctx, &container, comparison).await,
    }
}

/// A comparison with a view of the parent, which is made for it.
struct Viewed {
    container: Container,
    comparison: Comparison,
    parent: String,
}

#[async_trait]
impl Operation for Viewed {
    type Output = Vec<Change>;
    const NAME: &'static str = "diff";

    fn subject(&self) -> String {
        self.container.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Vec<Change>>> {
        let action = format!("make a view of snapshot {} for a moment", self.parent);
        Ok(Plan::new(Vec::new()).step(Access::Write, ctx.target(), action))
    }

    async fn apply(self, ctx: &Context) -> Result<Vec<Change>> {
        let Self { container, mut comparison, parent } = self;
        let leased = Leased::new(ctx).await?;
        // The view is taken back when all is done, too.
        let mut undo = Undo::new(ctx.debts());
        let key = format!("diff-{:016x}", rand::random::<u64>());
        let wanted = Wanted { key, parent: Some(parent), kind: Kind::View, labels: Labels::new() };
        let mounts = make(leased.client(), &container.snapshotter, wanted, &mut undo).await??;
        let Folders { upper, lower } = folders(&container, &mounts)?;
        comparison.lower = upper.into_iter().chain(lower).collect();
        let changes = compare(ctx, &container, comparison).await?;
        leased.release().await?;
        Ok(changes)
    }
}

/// Compares on a thread that may wait for the disk.
async fn compare(ctx: &Context, container: &Container, comparison: Comparison) -> Result<Vec<Change>> {
    let cancel = ctx.grant().cancel().clone();
    let roots: Vec<String> = comparison.lower.iter().chain([&comparison.upper]).cloned().collect();
    let walk = move || {
        // A folder that is not here at all is no mistake of the disk: the daemon is elsewhere.
        match roots.into_iter().find(|root| !Path::new(root).try_exists().unwrap_or(true)) {
            Some(root) => Ok(Err(root)),
            None => comparison.run(&cancel).map(Ok),
        }
    };
    let walked = tokio::task::spawn_blocking(walk).await?;
    match walked {
        Ok(Ok(changes)) => Ok(changes),
        Ok(Err(root)) => {
            let state = format!("has its files in {root}, which is not on this host");
            let cure = format!("run ctrsh on the daemon's own host; {}", packing(container));
            Err(conflict(container, state, Some(cure)))
        }
        Err(error) => Err(error),
    }
}

/// Finds the folders of a snapshot, or says why there are none to look into.
fn folders(container: &Container, mounts: &[Mount]) -> Result<Folders> {
    Folders::of(mounts).map_err(|why: io::Error| {
        let state = format!("has a root filesystem that cannot be looked into: {why}");
        conflict(container, state, Some(packing(container)))
    })
}

/// Says how what changed is found by the daemon, on any snapshotter.
fn packing(container: &Container) -> String {
    let Container { snapshotter, snapshot_key, .. } = container;
    format!(
        "snapshots::diff(\"{snapshot_key}\", #{{ snapshotter: \"{snapshotter}\" }}) makes a layer of what it changed"
    )
}

fn conflict(container: &Container, state: String, cure: Option<String>) -> Error {
    Error::Conflict { what: "container", name: container.id.clone(), state, cure }
}
