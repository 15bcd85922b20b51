//! The registry client: manifests, blobs, uploads, tags and referrers of any registry that speaks the OCI distribution
//! protocol.
//!
//! It is the project's own, on `reqwest` as the HTTP crate; ready-made clients lack retries that hear Retry-After,
//! mirrors, client certificates, or tokens for the two repositories of a mount.
//!
//! One module is one concern. `transport` is the only place that sends a request: permission, pace, time-outs and
//! redirects live there. `session` adds what a registry needs round one request: mirrors, authentication and retries.
//! Everything above only describes requests.

pub mod config;
pub mod credentials;
pub mod retry;

mod answer;
mod auth;
mod blobs;
mod cause;
mod challenge;
mod client;
mod connect;
mod error;
mod handed;
mod harbor;
mod hosts;
mod keeper;
mod link;
mod manifests;
mod pace;
mod presence;
mod reach;
mod referrers;
mod session;
mod store;
mod tags;
mod target;
mod token;
mod transport;
mod uploads;
mod writer;

pub use answer::{Answer, Meaning};
pub use client::{Client, Options, Registry, Repository};
pub use config::Config;
pub use credentials::{Credential, Secret};
pub use error::Error;
pub use handed::Handed;
pub use harbor::{NewProject, Project, Quota};
pub use keeper::Keeper;
pub use store::RegistryStore;
pub use uploads::Upload;
pub use writer::Writer;

/// What the registry client answers.
pub type Result<T> = std::result::Result<T, Error>;
