//! ctrsh beside ctr, skopeo and crane: the same work on the same private daemon, in one run.
//!
//! ```text
//! cargo bench                               everything, about an hour
//! cargo bench -- --quick                    fewer rounds and smaller images, about ten minutes
//! cargo bench -- --only pull --only push    the workloads whose names contain one of these
//! cargo bench -- --folder /srv              the daemon's root and the registries below that folder
//! cargo bench -- --program target/x/ctrsh   another build
//! ```
//!
//! The machine may be busy with other things, so the contestants run in turn, each round begins with another one, and a
//! ratio is the median of the ratios within the rounds. It needs root, containerd, runc, docker-registry, skopeo and
//! busybox, as the tests do; crane takes part when it is installed. Nothing stays behind.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod batch;
mod containers;
mod contest;
mod fleet;
mod image;
mod lists;
mod movement;
mod plan;
mod proxy;
mod report;
mod stage;
mod storage;

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
    /// Only those whose names contain the text, to look into one of them.
    #[arg(long)]
    who: Vec<String>,
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
    contests.extend(batch::contests(&stage));
    contests.extend(plan::contests(&stage));
    let wanted = |contest: &Contest<'_>| fits(&arguments.only, &contest.name);
    let mut results = Vec::new();
    for contest in contests.into_iter().filter(wanted) {
        eprintln!("{}", contest.name);
        results.push(contest.run(|name| fits(&arguments.who, name)));
    }
    print!("{}", report::table(&stage, &results));
}

/// Returns whether a name contains one of the texts, where there are any.
fn fits(parts: &[String], name: &str) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
}
