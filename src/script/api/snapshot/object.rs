//! The objects of snapshots.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rhai::{Array, Dynamic, Map};

use crate::containerd::snapshots::{Kind, Mount, Usage};
use crate::ops::Place;
use crate::ops::snapshot::{Row, Snapshot, usage};
use crate::script::call::Session;
use crate::script::catalog::Catalog;
use crate::script::convert;
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::time::Time;
use crate::script::tree;

/// A snapshot, with where it is and the list it came in.
#[derive(Clone)]
pub struct SnapshotObject {
    snapshot: Arc<Snapshot>,
    place: Place,
    siblings: Arc<Siblings>,
}

/// The snapshots that came in one list: when the size of one is read, all are measured, several at a time.
struct Siblings {
    keys: Vec<String>,
    usages: OnceLock<HashMap<String, Usage>>,
}

impl SnapshotObject {
    /// Wraps one snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot, place: &Place) -> Self {
        let siblings = Siblings { keys: vec![snapshot.info.name.clone()], usages: OnceLock::new() };
        Self { snapshot: Arc::new(snapshot), place: place.clone(), siblings: Arc::new(siblings) }
    }

    /// Wraps the snapshots of one snapshotter.
    #[must_use]
    pub fn list(snapshots: Vec<Snapshot>, place: &Place) -> Vec<Self> {
        let keys = snapshots.iter().map(|snapshot| snapshot.info.name.clone()).collect();
        let siblings = Arc::new(Siblings { keys, usages: OnceLock::new() });
        let wrap =
            |snapshot| Self { snapshot: Arc::new(snapshot), place: place.clone(), siblings: Arc::clone(&siblings) };
        snapshots.into_iter().map(wrap).collect()
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.snapshot.info.name
    }

    /// Returns the snapshotter.
    #[must_use]
    pub fn snapshotter(&self) -> &str {
        &self.snapshot.snapshotter
    }

    /// Returns where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn usage(&self, session: &Session) -> Result<Usage> {
        if self.siblings.usages.get().is_none() {
            let ctx = session.context().at(&self.place);
            // Asked for by key, one that is gone meanwhile would fail all others.
            let keys = (self.siblings.keys.len() == 1).then(|| self.siblings.keys.clone());
            let usages = session.wait(&ctx, usage(&ctx, self.snapshotter(), keys))?;
            let _ = self.siblings.usages.set(usages.into_iter().collect());
        }
        let known = self.siblings.usages.get().and_then(|usages| usages.get(self.key()));
        Ok(known.copied().unwrap_or_default())
    }
}

fn bytes(count: u64) -> Dynamic {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

fn optional(text: Option<&String>) -> Dynamic {
    text.map_or(Dynamic::UNIT, |text| text.clone().into())
}

impl Object for SnapshotObject {
    const TYPE: &'static str = "Snapshot";
    const DOC: &'static str = "A snapshot: a layer that was unpacked, or what a container writes to.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<SnapshotObject>;
        const FIELDS: &[F] = &[
            F::column(
                "key",
                "string",
                "The key; of an unpacked layer the digest of all layers up to it (its chain id).",
                |s, _| Ok(s.snapshot.info.name.clone().into()),
            )
            .unit(Unit::Digest),
            F::column("parent", "string", "The key of the committed snapshot that it stands on, or `()`.", |s, _| {
                Ok(optional(s.snapshot.info.parent.as_ref()))
            })
            .unit(Unit::Digest),
            F::column(
                "kind",
                "string",
                "`committed`: others can stand on it; `active`: it can be written; `view`: it can be read.",
                |s, _| Ok(s.snapshot.info.kind.as_str().into()),
            ),
            F::column("created", "Time", "When it was made.", |s, _| {
                Ok(Dynamic::from(Time(s.snapshot.info.created_at)))
            })
            .unit(Unit::Time),
            F::field("updated", "Time", "When it was last changed.", |s, _| {
                Ok(Dynamic::from(Time(s.snapshot.info.updated_at)))
            })
            .unit(Unit::Time),
            F::field("labels", "map", "The labels.", |s, _| {
                Ok(s.snapshot.info.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
            F::field("snapshotter", "string", "The snapshotter that it is in.", |s, _| {
                Ok(s.snapshot.snapshotter.clone().into())
            }),
            F::on_demand("size", "int", "Bytes that it takes by itself, without what it stands on.", |s, session| {
                Ok(bytes(s.usage(session)?.size))
            })
            .unit(Unit::Bytes),
            F::on_demand(
                "inodes",
                "int",
                "Files and folders that it has by itself, without what it stands on.",
                |s, session| Ok(bytes(s.usage(session)?.inodes)),
            ),
            F::on_demand(
                "record",
                "map",
                "All that the snapshotter knows, in the words of `ctr snapshots info`.",
                |s, _| Ok(convert::from_json(s.snapshot.info.as_ctr())),
            ),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.key().to_owned())
    }
}

/// The disk that one snapshot takes.
#[derive(Clone)]
pub(super) struct UsageObject(pub String, pub Usage);

impl Object for UsageObject {
    const TYPE: &'static str = "SnapshotUsage";
    const DOC: &'static str = "The disk that a snapshot takes by itself, without what it stands on.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<UsageObject>;
        const FIELDS: &[F] = &[
            F::column("key", "string", "The snapshot's key.", |u, _| Ok(u.0.clone().into())).unit(Unit::Digest),
            F::column("size", "int", "In bytes.", |u, _| Ok(bytes(u.1.size))).unit(Unit::Bytes),
            F::column("inodes", "int", "In files and folders.", |u, _| Ok(bytes(u.1.inodes))),
        ];
        FIELDS
    }
}

/// One step of mounting a snapshot.
#[derive(Clone)]
pub(super) struct MountObject(pub Mount);

impl Object for MountObject {
    const TYPE: &'static str = "Mount";
    const DOC: &'static str = "How a snapshot is mounted on its daemon's host.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<MountObject>;
        const FIELDS: &[F] = &[
            F::column("type", "string", "The filesystem, such as `overlay` or `bind`.", |m, _| {
                Ok(m.0.kind.clone().into())
            }),
            F::column("source", "string", "What is mounted.", |m, _| Ok(m.0.source.clone().into())),
            F::field("target", "string", "The folder below the mount point, or `()`, as nearly always.", |m, _| {
                Ok(optional(Some(&m.0.target).filter(|target| !target.is_empty())))
            }),
            F::column("options", "array", "The options, such as `ro` or `lowerdir=…`.", |m, _| {
                Ok(m.0.options.iter().map(|option| Dynamic::from(option.clone())).collect::<Array>().into())
            }),
        ];
        FIELDS
    }
}

/// Which snapshot stands on which.
#[derive(Clone)]
pub(super) struct TreeObject {
    pub snapshotter: String,
    pub rows: Arc<Vec<Row>>,
}

impl Object for TreeObject {
    const TYPE: &'static str = "SnapshotTree";
    const DOC: &'static str = "Which snapshot stands on which. It is shown as a tree.";
    const AS_TEXT: bool = true;

    fn fields() -> &'static [Field<Self>] {
        type F = Field<TreeObject>;
        const FIELDS: &[F] = &[
            F::field("snapshotter", "string", "The snapshotter.", |t, _| Ok(t.snapshotter.clone().into())),
            F::field(
                "rows",
                "array",
                "The snapshots, each before those that stand on it: maps of `depth`, `key`, `kind` and `parent`.",
                |t, _| {
                    let row = |row: &Row| {
                        let info = &row.snapshot.info;
                        let map = Map::from_iter([
                            ("depth".into(), bytes(row.depth as u64)),
                            ("key".into(), info.name.clone().into()),
                            ("kind".into(), info.kind.as_str().into()),
                            ("parent".into(), optional(info.parent.as_ref())),
                        ]);
                        Dynamic::from(map)
                    };
                    Ok(t.rows.iter().map(row).collect::<Array>().into())
                },
            ),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        let line = |row: &Row| match row.snapshot.info.kind {
            Kind::Committed => (row.depth, row.snapshot.info.name.clone()),
            kind => (row.depth, format!("{} ({})", row.snapshot.info.name, kind.as_str())),
        };
        Some(tree::draw(&self.rows.iter().map(line).collect::<Vec<_>>()))
    }
}

/// Registers the objects.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<SnapshotObject>();
    catalog.add_object::<UsageObject>();
    catalog.add_object::<MountObject>();
    catalog.add_object::<TreeObject>();
}
