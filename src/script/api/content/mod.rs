//! Content: the objects, and the functions that act on blobs.

mod change;
mod object;
mod read;
mod registry;

use crate::oci::Digest;
use crate::ops;
use crate::script::catalog::Catalog;
use crate::script::error::Result;
use crate::script::value::{Name, NameList};

/// Reads what names a blob.
fn digest(name: &Name) -> Result<Digest> {
    Ok(name.0.parse::<Digest>().map_err(ops::Error::from)?)
}

fn digests(names: &NameList) -> Result<Vec<Digest>> {
    names.0.iter().map(|name| Ok(name.parse::<Digest>().map_err(ops::Error::from)?)).collect()
}

/// Registers the functions and objects of content.
pub(crate) fn register(catalog: &mut Catalog) {
    object::register(catalog);
    read::register(catalog);
    change::register(catalog);
    registry::register(catalog);
}
