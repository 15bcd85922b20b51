//! Content: blobs by their digest, below images.

mod delete;
mod edit;
mod fetch;
mod held;
mod ingest;
mod ingests;
mod label;
mod list;
mod prune;
mod push;
mod read;

pub use delete::Delete;
pub use edit::Edit;
pub use fetch::{FetchBlobs, blobs, object};
pub use held::Held;
pub(in crate::ops) use held::{only_counted, would_be_here};
pub use ingest::{Ingest, IngestOptions, Source};
pub use ingests::{Abort, active};
pub use label::Label;
pub use list::{info, list};
pub(in crate::ops) use prune::{LAYER, SNAPSHOT};
pub use prune::{PruneReferences, Pruned};
pub use push::PushObject;
pub use read::{MAX_READ, Save, bytes};

use crate::containerd::content::Info;
use crate::ops::{Context, Effect};

/// The label that keeps content until it is deleted (containerd docs/garbage-collection.md).
const ROOT: &str = "containerd.io/gc.root";

fn exists(ctx: &Context, info: &Info) -> Effect {
    Effect::exists(&ctx.place_name(), info.digest.as_str(), info.clone())
}
