//! `prune`: removes images that nothing needs, and tells the bytes that this frees.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use async_trait::async_trait;

use crate::containerd::images::{Deletion, Image};
use crate::grant::Access;
use crate::oci::Digest;
use crate::ops::disk::{Bytes, Holdings, Item, by_target, everywhere, measure};
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// The label by which CRI says that the kubelet must not collect an image (containerd internal/cri/labels).
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// Removes images with all their names, except those that something needs.
///
/// An image goes with all its names or not at all: what frees space is the last name. Names by digest and the records
/// `sha256:CONFIG` that CRI makes have no say of their own; they go or stay with the image.
#[derive(Debug)]
pub struct Prune {
    chosen: BTreeSet<String>,
    found: Vec<Image>,
}

/// What became of the images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The names that went, sorted.
    pub removed: Vec<String>,
    /// The names that were chosen and stay, sorted, and why.
    pub kept: Vec<(String, String)>,
    /// What the removed images alone referred to, over all namespaces.
    pub expected: Bytes,
    /// What is gone from the daemon's disk, measured; in a plan, what is expected.
    pub freed: Bytes,
}

/// What is to go, and all that has to be known for it.
struct Decision {
    go: Vec<Image>,
    pruned: Pruned,
    /// The namespace as it is.
    held: Holdings,
    /// What the others hold.
    elsewhere: HashSet<Digest>,
    /// What nothing keeps in the namespace once the images are gone.
    loose: HashSet<Item>,
    /// The bytes of the snapshots in it.
    sizes: HashMap<Item, u64>,
}

impl Prune {
    /// Removes those of the images with these names that nothing needs.
    #[must_use]
    pub fn new(chosen: impl IntoIterator<Item = String>) -> Self {
        Self { chosen: chosen.into_iter().collect(), found: Vec::new() }
    }

    /// Works out what would go and what that would free, without the permission to do it.
    ///
    /// # Errors
    /// When there is no connection, or reading one of the namespaces was not granted.
    pub async fn preview(self, ctx: &Context) -> Result<Pruned> {
        Ok(self.decide(ctx).await?.pruned)
    }

    async fn decide(&self, ctx: &Context) -> Result<Decision> {
        let (here, others): (Vec<_>, Vec<_>) =
            everywhere(ctx).await?.into_iter().partition(|place| place.namespace == ctx.namespace());
        let elsewhere = others.into_iter().flat_map(|place| place.blobs.into_keys()).collect();
        let held = match here.into_iter().next() {
            Some(held) => held,
            // A namespace with nothing in it is in no list.
            None => Holdings::read(ctx, ctx.namespace(), &[]).await?,
        };
        let mut decision = Decision {
            go: Vec::new(),
            pruned: Pruned::default(),
            held,
            elsewhere,
            loose: HashSet::new(),
            sizes: HashMap::new(),
        };
        self.sort(&mut decision);
        decision.weigh(ctx).await?;
        Ok(decision)
    }

    /// Sorts the images into those that go and those that stay.
    fn sort(&self, decision: &mut Decision) {
        let held = &decision.held;
        let groups = Group::all(held);
        let used = used(held, &groups);
        let reason = |group: &Group<'_>| {
            let pin = group.pin().map(|name| format!("{name} is pinned"));
            let user = || used.get(group.target).map(|id| format!("container {id} uses it"));
            pin.or_else(user).or_else(|| group.unchosen(&self.chosen).map(|name| format!("{name} was not chosen")))
        };
        let (stay, go): (Vec<_>, Vec<_>) =
            groups.iter().map(|group| (group, reason(group))).partition(|(_, reason)| reason.is_some());
        let pruned = &mut decision.pruned;
        for (group, reason) in &stay {
            let chosen = group.images.iter().filter(|image| self.chosen.contains(&image.name));
            pruned.kept.extend(chosen.map(|image| (image.name.clone(), reason.clone().unwrap_or_default())));
        }
        for image in go.iter().flat_map(|(group, _)| &group.images) {
            // CRI finds an image by its config: the record has to stay as long as any image with that config does.
            match stay.iter().find(|(group, _)| group.has_blob(&image.name)) {
                Some((group, _)) => {
                    let other = group.images.first().map(|image| image.name.as_str()).unwrap_or_default();
                    pruned.kept.push((image.name.clone(), format!("{other} has the same config")));
                }
                None => decision.go.push((*image).clone()),
            }
        }
        decision.go.sort_by(|a, b| a.name.cmp(&b.name));
        pruned.removed = decision.go.iter().map(|image| image.name.clone()).collect();
        pruned.kept.sort();
    }
}

/// An image with all its names.
struct Group<'a> {
    target: &'a Digest,
    images: Vec<&'a Image>,
    /// All that it refers to.
    reached: HashSet<Item>,
    /// Its uppermost unpacked layers.
    tops: HashSet<Item>,
}

impl<'a> Group<'a> {
    fn all(held: &'a Holdings) -> Vec<Self> {
        let group = |images: Vec<&'a Image>| {
            let target = &images.first()?.target.digest;
            let reached: HashSet<Item> = images.iter().flat_map(|image| held.reached_by(image)).collect();
            let parents: HashSet<&Item> =
                reached.iter().filter_map(|item| held.snapshots.get(item)?.as_ref()).collect();
            let is_top = |item: &&Item| matches!(item, Item::Snapshot { .. }) && !parents.contains(item);
            let tops = reached.iter().filter(is_top).cloned().collect();
            Some(Self { target, images, reached, tops })
        };
        by_target(&held.images).into_values().filter_map(group).collect()
    }

    fn pin(&self) -> Option<&str> {
        let pinned = |image: &&&Image| image.labels.get(PINNED.0).is_some_and(|value| value == PINNED.1);
        self.images.iter().find(pinned).map(|image| image.name.as_str())
    }

    /// Returns the name that was not chosen and so keeps the image. Tags have a say, or else digests, or else the records
    /// by config.
    fn unchosen(&self, chosen: &BTreeSet<String>) -> Option<&str> {
        let rank = |image: &Image| if is_config(&image.name) { 2 } else { u8::from(image.name.contains('@')) };
        let say = self.images.iter().map(|image| rank(image)).min()?;
        let other = self.images.iter().find(|image| rank(image) == say && !chosen.contains(&image.name))?;
        Some(&other.name)
    }

    /// Says whether a name is a digest, and that of a blob of the image.
    fn has_blob(&self, name: &str) -> bool {
        name.parse::<Digest>().is_ok_and(|digest| self.reached.contains(&Item::Blob(digest)))
    }

    /// Says whether what a container calls its image is this one: a name, its digest, or that of its config.
    fn is_called(&self, name: &str) -> bool {
        self.images.iter().any(|image| image.name == name)
            || name.rsplit_once('@').is_some_and(|(_, digest)| digest == self.target.as_str())
            || self.has_blob(name)
    }
}

/// Says whether a name is that of the records by config digest that CRI makes.
fn is_config(name: &str) -> bool {
    name.parse::<Digest>().is_ok()
}

/// Returns a container for each image that one uses: by what it calls its image, and by the layers that it stands on, which
/// are those of another image when the name moved on after the container was made.
fn used<'a>(held: &'a Holdings, groups: &[Group<'a>]) -> BTreeMap<&'a Digest, &'a str> {
    let mut used = BTreeMap::new();
    for container in &held.containers {
        let called = |group: &&Group<'_>| group.is_called(&container.image);
        let below = |item: &Item| held.snapshots.get(item).cloned().flatten();
        let ancestors = std::iter::successors(Item::snapshot_of(container).as_ref().and_then(below), below);
        let base = ancestors.into_iter().find(|item| groups.iter().any(|group| group.tops.contains(item)));
        let stands = |group: &&Group<'_>| base.as_ref().is_some_and(|base| group.tops.contains(base));
        let mut users: Vec<&Group<'_>> = groups.iter().filter(called).collect();
        // Images may have the same layers; the one that the container names is the one.
        if !users.iter().any(&stands) {
            users.extend(groups.iter().filter(stands));
        }
        used.extend(users.into_iter().map(|group| (group.target, container.id.as_str())));
    }
    used
}

impl Decision {
    /// Works out what going frees.
    async fn weigh(&mut self, ctx: &Context) -> Result<()> {
        let go: HashSet<&str> = self.go.iter().map(|image| image.name.as_str()).collect();
        let kept = self.held.kept(self.held.images.iter().filter(|image| !go.contains(image.name.as_str())));
        let loose: HashSet<Item> = self.held.items().filter(|item| !kept.contains(item)).collect();
        let before = self.held.kept(&self.held.images);
        self.sizes = measure(ctx, ctx.namespace(), &loose).await?;
        self.pruned.expected = self.sum(loose.iter().filter(|item| before.contains(item)), &self.elsewhere);
        self.pruned.freed = self.pruned.expected;
        self.loose = loose;
        Ok(())
    }

    /// Adds up items, without blobs that other namespaces hold.
    fn sum<'a>(&self, items: impl Iterator<Item = &'a Item>, elsewhere: &HashSet<Digest>) -> Bytes {
        let mut bytes = Bytes::default();
        for item in items {
            match item {
                Item::Blob(digest) if elsewhere.contains(digest) => {}
                Item::Blob(digest) => bytes.content += self.held.blobs.get(digest).copied().unwrap_or_default(),
                Item::Snapshot { .. } => bytes.snapshots += self.sizes.get(item).copied().unwrap_or_default(),
            }
        }
        bytes
    }

    /// Returns what each name frees when they go one after another: an item goes with the last that refers to it.
    fn frees(&self) -> Vec<u64> {
        let mut last: HashMap<Item, usize> = HashMap::new();
        for (index, image) in self.go.iter().enumerate() {
            let items = self.held.reached_by(image).into_iter().filter(|item| self.loose.contains(item));
            last.extend(items.map(|item| (item, index)));
        }
        let mut frees = vec![0; self.go.len()];
        for (item, index) in &last {
            if let Some(bytes) = frees.get_mut(*index) {
                *bytes += self.sum(std::iter::once(item), &self.elsewhere).total();
            }
        }
        frees
    }

    /// Returns what is gone from the disk by now.
    async fn gone(&self, ctx: &Context) -> Result<Bytes> {
        let (mut here, mut elsewhere) = (HashSet::new(), HashSet::new());
        for place in everywhere(ctx).await? {
            if place.namespace == ctx.namespace() {
                here = self.loose.iter().filter(|item| place.has(item)).cloned().collect();
            } else {
                elsewhere.extend(place.blobs.into_keys());
            }
        }
        Ok(self.sum(self.loose.difference(&here), &elsewhere))
    }
}

#[async_trait]
impl Operation for Prune {
    type Output = Pruned;
    const NAME: &'static str = "prune";

    fn subject(&self) -> String {
        match self.chosen.len() {
            1 => "1 image name".to_owned(),
            count => format!("{count} image names"),
        }
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Pruned>> {
        let decision = self.decide(ctx).await?;
        let frees = decision.frees();
        self.found = decision.go;
        let mut plan = Plan::new(decision.pruned);
        for (image, bytes) in self.found.iter().zip(frees) {
            let action = format!("delete image {}", image.name);
            plan = match bytes {
                0 => plan.step(Access::Delete, ctx.target(), action),
                bytes => plan.frees(ctx.target(), action, bytes),
            };
            plan = plan.effect(Effect::gone::<Image>(&ctx.place_name(), &image.name));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Pruned> {
        // A container may have been made while the user was asked: only what was shown and is still not needed goes.
        let mut decision = self.decide(ctx).await?;
        let shown: HashSet<(&str, &Digest)> =
            self.found.iter().map(|image| (image.name.as_str(), &image.target.digest)).collect();
        decision.go.retain(|image| shown.contains(&(image.name.as_str(), &image.target.digest)));
        let images = ctx.client().await?.images();
        let mut removed = Vec::new();
        let last = decision.go.len().saturating_sub(1);
        for (index, image) in decision.go.iter().enumerate() {
            // One run of the collector after the last frees the space of all.
            let deletion = if index == last { Deletion::Synchronous } else { Deletion::Later };
            match images.delete(&image.name, Some(&image.target), deletion).await {
                Ok(()) => removed.push(image.name.clone()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let freed = if removed.is_empty() { Bytes::default() } else { decision.gone(ctx).await? };
        Ok(Pruned { removed, freed, ..decision.pruned })
    }
}
