//! The script language: Rhai with containerd's operations in it.
//!
//! This is the only layer that knows Rhai. It does no I/O of its own: functions of the surface ([`api`]) call operations.

use std::path::PathBuf;
use std::sync::Arc;

use rhai::{AST, Dynamic, Engine, EvalAltResult, LexError, ParseErrorType, Position, Scope};
use tokio_util::sync::CancellationToken;

use crate::ops::Context;

pub mod api;
pub mod call;
mod captured;
pub mod catalog;
pub mod check;
pub mod convert;
pub mod definitions;
mod effort;
mod engine;
pub mod error;
mod held;
pub mod library;
pub mod object;
pub mod options;
mod placed;
pub mod reference;
mod resolver;
pub mod time;
mod tree;
pub mod units;
pub mod value;
mod words;

pub use call::{Environment, Session, Sink};
pub use catalog::Catalog;
pub use convert::{Cell, Column, Output};
pub use engine::Limits;
pub use error::{Location, Report, Thrown};

/// An interpreter: one scope, one context, one thread of a script at a time.
pub struct Interpreter {
    engine: Engine,
    session: Arc<Session>,
    catalog: Arc<Catalog>,
    scope: Scope<'static>,
    functions: AST,
}

/// What an interpreter is made from.
pub struct Setup {
    /// Where operations wait.
    pub runtime: tokio::runtime::Handle,
    /// The context of the first call.
    pub context: Context,
    /// Where prints go.
    pub sink: Arc<dyn Sink>,
    /// What `args()` returns.
    pub args: Vec<String>,
    /// What `env(name)` returns.
    pub environment: Environment,
    /// What a script may use up.
    pub limits: Limits,
    /// The folder below which `import` finds modules.
    pub modules: Option<PathBuf>,
}

/// What an evaluation came to.
#[derive(Debug, Clone)]
pub struct Evaluated {
    value: Dynamic,
    /// The exit status, when the script called `exit`.
    pub exit: Option<i32>,
    /// Whether items of a batch failed that was told to keep going.
    pub batch_failed: bool,
}

/// Whether a piece of input can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It can, or it has an error that more input would not mend.
    Whole,
    /// More has to come: a bracket, a string or a block is open.
    Unfinished,
}

impl Interpreter {
    /// Makes an interpreter.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let session = Arc::new(Session::new(setup.runtime, setup.context, setup.sink, setup.args, setup.environment));
        let catalog = Arc::new(api::catalog());
        session.set_catalog(Arc::clone(&catalog));
        let resolver = resolver::Resolver::new(setup.modules);
        let engine = engine::build(&catalog, &session, setup.limits, resolver);
        Self { engine, session, catalog, scope: Scope::new(), functions: AST::empty() }
    }

    /// Returns the catalog.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Returns the session.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Runs a source in the interpreter's scope, keeping its variables and functions for later sources.
    ///
    /// `source` is what error reports call it. Cancelling the token ends it within the time that one operation takes to
    /// hear it.
    ///
    /// # Errors
    /// Why it ended, and where.
    pub fn run(&mut self, text: &str, source: Option<&str>, cancel: CancellationToken) -> Result<Evaluated, Report> {
        let context = self.session.context().with_cancel(cancel);
        self.session.begin(context, source);
        let report = |error: &EvalAltResult| Report::new(error, source, Some(&self.catalog));
        let mut ast =
            self.engine.compile_with_scope(&self.scope, text).map_err(|error| report(&EvalAltResult::from(error)))?;
        if let Some(source) = source {
            ast.set_source(source);
        }
        self.functions = self.functions.merge(&ast.clone_functions_only());
        let merged = self.functions.merge(&ast);
        let depth = self.scope.len();
        let result = self.engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &merged);
        match result {
            Ok(value) => {
                Ok(Evaluated { value, exit: self.session.exit_status(), batch_failed: self.session.batch_failed() })
            }
            Err(error) => {
                // Variables of the failed source are kept only as far as they were there before it.
                self.scope.rewind(depth);
                Err(report(&error))
            }
        }
    }

    /// Makes a value ready to be shown.
    ///
    /// # Errors
    /// What reading one of its properties failed with.
    pub fn show(&self, evaluated: &Evaluated) -> Result<Output, Report> {
        convert::output(&evaluated.value, None, &self.session).map_err(|error| self.report(error))
    }

    /// Turns a value into JSON.
    ///
    /// # Errors
    /// What reading one of its properties failed with.
    pub fn json(&self, evaluated: &Evaluated) -> Result<serde_json::Value, Report> {
        convert::to_json(&evaluated.value, &self.session).map_err(|error| self.report(error))
    }

    fn report(&self, error: error::Error) -> Report {
        let raised = error.raise(rhai::Position::NONE);
        Report::new(&raised, None, Some(&self.catalog))
    }

    /// Sets a variable of the scope.
    pub fn set(&mut self, name: &str, evaluated: Evaluated) {
        self.scope.set_value(name.to_owned(), evaluated.value);
    }

    /// Sets a constant of the scope to a string.
    pub fn set_constant(&mut self, name: &str, value: &str) {
        self.scope.push_constant(name.to_owned(), value.to_owned());
    }

    /// Lists the variables of the scope with their types, the newest value of each.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut seen = std::collections::BTreeMap::new();
        for (name, _, value) in self.scope.iter() {
            seen.insert(name.to_owned(), self.type_name(&value));
        }
        seen.into_iter().collect()
    }

    /// Lists the functions that sources have defined.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        self.functions.iter_functions().map(|function| function.to_string()).collect()
    }

    /// Returns the type of a variable.
    #[must_use]
    pub fn type_of(&self, variable: &str) -> Option<String> {
        self.scope.get(variable).map(|value| self.type_name(value))
    }

    /// Returns the type of the first item of a variable that is an array.
    #[must_use]
    pub fn item_type_of(&self, variable: &str) -> Option<String> {
        let array = self.scope.get(variable)?.read_lock::<rhai::Array>()?;
        array.first().map(|item| self.type_name(item))
    }

    /// Returns the type of an evaluated value.
    #[must_use]
    pub fn type_of_value(&self, evaluated: &Evaluated) -> String {
        self.type_name(&evaluated.value)
    }

    /// Returns the keys of a variable that is a map.
    #[must_use]
    pub fn keys_of(&self, variable: &str) -> Vec<String> {
        let map = self.scope.get(variable).and_then(|value| value.read_lock::<rhai::Map>());
        map.map(|map| map.keys().map(ToString::to_string).collect()).unwrap_or_default()
    }

    fn type_name(&self, value: &Dynamic) -> String {
        match self.catalog.object_of(value) {
            Some(object) => object.name.to_owned(),
            None => match value.type_name() {
                "i64" => "int".to_owned(),
                "f64" => "float".to_owned(),
                other => other.rsplit("::").next().unwrap_or(other).to_owned(),
            },
        }
    }

    /// Says whether input is whole, or whether the prompt should go on on the next line.
    #[must_use]
    pub fn input(&self, text: &str) -> Input {
        let Err(error) = self.engine.compile(text) else { return Input::Whole };
        let at_end = || {
            let lines: Vec<&str> = text.lines().collect();
            let line = error.position().line().unwrap_or(usize::MAX);
            let column = error.position().position().unwrap_or(usize::MAX);
            let last = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |index| index + 1);
            line > last || (line == last && column > lines.get(last - 1).map_or(0, |l| l.trim_end().chars().count()))
        };
        match error.err_type() {
            ParseErrorType::UnexpectedEOF => Input::Unfinished,
            ParseErrorType::MissingToken(..) if at_end() => Input::Unfinished,
            ParseErrorType::BadInput(LexError::UnterminatedString) if may_end_later(text, error.position()) => {
                Input::Unfinished
            }
            _ if error.position().is_none() => Input::Unfinished,
            _ => Input::Whole,
        }
    }
}

/// Says whether lines that follow may end a string that has no end and begins at a place. One in `"` ends in its line, unless a
/// backslash at the end of that takes the next one along.
fn may_end_later(text: &str, place: Position) -> bool {
    let (Some(line), Some(column)) = (place.line(), place.position()) else { return true };
    let mut lines = text.lines().skip(line.saturating_sub(1));
    let first = lines.next().unwrap_or_default();
    let mut around = first.chars().skip(column.saturating_sub(2));
    let before = if column > 1 { around.next() } else { None };
    // Behind a brace begins what one in backticks goes on with.
    if around.next() != Some('"') || before == Some('}') {
        return true;
    }
    let goes_on = |line: &str| line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1;
    std::iter::once(first).chain(lines).all(goes_on)
}

#[cfg(test)]
mod tests;
