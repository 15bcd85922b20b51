//! The program as its users meet it: run from other scripts, and at a terminal.

mod attach;
mod commands;
mod ctr;
mod login;
mod program;
mod sandbox;
mod streams;
pub mod terminal;

use libtest_mimic::Trial;

use crate::harness::Env;

/// The tests of the shell.
pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = program::trials(env);
    trials.extend(terminal::trials(env));
    trials.extend(commands::trials(env));
    trials.extend(ctr::trials(env));
    trials.extend(attach::trials(env));
    trials.extend(login::trials(env));
    trials.extend(sandbox::trials(env));
    trials.extend(streams::trials(env));
    trials
}
