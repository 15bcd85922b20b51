//! `leases::list`: lists leases, and looks one up.

use crate::containerd::leases::Lease;
use crate::ops::{Context, Error, Result, Seen};

/// Lists the leases of the namespace that match any of containerd's filters, all without a filter, sorted by id.
///
/// # Errors
/// When a filter is not one, or there is no connection.
pub async fn list(ctx: &Context, filters: &[String]) -> Result<Vec<Lease>> {
    let mut leases = ctx.client().await?.leases().list(filters).await?;
    leases.sort_by(|a, b| a.id.cmp(&b.id));
    if filters.is_empty() {
        ctx.overlay().amend(&ctx.place_name(), &mut leases, |lease| &lease.id);
    }
    Ok(leases)
}

/// Looks one lease up.
///
/// # Errors
/// [`Error::NotFound`] with the nearest id that exists.
pub async fn get(ctx: &Context, id: &str) -> Result<Lease> {
    match ctx.overlay().get::<Lease>(&ctx.place_name(), id) {
        Seen::As(lease) => return Ok(lease),
        Seen::Gone => {}
        Seen::Unknown => {
            if let Some(lease) = ctx.client().await?.leases().find(id).await? {
                return Ok(lease);
            }
        }
    }
    let existing = list(ctx, &[]).await?;
    Err(Error::not_found("lease", id, existing.iter().map(|lease| lease.id.as_str())))
}
