//! Command lines of ctr, and what they are in the script language.
//!
//! One table has a row for each command and flag of ctr 1.6, 1.7 and 2.1 (containerd `cmd/ctr`). From it come the parser, the
//! translation, `ctrsh ctr --help` and `docs/ctr.md`. Nothing here runs anything: what comes out is text.

mod containers;
mod content;
mod error;
mod help;
mod images;
mod leases;
mod namespaces;
mod page;
mod parse;
mod pprof;
mod run;
mod sandboxes;
mod server;
mod shim;
mod snapshots;
mod source;
mod table;
mod tasks;

use std::time::Duration;

pub use error::{Error, Result};
pub use page::{markdown, rows};
pub use table::{Command, Flag, Form, Tier, commands};

/// What a line of ctr is in ctrsh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Text that was asked for with `--help`, or by naming no command.
    Help(String),
    /// What to do.
    Steps(Steps),
}

/// What to do for a line of ctr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// One after the other; a failure ends them.
    pub steps: Vec<Step>,
    /// What is done another way than ctr does it, and why.
    pub notes: Vec<String>,
    /// What stood before the command.
    pub globals: Globals,
    /// The password or token of `--user` or `--refresh`, which is not part of the text.
    pub secret: Option<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Runs a piece of script, and shows its value.
    Script(String),
    /// Runs a piece of script whose value ctr says nothing of.
    Silent(String),
    /// Runs a piece of script whose value tells how a process ended: its exit status, or an object that has it as `code`.
    Process(String),
    /// Starts a container that was made with a terminal, and gives it the user's.
    Start {
        /// The container.
        id: String,
    },
    /// Runs a command in a container and gives it the user's terminal.
    Exec {
        /// The container.
        id: String,
        /// The command.
        command: Vec<String>,
        /// The id of the process.
        exec_id: Option<String>,
        /// The folder that it starts in.
        cwd: Option<String>,
        /// Who it runs as.
        user: Option<String>,
    },
}

/// What stands before the command and holds for all of ctr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globals {
    /// Where the daemon listens.
    pub address: Option<String>,
    /// The namespace, which the steps change to.
    pub namespace: Option<String>,
    /// How long it may take; zero is for ever.
    pub timeout: Option<Duration>,
    /// How long the daemon may take to accept.
    pub connect_timeout: Option<Duration>,
    /// Whether more is logged.
    pub debug: bool,
}

impl Steps {
    /// Writes the steps as the prompt takes them, a line each.
    #[must_use]
    pub fn text(&self) -> String {
        self.steps.iter().map(Step::text).collect::<Vec<_>>().join("\n")
    }
}

impl Step {
    fn text(&self) -> String {
        let own = |name: &str, words: &mut dyn Iterator<Item = &str>| match shlex::try_join(words) {
            Ok(words) => format!(":{name} {words}"),
            Err(_) => format!(":{name}"),
        };
        match self {
            Self::Script(code) | Self::Silent(code) | Self::Process(code) => code.clone(),
            Self::Start { id } => own("start", &mut std::iter::once(id.as_str())),
            Self::Exec { id, command, .. } => own("exec", &mut std::iter::once(id).chain(command).map(String::as_str)),
        }
    }
}

/// Translates the words that follow `ctr`.
///
/// # Errors
/// When ctr has no such command or flag, a value is none, or ctrsh does not do it; the hint says what to do.
pub fn translate<S: AsRef<str>>(words: &[S]) -> Result<Line> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match parse::parse(&words)? {
        parse::Line::Help(text) => Ok(Line::Help(text)),
        parse::Line::Command(parsed) => parsed.steps().map(Line::Steps),
    }
}

/// Returns whether a line of ctr holds a secret, which must not be kept. One that cannot be read is taken to hold one.
#[must_use]
pub fn holds_secret(line: &str) -> bool {
    let Some(words) = shlex::split(line) else { return true };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match parse::parse(&words) {
        Ok(parse::Line::Command(parsed)) => parsed.holds_secret(),
        // What stands in a line that is no command is not known.
        Ok(parse::Line::Help(_)) | Err(_) => words.iter().any(|word| {
            ["-u", "--u", "-user", "--user", "-refresh", "--refresh"]
                .iter()
                .any(|flag| *word == *flag || word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('=')))
        }),
    }
}

#[cfg(test)]
mod tests;
