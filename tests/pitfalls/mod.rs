//! What users of ctr stumble over, one test each: what the ctr at hand does, and the better that ctrsh does on the same daemon
//! and registries.
//!
//! Each test first shows the pitfall with the real ctr, as far as this ctr has it: containerd 1.6, 1.7 and 2.x differ, and
//! what a ctr lacks is asserted as well. Then it shows ctrsh, which does not differ.

mod images;
mod registries;
mod surface;
mod theirs;

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::Env;
use crate::harness::output::Output;

/// A registry where nobody answers.
const NOWHERE: &str = "127.0.0.1:1";

/// The tests of the pitfalls.
pub fn trials(env: &Env) -> Vec<Trial> {
    [registries::trials(env), images::trials(env), surface::trials(env)].into_iter().flatten().collect()
}

/// Ours, in a namespace of its own.
struct Ours {
    env: Env,
    namespace: String,
}

impl Ours {
    fn new(env: &Env) -> Self {
        Self::at(env, &env.namespace("pitfalls"))
    }

    fn at(env: &Env, namespace: &str) -> Self {
        Self { env: env.clone(), namespace: namespace.to_owned() }
    }

    /// Returns a command that evaluates a script.
    fn command(&self, script: &str) -> Command {
        self.command_with(&["--progress", "none"], script)
    }

    fn command_with(&self, options: &[&str], script: &str) -> Command {
        let mut command = self.env.ctrsh_command();
        command.args(["--namespace", &self.namespace, "--snapshotter", &self.env.snapshotter()]);
        // The files of a test lie beside its working folder.
        command.args(["--json", "--allow", "all"]).args(options).args(["-e", script]);
        command
    }

    fn run(&self, script: &str) -> Output {
        Output::of(&mut self.command(script))
    }

    /// Runs a script with a line on its standard input.
    fn told(&self, script: &str, line: &str) -> Output {
        Output::with_input(&mut self.command(script), format!("{line}\n").as_bytes())
    }

    /// Returns what a script gives.
    #[track_caller]
    fn value(&self, script: &str) -> Value {
        value(&self.run(script))
    }

    /// Returns the error that a script ends with, after looking that the process says so, too.
    #[track_caller]
    fn error(&self, script: &str) -> Value {
        error(&self.run(script))
    }
}

/// Makes a hosts folder with a file for one registry.
fn hosts(folder: &Path, registry: &str, text: &str) -> PathBuf {
    let own = folder.join(registry);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    folder.to_owned()
}

/// Makes a hosts folder in which a server stands for a registry.
fn hosts_of(folder: &Path, registry: &str, server: &str, settings: &str) -> PathBuf {
    // Twice, as containerd 1.6 reads no file without a table of hosts.
    let text = format!("server = \"{server}\"\n{settings}\n[host.\"{server}\"]\n{settings}\n");
    hosts(folder, registry, &text)
}

/// Reads what a process printed.
#[track_caller]
fn value(output: &Output) -> Value {
    assert!(output.succeeded(), "{output}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// Reads the error that a process ended with.
#[track_caller]
fn error(output: &Output) -> Value {
    assert_eq!(output.status, 1, "{output}");
    // Remarks may stand before it, each a line.
    let last = output.stderr.lines().last().unwrap_or_default();
    let mut error: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output}"));
    error["error"].take()
}

/// Asserts that a text has one of some parts.
#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(parts.iter().any(|part| said.contains(part)), "none of {parts:?} in {output}");
}
