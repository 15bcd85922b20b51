//! `with_lease`: holds a lease while a script's closure runs.

use async_trait::async_trait;

use super::{Terms, create, make_as};
use crate::containerd::Client;
use crate::containerd::images::Deletion;
use crate::containerd::leases::Lease;
use crate::ops::undo::Undo;
use crate::ops::{Context, Operation, Plan, Result};

/// Makes a lease that its holder lets go of.
#[derive(Debug)]
pub struct Hold {
    terms: Terms,
}

/// A lease that is held.
///
/// When this is dropped without [`Held::release`], the lease is deleted by the context's debts.
pub struct Held {
    lease: Lease,
    /// What deletes it; none in a dry run, in which there is no lease.
    client: Option<Client>,
    undo: Undo,
}

impl Hold {
    /// Makes a lease as the terms say.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self { terms }
    }
}

impl Held {
    /// Returns the lease, when there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.client.as_ref().map(|_| &self.lease)
    }

    /// Deletes the lease, also after a cancel. With [`Deletion::Synchronous`] what only it kept is gone when this returns.
    ///
    /// # Errors
    /// When the daemon cannot be reached; the lease then ends by itself.
    pub async fn release(self, deletion: Deletion) -> Result<()> {
        if let Some(client) = &self.client {
            client.leases().delete(&self.lease.id, deletion).await?;
        }
        self.undo.forget();
        Ok(())
    }
}

#[async_trait]
impl Operation for Hold {
    type Output = Held;
    const NAME: &'static str = "with_lease";

    fn subject(&self) -> String {
        self.terms.id.clone().unwrap_or_else(|| "a lease".to_owned())
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Held>> {
        // The lease is gone again before anything could look for it.
        let mut plan = create::plan(ctx, &mut self.terms).await?;
        plan.effects.clear();
        let lease = plan.preview.clone();
        Ok(plan.returning(Held { lease, client: None, undo: Undo::new(ctx.debts()) }))
    }

    async fn apply(self, ctx: &Context) -> Result<Held> {
        let client = ctx.client().await?;
        let mut undo = Undo::new(ctx.debts());
        let lease = make_as(&client, &mut undo, &self.terms).await?;
        Ok(Held { lease, client: Some(client.undoing()), undo })
    }
}
