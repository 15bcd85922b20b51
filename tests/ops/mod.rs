//! The operations, each compared with what the real `ctr` sees.

mod archive;
mod companions;
mod container;
mod container_script;
mod container_spec;
mod copy;
mod copy_nodes;
mod faults;
mod image;
mod migrate;
mod migrate_kill;
mod rounds;
pub mod stage;
mod task;

use libtest_mimic::Trial;

use crate::harness::Env;

pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = container::trials(env);
    trials.extend(container_script::trials(env));
    trials.extend(container_spec::trials(env));
    trials.extend(archive::trials(env));
    trials.extend(companions::trials(env));
    trials.extend(copy::trials(env));
    trials.extend(copy_nodes::trials(env));
    trials.extend(faults::trials(env));
    trials.extend(image::trials(env));
    trials.extend(migrate::trials(env));
    trials.extend(migrate_kill::trials(env));
    trials.extend(rounds::trials(env));
    trials.extend(task::trials(env));
    trials
}
