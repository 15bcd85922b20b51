//! What a namespace holds, and what keeps it from being collected.
//!
//! The daemon's collector starts at images, leases, containers and what is labelled as a root, and follows labels and the
//! parents of snapshots (containerd docs/garbage-collection.md, core/metadata/gc.go). The same is done here, so that what
//! a deletion would free is known before it is done.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;

use crate::containerd::containers::Container;
use crate::containerd::images::Image;
use crate::containerd::leases::{Lease, Resource};
use crate::containerd::{Client, Labels};
use crate::oci::Digest;
use crate::ops::{Context, Result, container, image};

const REFERS_CONTENT: &str = "containerd.io/gc.ref.content";
const REFERS_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";
/// The reverse of the first, since containerd 1.7: the labelled blob lives as long as the one that it names.
const REFERRED_BY_CONTENT: &str = "containerd.io/gc.bref.content";
const ROOT: &str = "containerd.io/gc.root";
const EXPIRE: &str = "containerd.io/gc.expire";
const FLAT: &str = "containerd.io/gc.flat";

/// One thing that takes space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// A blob. All namespaces share its bytes.
    Blob(Digest),
    /// A snapshot. It belongs to one namespace.
    Snapshot {
        /// The snapshotter that it is in.
        snapshotter: String,
        /// Its key.
        key: String,
    },
}

/// All that a namespace holds.
#[derive(Debug)]
pub struct Holdings {
    /// The namespace.
    pub namespace: String,
    /// Its images, sorted by name.
    pub images: Vec<Image>,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Its blobs with their sizes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Its snapshots with their parents.
    pub snapshots: BTreeMap<Item, Option<Item>>,
    /// What is kept for its own sake, or by a lease.
    roots: Vec<Item>,
    /// What leases keep without what it refers to.
    flat: Vec<Item>,
    /// What each item keeps.
    edges: HashMap<Item, Vec<Item>>,
}

impl Holdings {
    /// Looks at a namespace. In a dry run its images and containers are what they would be.
    ///
    /// # Errors
    /// When there is no connection, or reading the namespace was not granted.
    pub async fn read(ctx: &Context, namespace: &str, snapshotters: &[String]) -> Result<Self> {
        let ctx = ctx.in_namespace(namespace);
        let client = ctx.client().await?;
        let now = Utc::now();
        let (images, containers, blobs, leases) = tokio::try_join!(
            image::list(&ctx, &[]),
            container::list(&ctx, &[]),
            async { Ok(client.content().list(&[]).await?.try_collect::<Vec<_>>().await?) },
            leases(&client),
        )?;
        let mut holdings = Self {
            namespace: namespace.to_owned(),
            images,
            containers: Vec::new(),
            blobs: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            roots: Vec::new(),
            flat: Vec::new(),
            edges: HashMap::new(),
        };
        for blob in blobs {
            let item = Item::Blob(blob.digest.clone());
            holdings.note(item, &blob.labels, now);
            holdings.blobs.insert(blob.digest, blob.size);
        }
        for snapshotter in snapshotters {
            let mut list = client.snapshots(snapshotter).list(&[]).await?;
            while let Some(snapshot) = list.try_next().await? {
                let of = |key: String| Item::Snapshot { snapshotter: snapshotter.clone(), key };
                let (item, parent) = (of(snapshot.name), snapshot.parent.map(of));
                holdings.edges.entry(item.clone()).or_default().extend(parent.clone());
                holdings.note(item.clone(), &snapshot.labels, now);
                holdings.snapshots.insert(item, parent);
            }
        }
        for (lease, resources) in leases {
            if lease.expires_at().is_none_or(|end| end > now) {
                let kept = resources.into_iter().filter_map(Item::of);
                if lease.labels.contains_key(FLAT) { &mut holdings.flat } else { &mut holdings.roots }.extend(kept);
            }
        }
        for container in &containers {
            holdings.roots.extend(Item::snapshot_of(container));
            holdings.roots.extend(referred(&container.labels));
        }
        holdings.containers = containers;
        Ok(holdings)
    }

    /// Takes in what an item's labels say.
    fn note(&mut self, item: Item, labels: &Labels, now: DateTime<Utc>) {
        let expires = labels.get(EXPIRE).and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        if labels.contains_key(ROOT) || expires.is_some_and(|time| time > now) {
            self.roots.push(item.clone());
        }
        for (key, value) in labels {
            if let (true, Ok(other)) = (names(key, REFERRED_BY_CONTENT), value.parse()) {
                self.edges.entry(Item::Blob(other)).or_default().push(item.clone());
            }
        }
        self.edges.entry(item).or_default().extend(referred(labels));
    }

    /// Returns whether the namespace has this item.
    #[must_use]
    pub fn has(&self, item: &Item) -> bool {
        match item {
            Item::Blob(digest) => self.blobs.contains_key(digest),
            Item::Snapshot { .. } => self.snapshots.contains_key(item),
        }
    }

    /// Returns everything.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        let blobs = self.blobs.keys().map(|digest| Item::Blob(digest.clone()));
        blobs.chain(self.snapshots.keys().cloned())
    }

    /// Returns all that an image keeps and that is here.
    #[must_use]
    pub fn reached_by(&self, image: &Image) -> HashSet<Item> {
        let mut roots = referred(&image.labels);
        roots.push(Item::Blob(image.target.digest.clone()));
        self.reach(roots)
    }

    /// Returns all that is kept by anything but images: by leases, containers, and labels.
    #[must_use]
    pub fn reached_otherwise(&self) -> HashSet<Item> {
        let mut reached = self.reach(self.roots.clone());
        reached.extend(self.flat.iter().filter(|item| self.has(item)).cloned());
        reached
    }

    /// Returns all that stays when only these images are left.
    #[must_use]
    pub fn kept<'a>(&self, images: impl IntoIterator<Item = &'a Image>) -> HashSet<Item> {
        let mut kept = self.reached_otherwise();
        for image in images {
            kept.extend(self.reached_by(image));
        }
        kept
    }

    fn reach(&self, roots: Vec<Item>) -> HashSet<Item> {
        let mut reached = HashSet::new();
        let mut next = roots;
        while let Some(item) = next.pop() {
            if !self.has(&item) || reached.contains(&item) {
                continue;
            }
            next.extend(self.edges.get(&item).into_iter().flatten().cloned());
            reached.insert(item);
        }
        reached
    }
}

impl Item {
    /// Returns the snapshot that a container runs on.
    #[must_use]
    pub fn snapshot_of(container: &Container) -> Option<Self> {
        let Container { snapshotter, snapshot_key: key, .. } = container;
        (!key.is_empty()).then(|| Self::Snapshot { snapshotter: snapshotter.clone(), key: key.clone() })
    }

    fn of(resource: Resource) -> Option<Self> {
        match resource {
            Resource::Content(digest) => Some(Self::Blob(digest)),
            Resource::Snapshot { snapshotter, key } => Some(Self::Snapshot { snapshotter, key }),
            Resource::Ingest(_) | Resource::Other { .. } => None,
        }
    }
}

/// Says whether a label's key is this one, alone or with a name behind it.
fn names(key: &str, label: &str) -> bool {
    key.strip_prefix(label).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
}

/// Returns what labels refer to.
fn referred(labels: &Labels) -> Vec<Item> {
    let item = |(key, value): (&String, &String)| {
        if names(key, REFERS_CONTENT) {
            return value.parse().ok().map(Item::Blob);
        }
        let snapshotter = key.strip_prefix(REFERS_SNAPSHOT)?.split('/').next()?;
        Some(Item::Snapshot { snapshotter: snapshotter.to_owned(), key: value.clone() })
    };
    labels.iter().filter_map(item).collect()
}

async fn leases(client: &Client) -> Result<Vec<(Lease, Vec<Resource>)>> {
    let leases = client.leases();
    let mut found = Vec::new();
    for lease in leases.list(&[]).await? {
        match leases.resources(&lease.id).await {
            Ok(resources) => found.push((lease, resources)),
            // It ended meanwhile.
            Err(error) if error.is_not_found() || leases.find(&lease.id).await?.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_refer_as_the_collector_reads_them() {
        let (config, layer) = (Digest::sha256(b"config"), Digest::sha256(b"layer"));
        let labels: Labels = [
            ("containerd.io/gc.ref.content.config", config.to_string()),
            ("containerd.io/gc.ref.content.l.0", layer.to_string()),
            ("containerd.io/gc.ref.content", config.to_string()),
            ("containerd.io/gc.ref.contents", layer.to_string()),
            ("containerd.io/gc.ref.snapshot.overlayfs", "sha256:1".to_owned()),
            ("containerd.io/gc.ref.snapshot.native/2", "sha256:2".to_owned()),
            ("containerd.io/distribution.source.docker.io", "library/x".to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        let snapshot = |of: &str, key: &str| Item::Snapshot { snapshotter: of.to_owned(), key: key.to_owned() };
        let mut found = referred(&labels);
        found.sort();
        let mut wanted = vec![
            Item::Blob(config.clone()),
            Item::Blob(config),
            Item::Blob(layer),
            snapshot("overlayfs", "sha256:1"),
            snapshot("native", "sha256:2"),
        ];
        wanted.sort();
        assert_eq!(found, wanted);
    }
}
