//! What an image is made of, as a value and as a tree.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctrsh::containerd::Labels;
use ctrsh::oci::{Descriptor, Digest, MediaType};
use ctrsh::script::{Output, Sink};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::stage::{IMAGE, Stage};
use crate::harness::image::{foreign, host};
use crate::harness::{Env, Kind, trial};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::inspect::an index shows all platforms, and what of them is here", env, index),
        trial("ops::inspect::indexes that list one another are not followed for ever", env, bomb),
        trial("ops::inspect::what an image takes is all its blobs that are here, each once", env, taken),
        trial("ops::inspect::trees are drawn for people and whole for programs", env, trees),
    ]
}

#[derive(Default)]
struct Printed(Mutex<Vec<String>>);

impl Sink for Printed {
    fn print(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn debug(&self, text: &str, at: &str) {
        self.print(&format!("{at}: {text}"));
    }
}

/// Runs a script; returns its value as programs and as people get it, and what it printed.
fn run(stage: &Stage, script: &str) -> (Value, Output, String) {
    let printed = Arc::new(Printed::default());
    let mut interpreter = stage.interpreter(&stage.ctx, printed.clone());
    let value = interpreter.run(script, None, CancellationToken::new()).unwrap_or_else(|e| panic!("{script}\n{e:?}"));
    let text = printed.0.lock().unwrap().join("\n");
    (interpreter.json(&value).unwrap(), interpreter.show(&value).unwrap(), text)
}

fn index(env: &Env) {
    let stage = Stage::of(env, "inspect", Kind::Index);
    let made = env.image(Kind::Index);
    let script = format!("let i = image(\"{IMAGE}\").inspect(); print(i); i");
    let (json, shown, text) = run(&stage, &script);
    assert_eq!((&json["name"], &json["digest"]), (&json!(IMAGE), &json!(made.digest)));
    let manifests = json["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 3);
    let here = &manifests[0];
    assert_eq!(here["digest"], made.manifest);
    assert_eq!(here["platform"], format!("linux/{}", host()));
    assert_eq!((&here["here"], &here["unpacked"]), (&json!(true), &json!(true)));
    assert_eq!(here["config"]["digest"], made.config);
    let layer = &here["layers"][0];
    assert_eq!(layer["digest"], made.layers[0]);
    assert_eq!((&layer["diff_id"], &layer["chain_id"]), (&json!(made.diff_ids[0]), &json!(made.diff_ids[0])));
    assert_eq!(layer["size"], std::fs::metadata(made.blob(&made.layers[0])).unwrap().len());
    assert_eq!(manifests[1]["platform"], format!("linux/{}", foreign()));
    assert_eq!((&manifests[1]["here"], &manifests[1]["layers"]), (&json!(false), &json!([])));
    assert_eq!(manifests[2]["attests"], made.manifest);
    assert!(json["present"].as_u64().unwrap() < json["total"].as_u64().unwrap());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], IMAGE);
    assert!(lines[1].starts_with(&format!("└── index {}", made.digest)), "{text}");
    assert!(lines[2].starts_with(&format!("    ├── linux/{} {}", host(), made.manifest)), "{text}");
    assert!(lines[2].ends_with("unpacked)"), "{text}");
    assert!(lines[3].starts_with(&format!("    │   ├── config {}", made.config)), "{text}");
    assert!(lines[4].starts_with(&format!("    │   └── layer {}", made.layers[0])), "{text}");
    assert!(lines[5].starts_with(&format!("    ├── linux/{}", foreign())) && lines[5].ends_with("not here)"), "{text}");
    assert!(lines[6].starts_with("    └── attestation "), "{text}");
    let Output::Scalar(cell) = shown else { panic!("{shown:?}") };
    assert_eq!((cell.text, cell.json), (text, json));
    let script = format!("image(\"{IMAGE}\").inspect(#{{ content: true }})");
    let (json, _, _) = run(&stage, &script);
    assert_eq!(json["content"]["manifests"][0]["digest"], made.manifest);
    assert_eq!(json["manifests"][0]["content"]["schemaVersion"], 2);
    assert_eq!(json["manifests"][0]["config"]["content"]["config"]["Cmd"], json!(["sh"]));
    // The other image's documents, fetched, are seen whatever the platform.
    stage.ctr(&["images", "rm", IMAGE]);
    let name = stage.ctr(&["images", "ls", "-q"]).trim().to_owned();
    stage.ctr(&["content", "fetch", "--all-platforms", "--plain-http", &name]);
    let (json, _, _) = run(&stage, &format!("image(\"{name}\").inspect()"));
    assert_eq!(json["present"], json["total"]);
    assert_eq!(json["manifests"][1]["unpacked"], false);
    assert_eq!(json["manifests"][2]["layers"][0]["media_type"], "application/vnd.in-toto+json");
}

/// Three indexes of a few kilobytes that come to 15,625 manifests.
fn bomb(env: &Env) {
    let stage = Stage::empty(env, "inspect");
    env.block_on(async {
        let client = stage.ctx.client().await.unwrap();
        let lease = client.leases().create(Duration::from_secs(600), &Labels::new()).await.unwrap();
        let client = client.with_lease(&lease.id).unwrap();
        let mut below = Descriptor::new(MediaType::OciManifest, Digest::sha256(b"not here"), 8);
        for _ in 0..3 {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": vec![&below; 25] });
            let bytes = serde_json::to_vec(&index).unwrap();
            below = Descriptor::new(MediaType::parse(INDEX), Digest::sha256(&bytes), bytes.len() as u64);
            client.content().put(&below, bytes.into(), &Labels::new()).await.unwrap();
        }
        client.images().create(IMAGE, &below, &Labels::new()).await.unwrap();
    });
    let report = stage.script(&format!("image(\"{IMAGE}\").inspect()")).unwrap_err();
    assert!(report.error.message.contains("more than 10000 pieces"), "{report:?}");
}

/// Images that share a layer, and what they take.
fn taken(env: &Env) {
    let stage = Stage::empty(env, "inspect");
    let (names, sizes) = env.block_on(async {
        let client = stage.ctx.client().await.unwrap();
        let lease = client.leases().create(Duration::from_secs(600), &Labels::new()).await.unwrap();
        let client = client.with_lease(&lease.id).unwrap();
        let put = async |kind: &str, bytes: Vec<u8>| {
            let put = Descriptor::new(MediaType::parse(kind), Digest::sha256(&bytes), bytes.len() as u64);
            client.content().put(&put, bytes.into(), &Labels::new()).await.unwrap();
            put
        };
        let layer = put(LAYER, vec![7; 1000]).await;
        let missing = Descriptor::new(MediaType::parse(LAYER), Digest::sha256(b"not here"), 50);
        let manifest = async |architecture: &str, layers: &[&Descriptor]| {
            let ids = vec![Digest::sha256(b"a layer"); layers.len()];
            let rootfs = json!({ "type": "layers", "diff_ids": ids });
            let config = json!({ "os": "linux", "architecture": architecture, "rootfs": rootfs });
            let config = put(CONFIG, serde_json::to_vec(&config).unwrap()).await;
            let made = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
            (put(MANIFEST, serde_json::to_vec(&made).unwrap()).await, config.size)
        };
        let index = async |manifests: &[&Descriptor]| {
            let made = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
            put(INDEX, serde_json::to_vec(&made).unwrap()).await
        };
        let (one, one_config) = manifest("amd64", &[&layer]).await;
        let (two, two_config) = manifest("arm64", &[&layer]).await;
        let (part, part_config) = manifest("amd64", &[&layer, &missing]).await;
        let (both, alone) = (index(&[&one, &two]).await, index(&[&one]).await);
        let first = one.size + one_config + layer.size;
        let mut sizes = Vec::new();
        let mut names = Vec::new();
        for (name, target, size) in [
            ("both", &both, both.size + first + two.size + two_config),
            ("alone", &alone, alone.size + first),
            ("part", &part, part.size + part_config + layer.size),
            ("whole", &one, first),
        ] {
            client.images().create(&format!("docker.io/taken/{name}:1"), target, &Labels::new()).await.unwrap();
            names.push(format!("taken/{name}:1"));
            sizes.push(size);
        }
        (names, sizes)
    });
    assert_eq!(stage.value(&format!("{names:?}.map(|name| image(name).usage().content)")), json!(sizes));
}

fn trees(env: &Env) {
    let stage = Stage::of(env, "inspect", Kind::ThreeLayers);
    let script = r#"
        let base = snapshots::list().filter(|s| s.children().len() == 0)[0];
        snapshots::prepare("b", base);
        snapshots::view("a\n\x1b", base.key);
        let seen = snapshots::list().map(|s| s.size);
        if seen != snapshots::usage().map(|u| u.size) { throw "sizes differ" }
        let tree = snapshots::tree();
        print(tree);
        snapshots::delete(["b", "a\n\x1b"]);
        tree
    "#;
    let (json, shown, text) = run(&stage, script);
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["depth"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 3]);
    assert_eq!(rows[3], json!({ "depth": 3, "key": "a\n\u{1b}", "kind": "view", "parent": rows[2]["key"] }));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], rows[0]["key"]);
    assert_eq!(lines[3..], ["        ├── a\\n\\u{1b} (view)", "        └── b (active)"]);
    let Output::Scalar(cell) = shown else { panic!("{shown:?}") };
    assert_eq!(cell.text, text);
    // What may stand before the options may be left out.
    let (seen, _, _) = run(
        &stage,
        &format!(
            "[snapshots::list(#{{ snapshotter: \"{0}\" }}).len(), snapshots::list((), #{{ snapshotter: \"{0}\" }}).len(), \
             snapshots::list([\"kind==committed\"]).len(), snapshots::usage(#{{ snapshotter: \"{0}\" }}).len()]",
            stage.snapshotter
        ),
    );
    assert_eq!(seen, json!([3, 3, 3, 3]));
}
