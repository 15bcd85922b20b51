//! Images: the object, and the functions that act on images.

mod archive;
mod change;
mod convert;
mod copied;
mod copy;
mod inspect;
mod install;
mod migrate;
mod object;
mod prune;
mod read;
mod transfer;

pub use object::ImageObject;

use crate::oci::media_type::Compression;
use crate::oci::{Matcher, Platform};
use crate::ops;
use crate::script::catalog::{Catalog, Opt};
use crate::script::error::Result;
use crate::script::options::Options;

/// The option that names platforms.
pub(crate) const PLATFORM: Opt =
    Opt::new("platform", "string or array", "The platform, such as `linux/arm64`, or several. Default: this host's.");
/// The option that means every platform.
pub(crate) const ALL_PLATFORMS: Opt =
    Opt::new("all_platforms", "bool", "Whether every platform of the image counts. Default false.");
/// The option that names the snapshotter.
pub(crate) const SNAPSHOTTER: Opt = Opt::new(
    "snapshotter",
    "string",
    "The snapshotter. Default: `--snapshotter`, else the namespace's or the daemon's own default.",
);

/// The option that leaves unpacked layers to the collector.
const DISCARD: Opt = Opt::new(
    "discard_unpacked_layers",
    "bool",
    "Whether manifests let go of their layers once these are unpacked, so that the collector takes the compressed blobs, those that were here before too: the image runs, and cannot be pushed or saved any more. Needs `delete` access. Default false.",
);

/// Reads whether unpacked layers are left to the collector.
fn discard(options: &Options) -> Result<bool> {
    let discard = options.flag("discard_unpacked_layers")?;
    if discard && options.bool("unpack")? == Some(false) {
        return Err(options.bad("discard_unpacked_layers", "needs the layers unpacked; leave 'unpack' away"));
    }
    Ok(discard)
}

/// The option that says how an archive is compressed.
pub(crate) const COMPRESSION: Opt = Opt::new(
    "compression",
    "string",
    "How an archive is compressed: `none`, `gzip` or `zstd`. Default: by the name's ending, `.gz`, `.tgz` or `.zst`.",
);

/// Reads how an archive is compressed, where a call says so.
pub(crate) fn compression(options: &Options) -> Result<Option<Compression>> {
    match options.string("compression")?.as_deref() {
        None => Ok(None),
        Some("none") => Ok(Some(Compression::None)),
        Some("gzip") => Ok(Some(Compression::Gzip)),
        Some("zstd") => Ok(Some(Compression::Zstd)),
        Some(other) => Err(options.bad("compression", format!("must be none, gzip or zstd, not '{other}'"))),
    }
}

/// Reads the platform options of a call.
pub(crate) fn platforms(options: &Options) -> Result<Matcher> {
    let named = options.strings("platform")?;
    if options.flag("all_platforms")? {
        return match named {
            None => Ok(Matcher::All),
            Some(_) => Err(options.bad("all_platforms", "and 'platform' cannot both be given")),
        };
    }
    platform(named)
}

/// Reads a platform option that stands alone.
pub(crate) fn platform(named: Option<Vec<String>>) -> Result<Matcher> {
    let Some(named) = named else { return Ok(Matcher::host()) };
    let parsed = named.iter().map(|text| text.parse::<Platform>()).collect::<std::result::Result<Vec<_>, _>>();
    Ok(Matcher::Any(parsed.map_err(ops::Error::from)?))
}

/// Registers the functions and objects of images.
pub(crate) fn register(catalog: &mut Catalog) {
    object::register(catalog);
    read::register(catalog);
    change::register(catalog);
    convert::register(catalog);
    install::register(catalog);
    inspect::register(catalog);
    transfer::register(catalog);
    archive::register(catalog);
    copied::register(catalog);
    copy::register(catalog);
    prune::register(catalog);
    migrate::register(catalog);
}
