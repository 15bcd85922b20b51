//! The prompt: reads a line, runs it, shows its value.

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::{Error, Shell, Show, Source, status};
use crate::script::Input;

/// The prompt of a shell.
pub struct Prompt<'a> {
    shell: &'a mut Shell,
}

impl<'a> Prompt<'a> {
    /// Makes a prompt.
    pub fn new(shell: &'a mut Shell) -> Self {
        Self { shell }
    }

    /// Reads and runs until the user leaves; returns the exit status.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub fn run(&mut self) -> Result<u8, Error> {
        let terminal = |error: ReadlineError| Error::Terminal(std::io::Error::other(error));
        let mut editor = DefaultEditor::new().map_err(terminal)?;
        let mut text = String::new();
        loop {
            let place = self.shell.interpreter.session().context();
            let prompt = if text.is_empty() { format!("{}> ", place.namespace()) } else { "… ".into() };
            match editor.readline(&prompt) {
                Ok(line) => text.push_str(&line),
                Err(ReadlineError::Interrupted) => {
                    text.clear();
                    continue;
                }
                Err(ReadlineError::Eof) => return Ok(status::DONE),
                Err(error) => return Err(terminal(error)),
            }
            if self.shell.interpreter.input(&text) == Input::Unfinished {
                text.push('\n');
                continue;
            }
            let line = std::mem::take(&mut text);
            match line.trim() {
                "" => continue,
                "exit" | "quit" | ":quit" | ":q" => return Ok(status::DONE),
                _ => {}
            }
            self.shell.asking.set(true);
            let ended = self.shell.run(&Source::input(line), Show::Value);
            self.shell.asking.set(false);
            if ended.exit {
                return Ok(ended.status);
            }
            if let Some(value) = ended.value {
                self.shell.interpreter.set("_", value);
            }
        }
    }
}
