//! `copy` between namespaces and between daemons: what is sent, and what the target can do with it.

use std::path::Path;
use std::sync::Arc;

use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::ops::image::Platforms;
use libtest_mimic::Trial;
use tokio_util::sync::CancellationToken;

use super::copy::{copy, endpoint};
use super::stage::{IMAGE, Stage, place};
use crate::examples::Quiet;
use crate::harness::counter::Counter;
use crate::harness::daemon::Daemon;
use crate::harness::image::Kind;
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::copy_nodes::namespaces of one daemon are given content without a byte", env, namespaces),
        trial("ops::copy_nodes::a node gets what it lacks, unpacked and seen by the kubelet", env, nodes),
        trial("ops::copy_nodes::images and nodes are endpoints in scripts", env, objects),
        trial("ops::copy_nodes::a grant is for the namespace that is written to", env, granted),
    ]
}

/// Runs ctr against a daemon.
fn ctr(socket: &Path, namespace: &str, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("ctr");
    command.arg("--address").arg(socket).args(["-n", namespace]).args(arguments);
    Output::of(&mut command).ok()
}

fn namespaces(env: &Env) {
    let mut stage = Stage::of(env, "nodes", Kind::Big(3));
    let counter = env.block_on(Counter::start(stage.folder.join("counted.sock"), env.socket()));
    stage.ctx = stage.ctx.at(&place(&counter.socket().to_string_lossy(), &stage.namespace));
    let other = env.namespace("nodes");
    let source = endpoint(&stage, &format!("containerd:{IMAGE}"));
    let target = endpoint(&stage, &format!("containerd:[{other}]{IMAGE}"));
    let copied = copy(&stage, &source, &target, Platforms::Present).unwrap();
    let (sent, received) = counter.take();
    // The config and two layers, one of 3 MiB.
    assert_eq!((copied.totals.sent, copied.totals.blobs_sent.len(), copied.totals.blobs_present), (0, 0, 3));
    assert!(sent < 64 << 10 && received < 64 << 10, "{sent} bytes sent, {received} received");
    let id = env.fresh("nodes");
    let run = ["run", "--rm", "--snapshotter", &stage.snapshotter, IMAGE, &id, "/bin/busybox", "echo", "there"];
    assert_eq!(ctr(env.socket(), &other, &run), "there\n");
    assert_eq!(ctr(env.socket(), &other, &["leases", "ls", "-q"]), "");
}

fn nodes(env: &Env) {
    let mut stage = Stage::of(env, "nodes", Kind::Busybox);
    let daemon = Daemon::start(&env.new_folder("nodes"));
    let counter = env.block_on(Counter::start(stage.folder.join("counted.sock"), &daemon.socket()));
    let socket = counter.socket().display().to_string();
    let source = endpoint(&stage, &format!("containerd:{IMAGE}"));
    let base = copy(&stage, &source, &endpoint(&stage, &format!("containerd:[k8s.io@{socket}]base:1")), Platforms::All);
    assert!(base.unwrap().totals.sent > 0);
    counter.take();
    // The same base, and two small layers more.
    let three = Stage::of(env, "nodes", Kind::ThreeLayers);
    stage.ctx = stage.ctx.at(three.ctx.place());
    let target = endpoint(&stage, &format!("containerd:[k8s.io@{socket}]{IMAGE}"));
    let copied = copy(&stage, &source, &target, Platforms::Present).unwrap();
    let totals = copied.totals;
    assert_eq!((totals.blobs_present, totals.blobs_sent.len()), (1, 3), "the base was there");
    let (sent, _) = counter.take();
    assert!(sent < 64 << 10, "{sent} bytes");
    let labels = ctr(&daemon.socket(), "k8s.io", &["images", "ls"]);
    let records: Vec<&str> = labels.lines().filter(|line| line.contains("io.cri-containerd.image=managed")).collect();
    assert_eq!(records.len(), 4, "two names and two configs: {labels}");
    let config = env.image(Kind::ThreeLayers).config;
    assert!(records.iter().any(|line| line.starts_with(&config)), "{labels}");
    assert_eq!(ctr(&daemon.socket(), "k8s.io", &["leases", "ls", "-q"]), "");
    let id = env.fresh("nodes");
    let run = ["run", "--rm", "--snapshotter", &stage.snapshotter, IMAGE, &id, "/bin/busybox", "cat", "/data/changed"];
    assert_eq!(ctr(&daemon.socket(), "k8s.io", &run), "after\n");
}

fn objects(env: &Env) {
    let stage = Stage::new(env, "nodes");
    let daemon = Daemon::start(&env.new_folder("nodes"));
    let mut interpreter = stage.interpreter(&stage.ctx, Arc::new(Quiet));
    interpreter.set_constant("SOCKET", &daemon.socket().to_string_lossy());
    let mut eval = |code: &str| {
        let value = interpreter.run(code, None, CancellationToken::new()).map_err(|report| format!("{report:?}"))?;
        interpreter.json(&value).map_err(|report| format!("{report:?}"))
    };
    let (image, there) = (format!("image(\"{IMAGE}\")"), "connect(SOCKET)");
    let digest = eval(&format!("{image}.digest")).unwrap();
    assert_eq!(eval(&format!("copy({image}, {there}).digest")).unwrap(), digest);
    // Back again, from an object that is elsewhere.
    let back = format!("copy({there}.image(\"{IMAGE}\"), \"containerd:back:1\").sent");
    assert_eq!(eval(&back).unwrap(), 0);
    assert_eq!(eval("image(\"back:1\").digest").unwrap(), digest);
    let named = format!("copy({image}, {there}, #{{ name: \"other:2\" }}).reference");
    assert_eq!(eval(&named).unwrap(), "docker.io/library/other:2");
    assert_eq!(eval(&format!("{there}.image(\"other:2\").digest")).unwrap(), digest);
    let nameless = eval(&format!("copy(\"oci:nowhere\", {there})")).unwrap_err();
    assert!(nameless.contains("give one: #{ name:"), "{nameless}");
    let wrong = eval(&format!("copy(1, {there})")).unwrap_err();
    assert!(wrong.contains("must be an endpoint, an Image, a DockerImage or a Node, not an integer"), "{wrong}");
}

fn granted(env: &Env) {
    let stage = Stage::new(env, "nodes");
    let other = env.namespace("nodes");
    let allow = format!("read,write=containerd/{other}").parse().unwrap();
    let ctx = stage.allowing(allow);
    let run = |text: &str| {
        let source = endpoint(&stage, &format!("containerd:{IMAGE}"));
        let copy = ctrsh::ops::image::Copy::new(source, endpoint(&stage, text), Default::default());
        stage.run_in(&ctx, copy)
    };
    run(&format!("containerd:[{other}]{IMAGE}")).unwrap();
    let before = stage.leftovers();
    let denied = run("containerd:here:1").unwrap_err();
    assert_eq!(denied.kind(), Failed::Denied, "{denied}");
    assert!(denied.to_string().contains(&format!("containerd/{}", stage.namespace)), "{denied}");
    assert_eq!(stage.leftovers(), before);
}
