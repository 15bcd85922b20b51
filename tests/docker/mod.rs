//! A Docker Engine as a source, against a real dockerd.

mod copy;
mod mistakes;
mod store;
mod support;

use libtest_mimic::Trial;

use crate::harness::Env;

pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = copy::trials(env);
    trials.extend(mistakes::trials(env));
    trials.extend(store::trials(env));
    trials
}
