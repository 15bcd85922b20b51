//! The runtime spec of a container (runtime-spec config.md), built from an image's config and options.
//!
//! [`build`] makes what `ctr run` makes for the same input. The document types are this module's own: those of the
//! `oci-spec` crate keep capabilities in a hash set, so that the same container would be written differently each time,
//! and drop the fields they do not know.

mod build;
mod cdi;
mod default;
mod host;
mod limits;
mod options;
mod runtime;
mod seccomp;
mod user;

pub use build::{Basis, DEFAULT_PATH, build, in_own_cgroup, overlay_env};
pub use cdi::{CdiDevice, CdiEdits, CdiHook, CdiMount, CdiName, CdiNode, CdiSpec};
pub use default::default_spec;
pub use host::{HostFacts, cgroup_reach, host_reach};
pub use limits::Limits;
pub use options::{MountOption, NamespaceJoin, Rlimit, SpecOptions};
pub use runtime::*;
pub use seccomp::default_profile;
pub use user::{UserFiles, resolve_user};

/// The type URL of a spec in an `Any`, whose value is JSON (containerd `client/client.go`).
pub const SPEC_TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// The type URL of a process in an `Any`, whose value is JSON.
pub const PROCESS_TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
