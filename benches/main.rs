//! ctrsh beside ctr, skopeo and crane: the same work on the same private daemon, in one run.
//!
//! ```text
//! cargo bench                               everything, about half an hour
//! cargo bench -- --quick                    fewer rounds and smaller images, about three minutes
//! cargo bench -- --only pull --only push    the workloads whose names contain one of these
//! cargo bench -- --folder /srv              the daemon's root and the registries below that folder
//! cargo bench -- --program target/x/ctrsh   another build
//! ```
//!
//! The machine may be busy with other things, so the contestants run in turn, each round begins with another one, and a
//! ratio is the median of the ratios within the rounds. It needs root, containerd, runc, docker-registry, skopeo and
//! busybox, as the tests do; crane takes part when it is installed. Nothing stays behind.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod containers;
mod contest;
mod image;
mod lists;
mod movement;
mod report;
mod stage;

use clap::Parser;
use contest::Contest;
use stage::Stage;

#[derive(Parser)]
pub struct Arguments {
    /// Fewer rounds, and smaller images.
    #[arg(long)]
    quick: bool,
    /// Only the workloads whose names contain the text.
    #[arg(long)]
    only: Vec<String>,
    /// Where the daemon's root, the registries and the images lie.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: std::path::PathBuf,
    /// The ctrsh to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_ctrsh"))]
    program: std::path::PathBuf,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let stage = Stage::set(&arguments);
    let mut contests: Vec<Contest<'_>> = Vec::new();
    contests.extend(lists::contests(&stage));
    contests.extend(movement::contests(&stage));
    contests.extend(containers::contests(&stage));
    let wanted = |contest: &Contest<'_>| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| contest.name.contains(part.as_str()))
    };
    let mut results = Vec::new();
    for contest in contests.into_iter().filter(wanted) {
        eprintln!("{}", contest.name);
        results.push(contest.run());
    }
    print!("{}", report::table(&stage, &results));
}
