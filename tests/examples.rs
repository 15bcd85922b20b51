//! Every example of the catalog runs: for real, dry, and with no access but to read.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::Kind as Failed;
use ctrsh::script::Sink;
use ctrsh::script::catalog::Example;
use libtest_mimic::Trial;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::image::Kind;
use crate::harness::{Env, trial};
use crate::ops::stage::Stage;

const BUSYBOX: &str = "docker.io/library/busybox:latest";

/// Namespaces belong to the whole daemon: examples that make some and tests that look for new ones take turns.
static NAMESPACES: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    NAMESPACES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn trials(env: &Env) -> Vec<Trial> {
    let catalog = ctrsh::script::api::catalog();
    let mut trials = vec![
        trial("examples::every function has one", env, |_| {
            for entry in ctrsh::script::api::catalog().entries() {
                assert!(!entry.spec.examples.is_empty(), "{} has no example", entry.path());
            }
        }),
        trial("examples::a dry run of every change changes nothing", env, dry),
        trial("examples::reading alone changes nothing", env, read_only),
    ];
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

fn run(stage: &Stage, registry: &str, allow: Allow, dry: bool, code: &str) -> Result<Value, ctrsh::script::Report> {
    let ctx = stage.allowing(allow);
    let ctx = if dry { ctx.dry_run() } else { ctx };
    let mut interpreter = stage.interpreter(&ctx, Arc::new(Quiet));
    interpreter.set_constant("REGISTRY", registry);
    let evaluated = interpreter.run(code, None, CancellationToken::new())?;
    interpreter.json(&evaluated)
}

fn real(env: &Env, path: &str, examples: &[Example]) {
    for example in examples {
        let _turn = example.code.contains("namespaces::").then(turn);
        let (stage, registry) = prepare(env);
        let value = run(&stage, &registry, Allow::all(), false, example.code)
            .unwrap_or_else(|report| panic!("{path}: {}\n{report:?}", example.code));
        if let Some(gives) = example.gives {
            assert_eq!(value, serde_json::from_str::<Value>(gives).unwrap(), "{path}: {}", example.code);
        }
    }
}

/// All that an example could change: the daemon's records and content, the registry, the files.
fn state(stage: &Stage, registry: &str) -> Vec<String> {
    let ctr = |arguments: &[&str]| format!("{arguments:?} {}", without_ages(&stage.ctr(arguments)));
    let namespaces = stage.ctr(&["namespaces", "ls", "-q"]);
    let namespaces: BTreeSet<&str> =
        namespaces.lines().filter(|name| name.starts_with("example") && !name.starts_with("examples-")).collect();
    let prefix = registry.split_once('/').unwrap().1.to_owned();
    let client = ctrsh::registry::Client::new(ctrsh::registry::Config::default());
    let host = stage.env.registry();
    let all = client.registry(&host, stage.ctx.grant(), &ctrsh::registry::Options::default());
    let repositories = stage.env.block_on(all.repositories()).unwrap();
    let mut state = vec![
        ctr(&["images", "ls"]),
        ctr(&["content", "ls"]),
        ctr(&["content", "active"]),
        ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"]),
        ctr(&["containers", "ls"]),
        ctr(&["tasks", "ls"]),
        ctr(&["leases", "ls"]),
        format!("namespaces {namespaces:?}"),
        format!("repositories {:?}", repositories.iter().filter(|name| name.starts_with(&prefix)).collect::<Vec<_>>()),
    ];
    files(&stage.folder, &mut state);
    state
}

/// ctr says how long ago content was made, and orders labels as it likes.
fn without_ages(text: &str) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut words: Vec<&str> =
                line.split([' ', '\t', ',']).filter(|word| word.contains([':', '=', '/', '.', '-'])).collect();
            words.sort_unstable();
            words.join(" ")
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

fn files(folder: &Path, state: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let about = path.symlink_metadata().unwrap();
        state.push(format!("{} {} {:?}", path.display(), about.len(), about.modified().unwrap()));
        if about.is_dir() {
            files(&path, state);
        }
    }
}

fn dry(env: &Env) {
    let _turn = turn();
    let (stage, registry) = prepare(env);
    let before = state(&stage, &registry);
    let catalog = ctrsh::script::api::catalog();
    let mut changes = 0;
    for entry in catalog.entries() {
        for example in entry.spec.examples {
            let ran = run(&stage, &registry, Allow::all(), true, example.code);
            assert_eq!(
                state(&stage, &registry),
                before,
                "a dry run of {} changed something:\n{}",
                entry.path(),
                example.code
            );
            if entry.spec.access != Access::Read {
                changes += 1;
                // A preview has to be good enough for the example to go on.
                ran.unwrap_or_else(|report| panic!("{}: {}\n{report:?}", entry.path(), example.code));
            }
        }
    }
    assert!(changes > 25, "only {changes} examples of changes");
}

fn read_only(env: &Env) {
    let _turn = turn();
    let (stage, registry) = prepare(env);
    let before = state(&stage, &registry);
    let catalog = ctrsh::script::api::catalog();
    let mut refused = 0;
    for entry in catalog.entries() {
        for example in entry.spec.examples {
            let ran = run(&stage, &registry, Allow::of(&[Access::Read]), false, example.code);
            if entry.spec.access != Access::Read {
                let report = ran.expect_err(example.code);
                assert_eq!(report.error.kind, Failed::Denied, "{}: {report:?}", example.code);
                refused += 1;
            }
        }
    }
    assert_eq!(state(&stage, &registry), before, "with read access alone something changed");
    assert!(refused > 25, "only {refused} were refused");
}
