//! `ctrsh sandbox`: a throw-away containerd and registry around a prompt or a script.

use std::sync::Arc;

use super::args;
use super::run::Error;
use crate::kind::Failure;
use crate::sandbox::{Options, Sandbox};
use crate::shell::style::Role;
use crate::shell::{Interrupt, Screen, status};

/// Starts a sandbox that ends with the program, however the program ends.
///
/// Gives the exit status instead when the user stopped it meanwhile.
pub(super) fn start(
    flags: &args::Sandbox,
    interrupt: &Arc<Interrupt>,
    screen: &Arc<Screen>,
) -> Result<Result<Arc<Sandbox>, u8>, Error> {
    let mut options = Options::new(std::env::temp_dir());
    options.containerd.clone_from(&flags.containerd);
    options.cri = flags.cri;
    if !flags.no_registry {
        options = options.with_registry_if_installed();
    }
    // While daemons start a signal is only remembered, so that none of them is left.
    interrupt.begin();
    let started = Sandbox::start(&options);
    let why = interrupt.end();
    let sandbox = Arc::new(started?);
    for stale in sandbox.stale() {
        let folder = stale.folder.display();
        match &stale.error {
            None => screen.remark(Role::Note, "note", &format!("cleaned what a killed sandbox had left in {folder}")),
            Some(error) => {
                screen.remark(Role::Warning, "warning", &format!("{folder} of a killed sandbox is left: {error}"));
                if let Some(hint) = error.hint() {
                    screen.hint(&hint);
                }
            }
        }
    }
    let (ending, told) = (Arc::clone(&sandbox), Arc::clone(screen));
    interrupt.before_exit(move || {
        if let Err(error) = ending.stop() {
            told.failure(&error);
        }
    });
    interrupt.begin_anew();
    match why {
        Some(why) => Ok(Err(status::of_stop(why))),
        None => Ok(Ok(sandbox)),
    }
}
