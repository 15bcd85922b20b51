//! `sandboxes::delete`: stops a sandbox and removes it.

use async_trait::async_trait;

use super::{Found, get};
use crate::containerd::sandboxes::Sandbox;
use crate::grant::Access;
use crate::ops::error::settled;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// Stops a sandbox, ends its shim, and removes its record.
#[derive(Debug)]
pub struct Delete {
    id: String,
    force: bool,
    found: Option<Found>,
}

impl Delete {
    /// Removes the sandbox of this id; with `force` also when it cannot be stopped.
    #[must_use]
    pub fn new(id: &str, force: bool) -> Self {
        Self { id: id.to_owned(), force, found: None }
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = ();
    const NAME: &'static str = "delete sandbox";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let found = get(ctx, &self.id).await?;
        let containers = crate::ops::container::list(ctx, &[]).await?;
        let inside: Vec<&str> = containers
            .iter()
            .filter(|container| container.sandbox.as_deref() == Some(self.id.as_str()))
            .map(|container| container.id.as_str())
            .collect();
        if !inside.is_empty() && !self.force {
            return Err(Error::Conflict {
                what: "sandbox",
                name: self.id.clone(),
                state: format!("still has containers: {}", inside.join(", ")),
                cure: Some("delete them first; #{ force: true } removes the sandbox alone".into()),
            });
        }
        self.found = Some(found);
        Ok(Plan::new(())
            .step(Access::Delete, ctx.target(), format!("stop and delete sandbox {}", self.id))
            .effect(Effect::gone::<Sandbox>(&ctx.place_name(), &self.id)))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        let sandboxes = ctx.client().await?.sandboxes();
        let Some(Found { sandbox, .. }) = self.found else { return Ok(()) };
        let bearable = |ended: crate::containerd::Result<()>| match ended {
            Err(error) if !error.is_not_found() && !self.force => Err(error),
            _ => Ok(()),
        };
        bearable(sandboxes.stop(&sandbox).await)?;
        bearable(sandboxes.shut_down(&sandbox).await)?;
        // Some controllers remove the record themselves.
        settled(sandboxes.delete(&sandbox.id).await)
    }
}
