//! Reads about the daemon itself.

use crate::containerd::introspection::{Plugin, Server};
use crate::containerd::version::Version;
use crate::ops::{Context, Result};

/// Asks the daemon for its version.
///
/// # Errors
/// When there is no connection.
pub async fn version(ctx: &Context) -> Result<Version> {
    Ok(ctx.client().await?.version().await?)
}

/// Asks the daemon what it is as a process.
///
/// # Errors
/// When there is no connection.
pub async fn info(ctx: &Context) -> Result<Server> {
    Ok(ctx.client().await?.introspection().server().await?)
}

/// Lists the plugins that match any of containerd's filters, all without a filter.
///
/// # Errors
/// When a filter is not one, or there is no connection.
pub async fn plugins(ctx: &Context, filters: &[String]) -> Result<Vec<Plugin>> {
    Ok(ctx.client().await?.introspection().plugins(filters).await?)
}
