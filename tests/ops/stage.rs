//! A namespace with an image, and a context to run operations in.

use std::path::PathBuf;
use std::sync::Arc;

use ctrsh::grant::{Allow, Grant};
use ctrsh::ops::policy::Unasked;
use ctrsh::ops::progress::{Progress, Silent};
use ctrsh::ops::{Context, Daemon, Operation, Place, Settings, Shared, execute};
use ctrsh::registry::Config;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::{Env, Kind, Leftovers};

/// The name of the image in the stage's namespace.
pub const IMAGE: &str = "example.test/busybox:1";

pub struct Stage {
    pub env: Env,
    pub ctx: Context,
    pub namespace: String,
    pub snapshotter: String,
    pub folder: PathBuf,
}

impl Stage {
    /// Makes a namespace with the test image, pulled and unpacked by ctr.
    pub fn new(env: &Env, area: &str) -> Self {
        Self::of(env, area, Kind::Busybox)
    }

    pub fn of(env: &Env, area: &str, kind: Kind) -> Self {
        let namespace = env.namespace(area);
        let folder = env.new_folder(area);
        let snapshotter = env.snapshotter();
        let pushed = env.pushed(kind, area);
        let arguments = ["-n", &namespace, "images", "pull", "--plain-http", "--snapshotter", &snapshotter, &pushed];
        env.ctr(&arguments).ok();
        env.ctr(&["-n", &namespace, "images", "tag", &pushed, IMAGE]).ok();
        let ctx = context(env, &namespace, &folder, Allow::all());
        Self { env: env.clone(), ctx, namespace, snapshotter, folder }
    }

    /// Makes an empty namespace.
    pub fn empty(env: &Env, area: &str) -> Self {
        Self::with_registry(env, area, Config::default())
    }

    /// Makes an empty namespace, with registries reached as configured.
    pub fn with_registry(env: &Env, area: &str, registry: Config) -> Self {
        let namespace = env.namespace(area);
        let folder = env.new_folder(area);
        let ctx = context_with(env, &namespace, &folder, Allow::all(), registry);
        Self { env: env.clone(), ctx, namespace, snapshotter: env.snapshotter(), folder }
    }

    /// Returns the stage's context under another grant.
    pub fn allowing(&self, allow: Allow) -> Context {
        context(&self.env, &self.namespace, &self.folder, allow)
    }

    /// Runs a change, and takes back what it left when it fails, as every caller of operations does.
    pub fn run<O: Operation>(&self, operation: O) -> ctrsh::ops::Result<O::Output> {
        self.run_in(&self.ctx, operation)
    }

    pub fn run_in<O: Operation>(&self, ctx: &Context, operation: O) -> ctrsh::ops::Result<O::Output> {
        self.env.block_on(async {
            let result = execute(ctx, operation).await;
            if result.is_err() {
                ctx.settle().await;
            }
            result
        })
    }

    /// Makes an interpreter that runs scripts in a context.
    pub fn interpreter(&self, ctx: &Context, sink: Arc<dyn ctrsh::script::Sink>) -> ctrsh::script::Interpreter {
        ctrsh::script::Interpreter::new(ctrsh::script::Setup {
            runtime: self.env.runtime().handle().clone(),
            context: ctx.clone(),
            sink,
            args: Vec::new(),
            environment: Arc::new(|_| None),
            limits: ctrsh::script::Limits::default(),
            modules: None,
        })
    }

    /// Runs a script in the stage's own context, and returns what it evaluates to.
    pub fn script(&self, code: &str) -> Result<Value, ctrsh::script::Report> {
        let mut interpreter = self.interpreter(&self.ctx, Arc::new(crate::examples::Quiet));
        let evaluated = interpreter.run(code, None, CancellationToken::new())?;
        interpreter.json(&evaluated)
    }

    /// Runs a script that succeeds.
    #[track_caller]
    pub fn value(&self, code: &str) -> Value {
        self.script(code).unwrap_or_else(|report| panic!("{code}\n{report:?}"))
    }

    /// Runs ctr in the stage's namespace.
    pub fn ctr(&self, arguments: &[&str]) -> String {
        self.env.ctr(&[&["-n", self.namespace.as_str()], arguments].concat()).ok()
    }

    /// Returns the record of a container as ctr prints it.
    pub fn info(&self, id: &str) -> Value {
        serde_json::from_str(&self.ctr(&["containers", "info", id])).unwrap()
    }

    /// Returns the state of a container's task as ctr prints it; none when there is no task.
    pub fn task_status(&self, id: &str) -> Option<String> {
        let lines = self.ctr(&["tasks", "ls"]);
        let line = lines.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        line.into_iter().find(|words| words[0] == id).map(|words| words[2].to_owned())
    }

    /// Looks at what there is, FIFOs of the stage's own run folder included.
    pub fn leftovers(&self) -> (Leftovers, usize) {
        let run = self.folder.join("run");
        let mut seen = Leftovers::of(&self.env, &self.namespace);
        // Those of the other tests that run beside this one; its own are counted.
        seen.fifos.clear();
        (seen, std::fs::read_dir(run).map_or(0, Iterator::count))
    }
}

/// Returns a namespace of the daemon at a socket.
pub fn place(socket: &str, namespace: &str) -> Place {
    let endpoint = ctrsh::containerd::Endpoint::parse(socket).unwrap();
    let daemon = Daemon::new(endpoint, ctrsh::containerd::ConnectOptions::default());
    Place { daemon, namespace: namespace.into() }
}

fn context(env: &Env, namespace: &str, folder: &std::path::Path, allow: Allow) -> Context {
    let docker_config = Some(folder.join("docker/config.json"));
    context_with(env, namespace, folder, allow, Config { docker_config, ..Config::default() })
}

fn context_with(env: &Env, namespace: &str, folder: &std::path::Path, allow: Allow, registry: Config) -> Context {
    context_at(env, place(&env.socket().to_string_lossy(), namespace), folder, allow, registry)
}

/// Makes a context at a place, with registries reached as configured.
pub fn context_at(env: &Env, place: Place, folder: &std::path::Path, allow: Allow, registry: Config) -> Context {
    context_showing(env, place, folder, allow, registry, Arc::new(Silent))
}

/// Makes a context that shows what goes on.
pub fn context_showing(
    env: &Env,
    place: Place,
    folder: &std::path::Path,
    allow: Allow,
    registry: Config,
    progress: Arc<dyn Progress>,
) -> Context {
    let settings = Settings {
        snapshotter: Some(env.snapshotter()),
        run_dir: folder.join("run"),
        log_dir: folder.join("log"),
        temp_dir: folder.join("tmp"),
        docker_host: Some(format!("unix://{}", env.engine_socket().display())),
        working_dir: folder.join("work"),
    };
    let registry = ctrsh::registry::Client::new(registry);
    let shared = Shared { registry, progress, confirm: Arc::new(Unasked), streams: None, audit: None, settings };
    Context::new(place, Grant::new(allow, CancellationToken::new()), Arc::new(shared))
}
