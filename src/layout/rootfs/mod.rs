//! Makes an image of one layer out of a root filesystem.

mod config;
mod layer;
mod tree;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::config::RootfsOptions;
use super::archive::Stop;
use super::blob::check_size;
use super::error::{Error, Result};
use super::stream::{Piece, blocking};
use crate::oci::store::{self, BlobReader, ImageSource};
use crate::oci::{Descriptor, Digest, MediaType};

/// An image that was made here, as a source to copy from. Its layer lies in a nameless file that goes with it.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    name: Arc<str>,
    target: Descriptor,
    manifest: Bytes,
    config: (Descriptor, Bytes),
    layer: (Descriptor, Piece),
    diff_id: Digest,
}

/// Makes an image of a folder or of a tar, which may be compressed with gzip or zstd.
///
/// Equal input makes an equal image: a folder's files are taken sorted by name, with their numeric owners, modes, times in whole
/// seconds, hard links and capabilities; sockets are left out. A tar's bytes are taken as they are, and so are a gzip's.
/// The layer is written to a nameless file in the spool folder; `passed` is told of the bytes that it is made of, as they are
/// read.
///
/// # Errors
/// When the source cannot be read, changes while it is read, or is neither; and when the disk is full.
pub async fn from_rootfs(
    source: &Path,
    options: &RootfsOptions,
    spool: &Path,
    passed: impl Fn(u64) + Send + Sync + 'static,
) -> Result<BuiltImage> {
    let (source, options, spool) = (source.to_owned(), options.clone(), spool.to_owned());
    let stop = Stop::default();
    let _guard = stop.guard();
    blocking(&source.display().to_string(), move || {
        let metadata = std::fs::metadata(&source).map_err(|error| Error::io("open", &source, error))?;
        let layer = if metadata.is_dir() {
            layer::of_folder(&source, &options, &spool, &stop, Box::new(passed))?
        } else {
            layer::of_tar(&source, &spool, &stop, Box::new(passed))?
        };
        BuiltImage::new(&source, layer, &options)
    })
    .await
}

impl BuiltImage {
    fn new(source: &Path, layer: layer::Layer, options: &RootfsOptions) -> Result<Self> {
        let name: Arc<str> = source.display().to_string().into();
        let document = |error: serde_json::Error| Error::Document {
            document: format!("the image of {name}"),
            reason: error.to_string(),
        };
        let config = options.config(&layer.diff_id).map_err(document)?;
        let config_descriptor = Descriptor::new(MediaType::OciConfig, Digest::sha256(&config), config.len() as u64);
        let gzip = MediaType::parse("application/vnd.oci.image.layer.v1.tar+gzip");
        let layer_descriptor = Descriptor::new(gzip, layer.digest.clone(), layer.piece.len);
        let manifest = options.manifest(&config_descriptor, &layer_descriptor).map_err(document)?;
        let mut target = Descriptor::new(MediaType::OciManifest, Digest::sha256(&manifest), manifest.len() as u64);
        target.platform = Some(options.platform.clone());
        Ok(Self {
            target,
            manifest: manifest.into(),
            config: (config_descriptor, config.into()),
            layer: (layer_descriptor, layer.piece),
            diff_id: layer.diff_id,
            name,
        })
    }

    /// Returns the image's manifest.
    #[must_use]
    pub fn target(&self) -> &Descriptor {
        &self.target
    }

    /// Returns the digest of the layer's tar before it was compressed.
    #[must_use]
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    fn missing(&self, descriptor: &Descriptor) -> Error {
        Error::Missing { path: format!("the image of {}", self.name), what: descriptor.digest.to_string() }
    }
}

#[async_trait]
impl ImageSource for BuiltImage {
    fn name(&self) -> String {
        self.name.to_string()
    }

    async fn resolve(&self) -> store::Result<Descriptor> {
        Ok(self.target.clone())
    }

    async fn manifest(&self, descriptor: &Descriptor) -> store::Result<Bytes> {
        if descriptor.digest != self.target.digest {
            return Err(self.missing(descriptor).into());
        }
        Ok(self.manifest.clone())
    }

    async fn open(&self, descriptor: &Descriptor, offset: u64) -> store::Result<BlobReader> {
        let (config, layer) = (&self.config, &self.layer);
        if descriptor.digest == layer.0.digest {
            check_size(&self.name, descriptor, layer.0.size)?;
            return Ok(BlobReader { start: offset, stream: layer.1.clone().stream(offset) });
        }
        if descriptor.digest != config.0.digest {
            return Err(self.missing(descriptor).into());
        }
        check_size(&self.name, descriptor, config.0.size)?;
        let bytes = config.1.clone();
        Ok(BlobReader { start: 0, stream: Box::pin(futures_util::stream::once(async move { Ok(bytes) })) })
    }
}
