//! The lease of a migration, which outlives its images and the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::journal::{Event, Journal, Past};
use crate::containerd::Labels;
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
        let old = past.lease.as_ref().filter(|(place, _)| *place == ctx.place_name()).map(|(_, id)| id.clone());
        let usable = match &old {
            Some(id) => client.leases().find(id).await?.filter(|lease| {
                lease.expires_at().is_none_or(|end| end - chrono::Utc::now() > chrono::TimeDelta::hours(1))
            }),
            None => None,
        };
        let id = match usable {
            Some(lease) => lease.id,
            None => make(ctx, journal).await?,
        };
        let mut keeper = Self {
            journal: Arc::clone(journal),
            ctx: ctx.clone(),
            id: String::new(),
            made: Instant::now(),
            undo: Undo::new(ctx.debts()),
        };
        keeper.take(&client, id);
        if let Some(old) = old {
            keeper.take_back(&client, old);
        }
        Ok(keeper)
    }

    fn take(&mut self, client: &crate::containerd::Client, id: String) {
        self.take_back(client, id.clone());
        self.id = id;
        self.made = Instant::now();
    }

    /// Sees to it that a lease is deleted when the migration ends by anything but a kill.
    fn take_back(&mut self, client: &crate::containerd::Client, id: String) {
        let undoing = client.undoing();
        self.undo.push(async move {
            let _ = undoing.leases().delete(&id, Deletion::Synchronous).await;
        });
    }

    /// Returns the context for the next image; a lease that grows old is followed by a new one.
    pub(super) async fn context(&mut self, ctx: &Context) -> Result<Context> {
        if self.made.elapsed() > LEASE_AGE {
            let id = make(&self.ctx, &self.journal).await?;
            let client = self.ctx.client().await?;
            self.take(&client, id);
        }
        Ok(ctx.with_lease(&self.ctx.place_name(), &self.id))
    }

    /// Deletes the lease: what was moved is kept by its image now.
    pub(super) async fn end(self) -> Result<()> {
        drop(self.undo);
        self.ctx.debts().settle().await;
        Ok(())
    }
}

async fn make(ctx: &Context, journal: &Journal) -> Result<String> {
    let lease = ctx.client().await?.leases().create(lease::LIFETIME, &Labels::new()).await?;
    journal.write(&Event::Lease { place: ctx.place_name(), id: lease.id.clone() }).await?;
    Ok(lease.id)
}
