//! What goes wrong with an engine is named, with its cure, and leaves nothing behind.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::{Failure, Kind as Failed};
use libtest_mimic::Trial;

use super::support::{Exports, assert_no_spool, copy, copy_in, endpoint, stage};
use crate::harness::disk::Disk;
use crate::harness::engine::Engine;
use crate::harness::image::Kind;
use crate::harness::leftovers::{mounts_with, processes_with};
use crate::harness::output::Output;
use crate::harness::{Env, trial};
use crate::ops::stage::Stage;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("docker::mistakes::are named and have a cure", env, named),
        trial("docker::mistakes::a process without permission is told whose group it needs", env, permission),
        trial("docker::mistakes::an engine that dies in the middle of an export leaves nothing", env, dies),
        trial("docker::mistakes::a folder for temporary files that is too small is named", env, no_room),
        trial("docker::mistakes::an engine that was stopped leaves nothing", env, leaves_nothing),
    ]
}

fn named(env: &Env) {
    env.engine();
    let stage = stage(Stage::new(env, "docker"));
    let before = stage.leftovers();
    let deserted = stage.folder.join("deserted.sock");
    drop(UnixListener::bind(&deserted).unwrap());
    let deserted = format!("docker:[{}]a:1", deserted.display());
    for (source, kind, part, cure) in [
        ("docker:example/bax:1", Failed::NotFound, "example/bax:1", "did you mean example/box:1?"),
        ("docker:nothing/like/it:9", Failed::NotFound, "has no image nothing/like/it:9", "docker().images()"),
        ("docker:[/nowhere/docker.sock]a:1", Failed::Unavailable, "no Docker socket at /nowhere", "--docker-host"),
        (deserted.as_str(), Failed::Unavailable, "nobody listens on the Docker socket", "systemctl restart docker"),
        ("docker:a/../../containers", Failed::Usage, "cannot be the name of an image", "NAME[:TAG]"),
        ("docker:", Failed::Usage, "cannot be the name of an image", "NAME[:TAG]"),
    ] {
        let error = copy(&stage, &endpoint(&stage, source), &endpoint(&stage, "containerd:x:1")).unwrap_err();
        assert_eq!(error.kind(), kind, "{source}: {error}");
        assert!(error.to_string().contains(part), "{source}: {error}");
        assert!(error.hint().is_some_and(|hint| hint.contains(cure)), "{source}: {:?}", error.hint());
    }
    let here = endpoint(&stage, &format!("containerd:{}", crate::ops::stage::IMAGE));
    let error = copy(&stage, &here, &endpoint(&stage, "docker:example/box:2")).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage);
    assert!(error.to_string().contains("a Docker Engine is only a source"), "{error}");
    // Without the right to read nothing is asked.
    let blind = stage.allowing(Allow::of(&[Access::Write]));
    let target = endpoint(&stage, "containerd:x:1");
    let error = copy_in(&stage, &blind, &endpoint(&stage, "docker:example/box:1"), &target).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied, "{error}");
    assert_no_spool(&stage);
    assert_eq!(stage.leftovers(), before);
}

/// Root may use any socket, so the program is run as somebody else.
fn permission(env: &Env) {
    let socket = env.engine().socket();
    let folder = env.new_folder("docker-user");
    std::fs::set_permissions(env.folder(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(socket.parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.join("ctrsh");
    // By a program of its own: a child that another test forks meanwhile would hold the copy open to write, and it could not run.
    Output::of(Command::new("cp").arg(env!("CARGO_BIN_EXE_ctrsh")).arg(&program)).ok();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(program);
    command.args(["-e", "docker().images().len()"]).env_clear().env("HOME", "/").current_dir("/");
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    let said = Output::of(&mut command);
    assert!(said.stderr.contains("no permission to use the Docker socket"), "{said}");
    assert!(said.stderr.contains("group that owns"), "{said}");
    assert_ne!(said.status, 0, "{said}");
}

fn dies(env: &Env) {
    let engine = Arc::new(Engine::start(&env.new_folder("dying-engine")));
    engine.load(env, &env.image(Kind::Big(64)), "dying/image:1");
    let stage = stage(Stage::empty(env, "docker"));
    let before = stage.leftovers();
    let exports = Exports::default();
    let victim = Arc::clone(&engine);
    exports.at_first_bytes(move || victim.kill());
    let target = endpoint(&stage, "containerd:x:1");
    let source = super::support::of(&engine, "dying/image:1");
    let error = copy_in(&stage, &exports.watch(&stage), &source, &target).unwrap_err();
    assert_eq!(exports.take(), 1);
    assert_eq!(error.kind(), Failed::Unavailable, "{error}");
    assert!(error.to_string().contains("the connection broke"), "{error}");
    assert!(error.retryable() && error.hint().unwrap().contains("systemctl status docker"), "{error:?}");
    assert_no_spool(&stage);
    assert_eq!(stage.leftovers(), before);
}

fn no_room(env: &Env) {
    let engine = env.engine();
    let name = format!("{}:1", env.fresh("docker"));
    engine.load(env, &env.image(Kind::Many(60)), &name);
    let stage = Stage::empty(env, "docker");
    let size = env.block_on(ctrsh::ops::docker::image(&stage.ctx, None, &name)).unwrap().size;
    let size = usize::try_from(size).unwrap();
    let exports = Exports::default();
    let target = endpoint(&stage, "containerd:x:1");
    // Too little for the files, which is told before the export; enough for them, and too little for their layers.
    for (room, exported, part) in [(1 << 20, 0, "cannot spool the image to"), (size + (64 << 10), 1, "cannot write to")]
    {
        let disk = Disk::mount(&stage.folder.join("tmp"), room);
        let source = endpoint(&stage, &format!("docker:{name}"));
        let error = copy_in(&stage, &exports.watch(&stage), &source, &target).unwrap_err();
        assert_eq!((error.kind(), exports.take()), (Failed::NoSpace, exported), "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.to_string().contains(stage.folder.join("tmp").to_str().unwrap()), "{error}");
        assert_no_spool(&stage);
        drop(disk);
    }
}

fn leaves_nothing(env: &Env) {
    let folder = env.new_folder("short-engine");
    let engine = Engine::start(&folder);
    engine.load(env, &env.image(Kind::Busybox), "short/image:1");
    drop(engine);
    let shown = folder.to_string_lossy().into_owned();
    assert_eq!((mounts_with(&shown).len(), processes_with(&shown).len()), (0, 0));
}
