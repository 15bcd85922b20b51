//! Conversions: compared with ctr's, and what goes wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ctrsh::containerd::Labels;
use ctrsh::containerd::images::Deletion;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::{Descriptor, Digest, Matcher, MediaType, Parsed, Platform, Reference};
use ctrsh::ops::image::{Convert, ConvertOptions, chain_id, check, get};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::stage::{IMAGE, Stage};
use crate::harness::image::foreign;
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::convert::what we convert is what ctr converts", env, converted),
        trial("ops::convert::the result stands alone, is unpacked already, and runs", env, alone),
        trial("ops::convert::attestations follow their image", env, attested),
        trial("ops::convert::what is compressed against its media type is uncompressed", env, disguised),
        trial("ops::convert::a name that is taken is left alone, and a second conversion is the first", env, taken),
        trial("ops::convert::a layer that is not what the config says is refused, and nothing stays", env, wrong),
        trial("ops::convert::a conversion that is dropped leaves nothing", env, dropped),
        trial("ops::convert::mistakes are named and leave nothing", env, mistakes),
    ]
}

const TARGET: &str = "example.test/converted:1";

fn options(uncompress: bool, oci: bool) -> ConvertOptions {
    ConvertOptions { uncompress, oci, platforms: Matcher::host(), force: false }
}

fn convert(
    stage: &Stage,
    source: &str,
    target: &str,
    options: ConvertOptions,
) -> ctrsh::ops::Result<ctrsh::containerd::images::Image> {
    stage.run(Convert::new(source, target.parse::<Reference>().unwrap(), options))
}

/// Returns the namespace's blobs by their digests, with the labels of each that keep others or tell the diff id.
fn content(stage: &Stage) -> BTreeMap<String, BTreeSet<String>> {
    let listed = stage.ctr(&["content", "ls"]);
    let blob = |line: &str| {
        let mut words = line.split([' ', '\t', ',']).map(str::to_owned);
        let digest = words.next().unwrap();
        // Where else the old bytes are is nothing to say of new ones; that plain bytes are plain, ctr leaves out.
        let own = format!("containerd.io/uncompressed={digest}");
        let labels = words.filter(|word| word.starts_with("containerd.io/") && !word.contains("distribution.source"));
        let labels = labels.filter(|word| *word != own).collect();
        (digest, labels)
    };
    listed.lines().skip(1).map(blob).collect()
}

fn converted(env: &Env) {
    for kind in [Kind::Docker, Kind::ThreeLayers, Kind::Index] {
        for (uncompress, oci) in [(true, false), (false, true), (true, true)] {
            let (ours, theirs) = (Stage::of(env, "convert", kind), Stage::of(env, "convert", kind));
            let image = convert(&ours, IMAGE, TARGET, options(uncompress, oci)).unwrap();
            let mut arguments = vec!["images", "convert"];
            arguments.extend(uncompress.then_some("--uncompress"));
            arguments.extend(oci.then_some("--oci"));
            theirs.ctr(&[&arguments[..], &[IMAGE, TARGET]].concat());
            let their = env.block_on(get(&theirs.ctx, TARGET)).unwrap();
            let case = format!("{kind:?}, uncompress {uncompress}, oci {oci}");
            assert_eq!(image.labels, their.labels, "{case}");
            assert_eq!(image.target.media_type, their.target.media_type, "{case}");
            let (mut our_content, mut their_content) = (content(&ours), content(&theirs));
            if kind == Kind::Docker {
                // ctr writes members in an order of its own, ours leaves them in theirs.
                let documents =
                    [(&ours, &image), (&theirs, &their)].map(|(stage, image)| document(stage, &image.target.digest));
                assert_eq!(documents[0], documents[1], "{case}");
                let our_labels = our_content.remove(image.target.digest.as_str()).unwrap();
                assert_eq!(their_content.remove(their.target.digest.as_str()), Some(our_labels), "{case}");
            } else {
                assert_eq!(image.target, their.target, "{case}");
            }
            assert_eq!(our_content, their_content, "{case}");
            assert_eq!(ours.ctr(&["leases", "ls", "-q"]), "");
            assert_eq!(ours.ctr(&["content", "active"]).lines().count(), 1);
        }
    }
}

fn alone(env: &Env) {
    let stage = Stage::of(env, "convert", Kind::ThreeLayers);
    let snapshots = stage.leftovers().0.snapshots;
    let source = env.block_on(get(&stage.ctx, IMAGE)).unwrap();
    let chain = env.block_on(chain_id(&stage.ctx, &source, &Matcher::host())).unwrap();
    convert(&stage, IMAGE, TARGET, options(true, true)).unwrap();
    for name in stage.ctr(&["images", "ls", "-q"]).lines().filter(|name| *name != TARGET) {
        stage.ctr(&["images", "rm", "--sync", name]);
    }
    let image = env.block_on(get(&stage.ctx, TARGET)).unwrap();
    assert_eq!(env.block_on(chain_id(&stage.ctx, &image, &Matcher::host())).unwrap(), chain);
    let check = env.block_on(check(&stage.ctx, &image, &Matcher::host(), &stage.snapshotter)).unwrap();
    assert!(check.complete() && check.unpacked(), "{check:?}");
    assert_eq!(stage.leftovers().0.snapshots, snapshots);
    // The old layers and documents are gone; a manifest, a config and three layers are there.
    assert_eq!(content(&stage).len(), 5, "{:?}", content(&stage));
    let id = env.fresh("convert");
    let run = ["run", "--rm", "--snapshotter", &stage.snapshotter, TARGET, &id, "/bin/cat", "/data/changed"];
    assert_eq!(stage.ctr(&run), "after\n");
    // What is unpacked anew, from the plain layers, is the same.
    let target = format!("{}:plain", env.repository("convert"));
    stage.ctr(&["images", "tag", TARGET, &target]);
    stage.ctr(&["images", "push", "--plain-http", &target]);
    let other = Stage::empty(env, "convert");
    other.ctr(&["images", "pull", "--plain-http", "--snapshotter", &other.snapshotter, &target]);
    let pulled = env.block_on(get(&other.ctx, &target)).unwrap();
    assert_eq!(env.block_on(chain_id(&other.ctx, &pulled, &Matcher::host())).unwrap(), chain);
}

fn document(stage: &Stage, digest: &Digest) -> Value {
    let client = stage.env.block_on(stage.ctx.client()).unwrap();
    serde_json::from_slice(&stage.env.block_on(client.content().bytes(digest, 4 << 20)).unwrap()).unwrap()
}

fn attested(env: &Env) {
    let name = env.pushed(Kind::Index, "convert");
    let stage = Stage::empty(env, "convert");
    stage.ctr(&["content", "fetch", "--all-platforms", "--plain-http", &name]);
    let all = ConvertOptions { platforms: Matcher::All, ..options(true, false) };
    let image = convert(&stage, &name, TARGET, all).unwrap();
    let index = document(&stage, &image.target.digest);
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert_ne!(entries[0]["digest"], env.image(Kind::Index).manifest);
    assert_eq!(entries[2]["annotations"]["vnd.docker.reference.digest"], entries[0]["digest"]);
    let check = env.block_on(check(&stage.ctx, &image, &Matcher::All, &stage.snapshotter)).unwrap();
    assert!(check.complete(), "{check:?}");
    // Of one platform's image there is one left, and no attestation, as with ctr.
    let other = format!("linux/{}", foreign()).parse::<Platform>().unwrap();
    let one = ConvertOptions { platforms: Matcher::Any(vec![other]), ..options(true, false) };
    let image = convert(&stage, &name, "example.test/other:1", one).unwrap();
    let index = document(&stage, &image.target.digest);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(index["manifests"][0]["platform"]["architecture"], foreign());
}

/// Stores an image of one layer, given what the config and the manifest say of it.
fn store(stage: &Stage, name: &str, media_type: &str, layer: &[u8], diff_id: &Digest) -> Descriptor {
    let client = stage.env.block_on(stage.ctx.client()).unwrap();
    // Another test's deletion may set the collector going at any moment.
    let lease = stage.env.block_on(client.leases().create(Duration::from_secs(600), &Labels::new())).unwrap();
    let client = client.with_lease(&lease.id).unwrap();
    let put = |media_type: &str, bytes: &[u8], labels: Labels| {
        let descriptor = Descriptor::new(MediaType::parse(media_type), Digest::sha256(bytes), bytes.len() as u64);
        stage.env.block_on(client.content().put(&descriptor, bytes.to_vec().into(), &labels)).unwrap();
        descriptor
    };
    let host = Platform::host();
    let config = json!({
        "architecture": host.architecture, "os": host.os, "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let config = put("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config).unwrap(), Labels::new());
    let layer = put(media_type, layer, Labels::new());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
        "layers": [layer],
    });
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let plain = Descriptor::new(MediaType::OciManifest, Digest::sha256(&bytes), bytes.len() as u64);
    let labels = ctrsh::containerd::content::gc_labels(&Parsed::read(&plain, &bytes).unwrap());
    let manifest = put("application/vnd.oci.image.manifest.v1+json", &bytes, labels);
    stage.env.block_on(client.images().create(name, &manifest, &Labels::new())).unwrap();
    stage.env.block_on(client.leases().delete(&lease.id, Deletion::Later)).unwrap();
    manifest
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn disguised(env: &Env) {
    let stage = Stage::empty(env, "convert");
    let tar = crate::harness::image::Layer::new().file("a", 0o644, b"disguised").tar();
    let id = Digest::sha256(&tar);
    for (number, media_type, layer) in [
        (1, "application/vnd.docker.image.rootfs.diff.tar", gzip(&tar)),
        (2, "application/vnd.oci.image.layer.v1.tar+zstd", zstd::encode_all(&tar[..], 3).unwrap()),
        (3, "application/vnd.oci.image.layer.v1.tar", tar.clone()),
    ] {
        let name = format!("example.test/disguised:{number}");
        let before = store(&stage, &name, media_type, &layer, &id);
        let image = convert(&stage, &name, &format!("example.test/plain:{number}"), options(true, false)).unwrap();
        let layer = &document(&stage, &image.target.digest)["layers"][0];
        assert_eq!(layer["digest"], id.as_str());
        assert_eq!(layer["size"], tar.len());
        assert_eq!(layer["mediaType"], MediaType::parse(media_type).uncompressed().as_str());
        assert_eq!(image.target.digest == before.digest, number == 3, "what is plain already stays as it is");
    }
}

fn taken(env: &Env) {
    let stage = Stage::of(env, "convert", Kind::Docker);
    let source = env.block_on(get(&stage.ctx, IMAGE)).unwrap();
    let pushed = stage.ctr(&["images", "ls", "-q"]).lines().find(|name| *name != IMAGE).unwrap().to_owned();
    let before = stage.leftovers();
    let error = convert(&stage, IMAGE, &pushed, options(true, true)).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    assert!(error.hint().unwrap().contains("force"), "{:?}", error.hint());
    assert_eq!(stage.leftovers(), before);
    let first = convert(&stage, IMAGE, TARGET, options(true, true)).unwrap();
    let stored = content(&stage);
    let again = convert(&stage, IMAGE, TARGET, options(true, true)).unwrap();
    assert_eq!((again.target, content(&stage)), (first.target.clone(), stored));
    let forced = ConvertOptions { force: true, ..options(true, true) };
    assert_eq!(convert(&stage, IMAGE, &pushed, forced).unwrap().target, first.target);
    // Converted already, it is what it was; and an image may be converted in its place.
    assert_eq!(convert(&stage, TARGET, "example.test/same:1", options(true, true)).unwrap().target, first.target);
    assert_ne!(first.target, source.target);
    assert_eq!(convert(&stage, IMAGE, IMAGE, options(true, true)).unwrap().target, first.target);
}

fn wrong(env: &Env) {
    let stage = Stage::empty(env, "convert");
    let tar = crate::harness::image::Layer::new().file("a", 0o644, b"wrong").tar();
    store(&stage, IMAGE, "application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&tar), &Digest::sha256(b"another"));
    let cut = gzip(&tar);
    let name = "example.test/cut:1";
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    store(&stage, name, media_type, &cut[..cut.len() - 12], &Digest::sha256(&tar));
    let (before, blobs) = (stage.leftovers(), content(&stage));
    let error = convert(&stage, IMAGE, TARGET, options(true, false)).unwrap_err();
    assert_eq!(error.kind(), Failed::Integrity, "{error}");
    assert!(error.to_string().contains(Digest::sha256(b"another").as_str()), "{error}");
    let error = convert(&stage, name, TARGET, options(true, false)).unwrap_err();
    assert!(error.to_string().contains("uncompress"), "{error}");
    assert_eq!(stage.leftovers(), before);
    assert_eq!(content(&stage), blobs);
}

fn dropped(env: &Env) {
    let stage = Stage::of(env, "convert", Kind::Big(24));
    let (before, blobs) = (stage.leftovers(), content(&stage));
    let mut cut_off = 0;
    for wait in [1, 5, 10, 20, 30, 50, 80] {
        env.block_on(async {
            let convert = Convert::new(IMAGE, TARGET.parse().unwrap(), options(true, true));
            let convert = ctrsh::ops::execute(&stage.ctx, convert);
            let done = tokio::time::timeout(Duration::from_millis(wait), convert).await;
            stage.ctx.settle().await;
            match done {
                Ok(result) => drop(result.unwrap()),
                Err(_) => cut_off += 1,
            }
        });
        if stage.ctr(&["images", "ls", "-q"]).lines().any(|name| name == TARGET) {
            stage.ctr(&["images", "rm", "--sync", TARGET]);
        }
        assert_eq!(stage.leftovers(), before, "cut off after {wait} ms");
        assert_eq!(content(&stage), blobs, "cut off after {wait} ms");
    }
    assert!(cut_off > 0, "it was never cut off");
    convert(&stage, IMAGE, TARGET, options(true, true)).unwrap();
}

fn mistakes(env: &Env) {
    let stage = Stage::of(env, "convert", Kind::Index);
    let before = stage.leftovers();
    let error = convert(&stage, "nothing", TARGET, options(true, false)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    // Of the other platforms nothing was pulled.
    let all = ConvertOptions { platforms: Matcher::All, ..options(true, false) };
    let error = convert(&stage, IMAGE, TARGET, all).unwrap_err();
    assert_eq!(error.kind(), Failed::Integrity, "{error}");
    assert!(error.to_string().contains(IMAGE) && error.to_string().contains("incomplete"), "{error}");
    let platforms = Matcher::Any(vec![Platform::host(), "plan9/mips".parse().unwrap()]);
    let error = convert(&stage, IMAGE, TARGET, ConvertOptions { platforms, ..options(true, false) }).unwrap_err();
    assert!(error.to_string().contains("plan9/mips"), "{error}");
    assert_eq!(stage.leftovers(), before);
    let stage = Stage::of(env, "convert", Kind::ThreeLayers);
    let layer = env.image(Kind::ThreeLayers).layers[1].clone();
    stage.ctr(&["content", "rm", &layer]);
    let before = stage.leftovers();
    let error = convert(&stage, IMAGE, TARGET, options(false, true)).unwrap_err();
    assert!(error.to_string().contains(&layer), "{error}");
    assert_eq!(stage.leftovers(), before);
    let names: BTreeSet<String> = stage.leftovers().0.images;
    assert!(!names.contains(TARGET));
}
