//! Lines of ctr: shown in the script language, and run.

use std::sync::Arc;

use super::style::Role;
use super::{Screen, Shell, Show, Source, escape, lex, status};
use crate::containerd::Endpoint;
use crate::ctr::{self, Line, Step, Steps};
use crate::ops::container::{ExecOptions, Parted};

/// Writes what a line of ctr is to standard output, and what there is to say of it to standard error.
pub fn show_line(screen: &Screen, steps: &Steps) {
    notes(screen, steps);
    screen.line(&shown(screen.is_terminal(), &steps.text()));
}

fn notes(screen: &Screen, steps: &Steps) {
    for note in &steps.notes {
        screen.remark(Role::Note, "note", note);
    }
}

fn shown(terminal: bool, text: &str) -> String {
    if terminal { escape::text(text).into_owned() } else { text.to_owned() }
}

/// Returns the exit status of ctrsh that tells another program's, as far as that fits, as ctr's does.
fn exit_status(code: u64) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

impl Shell {
    /// Shows a line of ctr on standard error and runs it; returns the exit status.
    pub fn ctr(&mut self, steps: &Steps) -> u8 {
        notes(&self.screen, steps);
        let text = shown(self.screen.err_is_terminal(), &steps.text());
        // An error output that somebody keeps is that of the process alone.
        if self.screen.err_is_terminal() || !steps.steps.iter().any(|step| matches!(step, Step::Process(_))) {
            self.screen.tell(&self.screen.err_palette().paint(Role::Faint, &text));
        }
        self.screen.set_secret(steps.secret.clone());
        let code = self.ctr_steps(&steps.steps);
        self.screen.set_secret(None);
        code
    }

    fn ctr_steps(&mut self, steps: &[Step]) -> u8 {
        // Before anything is made for a terminal that is not there.
        if steps.iter().any(|step| matches!(step, Step::Start { .. } | Step::Exec { .. }))
            && let Err(status) = self.has_seat()
        {
            return status;
        }
        let mut code = status::DONE;
        for (at, step) in steps.iter().enumerate() {
            match step {
                // What follows a container that could not be started is its removal; one that was left runs.
                Step::Start { id } => match self.start_attached(id) {
                    Ok(Parted::Left) => {
                        if at + 1 < steps.len() {
                            self.tell_stays(id);
                        }
                        return status::DONE;
                    }
                    Ok(Parted::Ended(ended)) => code = exit_status(ended.into()),
                    Err(status) => code = status,
                },
                Step::Exec { id, command, exec_id, cwd, user } => {
                    let options = ExecOptions {
                        exec_id: exec_id.clone(),
                        cwd: cwd.clone(),
                        user: user.clone(),
                        ..ExecOptions::default()
                    };
                    code = match self.exec_attached(id, command, &options) {
                        Ok(Parted::Ended(ended)) => exit_status(ended.into()),
                        Ok(Parted::Left) => status::DONE,
                        Err(status) => status,
                    };
                }
                Step::Script(text) | Step::Silent(text) | Step::Process(text) => {
                    // What a process gives is its output, and its exit status.
                    let show = if matches!(step, Step::Script(_)) { Show::Value } else { Show::Nothing };
                    let ended = self.run(&Source::input(text.as_str()), show);
                    if let Some(value) = ended.value {
                        if let (Step::Process(_), Ok(value)) = (step, self.interpreter.json(&value)) {
                            code = exit_status(value.as_u64().or_else(|| value["code"].as_u64()).unwrap_or(0));
                        }
                        self.interpreter.set(lex::LAST, value);
                    }
                    if ended.status != status::DONE || ended.exit {
                        return ended.status;
                    }
                }
            }
        }
        code
    }

    /// Carries out `:ctr COMMAND…` and `:ctr ?COMMAND…`.
    pub(super) fn ctr_here(&mut self, argument: &str) {
        let asked = argument.strip_prefix('?');
        let line = match shlex::split(asked.unwrap_or(argument)) {
            Some(words) => ctr::translate(&words),
            None => Err(ctr::Error::Quotes),
        };
        let steps = match line {
            Ok(Line::Steps(steps)) => steps,
            Ok(Line::Help(text)) => return self.screen.line(text.trim_end()),
            Err(error) => return self.screen.failure(&error),
        };
        if asked.is_some() {
            return show_line(&self.screen, &steps);
        }
        let session = Arc::clone(self.interpreter.session());
        let before = session.context();
        if let Some(address) = &steps.globals.address {
            let here = before.place().daemon.endpoint().to_string();
            if Endpoint::parse(address).map_or(true, |endpoint| endpoint.to_string() != here) {
                self.screen.remark(Role::Error, "error", &format!("this prompt is at {here}, not at {address}"));
                return self.screen.hint(&format!("ctrsh -a {address} begins one there"));
            }
        }
        if steps.globals.debug || steps.globals.connect_timeout.is_some() {
            let note = "--debug and --connect-timeout are said when ctrsh begins: --log debug, --connect-timeout";
            self.screen.remark(Role::Note, "note", note);
        }
        let timeout = self.timeout;
        if let Some(limit) = steps.globals.timeout {
            self.timeout = Some(limit).filter(|limit| !limit.is_zero());
        }
        self.ctr(&steps);
        self.timeout = timeout;
        // A namespace of the line is not one of the prompt.
        session.set_context(before);
    }
}
