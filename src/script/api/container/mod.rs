//! Containers: the object, and the functions that act on containers.

mod attach;
mod change;
mod checkpoint;
mod files;
mod life;
mod make;
mod object;
mod options;
mod read;
mod update;

pub use object::ContainerObject;

use crate::script::catalog::Catalog;

/// Registers the functions and objects of containers.
pub(crate) fn register(catalog: &mut Catalog) {
    object::register(catalog);
    read::register(catalog);
    make::register(catalog);
    life::register(catalog);
    change::register(catalog);
    attach::register(catalog);
    checkpoint::register(catalog);
    files::register(catalog);
    update::register(catalog);
}
