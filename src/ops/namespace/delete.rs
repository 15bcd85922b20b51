//! `namespaces::delete`: removes an empty namespace, or says what is still in it.

use async_trait::async_trait;
use futures_util::TryStreamExt;

use super::{get, place, target};
use crate::containerd::namespaces::Namespace;
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, image};

/// Removes a namespace that has no images and no containers.
#[derive(Debug)]
pub struct Delete {
    name: String,
}

impl Delete {
    /// Removes this namespace.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = ();
    const NAME: &'static str = "delete namespace";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        get(ctx, &self.name).await?;
        let inside = ctx.in_namespace(&self.name);
        let images = image::list(&inside, &[]).await?.len();
        let containers =
            inside.client().await?.containers().list(&[]).await?.try_fold(0, |n, _| async move { Ok(n + 1) });
        let containers: usize = containers.await?;
        if images + containers > 0 {
            return Err(Error::Conflict {
                what: "namespace",
                name: self.name.clone(),
                state: format!("still has {images} images and {containers} containers"),
                cure: Some(format!(
                    "delete them first: namespace(\"{}\"); for c in containers() {{ c.delete(#{{ force: true }}) }} delete_images(images())",
                    self.name
                )),
            });
        }
        Ok(Plan::new(())
            .step(Access::Delete, target(&self.name), format!("delete namespace {}", self.name))
            .effect(Effect::gone::<Namespace>(&place(ctx), &self.name)))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        Ok(ctx.client().await?.namespaces().delete(&self.name).await?)
    }
}
