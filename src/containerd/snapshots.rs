//! Snapshots: the filesystems that layers become and containers run on.

use chrono::{DateTime, Utc};
use containerd_client::services::v1::snapshots as api;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::types;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::error::failed;
use super::guard::Guard;
use super::{Client, Labels, Result, service, wire};

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Can be read, and goes away.
    View,
    /// Can be written.
    Active,
    /// Can be the parent of others, and never changes.
    Committed,
    /// The daemon does not say.
    Unknown,
}

impl Kind {
    /// Returns the name by which containerd's filters know it (`kind==active`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
            Self::Unknown => "unknown",
        }
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its key, or once committed its name.
    pub name: String,
    /// The name of the committed snapshot below it.
    pub parent: Option<String>,
    /// What it is for.
    pub kind: Kind,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Its labels.
    pub labels: Labels,
}

impl Info {
    /// Writes it as `ctr snapshots info` prints it (containerd `core/snapshots/snapshotter.go`).
    #[must_use]
    pub fn as_ctr(&self) -> serde_json::Value {
        let kind = match self.kind {
            Kind::View => "View",
            Kind::Active => "Active",
            Kind::Committed => "Committed",
            Kind::Unknown => "Unknown",
        };
        let mut info = serde_json::json!({
            "Kind": kind,
            "Name": self.name,
            "Created": wire::as_go(self.created_at),
            "Updated": wire::as_go(self.updated_at),
        });
        if let Some(parent) = &self.parent {
            info["Parent"] = parent.as_str().into();
        }
        if !self.labels.is_empty() {
            info["Labels"] = serde_json::json!(self.labels);
        }
        info
    }
}

/// The disk that a snapshot takes by itself, without its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// In bytes.
    pub size: u64,
    /// In inodes.
    pub inodes: u64,
}

/// How to mount a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The filesystem, such as `overlay` or `bind`.
    pub kind: String,
    /// What to mount.
    pub source: String,
    /// Where below the root to mount it; nearly always empty.
    pub target: String,
    /// The options, such as `ro` or `lowerdir=…`.
    pub options: Vec<String>,
}

/// The snapshot service, for one snapshotter.
#[derive(Debug, Clone)]
pub struct Snapshots {
    client: Client,
    snapshotter: String,
}

impl Client {
    /// Returns the snapshot service for a snapshotter, such as `overlayfs`.
    #[must_use]
    pub fn snapshots(&self, snapshotter: &str) -> Snapshots {
        Snapshots { client: self.clone(), snapshotter: snapshotter.to_owned() }
    }

    /// Finds the snapshotter to use when none is asked for: the namespace's default, else `overlayfs`, as ctr does.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `read`.
    pub async fn default_snapshotter(&self) -> Result<String> {
        const LABEL: &str = "containerd.io/defaults/snapshotter";
        let labels = match self.namespaces().get(self.namespace()).await {
            Ok(namespace) => namespace.labels,
            Err(error) if error.is_not_found() => Labels::new(),
            Err(error) => return Err(error),
        };
        Ok(labels.get(LABEL).filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| "overlayfs".to_owned()))
    }
}

impl Snapshots {
    fn rpc(&self) -> SnapshotsClient<Guard> {
        service!(SnapshotsClient<_>, self.client)
    }

    /// Returns the snapshotter's name.
    #[must_use]
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// Looks up a snapshot.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn stat(&self, key: &str) -> Result<Info> {
        let request = api::StatSnapshotRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() };
        let info = self.rpc().stat(request).await.map_err(failed("get snapshot", key))?.into_inner().info;
        Ok(Info::from_wire(wire::required(info, "get snapshot", key)?))
    }

    /// Lists the snapshots that match any of the filters, all without filters.
    ///
    /// # Errors
    /// Fails when the daemon refuses a filter or has no such snapshotter.
    pub async fn list(&self, filters: &[String]) -> Result<BoxStream<'static, Result<Info>>> {
        const ACTION: &str = "list snapshots of";
        let request = api::ListSnapshotsRequest { snapshotter: self.snapshotter.clone(), filters: filters.to_vec() };
        let answer = self.rpc().list(request).await.map_err(failed(ACTION, &self.snapshotter))?.into_inner();
        let failure = failed(ACTION, self.snapshotter.clone());
        let pages =
            answer.map_err(failure).map_ok(|page| stream::iter(page.info.into_iter().map(Info::from_wire).map(Ok)));
        Ok(pages.try_flatten().boxed())
    }

    /// Measures a snapshot.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn usage(&self, key: &str) -> Result<Usage> {
        let request = api::UsageRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() };
        let usage = self.rpc().usage(request).await.map_err(failed("measure snapshot", key))?.into_inner();
        Ok(Usage { size: wire::size(usage.size), inodes: wire::size(usage.inodes) })
    }

    /// Returns how to mount an active snapshot or a view.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let request = api::MountsRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() };
        let answer = self.rpc().mounts(request).await.map_err(failed("get mounts of snapshot", key))?;
        Ok(answer.into_inner().mounts.into_iter().map(Mount::from_wire).collect())
    }

    /// Makes an active snapshot on a committed one, or an empty one without a parent.
    ///
    /// # Errors
    /// [`Error::is_already_exists`](super::Error::is_already_exists) when the key is taken, or, from a remote
    /// snapshotter, when the target of the label `containerd.io/snapshot.ref` is there already;
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is no such parent.
    pub async fn prepare(&self, key: &str, parent: Option<&str>, labels: &Labels) -> Result<Vec<Mount>> {
        let request = api::PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
            parent: parent.unwrap_or_default().to_owned(),
            labels: wire::to_labels(labels),
        };
        let answer = self.rpc().prepare(request).await.map_err(failed("prepare snapshot", key))?;
        Ok(answer.into_inner().mounts.into_iter().map(Mount::from_wire).collect())
    }

    /// Makes a view of a committed snapshot.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub async fn view(&self, key: &str, parent: Option<&str>, labels: &Labels) -> Result<Vec<Mount>> {
        let request = api::ViewSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.to_owned(),
            parent: parent.unwrap_or_default().to_owned(),
            labels: wire::to_labels(labels),
        };
        let answer = self.rpc().view(request).await.map_err(failed("view snapshot", key))?;
        Ok(answer.into_inner().mounts.into_iter().map(Mount::from_wire).collect())
    }

    /// Makes an active snapshot a committed one of another name.
    ///
    /// # Errors
    /// [`Error::is_already_exists`](super::Error::is_already_exists) when the name is taken; the active one stays then.
    pub async fn commit(&self, name: &str, key: &str, labels: &Labels) -> Result<()> {
        let request = api::CommitSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: wire::to_labels(labels),
        };
        self.rpc().commit(request).await.map_err(failed("commit snapshot", name))?;
        Ok(())
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none,
    /// [`Fault::Conflict`](super::Fault::Conflict) while others stand on it.
    pub async fn remove(&self, key: &str) -> Result<()> {
        let request = api::RemoveSnapshotRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() };
        self.rpc().remove(request).await.map_err(failed("remove snapshot", key))?;
        Ok(())
    }

    /// Sets labels, leaving the others alone; an empty value removes a label.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn set_labels(&self, key: &str, labels: &Labels) -> Result<Info> {
        let info = api::Info { name: key.to_owned(), labels: wire::to_labels(labels), ..Default::default() };
        let request = api::UpdateSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            info: Some(info),
            update_mask: Some(wire::label_mask(labels.keys())),
        };
        let info = self.rpc().update(request).await.map_err(failed("label snapshot", key))?.into_inner().info;
        Ok(Info::from_wire(wire::required(info, "label snapshot", key)?))
    }
}

impl Info {
    fn from_wire(wire: api::Info) -> Self {
        let kind = match wire.kind() {
            api::Kind::View => Kind::View,
            api::Kind::Active => Kind::Active,
            api::Kind::Committed => Kind::Committed,
            api::Kind::Unknown => Kind::Unknown,
        };
        Self {
            name: wire.name,
            parent: Some(wire.parent).filter(|parent| !parent.is_empty()),
            kind,
            created_at: wire::time(wire.created_at),
            updated_at: wire::time(wire.updated_at),
            labels: wire::labels(wire.labels),
        }
    }
}

impl Mount {
    pub(crate) fn from_wire(wire: types::Mount) -> Self {
        Self { kind: wire.r#type, source: wire.source, target: wire.target, options: wire.options }
    }

    pub(crate) fn to_wire(&self) -> types::Mount {
        types::Mount {
            r#type: self.kind.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            options: self.options.clone(),
        }
    }
}
