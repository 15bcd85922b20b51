//! What can be wrong with a line of ctr.

use super::table::{Command, written};
use crate::kind::{Failure, Kind, nearest};

/// What every translation returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong with a line of ctr.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be split into words.
    #[error("the line of ctr has a quote that does not end")]
    Quotes,
    /// ctr has no such command.
    #[error("{} has no command {word}", words("ctr", .group))]
    UnknownCommand {
        /// The words before it.
        group: String,
        /// What stood there.
        word: String,
        /// The name that is nearest, or all there are.
        hint: String,
    },
    /// A group was named without a command.
    #[error("{} needs a command", words("ctr", .group))]
    NoCommand {
        /// The words.
        group: String,
        /// What there is.
        hint: String,
    },
    /// The command has no such flag.
    #[error("{} has no flag {flag}", words("ctr", .command))]
    UnknownFlag {
        /// The command.
        command: String,
        /// The flag as it stood there.
        flag: String,
        /// Where it belongs, or which is nearest.
        hint: Option<String>,
    },
    /// A variable of the environment is set to nothing, where its being so is hardly meant.
    #[error("{name} is set to nothing")]
    EmptyVariable {
        /// The variable.
        name: &'static str,
        /// The flag that says the same.
        flag: &'static str,
    },
    /// A flag lacks its value.
    #[error("{} {flag} needs a value", words("ctr", .command))]
    NoValue {
        /// The command.
        command: String,
        /// The flag.
        flag: String,
    },
    /// A value makes no sense.
    #[error("{} {flag} {value} {problem}", words("ctr", .command))]
    BadValue {
        /// The command.
        command: String,
        /// The flag.
        flag: String,
        /// The value.
        value: String,
        /// What is wrong with it, as the rest of a sentence.
        problem: String,
    },
    /// There are too few arguments, too many, or wrong ones.
    #[error("{} {problem}", words("ctr", .command))]
    Arguments {
        /// The command.
        command: String,
        /// What is wrong, as the rest of a sentence.
        problem: String,
        /// What would be right.
        hint: String,
    },
    /// ctrsh does not do it.
    #[error("ctrsh does not do {}", words("ctr", .what))]
    Refused {
        /// The command, with the flag if it is that.
        what: String,
        /// What to do.
        cure: String,
    },
}

fn words(first: &str, rest: &str) -> String {
    if rest.is_empty() { first.to_owned() } else { format!("{first} {rest}") }
}

impl Error {
    pub(super) fn unknown_command(group: &str, word: &str, known: &[&'static str]) -> Self {
        let hint = nearest(word, known.iter().copied())
            .map_or_else(|| format!("there is {}", known.join(", ")), |near| format!("did you mean {near}?"));
        Self::UnknownCommand { group: group.to_owned(), word: word.to_owned(), hint }
    }

    pub(super) fn unknown_flag(command: &str, flag: &str, known: &[&'static str], elsewhere: Option<String>) -> Self {
        let bare = flag.trim_start_matches('-').split('=').next().unwrap_or_default();
        let hint = elsewhere.or_else(|| {
            let near = nearest(bare, known.iter().copied());
            near.map(|near| format!("did you mean {}?", written(&near)))
        });
        let hint = hint.or_else(|| match known {
            [] => Some("it takes no flags".into()),
            known => {
                Some(format!("there is {}", known.iter().map(|name| written(name)).collect::<Vec<_>>().join(", ")))
            }
        });
        Self::UnknownFlag { command: command.to_owned(), flag: flag.to_owned(), hint }
    }

    pub(super) fn arguments(command: &Command, problem: impl Into<String>) -> Self {
        let path = command.path();
        let hint = format!("it is used as ctr {path} {}", command.usage).trim_end().to_owned();
        Self::Arguments { command: path, problem: problem.into(), hint }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Quotes => Some("quote as a shell does".into()),
            Self::UnknownCommand { hint, .. } | Self::NoCommand { hint, .. } | Self::Arguments { hint, .. } => {
                Some(hint.clone())
            }
            Self::UnknownFlag { hint, .. } => hint.clone(),
            Self::EmptyVariable { name, flag } => {
                Some(format!("unset {name}, set it to what is meant, or say that with {flag}; ctr refuses it too"))
            }
            Self::NoValue { flag, .. } => Some(format!("write {flag} VALUE or {flag}=VALUE")),
            Self::BadValue { .. } => None,
            Self::Refused { cure, .. } => Some(cure.clone()),
        }
    }
}
