//! `df`: what takes space, and what for.

use std::collections::{HashMap, HashSet};

use super::{Bytes, Holdings, Item, by_target, everywhere, measure};
use crate::oci::Digest;
use crate::ops::{Context, Result};

/// What takes space, and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// All of it: each blob once, however many namespaces have it.
    pub all: Bytes,
    /// What no image refers to: what containers wrote, leases hold, or nothing keeps.
    pub without_image: Bytes,
    /// What images take.
    pub images: Vec<ImageUsage>,
    /// What namespaces take.
    pub namespaces: Vec<NamespaceUsage>,
}

/// What an image takes in a namespace: a target with all names that point to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// The namespace.
    pub namespace: String,
    /// What the names point to.
    pub digest: Digest,
    /// The names, sorted.
    pub names: Vec<String>,
    /// All that it refers to.
    pub all: Bytes,
    /// What nothing else refers to, in any namespace: what removing all its names frees.
    pub unique: Bytes,
}

/// What a namespace takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceUsage {
    /// The namespace.
    pub namespace: String,
    /// How many images it has, names of the same image counted once.
    pub images: usize,
    /// All that it holds, also what other namespaces hold too.
    pub all: Bytes,
    /// What only it holds.
    pub unique: Bytes,
}

/// A namespace, with what each of its images refers to.
struct Place {
    held: Holdings,
    /// The bytes of its snapshots.
    sizes: HashMap<Item, u64>,
    images: Vec<(Digest, Vec<String>, HashSet<Item>)>,
    /// What is kept by anything but images.
    otherwise: HashSet<Item>,
}

/// How many refer to something: each image of each namespace counts, and whatever else keeps it.
struct Counts {
    /// Referrers of blobs, over all namespaces.
    referrers: HashMap<Digest, usize>,
    /// Blobs that an image refers to.
    imaged: HashSet<Digest>,
    /// Namespaces that hold a blob.
    holders: HashMap<Digest, usize>,
}

/// Says what takes space.
///
/// # Errors
/// When there is no connection, or reading one of the namespaces was not granted.
pub async fn disk(ctx: &Context) -> Result<Disk> {
    let mut places = Vec::new();
    for held in everywhere(ctx).await? {
        let sizes = measure(ctx, &held.namespace, held.snapshots.keys()).await?;
        places.push(Place::of(held, sizes));
    }
    let counts = Counts::of(&places);
    let mut disk = Disk::default();
    let mut seen = HashSet::new();
    for place in &places {
        for (digest, size) in place.held.blobs.iter().filter(|(digest, _)| seen.insert(*digest)) {
            disk.all.content += size;
            if !counts.imaged.contains(digest) {
                disk.without_image.content += size;
            }
        }
        place.add(&counts, &mut disk);
    }
    Ok(disk)
}

impl Place {
    fn of(held: Holdings, sizes: HashMap<Item, u64>) -> Self {
        let images = by_target(&held.images).into_iter().map(|(digest, images)| {
            let items = images.iter().flat_map(|image| held.reached_by(image)).collect();
            (digest, images.iter().map(|image| image.name.clone()).collect(), items)
        });
        Self { images: images.collect(), otherwise: held.reached_otherwise(), sizes, held }
    }

    /// Adds what the namespace and its images take.
    fn add(&self, counts: &Counts, disk: &mut Disk) {
        let mut uses: HashMap<&Item, usize> = HashMap::new();
        for item in self.images.iter().flat_map(|(_, _, items)| items).chain(&self.otherwise) {
            *uses.entry(item).or_default() += 1;
        }
        let snapshots = self.sizes.values().sum();
        let imaged: HashSet<&Item> = self.images.iter().flat_map(|(_, _, items)| items).collect();
        disk.all.snapshots += snapshots;
        disk.without_image.snapshots +=
            self.sizes.iter().filter(|(item, _)| !imaged.contains(item)).map(|(_, size)| size).sum::<u64>();
        let alone = |digest: &Digest| counts.holders.get(digest) == Some(&1);
        disk.namespaces.push(NamespaceUsage {
            namespace: self.held.namespace.clone(),
            images: self.images.len(),
            all: Bytes { content: self.held.blobs.values().sum(), snapshots },
            unique: Bytes {
                content: self.held.blobs.iter().filter(|(digest, _)| alone(digest)).map(|(_, size)| size).sum(),
                snapshots,
            },
        });
        for (digest, names, items) in &self.images {
            let (mut all, mut unique) = (Bytes::default(), Bytes::default());
            for item in items {
                match item {
                    Item::Blob(digest) => {
                        let size = self.held.blobs.get(digest).copied().unwrap_or_default();
                        all.content += size;
                        unique.content += if counts.referrers.get(digest) == Some(&1) { size } else { 0 };
                    }
                    Item::Snapshot { .. } => {
                        let size = self.sizes.get(item).copied().unwrap_or_default();
                        all.snapshots += size;
                        unique.snapshots += if uses.get(item) == Some(&1) { size } else { 0 };
                    }
                }
            }
            let (namespace, digest, names) = (self.held.namespace.clone(), digest.clone(), names.clone());
            disk.images.push(ImageUsage { namespace, digest, names, all, unique });
        }
    }
}

impl Counts {
    fn of(places: &[Place]) -> Self {
        let mut counts = Self { referrers: HashMap::new(), imaged: HashSet::new(), holders: HashMap::new() };
        let blob = |item: &Item| match item {
            Item::Blob(digest) => Some(digest.clone()),
            Item::Snapshot { .. } => None,
        };
        for place in places {
            for digest in place.images.iter().flat_map(|(_, _, items)| items).filter_map(blob) {
                counts.imaged.insert(digest.clone());
                *counts.referrers.entry(digest).or_default() += 1;
            }
            for digest in place.otherwise.iter().filter_map(blob) {
                *counts.referrers.entry(digest).or_default() += 1;
            }
            for digest in place.held.blobs.keys() {
                *counts.holders.entry(digest.clone()).or_default() += 1;
            }
        }
        counts
    }
}
