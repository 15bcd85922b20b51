//! `:exec`, `:run`, `:start`, `:attach` and lines of ctr with `-t`: a process in a container gets this terminal.

use std::sync::Arc;

use super::style::Role;
use super::{Shell, status};
use crate::oci::spec::ConsoleSize;
use crate::ops::container::{
    self, Create, CreateOptions, DetachKeys, ExecOptions, Parted, Seat, discard, exec_terminal, start_terminal,
};
use crate::ops::{self, Context, execute};

/// What runs in a container when nothing is named.
const SHELL: &str = "sh";

/// Gives up when the program is told to end; Ctrl-C is a key like any other here.
async fn until_stopped(ctx: &Context, work: impl Future<Output = ops::Result<Parted>>) -> ops::Result<Parted> {
    tokio::select! {
        result = work => result,
        () = ctx.grant().cancel().cancelled() => Err(ops::Error::Cancelled),
    }
}

/// Runs a container with a terminal, and removes it unless it was left.
async fn run(
    ctx: &Context,
    seat: &dyn Seat,
    size: ConsoleSize,
    id: &str,
    image: &str,
    command: Vec<String>,
) -> ops::Result<Parted> {
    let mut options = CreateOptions::default();
    options.spec.tty = true;
    options.spec.command = Some(command).filter(|command| !command.is_empty());
    execute(ctx, Create::new(id, image, options)).await?;
    let keys = DetachKeys::default();
    let sitting = Box::pin(async { seat.sit(start_terminal(ctx, id, size, None).await?, &keys).await });
    let parted = until_stopped(ctx, sitting).await;
    if matches!(parted, Ok(Parted::Left)) {
        return parted;
    }
    // What was interrupted is taken back first, or it would hold the container.
    ctx.settle().await;
    let removed = discard(&ctx.with_cancel(Default::default()), id).await;
    let parted = parted?;
    removed?;
    Ok(parted)
}

impl Shell {
    /// Carries out `:exec ID [COMMAND…]`.
    pub(super) fn exec_here(&mut self, argument: &str) {
        let Some((id, mut command)) = self.words(argument, "exec ID [COMMAND]") else { return };
        if command.is_empty() {
            command.push(SHELL.to_owned());
        }
        // The exit status is the prompt's to show, and was.
        let _ = self.exec_attached(&id, &command, &ExecOptions::default());
    }

    /// Carries out `:start ID`.
    pub(super) fn start_here(&mut self, argument: &str) {
        let Some((id, _)) = self.words(argument, "start ID") else { return };
        let _ = self.start_attached(&id);
    }

    /// Carries out `:attach ID`.
    pub(super) fn attach_here(&mut self, argument: &str) {
        let Some((id, _)) = self.words(argument, "attach ID") else { return };
        let keys = DetachKeys::default();
        let _ = self.attach(async |ctx, seat, _| {
            let sitting = Box::pin(async { seat.sit(container::attach(ctx, &id, "").await?, &keys).await });
            until_stopped(ctx, sitting).await
        });
    }

    /// Carries out `:run IMAGE [COMMAND…]`.
    pub(super) fn run_here(&mut self, argument: &str) {
        let Some((image, command)) = self.words(argument, "run IMAGE [COMMAND]") else { return };
        let id = format!("run-{:016x}", rand::random::<u64>());
        let parted = self.attach(async |ctx, seat, size| Box::pin(run(ctx, seat, size, &id, &image, command)).await);
        if matches!(parted, Ok(Parted::Left)) {
            self.tell_stays(&id);
        }
    }

    /// Starts a container that was made with a terminal, with this one; returns how it was parted from, or the exit status
    /// that ctrsh would set.
    pub(super) fn start_attached(&mut self, id: &str) -> Result<Parted, u8> {
        let keys = DetachKeys::default();
        self.attach(async |ctx, seat, size| {
            let sitting = Box::pin(async { seat.sit(start_terminal(ctx, id, size, None).await?, &keys).await });
            until_stopped(ctx, sitting).await
        })
    }

    /// Runs a command in a container with this terminal; returns as [`start_attached`](Self::start_attached) does.
    pub(super) fn exec_attached(&mut self, id: &str, command: &[String], options: &ExecOptions) -> Result<Parted, u8> {
        let keys = DetachKeys::default();
        self.attach(async |ctx, seat, size| {
            let executing = exec_terminal(ctx, id, command.to_vec(), options, size);
            let sitting = Box::pin(async { seat.sit(executing.await?, &keys).await });
            until_stopped(ctx, sitting).await
        })
    }

    /// Says that a container which would have been removed at its end stays, as it was left.
    pub(super) fn tell_stays(&self, id: &str) {
        let text = format!("the container stays too; delete(\"{id}\", #{{ force: true }}) ends and removes it");
        self.screen.remark(Role::Note, "note", &text);
    }

    /// Splits a line as a shell does. `-t` and `-it`, which hands are used to, say what is done anyway.
    fn words(&self, argument: &str, usage: &str) -> Option<(String, Vec<String>)> {
        let Some(words) = shlex::split(argument) else {
            self.screen.remark(Role::Error, "error", "the line has a quote that does not end");
            self.screen.hint(&format!("it takes :{usage}, quoted as in a shell"));
            return None;
        };
        let mut words = words.into_iter();
        let first = words.find(|word| !matches!(word.as_str(), "-t" | "-i" | "-it" | "-ti" | "--tty"));
        if first.is_none() {
            self.screen.remark(Role::Error, "error", &format!("it takes :{usage}, quoted as in a shell"));
        }
        Some((first?, words.collect()))
    }

    /// Returns whether there is a terminal to give away, or nothing would be given away; tells when there is none.
    pub(super) fn has_seat(&self) -> Result<ConsoleSize, u8> {
        if self.interpreter.session().context().is_dry_run() {
            return Ok(ConsoleSize::default());
        }
        self.screen.window().map_err(|error| {
            self.screen.failure(&error);
            status::of_operation(&error)
        })
    }

    fn attach(
        &mut self,
        work: impl AsyncFnOnce(&Context, &dyn Seat, ConsoleSize) -> ops::Result<Parted>,
    ) -> Result<Parted, u8> {
        let size = self.has_seat()?;
        if self.interpreter.session().context().is_dry_run() {
            self.screen.remark(Role::Note, "note", "a dry run starts nothing that a terminal could be given to");
            return Ok(Parted::Ended(0));
        }
        let cancel = self.interrupt.begin();
        let ctx = self.interpreter.session().context().with_cancel(cancel);
        let screen = Arc::clone(&self.screen);
        let result = self.runtime.block_on(async {
            let result = work(&ctx, &*screen, size).await;
            // Only now is a process that was given up dropped, and can be taken back.
            ctx.settle().await;
            result
        });
        self.interrupt.end();
        match &result {
            Ok(Parted::Ended(code)) if *code != 0 => {
                self.screen.remark(Role::Note, "ended", &format!("with exit status {code}"));
            }
            Ok(_) => {}
            Err(error) => self.screen.failure(error),
        }
        result.map_err(|error| status::of_operation(&error))
    }
}
