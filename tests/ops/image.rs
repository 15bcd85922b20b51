//! Images: pulled and pushed by us, looked at and run by ctr and skopeo.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::{Digest, Matcher, Reference};
use ctrsh::ops::image::{
    Arrival, Install, InstallOptions, Label, Mount, MountOptions, Pull, Push, PushOptions, Unmount, get, list,
};
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::image::{Kind, foreign};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::image::what we pull is what ctr pulls, and ctr runs it", env, pulled),
        trial("ops::image::the kubelet sees an image of its namespace", env, kubelet),
        trial("ops::image::other platforms are fetched when they are asked for", env, foreign_platform),
        trial("ops::image::what we push is what skopeo and ctr read", env, pushed),
        trial("ops::image::a second push costs no blob, and a new repository mounts", env, again),
        trial("ops::image::an index that is here in part goes as its one platform", env, partial),
        trial("ops::image::a manifest is sent by its digest alone", env, by_digest),
        trial("ops::image::a pull that is dropped leaves nothing", env, dropped),
        trial("ops::image::a dry run of pull and push changes nothing", env, dry),
        trial("ops::image::a manifest that was there without labels gets them", env, adopted),
        trial("ops::image::an image is mounted and taken away again", env, mounted),
        trial(
            "ops::image::a mount that expires has ctr's lease, and ours and ctr's unmount each other's",
            env,
            expiring,
        ),
        trial("ops::image::a mount is the same by whatever path it is named", env, by_any_path),
        trial("ops::image::what is installed is what ctr installs, and all or nothing", env, installed),
        trial("ops::image::labels are set or replaced", env, labelled),
        trial("ops::image::mistakes are named", env, mistakes),
    ]
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn pull(stage: &Stage, text: &str) -> ctrsh::ops::Result<ctrsh::containerd::images::Image> {
    stage.run(Pull::new(reference(text), Arrival::default(), Default::default()))
}

/// Lists what ctr lists: each line's words and labels sorted, without how long ago it was.
fn listing(stage: &Stage, arguments: &[&str]) -> Vec<String> {
    let text = stage.ctr(arguments);
    let mut lines: Vec<String> = text
        .lines()
        .skip(1)
        .map(|line| {
            let words = line.split([' ', '\t', ',']).filter(|word| word.contains([':', '=', '/', '.', '-']));
            let mut words: Vec<&str> = words.collect();
            words.sort_unstable();
            words.join(" ")
        })
        .collect();
    lines.sort();
    lines
}

fn pulled(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Index, Kind::Docker] {
        let theirs = Stage::of(env, "images", kind);
        let name = list_names(&theirs).into_iter().find(|name| name.contains("images-")).unwrap();
        theirs.ctr(&["images", "rm", super::stage::IMAGE]);
        let ours = Stage::empty(env, "images");
        let image = pull(&ours, &name).unwrap();
        assert_eq!(image.name, name);
        assert_eq!(listing(&ours, &["images", "ls"]), listing(&theirs, &["images", "ls"]), "{kind:?}");
        assert_eq!(listing(&ours, &["content", "ls"]), listing(&theirs, &["content", "ls"]), "{kind:?}");
        let snapshots = ["snapshots", "--snapshotter", &ours.snapshotter, "ls"];
        assert_eq!(listing(&ours, &snapshots), listing(&theirs, &snapshots), "{kind:?}");
        assert_eq!(ours.ctr(&["leases", "ls", "-q"]), "");
        assert_eq!(ours.ctr(&["content", "active"]).lines().count(), 1);
        let id = env.fresh("images");
        let run = ["run", "--rm", "--snapshotter", &ours.snapshotter, &name, &id, "/bin/echo", "from ctr"];
        assert_eq!(ours.ctr(&run), "from ctr\n");
    }
}

fn list_names(stage: &Stage) -> Vec<String> {
    stage.env.block_on(list(&stage.ctx, &[])).unwrap().into_iter().map(|image| image.name).collect()
}

fn kubelet(env: &Env) {
    let name = env.pushed(Kind::Busybox, "images");
    let stage = Stage::empty(env, "images");
    let ctx = stage.ctx.in_namespace("k8s.io");
    let image = stage.run_in(&ctx, Pull::new(reference(&name), Arrival::default(), Default::default())).unwrap();
    assert_eq!(image.labels["io.cri-containerd.image"], "managed");
    let config = env.block_on(ctrsh::ops::image::image_of(&ctx, &image, &Matcher::host())).unwrap().1.config.digest;
    let by_config = env.block_on(get(&ctx, config.as_str())).unwrap();
    assert_eq!(by_config.target.digest, image.target.digest);
    assert_eq!(by_config.labels["io.cri-containerd.image"], "managed");
    let names = vec![name, config.to_string()];
    stage.run_in(&ctx, ctrsh::ops::image::Delete::new(names, Default::default())).unwrap();
}

fn foreign_platform(env: &Env) {
    let name = env.pushed(Kind::Index, "images");
    let stage = Stage::empty(env, "images");
    let platforms = Matcher::Any(vec![format!("linux/{}", foreign()).parse().unwrap()]);
    let options = Arrival { platforms, unpack: false, ..Arrival::default() };
    stage.run(Pull::new(reference(&name), options, Default::default())).unwrap();
    let check = |matcher: Matcher| {
        let image = env.block_on(get(&stage.ctx, &name)).unwrap();
        let check = ctrsh::ops::image::check(&stage.ctx, &image, &matcher, &stage.snapshotter);
        env.block_on(check).unwrap()
    };
    assert!(!check(Matcher::host()).complete());
    assert!(check(Matcher::Any(vec![format!("linux/{}", foreign()).parse().unwrap()])).complete());
    let options = Arrival { platforms: Matcher::All, ..Arrival::default() };
    stage.run(Pull::new(reference(&name), options, Default::default())).unwrap();
    assert!(check(Matcher::All).complete());
    let options = Arrival { platforms: Matcher::Any(vec!["linux/s390x".parse().unwrap()]), ..Arrival::default() };
    let error = stage.run(Pull::new(reference(&name), options, Default::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    assert!(error.hint().unwrap().contains("platform"), "{:?}", error.hint());
}

fn digest_at(env: &Env, reference: &str) -> String {
    let arguments = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")];
    let raw = env.skopeo(&arguments).ok();
    ctrsh::oci::Digest::sha256(raw.as_bytes()).to_string()
}

fn pushed(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Docker] {
        let name = env.pushed(kind, "images");
        let stage = Stage::empty(env, "images");
        let image = pull(&stage, &name).unwrap();
        let target = format!("{}:team", env.repository("images/harbor/library"));
        let options = PushOptions { source: Some(name), ..PushOptions::default() };
        let done = stage.run(Push::new(reference(&target), options)).unwrap();
        assert_eq!(done.root.digest, image.target.digest);
        assert_eq!(digest_at(env, &target), image.target.digest.to_string());
        let other = Stage::empty(env, "images");
        other.ctr(&["images", "pull", "--plain-http", "--snapshotter", &other.snapshotter, &target]);
        assert_eq!(env.block_on(get(&other.ctx, &target)).unwrap().target.digest, image.target.digest);
    }
}

fn again(env: &Env) {
    let name = env.pushed(Kind::ThreeLayers, "images");
    let stage = Stage::empty(env, "images");
    pull(&stage, &name).unwrap();
    let push = |target: &str| {
        let options = PushOptions { source: Some(name.clone()), ..PushOptions::default() };
        stage.run(Push::new(reference(target), options)).unwrap().totals
    };
    let target = format!("{}:one", env.repository("images"));
    let first = push(&target);
    assert_eq!((first.sent, first.blobs_sent.len()), (0, 0), "all blobs are in the repository they were pulled from");
    assert_eq!(first.blobs_mounted, 4);
    assert_eq!(push(&target), ctrsh::ops::copy::Totals::default());
}

fn partial(env: &Env) {
    let name = env.pushed(Kind::Index, "images");
    let stage = Stage::empty(env, "images");
    let image = pull(&stage, &name).unwrap();
    let target = format!("{}:part", env.repository("images"));
    let options = PushOptions { source: Some(name.clone()), ..PushOptions::default() };
    let done = stage.run(Push::new(reference(&target), options.clone())).unwrap();
    assert_ne!(done.root.digest, image.target.digest);
    assert_eq!(digest_at(env, &target), done.root.digest.to_string());
    let whole = Arrival { platforms: Matcher::All, ..Arrival::default() };
    stage.run(Pull::new(reference(&name), whole, Default::default())).unwrap();
    let done = stage.run(Push::new(reference(&target), options)).unwrap();
    assert_eq!(done.root.digest, image.target.digest);
    assert_eq!(digest_at(env, &target), image.target.digest.to_string());
}

fn by_digest(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Docker, Kind::Index] {
        let stage = Stage::of(env, "images", kind);
        let built = env.image(kind);
        let target = format!("{}:digest", env.repository("images"));
        let push = |ctx: &ctrsh::ops::Context, digest: &str| {
            let options = PushOptions { manifest: Some(digest.parse().unwrap()), ..PushOptions::default() };
            stage.run_in(ctx, Push::new(reference(&target), options))
        };
        // Docker's manifest is another one than that of the layout.
        let listed = stage.ctr(&["images", "ls", &format!("name=={IMAGE}")]);
        let root = listed.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
        let digest = if kind == Kind::Docker { root } else { &built.manifest };
        push(&stage.ctx.dry_run(), digest).unwrap();
        assert!(!env.skopeo(&["inspect", "--tls-verify=false", &format!("docker://{target}")]).succeeded());
        // It need be part of no image.
        stage.ctr(&["content", "label", digest, "containerd.io/gc.root=now"]);
        for name in list_names(&stage) {
            stage.ctr(&["images", "rm", &name]);
        }
        assert_eq!(push(&stage.ctx, digest).unwrap().root.digest.as_str(), digest, "{kind:?}");
        assert_eq!(digest_at(env, &target), digest, "{kind:?}");
        let layer = stage.ctr(&["content", "ls", "-q"]);
        let layer = layer.lines().find(|line| built.layers.contains(&(*line).to_owned())).unwrap();
        let error = push(&stage.ctx, layer).unwrap_err();
        assert_eq!(error.kind(), Failed::Usage, "{error}");
        assert!(error.to_string().contains("neither a manifest nor an index"), "{error}");
        let absent = Digest::sha256(b"absent");
        let error = push(&stage.ctx, absent.as_str()).unwrap_err();
        assert_eq!(error.kind(), Failed::NotFound, "{error}");
        assert!(error.to_string().contains(&format!("no such manifest: {absent}")), "{error}");
        assert!(error.hint().unwrap().contains("content::list()"), "{:?}", error.hint());
    }
}

fn dropped(env: &Env) {
    let name = env.pushed(Kind::Big(24), "images");
    let stage = Stage::empty(env, "images");
    let before = stage.leftovers();
    for wait in [1, 20, 60, 120] {
        env.block_on(async {
            let pull =
                ctrsh::ops::execute(&stage.ctx, Pull::new(reference(&name), Arrival::default(), Default::default()));
            let limit = std::time::Duration::from_millis(wait);
            assert!(tokio::time::timeout(limit, pull).await.is_err(), "it ended within {wait} ms");
            stage.ctx.debts().settle().await;
        });
        assert_eq!(stage.leftovers(), before, "cut off after {wait} ms");
    }
    pull(&stage, &name).unwrap();
}

fn dry(env: &Env) {
    let name = env.pushed(Kind::ThreeLayers, "images");
    let stage = Stage::empty(env, "images");
    let before = stage.leftovers();
    let ctx = stage.ctx.dry_run();
    let preview = stage.run_in(&ctx, Pull::new(reference(&name), Arrival::default(), Default::default())).unwrap();
    assert_eq!(preview.name, name);
    assert_eq!(env.block_on(get(&ctx, &name)).unwrap().target, preview.target, "later calls of the dry run find it");
    assert_eq!(stage.leftovers(), before);
    pull(&stage, &name).unwrap();
    let target = format!("{}:dry", env.repository("images"));
    let options = PushOptions { source: Some(name), ..PushOptions::default() };
    stage.run_in(&ctx, Push::new(reference(&target), options)).unwrap();
    let there = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{target}")]);
    assert!(!there.succeeded(), "a dry push made {target}");
}

fn adopted(env: &Env) {
    let name = env.pushed(Kind::ThreeLayers, "images");
    let stage = Stage::empty(env, "images");
    let image = pull(&stage, &name).unwrap();
    let digest = image.target.digest.to_string();
    let labels = || {
        let listed = stage.ctr(&["content", "ls"]);
        listed.lines().find(|line| line.starts_with(&digest)).unwrap().matches("containerd.io/gc.ref.content").count()
    };
    assert_eq!(labels(), 4);
    for key in ["config", "l.0", "l.1", "l.2"] {
        stage.ctr(&["content", "label", &digest, &format!("containerd.io/gc.ref.content.{key}=")]);
    }
    assert_eq!(labels(), 0);
    pull(&stage, &name).unwrap();
    assert_eq!(labels(), 4);
}

fn mounted(env: &Env) {
    let stage = Stage::new(env, "images");
    let before = stage.leftovers();
    let target = stage.folder.join("mnt");
    for writable in [false, true] {
        let options =
            MountOptions { writable, snapshotter: Some(stage.snapshotter.clone()), ..MountOptions::default() };
        let mount = || Mount::new(super::stage::IMAGE, target.clone(), options.clone());
        stage.run(mount()).unwrap();
        assert!(target.join("bin/busybox").is_file());
        assert_eq!(std::fs::write(target.join("new"), "x").is_ok(), writable);
        assert!(
            stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"]).contains(target.to_str().unwrap())
        );
        let error = stage.run(mount()).unwrap_err();
        assert_eq!(error.kind(), Failed::Conflict, "{error}");
        stage.run(Unmount::new(target.clone(), true, Some(stage.snapshotter.clone()))).unwrap();
        assert!(!target.join("bin/busybox").exists());
        assert_eq!(stage.leftovers(), before);
    }
}

fn by_any_path(env: &Env) {
    let stage = Stage::new(env, "images");
    let work = stage.folder.join("work");
    fs::create_dir_all(work.join("behind")).unwrap();
    symlink(work.join("behind"), work.join("link")).unwrap();
    symlink("later", work.join("dangling")).unwrap();
    let before = stage.leftovers();
    let nothing_stays = |how: &str| {
        assert_eq!(stage.leftovers(), before, "{how}");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(work.to_str().unwrap()), "{how}: {table}");
    };
    let unmount = |path: &str| format!("unmount(\"{path}\", #{{ snapshotter: \"{}\" }})", stage.snapshotter);
    for (on, off) in [
        ("mnt/", "mnt"),
        ("./mnt", "mnt"),
        ("mnt", "./mnt/."),
        ("link", "link"),
        ("link/", "behind"),
        ("behind", "link"),
        ("dangling", "dangling"),
    ] {
        let how = format!("mounted as {on}, unmounted as {off}");
        let options = format!("#{{ rw: true, snapshotter: \"{}\" }}", stage.snapshotter);
        let folder = stage.value(&format!("image(\"{IMAGE}\").mount(\"{on}\", {options})"));
        assert!(Path::new(folder.as_str().unwrap()).join("bin/busybox").is_file(), "{how}");
        stage.value(&unmount(off));
        nothing_stays(&how);
    }
    // ctr names what it makes as it was told to.
    let link = work.join("link");
    stage.ctr(&["images", "mount", "--snapshotter", &stage.snapshotter, IMAGE, link.to_str().unwrap()]);
    stage.value(&unmount("link"));
    nothing_stays("mounted by ctr");
}

fn expiring(env: &Env) {
    let stage = Stage::new(env, "images");
    let before = stage.leftovers();
    let target = stage.folder.join("mnt");
    let path = target.to_str().unwrap();
    let mount = || {
        let expiration = Some(std::time::Duration::from_secs(3600));
        let snapshotter = Some(stage.snapshotter.clone());
        let options = MountOptions { expiration, snapshotter, ..MountOptions::default() };
        stage.run(Mount::new(super::stage::IMAGE, target.clone(), options))
    };
    let lease = || {
        let client = env.block_on(stage.ctx.client()).unwrap();
        let lease = env.block_on(client.leases().find(path)).unwrap().unwrap();
        let life = lease.expires_at().unwrap() - lease.created_at;
        let refers: Vec<_> = lease.labels.into_iter().filter(|(key, _)| !key.ends_with("gc.expire")).collect();
        (life.num_minutes(), refers)
    };
    mount().unwrap();
    let (minutes, ours) = lease();
    assert!((59..=61).contains(&minutes), "{minutes}");
    let error = mount().unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    // The collector runs, and the view stays.
    stage.ctr(&["leases", "create", "--id", "other"]);
    stage.ctr(&["leases", "delete", "--sync", "other"]);
    assert!(stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"]).contains(path));
    stage.ctr(&["images", "unmount", "--rm", "--snapshotter", &stage.snapshotter, path]);
    assert_eq!(stage.leftovers(), before);

    stage.ctr(&["images", "mount", "--snapshotter", &stage.snapshotter, super::stage::IMAGE, path]);
    let (_, theirs) = lease();
    assert_eq!(ours, theirs);
    stage.run(Unmount::new(target.clone(), false, Some(stage.snapshotter.clone()))).unwrap();
    assert!(stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"]).contains(path));
    stage.run(Unmount::new(target.clone(), true, Some(stage.snapshotter.clone()))).unwrap();
    assert_eq!(stage.leftovers(), before);
    // What cannot be mounted on leaves no snapshot and no lease.
    std::fs::remove_dir(&target).unwrap();
    std::fs::write(&target, "a file").unwrap();
    mount().unwrap_err();
    assert_eq!(stage.leftovers(), before);
}

/// Lists what is installed below a folder: owner, mode, where a link leads, and what is in a file.
fn programs(folder: &Path) -> BTreeMap<String, (u32, u32, u32, String)> {
    let mut seen = BTreeMap::new();
    for below in ["bin", "lib"] {
        for entry in fs::read_dir(folder.join(below)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            if about.is_dir() {
                continue;
            }
            let text = match about.is_symlink() {
                true => fs::read_link(&path).unwrap().display().to_string(),
                false => Digest::sha256(&fs::read(&path).unwrap()).to_string(),
            };
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            seen.insert(name, (about.uid(), about.gid(), about.mode(), text));
        }
    }
    seen
}

fn installed(env: &Env) {
    let stage = Stage::of(env, "images", Kind::ThreeLayers);
    let root = stage.folder.join("root");
    for folder in ["bin/below", "lib"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (file, mode) in [("bin/tool", 0o4755), ("bin/plain", 0o640), ("bin/below/no", 0o755), ("lib/it.so", 0o644)] {
        fs::write(root.join(file), file).unwrap();
        lchown(root.join(file), Some(5), Some(6)).unwrap();
        fs::set_permissions(root.join(file), Permissions::from_mode(mode)).unwrap();
    }
    symlink("/nowhere/else", root.join("bin/away")).unwrap();
    fs::hard_link(root.join("bin/tool"), root.join("bin/same")).unwrap();
    stage.value(&format!("from_rootfs({:?}, \"example.test/tools:1\").name", root.display().to_string()));
    for (image, libs) in [("example.test/tools:1", true), ("example.test/tools:1", false), (super::stage::IMAGE, true)]
    {
        let (theirs, ours) = (env.new_folder("install"), env.new_folder("install"));
        let flags = ["install", "--path", theirs.to_str().unwrap()];
        stage.ctr(&[&flags[..], if libs { &["--libs"] } else { &[] }, &[image]].concat());
        let options = |replace: bool| InstallOptions { path: Some(ours.clone()), libs, replace, ..Default::default() };
        let files = stage.run(Install::new(image, options(false))).unwrap();
        let seen = programs(&ours);
        assert_eq!(seen, programs(&theirs), "{image}");
        assert_eq!(files, seen.keys().map(|name| ours.join(name)).collect::<Vec<_>>());
        // A second time nothing is touched, or all of it is put there again.
        fs::remove_file(&files[0]).unwrap();
        let error = stage.run(Install::new(image, options(false))).unwrap_err();
        assert!(error.kind() == Failed::Conflict && error.hint().unwrap().contains("replace"), "{error}");
        assert_eq!(programs(&ours).len(), seen.len() - 1);
        stage.run(Install::new(image, options(true))).unwrap();
        assert_eq!(programs(&ours), seen);
        let names: Vec<_> = fs::read_dir(&ours).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name == "bin" || name == "lib"), "{names:?}");
    }
    // The daemon's own folder.
    let files = stage.run(Install::new("example.test/tools:1", InstallOptions::default())).unwrap();
    assert_eq!(files[0], env.sandbox_folder().join("opt/bin/away"));
    // A read-only script may not.
    let reading = stage.allowing(Allow::of(&[Access::Read]));
    let error = stage.run_in(&reading, Install::new("example.test/tools:1", InstallOptions::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied, "{error}");
}

fn labelled(env: &Env) {
    let stage = Stage::new(env, "images");
    let label = |pairs: &[(&str, &str)], all: bool| {
        let labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let image = stage.run(Label::new(super::stage::IMAGE, labels, all)).unwrap();
        let listed = stage.ctr(&["images", "ls", &format!("name=={}", super::stage::IMAGE)]);
        let seen = listed.lines().last().unwrap().split_whitespace().last().unwrap().to_owned();
        (image.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","), seen)
    };
    for (pairs, all, expected) in [
        (&[("a", "1"), ("b", "2")][..], false, "a=1,b=2"),
        (&[("a", ""), ("c", "3")], false, "b=2,c=3"),
        (&[("d", "4"), ("b", "")], true, "d=4"),
        (&[], false, "d=4"),
    ] {
        assert_eq!(label(pairs, all), (expected.to_owned(), expected.to_owned()));
    }
    assert_eq!(label(&[], true), (String::new(), "-".to_owned()));
}

fn mistakes(env: &Env) {
    let stage = Stage::empty(env, "images");
    let before = stage.leftovers();
    let missing = format!("{}:nope", env.repository("images"));
    let error = pull(&stage, &missing).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    assert!(error.to_string().contains(&missing), "{error}");
    let error = stage.run(Push::new(reference(&missing), PushOptions::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    let error = stage.run(Pull::new(reference("127.0.0.1:1/x:1"), Arrival::default(), Default::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::Unavailable, "{error}");
    assert_eq!(stage.leftovers(), before);
}
