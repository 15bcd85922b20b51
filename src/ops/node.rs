//! Reads about the daemon itself.

use crate::containerd::version::Version;
use crate::ops::{Context, Result};

/// Asks the daemon for its version.
///
/// # Errors
/// When there is no connection.
pub async fn version(ctx: &Context) -> Result<Version> {
    Ok(ctx.client().await?.version().await?)
}
