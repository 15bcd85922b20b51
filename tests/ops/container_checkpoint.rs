//! Containers written down as images, and made of them again, here, by ctr, and in another namespace.

use std::collections::BTreeSet;
use std::time::Duration;

use ctrsh::containerd::containers::Container;
use ctrsh::containerd::images::{Deletion, Image};
use ctrsh::containerd::{ContainerdStore, Labels};
use ctrsh::grant::{Access, Allow};
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::spec::SpecOptions;
use ctrsh::oci::store::ImageSource;
use ctrsh::oci::{Descriptor, Digest, Index, MediaType, Parsed};
use ctrsh::ops::container::{
    Checkpoint, CheckpointOptions, Create, CreateOptions, Delete, Exec, ExecOptions, Restore, RestoreOptions, Start,
    StartOptions, get,
};
use ctrsh::ops::image::{Load, LoadOptions, Save, SaveOptions, detail};
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    let named = |name: &str, test: fn(&Env)| trial(&format!("ops::container_checkpoint::{name}"), env, test);
    vec![
        named("a container is made again, here, by ctr and in another namespace", round_trip),
        named("what ctr writes is what is written here, but for the spec", as_ctr),
        named("the state of processes is asked of the runtime, whose answer is told", state),
        named("what is dropped leaves nothing, and the container runs on", dropped),
        named("mistakes are named and leave nothing", mistakes),
        named("a spec that reaches the host needs access to it", reaching),
    ]
}

const NAME: &str = "example.test/checkpoint:1";
const SPEC: &str = "application/vnd.containerd.container.checkpoint.config.v1+proto";
const RUNTIME_OPTIONS: &str = "application/vnd.containerd.container.checkpoint.runtime.options+proto";
const STATE: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";

const ALL: CheckpointOptions =
    CheckpointOptions { rw: true, image: true, task: false, exit: false, work_path: None, force: false };

fn checkpoint(stage: &Stage, id: &str, options: CheckpointOptions) -> ctrsh::ops::Result<Image> {
    stage.run(Checkpoint::new(id, NAME.parse().unwrap(), options))
}

fn with_files() -> RestoreOptions {
    RestoreOptions { rw: true, ..RestoreOptions::default() }
}

fn restore(stage: &Stage, id: &str, options: RestoreOptions) -> ctrsh::ops::Result<Container> {
    stage.run(Restore::new(id, NAME, options))
}

/// Starts a container with an environment of its own that changes its files.
fn changed(stage: &Stage) -> String {
    let id = stage.env.fresh("checkpoint");
    let command = Some(["sleep", "1000"].map(str::to_owned).to_vec());
    let env = vec!["COLOUR=green".to_owned()];
    let spec = SpecOptions { command, env, ..SpecOptions::default() };
    stage.run(Create::new(&id, IMAGE, CreateOptions { spec, ..CreateOptions::default() })).unwrap();
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    assert_eq!(output(stage, &id, "echo kept > /kept; rm /etc/group"), "");
    id
}

fn output(stage: &Stage, id: &str, script: &str) -> String {
    let words = ["sh", "-c", script].map(str::to_owned).to_vec();
    let done = stage.run(Exec::new(id, words, ExecOptions::default())).unwrap();
    assert_eq!(done.code, 0, "{script}");
    String::from_utf8(done.output.stdout.bytes).unwrap()
}

fn remove(stage: &Stage, id: &str) {
    stage.run(Delete::new(id, true, false)).unwrap();
}

/// Says that a restored container is as the first one was.
fn is_as_before(stage: &Stage, id: &str) {
    assert_eq!(stage.task_status(id).as_deref(), Some("RUNNING"));
    assert_eq!(output(stage, id, "cat /kept; echo $COLOUR; ls /etc"), "kept\ngreen\npasswd\n");
    let record = stage.env.block_on(get(&stage.ctx, id)).unwrap();
    let spec = record.spec.unwrap();
    assert_eq!(spec.process.unwrap().args, ["sleep", "1000"]);
    assert_eq!((record.runtime.name.as_str(), record.image.as_str()), ("io.containerd.runc.v2", IMAGE));
}

fn index(stage: &Stage) -> Index {
    stage.env.block_on(async {
        let client = stage.ctx.client().await.unwrap();
        let store = ContainerdStore::new(client, NAME);
        let root = store.resolve().await.unwrap();
        let Parsed::Index(index) = Parsed::read(&root, &store.manifest(&root).await.unwrap()).unwrap() else {
            panic!("no index")
        };
        index
    })
}

fn round_trip(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Docker, Kind::Index] {
        let stage = Stage::of(env, "checkpoint", kind);
        let id = changed(&stage);
        let before = stage.leftovers();
        let made = checkpoint(&stage, &id, ALL).unwrap();
        assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
        let mut after = stage.leftovers();
        assert!(after.0.images.remove(NAME));
        assert_eq!(after, before, "{kind:?}");
        let children = index(&stage).manifests;
        assert!(children.iter().any(|part| part.media_type.as_str() == SPEC), "{children:?}");
        // The image is found in it, and not one of its other parts taken for one.
        let found = env.block_on(async {
            let held = ctrsh::ops::content::Held::new(&stage.ctx).await.unwrap();
            detail(&held, &made.target, &ctrsh::oci::Matcher::host()).await.unwrap()
        });
        assert!(found.manifest.is_some(), "{found:?}");
        // Beside the first one, whose cgroup it does not take.
        let second = env.fresh("checkpoint");
        restore(&stage, &second, with_files()).unwrap();
        is_as_before(&stage, &second);
        let cgroup = |id: &str| {
            let spec = stage.info(id)["Spec"]["linux"]["cgroupsPath"].as_str().map(str::to_owned);
            spec.unwrap().replace(id, "ID")
        };
        assert_eq!(cgroup(&second), cgroup(&id));
        remove(&stage, &second);
        remove(&stage, &id);
        // Without what it changed.
        restore(&stage, &second, RestoreOptions::default()).unwrap();
        assert_eq!(output(&stage, &second, "ls /etc; test ! -e /kept"), "group\npasswd\n");
        remove(&stage, &second);
        // By ctr.
        let theirs = env.fresh("checkpoint");
        stage.ctr(&["containers", "restore", "--rw", &theirs, NAME]);
        is_as_before(&stage, &theirs);
        remove(&stage, &theirs);
        // In another namespace, which has nothing of it.
        let archive = stage.folder.join("checkpoint.tar");
        let options = SaveOptions { platforms: None, compression: ctrsh::oci::media_type::Compression::None };
        stage.run(Save::new(vec![NAME.into()], archive.clone(), options)).unwrap();
        let other = Stage::empty(env, "checkpoint");
        let all = ctrsh::ops::image::Arrival { platforms: ctrsh::oci::Matcher::All, ..Default::default() };
        other.run(Load::new(archive, LoadOptions { arrival: all, ..LoadOptions::default() })).unwrap();
        restore(&other, &second, with_files()).unwrap();
        is_as_before(&other, &second);
        assert!(other.ctr(&["images", "ls", "-q"]).lines().any(|name| name == IMAGE), "the image has its name");
        remove(&other, &second);
    }
}

fn as_ctr(env: &Env) {
    let stage = Stage::of(env, "checkpoint", Kind::ThreeLayers);
    let id = changed(&stage);
    checkpoint(&stage, &id, ALL).unwrap();
    let ours = index(&stage);
    stage.ctr(&["images", "rm", "--sync", NAME]);
    stage.ctr(&["containers", "checkpoint", "--rw", "--image", &id, NAME]);
    let theirs = index(&stage);
    let sorts = |index: &Index| -> Vec<(String, bool)> {
        // Options that say nothing are left out since 1.7.
        let parts = index.manifests.iter().filter(|part| ![SPEC, RUNTIME_OPTIONS].contains(&part.media_type.as_str()));
        parts.map(|part| (part.media_type.to_string(), part.platform.is_some())).collect()
    };
    assert_eq!(sorts(&ours), sorts(&theirs));
    let platform = |index: &Index| -> Vec<bool> {
        let parts = index.manifests.iter().filter(|part| part.media_type.as_str() == RUNTIME_OPTIONS);
        parts.map(|part| part.platform.is_some()).collect()
    };
    assert_eq!((ours.manifests.len(), platform(&ours)), (4, vec![true]));
    assert!([vec![], vec![true]].contains(&platform(&theirs)), "{theirs:?}");
    for (key, value) in &theirs.annotations {
        assert_eq!(ours.annotations.get(key), Some(value), "{key}");
    }
    // ctr cannot restore that, as it has no spec, and leaves a snapshot; here it gets one.
    let second = env.fresh("checkpoint");
    let theirs = env.fresh("checkpoint");
    let refused = env.ctr(&["-n", &stage.namespace, "containers", "restore", "--rw", &theirs, NAME]);
    assert!(refused.to_string().contains("media type not found"), "{refused}");
    restore(&stage, &second, RestoreOptions { start: false, ..with_files() }).unwrap();
    let spec = env.block_on(get(&stage.ctx, &second)).unwrap().spec.unwrap();
    let process = spec.process.unwrap();
    assert!(process.env.contains(&"GREETING=hello".to_owned()) && !process.args.is_empty(), "{process:?}");
    assert_eq!(stage.task_status(&second), None);
    let target = stage.folder.join("files");
    std::fs::create_dir(&target).unwrap();
    stage.value(&format!("snapshots::mount({second:?}, {:?}); 1", target.display().to_string()));
    assert_eq!(std::fs::read_to_string(target.join("kept")).unwrap(), "kept\n");
    assert!(!target.join("etc/group").exists());
    stage.value(&format!("unmount({:?}); 1", target.display().to_string()));
    remove(&stage, &second);
    remove(&stage, &id);
}

fn state(env: &Env) {
    let stage = Stage::of(env, "checkpoint", Kind::ThreeLayers);
    let id = changed(&stage);
    let before = stage.leftovers();
    match checkpoint(&stage, &id, CheckpointOptions { task: true, ..ALL }) {
        Ok(_) => {
            assert!(index(&stage).manifests.iter().any(|part| part.media_type.as_str() == STATE));
            stage.ctr(&["images", "rm", "--sync", NAME]);
        }
        Err(error) => {
            assert_eq!(error.kind(), Failed::Conflict, "{error}");
            assert!(error.to_string().to_lowercase().contains("criu"), "{error}");
            assert!(error.hint().unwrap().contains("criu check"), "{:?}", error.hint());
        }
    }
    assert_eq!(stage.leftovers(), before);
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    // A checkpoint with a state that no CRIU wrote: the runtime is asked to go on from it, and cannot.
    checkpoint(&stage, &id, ALL).unwrap();
    let mut index = index(&stage);
    let layer = index.manifests.iter().find(|part| part.media_type.is_layer()).unwrap().clone();
    index.manifests.push(Descriptor { media_type: MediaType::parse(STATE), ..layer });
    let bytes = serde_json::to_vec(&index).unwrap();
    let root = Descriptor::new(MediaType::OciIndex, Digest::sha256(&bytes), bytes.len() as u64);
    env.block_on(async {
        let client = stage.ctx.client().await.unwrap();
        // Another test's deletion may set the collector going at any moment.
        let lease = client.leases().create(Duration::from_secs(600), &Labels::new()).await.unwrap();
        let leased = client.with_lease(&lease.id).unwrap();
        let labels = ctrsh::containerd::content::gc_labels(&Parsed::Index(index));
        leased.content().put(&root, bytes.into(), &labels).await.unwrap();
        leased.images().put(NAME, &root, &Labels::new()).await.unwrap();
        client.leases().delete(&lease.id, Deletion::Later).await.unwrap();
    });
    let before = stage.leftovers();
    let second = env.fresh("checkpoint");
    let error = restore(&stage, &second, RestoreOptions { live: true, ..with_files() }).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    assert!(error.to_string().contains("could not go on where it was"), "{error}");
    assert!(error.hint().unwrap().contains("criu check"), "{:?}", error.hint());
    assert_eq!(stage.leftovers(), before);
    remove(&stage, &id);
}

fn dropped(env: &Env) {
    let stage = Stage::new(env, "checkpoint");
    let id = changed(&stage);
    output(&stage, &id, "head -c 20000000 /dev/urandom > /noise");
    let before = stage.leftovers();
    let mut cut_off = [0, 0];
    let waits = [1, 5, 10, 20, 40, 80, 160];
    let cut = |wait: u64, operation: &mut dyn FnMut(&Stage) -> BoxedRun| {
        let run = operation(&stage);
        env.block_on(async {
            let done = tokio::time::timeout(Duration::from_millis(wait), run).await;
            stage.ctx.settle().await;
            done.is_ok()
        })
    };
    for wait in waits {
        let done = cut(wait, &mut |stage| {
            let (ctx, operation) = (stage.ctx.clone(), Checkpoint::new(&id, NAME.parse().unwrap(), ALL));
            Box::pin(async move { drop(ctrsh::ops::execute(&ctx, operation).await.unwrap()) })
        });
        cut_off[0] += usize::from(!done);
        assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"), "cut off after {wait} ms");
        // The image is the last thing that is made: whoever gives up then may have it, and whole.
        if done || stage.leftovers().0.images.contains(NAME) {
            assert!(!index(&stage).manifests.is_empty());
            stage.ctr(&["images", "rm", "--sync", NAME]);
        }
        assert_eq!(stage.leftovers(), before, "cut off after {wait} ms");
    }
    checkpoint(&stage, &id, ALL).unwrap();
    let before = stage.leftovers();
    let second = env.fresh("checkpoint");
    for wait in waits {
        let done = cut(wait, &mut |stage| {
            let (ctx, operation) = (stage.ctx.clone(), Restore::new(&second, NAME, with_files()));
            Box::pin(async move { drop(ctrsh::ops::execute(&ctx, operation).await.unwrap()) })
        });
        cut_off[1] += usize::from(!done);
        if done {
            remove(&stage, &second);
        }
        assert_eq!(stage.leftovers(), before, "cut off after {wait} ms");
    }
    assert!(cut_off.iter().all(|number| *number > 0), "never cut off: {cut_off:?}");
    remove(&stage, &id);
}

type BoxedRun = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn mistakes(env: &Env) {
    let stage = Stage::of(env, "checkpoint", Kind::ThreeLayers);
    let id = changed(&stage);
    let second = env.fresh("checkpoint");
    let before = stage.leftovers();
    let error = checkpoint(&stage, "nobody", ALL).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    let error = checkpoint(&stage, &id, CheckpointOptions { exit: true, ..ALL }).unwrap_err();
    assert!(error.to_string().contains("give task too"), "{error}");
    let error = restore(&stage, &second, with_files()).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    let error = stage.run(Restore::new(&second, IMAGE, with_files())).unwrap_err();
    assert!(error.to_string().ends_with(&format!("image {IMAGE} is no checkpoint")), "{error}");
    // The name is taken.
    stage.ctr(&["images", "tag", IMAGE, NAME]);
    let error = checkpoint(&stage, &id, ALL).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    stage.ctr(&["images", "rm", NAME]);
    // What is not in it is not made up.
    let bare = CheckpointOptions { rw: false, image: false, ..ALL };
    checkpoint(&stage, &id, bare).unwrap();
    let there = stage.leftovers();
    for (options, missing) in [
        (with_files(), "holds no changed files"),
        (RestoreOptions { live: true, ..RestoreOptions::default() }, "holds no state of processes"),
    ] {
        let error = restore(&stage, &second, options).unwrap_err();
        assert!(error.to_string().ends_with(&format!("image {NAME} {missing}")), "{error}");
    }
    let error = restore(&stage, &id, RestoreOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    assert_eq!(stage.leftovers(), there);
    // The image has other layers now.
    checkpoint(&stage, &id, CheckpointOptions { image: false, force: true, ..ALL }).unwrap();
    let other = env.pushed(Kind::Busybox, "checkpoint");
    stage.ctr(&["images", "pull", "--plain-http", "--snapshotter", &stage.snapshotter, &other]);
    stage.ctr(&["images", "tag", "--force", &other, IMAGE]);
    let there = stage.leftovers();
    let error = restore(&stage, &second, with_files()).unwrap_err();
    assert!(error.to_string().contains("changes of other layers"), "{error}");
    let error = checkpoint(&stage, &id, CheckpointOptions { force: true, ..ALL }).unwrap_err();
    assert!(error.to_string().contains("does not stand on the layers"), "{error}");
    // The image is gone, and was not in it.
    stage.ctr(&["images", "rm", "--sync", IMAGE]);
    let error = restore(&stage, &second, with_files()).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    assert!(error.hint().unwrap().contains("was made without image"), "{:?}", error.hint());
    assert_eq!(stage.leftovers().0.containers, there.0.containers);
    assert_eq!(stage.leftovers().0.leases, before.0.leases);
    remove(&stage, &id);
}

fn reaching(env: &Env) {
    let stage = Stage::new(env, "checkpoint");
    let id = env.fresh("checkpoint");
    let spec = SpecOptions { net_host: true, ..SpecOptions::default() };
    stage.run(Create::new(&id, IMAGE, CreateOptions { spec, ..CreateOptions::default() })).unwrap();
    checkpoint(&stage, &id, ALL).unwrap();
    remove(&stage, &id);
    let before = stage.leftovers();
    let classes: BTreeSet<Access> = [Access::Read, Access::Write, Access::Run, Access::Delete].into();
    let ctx = stage.allowing(Allow::of(&classes.into_iter().collect::<Vec<_>>()));
    let error = stage.run_in(&ctx, Restore::new(&id, NAME, with_files())).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied, "{error}");
    assert_eq!(stage.leftovers(), before);
    let dry = stage.ctx.dry_run();
    assert_eq!(stage.run_in(&dry, Restore::new(&id, NAME, with_files())).unwrap().image, IMAGE);
    assert_eq!(stage.leftovers(), before);
    stage.run(Restore::new(&id, NAME, RestoreOptions { start: false, ..with_files() })).unwrap();
    remove(&stage, &id);
}
