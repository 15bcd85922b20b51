//! ctrsh, the scriptable shell for containerd.
//!
//! # Layers
//!
//! ```text
//! main, cli -> shell -> script -> ops -> { containerd, registry, docker, layout } -> socket -> { oci, grant, kind }
//! ```
//!
//! `ctr` stands beside the shell and `sandbox` beside the clients; both use only `kind`.
//! A module may use modules to its right and none to its left; `tests/tidy.rs` holds that.

pub mod cli;
pub mod config;
pub mod containerd;
pub mod ctr;
pub mod docker;
pub mod grant;
pub mod kind;
pub mod layout;
pub mod oci;
pub mod ops;
pub mod registry;
pub mod sandbox;
pub mod script;
pub mod shell;
pub mod socket;
