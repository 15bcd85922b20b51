//! Namespaces: what keeps the images and containers of one user of a daemon apart from those of another.

use async_trait::async_trait;

use crate::containerd::Labels;
use crate::containerd::namespaces::Namespace;
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

mod delete;
mod purge;

pub use delete::Delete;
pub use purge::{Purge, Purged};

/// Lists the namespaces of the daemon, sorted by name.
///
/// # Errors
/// When there is no connection.
pub async fn list(ctx: &Context) -> Result<Vec<Namespace>> {
    let mut namespaces = ctx.client().await?.namespaces().list().await?;
    namespaces.sort_by(|a, b| a.name.cmp(&b.name));
    ctx.overlay().amend(&place(ctx), &mut namespaces, |namespace| &namespace.name);
    Ok(namespaces)
}

/// Looks one namespace up.
///
/// # Errors
/// [`Error::NotFound`] with the nearest name that exists.
pub async fn get(ctx: &Context, name: &str) -> Result<Namespace> {
    // containerd 1.6 answers for any name, so only the list tells.
    let existing = list(ctx).await?;
    let names = || existing.iter().map(|namespace| namespace.name.as_str());
    existing
        .iter()
        .find(|namespace| namespace.name == name)
        .cloned()
        .ok_or_else(|| Error::not_found("namespace", name, names()))
}

/// Namespaces belong to the daemon as a whole.
fn place(ctx: &Context) -> String {
    ctx.place().daemon.endpoint().to_string()
}

fn target(name: &str) -> String {
    format!("containerd/{name}")
}

/// Makes a namespace.
#[derive(Debug)]
pub struct Create {
    name: String,
    labels: Labels,
}

impl Create {
    /// Makes a namespace with these labels.
    #[must_use]
    pub fn new(name: &str, labels: Labels) -> Self {
        Self { name: name.to_owned(), labels }
    }
}

#[async_trait]
impl Operation for Create {
    type Output = Namespace;
    const NAME: &'static str = "create namespace";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Namespace>> {
        crate::containerd::identifier::check("namespace", &self.name)?;
        if get(ctx, &self.name).await.is_ok() {
            return Err(Error::AlreadyExists { what: "namespace", name: self.name.clone(), cure: None });
        }
        let preview = Namespace { name: self.name.clone(), labels: self.labels.clone() };
        Ok(Plan::new(preview.clone())
            .step(Access::Write, target(&self.name), format!("create namespace {}", self.name))
            .effect(Effect::exists(&place(ctx), &self.name, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Namespace> {
        Ok(ctx.client().await?.namespaces().create(&self.name, &self.labels).await?)
    }
}

/// Sets labels of a namespace.
#[derive(Debug)]
pub struct Label {
    name: String,
    labels: Labels,
}

impl Label {
    /// Sets these labels; an empty value removes one, those not named stay.
    #[must_use]
    pub fn new(name: &str, labels: Labels) -> Self {
        Self { name: name.to_owned(), labels }
    }
}

#[async_trait]
impl Operation for Label {
    type Output = Namespace;
    const NAME: &'static str = "label namespace";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Namespace>> {
        let mut preview = get(ctx, &self.name).await?;
        for (key, value) in &self.labels {
            if value.is_empty() {
                preview.labels.remove(key);
            } else {
                preview.labels.insert(key.clone(), value.clone());
            }
        }
        let plan = Plan::new(preview.clone());
        if self.labels.is_empty() {
            return Ok(plan);
        }
        let keys: Vec<&str> = self.labels.keys().map(String::as_str).collect();
        Ok(plan
            .step(Access::Write, target(&self.name), format!("label namespace {}: {}", self.name, keys.join(", ")))
            .effect(Effect::exists(&place(ctx), &self.name, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Namespace> {
        let namespaces = ctx.client().await?.namespaces();
        if self.labels.is_empty() {
            return Ok(namespaces.get(&self.name).await?);
        }
        Ok(namespaces.set_labels(&self.name, &self.labels).await?)
    }
}
