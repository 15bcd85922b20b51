//! What a dry run knows of images that would come or be made: later calls of the same dry run go on with them.
//!
//! The documents and configs of an image that would come are kept, as they say all that a plan has to know; layers are
//! only counted. They are read when the arrival is planned, under the grant and with the credentials of that call, and
//! so the tag may move afterwards and the file may go. What some verbs make has no digest before it is made: its record
//! is marked, and nobody takes it for what it stands on.

use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::containerd::Labels;
use crate::containerd::content::{Info, gc_labels, source_labels};
use crate::containerd::snapshots::{self, Kind as SnapshotKind};
use crate::kind::{Failure, Kind};
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Digest, Error as OciError, Hasher, ImageConfig, Manifest, Parsed, config};
use crate::ops::content::{Held, LAYER, SNAPSHOT, would_be_here};
use crate::ops::graph::{Document, Graph};
use crate::ops::snapshot::{Snapshot, would_exist};
use crate::ops::{Context, Effect, Result};

/// How many configs are read at the same time.
const PARALLEL: usize = 4;
/// How often a config is read before a source that breaks is given up.
const TRIES: usize = 3;
/// Notes the diff id on a layer that was unpacked.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Marks what a record of a dry run points to as not known, with the verb that would make it.
const UNKNOWN: &str = "ctrsh.unknown";
/// What a step says of such an image.
pub(in crate::ops::image) const UNKNOWN_SIZE: &str = "whose size is not known in a dry run";

/// Marks a record's target: what the verb makes is not known before it is made.
pub(in crate::ops) fn unknown(mut target: Descriptor, verb: &str) -> Descriptor {
    target.annotations.insert(UNKNOWN.to_owned(), verb.to_owned());
    target
}

/// Returns the verb that would make what the target stands for, when that is not known.
pub(in crate::ops::image) fn made_by<'a>(ctx: &Context, target: &'a Descriptor) -> Option<&'a str> {
    target.annotations.get(UNKNOWN).filter(|_| ctx.is_dry_run()).map(String::as_str)
}

/// What becomes of the images of a graph here, beside that their content comes.
pub(super) struct Unpacking<'a> {
    /// Those whose layers are unpacked.
    pub(super) manifests: &'a [Manifest],
    /// Where.
    pub(super) snapshotter: &'a str,
    /// Whether their layers are let go of then.
    pub(super) discards: bool,
}

/// Adds up what of a graph is not here, and works out what would be here when it had come.
///
/// # Errors
/// What reading a config failed with, or that there is no connection.
pub(super) async fn arrival(
    ctx: &Context,
    source: &dyn ImageSource,
    graph: &Graph,
    unpacking: &Unpacking<'_>,
) -> Result<(u64, Vec<Effect>)> {
    let held = Held::new(ctx).await?;
    let mut missing: Vec<&Descriptor> = Vec::new();
    for descriptor in graph.blobs.iter().chain(graph.documents.iter().map(|document| &document.descriptor)) {
        if held.info(&descriptor.digest).await?.is_none() {
            missing.push(descriptor);
        }
    }
    let is_missing: HashSet<&Digest> = missing.iter().map(|descriptor| &descriptor.digest).collect();
    let mut known: HashMap<Digest, Bytes> = configs(source, graph, &is_missing).await?;
    let (layered, mut labels, mut effects) = unpacked(&held, unpacking, &known).await?;
    for document in &graph.documents {
        let mut kept = gc_labels(&document.parsed);
        if document.manifest().is_some_and(|manifest| layered.contains(&manifest.config.digest)) {
            kept.retain(|key, _| !key.starts_with(LAYER));
        }
        labels.insert(document.descriptor.digest.clone(), kept);
        known.insert(document.descriptor.digest.clone(), document.bytes.clone());
    }
    let loose: HashSet<&Digest> = match unpacking.discards {
        true => unpacking.manifests.iter().flat_map(|manifest| &manifest.layers).map(|layer| &layer.digest).collect(),
        false => HashSet::new(),
    };
    let now = chrono::Utc::now();
    for descriptor in missing.iter().filter(|descriptor| !loose.contains(&descriptor.digest)) {
        let mut labels = labels.remove(&descriptor.digest).unwrap_or_default();
        if let Some(origin) = source.origin() {
            labels.extend(source_labels(&origin, &labels));
        }
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        let info = Info { digest, size, created_at: now, updated_at: now, labels };
        effects.extend(would_be_here(ctx, &info, known.remove(&descriptor.digest)));
    }
    Ok((missing.iter().map(|descriptor| descriptor.size).sum(), effects))
}

/// Works out what would be here when documents had been written anew.
pub(super) fn documents(ctx: &Context, made: Vec<(Descriptor, Bytes)>) -> Result<Vec<Effect>> {
    let now = chrono::Utc::now();
    let mut effects = Vec::new();
    for (descriptor, bytes) in made {
        let labels = gc_labels(&Parsed::read(&descriptor, &bytes)?);
        let info = Info { digest: descriptor.digest, size: descriptor.size, created_at: now, updated_at: now, labels };
        effects.extend(would_be_here(ctx, &info, Some(bytes)));
    }
    Ok(effects)
}

/// Reads the configs that would come.
async fn configs(
    source: &dyn ImageSource,
    graph: &Graph,
    missing: &HashSet<&Digest>,
) -> Result<HashMap<Digest, Bytes>> {
    let named: HashSet<&Digest> =
        graph.documents.iter().filter_map(Document::manifest).map(|manifest| &manifest.config.digest).collect();
    let wanted = graph
        .blobs
        .iter()
        .filter(|blob| named.contains(&blob.digest) && missing.contains(&blob.digest) && blob.size <= config::MAX_SIZE);
    let jobs = stream::iter(wanted.cloned().collect::<Vec<_>>())
        .map(|blob| async move { Ok((blob.digest.clone(), read(source, &blob).await?)) });
    jobs.buffer_unordered(PARALLEL).try_collect().await
}

/// Reads a small blob, verified.
async fn read(source: &dyn ImageSource, blob: &Descriptor) -> Result<Bytes> {
    let mut tries = 1;
    loop {
        match read_once(source, blob).await {
            Err(error) if tries < TRIES && (error.retryable() || error.kind() == Kind::Integrity) => tries += 1,
            other => return other,
        }
    }
}

async fn read_once(source: &dyn ImageSource, blob: &Descriptor) -> Result<Bytes> {
    let mut reader = source.open(blob, 0).await?;
    let mut bytes = BytesMut::new();
    while let Some(part) = reader.stream.try_next().await? {
        bytes.extend_from_slice(&part);
        // More than it should have does not have its digest either.
        if bytes.len() as u64 > blob.size {
            break;
        }
    }
    let mut hasher = Hasher::new(blob.digest.algorithm());
    hasher.update(&bytes);
    let actual = hasher.finish();
    if actual == blob.digest {
        return Ok(bytes.freeze());
    }
    let subject = format!("blob {} from {}", blob.digest, source.name());
    Err(OciError::Mismatch { subject, expected: blob.digest.to_string(), actual: actual.to_string() }.into())
}

/// What unpacking leaves: the configs of those images that let go of their layers, labels by what gets them, snapshots.
type Unpacked = (HashSet<Digest>, HashMap<Digest, Labels>, Vec<Effect>);

async fn unpacked(held: &Held, unpacking: &Unpacking<'_>, known: &HashMap<Digest, Bytes>) -> Result<Unpacked> {
    let Unpacking { manifests, snapshotter, discards } = *unpacking;
    let mut loose = HashSet::new();
    let mut labels: HashMap<Digest, Labels> = HashMap::new();
    let mut effects = Vec::new();
    for manifest in manifests {
        let digest = &manifest.config.digest;
        let bytes = match known.get(digest) {
            Some(bytes) => Some(bytes.clone()),
            None => held.bytes(digest, config::MAX_SIZE).await?,
        };
        let Some(bytes) = bytes else { continue };
        let config = ImageConfig::read(digest, &bytes)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            labels.entry(layer.digest.clone()).or_default().insert(UNCOMPRESSED.to_owned(), diff_id.to_string());
        }
        let chain = config.chain_ids();
        if let Some(top) = chain.last() {
            labels.entry(digest.clone()).or_default().insert(format!("{SNAPSHOT}{snapshotter}"), top.to_string());
        }
        if discards {
            loose.insert(digest.clone());
        }
        effects.extend(layers(held, snapshotter, &chain).await?);
    }
    Ok((loose, labels, effects))
}

/// Works out the snapshots that unpacking would make.
async fn layers(held: &Held, snapshotter: &str, chain: &[Digest]) -> Result<Vec<Effect>> {
    let mut effects = Vec::new();
    let now = chrono::Utc::now();
    // Those below one that is there are there too.
    for (number, name) in chain.iter().enumerate().rev() {
        if crate::ops::snapshot::is_there(held.context(), snapshotter, name.as_str()).await? {
            break;
        }
        let info = snapshots::Info {
            name: name.to_string(),
            parent: number.checked_sub(1).and_then(|below| chain.get(below)).map(Digest::to_string),
            kind: SnapshotKind::Committed,
            created_at: now,
            updated_at: now,
            labels: Labels::new(),
        };
        let snapshot = Snapshot { snapshotter: snapshotter.to_owned(), info };
        effects.push(would_exist(held.context(), snapshot));
    }
    Ok(effects)
}
