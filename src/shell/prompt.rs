//! The prompt: reads a line, runs it, shows its value.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};

use super::commands::{self, After};
use super::editor::Assistant;
use super::names::Live;
use super::session::Session;
use super::style::Role;
use super::{Error, Screen, Shell, Show, Source, history, lex, status};

type LineEditor<'a> = Editor<Assistant<'a>, DefaultHistory>;

/// The prompt of a shell.
pub struct Prompt<'a> {
    shell: Rc<RefCell<&'a mut Shell>>,
    fresh: Arc<history::Fresh>,
    session: Session,
}

impl<'a> Prompt<'a> {
    /// Makes a prompt that keeps its history in a file, if one is named.
    pub fn new(shell: &'a mut Shell, history: Option<PathBuf>) -> Self {
        let fresh = Arc::new(history::Fresh::new(history));
        // A signal ends the program while this thread waits for a key.
        let (screen, kept) = (Arc::clone(&shell.screen), Arc::clone(&fresh));
        shell.interrupt.before_exit(move || keep(&kept, &screen));
        Self { shell: Rc::new(RefCell::new(shell)), fresh, session: Session::default() }
    }

    /// Reads and runs until the user leaves; returns the exit status.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub fn run(&mut self) -> Result<u8, Error> {
        let terminal = |error: ReadlineError| Error::Terminal(std::io::Error::other(error));
        let palette = self.shell.borrow().screen.palette();
        let config = Config::builder()
            .max_history_size(history::LINES)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(terminal)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .color_mode(if palette.is_on() { ColorMode::Enabled } else { ColorMode::Disabled })
            .bracketed_paste(true)
            .build();
        let mut editor: LineEditor<'_> = Editor::with_config(config).map_err(terminal)?;
        let live = Live::new(self.shell.borrow().runtime.clone());
        editor.set_helper(Some(Assistant { shell: Rc::clone(&self.shell), live, palette }));
        fill(&mut editor, self.fresh.known());
        self.greet();
        let code = loop {
            if let Some(code) = self.rest() {
                break code;
            }
            let prompt = self.shell.borrow().prompt();
            let line = match editor.readline(&prompt) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break status::DONE,
                Err(error) => {
                    keep(&self.fresh, &self.shell.borrow().screen);
                    return Err(terminal(error));
                }
            };
            if history::keeps(&line) {
                self.remember(&mut editor, &line);
            }
            if let Some(code) = self.take(line) {
                break code;
            }
        };
        keep(&self.fresh, &self.shell.borrow().screen);
        Ok(code)
    }

    /// Says that nothing runs, so that a signal that comes from now on ends the prompt; returns the exit status when one came before.
    fn rest(&self) -> Option<u8> {
        let shell = self.shell.borrow();
        shell.interrupt.end();
        shell.interrupt.leaving().map(status::of_stop)
    }

    /// Puts a line at the end of the history, and takes it from where it was.
    fn remember(&mut self, editor: &mut LineEditor<'_>, line: &str) {
        let before: Vec<String> = editor.history().iter().cloned().collect();
        if before.iter().any(|known| known == line) {
            fill(editor, history::merged(before, [line.to_owned()]));
        } else {
            let _ = editor.add_history_entry(line);
        }
        self.fresh.add(line);
    }

    /// Runs one line; returns the exit status when it was the last.
    fn take(&mut self, line: String) -> Option<u8> {
        if line.trim().is_empty() {
            return None;
        }
        let mut shell = self.shell.borrow_mut();
        let mut text = line;
        if let Some((name, argument)) = commands::parse(&text) {
            shell.asking.set(true);
            let after = shell.command(name, argument, &self.session);
            shell.asking.set(false);
            match after {
                After::Go => return None,
                After::Leave => return Some(status::DONE),
                After::Run(edited) => {
                    shell.screen.line(&super::escape::text(edited.trim_end()));
                    text = edited;
                }
            }
        }
        let show = if lex::ends_in_semicolon(&text) { Show::Nothing } else { Show::Value };
        shell.asking.set(true);
        let ended = shell.run(&Source::input(lex::with_last(&text)), show);
        shell.asking.set(false);
        self.session.note(text, ended.value.is_some());
        if let Some(value) = ended.value {
            shell.interpreter.set(lex::LAST, value);
        }
        ended.exit.then_some(ended.status)
    }

    /// Says who is there, or that nobody is, and goes on either way.
    fn greet(&self) {
        let shell = self.shell.borrow();
        let context = shell.interpreter.session().context();
        let cancel = shell.interrupt.begin();
        let context = context.with_cancel(cancel);
        let version = shell.interpreter.session().wait(&context, crate::ops::node::version(&context));
        shell.interrupt.end();
        match version {
            Ok(version) => shell.screen.tell(&format!(
                "ctrsh {}, containerd {}; :help shows what there is",
                env!("CARGO_PKG_VERSION"),
                super::escape::line(&version.version),
            )),
            Err(error) => {
                shell.screen.failure(&error);
                shell.screen.remark(
                    Role::Note,
                    "note",
                    "the prompt works all the same, and connects when containerd is back",
                );
            }
        }
    }
}

/// Puts the lines of a session into the file, or tells why they cannot be.
fn keep(fresh: &history::Fresh, screen: &Screen) {
    if let Err(error) = fresh.keep() {
        screen.failure(&error);
    }
}

/// Gives the editor these lines in place of those that it has.
fn fill(editor: &mut LineEditor<'_>, lines: Vec<String>) {
    let _ = editor.clear_history();
    for line in lines {
        let _ = editor.add_history_entry(line);
    }
}
