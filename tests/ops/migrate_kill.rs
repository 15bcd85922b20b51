//! A migration that is killed at random moments goes on: all images arrive, and no more is sent again than was under way.
//!
//! `CTRSH_KILLS` says at how many moments of each route; the suite takes a few, a thorough run 60.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use ctrsh::oci::Reference;
use ctrsh::oci::store::ImageSource;
use ctrsh::registry::{Client, Config, RegistryStore};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::daemon::Daemon;
use crate::harness::fleet::Fleet;
use crate::harness::output::Output;
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

/// The digests of images, by repository.
type Digests = HashMap<String, String>;

/// How images of one route get to fresh targets, and what is there.
struct Route<'a> {
    env: &'a Env,
    folder: PathBuf,
    fleet: &'a Fleet,
    /// What stands before the script on the command line.
    options: Vec<String>,
    from: String,
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

    /// Kills at many moments, and looks at what each resume does.
    fn run(&self) {
        let kills = std::env::var("CTRSH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
        let begun = Instant::now();
        let to = (self.target)(0);
        let (done, whole) = self.finish(&to, "whole.journal");
        let length = begun.elapsed();
        assert_eq!(done, IMAGES);
        assert_eq!((self.digests)(&to), self.expected);
        // The largest images that can be under way at one time, with their documents.
        let under_way = (JOBS * (2 * SHARED + OWN + 10_000)) as u64;
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
            let lines = std::fs::read_to_string(self.folder.join(&journal)).unwrap_or_default();
            let complete = lines.lines().filter(|line| line.contains("\"event\":\"done\"")).count();
            let (done, sent) = self.finish(&to, &journal);
            let shown = format!("kill {kill} after {wait:?} with {complete} done");
            assert!(done <= IMAGES - complete, "{shown}: {done} moved by the resume");
            let bound = whole.saturating_sub((complete * OWN) as u64) + under_way;
            assert!(sent <= bound, "{shown}: {sent} bytes sent by the resume, and not at most {bound}");
            assert_eq!((self.digests)(&to), self.expected, "{shown}");
            assert_eq!(self.finish(&to, &journal), (0, 0), "{shown}");
        }
        let told = format!("{}: {early} kills before the end, {IMAGES} images, {length:?} whole\n", self.from);
        std::io::stderr().write_all(told.as_bytes()).unwrap();
    }
}

fn expected(fleet: &Fleet) -> Digests {
    fleet.images.iter().map(|member| (member.repository.clone(), member.digest.clone())).collect()
}

/// Asks a registry for the digests of the fleet below a path.
fn in_registry(env: &Env, fleet: &Fleet, base: &str) -> Digests {
    let client = Client::new(Config::default());
    let grant = ctrsh::grant::Grant::new(ctrsh::grant::Allow::all(), tokio_util::sync::CancellationToken::new());
    env.block_on(async {
        let mut digests = HashMap::new();
        for member in &fleet.images {
            let reference: Reference = format!("{base}/{}:{}", member.repository, member.tag).parse().unwrap();
            let store = RegistryStore::source(&client, &reference, &grant, &Default::default());
            let root = store.resolve().await.unwrap();
            // The document itself, not what the registry says of it.
            let bytes = store.manifest(&root).await.unwrap();
            digests.insert(member.repository.clone(), ctrsh::oci::Digest::sha256(&bytes).to_string());
        }
        digests
    })
}

/// Asks ctr for the digests of the images of a namespace, after it has checked that their content is whole.
fn in_namespace(daemon: &Daemon, namespace: &str) -> Digests {
    let ctr = |arguments: &[&str]| {
        let mut command = std::process::Command::new("ctr");
        Output::of(command.arg("-a").arg(daemon.socket()).args(["-n", namespace]).args(arguments)).ok()
    };
    let leases = ctr(&["leases", "ls", "-q"]);
    assert_eq!(leases.trim(), "", "no lease stays");
    let checked = ctr(&["images", "check"]);
    let mut digests = HashMap::new();
    for line in checked.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(line.contains("complete"), "{line}");
        let repository = words[0].trim_start_matches("example.test/").split(':').next().unwrap();
        digests.insert(repository.to_owned(), words[2].to_owned());
    }
    digests
}

fn registries(env: &Env) {
    let folder = env.new_folder("kill");
    let fleet = Fleet::build(&folder.join("fleet"), IMAGES, SHARED, OWN);
    let source = env.repository("kill");
    let mut fill = env.ctrsh_command();
    let script = format!("migrate(#{{ from: \"oci:fleet\", to: \"{source}\" }}).done");
    assert_eq!(fill.args(["-e", &script]).current_dir(&folder).output().unwrap().status.code(), Some(0));
    let (_, path) = source.split_once('/').unwrap();
    let path = path.to_owned();
    Route {
        env,
        fleet: &fleet,
        options: Vec::new(),
        from: format!("{source}/"),
        target: Box::new(|_| env.repository("kill")),
        digests: Box::new(|to| in_registry(env, &fleet, &format!("{to}/{path}"))),
        expected: expected(&fleet),
        folder,
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
        target: Box::new(|kill| format!("containerd:[n{kill}@{}]", there.socket().display())),
        digests: Box::new(|to| in_namespace(&there, namespace_of(to))),
        expected: expected(&fleet),
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

fn namespace_of(to: &str) -> &str {
    to.trim_start_matches("containerd:[").split(['@', ']']).next().unwrap()
}
