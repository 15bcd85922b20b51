//! The operations, each compared with what the real `ctr` sees.

mod archive;
mod archive_index;
mod batch;
mod by_daemon;
mod companions;
mod container;
mod container_checkpoint;
mod container_commit;
mod container_diff;
mod container_files;
mod container_logs;
mod container_script;
mod container_spec;
mod content;
mod convert;
mod copy;
mod copy_nodes;
mod disk;
mod events;
mod foreseen;
mod granted;
mod image;
mod inspect;
mod lease;
mod migrate;
mod migrate_kill;
mod migrate_outage;
mod namespace;
mod operate;
mod outlast;
mod pprof;
mod races;
mod rounds;
mod shim;
mod snapshot;
pub mod stage;
mod task;

use libtest_mimic::Trial;

use crate::harness::Env;

pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = container::trials(env);
    trials.extend(container_checkpoint::trials(env));
    trials.extend(container_commit::trials(env));
    trials.extend(container_diff::trials(env));
    trials.extend(container_files::trials(env));
    trials.extend(container_logs::trials(env));
    trials.extend(container_script::trials(env));
    trials.extend(container_spec::trials(env));
    trials.extend(archive::trials(env));
    trials.extend(archive_index::trials(env));
    trials.extend(batch::trials(env));
    trials.extend(outlast::trials(env));
    trials.extend(by_daemon::trials(env));
    trials.extend(companions::trials(env));
    trials.extend(convert::trials(env));
    trials.extend(content::trials(env));
    trials.extend(copy::trials(env));
    trials.extend(copy_nodes::trials(env));
    trials.extend(disk::trials(env));
    trials.extend(events::trials(env));
    trials.extend(foreseen::trials(env));
    trials.extend(granted::trials(env));
    trials.extend(image::trials(env));
    trials.extend(inspect::trials(env));
    trials.extend(lease::trials(env));
    trials.extend(migrate::trials(env));
    trials.extend(migrate_kill::trials(env));
    trials.extend(migrate_outage::trials(env));
    trials.extend(pprof::trials(env));
    trials.extend(races::trials(env));
    trials.extend(namespace::trials(env));
    trials.extend(operate::trials(env));
    trials.extend(rounds::trials(env));
    trials.extend(shim::trials(env));
    trials.extend(snapshot::trials(env));
    trials.extend(task::trials(env));
    trials
}
