//! `leases::create`: makes a lease that keeps what is put into it.

use async_trait::async_trait;

use super::{Terms, get, make_as};
use crate::containerd::leases::Lease;
use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// Makes a lease.
#[derive(Debug)]
pub struct Create {
    terms: Terms,
}

impl Create {
    /// Makes a lease as the terms say.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self { terms }
    }
}

#[async_trait]
impl Operation for Create {
    type Output = Lease;
    const NAME: &'static str = "leases::create";

    fn subject(&self) -> String {
        self.terms.id.clone().unwrap_or_else(|| "a lease".to_owned())
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Lease>> {
        plan(ctx, &mut self.terms).await
    }

    async fn apply(self, ctx: &Context) -> Result<Lease> {
        let mut undo = Undo::new(ctx.debts());
        let lease = make_as(&ctx.client().await?, &mut undo, &self.terms).await?;
        undo.forget();
        Ok(lease)
    }
}

/// Plans the making of a lease, and settles on its id.
pub(super) async fn plan(ctx: &Context, terms: &mut Terms) -> Result<Plan<Lease>> {
    if terms.labels.contains_key(Lease::EXPIRE) {
        let problem = format!("cannot have {}", Lease::EXPIRE);
        let cure = Some("say when the lease ends by the option 'expires'".to_owned());
        return Err(Error::Argument { name: "labels".into(), problem, cure });
    }
    if let Some(id) = &terms.id {
        if id.is_empty() {
            return Err(Error::argument("id", "is empty"));
        }
        // What cannot stand in the header that names a lease could be made, and never be used.
        ctx.client().await?.with_lease(id)?;
        match get(ctx, id).await {
            Ok(_) => {
                let cure = Some(format!("leases::delete(\"{id}\") deletes it, and lets go of what it keeps"));
                return Err(Error::AlreadyExists { what: "lease", name: id.clone(), cure });
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let id = terms.id.get_or_insert_with(Lease::fresh_id).clone();
    let lease = Lease::planned(&id, terms.lifetime, &terms.labels);
    let end = lease.expires_at().map_or_else(
        || "that does not expire".to_owned(),
        |end| format!("until {}", end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
    );
    Ok(Plan::new(lease.clone())
        .step(Access::Write, ctx.target(), format!("create lease {id} {end}"))
        .effect(Effect::exists(&ctx.place_name(), &id, lease)))
}
