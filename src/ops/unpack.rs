//! Turning an image's layers into snapshots, in order, while later layers are still on their way.
//!
//! The steps and all that they leave behind are those of containerd's own client (its core/unpack/unpacker.go), so that
//! ctr, nerdctl and the CRI plugin find a normal image: committed snapshots named by chain id, the diff id on each layer,
//! and on the config the label that keeps the topmost snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use chrono::Utc;
use futures_util::future;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::containerd::content::Content;
use crate::containerd::leases::Resource;
use crate::containerd::snapshots::{Mount, Snapshots};
use crate::containerd::{Client, Labels};
use crate::oci::{self, Descriptor, Digest, ImageConfig, Manifest, config};
use crate::ops::progress::{Meter, Progress};
use crate::ops::undo::{Debts, Undo};
use crate::ops::{Error, Result};

/// The target of an unpacking, so that a remote snapshotter can say that it has it already.
const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
/// Annotations with this prefix are handed to the snapshotter (containerd core/snapshots, `FilterInheritedLabels`).
const INHERITED: &str = "containerd.io/snapshot/";
/// A layer's diff id, once it was verified.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Keeps the topmost snapshot while the config is kept.
const KEEP_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";

/// How often a taken key is replaced by a new one, as in containerd's client.
const KEYS: usize = 3;
/// How often unpacking begins anew because someone removed what it stood on.
const ROUNDS: usize = 3;

/// Tells an [`Unpacker`] what has arrived in the content store. Dropping it says that all has.
#[derive(Debug, Clone)]
pub struct Feed(UnboundedSender<Digest>);

impl Feed {
    /// Says that a blob is in the store. Blobs that are no business of the unpacker are ignored.
    pub fn arrived(&self, descriptor: &Descriptor) {
        // The unpacker hangs up when it failed, or found all layers unpacked already.
        let _ = self.0.send(descriptor.digest.clone());
    }
}

/// One image about to be unpacked into one snapshotter.
///
/// It does nothing by itself: [`Unpacker::run`] is meant to be joined with the copy that feeds it, so that dropping the
/// two together takes back what was half done.
pub struct Unpacker {
    client: Client,
    snapshots: Snapshots,
    config: Descriptor,
    layers: Vec<Descriptor>,
    arrivals: UnboundedReceiver<Digest>,
    here: HashSet<Digest>,
    progress: Arc<dyn Progress>,
    debts: Debts,
}

/// What an unpacking came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The name of the topmost snapshot, which a container's snapshot stands on; none for an image without layers.
    pub top: Option<Digest>,
    /// How many layers were unpacked; the others were unpacked already.
    pub layers: usize,
}

/// One layer, with its place in the stack.
#[derive(Clone, Copy)]
struct Layer<'a> {
    blob: &'a Descriptor,
    diff_id: &'a Digest,
    /// The chain id of what lies below it.
    parent: Option<&'a Digest>,
    /// The chain id with it.
    id: &'a Digest,
}

/// What became of the attempt to unpack one layer.
enum Step {
    /// It is unpacked now.
    Unpacked,
    /// It was there.
    Present,
    /// The snapshot below it is gone.
    ParentGone,
}

impl Unpacker {
    /// Makes an unpacker and what feeds it. The client should have a lease.
    ///
    /// What it makes and does not finish goes to the debts.
    #[must_use]
    pub fn new(
        client: &Client,
        snapshotter: &str,
        manifest: &Manifest,
        progress: &Arc<dyn Progress>,
        debts: &Debts,
    ) -> (Feed, Self) {
        let (sender, arrivals) = unbounded_channel();
        let unpacker = Self {
            client: client.clone(),
            snapshots: client.snapshots(snapshotter),
            config: manifest.config.clone(),
            layers: manifest.layers.iter().filter(|layer| layer.media_type.is_layer()).cloned().collect(),
            arrivals,
            here: HashSet::new(),
            progress: progress.clone(),
            debts: debts.clone(),
        };
        (Feed(sender), unpacker)
    }

    /// Unpacks each layer as soon as it and all below it are there, until all are.
    ///
    /// # Errors
    /// An integrity error when a layer is not what the config says, or the config does not fit the layers.
    pub async fn run(mut self) -> Result<Unpacked> {
        self.arrival(&self.config.digest.clone()).await;
        let bytes = self.client.content().bytes(&self.config.digest, config::MAX_SIZE).await?;
        let config = ImageConfig::read(&self.config.digest, &bytes)?;
        let diff_ids = &config.rootfs.diff_ids;
        let layers = std::mem::take(&mut self.layers);
        if diff_ids.len() != layers.len() {
            return Err(oci::Error::Document {
                what: "image config",
                digest: self.config.digest.to_string(),
                reason: format!("it has {} layers, but the manifest has {}", diff_ids.len(), layers.len()),
            }
            .into());
        }
        let chain = config.chain_ids();
        let Some(top) = chain.last() else {
            return Ok(Unpacked { top: None, layers: 0 });
        };
        let mut unpacked = 0;
        let mut round = 1;
        // The layer that is still to be marked as verified: that goes on while the next one is unpacked.
        let mut verified = None;
        let content = self.client.content();
        let mut next = if self.kept(top).await? { chain.len() } else { self.present(&chain).await? };
        while next < chain.len() {
            let parent = next.checked_sub(1).map(|below| &chain[below]);
            let layer = Layer { blob: &layers[next], diff_id: &diff_ids[next], parent, id: &chain[next] };
            let unpacking = self.unpack(layer);
            match future::try_join(unpacking, mark(&content, verified.take())).await?.0 {
                Step::Unpacked => {
                    verified = Some(layer);
                    unpacked += 1;
                    next += 1;
                }
                Step::Present => next += 1,
                Step::ParentGone if round < ROUNDS => {
                    round += 1;
                    next = self.present(&chain[..next]).await?;
                }
                Step::ParentGone => {
                    return Err(Error::Conflict {
                        what: "snapshot",
                        name: parent.map_or_else(String::new, Digest::to_string),
                        state: "was removed again and again while the image was being unpacked".into(),
                        cure: Some("see which other client removes snapshots here".into()),
                    });
                }
            }
        }
        let label = format!("{KEEP_SNAPSHOT}{}", self.snapshots.snapshotter());
        let keep = Labels::from([(label, top.to_string())]);
        let keep = async {
            if unpacked > 0 {
                content.set_labels(&self.config.digest, &keep).await?;
            } else {
                content.ensure_labels(&self.config.digest, &keep).await?;
            }
            Ok(())
        };
        future::try_join(keep, mark(&content, verified)).await?;
        Ok(Unpacked { top: Some(top.clone()), layers: unpacked })
    }

    /// Waits until a blob is in the store.
    async fn arrival(&mut self, digest: &Digest) {
        while !self.here.contains(digest) {
            match self.arrivals.recv().await {
                Some(arrived) => self.here.insert(arrived),
                None => return,
            };
        }
    }

    /// Returns whether the topmost snapshot is there, and puts it under the lease: what a lease gets is looked for once
    /// more, as it may have gone before.
    async fn kept(&self, top: &Digest) -> Result<bool> {
        if !self.exists(top).await? {
            return Ok(false);
        }
        let Some(lease) = self.client.lease() else { return Ok(true) };
        let snapshotter = self.snapshots.snapshotter().to_owned();
        let resource = Resource::Snapshot { snapshotter, key: top.to_string() };
        self.client.leases().add_resource(lease, &resource).await?;
        self.exists(top).await
    }

    /// Returns how many of the layers below the topmost, from the lowest, are unpacked. What lies below a snapshot cannot have gone before it.
    async fn present(&self, chain: &[Digest]) -> Result<usize> {
        // The topmost was looked for before.
        let (mut there, mut unknown) = (0, chain.len() - 1);
        // New images have nothing but their base in common with what is here, if that.
        let mut probe = 0;
        while there < unknown {
            if self.exists(&chain[probe]).await? {
                there = probe + 1;
            } else {
                unknown = probe;
            }
            probe = usize::midpoint(there, unknown);
        }
        Ok(there)
    }

    async fn exists(&self, id: &Digest) -> Result<bool> {
        match self.snapshots.stat(id.as_str()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Unpacks one layer. Its snapshot is made before it has arrived: the two go on at the same time.
    async fn unpack(&mut self, layer: Layer<'_>) -> Result<Step> {
        let Layer { blob, parent, id, .. } = layer;
        let inherited = blob.annotations.iter().filter(|(key, _)| key.starts_with(INHERITED));
        let mut labels: Labels = inherited.map(|(key, value)| (key.clone(), value.clone())).collect();
        labels.insert(SNAPSHOT_REF.to_owned(), id.to_string());
        for _ in 0..KEYS {
            let key = fresh_key(id);
            // The way back is noted first: a prepare that is cancelled may have been carried out all the same.
            let undo = self.removal(&key);
            match self.snapshots.prepare(&key, parent.map(Digest::as_str), &labels).await {
                Ok(mounts) => {
                    self.arrival(&blob.digest).await;
                    let meter = self.meter(blob);
                    meter.phase("unpacking");
                    self.apply(layer, &mounts).await?;
                    self.commit(layer, &key, &labels).await?;
                    undo.forget();
                    meter.advance(blob.size);
                    meter.done("unpacked");
                    return Ok(Step::Unpacked);
                }
                Err(error) if error.is_already_exists() => {
                    undo.forget();
                    // A remote snapshotter has the layer; any other has the key, by an odd chance.
                    if self.exists(id).await? {
                        self.meter(blob).done("exists");
                        return Ok(Step::Present);
                    }
                }
                Err(error) if error.is_not_found() && parent.is_some() => {
                    undo.forget();
                    return Ok(Step::ParentGone);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::AlreadyExists { what: "snapshot", name: format!("for unpacking {id}"), cure: None })
    }

    fn meter(&self, blob: &Descriptor) -> Arc<dyn Meter> {
        self.progress.meter(&format!("layer {}", blob.digest.short()), Some(blob.size))
    }

    async fn apply(&self, layer: Layer<'_>, mounts: &[Mount]) -> Result<()> {
        let applied = self.client.diff().apply(layer.blob, mounts).await?;
        if applied.digest != *layer.diff_id {
            return Err(oci::Error::Mismatch {
                subject: format!("unpacked layer {}", layer.blob.digest),
                expected: layer.diff_id.to_string(),
                actual: applied.digest.to_string(),
            }
            .into());
        }
        Ok(())
    }

    async fn commit(&self, layer: Layer<'_>, key: &str, labels: &Labels) -> Result<()> {
        match self.snapshots.commit(layer.id.as_str(), key, labels).await {
            // Someone else unpacked the same layer at the same time; this one's work is not needed.
            Err(error) if error.is_already_exists() => Ok(self.snapshots_undoing().remove(key).await?),
            other => Ok(other?),
        }
    }

    fn snapshots_undoing(&self) -> Snapshots {
        self.client.undoing().snapshots(self.snapshots.snapshotter())
    }

    fn removal(&self, key: &str) -> Undo {
        let (snapshots, key) = (self.snapshots_undoing(), key.to_owned());
        let mut undo = Undo::new(&self.debts);
        let what = format!("snapshot {key} of {}", snapshots.snapshotter());
        undo.push(what, async move { snapshots.remove(&key).await });
        undo
    }
}

/// Notes on a layer that its diff id was verified.
async fn mark(content: &Content, layer: Option<Layer<'_>>) -> Result<()> {
    if let Some(layer) = layer {
        let labels = Labels::from([(UNCOMPRESSED.to_owned(), layer.diff_id.to_string())]);
        content.set_labels(&layer.blob.digest, &labels).await?;
    }
    Ok(())
}

/// Makes the key of a snapshot that is being unpacked, as containerd's client does: `extract-NANOS-RANDOM CHAINID`.
fn fresh_key(id: &Digest) -> String {
    let random = URL_SAFE.encode(rand::random::<[u8; 3]>());
    format!("extract-{}-{random} {id}", Utc::now().timestamp_subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_containerds_client() {
        let id = Digest::sha256(b"x");
        let key = fresh_key(&id);
        let (unique, rest) = key.split_once(' ').unwrap();
        assert_eq!(rest, id.as_str());
        let (nanos, random) = unique.strip_prefix("extract-").unwrap().split_once('-').unwrap();
        assert!(nanos.parse::<u32>().unwrap() < 1_000_000_000);
        assert_eq!(random.len(), 4);
        assert_ne!(key, fresh_key(&id));
    }
}
