//! Images on disk: OCI layout folders, image archives, and images made of a root filesystem.
//!
//! Everything here is a source or a sink of [`crate::oci::store`], or makes one. A blob's bytes pass in chunks and never
//! lie in memory whole, and a path is derived from a checked [`crate::oci::Digest`] or not at all. File work runs on threads that may
//! block.

pub mod archive;
mod blob;
mod error;
pub mod folder;
pub mod names;
pub mod rootfs;
mod stream;
mod xattrs;

pub use archive::{ArchiveReader, ArchiveWriter, ReadOptions, WriteOptions};
pub use error::Error;
pub use folder::LayoutFolder;
pub use names::{ListedImage, Selector};
pub use rootfs::{BuiltImage, RootfsOptions, from_rootfs};
pub use stream::standard_output;
pub(crate) use xattrs::xattrs;
