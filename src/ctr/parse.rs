//! Taking a line of ctr apart as ctr does (urfave/cli over Go's `flag`).
//!
//! One hyphen is as good as two, `-abc` is a flag called `abc`, and `--` ends the flags. Flags may stand between arguments, except
//! where the arguments end in a command of a container: there the first argument ends them.

use std::time::Duration;

use super::error::{Error, Result};
use super::source::{self, Map};
use super::table::{Command, Flag, Form, GLOBALS, GROUPS, Takes, Value, commands, group_flags, written};
use super::{Globals, Step, Steps, help};

/// A line.
pub(super) enum Line {
    /// Help was asked for.
    Help(String),
    /// A command.
    Command(Parsed),
}

/// A command with its flags and arguments.
pub(super) struct Parsed {
    pub(super) command: &'static Command,
    given: Given,
    globals: Given,
    args: Vec<String>,
}

/// The flags that were given, in order.
#[derive(Default)]
struct Given(Vec<(&'static Flag, String)>);

impl Given {
    fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(flag, _)| flag.name == name).map(|(_, value)| value.as_str())
    }
}

/// The words that are left.
struct Words<'a, 'b> {
    words: &'b [&'a str],
}

impl<'a> Words<'a, '_> {
    fn peek(&self) -> Option<&'a str> {
        self.words.first().copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// Takes the flag that stands first, with its value. `None` when help was asked for.
    fn flag(&mut self, path: &str, flags: &[&'static Flag], given: &mut Given) -> Result<Option<()>> {
        let Some(word) = self.next() else { return Ok(Some(())) };
        let bare = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or(word);
        let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value)));
        let Some(flag) = flags.iter().find(|flag| flag.is(name)) else {
            if matches!(name, "help" | "h") {
                return Ok(None);
            }
            let known: Vec<&str> = flags.iter().map(|flag| flag.name).collect();
            return Err(Error::unknown_flag(path, word, &known, elsewhere(path, name)));
        };
        let (command, shown) = (path.to_owned(), written(flag.name));
        let value = match (flag.takes, value) {
            (Takes::Nothing, None) => "true",
            (Takes::Nothing, Some(value)) => match value {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => "true",
                "0" | "f" | "F" | "false" | "FALSE" | "False" => "false",
                _ => {
                    let problem = "is neither true nor false".into();
                    return Err(Error::BadValue { command, flag: shown, value: value.to_owned(), problem });
                }
            },
            (_, Some(value)) => value,
            (_, None) => self.next().ok_or(Error::NoValue { command, flag: shown })?,
        };
        given.0.push((flag, value.to_owned()));
        Ok(Some(()))
    }
}

/// Says where a flag belongs that stands in the wrong place.
fn elsewhere(path: &str, name: &str) -> Option<String> {
    let stands = |flag: &Flag, before: &str, after: &str| {
        let value = flag.sample().map(|_| " VALUE").unwrap_or_default();
        format!("{} stands earlier: ctr {before}{}{value} {after}", written(flag.name), written(flag.name))
    };
    if let Some(flag) = GLOBALS.iter().find(|flag| flag.is(name)) {
        return Some(stands(flag, "", path).trim_end().to_owned());
    }
    let (group, command) = path.split_once(' ')?;
    let flag = group_flags(group).iter().find(|flag| flag.is(name))?;
    Some(stands(flag, &format!("{group} "), command))
}

fn is_flag(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

/// Takes a line apart.
pub(super) fn parse(words: &[&str]) -> Result<Line> {
    let mut words = Words { words };
    let mut globals = Given::default();
    let mut group = String::new();
    let mut given = Given::default();
    loop {
        let flags: Vec<&'static Flag> =
            if group.is_empty() { GLOBALS.iter().collect() } else { group_flags(&group).iter().collect() };
        let into = if group.is_empty() { &mut globals } else { &mut given };
        while words.peek().is_some_and(is_flag) {
            match words.peek() {
                Some("--") => drop(words.next()),
                Some("--version" | "-v") if group.is_empty() => return Ok(Line::Help(help::version())),
                _ => {
                    if words.flag(&group, &flags, into)?.is_none() {
                        return Ok(Line::Help(help::group(&group)));
                    }
                }
            }
        }
        let word = match words.next() {
            Some("help" | "h") => return Ok(Line::Help(help::group(&group))),
            Some(word) => word,
            None if group.is_empty() => return Ok(Line::Help(help::group(&group))),
            None => {
                return Err(Error::NoCommand { hint: format!("there is {}", names(&group).join(", ")), group });
            }
        };
        if let Some(command) = commands().find(|command| command.group == group && command.names.contains(&word)) {
            return of_command(command, words, globals, given);
        }
        let Some(next) = GROUPS.iter().find(|next| next.within == group && next.names.contains(&word)) else {
            return Err(Error::unknown_command(&group, word, &names(&group)));
        };
        group = next.path();
    }
}

/// Returns the own names of what a group has.
fn names(group: &str) -> Vec<&'static str> {
    let own = commands().filter(|command| command.group == group).map(|command| command.names[0]);
    GROUPS.iter().filter(|next| next.within == group).map(|next| next.names[0]).chain(own).collect()
}

fn of_command(command: &'static Command, mut words: Words<'_, '_>, globals: Given, mut given: Given) -> Result<Line> {
    let (path, mut args) = (command.path(), Vec::new());
    let flags: Vec<&'static Flag> = command.flags.iter().copied().flatten().collect();
    while let Some(word) = words.peek() {
        if command.verbatim && !args.is_empty() {
            break;
        }
        if word == "--" {
            words.next();
            break;
        }
        if !is_flag(word) {
            args.extend(words.next().map(str::to_owned));
        } else if words.flag(&path, &flags, &mut given)?.is_none() {
            return Ok(Line::Help(help::command(command)));
        }
    }
    args.extend(words.words.iter().map(|word| (*word).to_owned()));
    let parsed = Parsed { command, given, globals, args };
    parsed.check()?;
    Ok(Line::Command(parsed))
}

impl Parsed {
    fn check(&self) -> Result<()> {
        for (flag, value) in &self.given.0 {
            if let Form::Refused(cure) = flag.form
                && value != "false"
            {
                let what = format!("{} {}", self.command.path(), flag.written());
                return Err(Error::Refused { what, cure: cure.to_owned() });
            }
        }
        let (least, most) = self.command.count;
        let count = self.args.len();
        if self.command.verbatim
            && let Some(flag) = self.args.get(1).filter(|word| is_flag(word))
        {
            let problem = format!("takes its flags before its first argument, and {flag} stands behind it");
            return Err(Error::arguments(self.command, problem));
        }
        if count < least || count > most {
            let few = if count < least { "too few" } else { "too many" };
            return Err(Error::arguments(self.command, format!("has {few} arguments")));
        }
        Ok(())
    }

    /// Returns whether a flag was given and not taken back.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// Returns the value that a flag was given last; nothing is as good as not given.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.given.last(name).filter(|value| !value.is_empty())
    }

    /// Returns all values that a flag was given.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        self.given.0.iter().filter(|(flag, _)| flag.name == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the arguments.
    pub(super) fn args(&self) -> &[String] {
        &self.args
    }

    /// Returns an argument as a string of the script language.
    pub(super) fn text(&self, index: usize) -> String {
        source::text(self.args.get(index).map_or("", String::as_str))
    }

    /// Returns the arguments as the filters of a list: none, a string, or an array.
    pub(super) fn filters(&self) -> Vec<String> {
        if self.args.is_empty() { Vec::new() } else { vec![source::one_or_array(&self.args)] }
    }

    /// Returns the arguments from an index on as labels; it is an error when there are none.
    pub(super) fn labels(&self, from: usize) -> Result<String> {
        match self.args.get(from..) {
            Some(pairs) if !pairs.is_empty() => Ok(source::labels(pairs)),
            _ => Err(Error::arguments(self.command, "needs labels, KEY=VALUE; an empty value removes one")),
        }
    }

    /// Returns the flags that are options, as the map of a call.
    pub(super) fn options(&self) -> Result<Map> {
        let mut map = Map::default();
        for flag in self.command.flags() {
            let Form::Option(form) = flag.form else { continue };
            let values = self.values(flag.name);
            let Some(last) = values.last() else { continue };
            let key = form.key.map_or_else(|| flag.name.replace('-', "_"), str::to_owned);
            if let Some(code) = self.code(flag, form.value, last, &values)? {
                map.set(&key, code);
            }
        }
        Ok(map)
    }

    fn code(&self, flag: &Flag, value: Value, last: &str, all: &[&str]) -> Result<Option<String>> {
        let bad = |value: &str, problem: &str| Error::BadValue {
            command: self.command.path(),
            flag: flag.written(),
            value: value.to_owned(),
            problem: problem.to_owned(),
        };
        Ok(Some(match value {
            Value::Switch if last == "false" => return Ok(None),
            Value::Switch => "true".into(),
            Value::Off if last == "false" => return Ok(None),
            Value::Off => "false".into(),
            // As in ctr, nothing is as good as not given.
            Value::Text | Value::Login if last.is_empty() => return Ok(None),
            Value::Text => source::text(last),
            Value::Texts => source::one_or_array(all),
            Value::Array => source::array(all),
            Value::Count(none) => {
                let count = whole(last).ok_or_else(|| bad(last, "is not a whole number"))?;
                if none == Some(count) {
                    return Ok(None);
                }
                count.to_string()
            }
            Value::Counts => {
                let counts = all.iter().map(|one| whole(one).ok_or_else(|| bad(one, "is not a whole number")));
                let counts = counts.map(|count| count.map(|count| count.to_string())).collect::<Result<Vec<_>>>()?;
                format!("[{}]", counts.join(", "))
            }
            Value::Number => match last.parse::<f64>() {
                Ok(0.0) => return Ok(None),
                Ok(number) if number.is_finite() => number.to_string(),
                _ => return Err(bad(last, "is not a number")),
            },
            Value::Size => {
                let bytes = whole(last).and_then(|bytes| u64::try_from(bytes).ok());
                match bytes.ok_or_else(|| bad(last, "is not a number of bytes"))? {
                    0 => return Ok(None),
                    bytes => source::size(bytes),
                }
            }
            Value::Labels => source::labels(all),
            Value::Env => match source::environment(all) {
                none if none.is_empty() => return Ok(None),
                some => some.text(),
            },
            Value::Login => source::text(last.split_once(':').map_or(last, |(user, _)| user)),
            Value::Token => source::text("<token>"),
        }))
    }

    /// Returns the password or token, which goes another way than the text.
    fn secret(&self) -> Option<String> {
        self.given.0.iter().rev().find_map(|(flag, value)| match flag.form {
            Form::Option(form) if form.value == Value::Token => Some(value.clone()),
            Form::Option(form) if form.value == Value::Login => {
                value.split_once(':').map(|(_, password)| password.to_owned())
            }
            _ => None,
        })
    }

    /// Returns whether a flag was given a secret, also one that is not used.
    pub(super) fn holds_secret(&self) -> bool {
        self.given.0.iter().any(|(flag, value)| match flag.form {
            Form::Option(form) if form.value == Value::Token => true,
            Form::Option(form) if form.value == Value::Login => value.contains(':'),
            // As commands have them that ask no registry.
            Form::Other(_) if flag.name == "user" => value.contains(':'),
            Form::Other(_) => flag.name == "refresh",
            _ => false,
        })
    }

    /// Translates it.
    pub(super) fn steps(&self) -> Result<Steps> {
        let globals = self.globals()?;
        let mut steps = (self.command.make)(self)?;
        if let Some(namespace) = self.globals.last("namespace") {
            let change = source::call("namespace", &[source::text(namespace)], &Map::default());
            match steps.first_mut() {
                Some(Step::Script(code) | Step::Silent(code) | Step::Process(code)) => {
                    *code = source::sequence(&[change, std::mem::take(code)])
                }
                _ => steps.insert(0, Step::Silent(change)),
            }
        }
        let secret = self.secret();
        let mut ignored = Vec::new();
        for (flag, value) in &self.given.0 {
            if matches!(flag.form, Form::Option(form) if form.value == Value::Env) && !value.contains('=') {
                ignored.push(format!("{} {value}: it has no =, and changes nothing, as with ctr", flag.written()));
            }
        }
        let mut notes: Vec<String> =
            Some(self.command.note).filter(|note| !note.is_empty()).map(str::to_owned).into_iter().collect();
        for (flag, value) in &self.given.0 {
            if let Form::Other(note) = flag.form
                && value != "false"
            {
                let note = format!("{}: {note}", flag.written());
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes.extend(ignored);
        if secret.is_some() {
            notes.push(
                "what a command line holds shows in the list of processes; login(HOST) keeps it out of there".into(),
            );
        }
        Ok(Steps { steps, notes, globals, secret })
    }

    fn globals(&self) -> Result<Globals> {
        let duration = |name: &str| -> Result<Option<Duration>> {
            let Some(value) = self.globals.last(name) else { return Ok(None) };
            let parsed = if value == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(value) };
            parsed.map(Some).map_err(|_| Error::BadValue {
                command: String::new(),
                flag: written(name),
                value: value.to_owned(),
                problem: "is not a duration such as 10s or 1m30s".into(),
            })
        };
        Ok(Globals {
            address: self.globals.last("address").map(str::to_owned),
            namespace: self.globals.last("namespace").map(str::to_owned),
            timeout: duration("timeout")?,
            connect_timeout: duration("connect-timeout")?,
            debug: self.globals.last("debug").is_some_and(|value| value != "false"),
        })
    }
}

/// Reads a whole number as Go does, in decimal or with `0x`.
fn whole(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
