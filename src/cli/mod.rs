//! The command line: what the user asked for becomes what the shell does, and how it ended becomes the exit status.
//!
//! This is the only module that reads the environment and knows where a user's files lie.

use std::ffi::OsString;
use std::process::ExitCode;

mod args;
mod ctr;
mod doctor;
mod environment;
mod run;
mod sandbox;

pub use args::Cli;

/// Runs the program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match args::parse(arguments) {
        // It has nothing of a shell, and lives as long as a container.
        Ok(Cli { command: Some(args::Command::HoldInput), .. }) => {
            crate::shell::hold_input();
            ExitCode::SUCCESS
        }
        Ok(cli) => run::run(cli),
        Err(status) => status,
    }
}
