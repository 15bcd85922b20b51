//! The ready scripts that move many images: `bundle`, `docker-to-containerd`, `mirror`, `node-to-node`.

use ctrsh::sandbox::Sandbox;
use serde_json::Value;

use super::program;
use crate::harness::Env;
use crate::harness::env::sandbox_in;
use crate::harness::image::Kind;
use crate::harness::output::Output;
use crate::ops::stage::{IMAGE, Stage};

/// Runs a ready script that prints its report as JSON; returns how many images were moved, there, planned and failed.
fn counts(stage: &Stage, arguments: &[&str]) -> [i64; 4] {
    counts_of(&program(stage, arguments).ok())
}

/// Returns how many images a report as JSON has as moved, there, planned and failed.
pub fn counts_of(report: &str) -> [i64; 4] {
    let report: Value = serde_json::from_str(report).unwrap();
    let number = |key: &str| report[key].as_i64().unwrap();
    [number("done"), number("skipped"), number("planned"), report["failed"].as_array().unwrap().len() as i64]
}

fn digest(env: &Env, reference: &str) -> Option<String> {
    digest_with(env, reference, &[])
}

/// Returns the digest of what skopeo sees under a reference.
pub fn digest_with(env: &Env, reference: &str, options: &[&str]) -> Option<String> {
    let reference = format!("docker://{reference}");
    let raw = env.skopeo(&[&["inspect", "--raw", "--tls-verify=false"], options, &[&reference]].concat());
    raw.succeeded().then(|| ctrsh::oci::Digest::sha256(raw.stdout.as_bytes()).to_string())
}

pub fn bundle_real(env: &Env) {
    let stage = Stage::empty(env, "scripts");
    let (one, two) = (env.pushed(Kind::Index, "scripts"), env.pushed(Kind::ThreeLayers, "scripts"));
    let save = ["std/bundle", "save", "images", &one, "--platforms", "all", "--json"];
    assert_eq!(counts(&stage, &save), [1, 0, 0, 0]);
    assert_eq!(
        counts(&stage, &["std/bundle", "save", "images", &one, &two, "--platforms", "all", "--json"]),
        [1, 1, 0, 0]
    );
    let load = ["std/bundle", "load", "images", "--json"];
    assert_eq!(counts(&stage, &load), [2, 0, 0, 0]);
    assert_eq!(counts(&stage, &load), [0, 2, 0, 0]);
    let listed = stage.ctr(&["images", "ls"]);
    for (name, image) in [(&one, env.image(Kind::Index)), (&two, env.image(Kind::ThreeLayers))] {
        assert!(listed.contains(name.as_str()) && listed.contains(&image.digest), "{listed}");
    }
    let wrong = program(&stage, &["std/bundle", "safe", "images"]);
    assert!(wrong.status == 1 && wrong.stderr.contains("save FOLDER IMAGE"), "{wrong:?}");
}

pub fn bundle_dry(env: &Env) {
    let stage = Stage::empty(env, "scripts");
    let one = env.pushed(Kind::Index, "scripts");
    assert_eq!(counts(&stage, &["--dry-run", "std/bundle", "save", "images", &one, "--json"]), [0, 0, 1, 0]);
    assert!(!stage.folder.join("images").exists());
}

pub fn docker_real(env: &Env) {
    let stage = Stage::empty(env, "scripts");
    let socket = env.engine().socket().display().to_string();
    let run = ["std/docker-to-containerd", "--engine", &socket, "--include", "example/box:1", "--json"];
    assert_eq!(counts(&stage, &run), [1, 0, 0, 0]);
    assert_eq!(counts(&stage, &run), [0, 1, 0, 0]);
    let inspected = env.engine().inspect("example/box:1");
    let manifests = stage.ctr(&["content", "ls", "-q"]);
    // The id of a Docker Engine is the digest of the config, which has arrived as it was.
    assert!(manifests.contains(inspected["Id"].as_str().unwrap()), "{manifests}");
    let id = env.fresh("scripts");
    let arguments =
        ["run", "--rm", "--snapshotter", &stage.snapshotter, "docker.io/example/box:1", &id, "echo", "moved"];
    assert_eq!(stage.ctr(&arguments), "moved\n");
}

pub fn docker_dry(env: &Env) {
    let stage = Stage::empty(env, "scripts");
    let socket = env.engine().socket().display().to_string();
    let run = ["--dry-run", "std/docker-to-containerd", "--engine", &socket, "--include", "example/box:1", "--json"];
    let before = stage.leftovers();
    assert_eq!(counts(&stage, &run), [0, 0, 1, 0]);
    assert_eq!(stage.leftovers(), before);
}

fn list(stage: &Stage, env: &Env) -> (String, String) {
    let one = env.pushed(Kind::Index, "scripts");
    let to = env.repository("scripts");
    let text = format!("# what is mirrored\n{one}\n{one} {to}/named:2\n");
    std::fs::write(stage.folder.join("images.txt"), text).unwrap();
    let (_, path) = one.split_once('/').unwrap();
    (format!("{to}/{path}"), to)
}

pub fn mirror_real(env: &Env) {
    let stage = Stage::empty(env, "scripts");
    let (mirrored, to) = list(&stage, env);
    let run = ["std/mirror", "images.txt", &to, "--report", "mirror.csv", "--json"];
    assert_eq!(counts(&stage, &run), [2, 0, 0, 0]);
    assert_eq!(counts(&stage, &run), [0, 2, 0, 0]);
    for reference in [mirrored, format!("{to}/named:2")] {
        assert_eq!(digest(env, &reference), Some(env.image(Kind::Index).digest), "{reference}");
    }
    assert_eq!(std::fs::read_to_string(stage.folder.join("mirror.csv")).unwrap().lines().count(), 3);
    // One that does not exist fails alone.
    std::fs::write(stage.folder.join("images.txt"), format!("{to}/nope:1\n{to}/named:2\n")).unwrap();
    let output = program(&stage, &["std/mirror", "images.txt", &format!("{to}/again")]);
    assert_eq!(output.status, 3, "{output:?}");
    assert!(
        output.stdout.contains("nope") && output.stdout.contains("1 moved, 0 there already, 1 failed"),
        "{output:?}"
    );
}

pub fn mirror_dry(env: &Env) {
    let stage = Stage::empty(env, "scripts");
    let (mirrored, to) = list(&stage, env);
    assert_eq!(counts(&stage, &["--dry-run", "std/mirror", "images.txt", &to, "--json"]), [0, 0, 2, 0]);
    assert_eq!(digest(env, &mirrored), None);
}

pub fn nodes_real(env: &Env) {
    let stage = Stage::new(env, "scripts");
    let other = Sandbox::start(&sandbox_in(std::env::temp_dir())).unwrap();
    let socket = other.socket().display().to_string();
    let run = ["std/node-to-node", &socket, "--include", "example.test/*", "--to", "moved", "--json"];
    assert_eq!(counts(&stage, &run), [1, 0, 0, 0]);
    assert_eq!(counts(&stage, &run), [0, 1, 0, 0]);
    let mut ctr = std::process::Command::new("ctr");
    let listed = Output::of(ctr.args(["--address", &socket, "-n", "moved", "images", "ls"])).ok();
    assert!(listed.contains(IMAGE) && listed.contains(&env.image(Kind::Busybox).digest), "{listed}");
}

pub fn nodes_dry(env: &Env) {
    let stage = Stage::new(env, "scripts");
    let other = Sandbox::start(&sandbox_in(std::env::temp_dir())).unwrap();
    let socket = other.socket().display().to_string();
    let run = ["--dry-run", "std/node-to-node", &socket, "--include", "example.test/*", "--to", "moved", "--json"];
    assert_eq!(counts(&stage, &run), [0, 0, 1, 0]);
    let mut ctr = std::process::Command::new("ctr");
    let listed = Output::of(ctr.args(["--address", &socket, "-n", "moved", "images", "ls", "-q"])).ok();
    assert_eq!(listed, "");
}
