//! The registry client against real registries, plain, with TLS and passwords, and through a proxy that breaks things.

mod auth;
mod faults;
mod harbor;
mod lists;
mod login;
mod mirrors;
mod pull;
mod push;
pub mod support;
mod verbs;

use libtest_mimic::Trial;

use crate::harness::Env;

/// The tests of the registry client.
pub fn trials(env: &Env) -> Vec<Trial> {
    let areas = [
        pull::trials,
        push::trials,
        lists::trials,
        verbs::trials,
        auth::trials,
        login::trials,
        mirrors::trials,
        faults::trials,
        harbor::trials,
    ];
    areas.into_iter().flat_map(|trials| trials(env)).collect()
}
