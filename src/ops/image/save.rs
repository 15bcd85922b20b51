//! `save`: writes images of the namespace to an archive.

use std::path::PathBuf;

use async_trait::async_trait;

use super::copy::{Copy, CopyOptions, Platforms};
use super::endpoint::Endpoint;
use super::foresee::UNKNOWN_SIZE;
use super::get;
use crate::kind::BoxFailure;
use crate::layout::{ArchiveWriter, Selector, WriteOptions};
use crate::oci::Matcher;
use crate::oci::media_type::Compression;
use crate::ops::{Context, Operation, Plan, Result};

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
    copies: Vec<Copy>,
}

impl Save {
    /// Writes the images of these names to an OCI archive that Docker reads too.
    #[must_use]
    pub fn new(names: Vec<String>, path: PathBuf, options: SaveOptions) -> Self {
        Self { names, path, options, copies: Vec::new() }
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
        let platforms = self.options.platforms.clone().map_or(Platforms::Present, Platforms::Fitting);
        let (mut bytes, mut unknown) = (0, false);
        self.copies.clear();
        for name in &self.names {
            let name = get(ctx, name).await?.name;
            let target = Endpoint::Archive { path: self.path.clone(), selector: Selector::Name(name.clone()) };
            let options = CopyOptions { platforms: platforms.clone(), ..CopyOptions::default() };
            let mut copy = Copy::new(Endpoint::here(&name), target, options);
            let found = copy.find(ctx).await?;
            bytes += found.size();
            unknown |= found.unknown;
            self.copies.push(copy);
        }
        let size = if unknown { format!(", {UNKNOWN_SIZE}") } else { String::new() };
        let action = format!("write {} to {}{size}", self.names.join(", "), self.path.display());
        Ok(Plan::new(bytes).path(ctx.local(&self.path), action))
    }

    async fn apply(self, ctx: &Context) -> Result<u64> {
        let options = WriteOptions {
            compression: self.options.compression,
            platforms: self.options.platforms.clone().unwrap_or_else(Matcher::host),
            spool: ctx.settings().temp_dir.clone(),
        };
        let writer = ArchiveWriter::create(&self.path, options).await.map_err(BoxFailure::from)?;
        for copy in &self.copies {
            copy.write(ctx, &writer).await?;
        }
        Ok(writer.close().await.map_err(BoxFailure::from)?)
    }
}
