//! Content from scripts, beside what ctr sees and does.

use ctrsh::kind::Kind as Failed;
use libtest_mimic::Trial;
use serde_json::json;

use super::stage::{IMAGE, Stage};
use crate::harness::output::Output;
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::content::what is listed and read is what ctr lists and reads", env, read),
        trial("ops::content::what is ingested is verified, and kept as was chosen", env, ingested),
        trial("ops::content::what is wrong is not ingested, and leaves nothing", env, mismatch),
        trial("ops::content::what an editor leaves is another blob, or nothing", env, edited),
        trial("ops::content::labels and deletions are those of ctr", env, changed),
        trial("ops::content::a fetch brings what ctr's brings", env, fetched),
        trial("ops::content::objects of a registry need no daemon", env, objects),
        trial("ops::content::an object is pushed alone", env, pushed),
        trial("ops::content::references to unpacked layers are pruned as by ctr", env, pruned),
        trial("ops::content::layers whose snapshots are gone are not let go of", env, not_unpacked),
        trial("ops::content::what is being written is seen and thrown away", env, active),
        trial("ops::content::mistakes are named", env, mistakes),
    ]
}

/// Makes the daemon collect, and waits for it.
const COLLECT: &str = "fn collect() { leases::delete(leases::create(), #{ wait: true }) }\n";

fn digests(stage: &Stage) -> Vec<String> {
    let mut digests: Vec<String> = stage.ctr(&["content", "ls", "-q"]).lines().map(str::to_owned).collect();
    digests.sort();
    digests
}

fn labels(stage: &Stage, digest: &str) -> Vec<String> {
    let listed = stage.ctr(&["content", "ls"]);
    let line = listed.lines().find(|line| line.starts_with(digest)).unwrap_or_else(|| panic!("{digest} in {listed}"));
    let words = line.split(['\t', ' ', ',']).filter(|word| word.contains('='));
    let mut words: Vec<_> = words.map(str::to_owned).collect();
    // ctr prints them in no order.
    words.sort();
    words
}

fn read(env: &Env) {
    let stage = Stage::of(env, "content", Kind::ThreeLayers);
    assert_eq!(stage.value("content::list().map(|b| b.digest)"), json!(digests(&stage)));
    let digest = stage.value(&format!("image(\"{IMAGE}\").digest"));
    let digest = digest.as_str().unwrap();
    let text = stage.ctr(&["content", "get", digest]);
    assert_eq!(stage.value(&format!("content::text(\"{digest}\")")), text);
    let script = format!("content::get(\"{digest}\", #{{ offset: 2, size: 10 }}).as_string()");
    assert_eq!(stage.value(&script), text[2..12]);
    assert_eq!(stage.value(&format!("content::get(\"{digest}\", #{{ offset: \"1GiB\" }}).len()")), 0);
    std::fs::create_dir_all(stage.folder.join("work")).unwrap();
    let layers = "content::list().filter(|b| b.labels.keys().some(|k| k == \"containerd.io/uncompressed\"))";
    let script = format!("let l = {layers}; content::save(l[0], \"layer\"); [l.len(), l[0].digest]");
    let saved = stage.value(&script);
    assert_eq!(saved[0], 3);
    let bytes = std::fs::read(stage.folder.join("work/layer")).unwrap();
    assert_eq!(ctrsh::oci::Digest::sha256(&bytes).to_string(), saved[1].as_str().unwrap());
}

fn edited(env: &Env) {
    let stage = Stage::new(env, "content");
    let before = digests(&stage);
    let of_image = stage.value(&format!("image(\"{IMAGE}\").digest"));
    let of_image = of_image.as_str().unwrap();
    let old = labels(&stage, of_image);
    let edit = |editor: &str| stage.script(&format!("content::edit({of_image:?}, #{{ editor: {editor:?} }}).digest"));
    // One that changes nothing makes nothing, and pins nothing.
    assert_eq!(edit("true").unwrap(), of_image);
    assert_eq!(labels(&stage, of_image), old);
    let failed = edit("echo lost | tee; exit 3; :").unwrap_err();
    assert!(failed.error.message.contains("exit status: 3, so nothing is stored"), "{failed:?}");
    let unknown = edit("/nowhere/editor").unwrap_err();
    assert!(unknown.error.message.contains("exit status: 127"), "{unknown:?}");
    assert_eq!(digests(&stage), before);
    let made = edit("echo edited >").unwrap();
    let made = made.as_str().unwrap();
    assert_eq!(stage.ctr(&["content", "get", made]), "edited\n");
    assert!(labels(&stage, made).iter().any(|label| label.starts_with("containerd.io/gc.root=")));
    assert_eq!(digests(&stage).len(), before.len() + 1);
}

fn ingested(env: &Env) {
    let stage = Stage::empty(env, "content");
    let work = stage.folder.join("work");
    std::fs::create_dir_all(&work).unwrap();
    let big: Vec<u8> = (0..3 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(work.join("big"), &big).unwrap();
    let digest = ctrsh::oci::Digest::sha256(&big).to_string();
    let script = format!(
        "{COLLECT}let b = content::ingest(#{{ path: \"big\" }}, #{{ expected_size: \"3MiB\", expected_digest: \"{digest}\", labels: #{{ team: \"core\" }} }}); collect(); content::info(b).size"
    );
    assert_eq!(stage.value(&script), 3 << 20);
    assert_eq!(digests(&stage), std::slice::from_ref(&digest));
    let kept = labels(&stage, &digest);
    assert!(kept.contains(&"team=core".to_owned()), "{kept:?}");
    assert!(kept.iter().any(|label| label.starts_with("containerd.io/gc.root=")), "{kept:?}");
    assert_eq!(stage.value("content::ingest(#{ path: \"big\" }, #{ labels: #{ more: \"1\" } }).digest"), json!(digest));
    assert!(labels(&stage, &digest).contains(&"more=1".to_owned()), "what is there gets the labels");
    let leased = format!(
        "{COLLECT}let l = leases::create(); let b = content::ingest(blob(5, 0x61), #{{ ref: \"mine\", lease: l }}); collect(); [content::text(b), b.labels.len(), l.resources().map(|r| r.id == b.digest), content::ingest(\"\").size]"
    );
    assert_eq!(stage.value(&leased), json!(["aaaaa", 0, [true], 0]));
    assert_eq!(
        stage.value(&format!("{COLLECT}leases::delete(leases::list(), #{{ wait: true }}); content::list().len()")),
        2
    );
    assert_eq!(stage.ctr(&["content", "active"]).lines().count(), 1);
}

fn mismatch(env: &Env) {
    let stage = Stage::empty(env, "content");
    let wrong = format!("sha256:{}", "0".repeat(64));
    for options in [format!("expected_digest: \"{wrong}\""), "expected_size: 4".to_owned()] {
        for lease in ["", ", lease: l"] {
            let script = format!("let l = leases::create(); content::ingest(\"hello\", #{{ {options}{lease} }})");
            let report = stage.script(&script).unwrap_err();
            assert_eq!(report.error.kind, Failed::Integrity, "{report:?}");
            assert!(report.error.message.contains("should be"), "{report:?}");
        }
    }
    assert_eq!(digests(&stage), Vec::<String>::new());
    assert_eq!(stage.ctr(&["content", "active"]).lines().count(), 1);
    assert_eq!(stage.value("leases::list().map(|l| l.resources().len())"), json!([0, 0, 0, 0]));
}

fn changed(env: &Env) {
    let (ours, theirs) = (Stage::new(env, "content"), Stage::new(env, "content"));
    let digest = ours.value(&format!("image(\"{IMAGE}\").digest"));
    let digest = digest.as_str().unwrap();
    theirs.ctr(&["content", "label", digest, "a=1", "b=2"]);
    theirs.ctr(&["content", "label", digest, "a="]);
    ours.value(&format!(
        "content::label(\"{digest}\", #{{ a: 1, b: \"2\" }}); content::label(\"{digest}\", #{{ a: () }})"
    ));
    let sorted = |stage: &Stage| {
        let mut labels = labels(stage, digest);
        labels.retain(|label| !label.starts_with("containerd.io/distribution.source"));
        labels.sort();
        labels
    };
    assert_eq!(sorted(&ours), sorted(&theirs));
    assert!(sorted(&ours).contains(&"b=2".to_owned()));
    let before = digests(&ours);
    let report = ours.script(&format!("content::delete(\"{digest}\")")).unwrap_err();
    assert_eq!(report.error.kind, Failed::Conflict, "{report:?}");
    assert!(report.error.message.contains("belongs to the image"), "{report:?}");
    let missing = format!("sha256:{}", "1".repeat(64));
    let several = format!("content::delete([content::ingest(\"x\"), \"{missing}\"])");
    assert_eq!(ours.script(&several).unwrap_err().error.kind, Failed::NotFound);
    assert_eq!(digests(&ours).len(), before.len() + 1, "one that is missing deletes none");
    assert_eq!(ours.value("content::delete(content::ingest(\"x\"))"), 1);
    theirs.ctr(&["content", "rm", digest]);
    assert_eq!(ours.value(&format!("content::delete(\"{digest}\", #{{ force: true }})")), 1);
    // What only the manifest referred to goes some time after it, in both.
    ours.value(&format!("{COLLECT}collect()"));
    assert_eq!(digests(&ours), digests(&theirs));
}

fn fetched(env: &Env) {
    let name = env.pushed(Kind::Index, "content");
    for (flags, options) in
        [(&[][..], ""), (&["--all-platforms"], "all_platforms: true"), (&["--metadata-only"], "metadata_only: true")]
    {
        let (ours, theirs) = (Stage::empty(env, "content"), Stage::empty(env, "content"));
        let image = ours.value(&format!("content::fetch(\"{name}\", #{{ {options} }}).name"));
        assert_eq!(image, json!(name));
        theirs.ctr(&[&["content", "fetch", "--plain-http"], flags, &[&name]].concat());
        let (ours_has, theirs_has) = (digests(&ours), digests(&theirs));
        // ctr brings the documents of all platforms where only some were asked for.
        assert!(ours_has.iter().all(|digest| theirs_has.contains(digest)), "{options}: {ours_has:?} {theirs_has:?}");
        if !options.is_empty() {
            assert_eq!(ours_has, theirs_has, "{options}");
        }
        let snapshots = ours.ctr(&["snapshots", "--snapshotter", &ours.snapshotter, "ls"]);
        assert_eq!(snapshots.lines().count(), 1, "nothing is unpacked");
        assert_eq!(ours.ctr(&["images", "ls", "-q"]), theirs.ctr(&["images", "ls", "-q"]));
        assert_eq!(ours.ctr(&["leases", "ls", "-q"]), "");
    }
}

fn objects(env: &Env) {
    let name = env.pushed(Kind::ThreeLayers, "content");
    let script = format!(
        "let o = content::fetch_object(\"{name}\", \"\"); let raw = content::fetch_object(\"{name}\", \"\", #{{ raw: true }}); \
         let c = content::fetch_blob(\"{name}\", o.config.digest).as_string(); \
         let n = content::fetch_blob(\"{name}\", o.layers.map(|l| l.digest), #{{ path: \"layers\" }}); \
         let sum = 0; for l in o.layers {{ sum += l.size }} \
         [raw, o.layers.len(), c.contains(\"diff_ids\"), n == sum]"
    );
    let mut command = env.bare_ctrsh_command();
    command.args(["--address", "/nowhere/containerd.sock", "--json", "-e", &script]);
    let said = Output::of(&mut command).ok();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let raw = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok();
    assert_eq!(said, json!([raw, 3, true, true]));
    let missing = format!("sha256:{}", "2".repeat(64));
    let stage = Stage::empty(env, "content");
    std::fs::create_dir_all(stage.folder.join("work")).unwrap();
    for call in [
        format!("content::fetch_object(\"{name}\", \"{missing}\")"),
        format!("content::fetch_blob(\"{name}\", \"{missing}\")"),
        format!("content::fetch_blob(\"{name}\", \"{missing}\", #{{ path: \"none\" }})"),
    ] {
        assert_eq!(stage.script(&call).unwrap_err().error.kind, Failed::NotFound, "{call}");
    }
    assert_eq!(std::fs::read_dir(stage.folder.join("work")).unwrap().count(), 0);
}

fn pushed(env: &Env) {
    let stage = Stage::of(env, "content", Kind::ThreeLayers);
    let target = format!("{}:alone", env.repository("content"));
    let script = format!(
        "let d = image(\"{IMAGE}\").digest; let m = image(\"{IMAGE}\").manifest(); let media_type = image(\"{IMAGE}\").media_type; let t = \"{target}\"; \
         let refused = false; try {{ content::push_object(t, d, media_type) }} catch {{ refused = true }} \
         content::push_object(t, m.config.digest, m.config.mediaType); \
         for l in m.layers {{ content::push_object(t, l.digest, l.mediaType) }} \
         content::push_object(t, d, media_type); \
         [refused, content::fetch_object(t, \"\", #{{ raw: true }}) == content::text(d)]"
    );
    assert_eq!(stage.value(&script), json!([true, true]));
    let other = Stage::empty(env, "content");
    other.ctr(&["images", "pull", "--plain-http", "--snapshotter", &other.snapshotter, &target]);
}

fn pruned(env: &Env) {
    let stages = [(); 3].map(|()| Stage::of(env, "content", Kind::ThreeLayers));
    let [ours, theirs, dry] = &stages;
    let before = digests(ours);
    theirs.ctr(&["content", "prune", "references"]);
    let after = digests(theirs);
    assert_eq!(before.len(), after.len() + 3, "{after:?}");
    let planned = {
        let ctx = dry.ctx.dry_run();
        let mut interpreter = dry.interpreter(&ctx, std::sync::Arc::new(crate::examples::Quiet));
        let cancel = tokio_util::sync::CancellationToken::new();
        let evaluated = interpreter.run("content::prune_references()", None, cancel).unwrap();
        interpreter.json(&evaluated).unwrap()
    };
    assert_eq!(digests(dry), before);
    let done = ours.value("content::prune_references(#{ wait: true })");
    assert_eq!(done, planned);
    assert_eq!(digests(ours), after);
    let gone: Vec<&String> = before.iter().filter(|digest| !after.contains(digest)).collect();
    assert_eq!(done["layers"], json!(gone));
    let id = env.fresh("content");
    assert_eq!(
        ours.ctr(&["run", "--rm", "--snapshotter", &ours.snapshotter, IMAGE, &id, "/bin/echo", "runs"]),
        "runs\n"
    );
    let report = ours.script(&format!("push(\"{}:pruned\", \"{IMAGE}\")", env.repository("content"))).unwrap_err();
    assert!(matches!(report.error.kind, Failed::Integrity | Failed::NotFound), "{report:?}");
    let packed = Stage::empty(env, "content");
    let name = env.pushed(Kind::ThreeLayers, "content");
    packed.value(&format!("content::fetch(\"{name}\")"));
    assert_eq!(packed.value("content::prune_references(#{ wait: true }).layers.len()"), 0);
    assert_eq!(digests(&packed).len(), before.len(), "what is not unpacked stays");
}

fn not_unpacked(env: &Env) {
    let stage = Stage::of(env, "content", Kind::ThreeLayers);
    let before = digests(&stage);
    stage.value("snapshots::delete(snapshots::list().map(|s| s.key))");
    let layers = || stage.value("content::prune_references(#{ wait: true }).layers.len()");
    assert_eq!(layers(), 0);
    // Nor those of a snapshotter that the daemon no longer has.
    stage.value(&format!(
        "let i = image(\"{IMAGE}\"); \
         content::label(i.manifest().config.digest, #{{ \"containerd.io/gc.ref.snapshot.gone/of\": i.chain_id() }})"
    ));
    assert_eq!(layers(), 0);
    assert_eq!(digests(&stage), before);
    stage.value(&format!("image(\"{IMAGE}\").unpack()"));
    assert_eq!(layers(), 3);
    assert_eq!(digests(&stage).len(), before.len() - 3);
}

fn active(env: &Env) {
    let stage = Stage::empty(env, "content");
    let begin = |reference: &str| {
        env.block_on(async {
            let ingest = ctrsh::containerd::content::Ingest {
                reference: reference.to_owned(),
                expected: Some(ctrsh::oci::Digest::sha256(reference.as_bytes())),
                total: Some(100),
                labels: Default::default(),
            };
            let content = stage.ctx.client().await.unwrap().content();
            let mut writer = content.ingest(ingest).await.unwrap().unwrap();
            writer.push(vec![1; 10].into()).await.unwrap();
            writer.keep().await;
        });
    };
    begin("mine-1");
    begin("yours-1");
    let listed = stage.value("content::active().map(|i| [i.ref, i.offset, i.total])");
    assert_eq!(listed, json!([["mine-1", 10, 100], ["yours-1", 10, 100]]));
    assert_eq!(stage.value("content::active(\"^mine\").map(|i| i.ref)"), json!(["mine-1"]));
    stage.value(
        "let l = leases::create(#{ id: \"of-ingests\" }); l.add_resource(content::active(\"^mine\")); l.resources()",
    );
    let report = stage.script("content::abort(\"mine-2\")").unwrap_err();
    assert_eq!(report.error.hint.as_deref(), Some("did you mean mine-1?"));
    stage.value("for i in content::active(\"^mine\") { content::abort(i) }");
    let left = stage.ctr(&["content", "active"]);
    assert!(left.contains("yours-1") && !left.contains("mine-1"), "{left}");
    stage.value("content::abort(\"yours-1\")");
}

fn mistakes(env: &Env) {
    let stage = Stage::new(env, "content");
    std::fs::create_dir_all(stage.folder.join("work")).unwrap();
    let missing = format!("sha256:{}", "3".repeat(64));
    for (script, kind, words) in [
        ("content::list(\"digest=~~\")", Failed::Usage, "list content"),
        ("content::info(\"busybox\")", Failed::Usage, "busybox"),
        (&format!("content::get(\"{missing}\")"), Failed::NotFound, missing.as_str()),
        (&format!("content::save(\"{missing}\", \"x\")"), Failed::NotFound, &missing),
        (&format!("content::label(\"{missing}\", #{{ a: 1 }})"), Failed::NotFound, &missing),
        ("content::active(\"[\")", Failed::Usage, "regular expression"),
        ("content::ingest(1)", Failed::Usage, "path"),
        ("content::ingest(\"x\", #{ lease: \"none\" })", Failed::NotFound, "none"),
        ("content::ingest(#{ path: \"none\" })", Failed::NotFound, "none"),
        ("content::ingest(#{ path: \".\" })", Failed::Usage, "not a file"),
        ("content::ingest(\"x\", #{ ref: \"\" })", Failed::Usage, "ref"),
        ("content::ingest(\"x\", #{ expected_digest: \"md5:1\" })", Failed::Usage, "md5"),
        ("content::push_object(\"a/b:1\", \"x\", \"layer\")", Failed::Usage, "x"),
        ("content::fetch_object(\"Not A Reference\", \"\")", Failed::Usage, "Not A Reference"),
        ("content::text(content::ingest(blob(4, 0xff)))", Failed::Usage, "UTF-8"),
    ] {
        let report = stage.script(script).unwrap_err();
        let said = format!("{} {:?}", report.error.message, report.error.hint);
        assert!(said.contains(words), "{script}: {said}");
        assert_eq!(report.error.kind, kind, "{script}: {report:?}");
    }
}
