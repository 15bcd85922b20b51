//! `tag`: gives an image another name.

use async_trait::async_trait;

use crate::containerd::images::Image;
use crate::grant::Access;
use crate::oci::Reference;
use crate::ops::image::get;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, Seen};

/// Gives an image another name in the same namespace.
#[derive(Debug)]
pub struct Tag {
    source: Source,
    target: Reference,
    force: bool,
}

#[derive(Debug)]
enum Source {
    Name(String),
    Known(Box<Image>),
}

impl Tag {
    /// Tags an image that is looked up by name. Without `force`, a name that points elsewhere is left alone.
    #[must_use]
    pub fn by_name(source: &str, target: Reference, force: bool) -> Self {
        Self { source: Source::Name(source.to_owned()), target, force }
    }

    /// Tags an image whose record is at hand.
    #[must_use]
    pub fn of(source: Image, target: Reference, force: bool) -> Self {
        Self { source: Source::Known(Box::new(source)), target, force }
    }

    async fn source(&mut self, ctx: &Context) -> Result<Image> {
        if let Source::Name(name) = &self.source {
            self.source = Source::Known(Box::new(get(ctx, name).await?));
        }
        match &self.source {
            Source::Known(image) => Ok((**image).clone()),
            Source::Name(name) => Err(Error::not_found("image", name, [])),
        }
    }
}

#[async_trait]
impl Operation for Tag {
    type Output = Image;
    const NAME: &'static str = "tag";

    fn subject(&self) -> String {
        let source = match &self.source {
            Source::Name(name) => name,
            Source::Known(image) => &image.name,
        };
        format!("{source} as {}", self.target)
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Image>> {
        let source = self.source(ctx).await?;
        let name = self.target.to_string();
        let preview = Image { name: name.clone(), ..source };
        let action = format!("point image {name} to {}", preview.target.digest);
        let effect = Effect::exists(&ctx.place_name(), &name, preview.clone());
        // Whether the name is free is the daemon's to say, in the one request that also takes it; only a dry run asks first.
        if ctx.is_dry_run() && !self.force {
            let taken = match ctx.overlay().get::<Image>(&ctx.place_name(), &name) {
                Seen::As(image) => Some(image),
                Seen::Gone => None,
                Seen::Unknown => match ctx.client().await?.images().get(&name).await {
                    Ok(image) => Some(image),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error.into()),
                },
            };
            if let Some(taken) = taken.filter(|taken| taken.target.digest != preview.target.digest) {
                return Err(already(&taken));
            }
        }
        Ok(Plan::new(preview).step(Access::Write, ctx.target(), action).effect(effect))
    }

    async fn apply(mut self, ctx: &Context) -> Result<Image> {
        let source = self.source(ctx).await?;
        let name = self.target.to_string();
        let images = ctx.client().await?.images();
        if self.force {
            return Ok(images.put(&name, &source.target, &source.labels).await?);
        }
        match images.create(&name, &source.target, &source.labels).await {
            Err(error) if error.is_already_exists() => {
                let present = images.get(&name).await?;
                if present.target.digest == source.target.digest { Ok(present) } else { Err(already(&present)) }
            }
            other => Ok(other?),
        }
    }
}

fn already(present: &Image) -> Error {
    Error::AlreadyExists {
        what: "image",
        name: present.name.clone(),
        cure: Some(format!("it points to {}; #{{ force: true }} points it here", present.target.digest)),
    }
}
