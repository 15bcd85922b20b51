//! A migration that is killed at random moments goes on: all images arrive, and no more is sent again than was under way.
//!
//! `CTRSH_KILLS` says at how many moments of each route; the suite takes a few, a thorough run 60.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::daemon::Daemon;
use crate::harness::fleet::{Digests, Fleet, Form, Member, in_namespace, namespace_of};
use crate::harness::registry::Registry;
use crate::harness::{Env, trial};

const KILLS: usize = 3;
const IMAGES: usize = 100;
const JOBS: usize = 4;
const SHARED: usize = 100_000;
const OWN: usize = 20_000;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::migrate_kill::registry to registry", env, registries),
        trial("ops::migrate_kill::containerd to containerd", env, daemons),
        trial("ops::migrate_kill::docker to containerd", env, engine),
    ]
}

/// How images of one route get to fresh targets, and what is there.
struct Route<'a> {
    env: &'a Env,
    folder: PathBuf,
    fleet: &'a Fleet,
    /// What stands before the script on the command line.
    options: Vec<String>,
    from: String,
    form: Form,
    /// Names a target that nothing was sent to yet.
    target: Box<dyn Fn(usize) -> String + 'a>,
    /// Returns the digests at a target, by repository within the fleet.
    digests: Box<dyn Fn(&str) -> Digests + 'a>,
    /// What they have to be.
    expected: Digests,
}

impl Route<'_> {
    fn command(&self, to: &str, journal: &str) -> std::process::Command {
        let script = format!(
            "migrate(#{{ from: \"{}\", include: \"**/app*\", to: \"{to}\", platforms: \"all\", unpack: false, jobs: {JOBS}, \
             journal: \"{journal}\" }}).items",
            self.from
        );
        let mut command = self.env.ctrsh_command();
        command.args(&self.options).args(["--json", "-e", &script]).current_dir(&self.folder);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a migration to its end; returns how many images were moved, and the bytes sent.
    fn finish(&self, to: &str, journal: &str) -> (usize, u64) {
        let output = self.command(to, journal).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let items: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(items.len(), IMAGES);
        assert!(items.iter().all(|item| item["state"] == "done" || item["state"] == "skipped"), "{items:?}");
        let done = items.iter().filter(|item| item["state"] == "done").count();
        (done, items.iter().map(|item| item["bytes"].as_u64().unwrap()).sum())
    }

    /// Returns the repositories within the fleet that a journal has as done.
    fn complete(&self, journal: &str) -> HashSet<&str> {
        let lines = std::fs::read_to_string(self.folder.join(journal)).unwrap_or_default();
        let done: Vec<&str> = lines.lines().filter(|line| line.contains("\"event\":\"done\"")).collect();
        let names = self
            .fleet
            .images
            .iter()
            .map(|member| (&*member.repository, format!("{}:{}", member.repository, member.tag)));
        names
            .filter(|(_, name)| done.iter().any(|line| line.contains(name)))
            .map(|(repository, _)| repository)
            .collect()
    }

    /// Kills at many moments, and looks at what each resume does.
    fn run(&self) {
        let kills = std::env::var("CTRSH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
        let begun = Instant::now();
        let to = (self.target)(0);
        let (done, whole) = self.finish(&to, "whole.journal");
        let length = begun.elapsed();
        assert_eq!(done, IMAGES);
        assert_eq!((self.digests)(&to), self.expected);
        assert_eq!(whole, self.fleet.lacking(&HashSet::new(), self.form));
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut early = 0;
        let mut kill = 0;
        // A moment after the end is none: another one is drawn.
        while early < kills {
            kill += 1;
            assert!(kill <= 5 * kills, "{early} of {kill} kills came before the end");
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wait = length.mul_f64((state >> 11) as f64 / (1_u64 << 53) as f64);
            let (to, journal) = ((self.target)(kill), format!("{kill}.journal"));
            let mut child = self.command(&to, &journal).spawn().unwrap();
            std::thread::sleep(wait);
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            if output.status.success() {
                continue;
            }
            early += 1;
            let complete = self.complete(&journal);
            let (done, sent) = self.finish(&to, &journal);
            let shown = format!("kill {kill} after {wait:?} with {} done", complete.len());
            assert!(done <= IMAGES - complete.len(), "{shown}: {done} moved by the resume");
            // Of what was under way all may be sent again, and of what was done nothing.
            let lacking = self.fleet.lacking(&complete, self.form);
            assert!(sent <= lacking, "{shown}: {sent} bytes sent, {lacking} lacking");
            assert_eq!((self.digests)(&to), self.expected, "{shown}");
            assert_eq!(self.finish(&to, &journal), (0, 0), "{shown}");
        }
        let told = format!("{}: {early} kills before the end, {IMAGES} images, {length:?} whole\n", self.from);
        std::io::stderr().write_all(told.as_bytes()).unwrap();
    }
}

fn registries(env: &Env) {
    let folder = env.new_folder("kill");
    let fleet = Fleet::build(&folder.join("fleet"), IMAGES, SHARED, OWN);
    let source = env.repository("kill");
    let mut fill = env.ctrsh_command();
    let script = format!("migrate(#{{ from: \"oci:fleet\", to: \"{source}\" }}).done");
    assert_eq!(fill.args(["-e", &script]).current_dir(&folder).output().unwrap().status.code(), Some(0));
    let (_, path) = source.split_once('/').unwrap();
    let target = Registry::start(&folder);
    let at_target = |to: &str| {
        let base = to.split_once('/').unwrap().1;
        let of = |member: &Member| {
            let bytes = target.manifest(&format!("{base}/{path}/{}", member.repository), &member.tag);
            (member.repository.clone(), ctrsh::oci::Digest::sha256(&bytes).to_string())
        };
        fleet.images.iter().map(of).collect()
    };
    Route {
        env,
        fleet: &fleet,
        options: Vec::new(),
        from: format!("{source}/"),
        form: Form::Kept,
        // Nothing can be mounted from what an earlier kill has moved: nobody knows of it.
        target: Box::new(|kill| format!("{}/n{kill}", target.host())),
        digests: Box::new(at_target),
        expected: fleet.digests(),
        folder: folder.clone(),
    }
    .run();
}

fn daemons(env: &Env) {
    let folder = env.new_folder("kill");
    let fleet = Fleet::build(&folder.join("fleet"), IMAGES, SHARED, OWN);
    let (here, there) = (folder.join("here"), folder.join("there"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&there).unwrap();
    let (here, there) = (Daemon::start(&here), Daemon::isolated(&there));
    let options = vec!["-a".to_owned(), here.socket().display().to_string(), "-n".into(), "fleet".into()];
    let mut fill = env.ctrsh_command();
    let script = "migrate(#{ from: \"oci:fleet\", to: \"containerd:\", platforms: \"all\", unpack: false }).done";
    assert_eq!(fill.args(&options).args(["-e", script]).current_dir(&folder).output().unwrap().status.code(), Some(0));
    Route {
        env,
        fleet: &fleet,
        options,
        from: "containerd:".to_owned(),
        form: Form::Kept,
        target: Box::new(|kill| format!("containerd:[n{kill}@{}]", there.socket().display())),
        digests: Box::new(|to| in_namespace(&there, namespace_of(to))),
        expected: fleet.digests(),
        folder,
    }
    .run();
}

fn engine(env: &Env) {
    let folder = env.new_folder("kill");
    let fleet = Fleet::build(&folder.join("fleet"), IMAGES, SHARED, OWN);
    let there = folder.join("there");
    std::fs::create_dir_all(&there).unwrap();
    let there = Daemon::isolated(&there);
    let engine = env.engine();
    let bundle = folder.join("fleet.tar");
    for member in &fleet.images {
        let name = format!("example.test/{}:{}", member.repository, member.tag);
        let (from, to) =
            (format!("oci:{}:{name}", fleet.layout.display()), format!("docker-archive:{}:{name}", bundle.display()));
        env.skopeo(&["copy", &from, &to]).ok();
        engine.api("POST", "/images/load", &std::fs::read(&bundle).unwrap());
        std::fs::remove_file(&bundle).unwrap();
    }
    let mut route = Route {
        env,
        fleet: &fleet,
        options: vec!["-a".to_owned(), there.socket().display().to_string()],
        from: format!("docker:[{}]", engine.socket().display()),
        form: Form::Unpacked,
        target: Box::new(|kill| format!("containerd:[n{kill}]")),
        digests: Box::new(|to| in_namespace(&there, namespace_of(to))),
        expected: HashMap::new(),
        folder,
    };
    // An engine keeps no manifests; the first migration says what they are, and the configs are compared by tests/docker.
    route.finish("containerd:[first]", "first.journal");
    route.expected = (route.digests)("containerd:[first]");
    assert_eq!(route.expected.len(), route.fleet.images.len());
    route.run();
}
