//! The lease that an operation holds while it makes things.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::containerd::images::Deletion;
use crate::containerd::{Client, Labels};
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Result};

/// How long a lease lives when nobody deletes it: as long as ctr's.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

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
    let (made, id) = oneshot::channel::<String>();
    let undoing = client.undoing();
    undo.push(async move {
        if let Ok(id) = id.await {
            let _ = undoing.leases().delete(&id, Deletion::Synchronous).await;
        }
    });
    // In a task of its own: a request that is dropped half way may be carried out all the same, and nobody would know the
    // lease.
    let maker = client.clone();
    let making = tokio::spawn(async move {
        let lease = maker.leases().create(LIFETIME, &Labels::new()).await?;
        let _ = made.send(lease.id.clone());
        Result::Ok(lease.id)
    });
    making.await.map_err(|_| Error::Cancelled)?
}
