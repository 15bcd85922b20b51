//! The suite: real daemons, real registries, real containers, in one binary so that they are started once.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::exit)]

mod bad_disk;
mod bad_input;
mod conformance;
mod containerd;
mod ctr;
mod docker;
mod dry_run;
mod examples;
mod faults;
mod harness;
mod layout;
mod ops;
mod parity;
mod pitfalls;
mod readme;
mod reference;
mod registry;
mod sandbox;
mod scripts;
mod shell;
mod tidy;
mod tutorial;

use harness::Env;

fn main() {
    if let Ok(how) = std::env::var(sandbox::HOLDER) {
        return sandbox::hold(&how);
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let env = Env::new();
    let mut trials = Vec::new();
    trials.extend(harness::self_check::trials(&env));
    trials.extend(conformance::trials(&env));
    trials.extend(containerd::trials(&env));
    trials.extend(registry::trials(&env));
    trials.extend(sandbox::trials(&env));
    trials.extend(layout::trials(&env));
    trials.extend(docker::trials(&env));
    trials.extend(ops::trials(&env));
    trials.extend(pitfalls::trials(&env));
    trials.extend(faults::trials(&env));
    trials.extend(shell::trials(&env));
    trials.extend(bad_disk::trials(&env));
    trials.extend(bad_input::trials(&env));
    trials.extend(examples::trials(&env));
    trials.extend(dry_run::trials(&env));
    trials.extend(reference::trials());
    trials.extend(ctr::trials(&env));
    trials.extend(parity::trials(&env));
    trials.extend(readme::trials(&env));
    trials.extend(scripts::trials(&env));
    trials.extend(tidy::trials());
    trials.extend(tutorial::trials(&env));
    let conclusion = libtest_mimic::run(&arguments, trials);
    env.stop();
    conclusion.exit();
}
