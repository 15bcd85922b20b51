//! The throw-away containerd: it starts, and nothing of it stays, however it ends.

use libtest_mimic::Trial;

use crate::harness::Env;

/// The tests of the sandbox.
pub fn trials(_env: &Env) -> Vec<Trial> {
    Vec::new()
}
