//! `run`: makes a container, starts it, and unless detached waits for its end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::exec::{Capture, open_pipes};
use super::start::{Detached, check_detached, create_task, delete_task, output_steps, pid_steps, running, write_pid};
use super::streams::{self, Inherited, Passed};
use super::{CAPTURE_LIMIT, Create, CreateOptions, Finished, Snapshot};
use crate::containerd::containers::Container;
use crate::containerd::io::{LogTarget, Output, Pipes, Shape};
use crate::containerd::tasks::{Stdio, Task};
use crate::grant::Access;
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// How a container is run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Its id; none makes one up.
    pub id: Option<String>,
    /// How it is made.
    pub create: CreateOptions,
    /// Returns as soon as it was started; its output goes to a log.
    pub detach: bool,
    /// Removes it when it has ended. None removes one whose id was made up.
    pub rm: Option<bool>,
    /// Where the output of a detached one goes; none for a file of its own below the log folder.
    pub log: Option<LogTarget>,
    /// A folder for the FIFOs of a detached one, in place of a log.
    pub fifo_dir: Option<PathBuf>,
    /// A file to write the process's number to.
    pub pid_file: Option<PathBuf>,
    /// Whether someone is there to be connected with its terminal; who says so starts it himself.
    pub seated: bool,
    /// Gives it the program's own streams where `log` and `fifo_dir` say nothing else, and deletes the task when it has ended.
    pub inherit: bool,
    /// What it reads; none gives it no input.
    pub stdin: Option<Vec<u8>>,
    /// When it is killed and taken back.
    pub timeout: Option<Duration>,
    /// How many bytes of each output are kept; none for 16 MiB.
    pub limit: Option<usize>,
}

/// Makes and starts a container. When any step fails, nothing of it is left.
#[derive(Debug)]
pub struct Run {
    create: Create,
    options: RunOptions,
    rm: bool,
}

/// What a run gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// The container, which is gone by now if it was to be removed.
    pub container: Container,
    /// Its task, when it was detached.
    pub task: Option<Task>,
    /// How it ended, when it was waited for.
    pub finished: Option<Finished>,
}

impl Run {
    /// Runs a container of this image.
    #[must_use]
    pub fn new(image: &str, options: RunOptions) -> Self {
        let rm = options.rm.unwrap_or(options.id.is_none() && !options.detach);
        let id = options.id.clone().unwrap_or_else(|| format!("run-{:016x}", rand::random::<u64>()));
        Self { create: Create::new(&id, image, options.create.clone()), options, rm }
    }
}

#[async_trait]
impl Operation for Run {
    type Output = Ran;
    const NAME: &'static str = "run";

    fn subject(&self) -> String {
        self.create.id().to_owned()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Ran>> {
        if self.rm && self.options.detach {
            return Err(Error::argument("rm", "and 'detach' cannot both be given: nobody would be there to remove it"));
        }
        let RunOptions { detach, log, fifo_dir, pid_file, .. } = &self.options;
        let tty = self.options.create.spec.tty;
        if tty && !detach && !self.options.seated {
            return Err(Error::Argument {
                name: "tty".to_owned(),
                problem: "needs someone at a terminal, and this program has none".to_owned(),
                cure: Some("give detach too, and attach later".to_owned()),
            });
        }
        if self.options.inherit {
            streams::check(ctx)?;
        }
        if *detach || self.options.inherit {
            check_detached(log.as_ref(), fifo_dir.as_deref(), tty)?;
        } else if log.is_some() || fifo_dir.is_some() {
            return Err(Error::argument(
                "log_uri, null_io and fifo_dir",
                "are for one that is detached; give detach too, or stdio of inherit",
            ));
        }
        let made = self.create.plan(ctx).await?;
        let id = self.create.id().to_owned();
        let finished = (!self.options.detach).then(|| Finished { container: id.clone(), ..Finished::default() });
        let stdio = log.as_ref().map(LogTarget::stdio).unwrap_or_default();
        let task = self.options.detach.then(|| running(&id, &stdio));
        let mut plan = Plan {
            steps: made.steps,
            preview: Ran { container: made.preview, task: task.clone(), finished },
            effects: if self.rm { Vec::new() } else { made.effects },
        };
        plan = plan.step(Access::Run, ctx.target(), format!("start container {id}"));
        plan = output_steps(plan, ctx, &id, log.as_ref(), fifo_dir.as_deref());
        plan = pid_steps(plan, ctx, pid_file.as_deref());
        if let Some(task) = task {
            plan = plan.effect(Effect::exists(&ctx.place_name(), &id, task));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Ran> {
        let Self { create, options, rm } = self;
        let id = create.id().to_owned();
        let client = ctx.client().await?;
        let container = create.apply(ctx).await?;
        // Nothing is waited for in between: whoever drops this there would leave a container that nobody takes back.
        let mut undo = Undo::new(ctx.debts());
        let Container { snapshotter, snapshot_key: key, .. } = container.clone();
        if !key.is_empty() {
            let undoing = client.undoing().snapshots(&snapshotter);
            undo.push(format!("snapshot {key} of {snapshotter}"), async move { undoing.remove(&key).await });
        }
        let (undoing, gone) = (client.undoing().containers(), id.clone());
        undo.push(format!("container {id}"), async move { undoing.delete(&gone).await });
        let found = Snapshot { container, task: None };
        if options.detach {
            let terminal = options.create.spec.tty;
            let output = Detached::choose(ctx, &id, options.log.as_ref(), options.fifo_dir.as_deref(), terminal)?;
            let stdio = output.stdio(terminal);
            create_task(&client, &found, &stdio, &mut undo).await?;
            let pid = client.tasks().start(&id, "").await?;
            if let Some(path) = &options.pid_file {
                write_pid(path, pid)?;
            }
            undo.forget();
            output.leave();
            let task = Task { pid, ..running(&id, &stdio) };
            return Ok(Ran { container: found.container, task: Some(task), finished: None });
        }
        let io = if options.inherit {
            Io::Inherited(Inherited::open(ctx, &id, options.log.as_ref(), options.fifo_dir.as_deref())?)
        } else {
            Io::Captured(open_pipes(ctx, &id, Shape::Apart { stdin: options.stdin.is_some() })?)
        };
        create_task(&client, &found, io.stdio(), &mut undo).await?;
        let ended = client.tasks().waiting(&id, "").await;
        let began = Instant::now();
        let pid = client.tasks().start(&id, "").await?;
        if let Some(path) = &options.pid_file {
            write_pid(path, pid)?;
        }
        let (passed, output) = match io {
            Io::Inherited(output) => (output.pass(ctx, &client, &id, "", ended).await?, Output::default()),
            Io::Captured(pipes) => {
                let capture = Capture {
                    client: &client,
                    id: &id,
                    exec_id: "",
                    stdin: options.stdin,
                    timeout: options.timeout,
                    limit: options.limit.unwrap_or(CAPTURE_LIMIT),
                };
                let (exit, output) = capture.run(pipes, ended).await?;
                (Passed { exit, closed: false }, output)
            }
        };
        let finished = Finished { container: id.clone(), code: passed.exit.code, output, duration: began.elapsed() };
        if options.inherit && !rm {
            delete_task(&client, &id).await?;
        }
        if rm {
            // What the undo would do, but told when it fails.
            delete_task(&client, &id).await?;
            if let Some(container) = now(&client, &id).await? {
                super::network::remove(ctx, &container).await;
            }
            match client.undoing().containers().delete(&id).await {
                // Somebody was quicker.
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
            if !found.container.snapshot_key.is_empty() {
                let snapshots = client.undoing().snapshots(&found.container.snapshotter);
                // Nothing refers to it once the record is gone, so the daemon's collector may have been quicker.
                match snapshots.remove(&found.container.snapshot_key).await {
                    Err(error) if error.is_not_found() => {}
                    other => other?,
                }
            }
        }
        undo.forget();
        passed.exit()?;
        Ok(Ran { container: found.container, task: None, finished: Some(finished) })
    }
}

/// Where the input and output of one that is waited for go.
enum Io {
    /// To this program's own.
    Inherited(Inherited),
    /// Into memory.
    Captured(Pipes),
}

impl Io {
    fn stdio(&self) -> &Stdio {
        match self {
            Self::Inherited(inherited) => inherited.stdio(),
            Self::Captured(pipes) => pipes.stdio(),
        }
    }
}

/// Reads the record anew: what it keeps of its network was written when that was made.
async fn now(client: &crate::containerd::Client, id: &str) -> Result<Option<Container>> {
    match client.undoing().containers().get(id).await {
        Ok(container) => Ok(Some(container)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
