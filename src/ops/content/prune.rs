//! `content::prune_references`: lets go of the layers of images that are unpacked.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{ROOT, list};
use crate::containerd::Labels;
use crate::containerd::content::Info;
use crate::containerd::images::Deletion;
use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::oci::Digest;
use crate::ops::snapshot::is_there;
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// Begins the labels by which a manifest keeps its layers (containerd core/images/mediatypes.go).
pub(in crate::ops) const LAYER: &str = "containerd.io/gc.ref.content.l.";
/// The label by which a manifest keeps its config.
const CONFIG: &str = "containerd.io/gc.ref.content.config";
/// Begins the label by which a config keeps the layers unpacked.
pub(in crate::ops) const SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";

/// Removes the references from manifests to layers that are unpacked, so that the layers' blobs are collected.
#[derive(Debug)]
pub struct PruneReferences {
    deletion: Deletion,
    found: Vec<(Digest, Labels)>,
}

/// What became of the references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The manifests that no longer keep their layers, sorted.
    pub manifests: Vec<Digest>,
    /// The layers that nothing keeps any more by a label, sorted.
    pub layers: Vec<Digest>,
    /// Their bytes.
    pub bytes: u64,
}

impl PruneReferences {
    /// Removes the references. With [`Deletion::Synchronous`], the call returns when the space is free.
    #[must_use]
    pub fn new(deletion: Deletion) -> Self {
        Self { deletion, found: Vec::new() }
    }
}

/// Picks the configs whose layers are unpacked. A label alone does not say so: its snapshot may be gone.
async fn unpacked(ctx: &Context, configs: impl Iterator<Item = &Info>) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for config in configs {
        let digest = config.digest.to_string();
        for (label, key) in &config.labels {
            // A name of one's own may stand behind the snapshotter's.
            let snapshotter = label.strip_prefix(SNAPSHOT).and_then(|rest| rest.split('/').next());
            let Some(snapshotter) = snapshotter else { continue };
            if !found.contains(&digest) && is_held(ctx, snapshotter, key).await? {
                found.insert(digest.clone());
            }
        }
    }
    Ok(found)
}

/// Returns whether a snapshot is there; it is not when the daemon does not have the snapshotter.
async fn is_held(ctx: &Context, snapshotter: &str, key: &str) -> Result<bool> {
    match is_there(ctx, snapshotter, key).await {
        Err(error) if error.kind() == Kind::Usage => Ok(false),
        other => other,
    }
}

#[async_trait]
impl Operation for PruneReferences {
    type Output = Pruned;
    const NAME: &'static str = "content::prune_references";

    fn subject(&self) -> String {
        "the layers of unpacked images".to_owned()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Pruned>> {
        let blobs: BTreeMap<String, Info> =
            list(ctx, &[]).await?.into_iter().map(|blob| (blob.digest.to_string(), blob)).collect();
        let configs = blobs.values().filter_map(|blob| blobs.get(blob.labels.get(CONFIG)?));
        let configs = unpacked(ctx, configs).await?;
        self.found.clear();
        let (mut loose, mut kept) = (BTreeSet::new(), BTreeSet::new());
        let mut plan = Plan::new(());
        for blob in blobs.values() {
            let layers = blob.labels.iter().filter(|(key, _)| key.starts_with(LAYER));
            let unpacked = blob.labels.get(CONFIG).is_some_and(|config| configs.contains(config));
            let mut cleared = Labels::new();
            for (key, layer) in layers {
                if unpacked {
                    cleared.insert(key.clone(), String::new());
                    loose.insert(layer.clone());
                } else {
                    kept.insert(layer.clone());
                }
            }
            if cleared.is_empty() {
                continue;
            }
            let mut after = blob.clone();
            after.labels.retain(|key, _| !cleared.contains_key(key));
            plan = plan
                .step(Access::Write, ctx.target(), format!("remove the references of {} to its layers", blob.digest))
                .effect(super::exists(ctx, &after));
            self.found.push((blob.digest.clone(), cleared));
        }
        let free = loose.difference(&kept).filter_map(|layer| blobs.get(layer));
        let free: Vec<&Info> = free.filter(|layer| !layer.labels.contains_key(ROOT)).collect();
        let pruned = Pruned {
            manifests: self.found.iter().map(|(digest, _)| digest.clone()).collect(),
            layers: free.iter().map(|layer| layer.digest.clone()).collect(),
            bytes: free.iter().map(|layer| layer.size).sum(),
        };
        for layer in free {
            plan =
                plan.frees(ctx.target(), format!("free layer {}", layer.digest), layer.size)
                    .effect(Effect::gone::<Info>(&ctx.place_name(), layer.digest.as_str()));
        }
        Ok(plan.returning(pruned))
    }

    async fn apply(mut self, ctx: &Context) -> Result<Pruned> {
        let pruned = self.plan(&ctx.planning()).await?.preview;
        let client = ctx.client().await?;
        for (digest, cleared) in &self.found {
            match client.content().set_labels(digest, cleared).await {
                Err(error) if error.is_not_found() => {}
                other => drop(other?),
            }
        }
        // Labels alone wake no collector; the end of a lease does, as ctr has it.
        let mut undo = crate::ops::undo::Undo::new(ctx.debts());
        let id = crate::ops::lease::make(&client, &mut undo).await?;
        client.leases().delete(&id, self.deletion).await?;
        undo.forget();
        Ok(pruned)
    }
}
