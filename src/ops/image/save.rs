//! `save`: writes images of the namespace to an archive.

use std::path::PathBuf;

use async_trait::async_trait;

use super::get;
use crate::containerd::images::Image;
use crate::containerd::store::ContainerdStore;
use crate::kind::{BoxFailure, Failure, Kind};
use crate::layout::{ArchiveWriter, Selector, WriteOptions};
use crate::oci::Matcher;
use crate::oci::media_type::Compression;
use crate::oci::store::ImageSink;
use crate::ops::copy::Copy;
use crate::ops::graph::{self, Graph, Selection};
use crate::ops::{Context, Error, Operation, Plan, Result};

/// What a save may be told.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// Which platforms are written; without it, all that are here whole.
    pub platforms: Option<Matcher>,
    /// How the archive is compressed as a whole.
    pub compression: Compression,
}

/// Writes images.
pub struct Save {
    names: Vec<String>,
    path: PathBuf,
    options: SaveOptions,
    found: Vec<(Image, Graph)>,
}

impl Save {
    /// Writes the images of these names to an OCI archive that Docker reads too.
    #[must_use]
    pub fn new(names: Vec<String>, path: PathBuf, options: SaveOptions) -> Self {
        Self { names, path, options, found: Vec::new() }
    }
}

#[async_trait]
impl Operation for Save {
    type Output = u64;
    const NAME: &'static str = "save";

    fn subject(&self) -> String {
        format!("{} to {}", self.names.join(", "), self.path.display())
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<u64>> {
        let client = ctx.client().await?;
        let selection = self.options.platforms.clone().map_or(Selection::Present, Selection::Matching);
        let mut bytes = 0;
        self.found.clear();
        for name in &self.names {
            let image = get(ctx, name).await?;
            let store = ContainerdStore::new(client.clone(), &image.name);
            let graph =
                graph::walk(&store, None, &image.target, &selection).await.map_err(|error| match error.kind() {
                    Kind::NotFound if !matches!(error, Error::NotFound { .. }) => {
                        Error::Incomplete { image: image.name.clone(), missing: error.to_string() }
                    }
                    _ => error,
                })?;
            bytes += graph.size();
            self.found.push((image, graph));
        }
        let access = ctx.path_access(&self.path);
        let action = format!("write {} to {}", self.names.join(", "), self.path.display());
        Ok(Plan::new(bytes).step(access, self.path.display().to_string(), action))
    }

    async fn apply(self, ctx: &Context) -> Result<u64> {
        let client = ctx.client().await?;
        let options = WriteOptions {
            compression: self.options.compression,
            platforms: self.options.platforms.clone().unwrap_or_else(Matcher::host),
            spool: ctx.settings().temp_dir.clone(),
        };
        let writer = ArchiveWriter::create(&self.path, options).await.map_err(BoxFailure::from)?;
        for (image, graph) in &self.found {
            let source = ContainerdStore::new(client.clone(), &image.name);
            let sink = writer.image(Selector::Name(image.name.clone()));
            let copy = Copy {
                source: &source,
                sink: &sink,
                graph,
                flights: ctx.flights(),
                progress: &**ctx.progress(),
                arrived: None,
            };
            copy.run().await?;
            sink.finish(&image.target).await?;
        }
        Ok(writer.close().await.map_err(BoxFailure::from)?)
    }
}
