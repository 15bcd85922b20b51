//! The command line: what the user asked for becomes what the shell does, and how it ended becomes the exit status.
//!
//! This is the only module that reads the environment and knows where a user's files lie.

use std::ffi::OsString;
use std::process::ExitCode;

mod args;
mod doctor;
mod environment;
mod run;
mod sandbox;

pub use args::Cli;

/// Runs the program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match args::parse(arguments) {
        Ok(cli) => run::run(cli),
        Err(status) => status,
    }
}
