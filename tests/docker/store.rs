//! An engine that keeps its images in containerd's store (Docker 25 and later): every digest is kept. The engine is real, of
//! a newer Debian than the suite's other programs.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use super::support::{Exports, copy_in, endpoint, json, of, stage};
use crate::harness::engine::{Engine, newer};
use crate::harness::image::{Image, Kind};
use crate::harness::{Env, env::is_ci, trial};
use crate::ops::stage::Stage;

pub fn trials(env: &Env) -> Vec<Trial> {
    const NAME: &str = "docker::store::an index and its attestations keep their digests";
    match newer() {
        Some(_) => vec![trial(NAME, env, exact)],
        None if is_ci() => vec![Trial::test(NAME, || Err(Failed::from("cannot run: scripts/test fetches the engine")))],
        None => {
            let skipped = Trial::test(NAME, || Ok(())).with_kind("skipped: scripts/test fetches the engine");
            vec![skipped.with_ignored_flag(true)]
        }
    }
}

/// Makes the archive that `docker load` takes of a layout, under a name.
fn archive(image: &Image, name: &str) -> Vec<u8> {
    let mut index = json(&image.layout.join("index.json"));
    index["manifests"][0]["annotations"] = json!({ "io.containerd.image.name": name });
    let index = index.to_string();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(index.len() as u64);
    archive.append_data(&mut header, "index.json", index.as_bytes()).unwrap();
    archive.append_path_with_name(image.layout.join("oci-layout"), "oci-layout").unwrap();
    archive.append_dir_all("blobs", image.layout.join("blobs")).unwrap();
    archive.into_inner().unwrap()
}

fn blobs(layout: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(layout.join("blobs/sha256")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn exact(env: &Env) {
    let engine = Engine::start_with_store(&env.new_folder("store-engine"), &newer().unwrap());
    let stage = stage(Stage::empty(env, "docker"));
    let exports = Exports::default();
    let ctx = exports.watch(&stage);
    let copy = |source: &str, target: &str| {
        let (source, target) = (of(&engine, source), endpoint(&stage, target));
        copy_in(&stage, &ctx, &source, &target).unwrap_or_else(|error| panic!("{target}: {error}"))
    };

    // One image, of which the engine has all platforms and the attestation.
    let image = env.image(Kind::Index);
    engine.api("POST", "/images/load", &archive(&image, "docker.io/example/whole:1"));
    let registry = format!("{}:v1", env.repository("docker"));
    for target in [registry.as_str(), "oci:whole:1", "containerd:example.test/whole:1"] {
        let copied = copy("example/whole:1", target);
        assert_eq!((copied.root.digest.as_str(), exports.take()), (image.digest.as_str(), 1), "{target}");
        let again = copy("example/whole:1", target);
        assert_eq!((again.root.digest, again.totals.sent, exports.take()), (copied.root.digest, 0, 0), "{target}");
    }
    assert_eq!(blobs(&stage.folder.join("work/whole")), blobs(&image.layout));
    let raw = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{registry}")]).ok();
    assert_eq!(raw.as_bytes(), std::fs::read(image.blob(&image.digest)).unwrap());

    // One that it pulled, with its layers compressed.
    let other = env.image(Kind::ThreeLayers);
    let pushed = format!("{}:v1", env.repository("docker"));
    env.push(&other, &pushed);
    let (repository, tag) = pushed.rsplit_once(':').unwrap();
    engine.api("POST", &format!("/images/create?fromImage={repository}&tag={tag}"), b"");
    let copied = copy(&pushed, "oci:pulled:1");
    assert_eq!((copied.root.digest.as_str(), copied.totals.blobs_sent.len()), (other.digest.as_str(), 4));
    assert_eq!(blobs(&stage.folder.join("work/pulled")), blobs(&other.layout));
}
