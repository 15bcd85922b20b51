//! `update`: changes the limits of a container, and of what runs of it.

use async_trait::async_trait;

use super::Snapshot;
use crate::containerd::containers::Container;
use crate::grant::Access;
use crate::oci::Spec;
use crate::oci::spec::Limits;
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// Changes limits: at once of the processes that run, and in the record, so that the next start has them too.
#[derive(Debug)]
pub struct Update {
    id: String,
    limits: Limits,
    found: Option<(Snapshot, Spec)>,
}

impl Update {
    /// Changes these limits of the container with this id; what is none stays as it is.
    #[must_use]
    pub fn new(id: &str, limits: Limits) -> Self {
        Self { id: id.to_owned(), limits, found: None }
    }
}

#[async_trait]
impl Operation for Update {
    type Output = Container;
    const NAME: &'static str = "update";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Container>> {
        let found = super::snapshot(ctx, &self.id).await?;
        if self.limits.is_empty() {
            return Err(Error::argument("options", "name no limit; give one such as memory_limit"));
        }
        let Some(before) = found.container.spec.clone() else {
            return Err(Error::Conflict {
                what: "container",
                name: self.id.clone(),
                state: "has no runtime spec that limits could be written to".into(),
                cure: None,
            });
        };
        let mut spec = before.clone();
        let linux = spec.linux.get_or_insert_default();
        self.limits.lay_over(linux.resources.get_or_insert_default())?;
        let changed = serde_json::to_string(&self.limits.resources()?).unwrap_or_default();
        let preview = Container { spec: Some(spec.clone()), ..found.container.clone() };
        let whom = if found.task.as_ref().is_some_and(|task| task.status.is_alive()) { " and its task" } else { "" };
        self.found = Some((found, spec));
        Ok(Plan::new(preview.clone())
            .step(Access::Run, ctx.target(), format!("limit container {}{whom}: {changed}", self.id))
            .effect(Effect::exists(&ctx.place_name(), &self.id, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Container> {
        let Some((found, spec)) = self.found else { return Err(Error::not_found("container", &self.id, [])) };
        let client = ctx.client().await?;
        let mut undo = Undo::new(ctx.debts());
        if let Some(before) = found.container.spec.clone() {
            let (containers, id) = (client.undoing().containers(), self.id.clone());
            let what = format!("the changed spec of container {id}");
            undo.push(what, async move { containers.set_spec(&id, &before).await });
        }
        let updated = client.containers().set_spec(&self.id, &spec).await?;
        if found.task.is_some_and(|task| task.status.is_alive()) {
            client.tasks().update(&self.id, &self.limits.resources()?).await?;
        }
        undo.forget();
        Ok(updated)
    }
}
