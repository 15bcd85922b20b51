//! The functions and objects of the script surface: one file a noun.

pub mod host;
pub mod image;
pub mod node;

use crate::script::catalog::Catalog;

/// Makes the catalog of everything.
#[must_use]
pub fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    node::register(&mut catalog);
    image::register(&mut catalog);
    host::register(&mut catalog);
    catalog
}
