//! Snapshots: the filesystems that layers become and containers run on.

mod commit;
mod delete;
mod diff;
mod get;
mod label;
mod list;
mod mount;
mod mounted;
mod mounts;
mod prepare;
mod tree;
mod unpack;
mod usage;

pub use commit::Commit;
pub use delete::Delete;
pub(in crate::ops) use diff::Packing;
pub use diff::{Diff, DiffOptions};
pub use get::get;
pub(in crate::ops) use get::{is_there, would_be_there, would_exist};
pub use label::Label;
pub use list::{children, list};
pub use mount::Mount;
pub(in crate::ops) use mount::attach;
pub(in crate::ops) use mounted::Mounted;
pub use mounts::mounts;
pub use prepare::{Prepare, PrepareOptions, View};
pub(in crate::ops) use prepare::{Wanted, make};
pub use tree::{Row, tree};
pub use unpack::Unpack;
pub use usage::usage;

use chrono::{SecondsFormat, Utc};

use crate::containerd::snapshots::Info;
use crate::containerd::{Client, Labels};
use crate::ops::{Context, Error, Result};

/// Keeps a snapshot or a blob until it is deleted by name (containerd docs/garbage-collection.md).
const KEEP: &str = "containerd.io/gc.root";

/// A snapshot, with the snapshotter that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The snapshotter.
    pub snapshotter: String,
    /// What is known of it.
    pub info: Info,
}

/// Returns where the overlay of a dry run keeps the snapshots of a snapshotter.
fn place(ctx: &Context, snapshotter: &str) -> String {
    format!("{} {snapshotter}", ctx.place_name())
}

/// Returns a client under the lease that the context has, which keeps what the client makes.
async fn client(ctx: &Context) -> Result<Client> {
    let client = ctx.client().await?;
    Ok(match ctx.lease() {
        Some(lease) => client.with_lease(lease)?,
        None => client,
    })
}

/// Returns the labels of what a user makes by hand: it is kept until it is deleted by name, unless a lease keeps it or the
/// user's own labels say otherwise. An empty value leaves a label out.
fn keeping(ctx: &Context, given: &Labels) -> Labels {
    let mut labels = Labels::new();
    if ctx.lease().is_none() {
        labels.insert(KEEP.to_owned(), Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true));
    }
    labels.extend(given.clone());
    labels.retain(|_, value| !value.is_empty());
    labels
}

/// Says that there is no such snapshot, with the nearest of those that there are.
async fn not_found(ctx: &Context, snapshotter: &str, key: &str) -> Error {
    let existing = list(ctx, snapshotter, &[]).await.unwrap_or_default();
    match Error::not_found("snapshot", key, existing.iter().map(|snapshot| snapshot.info.name.as_str())) {
        Error::NotFound { what, name, nearest, .. } => {
            let cure = format!("snapshots::list() shows those of {snapshotter}; #{{ snapshotter }} names another");
            Error::NotFound { what, name, nearest, cure: Some(cure) }
        }
        other => other,
    }
}

/// Says that a key is taken.
fn taken(key: &str) -> Error {
    Error::AlreadyExists {
        what: "snapshot",
        name: key.to_owned(),
        cure: Some(format!("snapshots::delete(\"{key}\") removes it")),
    }
}
