//! The line editor: colours, Tab, hints and unfinished input.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::complete::{self, Offer};
use super::lex::{self, Sort};
use super::names::Live;
use super::style::{Palette, Role};
use super::{Shell, commands};
use crate::script::Input;
use crate::script::catalog::Names;

/// What the line editor asks.
pub(super) struct Assistant<'a> {
    pub(super) shell: Rc<RefCell<&'a mut Shell>>,
    pub(super) live: Live,
    pub(super) palette: Palette,
}

impl Helper for Assistant<'_> {}

impl Completer for Assistant<'_> {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let text = &line[..pos];
        let shell = self.shell.borrow();
        let own = commands::offer(text, &shell.interpreter);
        let Offer { start, mut words, names } = own.unwrap_or_else(|| complete::offer(text, &shell.interpreter));
        let prefix = &text[start..];
        match names {
            Some(Names::File | Names::MountPoint) => words.extend(files(prefix)),
            Some(names) => {
                let live = self.live.names(&shell.interpreter.session().context(), names);
                // Only what no script would have to escape; the rest is nothing to complete.
                let plain = |name: &String| name.contains(prefix) && !name.contains(['"', '\\', '`']);
                words.extend(live.into_iter().filter(plain).filter(|name| !name.chars().any(char::is_control)));
            }
            None => {}
        }
        Ok((start, words.into_iter().map(|word| Pair { display: word.clone(), replacement: word }).collect()))
    }
}

/// Lists the files that a path could go on to.
fn files(prefix: &str) -> Vec<String> {
    let (folder, _) = prefix.rsplit_once('/').map_or(("", prefix), |(folder, name)| (folder, name));
    let shown = if prefix.contains('/') { format!("{folder}/") } else { String::new() };
    let from = if shown.is_empty() { "." } else { &shown };
    let entries = std::fs::read_dir(from).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let slash = if entry.path().is_dir() { "/" } else { "" };
            Some(format!("{shown}{name}{slash}"))
        })
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort_unstable();
    names
}

impl Hinter for Assistant<'_> {
    type Hint = String;

    /// Shows the parameters of a function whose bracket was just opened.
    fn hint(&self, line: &str, pos: usize, _ctx: &Context<'_>) -> Option<String> {
        if pos != line.len() || !line.ends_with('(') {
            return None;
        }
        let text =
            line.strip_prefix(':').and_then(|own| own.split_once(' ')).map_or(line, |(_, expression)| expression);
        complete::signature(text, &self.shell.borrow().interpreter)
    }
}

impl Validator for Assistant<'_> {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = ctx.input();
        let unfinished = !text.trim_start().starts_with(':')
            && self.shell.borrow().interpreter.input(&lex::with_last(text)) == Input::Unfinished;
        Ok(if unfinished { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Highlighter for Assistant<'_> {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        if !self.palette.is_on() {
            return line.into();
        }
        if line.trim_start().starts_with(':') {
            return self.palette.paint(Role::Command, line).into();
        }
        let shell = self.shell.borrow();
        let mut painted = String::with_capacity(line.len() * 2);
        let mut done = 0;
        for word in lex::words(line) {
            painted.push_str(&line[done..word.at.start]);
            let text = &line[word.at.clone()];
            let role = match word.sort {
                Sort::Keyword => Some(Role::Keyword),
                Sort::Number => Some(Role::Number),
                Sort::Text { .. } => Some(Role::Text),
                Sort::Comment => Some(Role::Faint),
                Sort::Name if shell.interpreter.catalog().names().any(|name| name == text) => Some(Role::Function),
                Sort::Name | Sort::Symbol => None,
            };
            painted.push_str(&role.map_or_else(|| text.to_owned(), |role| self.palette.paint(role, text)));
            done = word.at.end;
        }
        painted.push_str(&line[done..]);
        painted.into()
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        self.palette.paint(Role::Note, prompt).into()
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        self.palette.paint(Role::Faint, hint).into()
    }

    fn highlight_char(&self, _line: &str, _pos: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}
