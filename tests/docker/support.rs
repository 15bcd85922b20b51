//! What the tests of the engine share: an endpoint, a copy, and who counts exports.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ctrsh::docker::Address;
use ctrsh::ops::image::{Copied, Copy, CopyOptions, Endpoint};
use ctrsh::ops::policy::Unasked;
use ctrsh::ops::{Context, Level, Meter, Progress, Shared, Step};
use ctrsh::registry::{Client, Config};

use crate::harness::engine::Engine;
use crate::ops::stage::Stage;

/// Makes a stage with the folders that copies use.
pub fn stage(stage: Stage) -> Stage {
    for folder in ["work", "tmp"] {
        std::fs::create_dir_all(stage.folder.join(folder)).unwrap();
    }
    stage
}

pub fn endpoint(stage: &Stage, text: &str) -> Endpoint {
    Endpoint::parse(text, &stage.ctx.settings().working_dir).unwrap()
}

/// Names an image of an engine that is not the one of the settings.
pub fn of(engine: &Engine, name: &str) -> Endpoint {
    let engine = Some(Address::parse(&engine.address()).unwrap());
    Endpoint::Docker { engine, name: name.to_owned() }
}

pub fn copy(stage: &Stage, source: &Endpoint, target: &Endpoint) -> ctrsh::ops::Result<Copied> {
    copy_in(stage, &stage.ctx, source, target)
}

pub fn copy_in(stage: &Stage, ctx: &Context, source: &Endpoint, target: &Endpoint) -> ctrsh::ops::Result<Copied> {
    stage.run_in(ctx, Copy::new(source.clone(), target.clone(), CopyOptions::default()))
}

/// Asserts that nothing of an export stays in the folder for temporary files.
#[track_caller]
pub fn assert_no_spool(stage: &Stage) {
    let left: Vec<_> = std::fs::read_dir(stage.folder.join("tmp")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    // A file without a name stays as long as somebody has it open.
    let open =
        std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let spooled: Vec<_> = open.filter(|path| path.starts_with(stage.folder.join("tmp"))).collect();
    assert!(spooled.is_empty(), "{spooled:?}");
}

type Hook = Box<dyn FnMut() + Send>;

/// Counts exports, and does something when the first bytes of one have come.
#[derive(Clone, Default)]
pub struct Exports {
    begun: Arc<AtomicUsize>,
    at_first_bytes: Arc<Mutex<Option<Hook>>>,
}

impl Exports {
    pub fn at_first_bytes(&self, hook: impl FnMut() + Send + 'static) {
        *self.at_first_bytes.lock().unwrap() = Some(Box::new(hook));
    }

    /// Returns how many exports began since the last call.
    pub fn take(&self) -> usize {
        self.begun.swap(0, Ordering::SeqCst)
    }

    /// Returns a stage's context that reports here.
    pub fn watch(&self, stage: &Stage) -> Context {
        stage.ctx.with_shared(Arc::new(Shared {
            registry: Client::new(Config::default()),
            progress: Arc::new(self.clone()),
            confirm: Arc::new(Unasked),
            streams: None,
            audit: None,
            settings: stage.ctx.settings().clone(),
        }))
    }
}

impl Progress for Exports {
    fn meter(&self, label: &str, _total: Option<u64>) -> Arc<dyn Meter> {
        let export = label.starts_with("docker:");
        self.begun.fetch_add(usize::from(export), Ordering::SeqCst);
        Arc::new(Watch(export.then(|| self.clone())))
    }

    fn note(&self, _level: Level, _text: &str) {}

    fn planned(&self, _operation: &str, _subject: &str, _steps: &[Step]) {}
}

struct Watch(Option<Exports>);

impl Meter for Watch {
    fn advance(&self, _bytes: u64) {
        let hook = self.0.as_ref().and_then(|exports| exports.at_first_bytes.lock().unwrap().take());
        if let Some(mut hook) = hook {
            hook();
        }
    }

    fn rewind(&self, _bytes: u64) {}

    fn phase(&self, _phase: &'static str) {}

    fn done(&self, _outcome: &'static str) {}
}

/// Reads a file of JSON.
pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
