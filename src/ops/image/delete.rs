//! `delete`: removes image names.

use async_trait::async_trait;

use crate::containerd::images::{Deletion, Image};
use crate::grant::Access;
use crate::ops::image::get;
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// Removes names of images. Content that nothing else refers to is collected by the daemon.
#[derive(Debug)]
pub struct Delete {
    names: Vec<String>,
    found: Vec<Image>,
    deletion: Deletion,
}

impl Delete {
    /// Removes these names. With [`Deletion::Synchronous`], the call returns when their space has been freed.
    #[must_use]
    pub fn new(names: Vec<String>, deletion: Deletion) -> Self {
        Self { names, found: Vec::new(), deletion }
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = Vec<Image>;
    const NAME: &'static str = "delete";

    fn subject(&self) -> String {
        self.names.join(", ")
    }

    /// Every name has to exist, so that a misspelt one among many deletes nothing.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Vec<Image>>> {
        self.found.clear();
        for name in &self.names {
            self.found.push(get(ctx, name).await?);
        }
        let mut plan = Plan::new(self.found.clone());
        for image in &self.found {
            plan = plan
                .step(Access::Delete, ctx.target(), format!("delete image {}", image.name))
                .effect(Effect::gone::<Image>(&ctx.place_name(), &image.name));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Vec<Image>> {
        let images = ctx.client().await?.images();
        let last = self.found.len().saturating_sub(1);
        for (index, image) in self.found.iter().enumerate() {
            // One run of the collector after the last frees the space of all.
            let deletion = if index == last { self.deletion } else { Deletion::Later };
            match images.delete(&image.name, Some(&image.target), deletion).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.found)
    }
}
