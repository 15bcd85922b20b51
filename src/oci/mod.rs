//! The data of images and containers, and the two traits that all image movement goes through.
//!
//! Wire strings are parsed once, into types: past this layer a digest, a reference, a platform or a media type is never
//! a plain string.

pub mod config;
pub mod convert;
pub mod descriptor;
pub mod digest;
mod error;
pub mod manifest;
pub mod media_type;
pub mod narrow;
pub mod platform;
pub mod reference;
pub mod spec;
pub mod store;

pub use config::ImageConfig;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher};
pub use error::Error;
pub(crate) use error::excerpt;
pub use manifest::{Index, Manifest, Parsed};
pub use media_type::MediaType;
pub use platform::{Matcher, Platform};
pub use reference::Reference;
pub use spec::Spec;
