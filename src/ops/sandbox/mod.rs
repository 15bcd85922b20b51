//! Sandboxes: what groups of containers share. Daemons have them since containerd 1.7.

use futures_util::future;

use crate::containerd::Client;
use crate::containerd::sandboxes::{Sandbox, Status};
use crate::ops::{Context, Error, Result, node};

mod delete;
mod run;

pub use delete::Delete;
pub use run::{Run, RunOptions};

/// The plugins that serve sandboxes (containerd `plugins/services/sandbox`).
const STORE: &str = "sandboxes";
const CONTROLLERS: &str = "sandbox-controllers";

/// A sandbox and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its record.
    pub sandbox: Sandbox,
    /// What it does; none when nothing of it runs.
    pub status: Option<Status>,
}

/// Lists the sandboxes that match any of containerd's filters, all without a filter, sorted by id.
///
/// # Errors
/// When a filter is not one, or the daemon has no sandboxes.
pub async fn list(ctx: &Context, filters: &[String]) -> Result<Vec<Found>> {
    let client = ctx.client().await?;
    let mut records = match client.sandboxes().list(filters).await {
        Ok(records) => records,
        Err(error) if error.is_unsupported() => {
            return Err(lacking(ctx, STORE, "sandboxes").await?.unwrap_or_else(|| error.into()));
        }
        Err(error) => return Err(error.into()),
    };
    records.sort_by(|a, b| a.id.cmp(&b.id));
    if filters.is_empty() {
        ctx.overlay().amend(&ctx.place_name(), &mut records, |sandbox| &sandbox.id);
    }
    let found = records.into_iter().map(|sandbox| with_status(&client, sandbox));
    Ok(future::join_all(found).await)
}

/// Looks one sandbox up.
///
/// # Errors
/// [`Error::NotFound`] with the nearest id that exists.
pub async fn get(ctx: &Context, id: &str) -> Result<Found> {
    // The overlay of a dry run is in the list.
    let mut known = list(ctx, &[]).await?;
    match known.iter().position(|found| found.sandbox.id == id) {
        Some(at) => Ok(known.swap_remove(at)),
        None => Err(Error::not_found("sandbox", id, known.iter().map(|found| found.sandbox.id.as_str()))),
    }
}

/// Asks what a sandbox does. A controller that does not know it, or cannot say, says nothing.
async fn with_status(client: &Client, sandbox: Sandbox) -> Found {
    let status = client.sandboxes().status(&sandbox).await;
    Found { status: status.ok(), sandbox }
}

/// Looks at a plugin of the daemon, and says how the daemon lacks it if it does.
async fn lacking(ctx: &Context, plugin: &str, what: &'static str) -> Result<Option<Error>> {
    let known = node::plugins(ctx, &[format!("type==io.containerd.grpc.v1,id==\"{plugin}\"")]).await?;
    let reason = match known.first().map(|plugin| plugin.failure.as_deref()) {
        Some(None) => return Ok(None),
        Some(Some(failure)) => format!("its plugin io.containerd.grpc.v1.{plugin} does not run: {failure}"),
        None => format!("it has no plugin io.containerd.grpc.v1.{plugin}"),
    };
    let daemon = ctx.place().daemon.endpoint().to_string();
    let cure = "containerd has them since 1.7; plugins() lists what this one has".to_owned();
    Ok(Some(Error::Lacking { daemon, what, reason, cure }))
}
