//! `push`: sends an image of the namespace, or a manifest of its content, to a registry.

use async_trait::async_trait;

use super::copy::{Copied, Copy, CopyOptions, Platforms};
use super::endpoint::Endpoint;
use super::here;
use crate::oci::{Descriptor, Digest, Matcher, Reference, manifest};
use crate::ops::{Context, Error, Operation, Plan, Result, content};
use crate::registry;

/// What a push may be told.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The name of the image here, when it is not that of the target.
    pub source: Option<String>,
    /// A manifest or index of the content store to send in place of an image.
    pub manifest: Option<Digest>,
    /// The one platform to send; without it, all of the image that are here.
    pub platform: Option<Matcher>,
    /// How to reach the registry.
    pub registry: registry::Options,
}

/// Sends an image.
pub struct Push {
    target: String,
    manifest: Option<Digest>,
    copy: Copy,
}

impl Push {
    /// Sends the image of that name, or another one, to a reference.
    #[must_use]
    pub fn new(target: Reference, options: PushOptions) -> Self {
        let name = target.to_string();
        let platforms = options.platform.map_or(Platforms::Present, Platforms::One);
        let settings = CopyOptions { platforms, registry: options.registry, ..CopyOptions::default() };
        let source = match (&options.manifest, &options.source) {
            (Some(digest), _) => digest.as_str(),
            (None, source) => source.as_deref().unwrap_or(&name),
        };
        let copy = Copy::new(Endpoint::here(source), Endpoint::Registry(target), settings);
        Self { target: name, manifest: options.manifest, copy }
    }
}

/// Describes a manifest or index of the content store by what it says of itself.
async fn described(ctx: &Context, digest: &Digest) -> Result<Descriptor> {
    let size = match content::info(ctx, digest).await {
        Ok(info) => info.size,
        Err(Error::NotFound { name, .. }) => {
            let cure = format!(
                "image(NAME).inspect() and manifest(NAME) show the digests of an image, content::list() all that is here; this \
                 is the namespace {}",
                ctx.namespace()
            );
            return Err(Error::NotFound { what: "manifest", name, nearest: None, cure: Some(cure) });
        }
        Err(error) => return Err(error),
    };
    let media_type = match size <= manifest::MAX_SIZE {
        true => {
            content::Held::new(ctx).await?.bytes(digest, manifest::MAX_SIZE).await?.and_then(|b| manifest::sniff(&b))
        }
        false => None,
    };
    let media_type =
        media_type.filter(|kind| kind.is_manifest() || kind.is_index()).ok_or_else(|| Error::Argument {
            name: format!("manifest {digest}"),
            problem: "is content, but neither a manifest nor an index".to_owned(),
            cure: Some("content::push_object sends a single blob".to_owned()),
        })?;
    Ok(Descriptor::new(media_type, digest.clone(), size))
}

#[async_trait]
impl Operation for Push {
    type Output = Copied;
    const NAME: &'static str = "push";

    fn subject(&self) -> String {
        self.target.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Copied>> {
        if let Some(digest) = &self.manifest {
            let root = described(ctx, digest).await?;
            self.copy.open(here::source(ctx, digest.as_str()).await?, &root);
        }
        self.copy.plan(ctx).await
    }

    async fn apply(self, ctx: &Context) -> Result<Copied> {
        self.copy.apply(ctx).await
    }
}
