//! `load`: brings the images of an archive into the namespace.

use std::path::PathBuf;

use async_trait::async_trait;

use super::arrive::Arrival;
use super::copy::{Copy, CopyOptions};
use super::endpoint::Endpoint;
use crate::containerd::images::Image;
use crate::kind::BoxFailure;
use crate::layout::{ArchiveReader, ListedImage, ReadOptions, Selector};
use crate::oci::Reference;
use crate::ops::{Context, Error, Level, Operation, Plan, Result};

/// What a load may be told.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// What becomes of each image here.
    pub arrival: Arrival,
    /// The name for an image that has none in the archive, or a repository for those that have a bare tag.
    pub name: Option<Reference>,
    /// A name for the archive's own index, of all its images.
    pub index_name: Option<Reference>,
    /// Whether names that point elsewhere are pointed to the archive's images.
    pub force: bool,
}

/// Brings in what an archive holds.
pub struct Load {
    path: PathBuf,
    options: LoadOptions,
    copies: Vec<Copy>,
}

impl Load {
    /// Loads a tar that Docker, ctr or an OCI tool wrote, plain or compressed.
    #[must_use]
    pub fn new(path: PathBuf, options: LoadOptions) -> Self {
        Self { path, options, copies: Vec::new() }
    }

    /// Decides what an image will be called; an image without any name is told of and left out.
    fn name(&self, ctx: &Context, image: &ListedImage, alone: bool) -> Option<String> {
        if let Some(name) = &image.name {
            return Some(name.clone());
        }
        match &self.options.name {
            Some(name) if alone && image.tag.is_none() => Some(name.to_string()),
            Some(name) => Some(image.name_in(name)),
            None => {
                let result = if self.options.index_name.is_some() { "is in the index alone" } else { "is left out" };
                let text = format!("image {} of {} has no full name, and {result}", image.label(), self.path.display());
                ctx.note(Level::Warn, &text);
                None
            }
        }
    }

    /// Lists what is brought in under which name: the index, where it gets one, and the images.
    fn named(&self, ctx: &Context, archive: &ArchiveReader) -> Result<Vec<(String, ListedImage)>> {
        let listed = archive.images();
        let alone = listed.len() == 1;
        let images = listed.iter().filter_map(|image| Some((self.name(ctx, image, alone)?, image.clone())));
        let mut named: Vec<_> = images.collect();
        let cure = "give one: #{ name: \"HOST/NAME:TAG\" }";
        let problem = match (listed.len(), &self.options.index_name) {
            (0, _) => Some(("holds no images".to_owned(), None)),
            (number, None) if named.is_empty() => {
                Some((format!("holds {number} images, and none has a full name"), Some(cure.to_owned())))
            }
            _ => None,
        };
        if let Some((problem, cure)) = problem {
            return Err(Error::Argument { name: self.path.display().to_string(), problem, cure });
        }
        if let (Some(name), Some(index)) = (&self.options.index_name, archive.index()) {
            let name = name.to_string();
            if named.iter().any(|(other, _)| *other == name) {
                return Err(Error::Argument {
                    name: format!("index_name {name}"),
                    problem: format!("is the name of an image of {}", self.path.display()),
                    cure: Some("give the index a name of its own".to_owned()),
                });
            }
            // First, so that what the kubelet knows by its config is the image in the end.
            named.insert(0, (name, index));
        }
        Ok(named)
    }
}

#[async_trait]
impl Operation for Load {
    type Output = Vec<Image>;
    const NAME: &'static str = "load";

    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Vec<Image>>> {
        ctx.check_path("reading it", &self.path)?;
        let options = ReadOptions::new(&ctx.settings().temp_dir);
        let archive = ArchiveReader::open(&self.path, &options).await.map_err(BoxFailure::from)?;
        let mut plan = Plan::new(());
        let mut previews = Vec::new();
        self.copies.clear();
        for (name, image) in &self.named(ctx, &archive)? {
            let selector = Selector::Digest(image.target.digest.clone());
            let source = Endpoint::Archive { path: self.path.clone(), selector };
            let options = CopyOptions {
                arrival: self.options.arrival.clone(),
                force: self.options.force,
                ..CopyOptions::default()
            };
            let copy = Copy::new(source, Endpoint::here(name), options);
            let mut copy = copy.opened(archive.source_for(image), &image.target);
            let (next, copied) = plan.and(copy.plan(ctx).await?);
            plan = next;
            previews.extend(copied.image);
            self.copies.push(copy);
        }
        Ok(plan.returning(previews))
    }

    async fn apply(self, ctx: &Context) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        for copy in self.copies {
            images.extend(copy.apply(ctx).await?.image);
        }
        Ok(images)
    }
}
