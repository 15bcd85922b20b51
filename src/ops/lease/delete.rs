//! `leases::delete`: deletes leases, and lets go of what only they keep.

use async_trait::async_trait;

use super::get;
use crate::containerd::images::Deletion;
use crate::containerd::leases::Lease;
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Level, Operation, Plan, Result};

/// Deletes leases.
#[derive(Debug)]
pub struct Delete {
    ids: Vec<String>,
    deletion: Deletion,
}

impl Delete {
    /// Deletes these leases. With [`Deletion::Synchronous`], the call returns when what only they kept is gone.
    #[must_use]
    pub fn new(ids: Vec<String>, deletion: Deletion) -> Self {
        Self { ids, deletion }
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = Vec<String>;
    const NAME: &'static str = "leases::delete";

    fn subject(&self) -> String {
        self.ids.join(", ")
    }

    /// Every lease has to exist, so that a misspelt one among many deletes nothing.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Vec<String>>> {
        self.ids.sort();
        self.ids.dedup();
        let mut plan = Plan::new(self.ids.clone());
        if !self.ids.is_empty() {
            // To the daemon it is a write, as a lease's own maker ends it.
            plan = plan.step(Access::Write, ctx.target(), "let the collector take what only the leases keep");
        }
        for id in &self.ids {
            let lease = get(ctx, id).await?;
            plan = plan
                .step(Access::Delete, ctx.target(), format!("delete lease {}", lease.id))
                .effect(Effect::gone::<Lease>(&ctx.place_name(), &lease.id));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Vec<String>> {
        let leases = ctx.client().await?.leases();
        let last = self.ids.len().saturating_sub(1);
        let mut failed: Option<Error> = None;
        for (index, id) in self.ids.iter().enumerate() {
            // One run of the collector after the last frees the space of all.
            let deletion = if index == last { self.deletion } else { Deletion::Later };
            let Err(error) = leases.delete(id, deletion).await else { continue };
            match &failed {
                None => failed = Some(error.into()),
                Some(_) => ctx.note(Level::Warn, &error.to_string()),
            }
        }
        failed.map_or(Ok(self.ids), Err)
    }
}
