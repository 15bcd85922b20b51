//! Snapshots: made by us and by ctr, and compared.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctrsh::containerd::Labels;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::{Digest, Matcher, MediaType};
use ctrsh::ops::container::{Create, CreateOptions};
use ctrsh::ops::image::{Unmount, chain_id, get as image};
use ctrsh::ops::snapshot::{
    Commit, Delete, Diff, DiffOptions, Label, Mount, Prepare, PrepareOptions, Unpack, View, children, get, list,
    mounts, tree, usage,
};
use libtest_mimic::Trial;
use serde_json::Value;

use super::stage::{IMAGE, Stage};
use crate::harness::output::Output;
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::snapshot::what we make is what ctr makes", env, made),
        trial("ops::snapshot::lists, trees and usage are ctr's", env, listed),
        trial("ops::snapshot::what is made by hand stays, unless its labels say otherwise", env, kept),
        trial("ops::snapshot::a diff is ctr's, and what changed is in it", env, diff),
        trial("ops::snapshot::several are deleted in order, and what stands against it is told at once", env, deleted),
        trial("ops::snapshot::an image is unpacked by name and by digest", env, unpacked),
        trial("ops::snapshot::what is mounted can be written, and a failure leaves nothing", env, mounted),
        trial("ops::snapshot::more layers than a page names are mounted", env, deep),
        trial("ops::snapshot::a preparation that is dropped leaves nothing that it made", env, dropped),
        trial("ops::snapshot::mistakes are named", env, mistakes),
    ]
}

fn options(stage: &Stage) -> PrepareOptions {
    PrepareOptions { snapshotter: Some(stage.snapshotter.clone()), ..PrepareOptions::default() }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn ctr(stage: &Stage, arguments: &[&str]) -> String {
    stage.ctr(&[&["snapshots", "--snapshotter", &stage.snapshotter], arguments].concat())
}

fn top(stage: &Stage) -> String {
    stage.env.block_on(async {
        let image = image(&stage.ctx, IMAGE).await.unwrap();
        chain_id(&stage.ctx, &image, &Matcher::host()).await.unwrap().unwrap().to_string()
    })
}

fn prepare(stage: &Stage, key: &str, parent: Option<&str>) {
    stage.run(Prepare::new(key, parent.map(str::to_owned), options(stage))).unwrap();
}

/// Lets the daemon's collector run.
fn collect(stage: &Stage) {
    stage.ctr(&["leases", "create", "--id", "collect"]);
    stage.ctr(&["leases", "delete", "--sync", "collect"]);
}

/// Looks at what ctr leaves to the collector, again when that comes first: it runs for others of the daemon too.
fn until_seen<T>(mut look: impl FnMut() -> T) -> T {
    let seen = (0..5).find_map(|_| catch_unwind(AssertUnwindSafe(&mut look)).ok());
    seen.unwrap_or_else(look)
}

/// Returns what ctr says of a snapshot, with times replaced.
fn about(stage: &Stage, key: &str) -> Value {
    let mut about: Value = serde_json::from_str(&ctr(stage, &["info", key])).unwrap();
    for time in ["Created", "Updated"] {
        assert!(about[time].take().is_string());
    }
    if let Some(root) = about["Labels"].get_mut("containerd.io/gc.root") {
        let time: chrono::DateTime<chrono::Utc> = root.as_str().unwrap().parse().unwrap();
        assert!(chrono::Utc::now() - time < chrono::TimeDelta::minutes(10), "{time}");
        *root = "now".into();
    }
    about
}

fn made(env: &Env) {
    let (ours, theirs) = (Stage::new(env, "snapshots"), Stage::new(env, "snapshots"));
    let base = top(&ours);
    assert_eq!(base, top(&theirs));
    prepare(&ours, "work", Some(&base));
    ctr(&theirs, &["prepare", "work", &base]);
    assert_eq!(about(&ours, "work"), about(&theirs, "work"));
    let label = Label::new("work", labels(&[("a", "1"), ("b", "2")]), Some(ours.snapshotter.clone()));
    let labelled = ours.run(label).unwrap();
    assert_eq!(labelled.info.labels["a"], "1");
    ctr(&theirs, &["label", "work", "a=1", "b=2"]);
    let remove = Label::new("work", labels(&[("a", "")]), Some(ours.snapshotter.clone()));
    ours.run(remove).unwrap();
    ctr(&theirs, &["label", "work", "a="]);
    assert_eq!(about(&ours, "work"), about(&theirs, "work"));
    let unchanged = ours.run(Label::new("work", Labels::new(), Some(ours.snapshotter.clone()))).unwrap();
    assert_eq!(unchanged.info.labels["b"], "2");
    assert_eq!(about(&ours, "work"), about(&theirs, "work"));
    let commit = Commit::new("done", "work", Labels::new(), Some(ours.snapshotter.clone()));
    let done = ours.run(commit).unwrap();
    assert_eq!(done.info.parent.as_deref(), Some(base.as_str()));
    ctr(&theirs, &["commit", "done", "work"]);
    assert_eq!(about(&ours, "done"), about(&theirs, "done"));
    // The one difference: ctr's view is the collector's.
    let view = View::new("look", Some("done".into()), options(&ours));
    ours.run(view).unwrap();
    let theirs_seen = until_seen(|| {
        ctr(&theirs, &["view", "look", "done"]);
        about(&theirs, "look")
    });
    let mut seen = about(&ours, "look");
    assert_eq!(seen["Labels"], serde_json::json!({ "containerd.io/gc.root": "now" }));
    seen["Labels"] = theirs_seen["Labels"].clone();
    assert_eq!(seen, theirs_seen);
    // Each can be read by the other.
    let printed = ctr(&ours, &["mounts", "/somewhere", "look"]);
    let ours_mounts = env.block_on(mounts(&ours.ctx, &ours.snapshotter, "look")).unwrap();
    assert!(printed.contains(&ours_mounts[0].options.join(",")), "{printed} {ours_mounts:?}");
}

fn listed(env: &Env) {
    let stage = Stage::of(env, "snapshots", Kind::ThreeLayers);
    let base = top(&stage);
    for key in ["b", "a"] {
        prepare(&stage, key, Some(&base));
    }
    prepare(&stage, "alone", None);
    let snapshots = env.block_on(list(&stage.ctx, &stage.snapshotter, &[])).unwrap();
    let line = |snapshot: &ctrsh::ops::snapshot::Snapshot| {
        let kind = snapshot.info.kind.as_str();
        let kind = kind[..1].to_uppercase() + &kind[1..];
        let parent = snapshot.info.parent.clone().unwrap_or_default();
        [snapshot.info.name.clone(), parent, kind].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    let words = |text: String| -> Vec<Vec<String>> {
        text.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let mut theirs = words(ctr(&stage, &["ls"]));
    theirs.sort();
    assert_eq!(snapshots.iter().map(line).collect::<Vec<_>>(), theirs);
    let filter = |filter: &str| -> Vec<String> {
        let found = env.block_on(list(&stage.ctx, &stage.snapshotter, &[filter.to_owned()])).unwrap();
        found.into_iter().map(|snapshot| snapshot.info.name).collect()
    };
    assert_eq!(filter("kind==active"), ["a", "alone", "b"]);
    assert_eq!(filter(&format!("parent==\"{base}\"")), ["a", "b"]);
    let above = env.block_on(children(&stage.ctx, &stage.snapshotter, &base)).unwrap();
    assert_eq!(above.iter().map(|snapshot| snapshot.info.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let rows = env.block_on(tree(&stage.ctx, &stage.snapshotter)).unwrap();
    let ours: BTreeMap<String, usize> = rows.iter().map(|row| (row.snapshot.info.name.clone(), row.depth)).collect();
    let theirs: BTreeMap<String, usize> = ctr(&stage, &["tree"])
        .lines()
        .map(|line| {
            let name = line.trim_start_matches([' ', '\\', '_']);
            // It is moved right by two for each snapshot below it.
            (name.to_owned(), line.find("\\_").map_or(0, |at| at / 2))
        })
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!((ours["a"], ours["alone"], ours[&base]), (3, 0, 2));

    let measured = env.block_on(usage(&stage.ctx, &stage.snapshotter, None)).unwrap();
    let ours: Vec<Vec<String>> = measured
        .iter()
        .map(|(key, usage)| vec![key.clone(), usage.size.to_string(), usage.inodes.to_string()])
        .collect();
    let mut theirs = words(ctr(&stage, &["usage", "-b"]));
    theirs.sort();
    assert_eq!(ours, theirs);
    let two = vec!["b".to_owned(), base.clone()];
    let two = env.block_on(usage(&stage.ctx, &stage.snapshotter, Some(two))).unwrap();
    assert_eq!(two.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["b", base.as_str()]);
}

fn kept(env: &Env) {
    let stage = Stage::new(env, "snapshots");
    let base = top(&stage);
    prepare(&stage, "active", Some(&base));
    prepare(&stage, "draft", None);
    stage.run(Commit::new("committed", "draft", Labels::new(), Some(stage.snapshotter.clone()))).unwrap();
    stage.run(View::new("view", Some(base.clone()), options(&stage))).unwrap();
    let loose = PrepareOptions { labels: labels(&[("containerd.io/gc.root", ""), ("a", "b")]), ..options(&stage) };
    let keys = || -> Vec<String> {
        let all = env.block_on(list(&stage.ctx, &stage.snapshotter, &[])).unwrap();
        all.into_iter().map(|snapshot| snapshot.info.name).collect()
    };
    let mut expected = vec!["active".to_owned(), "committed".into(), "loose".into(), base.clone(), "view".into()];
    until_seen(|| {
        stage.run(Prepare::new("loose", Some(base.clone()), loose.clone())).unwrap();
        assert_eq!(keys(), expected);
    });
    collect(&stage);
    expected.remove(2);
    assert_eq!(keys(), expected, "after the collector");
}

fn write(stage: &Stage, key: &str, change: impl Fn(&Path)) {
    let folder = stage.folder.join(format!("at-{key}"));
    stage.run(Mount::new(key, folder.clone(), Some(stage.snapshotter.clone()))).unwrap();
    change(&folder);
    stage.run(Unmount::new(folder, true, Some(stage.snapshotter.clone()))).unwrap();
}

/// Returns the names in a tar, by GNU tar.
fn names(path: &Path) -> Vec<String> {
    Output::of(std::process::Command::new("tar").arg("-tf").arg(path)).lines()
}

fn settings(stage: &Stage) -> DiffOptions {
    DiffOptions {
        media_type: MediaType::parse("application/vnd.oci.image.layer.v1.tar+gzip"),
        reference: None,
        labels: Labels::new(),
        keep: true,
        path: None,
        snapshotter: Some(stage.snapshotter.clone()),
    }
}

/// Returns the line that ctr has for the blob of a digest, or with a label.
fn blob(stage: &Stage, text: &str) -> Option<String> {
    // A digest is also the value of labels.
    let is_of = |line: &&str| if text.contains('=') { line.contains(text) } else { line.starts_with(text) };
    stage.ctr(&["content", "ls"]).lines().find(is_of).map(str::to_owned)
}

fn diff(env: &Env) {
    let stage = Stage::of(env, "snapshots", Kind::ThreeLayers);
    let base = top(&stage);
    prepare(&stage, "work", Some(&base));
    write(&stage, "work", |root| {
        fs::write(root.join("new"), "new\n").unwrap();
        fs::write(root.join("data/changed"), "again\n").unwrap();
        fs::remove_file(root.join("bin/ls")).unwrap();
    });
    let before = stage.leftovers();
    // ctr writes the bytes too, which are none for a text.
    let theirs = ["diff", "--keep", "--label", "made.by=ctr", "work"];
    let arguments = [&["-n", &stage.namespace, "snapshots", "--snapshotter", &stage.snapshotter], &theirs[..]].concat();
    let ours = until_seen(|| {
        env.ctr(&arguments).expect_status(0);
        let theirs = blob(&stage, "made.by=ctr").unwrap();
        stage.ctr(&["content", "rm", theirs.split_whitespace().next().unwrap()]);
        let ours = stage.run(Diff::new(None, "work", settings(&stage))).unwrap();
        // containerd gives a whiteout the second in which the layer is written (pkg/archive, `ChangeWriter`).
        if !theirs.starts_with(ours.digest.as_str()) {
            stage.ctr(&["content", "rm", ours.digest.as_str()]);
            panic!("{theirs} is not {}", ours.digest);
        }
        ours
    });
    let line = blob(&stage, ours.digest.as_str()).unwrap();
    assert!(line.contains("containerd.io/gc.root") && line.contains("containerd.io/uncompressed"), "{line}");
    assert_eq!(stage.leftovers(), before);
    collect(&stage);
    assert!(blob(&stage, ours.digest.as_str()).is_some());

    let path = stage.folder.join("work.tar");
    let plain = DiffOptions {
        media_type: MediaType::parse("application/vnd.oci.image.layer.v1.tar"),
        keep: false,
        path: Some(path.clone()),
        ..settings(&stage)
    };
    let written = stage.run(Diff::new(None, "work", plain.clone())).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!((written.size, &written.digest), (bytes.len() as u64, &Digest::sha256(&bytes)));
    let mut seen = names(&path);
    seen.retain(|name| !name.ends_with('/'));
    seen.sort();
    assert_eq!(seen, ["bin/.wh.ls", "data/changed", "new"]);
    collect(&stage);
    assert_eq!(blob(&stage, written.digest.as_str()), None, "the layer stayed in the store");

    // From one to another, and of a committed one.
    prepare(&stage, "other", Some(&base));
    write(&stage, "other", |root| fs::write(root.join("other"), "other\n").unwrap());
    stage.run(Diff::new(Some("work".into()), "other", plain.clone())).unwrap();
    let mut seen = names(&path);
    seen.retain(|name| !name.ends_with('/'));
    seen.sort();
    assert_eq!(seen, [".wh.new", "bin/ls", "data/changed", "other"]);
    stage.run(Diff::new(None, &base, plain)).unwrap();
    let mut seen = names(&path);
    seen.retain(|name| !name.ends_with('/'));
    seen.sort();
    assert_eq!(seen, ["data/.wh.removed", "data/changed"]);
    let mut after = stage.leftovers();
    assert!(after.0.snapshots.remove("other"));
    assert_eq!(after, before);
    // A file that cannot be written leaves neither a blob nor a view.
    let nowhere = DiffOptions { path: Some(PathBuf::from("/nowhere/at/all.tar")), keep: false, ..settings(&stage) };
    let error = stage.run(Diff::new(None, "other", nowhere)).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all.tar"), "{error}");
    let mut after = stage.leftovers();
    assert!(after.0.snapshots.remove("other"));
    assert_eq!(after, before);
}

fn delete(stage: &Stage, keys: &[&str], force: bool) -> ctrsh::ops::Result<u64> {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    stage.run(Delete::new(keys, Some(stage.snapshotter.clone()), force))
}

fn deleted(env: &Env) {
    let stage = Stage::new(env, "snapshots");
    let before = stage.leftovers();
    prepare(&stage, "a", None);
    stage.run(Commit::new("one", "a", Labels::new(), Some(stage.snapshotter.clone()))).unwrap();
    prepare(&stage, "b", Some("one"));
    stage.run(Commit::new("two", "b", Labels::new(), Some(stage.snapshotter.clone()))).unwrap();
    prepare(&stage, "c", Some("two"));
    prepare(&stage, "d", Some("one"));
    let id = env.fresh("snapshots");
    let made = Create::new(&id, IMAGE, CreateOptions::default());
    let root = stage.run(made).unwrap().snapshot_key;
    let there = stage.leftovers();
    let error = delete(&stage, &["one", "two", "onne", &root], false).unwrap_err();
    let text = error.to_string();
    for words in ["no such snapshot: onne", "snapshot one has others on it: d", "snapshot two has others on it: c"] {
        assert!(text.contains(words), "{text}");
    }
    assert!(text.contains(&format!("is the root filesystem of container {id}")), "{text}");
    assert_eq!(stage.leftovers(), there);
    assert_eq!(delete(&stage, &["one", "c", "two", "d", "c"], false).unwrap(), 4);
    // Without its container nothing but a label keeps it from the collector.
    let kept = labels(&[("containerd.io/gc.root", "now")]);
    stage.run(Label::new(&root, kept, Some(stage.snapshotter.clone()))).unwrap();
    stage.ctr(&["containers", "rm", "--keep-snapshot", &id]);
    assert_eq!(delete(&stage, &[&root], false).unwrap(), 1);
    assert_eq!(stage.leftovers(), before);
    stage.run(Create::new(&id, IMAGE, CreateOptions::default())).unwrap();
    assert_eq!(delete(&stage, &[&root], true).unwrap(), 1);
    stage.ctr(&["containers", "rm", &id]);
    assert_eq!(stage.leftovers(), before);
    let error = delete(&stage, &["nothing"], false).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
}

fn unpacked(env: &Env) {
    let name = env.pushed(Kind::Index, "snapshots");
    let stage = || {
        let stage = Stage::empty(env, "snapshots");
        stage.ctr(&["content", "fetch", "--plain-http", &name]);
        stage
    };
    let (ours, theirs) = (stage(), stage());
    let target = env.block_on(image(&ours.ctx, &name)).unwrap().target.digest.to_string();
    ctr(&theirs, &["unpack", "--snapshotter", &theirs.snapshotter, &target]);
    let unpack = |what: &str| {
        let unpack = Unpack::new(what, Matcher::host(), Some(ours.snapshotter.clone()));
        ours.run(unpack).unwrap().unwrap().info
    };
    let first = unpack(&name);
    let keys = |stage: &Stage| stage.leftovers().0.snapshots;
    let listed = |stage: &Stage| ctr(stage, &["ls"]);
    assert_eq!(listed(&ours), listed(&theirs));
    assert_eq!(keys(&ours), keys(&theirs));
    // As after a pull by ctr, whose unpack leaves it out.
    assert_eq!(about(&ours, &first.name)["Labels"]["containerd.io/snapshot.ref"], first.name);
    let manifest = env.image(Kind::Index).manifest;
    for what in [target.as_str(), &manifest] {
        assert_eq!(unpack(what), first);
    }
    assert_eq!(ours.ctr(&["leases", "ls", "-q"]), "");
    let missing = Digest::sha256(b"nothing").to_string();
    let fails = |what: &str| ours.run(Unpack::new(what, Matcher::host(), None)).unwrap_err();
    assert_eq!(fails(&missing).kind(), Failed::NotFound);
    let layer = &env.image(Kind::Index).layers[0];
    let config = &env.image(Kind::Index).config;
    for other in [layer, config] {
        let error = fails(other);
        assert_eq!(error.kind(), Failed::Usage, "{error}");
        assert!(error.to_string().contains("neither a manifest nor an index"), "{error}");
    }
}

fn mounted(env: &Env) {
    let stage = Stage::new(env, "snapshots");
    let before = stage.leftovers();
    let base = top(&stage);
    let folder = stage.folder.join("made/here");
    let at = |target: &Path| PrepareOptions { target: Some(target.to_owned()), ..options(&stage) };
    stage.run(Prepare::new("work", Some(base.clone()), at(&folder))).unwrap();
    assert!(folder.join("bin/busybox").is_file());
    fs::write(folder.join("kept"), "x").unwrap();
    stage.run(Unmount::new(folder.clone(), true, Some(stage.snapshotter.clone()))).unwrap();
    stage.run(Commit::new("done", "work", Labels::new(), Some(stage.snapshotter.clone()))).unwrap();
    stage.run(View::new("look", Some("done".into()), at(&folder))).unwrap();
    assert_eq!(fs::read_to_string(folder.join("kept")).unwrap(), "x");
    assert!(fs::write(folder.join("new"), "x").is_err());
    stage.run(Unmount::new(folder, true, Some(stage.snapshotter.clone()))).unwrap();
    let error = stage.run(Mount::new("done", stage.folder.join("x"), Some(stage.snapshotter.clone()))).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    assert!(error.hint().unwrap().contains("snapshots::view"), "{:?}", error.hint());
    delete(&stage, &["look", "done"], false).unwrap();
    assert_eq!(stage.leftovers(), before);

    let file = stage.folder.join("file");
    fs::write(&file, "").unwrap();
    stage.run(Prepare::new("work", Some(base), at(&file))).unwrap_err();
    assert_eq!(stage.leftovers(), before);
}

fn deep(env: &Env) {
    let stage = Stage::empty(env, "snapshots");
    let before = stage.leftovers();
    let folder = stage.folder.join("deep");
    let at = || PrepareOptions { target: Some(folder.clone()), ..options(&stage) };
    let name = |layer: usize| format!("layer-{layer}");
    for layer in 0..100_usize {
        let edge = layer == 0 || layer == 99;
        let parent = layer.checked_sub(1).map(name);
        stage.run(Prepare::new("work", parent, if edge { at() } else { options(&stage) })).unwrap();
        if edge {
            fs::write(folder.join(name(layer)), "x").unwrap();
            stage.run(Unmount::new(folder.clone(), true, Some(stage.snapshotter.clone()))).unwrap();
        }
        stage.run(Commit::new(&name(layer), "work", Labels::new(), Some(stage.snapshotter.clone()))).unwrap();
    }
    stage.run(View::new("look", Some(name(99)), at())).unwrap();
    let found = env.block_on(mounts(&stage.ctx, &stage.snapshotter, "look")).unwrap();
    assert!(found[0].options.join(",").len() > 4096, "they fit a page: {found:?}");
    let mut seen: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    seen.sort();
    assert_eq!(seen, ["layer-0", "layer-99"]);
    stage.run(Unmount::new(folder, true, Some(stage.snapshotter.clone()))).unwrap();
    let all: Vec<String> = (0..100).map(name).chain(["look".to_owned()]).collect();
    delete(&stage, &all.iter().map(String::as_str).collect::<Vec<_>>(), false).unwrap();
    assert_eq!(stage.leftovers(), before);
}

fn dropped(env: &Env) {
    let stage = Stage::new(env, "snapshots");
    let base = top(&stage);
    prepare(&stage, "ours", Some(&base));
    let before = stage.leftovers();
    for micros in [0, 100, 300, 500, 800, 1200, 2000, 3000] {
        for (key, stays) in [("ours", true), ("new", false)] {
            let done = env.block_on(async {
                let prepare = Prepare::new(key, Some(base.clone()), options(&stage));
                let prepare = ctrsh::ops::execute(&stage.ctx, prepare);
                let done = tokio::time::timeout(Duration::from_micros(micros), prepare).await;
                stage.ctx.settle().await;
                done.is_ok_and(|result| result.is_ok())
            });
            assert!(!(done && stays), "a key was taken twice");
            if done {
                delete(&stage, &[key], false).unwrap();
            }
            assert_eq!(stage.leftovers(), before, "{key} after {micros} µs");
        }
    }
}

fn mistakes(env: &Env) {
    let stage = Stage::new(env, "snapshots");
    let base = top(&stage);
    prepare(&stage, "work", Some(&base));
    let before = stage.leftovers();
    let error = stage.run(Prepare::new("work", None, options(&stage))).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    assert!(error.hint().unwrap().contains("snapshots::delete(\"work\")"), "{:?}", error.hint());
    let error = stage.run(Prepare::new("new", Some("wrok".into()), options(&stage))).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    assert!(error.hint().unwrap().contains("did you mean work"), "{:?}", error.hint());
    let error = stage.run(Prepare::new("new", Some("work".into()), options(&stage))).unwrap_err();
    assert!(error.to_string().contains("work"), "{error}");
    let commit = |key: &str, active: &str| Commit::new(key, active, Labels::new(), Some(stage.snapshotter.clone()));
    let error = stage.run(commit("new", &base)).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    let error = stage.run(commit(&base, "work")).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    let error = env.block_on(get(&stage.ctx, &stage.snapshotter, "nothing-like-it")).unwrap_err();
    assert!(error.hint().unwrap().contains("snapshots::list()"), "{:?}", error.hint());
    let error = env.block_on(list(&stage.ctx, "nonsense", &[])).unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
    let missing = Some(vec!["nothing".to_owned()]);
    let error = env.block_on(usage(&stage.ctx, &stage.snapshotter, missing)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    let error = env.block_on(mounts(&stage.ctx, &stage.snapshotter, "nothing")).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    assert_eq!(stage.leftovers(), before);
}
