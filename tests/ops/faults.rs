//! Pulls through a registry that fails in every way: temporary failures end with the right image, lasting ones with the
//! right error, and neither leaves anything behind.

use std::time::{Duration, Instant};

use ctrsh::containerd::images::Deletion;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::{Matcher, Reference};
use ctrsh::ops::image::{Arrival, Delete, Pull, Push, PushOptions, get};
use ctrsh::registry::Config;
use libtest_mimic::Trial;

use super::stage::Stage;
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::image::Kind;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::faults::pulls end with the right image whatever happens on the way", env, pulls),
        trial("ops::faults::what never gets better is named and leaves nothing", env, lasting),
        trial("ops::faults::pushes end with the right image whatever happens on the way", env, pushes),
    ]
}

/// Retries without long pauses, and gives up on silence soon.
fn impatient() -> Config {
    let mut config = Config::default();
    config.retry.base = Duration::from_millis(5);
    config.timeouts.stall = Duration::from_millis(400);
    config.timeouts.header = Duration::from_secs(2);
    config
}

/// The failures that pass, with what they are called.
fn passing(name: &str) -> Fault {
    match name {
        "408" | "429" | "500" | "502" | "503" | "504" => Fault::status(name.parse().unwrap()),
        "reset" => Fault::Reset(70_000),
        "reset at once" => Fault::Reset(0),
        "truncated" => Fault::Truncate(70_000),
        "stalled" => Fault::Stall(70_000),
        "corrupt" => Fault::Corrupt(40),
        "range ignored" => Fault::IgnoreRange,
        other => panic!("no fault {other}"),
    }
}

struct Scene {
    stage: Stage,
    proxy: FaultProxy,
    name: String,
    digest: String,
}

/// Pushes an image of a size that no other test has: a daemon takes a blob over from another namespace, and nothing would
/// be asked of the registry.
fn scene(env: &Env, size: u32) -> Scene {
    let pushed = env.pushed(Kind::Big(size), "faults");
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let name = pushed.replacen(&env.registry(), &proxy.host(), 1);
    let digest = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{pushed}")]).ok();
    let digest = ctrsh::oci::Digest::sha256(digest.as_bytes()).to_string();
    Scene { stage: Stage::with_registry(env, "faults", impatient()), proxy, name, digest }
}

fn pull(scene: &Scene) -> ctrsh::ops::Result<ctrsh::containerd::images::Image> {
    let reference: Reference = scene.name.parse().unwrap();
    scene.stage.run(Pull::new(reference, Arrival::default(), Default::default()))
}

fn pulls(env: &Env) {
    let scene = scene(env, 5);
    let before = scene.stage.leftovers();
    let mut cells = 0;
    let all = [
        "408",
        "429",
        "500",
        "502",
        "503",
        "504",
        "reset",
        "reset at once",
        "truncated",
        "stalled",
        "corrupt",
        "range ignored",
    ];
    for part in ["/manifests/", "/blobs/"] {
        for fault in all {
            // Damage passes when it happens once: twice the same means that the other side has it so.
            let times: &[usize] = if fault == "corrupt" { &[1] } else { &[1, 3] };
            for times in times {
                if part == "/manifests/" && matches!(fault, "reset" | "truncated" | "stalled" | "range ignored") {
                    continue;
                }
                scene.proxy.forgive();
                scene.proxy.clear();
                if fault == "range ignored" {
                    // Only who was cut off asks for a range; the requests beside that one pass the fault unharmed.
                    scene.proxy.fault("GET", part, *times, passing("reset"));
                    scene.proxy.fault("GET", part, 10, passing(fault));
                } else {
                    scene.proxy.fault("GET", part, *times, passing(fault));
                }
                let begun = Instant::now();
                let image = pull(&scene).unwrap_or_else(|error| panic!("{fault} x{times} at {part}: {error}"));
                assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "{fault} x{times} at {part} took {:?}",
                    begun.elapsed()
                );
                assert!(scene.proxy.count("GET", part) > *times, "{fault} x{times} at {part} did not happen");
                assert_eq!(image.target.digest.as_str(), scene.digest, "{fault} x{times} at {part}");
                let found = env.block_on(async {
                    let image = get(&scene.stage.ctx, &scene.name).await.unwrap();
                    let snapshotter = &scene.stage.snapshotter;
                    ctrsh::ops::image::check(&scene.stage.ctx, &image, &Matcher::host(), snapshotter).await.unwrap()
                });
                assert!(found.complete() && found.unpacked(), "{fault} x{times} at {part}: {found:?}");
                scene.stage.run(Delete::new(vec![scene.name.clone()], Deletion::Synchronous)).unwrap();
                assert_eq!(scene.stage.leftovers(), before, "{fault} x{times} at {part}");
                cells += 1;
            }
        }
    }
    assert!(cells > 35, "only {cells} cells");
}

fn lasting(env: &Env) {
    let scene = scene(env, 6);
    let before = scene.stage.leftovers();
    let html = || Fault::Answer(200, vec![("content-type", "text/html".into())], "<html>hello</html>".into());
    for (part, fault, kind) in [
        ("/blobs/", Fault::Corrupt(40), Failed::Integrity),
        ("/manifests/", Fault::Corrupt(40), Failed::Integrity),
        ("/blobs/", Fault::Lengthen, Failed::Integrity),
        ("/blobs/", Fault::status(404), Failed::NotFound),
        ("/blobs/", Fault::status(403), Failed::Unauthorized),
        ("/blobs/", html(), Failed::Integrity),
        ("/blobs/", Fault::status(503), Failed::Unavailable),
    ] {
        scene.proxy.forgive();
        let shown = format!("{fault:?} at {part}");
        scene.proxy.fault("GET", part, 10_000, fault);
        let error = pull(&scene).unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {error}");
        assert!(error.to_string().contains(&scene.name), "{shown}: {error}");
        assert_eq!(scene.stage.leftovers(), before, "{shown}");
    }
    scene.proxy.forgive();
    pull(&scene).unwrap();
}

fn pushes(env: &Env) {
    let scene = scene(env, 7);
    pull(&scene).unwrap();
    let mut cells = 0;
    for (method, part) in [("POST", "/uploads/"), ("PUT", "/uploads/"), ("PUT", "/manifests/"), ("HEAD", "/blobs/")] {
        for fault in ["408", "429", "500", "502", "503", "504", "lost", "cut"] {
            let fault = match fault {
                "lost" => Fault::LoseAnswer,
                "cut" if method == "PUT" && part == "/uploads/" => Fault::ResetRequest(70_000),
                "cut" => continue,
                status => passing(status),
            };
            scene.proxy.forgive();
            let shown = format!("{fault:?} at {method} {part}");
            // Another registry than it came from, so that nothing can be mounted: the same one under another name.
            let host = scene.proxy.host().replacen("127.0.0.1", "localhost", 1);
            let target = format!("{host}/{}:v1", env.fresh("faults"));
            scene.proxy.fault(method, part, 1, fault);
            let options = PushOptions { source: Some(scene.name.clone()), ..PushOptions::default() };
            let done = scene.stage.run(Push::new(target.parse().unwrap(), options));
            let done = done.unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(done.root.digest.as_str(), scene.digest, "{shown}");
            scene.proxy.forgive();
            let raw = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{target}")]).ok();
            assert_eq!(ctrsh::oci::Digest::sha256(raw.as_bytes()).as_str(), scene.digest, "{shown}");
            cells += 1;
        }
    }
    assert!(cells > 20, "only {cells} cells");
}
