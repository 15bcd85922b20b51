//! Leases: the one that an operation holds while it makes things, and those that users make.

use std::time::Duration;

use crate::containerd::images::Deletion;
use crate::containerd::leases::Lease;
use crate::containerd::{Client, Labels};
use crate::kind::Failure;
use crate::ops::undo::Undo;
use crate::ops::{Context, Result};

mod create;
mod delete;
mod hold;
mod list;
mod resources;

pub use create::Create;
pub use delete::Delete;
pub use hold::{Held, Hold};
pub use list::{get, list};
pub use resources::{Add, Remove, resources};

/// How long a lease lives when nobody deletes it: as long as ctr's.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a lease that has to go is asked to, over about half a minute: its daemon may be starting anew.
const TRIES: u32 = 6;
/// The pause after the first try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A lease on everything that its client makes or finds present.
pub struct Leased {
    client: Client,
    undo: Undo,
    /// Whether it is the context's, which outlives the operation.
    borrowed: bool,
}

impl Leased {
    /// Makes a lease in the context's place, or takes the one that the context has.
    ///
    /// When this is dropped without [`Leased::release`], the lease is deleted by the context's debts, and with it what
    /// only it kept: half-written blobs among them.
    ///
    /// # Errors
    /// When there is no connection, or the grant lacks `write`.
    pub async fn new(ctx: &Context) -> Result<Self> {
        let client = ctx.client().await?;
        let mut undo = Undo::new(ctx.debts());
        if let Some(lease) = ctx.lease() {
            return Ok(Self { client: client.with_lease(lease)?, undo, borrowed: true });
        }
        let id = make(&client, &mut undo).await?;
        Ok(Self { client: client.with_lease(&id)?, undo, borrowed: false })
    }

    /// Returns the client under the lease.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Deletes the lease after the work was done: what was made is kept by other references now.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn release(self) -> Result<()> {
        if self.borrowed {
            return Ok(());
        }
        let id = self.client.lease().unwrap_or_default().to_owned();
        self.client.leases().delete(&id, Deletion::Later).await?;
        self.undo.forget();
        Ok(())
    }
}

/// Makes a lease, and says how it is taken back.
///
/// # Errors
/// When there is no connection, or the grant lacks `write`.
pub async fn make(client: &Client, undo: &mut Undo) -> Result<String> {
    Ok(make_as(client, undo, &Terms::default()).await?.id)
}

/// What a lease is to be.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What names it; without one it gets an id of its own.
    pub id: Option<String>,
    /// How long it lives; without one until it is deleted.
    pub lifetime: Option<Duration>,
    /// Its labels, beside the one that says when it ends.
    pub labels: Labels,
}

impl Default for Terms {
    fn default() -> Self {
        Self { id: None, lifetime: Some(LIFETIME), labels: Labels::new() }
    }
}

/// Makes a lease as the terms say, and says how it is taken back.
///
/// # Errors
/// When there is no connection, the id is taken, or the grant lacks `write`.
pub async fn make_as(client: &Client, undo: &mut Undo, terms: &Terms) -> Result<Lease> {
    let id = terms.id.clone().unwrap_or_else(Lease::fresh_id);
    let what = format!("lease {id}");
    let (undoing, gone) = (client.undoing().leases(), id.clone());
    let back = async move { undoing.delete(&gone, Deletion::Synchronous).await };
    let (leases, terms) = (client.leases(), terms.clone());
    let step = async move { leases.create_named(&id, terms.lifetime, &terms.labels).await };
    Ok(undo.step(what, step, back).await??)
}

/// Deletes a lease, with what only it kept; one that is gone already is none to delete.
///
/// # Errors
/// When the daemon cannot be reached in several tries, or the grant lacks `write`.
pub async fn end(client: &Client, id: &str) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match client.leases().delete(id, Deletion::Synchronous).await {
            Err(error) if error.retryable() => tokio::time::sleep(pause).await,
            ended => return Ok(ended?),
        }
        pause *= 2;
    }
    Ok(client.leases().delete(id, Deletion::Synchronous).await?)
}
