//! Images: names in a namespace that point to content.

mod get;
mod list;
mod tag;

pub use get::get;
pub use list::list;
pub use tag::Tag;

use crate::oci::Reference;
use crate::ops::{Error, Result};

/// Turns what a user wrote into the name that records have: `nginx` becomes `docker.io/library/nginx:latest`.
///
/// # Errors
/// [`Error::Argument`]-like failures of [`Reference`].
pub fn full_name(text: &str) -> Result<String> {
    Ok(text.parse::<Reference>().map_err(Error::from)?.to_string())
}
