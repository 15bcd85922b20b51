//! `docs/ctr.md`.

use std::fmt::Write as _;

use super::table::{Command, Flag, Form, Tier, commands};
use super::{Line, translate};

/// A row of the table: a command alone, or with one of its flags.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The command.
    pub command: &'static Command,
    /// The flag.
    pub flag: Option<&'static Flag>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

/// Returns all rows, each command before its flags.
pub fn rows() -> impl Iterator<Item = Row> {
    commands().flat_map(|command| {
        let flags = command.flags().map(move |flag| Row { command, flag: Some(flag) });
        std::iter::once(Row { command, flag: None }).chain(flags)
    })
}

impl Row {
    /// Names it: `images pull`, `images pull --platform`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.flag {
            None => self.command.path(),
            Some(flag) => format!("{} {}", self.command.path(), flag.written()),
        }
    }

    /// Returns how soon it is wanted: not sooner than its command.
    #[must_use]
    pub fn tier(&self) -> super::Tier {
        self.flag.map_or(self.command.tier, |flag| flag.tier.max(self.command.tier))
    }

    /// Returns the words of a line that shows it, behind `ctr`.
    #[must_use]
    pub fn line(&self) -> Vec<String> {
        self.command.line(self.flag)
    }

    /// Returns the test that shows it.
    #[must_use]
    pub fn test(&self) -> String {
        let flag = self.flag.map(Flag::written).unwrap_or_default();
        if self.tier() == Tier::C || self.command.forms.contains(&flag.as_str()) {
            "ctr::forms".into()
        } else {
            format!("parity::{}", self.name())
        }
    }
}

const HEAD: &str = "\
# The commands of ctr

Every command and flag of ctr 1.6, 1.7 and 2.1, and what it is here. This page is made by `ctrsh ctr --markdown`.

`ctrsh ctr COMMAND …`, and `:ctr COMMAND …` at the prompt, take such a line, show what stands in the second column, and run it;
`ctrsh ctr --show …` and `:ctr ?…` only show it. Flags stand where ctr takes them. The rules of scripts hold: what a line does
is asked for with `--allow`, and `--dry-run` changes nothing. A line that waits for a process (`run`, `tasks exec`, `tasks start`,
`tasks attach`) ends with its exit status, any other one with ctrsh's own.

Such a process has ctrsh's input, output and error output, byte by byte as with ctr, and nothing else is written there; only where the error
output is a terminal the line in the script language stands there first. The signals that ctrsh gets are the process's: `SIGINT`,
`SIGTERM`, `SIGHUP`, `SIGQUIT`, `SIGUSR1`, `SIGUSR2` and `SIGALRM`. At the third `SIGINT` in a row, each within a second, it is killed; one that
was attached to is left. When nobody reads the output any more it is killed, `--rm` removes its container, and the status is 141.

Some things are as ctrsh has them, not as ctr has them. A short name is a full one: `busybox` is
`docker.io/library/busybox:latest`. Of several names each is done whichever fails, where ctr goes on too; the status is
then as with ctr, which takes an image, a blob or a namespace that is not there for removed. A list that is not
asked for with `--quiet` is a table, or JSON with `--json`. What ctr says nothing of is silent here too, and what it prints as JSON
for programs (`containers info`, `snapshots info`, `info`, `tasks metrics`, `oci spec`) has its keys. Lists, and what a command gives, go to standard output; the line in
the script language and all remarks to standard error. A password in `--user` is not part of the line that is shown.

The tests: `parity::…` does the same with ctr and with ctrsh and compares what the daemon has then; `ctr::forms` translates the
line and checks the result as `ctrsh check` does.

Before the command:

| ctr | ctrsh |
|---|---|
| `--address`, `-a`, `CONTAINERD_ADDRESS` | `ctrsh --address`; at the prompt `connect(ADDRESS)` |
| `--namespace`, `-n`, `CONTAINERD_NAMESPACE` | `namespace(NAME)`, for the line alone |
| `--timeout`, `--connect-timeout` | the same flags of ctrsh |
| `--debug` | `ctrsh --log debug` |
";

/// Writes the page.
#[must_use]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let mut headings: Vec<&str> = Vec::new();
    for command in commands() {
        let heading = heading(command);
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    for group in headings {
        let _ = write!(text, "\n## {group}\n\n| ctr | tier | ctrsh | test |\n|---|---|---|---|\n");
        for row in rows().filter(|row| heading(row.command) == group) {
            let line = code(&format!("ctr {}", row.line().join(" ")));
            let _ = writeln!(text, "| {line} | {} | {} | {} |", row.tier().as_str(), form(&row), code(&row.test()));
        }
    }
    text
}

/// Returns the first word of a command.
fn heading(command: &Command) -> &'static str {
    command.group.split(' ').next().filter(|word| !word.is_empty()).unwrap_or(command.names[0])
}

/// Writes code for a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn form(row: &Row) -> String {
    let note = match row.flag.map(|flag| flag.form) {
        Some(Form::Other(note)) => format!(": {note}"),
        None if !row.command.note.is_empty() => format!(": {}", row.command.note),
        _ => String::new(),
    };
    match translate(&row.line()) {
        Ok(Line::Steps(steps)) => {
            steps.text().lines().map(code).collect::<Vec<_>>().join("<br>") + note.replace('|', "\\|").as_str()
        }
        Ok(Line::Help(_)) => String::new(),
        Err(error) => {
            let hint = crate::kind::Failure::hint(&error).unwrap_or_default();
            format!("not done: {}", hint.replace('|', "\\|"))
        }
    }
}
