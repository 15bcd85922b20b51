//! Choices of the user: flags before environment before files before defaults, each with where it came from.
//!
//! Nothing here reads the environment or the home folder itself; [`crate::cli`] hands in what it found.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::kind::{Failure, Kind};

/// Where a choice came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line.
    Flag,
    /// A variable of the environment.
    Environment(&'static str),
    /// A configuration file.
    File(PathBuf),
    /// Nobody chose.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(name) => write!(f, "${name}"),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// A configuration file, as far as it says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// The daemon's socket.
    pub address: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// How long one source may run, such as `10m`.
    pub timeout: Option<String>,
    /// How long the socket may take to accept.
    pub connect_timeout: Option<String>,
    /// The snapshotter.
    pub snapshotter: Option<String>,
    /// The folder with a `hosts.toml` a registry.
    pub hosts_dir: Option<String>,
    /// The Docker Engine's socket.
    pub docker_host: Option<String>,
    /// How values are shown.
    pub output: Option<String>,
    /// How progress is shown.
    pub progress: Option<String>,
    /// Whether colours are used.
    pub color: Option<String>,
    /// The least important messages that are logged.
    pub log: Option<String>,
    /// The file to which changes are written down.
    pub audit: Option<String>,
    /// How many operations of the interpreter a source may run.
    pub max_operations: Option<u64>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is there and cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("the configuration {} is wrong: {}", path.display(), source.message())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
    /// A value cannot be used.
    #[error("{name} from {origin}: '{value}' {problem}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Where the value came from.
        origin: Origin,
        /// The value.
        value: String,
        /// What is wrong, as the rest of a sentence.
        problem: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { .. } => {
                Some("the keys are the long flags with _ for -, such as namespace = \"k8s.io\"".into())
            }
            Self::Read { .. } | Self::Value { .. } => None,
        }
    }
}

/// What was chosen, in order of precedence.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<(PathBuf, File)>,
    rows: Vec<Row>,
}

/// One setting, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The name, as in a configuration file.
    pub name: &'static str,
    /// The value as text.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Sources {
    /// Reads the files that exist, the most important first.
    ///
    /// # Errors
    /// When one is there and cannot be read or understood.
    pub fn read(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, Error> {
        let mut files = Vec::new();
        for path in paths {
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let file = parse(&path, &text)?;
                    files.push((path, file));
                }
                Err(source)
                    if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
        }
        Ok(Self { files, rows: Vec::new() })
    }

    /// Picks the first of flag, variable and files that says something.
    pub fn pick(
        &mut self,
        name: &'static str,
        flag: Option<String>,
        variable: Option<(&'static str, Option<String>)>,
        in_file: impl Fn(&File) -> Option<String>,
    ) -> Option<Setting<String>> {
        let found = flag
            .map(|value| Setting { value, origin: Origin::Flag })
            .or_else(|| {
                let (variable, value) = variable?;
                // A variable that is set to nothing counts as not set, as for ctr.
                let value = value.filter(|value| !value.is_empty())?;
                Some(Setting { value, origin: Origin::Environment(variable) })
            })
            .or_else(|| {
                self.files.iter().find_map(|(path, file)| {
                    Some(Setting { value: in_file(file)?, origin: Origin::File(path.clone()) })
                })
            });
        let row = found.as_ref().map(|setting| (setting.value.clone(), setting.origin.clone()));
        let (value, origin) = row.unwrap_or_else(|| (String::new(), Origin::Default));
        self.rows.push(Row { name, value, origin });
        found
    }

    /// Picks as [`Sources::pick`] does and reads the text as a value, or takes the default.
    ///
    /// # Errors
    /// When the text is no such value; the error names where it came from.
    pub fn parsed<T: FromStr + fmt::Display>(
        &mut self,
        name: &'static str,
        flag: Option<String>,
        in_file: impl Fn(&File) -> Option<String>,
        default: T,
    ) -> Result<T, Error>
    where
        T::Err: fmt::Display,
    {
        let value = match self.pick(name, flag, None, in_file) {
            None => default,
            Some(Setting { value, origin }) => match value.parse::<T>() {
                Ok(parsed) => parsed,
                Err(problem) => return Err(Error::Value { name, origin, value, problem: problem.to_string() }),
            },
        };
        self.shown(&value.to_string());
        Ok(value)
    }

    /// Says what the setting picked last came to, where the default is worked out later.
    pub fn shown(&mut self, value: &str) {
        if let Some(row) = self.rows.last_mut() {
            value.clone_into(&mut row.value);
        }
    }

    /// Returns every setting picked so far.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

fn parse(path: &Path, text: &str) -> Result<File, Error> {
    toml::from_str(text).map_err(|source| Error::Syntax { path: path.to_owned(), source: Box::new(source) })
}

/// A duration as flags and files have it: `10s`, `1m30s`, or seconds; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub std::time::Duration);

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(seconds) = text.parse::<u64>() {
            return Ok(Self(std::time::Duration::from_secs(seconds)));
        }
        humantime::parse_duration(text).map(Self).map_err(|_| "is not a duration like 10s or 1m30s")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() { f.write_str("none") } else { humantime::format_duration(self.0).fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        let path = PathBuf::from("/etc/ctrsh/config.toml");
        let file = parse(&path, text).unwrap();
        Sources { files: vec![(path, file)], rows: Vec::new() }
    }

    fn namespace(sources: &mut Sources, flag: Option<&str>, variable: Option<&str>) -> Option<Setting<String>> {
        let variable = ("CONTAINERD_NAMESPACE", variable.map(str::to_owned));
        sources.pick("namespace", flag.map(str::to_owned), Some(variable), |file| file.namespace.clone())
    }

    #[test]
    fn a_flag_stands_before_the_environment_and_that_before_the_file() {
        let mut sources = sources("namespace = \"from-file\"");
        assert_eq!(namespace(&mut sources, Some("flag"), Some("env")).unwrap().origin, Origin::Flag);
        let from_env = namespace(&mut sources, None, Some("env")).unwrap();
        assert_eq!(from_env, Setting { value: "env".into(), origin: Origin::Environment("CONTAINERD_NAMESPACE") });
        let from_file = namespace(&mut sources, None, Some("")).unwrap();
        assert_eq!(from_file.value, "from-file");
        assert_eq!(sources.rows().last().unwrap().origin.to_string(), "/etc/ctrsh/config.toml");
    }

    #[test]
    fn a_wrong_value_says_where_it_came_from() {
        let mut sources = sources("timeout = \"soon\"");
        let error = sources.parsed("timeout", None, |file| file.timeout.clone(), Span(std::time::Duration::ZERO));
        assert_eq!(
            error.unwrap_err().to_string(),
            "timeout from /etc/ctrsh/config.toml: 'soon' is not a duration like 10s or 1m30s"
        );
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = parse(Path::new("c.toml"), "namspace = 'x'").unwrap_err();
        assert!(error.to_string().contains("unknown field `namspace`"), "{error}");
    }
}
