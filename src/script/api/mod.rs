//! The functions and objects of the script surface: one file a noun.

pub mod batch;
pub mod container;
pub mod content;
pub mod disk;
pub mod docker;
pub mod event;
pub mod file;
pub mod host;
pub mod image;
pub mod introspection;
pub mod lease;
pub mod namespace;
pub mod node;
pub mod output;
pub mod pprof;
pub mod process;
pub mod program;
pub mod registry;
pub mod sandbox;
pub mod shim;
pub mod snapshot;
pub mod spec;
pub mod task;

use crate::script::catalog::Catalog;

/// Makes the catalog of everything.
#[must_use]
pub fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    node::register(&mut catalog);
    introspection::register(&mut catalog);
    image::register(&mut catalog);
    docker::register(&mut catalog);
    registry::register(&mut catalog);
    namespace::register(&mut catalog);
    lease::register(&mut catalog);
    content::register(&mut catalog);
    disk::register(&mut catalog);
    batch::register(&mut catalog);
    output::register(&mut catalog);
    file::register(&mut catalog);
    container::register(&mut catalog);
    task::register(&mut catalog);
    snapshot::register(&mut catalog);
    process::register(&mut catalog);
    spec::register(&mut catalog);
    event::register(&mut catalog);
    sandbox::register(&mut catalog);
    pprof::register(&mut catalog);
    shim::register(&mut catalog);
    program::register(&mut catalog);
    host::register(&mut catalog);
    catalog
}
