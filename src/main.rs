//! The `ctrsh` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ctrsh::cli::main(std::env::args_os())
}
