//! Namespaces that are removed with all that is in them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ctrsh::grant::Allow;
use ctrsh::kind::Kind as Failed;
use ctrsh::ops::Context;
use ctrsh::script::Report;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::stage::{IMAGE, Stage};
use crate::examples::Quiet;
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::namespace::purge removes it with all that is in it", env, purge),
        trial("ops::namespace::what another namespace holds too stays there", env, shared),
        trial("ops::namespace::a snapshot goes too whose child the collector took before", env, collected),
        trial("ops::namespace::a dry purge leaves nothing to see, and all in place", env, dry),
        trial("ops::namespace::purge needs a grant for each of its steps", env, granted),
    ]
}

/// Puts one of everything into the namespace, and starts a container.
const FILL: &str = r#"
    tag(IMAGE, "example.test/other:1");
    run(IMAGE, #{ id: "runs", command: ["sleep", "600"], detach: true });
    create("made", IMAGE, #{ command: ["true"] });
    let stopped = run(IMAGE, #{ id: "stopped", command: ["true"], detach: true }); stopped.wait();
    leases::create(#{ id: "mine", expires: () });
    snapshots::prepare("by-hand");
    content::ingest(`kept by hand in ${namespace().name}`);
    1
"#;

fn filled(env: &Env) -> Stage {
    let stage = Stage::new(env, "purge");
    stage.value(&format!("const IMAGE = {IMAGE:?};{FILL}"));
    // Of what is cut off, ctr leaves what has arrived.
    let mut ingest = Command::new("ctr");
    ingest.arg("-a").arg(env.socket()).args([
        "-n",
        &stage.namespace,
        "content",
        "ingest",
        "--expected-size",
        "100",
        "cut",
    ]);
    let mut ingest = ingest.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    ingest.stdin.take().unwrap().write_all(b"forty bytes of a hundred, and then an end").unwrap();
    assert!(!ingest.wait().unwrap().success());
    stage
}

fn run(stage: &Stage, ctx: &Context, code: &str) -> Result<Value, Report> {
    let mut interpreter = stage.interpreter(ctx, Arc::new(Quiet));
    let evaluated = interpreter.run(code, None, Default::default())?;
    interpreter.json(&evaluated)
}

/// Lists all that ctr finds in the namespace.
fn inside(stage: &Stage) -> BTreeMap<&'static str, usize> {
    let count = |arguments: &[&str], heading: usize| stage.ctr(arguments).lines().count().saturating_sub(heading);
    BTreeMap::from([
        ("containers", count(&["containers", "ls", "-q"], 0)),
        ("tasks", count(&["tasks", "ls", "-q"], 0)),
        ("images", count(&["images", "ls", "-q"], 0)),
        ("leases", count(&["leases", "ls", "-q"], 0)),
        ("snapshots", count(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"], 1)),
        ("content", count(&["content", "ls", "-q"], 0)),
        ("ingests", count(&["content", "active"], 1)),
    ])
}

fn exists(stage: &Stage) -> bool {
    stage.env.ctr(&["namespaces", "ls", "-q"]).ok().lines().any(|name| name == stage.namespace)
}

fn purge(env: &Env) {
    let stage = filled(env);
    let before = inside(&stage);
    assert!(before.values().all(|count| *count > 0), "{before:?}");
    let pid = stage.value("container(\"runs\").task.pid").as_u64().unwrap();
    let name = &stage.namespace;
    // Only runc's shim of containerd 1.7 serves sandboxes.
    let pods = stage.value(&format!(
        "let pods = []; try {{ pods.push(sandboxes::run({:?}).id) }} catch (e) {{ if e.kind != \"usage\" {{ throw e }} }} pods",
        env.fresh("pod")
    ));

    let refused = stage.script(&format!("namespaces::purge({name:?})")).unwrap_err();
    assert!(refused.error.message.contains("has containers that run: runs"), "{refused:?}");
    assert!(refused.error.hint.is_some_and(|hint| hint.contains("force: true")));
    let full = stage.script(&format!("namespaces::delete({name:?})")).unwrap_err();
    assert!(full.error.hint.is_some_and(|hint| hint.contains("namespaces::purge")));
    assert_eq!(inside(&stage), before, "what was refused changes nothing");

    let plan = stage.value(&format!("namespaces::purge({name:?}, #{{ plan: true }})"));
    assert_eq!(inside(&stage), before, "a plan changes nothing");
    let purged = stage.value(&format!("namespaces::purge({name:?}, #{{ force: true }})"));
    for field in ["containers", "sandboxes", "images", "ingests", "leases", "snapshots", "blobs", "freed_snapshots"] {
        assert_eq!(plan[field], purged[field], "what was planned was done: {field}");
    }
    assert_eq!(purged["containers"], json!(["made", "runs", "stopped"]));
    assert_eq!(purged["sandboxes"], pods);
    assert_eq!(purged["leases"], json!(["mine"]));
    assert_eq!(purged["images"].as_array().unwrap().len(), 3);
    assert_eq!(purged["snapshots"].as_u64(), Some(before["snapshots"] as u64));
    assert_eq!(purged["blobs"].as_u64(), Some(before["content"] as u64));
    assert_eq!(purged["ingests"].as_array().map(Vec::len), Some(before["ingests"]));
    // Other tests have the image too, and nobody the blob by hand.
    let by_hand = format!("kept by hand in {name}").len() as u64;
    assert!(purged["freed_content"].as_u64().unwrap() >= by_hand, "{purged}");
    assert!(purged["freed_snapshots"].as_u64().unwrap() > 0, "{purged}");

    assert!(!exists(&stage));
    assert!(!stage.ctx.settings().log_dir.join(name).exists(), "its logs went with their containers");
    assert!(inside(&stage).values().all(|count| *count == 0), "{:?}", inside(&stage));
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the container's process is gone");
    let again = stage.script(&format!("namespaces::purge({name:?})")).unwrap_err();
    assert!(again.error.message.contains("namespace"), "{again:?}");
}

fn shared(env: &Env) {
    let stage = Stage::of(env, "purge", Kind::Busybox);
    let other = env.namespace("purge-other");
    let name = &stage.namespace;
    stage.value(&format!("let i = image({IMAGE:?}); namespace({other:?}); copy(i, node(), #{{ name: {IMAGE:?} }}); namespace({name:?}); 1"));
    let purged = stage.value(&format!("namespaces::purge({name:?})"));
    assert_eq!(purged["freed_content"], json!(0), "the other holds every blob");
    assert!(purged["freed_snapshots"].as_u64().unwrap() > 0);
    let check = stage.env.ctr(&["-n", &other, "images", "check"]).ok();
    assert!(check.contains("complete"), "{check}");
}

fn collected(env: &Env) {
    let stage = Stage::new(env, "purge");
    let name = &stage.namespace;
    stage.value(&format!(
        "snapshots::prepare(\"child\", image({IMAGE:?}).chain_id()); \
         snapshots::label(\"child\", #{{ \"containerd.io/gc.root\": () }}); \
         leases::delete(leases::create(), #{{ wait: true }}); 1"
    ));
    let keys = stage.value("snapshots::list().map(|s| s.key)");
    assert!(!keys.as_array().unwrap().is_empty() && !keys.as_array().unwrap().contains(&json!("child")), "{keys}");
    // What containerd says of it: it counts the child still.
    let parent = stage.value(&format!("image({IMAGE:?}).chain_id()"));
    let refused = stage.script(&format!("snapshots::delete({parent}, #{{ force: true }})")).unwrap_err();
    assert!(refused.error.message.contains("with child"), "{refused:?}");
    stage.value(&format!("namespaces::purge({name:?}); 1"));
    assert!(!exists(&stage));
}

fn dry(env: &Env) {
    let stage = filled(env);
    let before = inside(&stage);
    let name = &stage.namespace;
    let seen = run(&stage, &stage.ctx.dry_run(), &format!(
        "namespaces::purge({name:?}, #{{ force: true }}); \
         [images(), containers(), tasks(), content::list(), content::active(), snapshots::list(), leases::list()].map(|l| l.len()) \
         + [namespaces().some(|n| n.name == {name:?})]"
    )).unwrap();
    assert_eq!(seen, json!([0, 0, 0, 0, 0, 0, 0, false]));
    assert_eq!(inside(&stage), before);
    // What uses images, and what is still in a namespace, is what there would be.
    let other = Stage::new(env, "namespace");
    let made = other.env.fresh("pretended");
    let used = format!(
        "create({made:?}, {IMAGE:?}, #{{ command: [\"true\"] }}); let used = prune((), #{{ plan: true }}).removed.len(); \
         delete({made:?}); [used, prune((), #{{ plan: true }}).removed.len() > 0]"
    );
    assert_eq!(run(&other, &other.ctx.dry_run(), &used).unwrap(), json!([0, true]));
    let emptied = format!(
        "for image in images() {{ image.delete() }} namespaces::delete({:?}); \
         namespaces().some(|n| n.name == {:?})",
        other.namespace, other.namespace
    );
    other.value(&format!("create({made:?}, {IMAGE:?}, #{{ command: [\"true\"] }}).id"));
    let gone = format!("delete({made:?}, #{{ force: true }}); {emptied}");
    assert_eq!(run(&other, &other.ctx.dry_run(), &gone).unwrap(), json!(false));
    other.value(&format!("delete({made:?}, #{{ force: true }})"));
    stage.value(&format!("namespaces::purge({name:?}, #{{ force: true }}); 1"));
}

fn granted(env: &Env) {
    let stage = filled(env);
    let before = inside(&stage);
    let code = format!("namespaces::purge({:?}, #{{ force: true }})", stage.namespace);
    for allowed in ["read,write,delete", "read,write,run", "read,run,delete", "read,write,run,delete=containerd/other"]
    {
        let allowed = allowed.parse::<Allow>().unwrap();
        let refused = run(&stage, &stage.allowing(allowed), &code).unwrap_err();
        assert_eq!(refused.error.kind, Failed::Denied, "{refused:?}");
        assert_eq!(inside(&stage), before);
    }
    stage.value(&code);
}
