//! Disks that fill up, whose quota is used up, or that take no changes any more: each is named with its cure, nothing is
//! left behind, and the work goes on when the disk does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::harness::daemon::Daemon;
use crate::harness::disk::{Disk, Quota, ReadOnly};
use crate::harness::image::Kind;
use crate::harness::output::Output;
use crate::harness::registry::Registry;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("bad_disk::a full one is named, and a pull goes on when there is room", env, full),
        trial("bad_disk::a quota that is used up is named, and a pull goes on when it is raised", env, quota),
        trial("bad_disk::a read-only store is named, and a pull goes on when it can be written", env, read_only),
        trial("bad_disk::a registry that cannot write is named, and a push goes on when it can", env, registry),
        trial("bad_disk::a folder that cannot be written is named", env, folder),
    ]
}

/// More than the disks have room for.
const IMAGE: Kind = Kind::Big(40);
/// What a small disk holds.
const SMALL: usize = 24 << 20;
/// What a disk that is big enough holds.
const ENOUGH: usize = 96 << 20;

/// A daemon whose root folder is on a disk of its own.
struct Scene<'e> {
    env: &'e Env,
    folder: PathBuf,
    daemon: Daemon,
    pushed: String,
}

impl<'e> Scene<'e> {
    fn new(env: &'e Env, folder: PathBuf) -> Self {
        Self { env, daemon: Daemon::start(&folder), folder, pushed: env.pushed(IMAGE, "disk") }
    }

    fn script(&self, text: &str) -> Output {
        let mut command = self.env.bare_ctrsh_command();
        command.current_dir(&self.folder).arg("-a").arg(self.daemon.socket());
        Output::of(command.args(["--snapshotter", "native", "--timeout", "60s", "-e", text]))
    }

    fn pull(&self) -> Output {
        self.script(&format!("pull(\"{}\", #{{ unpack: false }})", self.pushed))
    }

    /// Pulls in vain: what is wrong is named, and neither an image nor a lease nor an ingest is left.
    fn fails(&self, status: i32, says: &[&str]) {
        let output = self.pull().expect_status(status);
        for part in says.iter().chain(&[self.pushed.as_str()]) {
            assert!(output.stderr.contains(part), "nothing of {part:?}: {output}");
        }
        let left =
            [&["images", "ls", "-q"][..], &["leases", "ls", "-q"], &["content", "active"]].map(|list| self.ctr(list));
        // Only the heading of the list of ingests.
        assert_eq!(left.each_ref().map(|list| list.lines().count()), [0, 0, 1], "{left:?}");
    }

    /// Pulls, once the disk is well.
    fn succeeds(&self) {
        // The daemon collects what the lease kept a moment after it is gone.
        std::thread::sleep(Duration::from_millis(200));
        self.pull().expect_status(0);
        assert_eq!(self.ctr(&["images", "ls", "-q"]).trim(), self.pushed);
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("ctr");
        Output::of(command.arg("--address").arg(self.daemon.socket()).args(arguments)).expect_status(0).stdout
    }
}

fn full(env: &Env) {
    let folder = env.new_folder("disk");
    let disk = Disk::mount(&folder.join("root"), SMALL);
    let scene = Scene::new(env, folder);
    scene.fails(6, &["no space left on device", "hint: make room"]);
    disk.resize(ENOUGH);
    scene.succeeds();
}

fn quota(env: &Env) {
    let folder = env.new_folder("disk");
    let quota = Quota::mount(&folder.join("root"), SMALL);
    let scene = Scene::new(env, folder);
    scene.fails(6, &["disk quota exceeded", "hint: make room"]);
    quota.resize(ENOUGH);
    scene.succeeds();
}

fn read_only(env: &Env) {
    let scene = Scene::new(env, env.new_folder("disk"));
    let store = scene.folder.join("root/io.containerd.content.v1.content");
    // Some daemons make it with the first blob, and never try again when that failed.
    std::fs::create_dir_all(store.join("ingest")).unwrap();
    let stays = ReadOnly::over(&store);
    scene.fails(5, &["read-only file system", "hint: the disk became read-only"]);
    drop(stays);
    scene.succeeds();
}

fn registry(env: &Env) {
    let scene = Scene::new(env, env.new_folder("disk"));
    let there = scene.folder.join("target");
    let target = Registry::start(&there);
    let push = |status| {
        let (from, host) = (&scene.pushed, target.host());
        scene.script(&format!("copy(\"{from}\", \"{host}/kept:1\")")).expect_status(status)
    };
    let stays = ReadOnly::over(&there.join("data"));
    let output = push(5);
    for part in [target.host(), "the registry's disk is read-only", "hint: see what ails the disk of the registry"] {
        assert!(output.stderr.contains(part), "nothing of {part:?}: {output}");
    }
    drop(stays);
    push(0);
}

fn folder(env: &Env) {
    let scene = Scene::new(env, env.new_folder("disk"));
    let there = scene.folder.join("there");
    std::fs::create_dir(&there).unwrap();
    let _stays = ReadOnly::over(&there);
    let files = |path: &Path| std::fs::read_dir(path).unwrap().count();
    for target in ["oci:there/layout:kept", "archive:there/kept.tar"] {
        let output = scene.script(&format!("copy(\"{}\", \"{target}\")", scene.pushed)).expect_status(5);
        for part in ["there/", "Read-only file system", "hint: name a folder on another file system"] {
            assert!(output.stderr.contains(part), "{target}: nothing of {part:?}: {output}");
        }
        assert_eq!(files(&there), 0, "{target}");
    }
}
