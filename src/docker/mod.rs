//! The Docker Engine as a place that images come from: its list of images, what it knows of one, and its exports.
//!
//! Only `GET` is ever sent, over the engine's Unix socket. What an export holds is for `layout` to read.

mod address;
mod engine;
mod error;
mod image;

pub use address::{Address, DEFAULT_SOCKET};
pub use engine::{Engine, Export};
pub use error::Error;
pub use image::Image;

/// What the functions of this layer return.
pub(crate) type Result<T> = std::result::Result<T, Error>;
