//! A Docker Engine: what it has, and its images as sources.
//!
//! The engine gives an image only whole, so an export is spooled to the folder for temporary files, in a file without a
//! name that the kernel frees with the last handle. Before that the target is asked: what has the image already is read
//! from there, and the engine exports nothing.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::docker::{Address, Engine, Error as EngineError, Export, Image};
use crate::kind::{BoxFailure, Failure, Kind};
use crate::layout::{self, ArchiveReader, ReadOptions, Selector};
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Digest, Manifest, Parsed};
use crate::ops::image::Endpoint;
use crate::ops::progress::Meter;
use crate::ops::{Context, Error, Result};
use crate::registry;

/// An image opened to be read from.
type Opened = (Box<dyn ImageSource>, Descriptor);

/// Returns an engine: the one at the address, else the one of the settings, else this machine's.
///
/// # Errors
/// That the settings name none that is reached.
pub fn engine(ctx: &Context, address: Option<&Address>) -> Result<Engine> {
    let address = match (address, &ctx.settings().docker_host) {
        (Some(address), _) => address.clone(),
        (None, Some(text)) => Address::parse(text).map_err(failed)?,
        (None, None) => Address::default(),
    };
    Ok(Engine::new(address, ctx.grant()))
}

/// Lists the images of an engine.
///
/// # Errors
/// Why there is no answer.
pub async fn images(ctx: &Context, address: Option<&Address>) -> Result<Vec<Image>> {
    engine(ctx, address)?.images().await.map_err(failed)
}

/// Describes an image of an engine.
///
/// # Errors
/// That there is no such image, with the nearest that there is, or why there is no answer.
pub async fn image(ctx: &Context, address: Option<&Address>, name: &str) -> Result<Image> {
    find(&engine(ctx, address)?, name).await
}

async fn find(engine: &Engine, name: &str) -> Result<Image> {
    let absent = match engine.image(name).await {
        Err(error @ EngineError::NoImage { .. }) => error,
        other => return other.map_err(failed),
    };
    let images = engine.images().await.map_err(failed)?;
    let names = images.iter().flat_map(|image| &image.names).map(String::as_str);
    Err(match crate::ops::error::nearest(name, names) {
        None => failed(absent),
        nearest => {
            Error::NotFound { what: "image", name: format!("{name} at {}", engine.address()), nearest, cure: None }
        }
    })
}

/// Opens an image of an engine to be copied to a target: from the target itself when it has the image, as a second copy
/// finds it, else from an export.
///
/// # Errors
/// That there is no such image, that there is no room for the export, or why it broke off.
pub(super) async fn open(
    ctx: &Context,
    address: Option<&Address>,
    name: &str,
    target: &Endpoint,
    registry: &registry::Options,
) -> Result<Opened> {
    let engine = engine(ctx, address)?;
    let image = find(&engine, name).await?;
    if let Some(present) = present(ctx, &image, target, registry).await? {
        return Ok(present);
    }
    export_image(ctx, &engine, name, &image).await
}

/// Opens an export of an image.
///
/// # Errors
/// As for [`open`].
pub(super) async fn export(ctx: &Context, address: Option<&Address>, name: &str) -> Result<Opened> {
    let engine = engine(ctx, address)?;
    let image = find(&engine, name).await?;
    export_image(ctx, &engine, name, &image).await
}

/// Finds the image at the target, whole and under the target's name.
///
/// The engine's id of an image is the digest of its config, which names the digest of each layer unpacked: a manifest
/// with that config is the image, however its layers are compressed. With containerd's image store the id is the digest
/// of what is copied.
async fn present(
    ctx: &Context,
    image: &Image,
    target: &Endpoint,
    registry: &registry::Options,
) -> Result<Option<Opened>> {
    // An archive is written anew each time, from bytes that have to be there.
    if matches!(target, Endpoint::Archive { .. }) {
        return Ok(None);
    }
    let looked = async {
        let (source, root) = target.source(ctx, registry).await?;
        let bytes = source.manifest(&root).await?;
        let whole = match Parsed::read(&root, &bytes)? {
            Parsed::Index(_) => root.digest == image.id && source.holds(&root).await?,
            Parsed::Manifest(manifest) if is_image(&root, &manifest, &image.id) => {
                let mut whole = true;
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    whole = whole && source.holds(blob).await?;
                }
                whole
            }
            Parsed::Manifest(_) => false,
        };
        Ok::<_, Error>(whole.then_some((source, root)))
    };
    match looked.await {
        // Whatever else is wrong with the target, writing to it will tell; only what waiting helps against comes first.
        Err(error) if matches!(error.kind(), Kind::Cancelled | Kind::Unavailable | Kind::Timeout) => Err(error),
        Err(_) => Ok(None),
        Ok(found) => Ok(found),
    }
}

fn is_image(root: &Descriptor, manifest: &Manifest, id: &Digest) -> bool {
    root.digest == *id || manifest.config.digest == *id
}

async fn export_image(ctx: &Context, engine: &Engine, name: &str, image: &Image) -> Result<Opened> {
    let shown = format!("docker:{name}");
    let spool = &ctx.settings().temp_dir;
    // With containerd's store the size counts the content and what is unpacked of it; the export is smaller.
    if !image.is_exact() {
        check_room(spool, image.size)?;
    }
    let meter = ctx.progress().meter(&shown, Some(image.size));
    meter.phase("exporting");
    // By the id: a name may be pointed elsewhere meanwhile, and one without a tag stands for all tags of its repository.
    let export = engine.export(image.id.as_str()).await.map_err(failed)?;
    let broken = Arc::new(Mutex::new(None));
    let reader = SyncIoBridge::new(StreamReader::new(readable(export, Arc::clone(&meter), Arc::clone(&broken))));
    let read = ArchiveReader::from_reader(&shown, Box::new(reader), &ReadOptions::new(spool)).await;
    let archive = match (read, broken.lock().unwrap_or_else(PoisonError::into_inner).take()) {
        // What the reader makes of a stream that broke off is that the archive is cut off.
        (Err(_), Some(error)) => return Err(failed(error)),
        (read, _) => read.map_err(BoxFailure::from)?,
    };
    let source = archive.source_for(&archive.find(&Selector::Only).map_err(BoxFailure::from)?);
    let root = source.resolve().await?;
    let parsed = Parsed::read(&root, &source.manifest(&root).await?)?;
    // The bytes are checked on their way to the target; here, that they are those of the image.
    let same = match &parsed {
        Parsed::Index(_) => root.digest == image.id,
        Parsed::Manifest(manifest) => is_image(&root, manifest, &image.id),
    };
    if !same {
        return Err(Error::Conflict {
            what: "image",
            name: shown,
            state: format!("is {} in the engine's export, not {}", root.digest, image.id),
            cure: None,
        });
    }
    meter.done("exported");
    Ok((Box::new(source), root))
}

/// Makes a stream readable, keeping what it failed with for whoever asks why.
fn readable(
    export: Export,
    meter: Arc<dyn Meter>,
    broken: Arc<Mutex<Option<EngineError>>>,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + Unpin {
    export.map(move |item| match item {
        Ok(bytes) => {
            meter.advance(bytes.len() as u64);
            Ok(bytes)
        }
        Err(error) => {
            let told = io::Error::other(error.to_string());
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            Err(told)
        }
    })
}

/// Refuses an export for which there is no room, before the engine begins to pack it.
fn check_room(spool: &std::path::Path, needed: u64) -> Result<()> {
    // The folder may have to be made; then the one that it will be in tells.
    let free = spool.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok());
    let free = free.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if free >= needed {
        return Ok(());
    }
    let path = format!("{}, which has {free} bytes free of the {needed} that it takes", spool.display());
    Err(BoxFailure::from(layout::Error::Io {
        action: "spool the image to",
        path,
        source: io::ErrorKind::StorageFull.into(),
    })
    .into())
}

fn failed(error: EngineError) -> Error {
    BoxFailure::from(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_small_is_named_before_the_export() {
        check_room(std::path::Path::new("/nowhere/at/all"), 1).unwrap();
        let error = check_room(std::path::Path::new("/nowhere/at/all"), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), Kind::NoSpace, "{error}");
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
        assert!(error.hint().unwrap().contains("another file system"), "{error}");
    }
}
