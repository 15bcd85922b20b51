//! The lease of a migration, which outlives its images and the process.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::journal::{Event, Journal, Past};
use crate::containerd::images::Deletion;
use crate::containerd::leases::Lease;
use crate::ops::lease::Terms;
use crate::ops::undo::Undo;
use crate::ops::{Context, Level, Result, lease};

/// How long a lease has to live on when an image begins to arrive under it.
const ENOUGH: TimeDelta = TimeDelta::seconds(lease::LIFETIME.as_secs().cast_signed() / 2);

/// Keeps what has half arrived in the namespace, also when this process is killed: the next one takes the lease up.
pub(super) struct Keeper {
    journal: Arc<Journal>,
    ctx: Context,
    /// What has arrived is kept by all of them; the last is the one in use.
    ids: Vec<String>,
    /// When the one in use expires.
    expires: DateTime<Utc>,
    undo: Undo,
}

impl Keeper {
    pub(super) async fn new(ctx: &Context, journal: &Arc<Journal>, past: &Past) -> Result<Self> {
        let client = ctx.client().await?;
        let mut undo = Undo::new(ctx.debts());
        let (mut ids, mut expires) = (Vec::new(), DateTime::<Utc>::MIN_UTC);
        if let Some((_, id)) = past.lease.as_ref().filter(|(place, _)| *place == ctx.place_name()) {
            let (undoing, old) = (client.undoing().leases(), id.clone());
            undo.push(format!("lease {old}"), async move { undoing.delete(&old, Deletion::Synchronous).await });
            if let Some(lease) = client.leases().find(id).await? {
                expires = lease.expires_at().unwrap_or(DateTime::<Utc>::MAX_UTC);
                ids.push(lease.id);
            }
        }
        let mut keeper = Self { journal: Arc::clone(journal), ctx: ctx.clone(), ids, expires, undo };
        keeper.renew().await?;
        Ok(keeper)
    }

    /// Follows a lease that grows old by a new one; the old one stays until the end, for what has arrived under it.
    async fn renew(&mut self) -> Result<()> {
        if self.expires - Utc::now() > ENOUGH {
            return Ok(());
        }
        let expires = Utc::now() + lease::LIFETIME;
        // Noted before it is made: whoever goes on after a kill between the two knows it.
        let terms = Terms { id: Some(Lease::fresh_id()), ..Terms::default() };
        let id = terms.id.clone().unwrap_or_default();
        self.journal.write(&Event::Lease { place: self.ctx.place_name(), id: id.clone() }).await?;
        lease::make_as(&self.ctx.client().await?, &mut self.undo, &terms).await?;
        self.ids.push(id);
        self.expires = expires;
        Ok(())
    }

    /// Returns the context for the next image; a lease that grows old is followed by a new one.
    pub(super) async fn context(&mut self, ctx: &Context) -> Result<Context> {
        self.renew().await?;
        let id = self.ids.last().map_or("", String::as_str);
        Ok(ctx.with_lease(&self.ctx.place_name(), id))
    }

    /// Deletes the leases: what was moved is kept by its image now. The migration is done all the same when that fails.
    pub(super) async fn end(self) {
        for id in &self.ids {
            let ended = match self.ctx.client().await {
                Ok(client) => lease::end(&client, id).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                let place = self.ctx.place_name();
                let text = format!("the lease {id} of {place} is left, and expires by itself within a day: {error}");
                self.ctx.note(Level::Warn, &text);
            }
        }
        self.undo.forget();
    }
}
