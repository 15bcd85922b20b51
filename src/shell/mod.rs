//! The shell: reads, evaluates and shows. The only layer that prints, prompts and reads keys.
//!
//! It knows nothing of Rhai: sources go to [`crate::script::Interpreter`] as text, and what comes back is an
//! [`Output`](crate::script::Output) to draw or a [`Report`] to tell.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::containerd::{ConnectOptions, Endpoint};
use crate::grant::{Allow, Grant};
use crate::ops::{Audit, Context, Daemon, Place, Settings, Shared};
use crate::script::{Evaluated, Interpreter, Limits, Report, Setup, library};

mod attach;
mod commands;
pub mod complete;
pub mod confirm;
mod ctr;
mod editor;
pub mod error;
pub mod escape;
pub mod format;
pub mod history;
pub mod interrupt;
pub mod lex;
pub mod log;
mod modes;
mod names;
pub mod progress;
mod prompt;
pub mod render;
pub mod report;
pub mod screen;
mod seat;
mod secret;
mod session;
pub mod status;
mod streams;
pub mod style;

pub use commands::own_lines;
pub use ctr::show_line;
pub use error::Error;
pub use format::Format;
pub use interrupt::{Interrupt, Why};
pub use prompt::Prompt;
pub use screen::{Outputs, Screen};
pub use seat::hold_input;

/// How a shell is to be.
pub struct Options {
    /// Where the daemon listens, as a path or `unix://`.
    pub address: Option<String>,
    /// The namespace.
    pub namespace: String,
    /// How to connect.
    pub connect: ConnectOptions,
    /// What scripts may do.
    pub allow: Allow,
    /// Whether changes are only shown.
    pub dry_run: bool,
    /// How progress is shown.
    pub progress: progress::Mode,
    /// Where changes are written down.
    pub audit: Option<PathBuf>,
    /// How registries are reached.
    pub registry: crate::registry::Config,
    /// Choices for operations.
    pub settings: Settings,
    /// What a source may use up.
    pub limits: Limits,
    /// How long a source may take.
    pub timeout: Option<Duration>,
    /// How values are shown.
    pub format: Format,
    /// What `args()` returns.
    pub args: Vec<String>,
    /// What `env(name)` returns.
    pub environment: crate::script::Environment,
    /// The folder below which `import` finds modules.
    pub modules: Option<PathBuf>,
    /// Whether to connect at once, while the interpreter is made, and not when a script first needs the daemon.
    pub connect_ahead: bool,
    /// What the prompt calls the node.
    pub node: String,
    /// The settings with their values and where they come from, for `:config`.
    pub config: Vec<(String, String, String)>,
    /// The program that `:edit` runs.
    pub editor: String,
}

/// A piece of text to run.
#[derive(Debug, Clone)]
pub struct Source {
    /// What reports call it: the path of a file, none for input.
    pub name: Option<String>,
    /// The text.
    pub text: String,
}

impl Source {
    /// Makes a source of an expression or a line of input.
    #[must_use]
    pub fn input(text: impl Into<String>) -> Self {
        Self { name: None, text: text.into() }
    }

    /// Makes a source of a file's text; a `#!` line at its beginning is made blank.
    #[must_use]
    pub fn file(name: impl Into<String>, text: String) -> Self {
        // The line end stays, so that reports count lines as editors do.
        let text = if text.starts_with("#!") { text[text.find('\n').unwrap_or(text.len())..].to_owned() } else { text };
        Self { name: Some(name.into()), text }
    }

    /// Reads a script: a file, or else the ready script that is called so.
    ///
    /// # Errors
    /// When it cannot be read or is not text.
    pub fn read(path: &Path) -> Result<Self, Error> {
        if let Some(script) = path.to_str().and_then(library::find)
            && !path.exists()
        {
            return Ok(Self::file(script.path(), script.text.to_owned()));
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::file(path.display().to_string(), text)),
            Err(source) => Err(Error::Script { path: path.to_owned(), source }),
        }
    }
}

/// Whether a source's value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// It is.
    Value,
    /// Only what it prints is.
    Nothing,
}

/// How a source ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit status that it would set.
    pub status: u8,
    /// Its value, when it succeeded.
    pub value: Option<Evaluated>,
    /// Whether it called `exit`.
    pub exit: bool,
}

impl Ended {
    fn failed(status: u8) -> Self {
        Self { status, value: None, exit: false }
    }
}

/// A shell: an interpreter, a screen, and what can stop the one from filling the other.
pub struct Shell {
    interpreter: Interpreter,
    screen: Arc<Screen>,
    interrupt: Arc<Interrupt>,
    runtime: tokio::runtime::Handle,
    timeout: Option<Duration>,
    format: Format,
    asking: Arc<confirm::Asking>,
    node: String,
    config: Vec<(String, String, String)>,
    editor: String,
    texts: HashMap<String, String>,
}

impl Shell {
    /// Makes a shell. Nothing is connected to yet.
    ///
    /// # Errors
    /// When the address or namespace is none, or the audit file cannot be opened.
    pub fn new(
        options: Options,
        screen: Arc<Screen>,
        interrupt: Arc<Interrupt>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, Error> {
        let endpoint = match &options.address {
            Some(address) => Endpoint::parse(address)?,
            None => Endpoint::default(),
        };
        crate::containerd::identifier::check("namespace", &options.namespace)?;
        let shown = Arc::new(progress::Shown::new(options.progress, &screen));
        let asking = Arc::new(confirm::Asking::new(&screen, &interrupt));
        let (waited_for, told) = (Arc::clone(&shown), Arc::clone(&screen));
        interrupt.when_impatient(move || {
            let mut waiting = waited_for.active();
            if waiting.is_empty() {
                waiting.push("the call to give up".into());
            }
            told.remark(style::Role::Note, "waiting for", &waiting.join(", "));
            told.remark(style::Role::Note, "note", "press Ctrl-C again to leave at once");
        });
        let shared = Shared {
            registry: crate::registry::Client::new(options.registry),
            progress: shown,
            confirm: Arc::<confirm::Asking>::clone(&asking),
            streams: Some(Arc::new(streams::Own::new(&screen, &interrupt))),
            audit: options.audit.as_deref().map(Audit::open).transpose()?.map(Arc::new),
            settings: options.settings,
        };
        let place =
            Place { daemon: Daemon::new(endpoint, options.connect), namespace: options.namespace.as_str().into() };
        if options.connect_ahead {
            place.daemon.connect_ahead(runtime);
        }
        let grant = Grant::new(options.allow, tokio_util::sync::CancellationToken::new());
        let context = Context::new(place, grant, Arc::new(shared));
        let interpreter = Interpreter::new(Setup {
            runtime: runtime.clone(),
            context: if options.dry_run { context.dry_run() } else { context },
            sink: Arc::<Screen>::clone(&screen),
            args: options.args,
            environment: options.environment,
            limits: options.limits,
            modules: options.modules,
        });
        Ok(Self {
            interpreter,
            screen,
            interrupt,
            runtime: runtime.clone(),
            timeout: options.timeout,
            format: options.format,
            asking,
            node: options.node,
            config: options.config,
            editor: options.editor,
            texts: HashMap::new(),
        })
    }

    /// Returns the interpreter.
    #[must_use]
    pub fn interpreter(&self) -> &Interpreter {
        &self.interpreter
    }

    /// Returns the interpreter, to set constants.
    pub fn interpreter_mut(&mut self) -> &mut Interpreter {
        &mut self.interpreter
    }

    /// Returns the screen.
    #[must_use]
    pub fn screen(&self) -> &Arc<Screen> {
        &self.screen
    }

    /// Runs a source, shows its value or tells why there is none.
    pub fn run(&mut self, source: &Source, show: Show) -> Ended {
        let result = self.evaluate(source);
        match result {
            Ok(value) => {
                if show == Show::Value
                    && let Err(report) = self.show(&value)
                {
                    return self.failed(&report, source);
                }
                if let Some(status) = self.interrupt.leaving().map(status::of_stop) {
                    return Ended::failed(status);
                }
                let exit = value.exit.is_some();
                let otherwise = if value.batch_failed { status::BATCH } else { status::DONE };
                let status = value.exit.and_then(|status| u8::try_from(status).ok()).unwrap_or(otherwise);
                Ended { status, value: Some(value), exit }
            }
            Err(report) => self.failed(&report, source),
        }
    }

    /// Looks at a source without running it, and tells what would fail and what access it needs.
    pub fn check(&mut self, source: &Source) -> u8 {
        let name = source.name.as_deref();
        match self.interpreter.check(&source.text, name) {
            Err(report) => self.failed(&report, source).status,
            Ok(checked) => {
                for report in &checked.problems {
                    self.failed(report, source);
                }
                let access: Vec<_> = checked.access.iter().map(|access| access.as_str()).collect();
                let access = if access.is_empty() { "none".to_owned() } else { access.join(",") };
                self.screen.line(&format!("{}: access needed: {access}", escape::line(name.unwrap_or("input"))));
                if checked.problems.is_empty() { status::DONE } else { status::USAGE }
            }
        }
    }

    /// Runs a source under the interrupt and the timeout.
    fn evaluate(&mut self, source: &Source) -> Result<Evaluated, Report> {
        if let Some(name) = &source.name {
            self.texts.insert(name.clone(), source.text.clone());
        }
        let cancel = self.interrupt.begin();
        let alarm = self.timeout.map(|timeout| {
            let interrupt = Arc::clone(&self.interrupt);
            self.runtime.spawn(async move {
                tokio::time::sleep(timeout).await;
                interrupt.stop(Why::TimedOut);
            })
        });
        let result = self.interpreter.run(&source.text, source.name.as_deref(), cancel);
        if let Some(alarm) = alarm {
            alarm.abort();
        }
        result
    }

    fn canvas(&self) -> render::Canvas {
        render::Canvas {
            width: self.screen.width(),
            palette: self.screen.palette(),
            terminal: self.screen.is_terminal(),
        }
    }

    /// Returns the prompt: the node and the namespace.
    fn prompt(&self) -> String {
        let context = self.interpreter.session().context();
        let dry = if context.is_dry_run() { " dry run" } else { "" };
        format!("{}/{}{dry}> ", self.node, context.namespace())
    }

    /// Shows a value in the chosen form.
    ///
    /// # Errors
    /// What reading one of its properties failed with.
    pub fn show(&self, value: &Evaluated) -> Result<(), Report> {
        let canvas = self.canvas();
        let text = match self.format {
            Format::Table => render::draw(&self.interpreter.show(value)?, canvas),
            Format::Json | Format::Yaml => {
                let json = self.interpreter.json(value)?;
                render::write(&crate::script::Output::Nothing, &json, self.format, canvas)
            }
            Format::Csv | Format::Text => {
                let output = self.interpreter.show(value)?;
                render::write(&output, &serde_json::Value::Null, self.format, canvas)
            }
        };
        if !text.is_empty() {
            self.screen.line(&text);
        }
        Ok(())
    }

    fn failed(&self, report: &Report, source: &Source) -> Ended {
        let why = self.interrupt.end();
        let status = why.map_or_else(|| status::of_report(report), status::of_stop);
        if why == Some(Why::Closed) {
            return Ended::failed(status);
        }
        let mut report = report.clone();
        if let (Some(Why::TimedOut), Some(limit)) = (why, self.timeout) {
            report.error.kind = crate::kind::Kind::Timeout;
            report.error.message = format!("stopped after {}", humantime::format_duration(limit));
            report.error.hint = Some("give it longer with --timeout".into());
        }
        if self.screen.json_errors() {
            self.screen.tell(&escape::json(&report::json(&report, status).to_string()));
        } else {
            let quiet = source.name.is_none() && !source.text.trim_end().contains('\n') && !report.parse;
            let texts = Texts { shell: self, source };
            let terminal = self.screen.err_is_terminal();
            self.screen.tell(&report::draw(&report, &texts, self.screen.err_palette(), terminal, quiet));
        }
        Ended { status, value: None, exit: report.exit.is_some() }
    }
}

/// The texts that reports quote: what ran, and modules from their files.
struct Texts<'a> {
    shell: &'a Shell,
    source: &'a Source,
}

impl report::Sources for Texts<'_> {
    fn text(&self, name: Option<&str>) -> Option<String> {
        match name {
            None => Some(self.source.text.clone()),
            Some(name) if self.source.name.as_deref() == Some(name) => Some(self.source.text.clone()),
            Some(name) => match self.shell.texts.get(name) {
                Some(text) => Some(text.clone()),
                None => match library::find(name) {
                    Some(script) => Some(script.text.to_owned()),
                    None => std::fs::read_to_string(name).ok(),
                },
            },
        }
    }
}
