//! What `ctrsh ctr --help` shows.

use std::fmt::Write as _;

use super::table::{Command, Flag, Form, GLOBALS, GROUPS, commands, group_flags};

const ABOUT: &str = "\
ctrsh ctr [--show] [FLAGS] COMMAND …

Takes a command line of ctr, shows it in the script language and runs that.
--show only shows it. The exit status is ctrsh's.
";

/// Says which ctr this is.
pub(super) fn version() -> String {
    format!("ctrsh {}, which takes the command lines of ctr 1.6, 1.7 and 2.1\n", env!("CARGO_PKG_VERSION"))
}

/// Explains a group, or without one all of ctr.
pub(super) fn group(path: &str) -> String {
    let mut text = if path.is_empty() { ABOUT.to_owned() } else { format!("ctrsh ctr {path} COMMAND …\n") };
    text.push_str("\ncommands:\n");
    let below = commands().filter(|command| {
        let rest = command.group.strip_prefix(path);
        path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    });
    for command in below {
        let _ = writeln!(text, "  {} {}", command.path(), command.usage);
    }
    let flags = if path.is_empty() { GLOBALS } else { group_flags(path) };
    of_flags(&mut text, flags.iter());
    if let Some(group) = GROUPS.iter().find(|group| group.path() == path) {
        let _ = writeln!(text, "\nalso called {}", group.names.join(", "));
    }
    text
}

/// Explains a command.
pub(super) fn command(command: &Command) -> String {
    let mut text = format!("ctrsh ctr {} {}\n", command.path(), command.usage);
    if command.names.len() > 1 {
        let _ = writeln!(text, "\nalso called {}", command.names[1..].join(", "));
    }
    of_flags(&mut text, command.flags.iter().copied().flatten());
    if let Ok(super::Line::Steps(steps)) = super::translate(&command.line(None)) {
        let _ = writeln!(text, "\nctr {} is\n  {}", command.line(None).join(" "), steps.text().replace('\n', "\n  "));
    }
    text
}

fn of_flags<'a>(text: &mut String, flags: impl Iterator<Item = &'a Flag>) {
    let rows: Vec<(String, &str)> = flags
        .map(|flag| {
            let alias =
                if flag.alias.is_empty() { String::new() } else { format!(", {}", super::table::written(flag.alias)) };
            let value = flag.sample().map(|sample| format!(" {sample}")).unwrap_or_default();
            let note = match flag.form {
                Form::Option(_) | Form::Own => "",
                Form::Other(note) | Form::Refused(note) => note,
            };
            (format!("{}{alias}{value}", flag.written()), note)
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    text.push_str("\nflags:\n");
    let width = rows.iter().filter(|(_, note)| !note.is_empty()).map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, note) in rows {
        let _ = writeln!(text, "{}", format!("  {name:width$}  {note}").trim_end());
    }
}
