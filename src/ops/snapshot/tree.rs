//! `snapshots::tree`: which snapshot stands on which.

use std::collections::{BTreeMap, HashSet};

use super::{Snapshot, list};
use crate::ops::{Context, Result};

/// One snapshot of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How many lie below it.
    pub depth: usize,
    /// It.
    pub snapshot: Snapshot,
}

/// Lists all snapshots of a snapshotter, each before those that stand on it, otherwise sorted by key.
///
/// # Errors
/// When there is no such snapshotter, or no connection.
pub async fn tree(ctx: &Context, snapshotter: &str) -> Result<Vec<Row>> {
    Ok(ordered(list(ctx, snapshotter, &[]).await?))
}

/// Puts snapshots that are sorted by key in the order of a tree. One whose parent is not among them counts as a root: the
/// list may be cut by a deletion that goes on meanwhile.
fn ordered(snapshots: Vec<Snapshot>) -> Vec<Row> {
    let names: HashSet<String> = snapshots.iter().map(|snapshot| snapshot.info.name.clone()).collect();
    let mut above: BTreeMap<Option<String>, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let parent = snapshot.info.parent.clone().filter(|parent| names.contains(parent));
        above.entry(parent).or_default().push(snapshot);
    }
    let mut rows = Vec::new();
    let mut open: Vec<(usize, Snapshot)> = above.remove(&None).into_iter().flatten().rev().map(|s| (0, s)).collect();
    while let Some((depth, snapshot)) = open.pop() {
        let children = above.remove(&Some(snapshot.info.name.clone())).into_iter().flatten();
        open.extend(children.rev().map(|child| (depth + 1, child)));
        rows.push(Row { depth, snapshot });
    }
    rows
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::containerd::Labels;
    use crate::containerd::snapshots::{Info, Kind};

    #[test]
    fn each_stands_behind_its_parent_and_none_is_lost() {
        let snapshot = |name: &str, parent: &str| Snapshot {
            snapshotter: "native".into(),
            info: Info {
                name: name.into(),
                parent: (!parent.is_empty()).then(|| parent.into()),
                kind: Kind::Committed,
                created_at: DateTime::UNIX_EPOCH,
                updated_at: DateTime::UNIX_EPOCH,
                labels: Labels::new(),
            },
        };
        let list = [("a", ""), ("b", "d"), ("c", "gone"), ("d", "a"), ("e", "a"), ("f", "")];
        let rows = ordered(list.iter().map(|(name, parent)| snapshot(name, parent)).collect());
        let seen: Vec<_> = rows.iter().map(|row| format!("{}{}", row.depth, row.snapshot.info.name)).collect();
        assert_eq!(seen, ["0a", "1d", "2b", "1e", "0c", "0f"]);
    }
}
