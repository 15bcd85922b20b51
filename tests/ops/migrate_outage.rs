//! A migration whose source or target is killed and comes back ends complete by itself; one that meets a full disk says
//! so at once, and goes on when there is room.
//!
//! `CTRSH_KILLS` says at how many moments each side is killed; the suite takes two.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::daemon::Daemon;
use crate::harness::disk::Disk;
use crate::harness::fleet::{Fleet, check_clean, in_namespace, namespace_of};
use crate::harness::registry::Registry;
use crate::harness::{Env, trial};

const KILLS: usize = 2;
const IMAGES: usize = 40;
const SHARED: usize = 300_000;
const OWN: usize = 150_000;
/// What the images take, about.
const ALL: usize = 2 * SHARED + IMAGES * OWN;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::migrate_outage::the target daemon is killed, from a registry", env, daemon_from_registry),
        trial("ops::migrate_outage::the source daemon is killed", env, source_daemon),
        trial("ops::migrate_outage::the target daemon is killed, from a daemon", env, target_daemon),
        trial("ops::migrate_outage::the source registry is killed", env, source_registry),
        trial("ops::migrate_outage::the target registry is killed", env, target_registry),
        trial("ops::migrate_outage::the target daemon's disk is full", env, full_daemon),
        trial("ops::migrate_outage::the journal's disk is full", env, full_journal),
        trial("ops::migrate_outage::the target registry's disk is full", env, full_registry),
    ]
}

/// The images, and the folder in which migrations run.
struct Scene {
    env: Env,
    folder: PathBuf,
    fleet: &'static Fleet,
}

/// The one that all of these tests move.
static FLEET: OnceLock<Fleet> = OnceLock::new();

/// What a migration came to.
struct Ended {
    status: Option<i32>,
    items: Vec<Value>,
    stderr: String,
    took: Duration,
}

/// A migration that runs.
struct Running {
    pid: Pid,
    begun: Instant,
    output: Receiver<std::process::Output>,
    journal: PathBuf,
}

impl Running {
    fn done(&self) -> usize {
        done(&self.journal)
    }

    /// Waits until so many images are done.
    fn until(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.done() < count {
            assert!(Instant::now() < end, "{} done", self.done());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end(self, within: Duration) -> Ended {
        let output = match self.output.recv_timeout(within) {
            Ok(output) => output,
            Err(RecvTimeoutError::Timeout) => {
                let _ = kill_process(self.pid, Signal::KILL);
                let output = self.output.recv().unwrap();
                panic!(
                    "no end within {within:?}, {} done\n{}",
                    done(&self.journal),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            Err(error) => panic!("{error}"),
        };
        Ended {
            status: output.status.code(),
            items: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: self.begun.elapsed(),
        }
    }
}

/// Counts the images that a journal has as done.
fn done(journal: &Path) -> usize {
    let lines = std::fs::read_to_string(journal).unwrap_or_default();
    lines.lines().filter(|line| line.contains("\"event\":\"done\"")).count()
}

impl Scene {
    fn new(env: &Env) -> Self {
        let folder = env.new_folder("outage");
        // By this file other tests, which look for mounts that nobody took away, know a folder of daemons.
        std::fs::write(folder.join("config.toml"), "").unwrap();
        let fleet = FLEET.get_or_init(|| Fleet::build(&env.new_folder("outage-fleet"), IMAGES, SHARED, OWN));
        Self { env: env.clone(), folder, fleet }
    }

    fn layout(&self) -> String {
        format!("oci:{}", self.fleet.layout.display())
    }

    fn below(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn start(&self, from: &str, to: &str, journal: &str) -> Running {
        let script = format!(
            "migrate(#{{ from: \"{from}\", to: \"{to}\", platforms: \"all\", unpack: false, jobs: 4, \
             journal: \"{journal}\" }}).items"
        );
        let mut command = self.env.ctrsh_command();
        command.args(["--allow", "read,write,delete,files,host", "--json", "-e", &script]).current_dir(&self.folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (pid, begun) = (Pid::from_child(&child), Instant::now());
        let (ended, output) = channel();
        std::thread::spawn(move || ended.send(child.wait_with_output().unwrap()));
        Running { pid, begun, output, journal: self.folder.join(journal) }
    }

    fn run(&self, from: &str, to: &str, journal: &str) -> Ended {
        self.start(from, to, journal).end(Duration::from_secs(60))
    }

    /// Runs it to its end; returns how many images were moved.
    fn finish(&self, from: &str, to: &str, journal: &str) -> usize {
        self.complete(self.run(from, to, journal))
    }

    fn complete(&self, ended: Ended) -> usize {
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert_eq!(ended.items.len(), IMAGES, "{}", ended.stderr);
        let count = |state: &str| ended.items.iter().filter(|item| item["state"] == state).count();
        assert_eq!(count("done") + count("skipped"), IMAGES, "{:?}", ended.items);
        count("done")
    }

    /// Kills at random moments, and once when all is moved and only looked at once more: `restart` does it, and `check`
    /// looks at the target.
    fn kills(&self, from: &str, to: impl Fn(usize) -> String, mut restart: impl FnMut(), check: impl Fn(&str)) {
        let kills = std::env::var("CTRSH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
        for kill in 0..=kills {
            let (to, journal) = (to(kill), format!("{kill}.journal"));
            let at = if kill == kills { IMAGES } else { rand::random_range(0..IMAGES * 3 / 4) };
            let pause = Duration::from_micros(rand::random_range(0..20_000));
            let running = self.start(from, &to, &journal);
            running.until(at);
            std::thread::sleep(pause);
            let before = running.done();
            restart();
            let ended = running.end(Duration::from_secs(60));
            let shown = format!("killed at {at} done and {pause:?}, ended after {:?}", ended.took);
            eprintln!("{to}: {shown}, {before} done before");
            assert!(before < IMAGES || at == IMAGES, "{shown}");
            assert_eq!(ended.status, Some(0), "{shown}\n{}", ended.stderr);
            self.complete(ended);
            check(&to);
        }
    }

    /// Looks at a namespace that everything was moved to.
    fn check_namespace(&self, daemon: &Daemon, namespace: &str) {
        assert_eq!(in_namespace(daemon, namespace), self.fleet.digests());
    }

    fn check_registry(&self, registry: &Registry, path: &str) {
        for member in &self.fleet.images {
            let repository = format!("{path}/{}", member.repository);
            let root = registry.manifest(repository.trim_start_matches('/'), &member.tag);
            assert_eq!(ctrsh::oci::Digest::sha256(&root).as_str(), member.digest, "{path}{}", member.repository);
        }
    }
}

fn at(daemon: &Daemon, namespace: &str) -> String {
    format!("containerd:[{namespace}@{}]", daemon.socket().display())
}

fn daemon_from_registry(env: &Env) {
    let scene = Scene::new(env);
    let source = Registry::start(&scene.below("source"));
    scene.finish(&scene.layout(), source.host(), "fill.journal");
    let daemon = std::cell::RefCell::new(Daemon::isolated(&scene.below("there")));
    kill_target(&scene, &format!("{}/", source.host()), &daemon);
}

fn kill_target(scene: &Scene, from: &str, daemon: &std::cell::RefCell<Daemon>) {
    scene.kills(
        from,
        |kill| at(&daemon.borrow(), &format!("n{kill}")),
        || daemon.borrow_mut().restart(),
        |to| scene.check_namespace(&daemon.borrow(), namespace_of(to)),
    );
}

/// Two daemons, of which the first has the images.
fn two_daemons(scene: &Scene) -> (Daemon, Daemon) {
    let here = Daemon::isolated(&scene.below("here"));
    scene.finish(&scene.layout(), &at(&here, "fleet"), "fill.journal");
    (here, Daemon::isolated(&scene.below("there")))
}

fn source_daemon(env: &Env) {
    let scene = Scene::new(env);
    let (mut here, there) = two_daemons(&scene);
    let from = at(&here, "fleet");
    scene.kills(
        &from,
        |kill| at(&there, &format!("n{kill}")),
        || here.restart(),
        |to| scene.check_namespace(&there, namespace_of(to)),
    );
    check_clean(&here, "fleet");
}

fn target_daemon(env: &Env) {
    let scene = Scene::new(env);
    let (here, there) = two_daemons(&scene);
    kill_target(&scene, &at(&here, "fleet"), &std::cell::RefCell::new(there));
}

fn source_registry(env: &Env) {
    let scene = Scene::new(env);
    let mut source = Registry::start(&scene.below("source"));
    scene.finish(&scene.layout(), source.host(), "fill.journal");
    let target = Registry::start(&scene.below("target"));
    let from = format!("{}/", source.host());
    let to = |kill| format!("{}/n{kill}", target.host());
    scene.kills(&from, to, || source.restart(), |to| scene.check_registry(&target, path_of(to)));
}

/// What stands before the repositories of a target in a registry.
fn path_of(to: &str) -> &str {
    to.split_once('/').unwrap().1
}

fn target_registry(env: &Env) {
    let scene = Scene::new(env);
    let source = Registry::start(&scene.below("source"));
    scene.finish(&scene.layout(), source.host(), "fill.journal");
    let target = std::cell::RefCell::new(Registry::start(&scene.below("target")));
    let host = target.borrow().host().to_owned();
    let from = format!("{}/", source.host());
    let check = |to: &str| scene.check_registry(&target.borrow(), path_of(to));
    scene.kills(&from, |kill| format!("{host}/n{kill}"), || target.borrow_mut().restart(), check);
}

/// Runs a migration into something full; returns how many images were done before, by the journal.
fn meets_full(scene: &Scene, to: &str, journal: &str, named: &str) -> usize {
    let ended = scene.run(&scene.layout(), to, journal);
    assert_eq!(ended.status, Some(6), "{}", ended.stderr);
    assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    assert!(ended.stderr.to_lowercase().contains("no space left"), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(15), "{:?}", ended.took);
    let path = scene.folder.join(journal);
    let lines = std::fs::read_to_string(&path).unwrap();
    let failed = lines.lines().filter(|line| line.contains("\"event\":\"failed\"")).count();
    assert!(failed <= 4, "{failed} images were tried in vain");
    done(&path)
}

/// Goes on when there is room: nothing that was done is moved again.
fn goes_on(scene: &Scene, to: &str, journal: &str, before: usize) {
    let moved = scene.finish(&scene.layout(), to, journal);
    assert!(moved <= IMAGES - before, "{moved} moved after {before} were done");
    assert_eq!(scene.finish(&scene.layout(), to, journal), 0);
}

fn full_daemon(env: &Env) {
    let scene = Scene::new(env);
    for level in 1..=3 {
        let folder = scene.below(&format!("there{level}"));
        let disk = Disk::mount(&folder.join("root"), 1_000_000 + ALL * level / 4);
        let daemon = Daemon::isolated(&folder);
        let (to, journal) = (at(&daemon, "full"), format!("{level}.journal"));
        let before = meets_full(&scene, &to, &journal, &folder.display().to_string());
        check_clean(&daemon, "full");
        disk.resize(4 * ALL);
        goes_on(&scene, &to, &journal, before);
        scene.check_namespace(&daemon, "full");
        drop(daemon);
    }
}

fn full_journal(env: &Env) {
    let scene = Scene::new(env);
    let disk = Disk::mount(&scene.folder.join("small"), 8192);
    let daemon = Daemon::isolated(&scene.below("there"));
    let to = at(&daemon, "full");
    let before = meets_full(&scene, &to, "small/m.journal", "m.journal");
    assert!(before > 0);
    check_clean(&daemon, "full");
    // Not even the line that says it goes on has room.
    assert_eq!(meets_full(&scene, &to, "small/m.journal", "m.journal"), before);
    check_clean(&daemon, "full");
    disk.resize(ALL);
    goes_on(&scene, &to, "small/m.journal", before);
    scene.check_namespace(&daemon, "full");
}

fn full_registry(env: &Env) {
    let scene = Scene::new(env);
    let folder = scene.below("target");
    let disk = Disk::mount(&folder.join("data"), ALL / 2);
    let registry = Registry::start(&folder);
    let before = meets_full(&scene, registry.host(), "m.journal", registry.host());
    disk.resize(4 * ALL);
    mend(&folder.join("data"));
    goes_on(&scene, registry.host(), "m.journal", before);
    scene.check_registry(&registry, "");
    drop(registry);
}

/// Removes what a full disk made of a docker-registry's files, as its operator has to: it takes blobs that were cut off,
/// and empty links, for whole ones for ever.
fn mend(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            mend(&path);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let named = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let is_blob = path.ends_with("data") && named.len() == 64;
        let cut_off = is_blob && ctrsh::oci::Digest::sha256(&bytes).as_str() != format!("sha256:{named}");
        if cut_off || (path.ends_with("link") && bytes.is_empty()) {
            std::fs::remove_file(&path).unwrap();
        }
    }
}
