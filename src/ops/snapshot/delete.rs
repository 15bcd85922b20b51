//! `snapshots::delete`: removes snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{Snapshot, list, place};
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, container, image};

/// How many snapshots are removed at the same time.
const PARALLEL: usize = 8;

/// Removes snapshots, those that stand on others first.
#[derive(Debug)]
pub struct Delete {
    keys: BTreeSet<String>,
    snapshotter: Option<String>,
    force: bool,
    /// What is removed together, in order.
    rounds: Vec<Vec<String>>,
}

impl Delete {
    /// Removes the snapshots with these keys. With `force`, also what is a container's root filesystem.
    #[must_use]
    pub fn new(keys: Vec<String>, snapshotter: Option<String>, force: bool) -> Self {
        Self { keys: keys.into_iter().collect(), snapshotter, force, rounds: Vec::new() }
    }

    /// Finds all that stands against it.
    async fn obstacles(&self, ctx: &Context, snapshotter: &str, all: &[Snapshot]) -> Result<Vec<Error>> {
        let names = || all.iter().map(|snapshot| snapshot.info.name.as_str());
        let known: BTreeSet<&str> = names().collect();
        let missing = self.keys.iter().filter(|key| !known.contains(key.as_str()));
        let mut obstacles: Vec<Error> = missing.map(|key| Error::not_found("snapshot", key, names())).collect();
        let mut above: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for snapshot in all.iter().filter(|snapshot| !self.keys.contains(&snapshot.info.name)) {
            if let Some(parent) = snapshot.info.parent.as_deref().filter(|parent| self.keys.contains(*parent)) {
                above.entry(parent).or_default().push(&snapshot.info.name);
            }
        }
        obstacles.extend(above.into_iter().map(|(key, children)| Error::Conflict {
            what: "snapshot",
            name: key.to_owned(),
            state: format!("has others on it: {}", children.join(", ")),
            cure: Some("delete those with it, in one list".into()),
        }));
        if !self.force {
            let containers = container::list(ctx, &[]).await?;
            let users = containers.into_iter().filter(|container| {
                container.snapshotter == snapshotter && self.keys.contains(&container.snapshot_key)
            });
            obstacles.extend(users.map(|container| Error::Conflict {
                what: "snapshot",
                name: container.snapshot_key,
                state: format!("is the root filesystem of container {}", container.id),
                cure: Some(format!("delete(\"{}\") removes both; #{{ force: true }} the snapshot alone", container.id)),
            }));
        }
        Ok(obstacles)
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = u64;
    const NAME: &'static str = "delete snapshot";

    fn subject(&self) -> String {
        self.keys.iter().cloned().collect::<Vec<_>>().join(", ")
    }

    /// All has to be possible as far as can be seen, so that a misspelt key among many deletes nothing.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<u64>> {
        let snapshotter = image::snapshotter(ctx, self.snapshotter.as_deref()).await?;
        let all = list(ctx, &snapshotter, &[]).await?;
        if let Some(error) = Error::several(self.obstacles(ctx, &snapshotter, &all).await?) {
            return Err(error);
        }
        self.rounds = rounds(&self.keys, &all);
        let mut plan = Plan::new(self.keys.len() as u64);
        for key in self.rounds.iter().flatten() {
            plan = plan.step(Access::Delete, ctx.target(), format!("delete snapshot {key}")).effect(Effect::gone::<
                Snapshot,
            >(
                &place(ctx, &snapshotter),
                key,
            ));
        }
        self.snapshotter = Some(snapshotter);
        Ok(plan)
    }

    /// Every snapshot is asked for, whatever became of the others.
    async fn apply(self, ctx: &Context) -> Result<u64> {
        let snapshotter = image::snapshotter(ctx, self.snapshotter.as_deref()).await?;
        let snapshots = ctx.client().await?.snapshots(&snapshotter);
        let mut failures = Vec::new();
        for round in self.rounds {
            let jobs = stream::iter(round).map(|key| {
                let snapshots = snapshots.clone();
                async move { snapshots.remove(&key).await }
            });
            let answers: Vec<_> = jobs.buffered(PARALLEL).collect().await;
            failures
                .extend(answers.into_iter().filter_map(std::result::Result::err).filter(|error| !error.is_not_found()));
        }
        match Error::several(failures.into_iter().map(Error::from).collect()) {
            Some(error) => Err(error),
            None => Ok(self.keys.len() as u64),
        }
    }
}

/// Puts those that have most below them first: no two of a round stand on each other.
fn rounds(keys: &BTreeSet<String>, all: &[Snapshot]) -> Vec<Vec<String>> {
    let parents: HashMap<&str, &str> = all
        .iter()
        .filter_map(|snapshot| Some((snapshot.info.name.as_str(), snapshot.info.parent.as_deref()?)))
        .collect();
    let mut rounds: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for key in keys {
        let below = std::iter::successors(parents.get(key.as_str()), |parent| parents.get(*parent));
        // What the daemon lists has no circles.
        rounds.entry(below.take(all.len()).count()).or_default().push(key.clone());
    }
    rounds.into_values().rev().collect()
}
