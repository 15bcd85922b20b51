//! `leases::resources`, `leases::add`, `leases::remove`: what a lease keeps.

use async_trait::async_trait;

use super::get;
use crate::containerd::leases::Resource;
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, Seen, content};

/// What a lease would keep after the changes of a dry run.
#[derive(Debug, Clone)]
struct Kept(Vec<Resource>);

/// Lists what a lease keeps: content, ingests, snapshots; sorted.
///
/// # Errors
/// [`Error::NotFound`] when there is no such lease.
pub async fn resources(ctx: &Context, id: &str) -> Result<Vec<Resource>> {
    get(ctx, id).await?;
    if let Seen::As(Kept(resources)) = ctx.overlay().get(&ctx.place_name(), id) {
        return Ok(resources);
    }
    let mut resources = match ctx.client().await?.leases().resources(id).await {
        Ok(resources) => resources,
        // A lease of a dry run.
        Err(error) if error.is_not_found() || is_gone(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    resources.sort_by_key(|resource| (resource.kind(), resource.id()));
    Ok(resources)
}

fn is_gone(error: &crate::containerd::Error) -> bool {
    error.fault() == Some(crate::containerd::Fault::LeaseGone)
}

/// Puts resources into a lease.
#[derive(Debug)]
pub struct Add {
    id: String,
    resources: Vec<Resource>,
}

impl Add {
    /// Puts these into the lease.
    #[must_use]
    pub fn new(id: &str, resources: Vec<Resource>) -> Self {
        Self { id: id.to_owned(), resources }
    }
}

#[async_trait]
impl Operation for Add {
    type Output = ();
    const NAME: &'static str = "leases::add";

    fn subject(&self) -> String {
        self.id.clone()
    }

    /// The daemon takes what does not exist without a word, and the lease would then keep nothing: so it is looked up.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let mut kept = resources(ctx, &self.id).await?;
        let mut plan = Plan::new(());
        for resource in &self.resources {
            exists(ctx, resource).await?;
            let (kind, id) = (resource.kind(), resource.id());
            plan = plan.step(Access::Write, ctx.target(), format!("add {kind} {id} to lease {}", self.id));
            if !kept.contains(resource) {
                kept.push(resource.clone());
            }
        }
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, Kept(kept))))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        let leases = ctx.client().await?.leases();
        for resource in &self.resources {
            leases.add_resource(&self.id, resource).await?;
        }
        Ok(())
    }
}

async fn exists(ctx: &Context, resource: &Resource) -> Result<()> {
    let client = ctx.client().await?;
    let found = match resource {
        Resource::Content(digest) => return content::info(ctx, digest).await.map(drop),
        Resource::Ingest(reference) => client.content().status(reference).await.map(drop),
        Resource::Snapshot { snapshotter, key } => client.snapshots(snapshotter).stat(key).await.map(drop),
        Resource::Other { kind, .. } => {
            let problem = format!("has the type '{kind}', which no lease keeps");
            let cure = Some("the types are content, ingests and snapshots/SNAPSHOTTER".to_owned());
            return Err(Error::Argument { name: format!("resource {}", resource.id()), problem, cure });
        }
    };
    match found {
        Err(error) if error.is_not_found() => {
            let name = format!("{} {}", resource.kind(), resource.id());
            Err(Error::not_found("resource", &name, []))
        }
        other => Ok(other?),
    }
}

/// Takes resources out of a lease.
#[derive(Debug)]
pub struct Remove {
    id: String,
    resources: Vec<Resource>,
}

impl Remove {
    /// Takes these out of the lease.
    #[must_use]
    pub fn new(id: &str, resources: Vec<Resource>) -> Self {
        Self { id: id.to_owned(), resources }
    }
}

#[async_trait]
impl Operation for Remove {
    type Output = ();
    const NAME: &'static str = "leases::remove";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let mut kept = resources(ctx, &self.id).await?;
        let mut plan = Plan::new(());
        for resource in &self.resources {
            let (kind, id) = (resource.kind(), resource.id());
            if !kept.contains(resource) {
                let names: Vec<String> = kept.iter().map(Resource::id).collect();
                let name = format!("{kind} {id} in lease {}", self.id);
                return Err(Error::not_found("resource", &name, names.iter().map(String::as_str)));
            }
            kept.retain(|other| other != resource);
            plan = plan.step(Access::Write, ctx.target(), format!("remove {kind} {id} from lease {}", self.id));
        }
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, Kept(kept))))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        let leases = ctx.client().await?.leases();
        for resource in &self.resources {
            leases.remove_resource(&self.id, resource).await?;
        }
        Ok(())
    }
}
