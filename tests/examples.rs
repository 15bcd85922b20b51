//! Every example of the catalog runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctrsh::grant::Allow;
use ctrsh::script::Sink;
use ctrsh::script::catalog::Example;
use libtest_mimic::Trial;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::harbor::{ADMIN, Harbor};
use crate::harness::image::Kind;
use crate::harness::{Env, trial};
use crate::ops::stage::Stage;

const BUSYBOX: &str = "docker.io/library/busybox:latest";

/// Namespaces belong to the whole daemon: examples that make some and tests that look for new ones take turns.
static NAMESPACES: Mutex<()> = Mutex::new(());

pub fn turn() -> MutexGuard<'static, ()> {
    NAMESPACES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn trials(env: &Env) -> Vec<Trial> {
    let catalog = ctrsh::script::api::catalog();
    let mut trials = vec![trial("examples::every function has one", env, |_| {
        for entry in ctrsh::script::api::catalog().entries() {
            assert!(!entry.spec.examples.is_empty(), "{} has no example", entry.path());
        }
    })];
    for entry in catalog.entries() {
        let (path, examples) = (entry.path(), entry.spec.examples);
        trials.push(trial(&format!("examples::{}", entry.signature()), env, move |env| real(env, &path, examples)));
    }
    trials
}

pub struct Quiet;

impl Sink for Quiet {
    fn print(&self, _text: &str) {}

    fn debug(&self, _text: &str, _at: &str) {}
}

/// Makes what examples may count on; returns the stage and what `REGISTRY` stands for.
pub fn prepare(env: &Env) -> (Stage, String) {
    let stage = Stage::new(env, "examples");
    stage.ctr(&["images", "tag", crate::ops::stage::IMAGE, BUSYBOX]);
    // A prefix of its own keeps the examples of two tests apart.
    let registry = format!("{}/{}", env.registry(), env.fresh("examples"));
    env.push(&env.image(Kind::Busybox), &format!("{registry}/example/box:1"));
    let work = stage.folder.join("work");
    std::fs::create_dir_all(work.join("rootfs/bin")).unwrap();
    std::fs::create_dir_all(stage.folder.join("tmp")).unwrap();
    std::fs::copy("/bin/busybox", work.join("rootfs/bin/busybox")).unwrap();
    let saved = work.join("box.tar");
    stage.ctr(&["images", "export", saved.to_str().unwrap(), BUSYBOX]);
    (stage, registry)
}

/// All that an example may count on.
pub struct Ready {
    pub stage: Stage,
    /// What `REGISTRY` stands for.
    pub registry: String,
    /// What `HARBOR` stands for.
    pub harbor: Harbor,
}

impl Ready {
    pub fn new(env: &Env) -> Self {
        let (stage, registry) = prepare(env);
        let harbor = Harbor::start(env);
        std::fs::create_dir(stage.folder.join("docker")).unwrap();
        std::fs::write(stage.folder.join("docker/config.json"), harbor.docker_config(ADMIN)).unwrap();
        Self { stage, registry, harbor }
    }
}

/// Runs an example's code.
pub fn run(ready: &Ready, allow: Allow, dry: bool, code: &str) -> Result<Value, ctrsh::script::Report> {
    let Ready { stage, registry, harbor } = ready;
    if code.contains("docker") {
        stage.env.engine();
    }
    let ctx = stage.allowing(allow);
    let ctx = if dry { ctx.dry_run() } else { ctx };
    let mut interpreter = stage.interpreter(&ctx, Arc::new(Quiet));
    interpreter.set_constant("REGISTRY", registry);
    interpreter.set_constant("HARBOR", &harbor.host());
    let evaluated = interpreter.run(code, None, CancellationToken::new())?;
    interpreter.json(&evaluated)
}

fn real(env: &Env, path: &str, examples: &[Example]) {
    for example in examples {
        let _turn = example.code.contains("namespaces::").then(turn);
        let value = run(&Ready::new(env), Allow::all(), false, example.code)
            .unwrap_or_else(|report| panic!("{path}: {}\n{report:?}", example.code));
        if let Some(gives) = example.gives {
            assert_eq!(value, serde_json::from_str::<Value>(gives).unwrap(), "{path}: {}", example.code);
        }
    }
}
