//! What containers changed of their images' files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use ctrsh::containerd::containers::Container;
use ctrsh::grant::{Access, Allow};
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::spec::SpecOptions;
use ctrsh::ops::container::{
    Create, CreateOptions, Delete, Exec, ExecOptions, Fate, Kill, Signal, Start, StartOptions, diff, get, wait,
};
use ctrsh::ops::{Context, snapshot};
use libtest_mimic::Trial;

use super::operate::open_to_users;
use super::stage::{IMAGE, Stage};
use crate::harness::{Env, Kind, Leftovers, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    let named = |name: &str, test: fn(&Env)| trial(&format!("ops::container_diff::{name}"), env, test);
    vec![
        named("every change is told, alike by overlays and whole copies, and by the daemon's layer", changes),
        named("what stands on nothing is all new, and a view has changed nothing", without_image),
        named("the owners that a user namespace gives to files are no changes", user_namespace),
        named("what is dropped leaves nothing", dropped),
        named("it reads where it can, and a view needs to write", access),
        named("mistakes are named and leave nothing", mistakes),
    ]
}

const NATIVE: &str = "native";

fn create(stage: &Stage, snapshotter: &str) -> String {
    create_with(stage, snapshotter, SpecOptions::default(), false)
}

fn create_with(stage: &Stage, snapshotter: &str, spec: SpecOptions, remap_labels: bool) -> String {
    let id = stage.env.fresh("diff");
    let command = Some(["sleep", "1000"].map(str::to_owned).to_vec());
    let options = CreateOptions {
        spec: SpecOptions { command, ..spec },
        snapshotter: Some(snapshotter.to_owned()),
        remap_labels,
        ..CreateOptions::default()
    };
    stage.run(Create::new(&id, IMAGE, options)).unwrap();
    id
}

fn started(stage: &Stage, snapshotter: &str) -> String {
    let id = create(stage, snapshotter);
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    id
}

fn shell(stage: &Stage, id: &str, script: &str) {
    let words = ["sh", "-ec", script].map(str::to_owned).to_vec();
    let done = stage.run(Exec::new(id, words, ExecOptions::default())).unwrap();
    assert_eq!(done.code, 0, "{}", String::from_utf8_lossy(&done.output.stderr.bytes));
}

/// Returns what a container changed, each as `CHANGE PATH`.
fn told(stage: &Stage, id: &str) -> Vec<String> {
    let changes = stage.env.block_on(diff(&stage.ctx, id)).unwrap();
    assert!(changes.is_sorted_by_key(|change| change.path.as_os_str()), "{changes:?}");
    changes.iter().map(|change| format!("{} {}", change.fate.as_str(), change.path.display())).collect()
}

/// Looks at what there is, snapshots of whole copies too.
fn there(stage: &Stage) -> (Leftovers, usize, String) {
    let (leftovers, runs) = stage.leftovers();
    (leftovers, runs, stage.ctr(&["snapshots", "--snapshotter", NATIVE, "ls"]))
}

const WORK: &str = "
    echo new > /new
    echo more >> /etc/passwd
    chmod 600 /etc/group
    rm /bin/true
    rm -r /home
    rm -r /data; mkdir -m 755 /data; echo own > /data/own
    rm -r /root; ln -s /tmp /root
    rm /bin/false; mkdir -p /bin/false/deep/deeper
    ln -sf nowhere /bin/yes
    ln -s /etc/passwd /link
    mkdir '/a folder'; echo inside > '/a folder/file'
    mkfifo /fifo
    touch /tmp/gone; rm /tmp/gone
    chown 1000:1000 /tmp
";

const CHANGES: [&str; 17] = [
    "added /a folder",
    "added /a folder/file",
    "modified /bin/false",
    "added /bin/false/deep",
    "added /bin/false/deep/deeper",
    "deleted /bin/true",
    "modified /bin/yes",
    "deleted /data/changed",
    "added /data/own",
    "modified /etc/group",
    "modified /etc/passwd",
    "added /fifo",
    "deleted /home",
    "added /link",
    "added /new",
    "modified /root",
    "modified /tmp",
];

fn changes(env: &Env) {
    let stage = Stage::of(env, "diff", Kind::ThreeLayers);
    fs::create_dir_all(stage.folder.join("work")).unwrap();
    for snapshotter in [stage.snapshotter.as_str(), NATIVE] {
        let id = create(&stage, snapshotter);
        assert_eq!(told(&stage, &id), [""; 0], "{snapshotter}: it was only made");
        stage.run(Start::new(&id, StartOptions::default())).unwrap();
        let before = there(&stage);
        let runtime = told(&stage, &id);
        assert_eq!(runtime, ["added /run"], "{snapshotter}: a place to mount on");
        shell(&stage, &id, WORK);
        let expected: BTreeSet<&str> = runtime.iter().map(String::as_str).chain(CHANGES).collect();
        let seen = told(&stage, &id);
        assert_eq!(seen.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{snapshotter}");
        assert_eq!(there(&stage), before, "{snapshotter}");
        as_daemon(&stage, &id, snapshotter);
        stage.run(Kill::new(&id, Some(Signal::KILL))).unwrap();
        env.block_on(wait(&stage.ctx, &id, "", Some(Duration::from_secs(20)))).unwrap();
        assert_eq!(told(&stage, &id), seen, "{snapshotter}: it has ended");
        stage.run(Delete::new(&id, true, false)).unwrap();
    }
}

/// Compares what is told with the layer that the daemon makes of it.
#[track_caller]
fn as_daemon(stage: &Stage, id: &str, snapshotter: &str) {
    let code = format!("snapshots::diff(\"{id}\", #{{ snapshotter: \"{snapshotter}\", path: \"layer.tar\" }}); ()");
    stage.value(&code);
    let (mut here, mut gone, mut folders) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut archive = tar::Archive::new(File::open(stage.folder.join("work/layer.tar")).unwrap());
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let path = Path::new("/").join(entry.path().unwrap());
        match path.file_name().and_then(|name| name.to_str()?.strip_prefix(".wh.")) {
            Some(name) => gone.insert(path.with_file_name(name)),
            None if entry.header().entry_type().is_dir() => folders.insert(path),
            None => here.insert(path),
        };
    }
    let mut told = stage.env.block_on(diff(&stage.ctx, id)).unwrap();
    let deleted: BTreeSet<_> = told.extract_if(.., |change| change.fate == Fate::Deleted).map(|c| c.path).collect();
    assert_eq!(deleted, gone, "{snapshotter}");
    // The layer has folders for their times, too, and for what is in them.
    let files: BTreeSet<_> =
        told.into_iter().map(|change| change.path).filter(|path| !folders.contains(path)).collect();
    assert_eq!(files, here, "{snapshotter}");
}

/// Makes a record of a container that has this snapshot.
fn record(stage: &Stage, like: &Container, key: &str) -> String {
    let record = Container { id: format!("{key}-container"), snapshot_key: key.to_owned(), ..like.clone() };
    let make = async { stage.ctx.client().await.unwrap().containers().create(&record).await };
    stage.env.block_on(make).unwrap();
    record.id
}

fn without_image(env: &Env) {
    let stage = Stage::of(env, "diff", Kind::ThreeLayers);
    let id = create(&stage, &stage.snapshotter);
    let like = env.block_on(get(&stage.ctx, &id)).unwrap();
    let base = env.block_on(snapshot::get(&stage.ctx, &stage.snapshotter, &id)).unwrap().info.parent.unwrap();
    stage.value(&format!("snapshots::view(\"looked\", \"{base}\"); snapshots::prepare(\"empty\"); ()"));
    assert_eq!(told(&stage, &record(&stage, &like, "looked")), [""; 0]);
    let alone = record(&stage, &like, "empty");
    let mounts = env.block_on(snapshot::mounts(&stage.ctx, &stage.snapshotter, "empty")).unwrap();
    let folder = Path::new(&mounts[0].source);
    fs::create_dir(folder.join("folder")).unwrap();
    fs::write(folder.join("folder/file"), "").unwrap();
    assert_eq!(told(&stage, &alone), ["added /folder", "added /folder/file"]);
    // As when the daemon is on another host.
    fs::remove_dir_all(folder).unwrap();
    let error = env.block_on(diff(&stage.ctx, &alone)).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    assert!(error.to_string().ends_with("which is not on this host"), "{error}");
    assert!(error.hint().unwrap().contains("snapshots::diff(\"empty\""), "{:?}", error.hint());
    stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "rm", "empty"]);
    let error = env.block_on(diff(&stage.ctx, &alone)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
}

fn user_namespace(env: &Env) {
    open_to_users(env);
    let stage = Stage::of(env, "diff", Kind::ThreeLayers);
    let mut made = Vec::new();
    for (snapshotter, remap_labels) in
        [(stage.snapshotter.as_str(), false), (&stage.snapshotter, true), (NATIVE, false)]
    {
        let map = vec!["0:100000:65536".parse().unwrap()];
        let spec = SpecOptions { uid_map: map.clone(), gid_map: map, ..SpecOptions::default() };
        let id = create_with(&stage, snapshotter, spec, remap_labels);
        stage.run(Start::new(&id, StartOptions::default())).unwrap();
        shell(&stage, &id, "echo new > /etc/new; chown app /data");
        let expected = ["modified /data", "added /etc/new", "added /run"];
        assert_eq!(told(&stage, &id), expected, "{snapshotter} {remap_labels}");
        made.push(id);
    }
    for id in made {
        stage.run(Delete::new(&id, true, false)).unwrap();
    }
}

fn dropped(env: &Env) {
    let stage = Stage::of(env, "diff", Kind::ThreeLayers);
    let id = create(&stage, NATIVE);
    let before = there(&stage);
    let mut cut_off = 0;
    for wait in [0, 1, 2, 4, 8, 16, 32, 64] {
        let done = env.block_on(async {
            let done = tokio::time::timeout(Duration::from_millis(wait), diff(&stage.ctx, &id)).await;
            stage.ctx.settle().await;
            done.map(|result| result.unwrap()).is_ok()
        });
        cut_off += usize::from(!done);
        assert_eq!(there(&stage), before, "cut off after {wait} ms");
    }
    assert!(cut_off > 0, "it was never cut off");
}

fn access(env: &Env) {
    let stage = Stage::of(env, "diff", Kind::ThreeLayers);
    let (overlay, native) = (started(&stage, &stage.snapshotter), started(&stage, NATIVE));
    shell(&stage, &overlay, "echo new > /new");
    let count = |ctx: &Context, id: &str| env.block_on(diff(ctx, id)).map(|changes| changes.len());
    let reading = stage.allowing(Allow::of(&[Access::Read]));
    let is_overlay = stage.snapshotter != NATIVE;
    if is_overlay {
        assert_eq!(count(&reading, &overlay).unwrap(), 2);
        assert_eq!(count(&reading.dry_run(), &overlay).unwrap(), 2, "what only reads is no change to be planned");
    }
    let error = count(&reading, &native).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied, "{error}");
    let before = there(&stage);
    assert_eq!(count(&stage.ctx.dry_run(), &native).unwrap(), 0);
    assert_eq!(there(&stage), before);
    // One that only a dry run made.
    let ctx = stage.ctx.dry_run();
    stage.run_in(&ctx, Create::new("pretended", IMAGE, CreateOptions::default())).unwrap();
    assert_eq!(count(&ctx, "pretended").unwrap(), 0);
    // A script of either form has the same, and none has what a mount hides.
    let code = format!("let a = diff(\"{overlay}\"); let b = container(\"{overlay}\").diff(); [a == b, a]");
    let new = |path: &str| serde_json::json!({ "path": path, "change": "added" });
    assert_eq!(stage.value(&code), serde_json::json!([true, [new("/new"), new("/run")]]));
    for id in [overlay, native] {
        stage.run(Delete::new(&id, true, false)).unwrap();
    }
}

fn mistakes(env: &Env) {
    let stage = Stage::of(env, "diff", Kind::ThreeLayers);
    let id = create(&stage, &stage.snapshotter);
    let before = there(&stage);
    let nearly = format!("{id}x");
    let error = env.block_on(diff(&stage.ctx, &nearly)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    assert!(error.hint().unwrap().contains(&id), "{:?}", error.hint());
    assert_eq!(there(&stage), before);
    let rootfs = stage.folder.join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    let (rootfs, command) = (Some(rootfs.display().to_string()), Some(vec!["true".to_owned()]));
    let spec = SpecOptions { rootfs, command, ..SpecOptions::default() };
    let options = CreateOptions { spec, ..CreateOptions::default() };
    stage.run(Create::new("hosted", "", options)).unwrap();
    let error = env.block_on(diff(&stage.ctx, "hosted")).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    assert!(error.to_string().contains("no snapshot"), "{error}");
    // A snapshotter that the daemon has no more.
    let like = env.block_on(get(&stage.ctx, &id)).unwrap();
    let lost = Container { id: "lost".into(), snapshotter: "nobodys".into(), ..like };
    env.block_on(async { stage.ctx.client().await.unwrap().containers().create(&lost).await }).unwrap();
    let error = env.block_on(diff(&stage.ctx, "lost")).unwrap_err();
    assert!(error.to_string().contains("nobodys"), "{error}");
}
