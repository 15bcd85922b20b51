//! `label`: sets and removes labels of an image's record.

use async_trait::async_trait;

use crate::containerd::Labels;
use crate::containerd::images::Image;
use crate::grant::Access;
use crate::ops::image::get;
use crate::ops::{Context, Effect, Operation, Plan, Result};

/// Sets labels of an image.
#[derive(Debug)]
pub struct Label {
    name: String,
    labels: Labels,
    replace_all: bool,
    found: Option<Image>,
}

impl Label {
    /// Sets these labels. An empty value removes a label, as in containerd. Those not named stay as they are, or go with
    /// `replace_all`.
    #[must_use]
    pub fn new(name: &str, labels: Labels, replace_all: bool) -> Self {
        Self { name: name.to_owned(), labels, replace_all, found: None }
    }
}

#[async_trait]
impl Operation for Label {
    type Output = Image;
    const NAME: &'static str = "label";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        let mut image = get(ctx, &self.name).await?;
        self.found = Some(image.clone());
        let mut changed = Vec::new();
        if self.replace_all {
            self.labels.retain(|_, value| !value.is_empty());
            let gone = image.labels.keys().filter(|key| !self.labels.contains_key(*key));
            changed.extend(gone.map(|key| format!("{key} removed")));
            image.labels.clear();
        }
        for (key, value) in &self.labels {
            if value.is_empty() {
                image.labels.remove(key);
                changed.push(format!("{key} removed"));
            } else {
                image.labels.insert(key.clone(), value.clone());
                changed.push(format!("{key}={value}"));
            }
        }
        let name = image.name.clone();
        let plan = Plan::new(image.clone());
        if changed.is_empty() {
            return Ok(plan);
        }
        Ok(plan
            .step(Access::Write, ctx.target(), format!("label image {name}: {}", changed.join(", ")))
            .effect(Effect::exists(&ctx.place_name(), &name, image)))
    }

    async fn apply(self, ctx: &Context) -> Result<Image> {
        let name = self.found.map_or(self.name, |image| image.name);
        let images = ctx.client().await?.images();
        if self.replace_all {
            return Ok(images.replace_labels(&name, &self.labels).await?);
        }
        // An empty mask would replace the whole record by nothing.
        if self.labels.is_empty() {
            return Ok(images.get(&name).await?);
        }
        Ok(images.set_labels(&name, &self.labels).await?)
    }
}
