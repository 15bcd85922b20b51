//! Archives whose index gets a name, and archives whose layers are let go of once they are unpacked.

use std::collections::BTreeSet;

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::Matcher;
use ctrsh::oci::media_type::Compression;
use ctrsh::ops::image::{Arrival, Load, LoadOptions, Pull, Push, PushOptions, Save, SaveOptions, get, list};
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::image::Kind;
use crate::harness::{Env, trial};

const ALL: &str = "example.test/all:1";

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::archive_index::an index gets the name and the digest that it gets by ctr", env, named),
        trial("ops::archive_index::an archive without names comes in as its index", env, nameless),
        trial("ops::archive_index::mistakes with the name of an index are named", env, mistakes),
        trial("ops::archive_index::unpacked layers are let go of, and the image runs", env, discarded),
        trial("ops::archive_index::layers of other platforms are kept", env, kept),
        trial("ops::archive_index::letting go of layers needs delete access, and a dry run keeps them", env, access),
    ]
}

fn options() -> LoadOptions {
    LoadOptions { index_name: Some(ALL.parse().unwrap()), ..LoadOptions::default() }
}

fn save(stage: &Stage, names: &[&str], file: &str) -> std::path::PathBuf {
    let path = stage.folder.join(file);
    let options = SaveOptions { platforms: None, compression: Compression::None };
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    stage.run(Save::new(names, path.clone(), options)).unwrap();
    path
}

/// The digests of what is in the namespace's content store, after the collector took what nothing holds.
fn content(stage: &Stage) -> BTreeSet<String> {
    stage.ctr(&["leases", "create", "--id", "collect"]);
    stage.ctr(&["leases", "rm", "--sync", "collect"]);
    stage.ctr(&["content", "ls", "-q"]).lines().map(str::to_owned).collect()
}

fn named(env: &Env) {
    let source = Stage::of(env, "archives", Kind::ThreeLayers);
    source.ctr(&["images", "tag", IMAGE, "example.test/second:1"]);
    let ours = save(&source, &[IMAGE, "example.test/second:1"], "ours.tar");
    let theirs = source.folder.join("theirs.tar");
    source.ctr(&["images", "export", theirs.to_str().unwrap(), IMAGE]);
    let docker = source.folder.join("docker.tar");
    let target = format!("docker-archive:{}:example.test/docker:1", docker.display());
    env.skopeo(&["copy", &env.image(Kind::ThreeLayers).skopeo_name(), &target]).ok();
    for path in [ours, theirs, docker] {
        let by_ctr = Stage::empty(env, "archives");
        let file = path.to_str().unwrap();
        by_ctr.ctr(&["images", "import", "--index-name", ALL, "--snapshotter", &by_ctr.snapshotter, file]);
        let stage = Stage::empty(env, "archives");
        let preview = stage.run_in(&stage.ctx.dry_run(), Load::new(path.clone(), options())).unwrap();
        assert!(env.block_on(list(&stage.ctx, &[])).unwrap().is_empty(), "a dry run loaded {file}");
        let loaded = stage.run(Load::new(path.clone(), options())).unwrap();
        let names = |images: &[ctrsh::containerd::images::Image]| {
            images.iter().map(|image| (image.name.clone(), image.target.digest.clone())).collect::<Vec<_>>()
        };
        assert_eq!(names(&preview), names(&loaded));
        assert_eq!(loaded[0].name, ALL);
        let found = |stage: &Stage| {
            let mut found = names(&env.block_on(list(&stage.ctx, &[])).unwrap());
            found.sort_by(|one, other| one.0.cmp(&other.0));
            found
        };
        assert_eq!(found(&stage), found(&by_ctr), "{file}");
        // Once more, nothing changes.
        stage.run(Load::new(path.clone(), options())).unwrap();
        assert_eq!(found(&stage), found(&by_ctr), "{file}");
        // The index keeps all of it, and runs.
        for image in loaded.iter().skip(1) {
            stage.ctr(&["images", "rm", "--sync", &image.name]);
        }
        let id = env.fresh("archives");
        let run = ["run", "--rm", "--snapshotter", &stage.snapshotter, ALL, &id, "/bin/echo", "index"];
        assert_eq!(stage.ctr(&run), "index\n", "{file}");
    }
}

fn nameless(env: &Env) {
    let stage = Stage::empty(env, "archives");
    let path = stage.folder.join("naked.tar");
    let target = format!("oci-archive:{}:latest", path.display());
    env.skopeo(&["copy", &env.image(Kind::Busybox).skopeo_name(), &target]).ok();
    let loaded = stage.run(Load::new(path, options())).unwrap();
    assert_eq!(loaded.iter().map(|image| image.name.as_str()).collect::<Vec<_>>(), [ALL]);
    let run = ["run", "--rm", "--snapshotter", &stage.snapshotter, ALL, &env.fresh("archives"), "/bin/echo", "naked"];
    assert_eq!(stage.ctr(&run), "naked\n");
}

fn mistakes(env: &Env) {
    let source = Stage::new(env, "archives");
    let path = save(&source, &[IMAGE], "a.tar");
    let stage = Stage::empty(env, "archives");
    let before = stage.leftovers();
    let taken = LoadOptions { index_name: Some(IMAGE.parse().unwrap()), ..LoadOptions::default() };
    let error = stage.run(Load::new(path.clone(), taken)).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    assert!(error.to_string().contains(&format!("index_name {IMAGE} is the name of an image")), "{error}");
    let script = |options: &str| {
        let report = stage.script(&format!("load({:?}, #{{ {options} }})", path.display().to_string())).unwrap_err();
        report.error.message
    };
    assert!(script("index_name: \"A B\"").contains("A B"));
    assert!(script("index_name: 5").contains("index_name"));
    let both = script("discard_unpacked_layers: true, unpack: false");
    assert!(both.contains("option 'discard_unpacked_layers' needs the layers unpacked"), "{both}");
    assert_eq!(stage.leftovers(), before);
    // A name that points elsewhere is taken with force alone.
    let source = Stage::of(env, "archives", Kind::ThreeLayers);
    let other = save(&source, &[IMAGE], "b.tar");
    stage.run(Load::new(path, options())).unwrap();
    let error = stage.run(Load::new(other.clone(), options())).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    stage.run(Load::new(other, LoadOptions { force: true, ..options() })).unwrap();
}

fn discarded(env: &Env) {
    let source = Stage::of(env, "archives", Kind::ThreeLayers);
    let image = env.image(Kind::ThreeLayers);
    let layers: BTreeSet<String> = image.layers.iter().cloned().collect();
    let path = save(&source, &[IMAGE], "a.tar");
    let arrival = Arrival { platforms: Matcher::All, discard_layers: true, ..Arrival::default() };
    let discard = LoadOptions { arrival: arrival.clone(), ..LoadOptions::default() };
    let runs = |stage: &Stage| {
        let id = env.fresh("archives");
        let run = ["run", "--rm", "--snapshotter", &stage.snapshotter, IMAGE, &id, "/bin/echo", "runs"];
        assert_eq!(stage.ctr(&run), "runs\n");
    };
    let stage = Stage::empty(env, "archives");
    for index_name in [None, Some(ALL.parse().unwrap())] {
        stage.run(Load::new(path.clone(), LoadOptions { index_name, ..discard.clone() })).unwrap();
        let left = content(&stage);
        assert!(left.is_disjoint(&layers) && left.contains(&image.config), "{left:?}");
        runs(&stage);
    }
    let target = format!("{}:lost", env.repository("archives"));
    let options = PushOptions { source: Some(IMAGE.to_owned()), ..PushOptions::default() };
    let error = stage.run(Push::new(target.parse().unwrap(), options)).unwrap_err();
    let lacks = |layer: &String| error.to_string().contains(&format!("{layer} is not in the content store"));
    assert!(error.kind() == Failed::Integrity && layers.iter().any(lacks), "{error}");
    assert!(error.hint().unwrap().contains("discard_unpacked_layers"), "{:?}", error.hint());
    // What was kept before goes too, and comes back with the next load.
    let whole =
        LoadOptions { arrival: Arrival { platforms: Matcher::All, ..Arrival::default() }, ..LoadOptions::default() };
    stage.run(Load::new(path.clone(), whole)).unwrap();
    assert!(content(&stage).is_superset(&layers));
    stage.run(Load::new(path, discard)).unwrap();
    assert!(content(&stage).is_disjoint(&layers));
    runs(&stage);
    // The same from a registry.
    let stage = Stage::empty(env, "archives");
    let name = env.pushed(Kind::ThreeLayers, "archives");
    let arrival = Arrival { platforms: Matcher::host(), ..arrival };
    stage.run(Pull::new(name.parse().unwrap(), arrival, Default::default())).unwrap();
    assert!(content(&stage).is_disjoint(&layers));
    stage.ctr(&["images", "tag", &name, IMAGE]);
    runs(&stage);
}

fn kept(env: &Env) {
    let source = Stage::empty(env, "archives");
    let name = env.pushed(Kind::Index, "archives");
    let whole = Arrival { platforms: Matcher::All, unpack: false, ..Arrival::default() };
    source.run(Pull::new(name.parse().unwrap(), whole, Default::default())).unwrap();
    let path = save(&source, &[&name], "a.tar");
    let all = content(&source);
    let stage = Stage::empty(env, "archives");
    let arrival = Arrival { platforms: Matcher::All, discard_layers: true, ..Arrival::default() };
    stage.run(Load::new(path, LoadOptions { arrival, ..LoadOptions::default() })).unwrap();
    let gone: BTreeSet<String> = all.difference(&content(&stage)).cloned().collect();
    assert_eq!(gone, env.image(Kind::Index).layers.into_iter().collect());
}

fn access(env: &Env) {
    let source = Stage::new(env, "archives");
    let path = save(&source, &[IMAGE], "a.tar");
    let stage = Stage::new(env, "archives");
    let before = content(&stage);
    let arrival = Arrival { platforms: Matcher::All, discard_layers: true, ..Arrival::default() };
    let discard = || LoadOptions { arrival: arrival.clone(), ..LoadOptions::default() };
    let allow = Allow::of(&[Access::Read, Access::Write, Access::Files, Access::Host]);
    let error = stage.run_in(&stage.allowing(allow), Load::new(path.clone(), discard())).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied, "{error}");
    stage.run_in(&stage.ctx.dry_run(), Load::new(path, discard())).unwrap();
    assert_eq!(content(&stage), before);
    assert!(env.block_on(get(&stage.ctx, IMAGE)).is_ok());
}
