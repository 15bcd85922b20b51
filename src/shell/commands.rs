//! The shell's own lines, which begin with a colon; `help`, `exit` and `quit` need none.

use std::path::Path;
use std::time::Instant;

use super::complete::Offer;
use super::session::Session;
use super::style::Role;
use super::{Format, Shell, Show, Source, lex, render};
use crate::script::catalog::Names;
use crate::script::{Interpreter, library, reference};

/// One of the shell's own lines.
pub(super) struct Command {
    pub(super) name: &'static str,
    argument: &'static str,
    doc: &'static str,
    names: Option<Names>,
}

const fn command(name: &'static str, argument: &'static str, doc: &'static str) -> Command {
    Command { name, argument, doc, names: None }
}

/// All of them; help and completion are made from this table.
const COMMANDS: [Command; 18] = [
    command("help", "[NAME or WORD]", "explains a function or type, or finds what mentions a word"),
    Command { names: Some(Names::Namespace), ..command("ns", "[NAMESPACE]", "lists the namespaces, or goes to one") },
    command("vars", "", "lists the variables with their types"),
    command("type", "EXPR", "says what type a value has"),
    command("time", "EXPR", "says how long an expression takes"),
    Command {
        names: Some(Names::Image),
        ..command("run", "IMAGE [COMMAND]", "runs a container with this terminal, and removes it when it ends")
    },
    Command {
        names: Some(Names::Container),
        ..command("exec", "ID [COMMAND]", "runs a command, or sh, in a container with this terminal")
    },
    Command {
        names: Some(Names::Container),
        ..command("start", "ID", "starts a container that was made with a terminal, with this one")
    },
    command("ctr", "[?]COMMAND …", "shows a command line of ctr in the language, and runs it unless there is a ?"),
    Command {
        names: Some(Names::Container),
        ..command("attach", "ID", "goes to the terminal of a container that runs; Ctrl-P Ctrl-Q leaves it")
    },
    command("plan", "EXPR", "shows what an expression would change, and changes nothing"),
    Command { names: Some(Names::File), ..command("load", "FILE", "runs a script here and keeps its variables") },
    Command {
        names: Some(Names::File),
        ..command("save", "FILE", "writes the lines of this session that succeeded to a script")
    },
    command("edit", "", "opens the last line in $VISUAL or $EDITOR and runs what comes back"),
    command("set", "output FORMAT", "chooses how values are shown: table, json, yaml, csv or text"),
    command("history", "[COUNT]", "lists the last lines"),
    command("config", "", "lists the settings and where they come from"),
    command("quit", "", "leaves, as Ctrl-D does"),
];

/// What users of other tools look for and containerd does not do, and what to do in its place.
const NOT_OFFERED: [(&str, &str); 1] = [(
    "rename",
    "rename is not offered: containerd names its records, snapshots and tasks after a container's id, and cannot change it.\nCreate another container from the same image, with a label for the name: container(id).label(#{ name: \"web\" }).",
)];

/// Returns the names of the shell's own lines, without the colon.
pub fn own_lines() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}

/// What the prompt does after one of the shell's own lines.
pub(super) enum After {
    /// Reads the next line.
    Go,
    /// Leaves.
    Leave,
    /// Runs a text as if it had been typed.
    Run(String),
}

/// Returns the name and argument when a line is one of the shell's own.
pub(super) fn parse(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (own, rest) = match line.strip_prefix(':') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, line),
    };
    let (name, argument) = rest.split_once(char::is_whitespace).map_or((rest, ""), |(name, rest)| (name, rest.trim()));
    match name {
        _ if own => Some((name, argument)),
        "exit" | "quit" if argument.is_empty() => Some(("quit", "")),
        // `help = 3` and `help(x)` are the language's.
        "help" if argument.chars().all(|c| c.is_alphanumeric() || "_.:/ ".contains(c)) => Some(("help", argument)),
        _ => None,
    }
    .or_else(|| {
        let topic = line.strip_prefix("help(")?.strip_suffix(')')?;
        Some(("help", topic.trim_matches(['"', '`'])))
    })
}

/// What Tab offers in one of the shell's own lines.
pub(super) fn offer(text: &str, interpreter: &Interpreter) -> Option<Offer> {
    let (own, line) = match text.strip_prefix(':') {
        Some(line) => (true, line),
        None => (false, text),
    };
    let Some((name, argument)) = line.split_once(' ') else {
        return own.then(|| Offer {
            start: 1,
            words: COMMANDS.iter().map(|c| c.name.to_owned()).filter(|name| name.starts_with(line)).collect(),
            names: None,
        });
    };
    let start = text.len() - argument.len();
    if name == "help" {
        let words = interpreter.catalog().entries().map(|entry| entry.path());
        let words = words.chain(interpreter.catalog().objects().map(|object| object.name.to_owned()));
        return Some(Offer { start, words: words.filter(|word| word.starts_with(argument)).collect(), names: None });
    }
    if !own {
        return None;
    }
    let command = COMMANDS.iter().find(|command| command.name == name)?;
    match (command.names, name) {
        (Some(names), _) => Some(Offer { start, words: Vec::new(), names: Some(names) }),
        (None, "set") => Some(Offer {
            start,
            words: Format::ALL
                .iter()
                .map(|format| format!("output {format}"))
                .filter(|w| w.starts_with(argument))
                .collect(),
            names: None,
        }),
        // An expression, whose words stand where they stand in the line.
        (None, "type" | "time" | "plan") => {
            let offer = super::complete::offer(argument, interpreter);
            Some(Offer { start: start + offer.start, ..offer })
        }
        (None, _) => Some(Offer { start, ..Offer::default() }),
    }
}

impl Shell {
    /// Carries out one of the shell's own lines.
    pub(super) fn command(&mut self, name: &str, argument: &str, session: &Session) -> After {
        match name {
            "help" | "h" | "?" => self.help(argument),
            "quit" | "q" | "exit" => return After::Leave,
            "ns" if argument.is_empty() => {
                self.run(&Source::input("namespaces()"), Show::Value);
            }
            "ns" => self.go_to(argument),
            "vars" => {
                let shown = |name: String| if name == lex::LAST { "_".to_owned() } else { name };
                let variables = self.interpreter.variables().into_iter().map(|(name, ty)| (shown(name), ty));
                self.screen.line(&columns(variables.collect(), self.canvas()));
            }
            "type" => {
                if let Some(value) = self.run(&Source::input(lex::with_last(argument)), Show::Nothing).value {
                    self.screen.line(&self.interpreter.type_of_value(&value));
                }
            }
            "time" => {
                let begun = Instant::now();
                self.run(&Source::input(lex::with_last(argument)), Show::Value);
                let took = begun.elapsed();
                self.screen.remark(Role::Note, "took", &format!("{took:.1?}"));
            }
            "run" => self.run_here(argument),
            "exec" => self.exec_here(argument),
            "start" => self.start_here(argument),
            "ctr" => self.ctr_here(argument),
            "attach" => self.attach_here(argument),
            "plan" => self.plan(argument),
            "load" => match Source::read(Path::new(argument)) {
                Ok(source) => {
                    self.run(&source, Show::Nothing);
                }
                Err(error) => self.screen.failure(&error),
            },
            "save" => self.save(argument, session),
            "edit" => return self.edit(session.lines().last().unwrap_or_default()).map_or(After::Go, After::Run),
            "set" => match argument.split_once(' ').map(|(key, value)| (key, value.trim().parse::<Format>())) {
                Some(("output", Ok(format))) => self.format = format,
                Some(("output", Err(problem))) => {
                    self.screen.remark(Role::Error, "error", &format!("output {problem}"))
                }
                _ => self.screen.remark(Role::Error, "error", "what can be set is: output FORMAT"),
            },
            "history" => {
                let lines = session.lines();
                let count = argument.parse().unwrap_or(lines.len());
                let first = lines.len().saturating_sub(count);
                for line in lines.skip(first) {
                    self.screen.line(&super::escape::text(line));
                }
            }
            "config" => {
                let rows = self.config.iter().map(|row| (row.0.clone(), format!("{}  ({})", row.1, row.2)));
                self.screen.line(&columns(rows.collect(), self.canvas()));
            }
            other => {
                let near = crate::ops::error::nearest(other, COMMANDS.iter().map(|command| command.name));
                self.screen.remark(Role::Error, "error", &format!("there is no :{other}"));
                self.screen.hint(&near.map_or_else(|| "see :help".into(), |name| format!("did you mean :{name}?")));
            }
        }
        After::Go
    }

    fn go_to(&mut self, namespace: &str) {
        match crate::containerd::identifier::check("namespace", namespace) {
            Ok(()) => {
                let session = self.interpreter.session();
                session.set_context(session.context().in_namespace(namespace));
            }
            Err(error) => self.screen.failure(&error),
        }
    }

    fn plan(&mut self, text: &str) {
        let session = std::sync::Arc::clone(self.interpreter.session());
        let before = session.context();
        session.set_context(before.dry_run());
        self.run(&Source::input(lex::with_last(text)), Show::Value);
        session.set_context(before);
    }

    fn save(&self, argument: &str, session: &Session) {
        let (text, count) = session.script(|text| self.interpreter.check(text, None).is_ok());
        match std::fs::write(argument, text) {
            Ok(()) => self.screen.remark(Role::Note, "saved", &format!("{count} lines to {argument}")),
            Err(source) => {
                self.screen.failure(&crate::ops::Error::File { attempted: "write", path: argument.to_owned(), source })
            }
        }
    }

    fn edit(&self, text: &str) -> Option<String> {
        let edited = || -> std::io::Result<_> {
            let file = tempfile::Builder::new().prefix("ctrsh-").suffix(".rhai").tempfile()?;
            std::fs::write(file.path(), text)?;
            let mut words = self.editor.split_whitespace();
            let program = words.next().unwrap_or("vi");
            let ended = std::process::Command::new(program).args(words).arg(file.path()).status()?;
            Ok((ended, std::fs::read_to_string(file.path())?))
        };
        match edited() {
            Ok((ended, text)) if ended.success() => Some(text).filter(|text| !text.trim().is_empty()),
            Ok((ended, _)) => {
                let how = ended.code().map_or_else(|| "by a signal".into(), |code| format!("with exit status {code}"));
                let told = format!("{} ended {how}, so nothing is run", self.editor);
                self.screen.remark(Role::Error, "error", &told);
                None
            }
            Err(source) => {
                let path = self.editor.clone();
                self.screen.failure(&crate::ops::Error::File { attempted: "edit with", path, source });
                None
            }
        }
    }

    fn help(&self, topic: &str) {
        let palette = self.screen.palette();
        let catalog = self.interpreter.catalog();
        let topic = topic.trim_end_matches("()");
        if topic.is_empty() {
            let rows = |on: &[crate::script::catalog::Entry]| {
                on.iter().map(|entry| (entry.path(), entry.summary().to_owned())).collect::<Vec<_>>()
            };
            let entries: Vec<_> = catalog.entries().filter(|entry| entry.receiver().is_none()).cloned().collect();
            self.screen.line(&palette.paint(Role::Heading, "Functions"));
            self.screen.line(&columns(rows(&entries), self.canvas()));
            self.screen.line(&palette.paint(Role::Heading, "\nTypes"));
            let types = catalog.objects().map(|object| (object.name.to_owned(), object.doc.to_owned())).collect();
            self.screen.line(&columns(types, self.canvas()));
            self.screen.line(&palette.paint(Role::Heading, "\nReady scripts"));
            let scripts = library::SCRIPTS.iter().map(|script| (script.path(), script.summary().to_owned()));
            self.screen.line(&columns(scripts.collect(), self.canvas()));
            self.screen.line(&palette.paint(Role::Heading, "\nThe shell's own lines"));
            let own = COMMANDS.iter().map(|c| (format!(":{} {}", c.name, c.argument), c.doc.to_owned())).collect();
            self.screen.line(&columns(own, self.canvas()));
            self.screen
                .line("\n:help NAME explains one of them; Tab completes; Ctrl-C stops what runs; _ is the last value.");
            return;
        }
        if let Some(object) = catalog.object(topic) {
            self.screen.line(&format!("{}: {}", palette.paint(Role::Heading, object.name), object.doc));
            let fields = object.fields.iter().map(|f| (f.name.to_owned(), format!("{} ({})", f.doc, f.ty)));
            self.screen.line(&columns(fields.collect(), self.canvas()));
            let methods = catalog.entries().filter(|entry| entry.receiver() == Some(object.name));
            let methods: Vec<_> = methods.map(|m| (format!("{}()", m.spec.name), m.summary().to_owned())).collect();
            if !methods.is_empty() {
                self.screen.line(&columns(methods, self.canvas()));
            }
            return;
        }
        if let Some(script) = library::find(topic) {
            self.screen.line(script.manual().trim_end());
            return;
        }
        if format!("{topic}/") == library::PREFIX {
            let scripts = library::SCRIPTS.iter().map(|script| (script.path(), script.summary().to_owned()));
            self.screen.line(&columns(scripts.collect(), self.canvas()));
            return;
        }
        if let Some((_, why)) = NOT_OFFERED.iter().find(|(name, _)| *name == topic) {
            self.screen.line(why);
            return;
        }
        let found = catalog.find(topic);
        if !found.is_empty() {
            let texts: Vec<String> = found.into_iter().map(reference::help).collect();
            self.screen.line(texts.join("\n").trim_end());
            return;
        }
        let word = topic.to_lowercase();
        let mentions = catalog.entries().filter(|entry| {
            entry.spec.name.contains(&word)
                || entry.spec.doc.to_lowercase().contains(&word)
                || entry.spec.options.iter().any(|option| option.key.contains(&word))
        });
        let rows: Vec<_> = mentions.map(|entry| (entry.path(), entry.summary().to_owned())).collect();
        if rows.is_empty() {
            self.screen.remark(Role::Error, "error", &format!("nothing is called {topic} or mentions it"));
            if let Some(near) = crate::ops::error::nearest(topic, catalog.names()) {
                self.screen.hint(&format!("did you mean {near}?"));
            }
        } else {
            self.screen.line(&columns(rows, self.canvas()));
        }
    }
}

/// Writes pairs below one another, the second parts aligned.
fn columns(rows: Vec<(String, String)>, canvas: render::Canvas) -> String {
    if rows.is_empty() {
        return "none".into();
    }
    let cell = |text: String| crate::script::Cell { json: serde_json::Value::String(text.clone()), text };
    let fields = rows.into_iter().map(|(name, text)| (name, cell(text))).collect();
    render::draw(&crate::script::Output::Record { type_name: None, fields }, canvas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_shell_are_told_from_the_language() {
        assert_eq!(parse(":ns k8s.io"), Some(("ns", "k8s.io")));
        assert_eq!(parse("help pull"), Some(("help", "pull")));
        assert_eq!(parse("help(\"pull\")"), Some(("help", "pull")));
        assert_eq!(parse("help(pull)"), Some(("help", "pull")));
        assert_eq!(parse(" quit "), Some(("quit", "")));
        for line in ["help = 3", "exit(2)", "images()", "let quit = 1"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
