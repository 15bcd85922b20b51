//! Leases from scripts, beside those that ctr makes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ctrsh::kind::Kind as Failed;
use libtest_mimic::Trial;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::stage::{IMAGE, Stage};
use crate::examples::Quiet;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::lease::ours and ctr's are alike, and each deletes the other's", env, alike),
        trial("ops::lease::what is in a lease outlives its image, and goes with the lease", env, kept),
        trial("ops::lease::with_lease keeps what its closure makes, to its end and no longer", env, held),
        trial("ops::lease::with_lease ends its lease when the closure throws and on Ctrl-C", env, ended),
        trial("ops::lease::with_lease and parallel go together both ways", env, beside),
        trial("ops::lease::a lease expires, and what is lost is said", env, lost),
        trial("ops::lease::mistakes are named and change nothing", env, mistakes),
    ]
}

/// Makes the daemon collect, and waits for it: the end of a lease does that.
const COLLECT: &str = "fn collect() { leases::delete(leases::create(), #{ wait: true }) }\n";

fn ids(stage: &Stage) -> Vec<String> {
    let mut ids: Vec<String> = stage.ctr(&["leases", "ls", "-q"]).lines().map(str::to_owned).collect();
    ids.sort();
    ids
}

fn blobs(stage: &Stage) -> usize {
    stage.ctr(&["content", "ls", "-q"]).lines().count()
}

fn alike(env: &Env) {
    let stage = Stage::empty(env, "leases");
    stage.ctr(&["leases", "create", "--id", "theirs", "--expires", "1h", "team=core"]);
    stage.ctr(&["leases", "create", "--id", "theirs-for-ever", "--expires", "0"]);
    let script = r#"
        leases::create(#{ id: "ours", expires: "1h", labels: #{ team: "core" } });
        leases::create(#{ id: "ours-for-ever", expires: 0 });
        leases::create(#{ id: "ours-too", expires: () });
        leases::list().map(|l| [l.id, l.labels.keys(), l.expires == (), l.labels.team ?? ()])
    "#;
    let keys = json!(["containerd.io/gc.expire", "team"]);
    let expected = json!([
        ["ours", keys, false, "core"],
        ["ours-for-ever", [], true, null],
        ["ours-too", [], true, null],
        ["theirs", keys, false, "core"],
        ["theirs-for-ever", [], true, null],
    ]);
    assert_eq!(stage.value(script), expected);
    assert_eq!(ids(&stage), ["ours", "ours-for-ever", "ours-too", "theirs", "theirs-for-ever"]);
    assert_eq!(stage.value(r#"leases::list("labels.team==core").map(|l| l.id)"#), json!(["ours", "theirs"]));
    assert_eq!(stage.value(r#"leases::list(["id==ours", "id==theirs"]).len()"#), 2);
    assert_eq!(stage.value(r#"leases::delete(["theirs", "theirs-for-ever", "ours-too"])"#), 3);
    stage.ctr(&["leases", "rm", "ours", "ours-for-ever"]);
    assert_eq!(ids(&stage), Vec::<String>::new());
}

fn kept(env: &Env) {
    let stage = Stage::new(env, "leases");
    let script =
        format!(r#"let l = leases::create(#{{ id: "keep" }}); l.add_resource(image("{IMAGE}").digest); l.resources()"#);
    let added = stage.value(&script);
    let digest = added[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(added, json!([{ "type": "content", "id": digest }]));
    let all = blobs(&stage);
    let names = stage.ctr(&["images", "ls", "-q"]);
    for name in names.lines() {
        stage.ctr(&["images", "rm", "--sync", name]);
    }
    assert_eq!(blobs(&stage), all, "what the lease's content refers to is kept too");
    let parts = r#"
        let l = leases::list("id==keep")[0];
        let d = l.resources()[0];
        let s = snapshot_key();
        l.add_resource([#{ type: `snapshots/${s[0]}`, id: s[1] }]);
        let types = l.resources().map(|r| r.type);
        l.remove_resource(d);
        leases::add(l, d.id);
        leases::remove("keep", #{ type: "content", id: d.id });
        [types, leases::resources(l).map(|r| r.type)]
    "#;
    let snapshots = stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"]);
    let key = snapshots.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let sort = format!("snapshots/{}", stage.snapshotter);
    let key = format!("fn snapshot_key() {{ [\"{}\", \"{key}\"] }}\n", stage.snapshotter);
    assert_eq!(stage.value(&format!("{key}{parts}")), json!([["content", sort], [sort]]));
    stage.value(r#"leases::delete("keep", #{ wait: true })"#);
    assert_eq!(blobs(&stage), 0);
    let snapshots = stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"]);
    assert_eq!(snapshots.lines().count(), 1, "{snapshots}");
}

fn held(env: &Env) {
    let stage = Stage::empty(env, "leases");
    let make = r#"content::ingest("held by nothing but a lease", #{ root: false })"#;
    let bait = format!("{COLLECT}let b = {make}; collect(); content::list().len()");
    assert_eq!(stage.value(&bait), 0, "without a lease it is collected");
    let script = format!(
        "{COLLECT}with_lease(#{{ id: \"around\", wait: true }}, || {{ let b = {make}; collect(); [content::info(b).size, leases::list().map(|l| l.id), leases::resources(\"around\").map(|r| r.id == b.digest)] }})"
    );
    assert_eq!(stage.value(&script), json!([27, ["around"], [true]]));
    assert_eq!(blobs(&stage), 0);
    assert_eq!(ids(&stage), Vec::<String>::new());
    let pushed = env.pushed(crate::harness::Kind::ThreeLayers, "leases");
    let pull = format!(
        "{COLLECT}with_lease(#{{ wait: true }}, || {{ pull(\"{pushed}\").delete(); collect(); content::list().len() }})"
    );
    assert_eq!(stage.value(&pull), 5, "a manifest, a config and three layers");
    assert_eq!(blobs(&stage), 0);
    let snapshots = stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"]);
    assert_eq!(snapshots.lines().count(), 1, "{snapshots}");
    let nested = format!(
        "{COLLECT}with_lease(|| {{ with_lease(#{{ wait: true }}, || {make}); [content::list().len(), leases::list().len()] }})"
    );
    assert_eq!(stage.value(&nested), json!([0, 1]));
}

fn ended(env: &Env) {
    let stage = Stage::empty(env, "leases");
    let make = r#"content::ingest("for a moment", #{ root: false })"#;
    let report = stage.script(&format!("with_lease(|| {{ {make}; throw \"enough\" }})")).unwrap_err();
    assert_eq!(report.error.message, "enough");
    let report = stage.script(&format!("with_lease(|| {{ {make}; exit(7) }})"));
    assert!(report.is_ok_and(|value| value.is_null()) || blobs(&stage) == 0);
    assert_eq!((blobs(&stage), ids(&stage).len()), (0, 0));
    let cancel = CancellationToken::new();
    let press = cancel.clone();
    let (watched, socket) = (stage.namespace.clone(), env.socket().to_owned());
    let presser = std::thread::spawn(move || {
        // Ctrl-C comes when the blob is there.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let listed = std::process::Command::new("ctr")
                .arg("--address")
                .arg(&socket)
                .args(["-n", &watched, "content", "ls", "-q"])
                .output()
                .unwrap();
            if !listed.stdout.is_empty() || Instant::now() > deadline {
                break press.cancel();
            }
        }
    });
    let mut interpreter = stage.interpreter(&stage.ctx, Arc::new(Quiet));
    let script = format!("with_lease(|| {{ {make}; sleep(\"600s\") }})");
    let report = interpreter.run(&script, None, cancel).unwrap_err();
    presser.join().unwrap();
    assert_eq!(report.error.kind, Failed::Cancelled, "{report:?}");
    assert_eq!((blobs(&stage), ids(&stage).len()), (0, 0));
}

fn beside(env: &Env) {
    let stage = Stage::empty(env, "leases");
    let inside = format!(
        "{COLLECT}with_lease(#{{ wait: true }}, || {{ parallel([1, 2, 3, 4], |n| content::ingest(`number ${{n}}`, #{{ root: false }})); collect(); content::list().len() }})"
    );
    assert_eq!(stage.value(&inside), 4);
    let outside = format!(
        "{COLLECT}parallel([1, 2, 3, 4], |n| with_lease(#{{ id: `of-${{n}}` }}, || {{ let b = content::ingest(`own ${{n}}`, #{{ root: false }}); leases::delete(leases::create(), #{{ wait: true }}); leases::resources(`of-${{n}}`).map(|r| r.id == b.digest) }})).results"
    );
    assert_eq!(stage.value(&outside), json!([[true], [true], [true], [true]]));
    assert_eq!(ids(&stage), Vec::<String>::new());
}

fn lost(env: &Env) {
    let stage = Stage::empty(env, "leases");
    let expires = format!(
        "{COLLECT}let l = leases::create(#{{ id: \"short\", expires: \"8s\" }}); content::ingest(\"short\", #{{ lease: l }}); let tries = 0; while tries < 600 && !leases::list().is_empty() {{ sleep(\"100ms\"); collect(); tries += 1 }} [leases::list().len(), content::list().len()]"
    );
    assert_eq!(stage.value(&expires), json!([0, 0]));
    let report = stage
        .script("with_lease(#{ id: \"gone\" }, || { leases::delete(\"gone\", #{ wait: true }); content::ingest(\"late\") })")
        .unwrap_err();
    assert_eq!(report.error.kind, Failed::NotFound, "{report:?}");
    assert!(report.error.message.contains("lease"), "{report:?}");
    assert!(report.error.hint.as_ref().is_some_and(|hint| hint.contains("leases::list")), "{report:?}");
    assert_eq!((blobs(&stage), ids(&stage).len()), (0, 0));
    assert_eq!(stage.ctr(&["content", "active"]).lines().count(), 1);
}

fn mistakes(env: &Env) {
    let stage = Stage::new(env, "leases");
    stage.value(r#"leases::create(#{ id: "one" }); leases::create(#{ id: "two" })"#);
    let missing = format!("sha256:{}", "0".repeat(64));
    for (script, kind, words) in [
        (r#"resources("one")"#, Failed::Usage, "unknown function resources"),
        (r#"leases::delete(["one", "twoo"])"#, Failed::NotFound, "twoo"),
        (r#"leases::create(#{ id: "one" })"#, Failed::AlreadyExists, "one"),
        (r#"leases::create(#{ id: "" })"#, Failed::Usage, "empty"),
        (r#"leases::create(#{ expire: "1h" })"#, Failed::Usage, "expire"),
        (r#"leases::create(#{ labels: #{ "containerd.io/gc.expire": "x" } })"#, Failed::Usage, "expire"),
        (r#"leases::list("id=~~")"#, Failed::Usage, "list leases"),
        (r#"leases::resources("three")"#, Failed::NotFound, "three"),
        (&format!(r#"leases::add("one", "{missing}")"#), Failed::NotFound, &missing),
        (r#"leases::add("one", "busybox")"#, Failed::Usage, "busybox"),
        (r#"leases::add("one", #{ type: "content" })"#, Failed::Usage, "id"),
        (r#"leases::add("one", #{ type: "mountains", id: "1" })"#, Failed::Usage, "mountains"),
        (r#"leases::add("one", #{ type: "snapshots/none-such", id: "1" })"#, Failed::Usage, "none-such"),
        (&format!(r#"leases::add("one", image("{IMAGE}"))"#), Failed::Usage, "Image"),
        (&format!(r#"leases::remove("one", image("{IMAGE}").digest)"#), Failed::NotFound, "one"),
        (r#"with_lease(|| leases::nothing())"#, Failed::Usage, "nothing"),
        (r#"with_lease(#{ id: "two" }, || 1)"#, Failed::AlreadyExists, "two"),
        (r#"with_lease(1)"#, Failed::Usage, "closure"),
    ] {
        let report = stage.script(script).unwrap_err();
        let said = format!("{} {:?}", report.error.message, report.error.hint);
        assert!(said.contains(words), "{script}: {said}");
        // A snapshotter that is not there is told apart by some daemons only.
        if !script.contains("none-such") {
            assert_eq!(report.error.kind, kind, "{script}: {report:?}");
        }
        assert_eq!(ids(&stage), ["one", "two"], "{script}");
    }
    let report = stage.script(r#"leases::delete(["one", "twoo"])"#).unwrap_err();
    assert_eq!(report.error.hint.as_deref(), Some("did you mean two?"));
}
