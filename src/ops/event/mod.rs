//! Events: what happens in a daemon, for those who wait for it.

mod filter;
mod watch;

pub use filter::{Filters, filters};
pub use watch::{Happening, Watch};
