//! What goes wrong in a script, on its way from an operation through Rhai to the user.

use rhai::{Dynamic, EvalAltResult, ImmutableString, Map, ParseErrorType, Position};

use crate::kind::{Failure, Kind, nearest};
use crate::ops;
use crate::script::catalog::Catalog;
use crate::script::engine;
use crate::script::words;

/// What functions of the script surface return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a function of the script surface failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operation failed.
    #[error(transparent)]
    Operation(#[from] ops::Error),
    /// An argument has the wrong type or value.
    #[error("{function}: {argument} {problem}")]
    Argument {
        /// The function.
        function: &'static str,
        /// Which argument, by name.
        argument: String,
        /// What is wrong, as the rest of a sentence.
        problem: String,
    },
    /// The options have a key that the function does not know.
    #[error("{function}: unknown option '{key}'")]
    UnknownOption {
        /// The function.
        function: &'static str,
        /// The key.
        key: String,
        /// The known key that is closest.
        nearest: Option<String>,
        /// All known keys.
        known: Vec<&'static str>,
    },
    /// A column was asked for that no row has.
    #[error("{function}: unknown column '{column}'")]
    UnknownColumn {
        /// The function.
        function: &'static str,
        /// The column.
        column: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A class of access was not granted.
    #[error("{function} needs '{access}' access, which was not granted")]
    Denied {
        /// The function.
        function: &'static str,
        /// The class that is missing.
        access: crate::grant::Access,
    },
    /// The script computes without end.
    #[error("the script ran too many operations")]
    Endless,
    /// The script asked to end.
    #[error("exit")]
    Exit,
    /// A closure that the function called failed.
    #[error("{0}")]
    Script(Box<EvalAltResult>),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Operation(error) => error.kind(),
            Self::Argument { .. } | Self::UnknownOption { .. } | Self::UnknownColumn { .. } | Self::Endless => {
                Kind::Usage
            }
            Self::Denied { .. } => Kind::Denied,
            Self::Exit => Kind::Cancelled,
            Self::Script(error) => thrown(error).map_or(Kind::Usage, |value| value.kind),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Operation(error) => error.hint(),
            Self::UnknownOption { nearest: Some(key), .. } => Some(format!("did you mean '{key}'?")),
            Self::UnknownOption { known, .. } if known.is_empty() => Some("it takes no options".into()),
            Self::UnknownOption { known, .. } => Some(format!("the options are {}", known.join(", "))),
            Self::UnknownColumn { column, known, .. } => {
                let near = nearest(column, known.iter().map(String::as_str));
                let near = near.map_or_else(String::new, |near| format!("did you mean '{near}'? "));
                Some(format!("{near}the columns are {}", known.join(", ")))
            }
            Self::Denied { access, .. } => Some(format!("run the script with --allow …,{access}")),
            Self::Endless => Some("an endless loop? raise the limit with --max-operations if it is not".into()),
            Self::Argument { .. } | Self::Exit => None,
            Self::Script(error) => thrown(error).and_then(|value| value.hint),
        }
    }

    fn retryable(&self) -> bool {
        match self {
            Self::Operation(error) => error.retryable(),
            Self::Script(error) => thrown(error).is_some_and(|value| value.retryable),
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Operation(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// What a script catches: the `Error` object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thrown {
    /// The kind of the failure.
    pub kind: Kind,
    /// The whole message.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The verb.
    pub operation: Option<String>,
    /// What it was done to.
    pub subject: Option<String>,
    /// Whether trying again may help.
    pub retryable: bool,
    /// Whether there is no connection to the daemon.
    pub disconnected: bool,
    /// What a command that took too long had written to its output.
    pub stdout: Option<String>,
    /// What it had written to its error output.
    pub stderr: Option<String>,
}

impl Thrown {
    /// Makes one of which no more is known.
    #[must_use]
    pub fn plain(kind: Kind, message: String, hint: Option<String>) -> Self {
        let (operation, subject, stdout, stderr) = (None, None, None, None);
        Self { kind, message, hint, operation, subject, retryable: false, disconnected: false, stdout, stderr }
    }

    /// Takes what a script may see from a failure.
    #[must_use]
    pub fn new(error: &Error) -> Self {
        if let Error::Script(inner) = error {
            return Report::new(inner, None, None).error;
        }
        let failed = match error {
            Error::Operation(error) => Some(error),
            _ => None,
        };
        let context = failed.and_then(ops::Error::context);
        let output = failed.and_then(ops::Error::output);
        Self {
            operation: context.map(|(operation, _)| operation.to_owned()),
            subject: context.map(|(_, subject)| subject.to_owned()),
            retryable: error.retryable(),
            disconnected: failed.is_some_and(ops::Error::is_disconnected),
            stdout: output.map(|output| output.stdout.text()),
            stderr: output.map(|output| output.stderr.text()),
            ..Self::plain(error.kind(), crate::kind::chain(error), error.hint())
        }
    }
}

impl Error {
    /// Turns the failure into what Rhai passes on: catchable, unless access was denied or the user stopped it.
    #[must_use]
    pub fn raise(self, position: Position) -> Box<EvalAltResult> {
        match self {
            Self::Script(inner) => return inner,
            Self::Exit => return Box::new(EvalAltResult::Exit(Dynamic::UNIT, position)),
            _ => {}
        }
        let thrown = Thrown::new(&self);
        let uncatchable = matches!(thrown.kind, Kind::Denied | Kind::Cancelled);
        let value = Dynamic::from(thrown);
        Box::new(if uncatchable {
            EvalAltResult::ErrorTerminated(value, position)
        } else {
            EvalAltResult::ErrorRuntime(value, position)
        })
    }
}

/// Finds the `Error` object inside what Rhai passed on.
fn thrown(error: &EvalAltResult) -> Option<Thrown> {
    match error {
        EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _) => {
            value.read_lock::<Thrown>().map(|value| value.clone()).or_else(|| told(value))
        }
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => thrown(inner),
        _ => None,
    }
}

/// Returns the map that a script threw.
pub(crate) fn thrown_map(error: &EvalAltResult) -> Option<Map> {
    match error {
        EvalAltResult::ErrorRuntime(value, _) => value.read_lock::<Map>().map(|map| map.clone()),
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => {
            thrown_map(inner)
        }
        _ => None,
    }
}

/// Reads a map that a script threw as what its keys say; none without a message. Denials and ends are not the script's to tell.
fn told(value: &Dynamic) -> Option<Thrown> {
    let map = value.read_lock::<Map>()?;
    let text = |key: &str| map.get(key)?.read_lock::<ImmutableString>().map(|text| text.to_string());
    let kind = text("kind").and_then(|name| Kind::named(&name));
    let kind = kind.filter(|kind| !matches!(kind, Kind::Denied | Kind::Cancelled)).unwrap_or(Kind::Usage);
    Some(Thrown {
        operation: text("operation"),
        subject: text("subject"),
        retryable: map.get("retryable").and_then(|flag| flag.as_bool().ok()).unwrap_or_default(),
        stdout: text("stdout"),
        stderr: text("stderr"),
        ..Thrown::plain(kind, text("message")?, text("hint"))
    })
}

/// A failed evaluation, as the user is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The `Error` object, also for Rhai's own errors.
    pub error: Thrown,
    /// Where in which source it happened, innermost first: the call that failed, then its callers.
    pub trace: Vec<Location>,
    /// Whether it never ran: a syntax error.
    pub parse: bool,
    /// The exit status that a script asked for with `exit(n)`.
    pub exit: Option<i32>,
}

/// A place in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file or module, `None` for the main source.
    pub source: Option<String>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The function it is in, when it is in one.
    pub function: Option<String>,
}

impl Report {
    /// Takes apart what Rhai passed on of a source that reports call by this name.
    #[must_use]
    pub fn new(error: &EvalAltResult, source: Option<&str>, catalog: Option<&Catalog>) -> Self {
        let mut trace = Vec::new();
        let innermost = unwind(error, source, &mut trace);
        let parse = matches!(innermost, EvalAltResult::ErrorParsing(..));
        let error = thrown(innermost).unwrap_or_else(|| own(innermost, catalog));
        Self { error, trace, parse, exit: None }
    }
}

fn unwind<'e>(error: &'e EvalAltResult, source: Option<&str>, trace: &mut Vec<Location>) -> &'e EvalAltResult {
    let mut at = |position: Position, source: Option<&str>, function: Option<&str>| {
        if let (Some(line), Some(column)) = (position.line(), position.position()) {
            trace.insert(
                0,
                Location { source: source.map(str::to_owned), line, column, function: function.map(str::to_owned) },
            );
        }
    };
    match error {
        EvalAltResult::ErrorInFunctionCall(name, inside, inner, position) => {
            at(*position, source, None);
            let inside = Some(inside.as_str()).filter(|s| !s.is_empty()).or(source);
            let innermost = unwind(inner, inside, trace);
            if let Some(first) = trace.first_mut()
                && first.function.is_none()
                && !name.starts_with("anon$")
            {
                first.function = Some(name.clone());
            }
            innermost
        }
        EvalAltResult::ErrorInModule(name, inner, position) => {
            at(*position, source, None);
            unwind(inner, Some(name), trace)
        }
        other => {
            at(other.position(), source, None);
            other
        }
    }
}

/// Says in our words what Rhai found itself.
fn own(error: &EvalAltResult, catalog: Option<&Catalog>) -> Thrown {
    let suggest = |name: &str| catalog.and_then(|catalog| catalog.suggest(name));
    let mut message = without_position(error);
    let mut hint = None;
    let mut kind = Kind::Usage;
    match error {
        EvalAltResult::ErrorRuntime(value, _) => {
            message = value
                .clone()
                .into_immutable_string()
                .map_or_else(|_| format!("thrown: {value}"), |text: ImmutableString| text.to_string());
        }
        EvalAltResult::ErrorFunctionNotFound(signature, _) => {
            let name = signature.split([' ', '(']).next().unwrap_or_default();
            message = format!("unknown function {}", signature.replace("&str | ImmutableString | String", "string"));
            let elsewhere = catalog.and_then(|catalog| catalog.elsewhere(name));
            hint = elsewhere.or_else(|| suggest(name).map(|near| format!("did you mean {near}?")));
        }
        EvalAltResult::ErrorVariableNotFound(name, _) => {
            message = format!("unknown variable {name}");
            let used = catalog.and_then(|catalog| catalog.used_as(name)).or_else(|| words::meant(name));
            hint = used.or_else(|| suggest(name).map(|near| format!("did you mean {near}?")));
        }
        EvalAltResult::ErrorDotExpr(text, _) => {
            message.clone_from(text);
            hint = text.split('\'').nth(1).and_then(suggest).map(|near| format!("did you mean {near}?"));
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => {
            message = format!("a value is too big: {what}");
            hint = Some(format!(
                "a string holds up to {} MiB, an array or a map up to {} items",
                engine::MAX_STRING >> 20,
                engine::MAX_ITEMS
            ));
        }
        EvalAltResult::ErrorTerminated(..) => {
            kind = Kind::Cancelled;
            message = "cancelled".into();
        }
        EvalAltResult::ErrorDataRace(..) => {
            hint = Some(
                "a method that runs holds its variable: copy that first for its closure, let other = x; in parallel return values, or use it after the batch"
                    .into(),
            );
        }
        EvalAltResult::ErrorStackOverflow(_) => hint = Some("functions call each other more than 64 deep".into()),
        EvalAltResult::ErrorModuleNotFound(name, _) => {
            kind = Kind::NotFound;
            message = format!("no module '{name}' below the script's folder or in std/");
        }
        EvalAltResult::ErrorParsing(problem, _) => {
            message = problem.to_string();
            hint = match problem {
                ParseErrorType::Reserved(word) => Some(words::reserved(word)),
                ParseErrorType::VariableExpected => {
                    Some("a word of the language, as private, fn or in, is no name".into())
                }
                _ => None,
            };
        }
        _ => {}
    }
    Thrown::plain(kind, message, hint)
}

/// Rhai appends `(line 1, position 2)` to its messages; the report shows the place itself.
fn without_position(error: &EvalAltResult) -> String {
    let mut text = error.to_string();
    if let Some(cut) = text.rfind(" (line ") {
        text.truncate(cut);
    }
    text
}
