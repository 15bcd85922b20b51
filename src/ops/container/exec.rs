//! `exec`: runs a command in a running container and captures what it writes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::rootfs::user_files;
use super::start::{Detached, rootfs};
use super::streams::{self, Inherited};
use super::terminal::{Window, lost, outlasting_a_restart};
use super::{
    CAPTURE_LIMIT, Finished, KILL_PATIENCE, LINGER, Signal, Snapshot, failure, get::not_running, reaching, snapshot,
};
use crate::containerd::containers::Container;
use crate::containerd::io::{LogTarget, Output, Pipes, Shape, hold};
use crate::containerd::tasks::{Exit, Status, Stdio};
use crate::containerd::{Client, identifier};
use crate::grant::Access;
use crate::oci::spec::{Process, UserFiles, resolve_user};
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// How a command is run.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// The id of the process; none makes one up.
    pub exec_id: Option<String>,
    /// Where it starts; none for the container's own folder.
    pub cwd: Option<String>,
    /// Environment over the container's: `NAME=value` sets, `NAME` unsets.
    pub env: Vec<String>,
    /// Who it runs as: `name|uid[:group|gid]`; none for the container's own user.
    pub user: Option<String>,
    /// What it reads; none gives it no input.
    pub stdin: Option<Vec<u8>>,
    /// When it is killed.
    pub timeout: Option<Duration>,
    /// How many bytes of each output are kept; none for 16 MiB.
    pub limit: Option<usize>,
    /// Where the output of a detached one goes; none for nowhere.
    pub log: Option<LogTarget>,
    /// A folder for the FIFOs of a detached one.
    pub fifo_dir: Option<PathBuf>,
    /// Whether a detached one gets a terminal, which can be attached to.
    pub tty: bool,
    /// Gives it the program's own streams where `log` and `fifo_dir` say nothing else.
    pub inherit: bool,
}

/// Runs a command in a running container.
#[derive(Debug)]
pub struct Exec {
    id: String,
    args: Vec<String>,
    options: ExecOptions,
    found: Option<Snapshot>,
}

impl Exec {
    /// Runs this command line in the container with this id.
    #[must_use]
    pub fn new(id: &str, args: Vec<String>, options: ExecOptions) -> Self {
        Self { id: id.to_owned(), args, options, found: None }
    }
}

#[async_trait]
impl Operation for Exec {
    type Output = Finished;
    const NAME: &'static str = "exec";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Finished>> {
        let (found, mut plan) = plan_exec(ctx, &self.id, &self.args, &self.options).await?;
        if self.options.inherit {
            streams::check(ctx)?;
            let (log, folder) = (self.options.log.as_ref(), self.options.fifo_dir.as_deref());
            plan = super::start::output_steps(plan, ctx, &self.id, log, folder);
        }
        self.found = Some(found);
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Finished> {
        let Self { id, args, options, found } = self;
        let found = found.ok_or_else(|| not_running(&id))?;
        let client = ctx.client().await?;
        let process = process(&client, &found.container, args, &options, false).await?;
        let ExecId { exec_id, is_own } = ExecId::of(&options);
        if options.inherit {
            let output = Inherited::open(ctx, &exec_id, options.log.as_ref(), options.fifo_dir.as_deref())?;
            let mut undo = Undo::new(ctx.debts());
            create_exec(&client, &id, &exec_id, is_own, process, output.stdio(), &mut undo).await?;
            let ended = client.tasks().waiting(&id, &exec_id).await;
            let began = Instant::now();
            start_exec(&client, &id, &exec_id, output.stdio(), &mut undo).await?;
            let passed = output.pass(ctx, &client, &id, &exec_id, ended).await?;
            let duration = began.elapsed();
            delete_exec(&client, &id, &exec_id).await?;
            undo.forget();
            return Ok(Finished { container: id, code: passed.exit()?.code, duration, ..Finished::default() });
        }
        let shape = Shape::Apart { stdin: options.stdin.is_some() };
        let pipes = open_pipes(ctx, &exec_id, shape)?;
        let mut undo = Undo::new(ctx.debts());
        create_exec(&client, &id, &exec_id, is_own, process, pipes.stdio(), &mut undo).await?;
        let ended = client.tasks().waiting(&id, &exec_id).await;
        let began = Instant::now();
        start_exec(&client, &id, &exec_id, pipes.stdio(), &mut undo).await?;
        let capture = Capture {
            client: &client,
            id: &id,
            exec_id: &exec_id,
            stdin: options.stdin,
            timeout: options.timeout,
            limit: options.limit.unwrap_or(CAPTURE_LIMIT),
        };
        let (exit, output) = capture.run(pipes, ended).await?;
        let duration = began.elapsed();
        delete_exec(&client, &id, &exec_id).await?;
        undo.forget();
        Ok(Finished { container: id, code: exit.code, output, duration })
    }
}

/// Starts a command in a running container, which goes on by itself.
///
/// It is there until it is deleted, also when it has ended: so that its exit status can be asked for.
#[derive(Debug)]
pub struct ExecDetached {
    id: String,
    args: Vec<String>,
    options: ExecOptions,
    exec_id: Option<ExecId>,
    found: Option<Snapshot>,
}

impl ExecDetached {
    /// Starts this command line in the container with this id.
    #[must_use]
    pub fn new(id: &str, args: Vec<String>, options: ExecOptions) -> Self {
        Self { id: id.to_owned(), args, options, exec_id: None, found: None }
    }
}

#[async_trait]
impl Operation for ExecDetached {
    /// The id of the process.
    type Output = String;
    const NAME: &'static str = "exec";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<String>> {
        let ExecOptions { log, fifo_dir, tty, stdin, timeout, .. } = self.options.clone();
        if stdin.is_some() || timeout.is_some() {
            return Err(Error::argument("stdin and timeout", "are for a command that is waited for; leave detach out"));
        }
        super::start::check_detached(log.as_ref(), fifo_dir.as_deref(), tty)?;
        let (found, plan) = plan_exec(ctx, &self.id, &self.args, &self.options).await?;
        self.found = Some(found);
        let plan = super::start::output_steps(plan, ctx, &self.id, log.as_ref(), fifo_dir.as_deref());
        let chosen = self.exec_id.insert(ExecId::of(&self.options));
        Ok(plan.returning(chosen.exec_id.clone()))
    }

    async fn apply(self, ctx: &Context) -> Result<String> {
        let Self { id, args, options, exec_id: chosen, found } = self;
        let found = found.ok_or_else(|| not_running(&id))?;
        let client = ctx.client().await?;
        let process = process(&client, &found.container, args, &options, options.tty).await?;
        let ExecId { exec_id, is_own } = chosen.unwrap_or_else(|| ExecId::of(&options));
        let log = options.log.or_else(|| (options.fifo_dir.is_none() && !options.tty).then_some(LogTarget::Null));
        let output = Detached::choose(ctx, &exec_id, log.as_ref(), options.fifo_dir.as_deref(), options.tty)?;
        let mut undo = Undo::new(ctx.debts());
        let stdio = output.stdio(options.tty);
        create_exec(&client, &id, &exec_id, is_own, process, &stdio, &mut undo).await?;
        start_exec(&client, &id, &exec_id, &stdio, &mut undo).await?;
        undo.forget();
        output.leave();
        Ok(exec_id)
    }
}

/// Plans a command, for the captured and the interactive kind alike.
pub(super) async fn plan_exec(
    ctx: &Context,
    id: &str,
    args: &[String],
    options: &ExecOptions,
) -> Result<(Snapshot, Plan<Finished>)> {
    if args.is_empty() {
        return Err(Error::argument("args", "are empty; give a program and its arguments"));
    }
    if let Some(exec_id) = &options.exec_id {
        identifier::check("exec id", exec_id)?;
    }
    let found = snapshot(ctx, id).await?;
    match found.task.as_ref().map(|task| task.status) {
        Some(Status::Running) => {}
        Some(Status::Paused | Status::Pausing) => {
            return Err(Error::Conflict {
                what: "container",
                name: id.to_owned(),
                state: "is paused".into(),
                cure: Some(format!("resume(\"{id}\") lets it run on")),
            });
        }
        _ => return Err(not_running(id)),
    }
    let preview = Finished { container: id.to_owned(), ..Finished::default() };
    let plan =
        Plan::new(preview).step(Access::Run, ctx.target(), format!("execute {} in container {id}", args.join(" ")));
    let plan = reaching(plan, ctx, &found.container, |reason| format!("execute in container {id}, which {reason}"));
    Ok((found, plan))
}

/// Makes the process from the container's own.
pub(super) async fn process(
    client: &Client,
    container: &Container,
    args: Vec<String>,
    options: &ExecOptions,
    terminal: bool,
) -> Result<Process> {
    let mut process = container.spec.as_ref().and_then(|spec| spec.process.clone()).unwrap_or_default();
    process.args = args;
    process.terminal = terminal;
    // The container's own, of whenever it was made.
    process.console_size = None;
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    crate::oci::spec::overlay_env(&mut process.env, &options.env);
    if terminal && !process.env.iter().any(|entry| entry.starts_with("TERM=")) {
        process.env.push("TERM=xterm".to_owned());
    }
    if let Some(user) = &options.user {
        let mounts = rootfs(client, container).await?;
        let users = tokio::task::spawn_blocking(move || user_files(&mounts))
            .await
            .unwrap_or_else(|error| UserFiles::Unreadable(error.to_string()));
        process.user = resolve_user(user, &users)?;
    }
    Ok(process)
}

/// What a process is called.
#[derive(Debug)]
pub(super) struct ExecId {
    pub(super) exec_id: String,
    /// Whether the name was made up here, so that nobody else has it.
    pub(super) is_own: bool,
}

impl ExecId {
    /// Takes the name that was given, or makes one up.
    pub(super) fn of(options: &ExecOptions) -> Self {
        let made_up = || format!("exec-{:016x}", rand::random::<u64>());
        Self { exec_id: options.exec_id.clone().unwrap_or_else(made_up), is_own: options.exec_id.is_none() }
    }
}

pub(super) fn open_pipes(ctx: &Context, name: &str, shape: Shape) -> Result<Pipes> {
    let run_dir = &ctx.settings().run_dir;
    Pipes::open(run_dir, name, shape).map_err(|source| Error::File {
        attempted: "make FIFOs in",
        path: run_dir.display().to_string(),
        source,
    })
}

/// Makes the process in the container, and sees to it that it goes again if the operation does not get through.
///
/// Without a clear answer it may be there all the same. It is taken for ours then only when its name is: under one that was given
/// it may be somebody else's.
pub(super) async fn create_exec(
    client: &Client,
    id: &str,
    exec_id: &str,
    is_own: bool,
    process: Process,
    stdio: &Stdio,
    undo: &mut Undo,
) -> Result<()> {
    let (maker, stdio) = (client.tasks(), stdio.clone());
    let (of, name) = (id.to_owned(), exec_id.to_owned());
    let step = async move {
        match maker.exec(&of, &name, &process, &stdio).await {
            Err(error) if !is_own || error.is_already_exists() => Err(error),
            made => Ok(made),
        }
    };
    let (tasks, of, name) = (client.undoing().tasks(), id.to_owned(), exec_id.to_owned());
    let back = async move {
        let ended = tasks.waiting(&of, &name).await;
        let killed = tasks.kill(&of, &name, Signal::KILL.number(), false).await;
        // One that has ended just now is not found before the shim knows that it may be deleted.
        if killed.as_ref().err().is_none_or(crate::containerd::Error::is_not_found) {
            let _ = tokio::time::timeout(KILL_PATIENCE, ended).await;
        }
        tasks.delete_exec(&of, &name).await
    };
    match undo.step(format!("process {exec_id} of container {id}"), step, back).await? {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) | Err(error) => Err(failure::of_exec(client, id, error).await),
    }
}

/// Starts the process.
///
/// The request is never cut off, the FIFOs stay as long as it runs, and what makes up for it waits a while for its answer: a
/// process that the shim starts after it was deleted, or without its FIFOs, runs on, and nobody knows it.
pub(super) async fn start_exec(
    client: &Client,
    id: &str,
    exec_id: &str,
    stdio: &Stdio,
    undo: &mut Undo,
) -> Result<u32> {
    let (under_way, answered) = oneshot::channel::<()>();
    undo.push(format!("the start of process {exec_id} of container {id}"), async move {
        // A kill waits in the shim for a start that takes longer.
        let _ = tokio::time::timeout(KILL_PATIENCE, answered).await;
    });
    let (tasks, of, name, held) = (client.tasks(), id.to_owned(), exec_id.to_owned(), hold(stdio));
    let starting = tokio::spawn(async move {
        let started = tasks.start(&of, &name).await;
        drop((held, under_way));
        started
    });
    match starting.await? {
        Ok(pid) => Ok(pid),
        Err(error) => Err(failure::of_exec(client, id, error).await),
    }
}

/// Deletes a process that has ended, with no more access than executing it needed.
async fn delete_exec(client: &Client, id: &str, exec_id: &str) -> Result<()> {
    match client.undoing().tasks().delete_exec(id, exec_id).await {
        // Somebody was quicker, as whoever deleted the container.
        Err(error) if error.is_not_found() => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// Follows a started process to its end.
pub(super) struct Capture<'a> {
    pub(super) client: &'a Client,
    pub(super) id: &'a str,
    pub(super) exec_id: &'a str,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) timeout: Option<Duration>,
    pub(super) limit: usize,
}

impl Capture<'_> {
    /// Feeds the input, reads the outputs, and waits. Killing at the timeout is left to taking back.
    pub(super) async fn run(
        self,
        mut pipes: Pipes,
        ended: BoxFuture<'static, crate::containerd::Result<Exit>>,
    ) -> Result<(Exit, Output)> {
        let (id, exec_id) = (self.id.to_owned(), self.exec_id.to_owned());
        let ended = outlasting_a_restart(ended, self.client.tasks(), id, exec_id);
        let stdin = pipes.take_stdin();
        let mut output = Output::default();
        let exit = {
            let feed = async {
                if let (Some(mut pipe), Some(bytes)) = (stdin, &self.stdin) {
                    // A program that does not read to the end is none the worse.
                    let _ = pipe.write_all(bytes).await;
                    drop(pipe);
                    Window::of(self.client, self.id, self.exec_id).end_input().await;
                }
            };
            let read = pipes.collect(&mut output, self.limit);
            let limit = async {
                match self.timeout {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(ended, feed, read, limit);
            let (mut fed, mut drained) = (false, false);
            let exit = loop {
                tokio::select! {
                    exit = &mut ended => break Some(exit.map_err(|error| lost(error, self.id, self.exec_id))?),
                    () = &mut feed, if !fed => fed = true,
                    result = &mut read, if !drained => {
                        result.map_err(unreadable)?;
                        drained = true;
                    }
                    () = &mut limit => break None,
                }
            };
            // What the process started may hold the outputs open for as long as it likes.
            if exit.is_some()
                && !drained
                && let Ok(result) = tokio::time::timeout(LINGER, read).await
            {
                result.map_err(unreadable)?;
            }
            exit
        };
        match (exit, self.timeout) {
            (Some(exit), _) => Ok((exit, output)),
            (None, limit) => Err(Error::Overdue {
                container: self.id.to_owned(),
                limit: limit.unwrap_or_default(),
                output: Box::new(output),
            }),
        }
    }
}

fn unreadable(source: std::io::Error) -> Error {
    Error::File { attempted: "read", path: "the output FIFOs".to_owned(), source }
}
