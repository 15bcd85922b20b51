//! `ctrsh ctr`: a command line of ctr becomes a script.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::args::{Cli, Command};
use super::environment;
use super::run::{Choices, Error, Setting, listening, on_runtime, shell_for};
use crate::ctr::{self, Line};
use crate::shell::{self, Interrupt, Screen, status};

/// Translates the line, when there is one; what stands before ctr's command becomes flags of ctrsh.
pub(super) fn line(cli: &mut Cli) -> Option<ctr::Result<Line>> {
    let Some(Command::Ctr { words, markdown, .. }) = &cli.command else { return None };
    if *markdown {
        return Some(Ok(Line::Help(ctr::markdown())));
    }
    // A namespace that was named is part of what is shown.
    let named = cli.global.namespace.iter().flat_map(|name| ["-n", name]);
    let words: Vec<&str> = named.chain(words.iter().map(String::as_str)).collect();
    let line = ctr::translate(&words);
    if let Ok(Line::Steps(steps)) = &line {
        let globals = &steps.globals;
        // A script whose variable came out empty must not get to work on what it did not mean.
        for (name, flag, said) in [
            ("CONTAINERD_NAMESPACE", "--namespace", globals.namespace.is_some()),
            ("CONTAINERD_ADDRESS", "--address", globals.address.is_some() || cli.global.address.is_some()),
        ] {
            if !said && environment::variable(name).is_some_and(|value| value.is_empty()) {
                return Some(Err(ctr::Error::EmptyVariable { name, flag }));
            }
        }
        let duration = |duration: std::time::Duration| humantime::format_duration(duration).to_string();
        let flags = &mut cli.global;
        flags.address = flags.address.take().or_else(|| globals.address.clone());
        flags.timeout = flags.timeout.take().or_else(|| globals.timeout.map(duration));
        flags.connect_timeout = flags.connect_timeout.take().or_else(|| {
            // ctr has it that nothing is no limit, as its default; ctrsh then keeps its own.
            globals.connect_timeout.filter(|wait| !wait.is_zero()).map(duration)
        });
        if globals.debug && flags.log.is_none() {
            flags.log = Some("debug".into());
        }
    }
    Some(line)
}

/// Shows a line and runs it.
pub(super) fn carry_out(cli: &Cli, line: Line, choices: &Choices, screen: &Arc<Screen>) -> Result<u8, Error> {
    let steps = match line {
        Line::Help(text) => {
            screen.raw(&text);
            return Ok(status::DONE);
        }
        Line::Steps(steps) => steps,
    };
    if let Some(Command::Ctr { show: true, .. }) = &cli.command {
        shell::show_line(screen, &steps);
        return Ok(status::DONE);
    }
    on_runtime(|runtime| {
        let interrupt = Arc::new(Interrupt::new());
        let _cleaned = listening(&interrupt, runtime)?;
        let setting = Setting { runs: true, ..Setting::default() };
        let mut shell = ManuallyDrop::new(shell_for(cli, choices, screen, runtime, &interrupt, setting)?);
        Ok(shell.ctr(&steps))
    })
}
