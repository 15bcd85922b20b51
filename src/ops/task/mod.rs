//! Tasks: what runs of containers.

mod checkpoint;
mod delete;
mod list;
mod metrics;
mod pause;
mod ps;
mod resume;

pub use checkpoint::Checkpoint;
pub(in crate::ops) use checkpoint::not_checkpointed;
pub use delete::Delete;
pub use list::list;
pub use metrics::{all_metrics, metrics};
pub use pause::Pause;
pub(in crate::ops) use pause::freeze;
pub use ps::ps;
pub use resume::Resume;
