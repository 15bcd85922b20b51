//! Images: names in a namespace that point to content.

mod arrive;
mod check;
mod companions;
mod convert;
mod copy;
mod daemon;
mod delete;
mod detail;
mod endpoint;
mod foresee;
mod from_rootfs;
mod get;
mod here;
mod inspect;
mod install;
mod label;
mod list;
mod load;
mod mount;
mod prune;
mod pull;
mod push;
mod save;
mod tag;
mod uncompress;
mod unpack;
mod usage;

pub use arrive::Arrival;
pub(in crate::ops) use arrive::refuse_taken;
pub use check::{Check, PlatformCheck, check};
pub use convert::{Convert, ConvertOptions};
pub use copy::{Copied, Copy, CopyOptions, Platforms};
pub use daemon::{PullByDaemon, PushByDaemon};
pub use delete::Delete;
pub use detail::{Detail, detail, details};
pub use endpoint::{At, Endpoint};
pub(in crate::ops) use foresee::unknown;
pub use from_rootfs::FromRootfs;
pub use get::get;
pub use inspect::{InspectOptions, Node, NodeKind, chain_id, config, image_of, inspect, manifest};
pub use install::{Install, InstallOptions};
pub use label::Label;
pub use list::list;
pub use load::{Load, LoadOptions};
pub use mount::{Mount, MountOptions, Unmount};
pub use prune::{Prune, Pruned};
pub use pull::Pull;
pub use push::{Push, PushOptions};
pub use save::{Save, SaveOptions};
pub use tag::Tag;
pub use unpack::Unpack;
pub use usage::{Usage, usage};

use crate::oci::Reference;
use crate::ops::{Context, Error, Result};

/// Turns what a user wrote into the name that records have: `nginx` becomes `docker.io/library/nginx:latest`.
///
/// # Errors
/// That the text is not a reference, and why.
pub fn full_name(text: &str) -> Result<String> {
    Ok(text.parse::<Reference>().map_err(Error::from)?.to_string())
}

/// Decides which snapshotter a call uses: the one it names, else the configured one, else the namespace's or daemon's default.
///
/// # Errors
/// When there is no connection.
pub async fn snapshotter(ctx: &Context, named: Option<&str>) -> Result<String> {
    match named.or(ctx.settings().snapshotter.as_deref()) {
        Some(name) => Ok(name.to_owned()),
        None => Ok(ctx.client().await?.default_snapshotter().await?),
    }
}
