//! Archives and file systems: what we write ctr reads, and the other way round.

use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::layout::RootfsOptions;
use ctrsh::oci::Platform;
use ctrsh::oci::media_type::Compression;
use ctrsh::ops::image::{Arrival, FromRootfs, Load, LoadOptions, Save, SaveOptions, get};
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::image::Kind;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::archive::what we save ctr imports, and what ctr exports we load", env, both_ways),
        trial("ops::archive::a name that points elsewhere is left alone", env, taken),
        trial("ops::archive::a folder becomes an image that ctr runs", env, rootfs),
        trial("ops::archive::mistakes are named and leave nothing", env, mistakes),
    ]
}

fn save(stage: &Stage, name: &str, file: &str, compression: Compression) -> std::path::PathBuf {
    let path = stage.folder.join(file);
    let options = SaveOptions { platforms: None, compression };
    stage.run(Save::new(vec![name.to_owned()], path.clone(), options)).unwrap();
    path
}

fn both_ways(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Docker] {
        let stage = Stage::of(env, "archives", kind);
        let digest = env.block_on(get(&stage.ctx, IMAGE)).unwrap().target.digest;
        for (file, compression) in [("a.tar", Compression::None), ("a.tar.gz", Compression::Gzip)] {
            let path = save(&stage, IMAGE, file, compression);
            let other = Stage::empty(env, "archives");
            let loaded = other.run(Load::new(path.clone(), LoadOptions::default())).unwrap();
            assert_eq!((loaded.len(), &loaded[0].target.digest), (1, &digest), "{kind:?} {file}");
            if compression == Compression::None {
                let theirs = Stage::empty(env, "archives");
                let import = ["images", "import", "--snapshotter", &theirs.snapshotter, path.to_str().unwrap()];
                theirs.ctr(&import);
                assert_eq!(env.block_on(get(&theirs.ctx, IMAGE)).unwrap().target.digest, digest, "{kind:?}");
            }
        }
        let path = stage.folder.join("theirs.tar");
        stage.ctr(&["images", "export", path.to_str().unwrap(), IMAGE]);
        let other = Stage::empty(env, "archives");
        let loaded = other.run(Load::new(path, LoadOptions::default())).unwrap();
        assert_eq!(loaded[0].target.digest, digest, "{kind:?}");
        let id = env.fresh("archives");
        let run = ["run", "--rm", "--snapshotter", &other.snapshotter, IMAGE, &id, "/bin/echo", "loaded"];
        assert_eq!(other.ctr(&run), "loaded\n");
    }
}

fn taken(env: &Env) {
    let first = Stage::of(env, "archives", Kind::Busybox);
    let second = Stage::of(env, "archives", Kind::ThreeLayers);
    let path = save(&first, IMAGE, "first.tar", Compression::None);
    let before = second.leftovers();
    let error = second.run(Load::new(path.clone(), LoadOptions::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    assert_eq!(second.leftovers(), before);
    let options = LoadOptions { force: true, ..LoadOptions::default() };
    let loaded = second.run(Load::new(path, options)).unwrap();
    assert_eq!(loaded[0].target.digest, env.block_on(get(&first.ctx, IMAGE)).unwrap().target.digest);
}

fn rootfs(env: &Env) {
    let stage = Stage::empty(env, "archives");
    let root = stage.folder.join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", root.join("bin/echo")).unwrap();
    let config =
        RootfsOptions { cmd: vec!["/bin/echo".into(), "built".into()], ..RootfsOptions::new(Platform::host()) };
    let make = |force| {
        let name = "example.test/built:1".parse().unwrap();
        stage.run(FromRootfs::new(root.clone(), name, config.clone(), Arrival::default(), force))
    };
    let made = make(false).unwrap();
    assert_eq!(make(false).unwrap().target.digest, made.target.digest, "equal files make an equal image");
    let id = env.fresh("archives");
    let run = ["run", "--rm", "--snapshotter", &stage.snapshotter, "example.test/built:1", &id];
    assert_eq!(stage.ctr(&run), "built\n");
    std::fs::write(root.join("more"), "x").unwrap();
    assert_eq!(make(false).unwrap_err().kind(), Failed::AlreadyExists);
    assert_ne!(make(true).unwrap().target.digest, made.target.digest);
}

fn mistakes(env: &Env) {
    let stage = Stage::empty(env, "archives");
    let before = stage.leftovers();
    let load = |text: &[u8]| {
        let path = stage.folder.join("bad.tar");
        std::fs::write(&path, text).unwrap();
        stage.run(Load::new(path, LoadOptions::default())).unwrap_err()
    };
    for text in [&b""[..], b"not a tar", &[0; 1024]] {
        let error = load(text);
        assert!(error.to_string().contains("bad.tar"), "{error}");
    }
    let error = stage.run(Load::new(stage.folder.join("none.tar"), LoadOptions::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    let options = SaveOptions { platforms: None, compression: Compression::None };
    let error = stage.run(Save::new(vec!["nope:1".into()], stage.folder.join("x.tar"), options)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    assert!(!stage.folder.join("x.tar").exists());
    assert_eq!(stage.leftovers(), before);
}
