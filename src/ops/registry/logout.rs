//! `logout`: forgets the credentials of a registry.

use async_trait::async_trait;

use crate::grant::Access;
use crate::ops::{Context, Operation, Plan, Result};

/// Forgets what Docker's config file or its helper has for a registry. Returns whether there was anything.
#[derive(Debug)]
pub struct Logout {
    registry: String,
}

impl Logout {
    /// Logs out of a registry, `HOST[:PORT]`.
    #[must_use]
    pub fn new(registry: &str) -> Self {
        Self { registry: registry.to_owned() }
    }
}

#[async_trait]
impl Operation for Logout {
    type Output = bool;
    const NAME: &'static str = "logout";

    fn subject(&self) -> String {
        self.registry.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<bool>> {
        let keeper = ctx.registry().keeper(&self.registry)?;
        let is_kept = ctx.registry().is_kept(&self.registry).await?;
        // An entry without credentials may be left from another time; it goes all the same.
        let action = format!("forget the credentials for {} in {keeper}", self.registry);
        Ok(Plan::new(is_kept).step(Access::Write, self.registry.clone(), action))
    }

    async fn apply(self, ctx: &Context) -> Result<bool> {
        let was_kept = ctx.registry().is_kept(&self.registry).await?;
        ctx.registry().forget(&self.registry, ctx.grant()).await?;
        Ok(was_kept)
    }
}
