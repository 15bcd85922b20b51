//! Shows that what the other tests stand on holds.

use libtest_mimic::Trial;

use super::{Env, Kind, Leftovers, image, trial};

/// The tests of the harness.
pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("harness::busybox_runs", env, busybox_runs),
        trial("harness::images_arrive_with_their_digests", env, images_arrive_with_their_digests),
        trial("harness::the_secure_registry_wants_its_password", env, the_secure_registry_wants_its_password),
        trial("harness::leftovers_are_seen", env, leftovers_are_seen),
    ]
}

fn busybox_runs(env: &Env) {
    let namespace = env.namespace("harness");
    let reference = env.pushed(Kind::ThreeLayers, "harness");
    env.ctr(&["-n", &namespace, "images", "pull", "--plain-http", &reference]).ok();
    let script = "cat /data/changed; ls /data; id -u app; echo $GREETING";
    let id = env.fresh("harness");
    let output = env.ctr(&["-n", &namespace, "run", "--rm", &reference, &id, "sh", "-c", script]);
    assert_eq!(output.ok(), "after\nchanged\n1000\nhello\n");
}

fn images_arrive_with_their_digests(env: &Env) {
    for kind in [Kind::Busybox, Kind::Index] {
        let reference = env.pushed(kind, "harness");
        let raw = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]).ok();
        assert_eq!(image::digest(raw.as_bytes()), env.image(kind).digest, "{kind:?}");
    }
    let reference = env.pushed(Kind::Docker, "harness");
    let raw = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]).ok();
    assert!(raw.contains("application/vnd.docker.distribution.manifest.v2+json"), "{raw}");
}

fn the_secure_registry_wants_its_password(env: &Env) {
    let reference = env.push_secure(&env.image(Kind::Busybox), "harness");
    let registry = env.registry_htpasswd_tls();
    let folder = registry.cert_dir.to_string_lossy().into_owned();
    let target = format!("docker://{reference}");
    let without = env.skopeo(&["inspect", "--raw", "--no-creds", "--cert-dir", &folder, &target]);
    assert!(!without.succeeded() && without.stderr.contains("authentication required"), "{without}");
    let untrusted = env.skopeo(&["inspect", "--raw", "--no-creds", &target]);
    assert!(!untrusted.succeeded() && untrusted.stderr.contains("x509"), "{untrusted}");
}

fn leftovers_are_seen(env: &Env) {
    let namespace = env.namespace("harness");
    let before = Leftovers::of(env, &namespace);
    assert!(before.tasks.is_empty() && before.shims.is_empty() && before.mounts.is_empty(), "{before:?}");
    let reference = env.pushed(Kind::Busybox, "harness");
    let id = env.fresh("harness");
    env.ctr(&["-n", &namespace, "images", "pull", "--plain-http", &reference]).ok();
    env.ctr(&["-n", &namespace, "run", "-d", &reference, &id, "sleep", "600"]).ok();
    env.ctr(&["-n", &namespace, "leases", "create", "--id", "left"]).ok();
    let during = Leftovers::of(env, &namespace);
    assert_eq!(during.tasks.len(), 1);
    assert_eq!(during.shims.len(), 1);
    assert_eq!(during.mounts.len(), 1);
    assert!(during.leases.contains("left"), "{during:?}");
    assert!(during.snapshots.contains(&id), "{during:?}");
    env.ctr(&["-n", &namespace, "tasks", "rm", "-f", &id]).ok();
    env.ctr(&["-n", &namespace, "containers", "rm", &id]).ok();
    env.ctr(&["-n", &namespace, "leases", "rm", "left"]).ok();
    env.ctr(&["-n", &namespace, "images", "rm", "--sync", &reference]).ok();
    assert_eq!(Leftovers::of(env, &namespace), before);
}
