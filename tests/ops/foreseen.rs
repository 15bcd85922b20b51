//! What a dry run brought in is there for the calls after it: they say what they would after the real change.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::Kind as Failed;
use ctrsh::ops::Step;
use ctrsh::ops::progress::{Level, Meter, Progress, Silent};
use ctrsh::registry::Config;
use ctrsh::script::Report;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::stage::{Stage, context_showing, place};
use crate::examples::Quiet;
use crate::harness::fault::FaultProxy;
use crate::harness::{Env, Kind, Leftovers, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::foreseen::what would be pulled is tagged and pushed", env, pushed),
        trial("ops::foreseen::what would be loaded is pushed", env, loaded),
        trial("ops::foreseen::what would be pulled is saved", env, saved),
        trial("ops::foreseen::what would be pulled is copied to a registry, a namespace and a layout", env, copied),
        trial("ops::foreseen::what would be pulled is run", env, run),
        trial("ops::foreseen::what would be pulled is looked at", env, looked_at),
        trial("ops::foreseen::what would be made of files is pushed and looked at", env, of_files),
        trial("ops::foreseen::what would be converted is pushed, its digest known or not", env, converted),
        trial("ops::foreseen::what would be committed is sent, of a size that is not known", env, committed),
        trial("ops::foreseen::layers that would not come are not sent either", env, metadata_only),
        trial("ops::foreseen::only documents and configs are read, and under the grant", env, reads),
        trial("ops::foreseen::what goes away in the same dry run is not there", env, gone),
    ]
}

/// Keeps the steps of each change, and what was said.
#[derive(Default)]
pub struct Planned {
    steps: Mutex<Vec<(String, Vec<Step>)>>,
    notes: Mutex<Vec<String>>,
}

impl Planned {
    /// Returns the steps of all changes of a name, in their order.
    pub fn of(&self, operation: &str) -> Vec<Step> {
        let steps = self.steps.lock().unwrap();
        steps.iter().filter(|(name, _)| name == operation).flat_map(|(_, steps)| steps.clone()).collect()
    }
}

impl Progress for Planned {
    fn meter(&self, _label: &str, _total: Option<u64>) -> Arc<dyn Meter> {
        Arc::new(Silent)
    }

    fn note(&self, _level: Level, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }

    fn planned(&self, operation: &str, _subject: &str, steps: &[Step]) {
        self.steps.lock().unwrap().push((operation.to_owned(), steps.to_vec()));
    }
}

/// Runs a script dry in the stage's namespace.
fn dry_with(stage: &Stage, allow: Allow, code: &str) -> (Result<Value, Report>, Arc<Planned>) {
    let planned = Arc::new(Planned::default());
    let here = place(&stage.env.socket().to_string_lossy(), &stage.namespace);
    let ctx = context_showing(&stage.env, here, &stage.folder, allow, Config::default(), planned.clone());
    let mut interpreter = stage.interpreter(&ctx.dry_run(), Arc::new(Quiet));
    let ran = interpreter.run(code, None, CancellationToken::new());
    (ran.and_then(|evaluated| interpreter.json(&evaluated)), planned)
}

#[track_caller]
fn dry(stage: &Stage, code: &str) -> (Value, Arc<Planned>) {
    let before = state(stage);
    let (value, planned) = dry_with(stage, Allow::all(), code);
    let value = value.unwrap_or_else(|report| panic!("{code}\n{report:?}"));
    assert_eq!(state(stage), before, "a dry run changed something: {code}");
    (value, planned)
}

/// All that the namespace has, and the files of the stage.
fn state(stage: &Stage) -> (Leftovers, BTreeSet<String>, BTreeSet<String>) {
    let content = stage.ctr(&["content", "ls", "-q"]).lines().map(str::to_owned).collect();
    let work = std::fs::read_dir(stage.folder.join("work")).into_iter().flatten();
    let files = work.map(|entry| entry.unwrap().path().display().to_string()).collect();
    (stage.leftovers().0, content, files)
}

fn empty(env: &Env) -> Stage {
    let stage = Stage::empty(env, "foreseen");
    for folder in ["work", "tmp"] {
        std::fs::create_dir_all(stage.folder.join(folder)).unwrap();
    }
    stage
}

fn in_registry(env: &Env, name: &str) -> bool {
    env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).succeeded()
}

/// Runs a script dry before and after its first part was done for real: what the rest says and plans has to be the same.
fn same(stage: &Stage, first: &str, rest: &str, operation: &str) -> (Value, Vec<Step>) {
    let code = format!("{first}; {rest}");
    let (value, planned) = dry(stage, &code);
    stage.value(first);
    let (after, planned_after) = dry(stage, &code);
    assert_eq!(value, after, "{code}");
    let steps = planned.of(operation);
    assert_eq!(steps, planned_after.of(operation), "{code}");
    assert!(!steps.is_empty(), "{code}");
    (value, steps)
}

fn pushed(env: &Env) {
    for (kind, options) in [(Kind::ThreeLayers, ""), (Kind::Index, ""), (Kind::Index, ", #{ all_platforms: true }")] {
        let (stage, source) = (empty(env), env.pushed(kind, "foreseen"));
        let target = format!("{}:1", env.repository("foreseen"));
        let first = format!("let image = pull(\"{source}\"{options})");
        let rest = format!("let done = image.tag(\"{target}\").push(); [done.reference, done.digest, done.sent]");
        let (value, steps) = same(&stage, &first, &rest, "push");
        assert_eq!((&value[0], &value[2]), (&json!(target), &json!(0)), "{value}");
        assert!(steps[0].bytes.unwrap() > 500_000, "{steps:?}");
        assert!(!in_registry(env, &target), "a dry push made {target}");
        // What was planned is what is done.
        let real = stage.value(&format!("image(\"{source}\").tag(\"{target}\").push().digest"));
        assert_eq!(real, value[1]);
    }
}

fn loaded(env: &Env) {
    let from = Stage::of(env, "foreseen", Kind::ThreeLayers);
    let stage = empty(env);
    let file = stage.folder.join("work/images.tar");
    from.ctr(&["images", "export", file.to_str().unwrap(), super::stage::IMAGE]);
    let target = format!("{}:1", env.repository("foreseen"));
    let (_, steps) = same(
        &stage,
        "let images = load(\"images.tar\")",
        &format!("images[0].tag(\"{target}\").push().digest"),
        "push",
    );
    assert!(steps[0].bytes.unwrap() > 500_000, "{steps:?}");
    assert!(!in_registry(env, &target), "a dry push made {target}");
}

fn saved(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Index] {
        let (stage, source) = (empty(env), env.pushed(kind, "foreseen"));
        let first = format!("let image = pull(\"{source}\")");
        let (value, _) = same(&stage, &first, "save(image.name, \"saved.tar\")", "save");
        assert!(value.as_u64().unwrap() > 500_000, "{value}");
    }
}

fn copied(env: &Env) {
    let (stage, source) = (empty(env), env.pushed(Kind::Index, "foreseen"));
    let registry = format!("{}/{}:1", env.registry_of_harbors(), env.fresh("foreseen"));
    let other = env.namespace("foreseen");
    let first = format!("pull(\"{source}\", #{{ all_platforms: true }})");
    for target in [format!("registry:{registry}"), format!("containerd:[{other}]{source}"), "oci:layout:1".to_owned()] {
        let fresh = Stage { namespace: env.namespace("foreseen"), ..empty(env) };
        let rest = format!("copy(\"containerd:{source}\", \"{target}\").digest");
        let (digest, _) = same(&fresh, &first, &rest, "copy");
        assert!(digest.as_str().unwrap().starts_with("sha256:"), "{digest}");
    }
    // From there it goes on.
    let there = format!("containerd:[{other}]{source}");
    let onward =
        format!("{first}; copy(\"containerd:{source}\", \"{there}\"); copy(\"{there}\", \"{registry}\").digest");
    dry(&stage, &onward);
    assert!(!in_registry(env, &registry), "a dry copy made {registry}");
    assert!(Leftovers::of(env, &other).images.is_empty());
}

fn run(env: &Env) {
    let (stage, source) = (empty(env), env.pushed(Kind::ThreeLayers, "foreseen"));
    let first = format!("let image = pull(\"{source}\")");
    let spec = "let made = create(\"a\", image); [made.image, made.spec.process.args, made.spec.process.env]";
    let (value, _) = same(&stage, &first, spec, "create");
    assert!(!value[1].as_array().unwrap().is_empty(), "{value}");
    let (stage, options) = (empty(env), "#{ id: \"b\", detach: true, command: [\"sleep\", \"600\"] }");
    same(&stage, &first, &format!("run(image, {options}).id"), "run");
}

fn looked_at(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Index] {
        let (stage, source) = (empty(env), env.pushed(kind, "foreseen"));
        let look = "let found = image.check(); [image.size, image.platforms, image.config(), image.manifest(), image.history(), \
             image.chain_id(), found.complete, found.unpacked, found.total, image.inspect(#{ content: true }), \
             image.usage().content, snapshots::info(image.chain_id()).kind, snapshots::info(image.chain_id()).parent, \
             content::list().map(|blob| [blob.digest, blob.size]), content::text(image.digest)]";
        let first = format!("let image = pull(\"{source}\")");
        let (value, _) = same(&stage, &first, &format!("image.tag(\"a/b:1\"); {look}"), "tag");
        assert_eq!((&value[6], &value[7]), (&json!(true), &json!(true)), "{value}");
        // A pull again has nothing to fetch.
        let (_, planned) = dry(&empty(env), &format!("{first}; pull(\"{source}\")"));
        let bytes: Vec<u64> = planned.of("pull").iter().filter_map(|step| step.bytes).collect();
        assert!(bytes.len() == 2 && bytes[0] > 500_000 && bytes[1] == 0, "{bytes:?}");
    }
}

fn of_files(env: &Env) {
    let stage = empty(env);
    let root = stage.folder.join("work/rootfs");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let target = format!("{}:1", env.repository("foreseen"));
    let first = format!("let image = from_rootfs(\"rootfs\", \"{target}\", #{{ cmd: [\"/bin/busybox\"] }})");
    let rest = "let done = push(image.name).digest; [done, image.config().config.Cmd, image.chain_id()]";
    let (value, planned) = dry(&stage, &format!("{first}; {rest}"));
    assert_eq!(value[1], json!(["/bin/busybox"]));
    assert!(planned.of("push")[0].bytes.unwrap() > 500_000, "{:?}", planned.of("push"));
    assert!(!in_registry(env, &target), "a dry push made {target}");
}

fn converted(env: &Env) {
    let (stage, source) = (empty(env), env.pushed(Kind::Docker, "foreseen"));
    let target = format!("{}:1", env.repository("foreseen"));
    let first = format!("let image = pull(\"{source}\")");
    let rest = |how: &str| format!("convert(image.name, \"{target}\", #{{ {how} }}); push(\"{target}\").digest");
    let (digest, steps) = same(&stage, &first, &rest("oci: true"), "push");
    assert!(steps[0].bytes.unwrap() > 500_000, "{steps:?}");
    let stage = empty(env);
    let (_, steps) = same(&stage, &first, &rest("uncompress: true"), "push");
    assert_eq!(steps[0].bytes, None);
    assert!(steps.iter().any(|step| step.action.contains("not known in a dry run")), "{steps:?}");
    assert!(!in_registry(env, &target), "a dry push made {target}");
    stage.value(&format!("{first}; convert(image.name, \"{target}\", #{{ oci: true }})"));
    assert_eq!(stage.value(&format!("image(\"{target}\").digest")), digest);
}

fn committed(env: &Env) {
    let stage = Stage::new(env, "foreseen");
    std::fs::create_dir_all(stage.folder.join("work")).unwrap();
    let id = env.fresh("foreseen");
    stage.ctr(&["containers", "create", "--snapshotter", &stage.snapshotter, super::stage::IMAGE, &id, "sleep", "600"]);
    let (target, other) = (format!("{}:1", env.repository("foreseen")), env.namespace("foreseen"));
    for make in ["commit", "checkpoint"] {
        let code = format!(
            "container(\"{id}\").{make}(\"{target}\"); let again = tag(\"{target}\", \"{target}-again\"); push(again.name); \
             save(again.name, \"made.tar\"); copy(\"containerd:{target}\", \"containerd:[{other}]a/b:1\"); \
             copy(\"containerd:[{other}]a/b:1\", \"oci:made\"); \
             convert(again.name, \"a/c:1\", #{{ oci: true }}); push(\"{target}-c\", \"a/c:1\"); again.size"
        );
        let (_, planned) = dry(&stage, &code);
        for operation in ["push", "save", "copy"] {
            let steps = planned.of(operation);
            assert!(steps.iter().all(|step| step.bytes.is_none()), "{make}: {steps:?}");
            assert!(steps.iter().any(|step| step.action.contains("not known in a dry run")), "{make}: {steps:?}");
        }
        assert!(!in_registry(env, &format!("{target}-again")), "a dry push made {target}");
        // What would be pulled over it is known again.
        let source = env.pushed(Kind::Busybox, "foreseen");
        let over = format!(
            "container(\"{id}\").{make}(\"{target}\"); pull(\"{source}\"); tag(\"{source}\", \"{target}\", #{{ force: true }})"
        );
        let (_, planned) = dry(&stage, &format!("{over}; push(\"{target}\")"));
        assert!(planned.of("push")[0].bytes.unwrap() > 500_000);
    }
    // What is not known says so.
    let made = format!("container(\"{id}\").checkpoint(\"a/b:1\")");
    let report = dry_with(&stage, Allow::all(), &format!("{made}; image(\"a/b:1\").manifest()")).0.unwrap_err();
    assert!(report.error.message.contains("not known in a dry run"), "{report:?}");
    stage.ctr(&["containers", "rm", &id]);
}

fn metadata_only(env: &Env) {
    let (stage, source) = (empty(env), env.pushed(Kind::ThreeLayers, "foreseen"));
    let first = format!("content::fetch(\"{source}\", #{{ metadata_only: true }})");
    let look = format!(
        "tag(\"{source}\", \"a/b:1\"); let found = image(\"{source}\").check(); [found.complete, found.missing.len()]"
    );
    let (value, _) = same(&stage, &first, &look, "tag");
    assert_eq!(value, json!([false, 3]));
}

fn reads(env: &Env) {
    let source = env.pushed(Kind::ThreeLayers, "foreseen");
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let source = source.replacen(&env.registry(), &proxy.host(), 1);
    let target = format!("{}:1", env.repository("foreseen"));
    let stage = empty(env);
    let code = format!("pull(\"{source}\").tag(\"{target}\").push()");
    dry(&stage, &code);
    let layers = &env.image(Kind::ThreeLayers).layers;
    let log = proxy.log();
    assert!(!log.is_empty() && log.iter().all(|seen| ["GET", "HEAD"].contains(&seen.method.as_str())), "{log:?}");
    assert!(!log.iter().any(|seen| layers.iter().any(|layer| seen.path.contains(layer.as_str()))), "{log:?}");
    // Without access to read the source the pull is refused, and without access to write the push.
    let (ran, _) = dry_with(&stage, Allow::of(&[Access::Read]), &code);
    assert_eq!(ran.unwrap_err().error.kind, Failed::Denied);
    let here = "read=containerd/*,write=containerd/*".parse().unwrap();
    let (ran, planned) = dry_with(&stage, here, &code);
    assert_eq!(ran.unwrap_err().error.kind, Failed::Denied);
    assert!(planned.of("pull").is_empty());
}

fn gone(env: &Env) {
    let (stage, source) = (empty(env), env.pushed(Kind::ThreeLayers, "foreseen"));
    let target = format!("{}:1", env.repository("foreseen"));
    let code = format!("pull(\"{source}\"); image(\"{source}\").delete(); push(\"{target}\", \"{source}\")");
    let (ran, _) = dry_with(&stage, Allow::all(), &code);
    assert_eq!(ran.unwrap_err().error.kind, Failed::NotFound);
    let layer = &env.image(Kind::ThreeLayers).layers[0];
    let code = format!("pull(\"{source}\"); content::delete(\"{layer}\"); image(\"{source}\").check().missing.len()");
    assert_eq!(dry(&stage, &code).0, json!(1));
    // Another namespace has none of it.
    let other = env.namespace("foreseen");
    let code = format!("pull(\"{source}\"); namespace(\"{other}\"); push(\"{target}\", \"{source}\")");
    let (ran, _) = dry_with(&stage, Allow::all(), &code);
    assert_eq!(ran.unwrap_err().error.kind, Failed::NotFound);
    // Neither has the next dry run.
    let (ran, _) = dry_with(&stage, Allow::all(), &format!("push(\"{target}\", \"{source}\")"));
    assert_eq!(ran.unwrap_err().error.kind, Failed::NotFound);
}
