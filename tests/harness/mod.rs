//! What the tests stand on: one containerd, one Docker Engine and two registries for the whole binary, test images, and the programs that
//! the results are compared with (`ctr`, `skopeo`).
//!
//! A test module has `pub fn trials(env: &Env) -> Vec<Trial>` and makes each trial with [`trial`] (real daemons) or
//! [`pure`] (nothing needed). A test takes a namespace of its own from [`Env::namespace`] and repositories of its own
//! from [`Env::repository`], because all tests share the daemons and run side by side.
#![allow(dead_code, reason = "not every helper has a user in every build of the suite")]

pub mod certificates;
pub mod clock;
pub mod counter;
pub mod daemon;
pub mod dam;
pub mod disk;
pub mod engine;
pub mod env;
pub mod fault;
pub mod fleet;
pub mod generation;
pub mod harbor;
pub mod image;
pub mod leftovers;
pub mod output;
pub mod owner;
pub mod picture;
pub mod process;
pub mod registry;
pub mod self_check;
pub mod token_server;

pub use env::Env;
pub use image::Kind;
pub use leftovers::Leftovers;

use std::time::Duration;

use libtest_mimic::{Failed, Trial};

/// How long what waits for nothing may take: more than a busy machine needs, and less than what it would wait for.
pub const PROMPT: Duration = Duration::from_secs(5);

/// Makes a test that needs the daemons.
///
/// Where something that it needs is not installed it is skipped with the reason in brackets before its name; with
/// `CI=true` it fails instead. A panic (a failed `assert!`, an `unwrap`) is a failure.
pub fn trial(name: &str, env: &Env, test: impl FnOnce(&Env) + Send + 'static) -> Trial {
    match env.missing() {
        None => {
            let env = env.clone();
            Trial::test(name, move || run(|| test(&env)))
        }
        Some(reason) if env::is_ci() => {
            let reason = format!("cannot run: {reason}");
            Trial::test(name, move || Err(Failed::from(reason)))
        }
        Some(reason) => Trial::test(name, || Ok(())).with_kind(format!("skipped: {reason}")).with_ignored_flag(true),
    }
}

/// Makes a test that needs nothing but itself.
pub fn pure(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || run(test))
}

/// Runs a test and turns its panic into a failure with the panic's message.
fn run(test: impl FnOnce()) -> Result<(), Failed> {
    owner::begin();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Failed::from(text.unwrap_or_else(|| "a panic without a message".into()))
    })
}
