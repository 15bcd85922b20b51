//! The lease of a migration, which outlives its images and the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::journal::{Event, Journal, Past};
use crate::containerd::images::Deletion;
use crate::ops::undo::Undo;
use crate::ops::{Context, Result, lease};

/// How old a lease may be when an image begins to arrive under it.
const LEASE_AGE: Duration = Duration::from_secs(lease::LIFETIME.as_secs() / 2);

/// Keeps what has half arrived in the namespace, also when this process is killed: the next one takes the lease up.
pub(super) struct Keeper {
    journal: Arc<Journal>,
    ctx: Context,
    id: String,
    made: Instant,
    undo: Undo,
}

impl Keeper {
    pub(super) async fn new(ctx: &Context, journal: &Arc<Journal>, past: &Past) -> Result<Self> {
        let client = ctx.client().await?;
        let mut undo = Undo::new(ctx.debts());
        let mut usable = None;
        if let Some((_, id)) = past.lease.as_ref().filter(|(place, _)| *place == ctx.place_name()) {
            let (undoing, old) = (client.undoing(), id.clone());
            undo.push(async move {
                let _ = undoing.leases().delete(&old, Deletion::Synchronous).await;
            });
            let lives = |end: DateTime<Utc>| end - Utc::now() > TimeDelta::hours(1);
            let found = client.leases().find(id).await?;
            usable = found.filter(|lease| lease.expires_at().is_none_or(lives)).map(|lease| lease.id);
        }
        let fresh = usable.is_none();
        let mut keeper = Self {
            journal: Arc::clone(journal),
            ctx: ctx.clone(),
            id: usable.unwrap_or_default(),
            made: Instant::now(),
            undo,
        };
        if fresh {
            keeper.renew().await?;
        }
        Ok(keeper)
    }

    /// Makes a lease; an older one stays until the end, for what has arrived under it.
    async fn renew(&mut self) -> Result<()> {
        self.id = lease::make(&self.ctx.client().await?, &mut self.undo).await?;
        self.made = Instant::now();
        self.journal.write(&Event::Lease { place: self.ctx.place_name(), id: self.id.clone() }).await
    }

    /// Returns the context for the next image; a lease that grows old is followed by a new one.
    pub(super) async fn context(&mut self, ctx: &Context) -> Result<Context> {
        if self.made.elapsed() > LEASE_AGE {
            self.renew().await?;
        }
        Ok(ctx.with_lease(&self.ctx.place_name(), &self.id))
    }

    /// Deletes the leases: what was moved is kept by its image now.
    pub(super) async fn end(self) {
        drop(self.undo);
        self.ctx.debts().settle().await;
    }
}
