//! `copy` from an engine to every kind of target: what arrives is what the engine has, and a second copy moves nothing.

use ctrsh::oci::{Descriptor, ImageConfig, Parsed};
use ctrsh::ops;
use ctrsh::ops::image::Copied;
use ctrsh::registry::RegistryStore;
use libtest_mimic::Trial;
use serde_json::Value;

use super::support::{Exports, assert_no_spool, copy, copy_in, endpoint, json, of, stage};
use crate::harness::image::Kind;
use crate::harness::{Env, trial};
use crate::ops::stage::Stage;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial(
            "docker::copy::every kind of target gets the engine's image, and the second copy moves nothing",
            env,
            all,
        ),
        trial("docker::copy::a copied image runs", env, runs),
        trial("docker::copy::a name stands for one image, whatever else it could name", env, names),
        trial("docker::copy::an image that is pulled apart or changed is copied again", env, again),
        trial("docker::copy::what the engine says of its images", env, described),
    ]
}

/// Holds a config against what the engine says.
fn assert_config(told: &Value, config: &Descriptor, bytes: &[u8]) {
    assert_eq!(told["Id"], config.digest.as_str(), "the engine's id is the config's digest");
    let config = ImageConfig::read(&config.digest, bytes).unwrap();
    let diff_ids: Vec<&str> = config.rootfs.diff_ids.iter().map(|digest| digest.as_str()).collect();
    assert_eq!(told["RootFS"]["Layers"], serde_json::json!(diff_ids));
}

fn all(env: &Env) {
    let engine = env.engine();
    let image = env.image(Kind::ThreeLayers);
    let name = format!("{}:1", env.fresh("docker"));
    engine.load(env, &image, &name);
    let told = engine.inspect(&name);
    let stage = stage(Stage::empty(env, "docker"));
    let exports = Exports::default();
    let ctx = exports.watch(&stage);
    let source = endpoint(&stage, &format!("docker:{name}"));
    let repository = env.repository("docker");
    let mut roots: Vec<Descriptor> = Vec::new();
    let before = stage.leftovers();
    for (text, exported_again) in [
        (format!("{repository}:v1"), 0),
        ("containerd:example.test/from-docker:1".to_owned(), 0),
        ("oci:layout:one".to_owned(), 0),
        ("archive:image.tar:example.test/from-docker:1".to_owned(), 1),
    ] {
        let target = endpoint(&stage, &text);
        let copied = copy_in(&stage, &ctx, &source, &target).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(exports.take(), 1, "{text}");
        // A namespace of a shared daemon may find a blob that another has.
        let blobs = copied.totals.blobs_sent.len() as u64 + copied.totals.blobs_present;
        assert_eq!(blobs, 4, "{text}: three layers and a config, {copied:?}");
        assert_no_spool(&stage);
        let Copied { root, totals, .. } = copy_in(&stage, &ctx, &source, &target).unwrap();
        assert_eq!((&root.digest, exports.take()), (&copied.root.digest, exported_again), "{text}");
        if exported_again == 0 {
            assert_eq!((totals.blobs_sent.len(), totals.sent), (0, 0), "{text}");
        }
        assert_no_spool(&stage);
        roots.push(copied.root);
    }
    // What is made anew of the engine's layers is the same each time, so that all targets have one digest.
    assert!(roots.iter().all(|root| root.digest == roots[0].digest), "{roots:?}");
    // Each target read by another program: skopeo, ctr, and the files themselves.
    let manifest = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{repository}:v1")]).ok();
    let Parsed::Manifest(parsed) = Parsed::read(&roots[0], manifest.as_bytes()).unwrap() else { panic!("{manifest}") };
    let layout = stage.folder.join("work/layout/blobs/sha256");
    let config = std::fs::read(layout.join(parsed.config.digest.hex())).unwrap();
    assert_config(&told, &parsed.config, &config);
    assert_eq!(parsed.config.digest.as_str(), image.config, "as it was before the engine had it");
    assert_eq!(json(&layout.join(roots[0].digest.hex()))["config"]["digest"], parsed.config.digest.as_str());
    for layer in &parsed.layers {
        // Uncompressed, so the digest is the diff id; the layer passed through the engine and back byte for byte.
        assert!(image.diff_ids.contains(&layer.digest.to_string()), "{layer:?}");
        let length = std::fs::metadata(layout.join(layer.digest.hex())).unwrap().len();
        assert_eq!(length, layer.size, "{layer:?}");
    }
    let stored = stage.ctr(&["content", "get", parsed.config.digest.as_str()]);
    assert_eq!(stored.as_bytes(), config);
    let archive = format!("docker-archive:{}", stage.folder.join("work/image.tar").display());
    let saved: Value = serde_json::from_str(&env.skopeo(&["inspect", "--config", &archive]).ok()).unwrap();
    assert_eq!(saved["rootfs"]["diff_ids"], told["RootFS"]["Layers"]);
    let after = stage.leftovers();
    assert_eq!((&after.0.leases, &after.0.ingests), (&before.0.leases, &before.0.ingests));
}

fn runs(env: &Env) {
    env.engine();
    let stage = stage(Stage::empty(env, "docker"));
    let target = "containerd:example.test/run-me:1";
    copy(&stage, &endpoint(&stage, "docker:example/box:1"), &endpoint(&stage, target)).unwrap();
    let id = env.fresh("docker-run");
    let arguments = ["run", "--rm", "--snapshotter", &stage.snapshotter, "example.test/run-me:1", &id];
    let said = stage.ctr(&[&arguments[..], &["sh", "-c", "echo $GREETING from $(id -un)"]].concat());
    assert_eq!(said.trim(), "hello from root");
}

fn names(env: &Env) {
    let engine = env.engine();
    let stage = stage(Stage::empty(env, "docker"));
    let repository = env.fresh("docker");
    engine.load(env, &env.image(Kind::ThreeLayers), &format!("{repository}:latest"));
    engine.load(env, &env.image(Kind::Busybox), &format!("{repository}:other"));
    let id = engine.inspect(&format!("{repository}:latest"))["Id"].as_str().unwrap().to_owned();
    let mut digests = Vec::new();
    // Without a tag the engine would export both.
    let short = &id["sha256:".len()..][..12];
    let full = format!("docker.io/library/{repository}:latest");
    for (number, name) in [&repository, &format!("{repository}:latest"), &full, &id, short].iter().enumerate() {
        let target = endpoint(&stage, &format!("oci:layout:{number}"));
        let copied = copy(&stage, &endpoint(&stage, &format!("docker:{name}")), &target);
        digests.push(copied.unwrap_or_else(|error| panic!("{name}: {error}")).root.digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
    // By the socket, too.
    let elsewhere = copy(&stage, &of(engine, &repository), &endpoint(&stage, "oci:layout:elsewhere")).unwrap();
    assert_eq!((&elsewhere.root.digest, elsewhere.totals.blobs_sent.len()), (&digests[0], 0));
}

fn again(env: &Env) {
    let engine = env.engine();
    let stage = stage(Stage::empty(env, "docker"));
    let exports = Exports::default();
    let ctx = exports.watch(&stage);
    let name = format!("{}:1", env.fresh("docker"));
    engine.load(env, &env.image(Kind::Busybox), &name);
    let source = endpoint(&stage, &format!("docker:{name}"));
    let (layout, registry) =
        (endpoint(&stage, "oci:layout:x"), endpoint(&stage, &format!("{}:v1", env.repository("docker"))));
    let first = copy_in(&stage, &ctx, &source, &layout).unwrap();
    copy_in(&stage, &ctx, &source, &registry).unwrap();
    assert_eq!(exports.take(), 2);
    // A blob is gone: the manifest alone is not the image.
    let blobs = stage.folder.join("work/layout/blobs/sha256");
    let layer = env.image(Kind::Busybox).diff_ids[0].replace("sha256:", "");
    std::fs::remove_file(blobs.join(&layer)).unwrap();
    let mended = copy_in(&stage, &ctx, &source, &layout).unwrap();
    assert_eq!((exports.take(), mended.totals.blobs_sent.len()), (1, 1));
    assert_eq!(mended.root.digest, first.root.digest);
    assert!(blobs.join(&layer).exists());
    // The same layers compressed are the same image: told by its config, nothing is exported and the digest is kept.
    let compressed = format!("{}:v1", env.repository("docker"));
    env.push(&env.image(Kind::Docker), &compressed);
    let there = copy_in(&stage, &ctx, &source, &endpoint(&stage, &compressed)).unwrap();
    assert_eq!((exports.take(), there.totals.sent), (0, 0));
    assert_ne!(there.root.digest, first.root.digest);
    // The name is pointed elsewhere in the engine: the target follows.
    engine.load(env, &env.image(Kind::ThreeLayers), &name);
    let changed = copy_in(&stage, &ctx, &source, &registry).unwrap();
    assert_eq!(exports.take(), 1);
    assert_ne!(changed.root.digest, first.root.digest);
    let ctx = &stage.ctx;
    let reference = registry.to_string().strip_prefix("registry:").unwrap().parse().unwrap();
    let store = RegistryStore::source(ctx.registry(), &reference, ctx.grant(), &Default::default());
    let now = env.block_on(ctrsh::oci::store::ImageSource::resolve(&store)).unwrap();
    assert_eq!(now.digest, changed.root.digest);
}

fn described(env: &Env) {
    let engine = env.engine();
    let stage = stage(Stage::empty(env, "docker"));
    let name = format!("{}:1", env.fresh("docker"));
    engine.load(env, &env.image(Kind::ThreeLayers), &name);
    let told = engine.inspect(&name);
    let images = env.block_on(ops::docker::images(&stage.ctx, None)).unwrap();
    let listed = images.iter().find(|image| image.names.contains(&name)).unwrap();
    let image = env.block_on(ops::docker::image(&stage.ctx, None, &name)).unwrap();
    for image in [listed, &image] {
        assert_eq!(told["Id"], image.id.as_str());
        assert_eq!(told["Size"], image.size);
        assert_eq!(image.created.unwrap().to_rfc3339(), "2024-01-02T03:04:05+00:00");
        assert_eq!(image.labels["org.opencontainers.image.title"], "ctrsh test image");
    }
    assert_eq!(image.platform.unwrap().os, "linux");
}
