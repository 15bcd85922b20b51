//! Registries: the objects, and what can be asked of them and changed in them without a pull.

mod change;
mod function;
mod login;
pub(super) mod object;
pub(crate) mod options;
mod project;
mod read;

use crate::script::catalog::Catalog;

/// Registers the functions and objects of registries.
pub(crate) fn register(catalog: &mut Catalog) {
    object::register(catalog);
    function::register(catalog);
    read::register(catalog);
    change::register(catalog);
    login::register(catalog);
    project::register(catalog);
}
