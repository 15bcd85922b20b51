//! `copy` over every pair of endpoints: an index with two platforms and an attestation arrives byte for byte.

use std::collections::BTreeMap;
use std::path::Path;

use ctrsh::containerd::ContainerdStore;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::layout::{ArchiveReader, LayoutFolder, ReadOptions};
use ctrsh::oci::store::ImageSource;
use ctrsh::oci::{Hasher, Matcher};
use ctrsh::ops::graph::{self, Selection};
use ctrsh::ops::image::{Copied, Copy, CopyOptions, Endpoint, Platforms};
use ctrsh::registry::RegistryStore;
use futures_util::TryStreamExt;
use libtest_mimic::Trial;

use super::stage::Stage;
use crate::harness::image::Kind;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::copy::every pair of endpoints keeps every byte, and the second copy moves none", env, pairs),
        trial("ops::copy::one platform goes alone and says so", env, one_platform),
        trial("ops::copy::mistakes are named", env, mistakes),
    ]
}

fn endpoint(stage: &Stage, text: &str) -> Endpoint {
    Endpoint::parse(text, &stage.ctx.settings().working_dir).unwrap()
}

fn copy(stage: &Stage, source: &Endpoint, target: &Endpoint, platforms: Platforms) -> ctrsh::ops::Result<Copied> {
    let mut options = CopyOptions { platforms, ..CopyOptions::default() };
    options.arrival.platforms = Matcher::All;
    stage.run(Copy::new(source.clone(), target.clone(), options))
}

/// Reads all that an endpoint holds of an image: the digest of each blob and document, worked out from its bytes.
fn content(stage: &Stage, endpoint: &Endpoint) -> BTreeMap<String, u64> {
    stage.env.block_on(async {
        let ctx = &stage.ctx;
        let source: Box<dyn ImageSource> = match endpoint {
            Endpoint::Registry(reference) => {
                Box::new(RegistryStore::source(ctx.registry(), reference, ctx.grant(), &Default::default()))
            }
            Endpoint::Containerd(name) => Box::new(ContainerdStore::new(ctx.client().await.unwrap(), name)),
            Endpoint::Layout { path, selector } => Box::new(LayoutFolder::new(path, selector.clone())),
            Endpoint::Archive { path, selector } => {
                let archive = ArchiveReader::open(path, &ReadOptions::new(&stage.folder)).await.unwrap();
                let image = archive.find(selector).unwrap();
                Box::new(archive.source_for(&image))
            }
        };
        let root = source.resolve().await.unwrap();
        let graph = graph::walk(&*source, None, &root, &Selection::Matching(Matcher::All)).await.unwrap();
        let mut content = BTreeMap::new();
        for document in &graph.documents {
            let mut hasher = Hasher::new(document.descriptor.digest.algorithm());
            hasher.update(&document.bytes);
            content.insert(hasher.finish().to_string(), document.bytes.len() as u64);
        }
        for blob in &graph.blobs {
            let mut hasher = Hasher::new(blob.digest.algorithm());
            let mut length = 0;
            let mut stream = source.open(blob, 0).await.unwrap().stream;
            while let Some(bytes) = stream.try_next().await.unwrap() {
                hasher.update(&bytes);
                length += bytes.len() as u64;
            }
            content.insert(hasher.finish().to_string(), length);
        }
        content
    })
}

fn pairs(env: &Env) {
    let pushed = env.pushed(Kind::Index, "copy");
    let stage = Stage::empty(env, "copy");
    std::fs::create_dir_all(stage.folder.join("work")).unwrap();
    std::fs::create_dir_all(stage.folder.join("tmp")).unwrap();
    let first = endpoint(&stage, &pushed);
    let whole = content(&stage, &first);
    // Two images and an attestation in an index: four documents, three configs, and their layers.
    assert!(whole.len() > 7, "{whole:?}");
    let sources = [
        first.clone(),
        endpoint(&stage, "containerd:example.test/copied:1"),
        endpoint(&stage, "oci:layout:one"),
        endpoint(&stage, "archive:images.tar:example.test/copied:1"),
    ];
    for source in &sources[1..] {
        let copied = copy(&stage, &first, source, Platforms::Present).unwrap();
        assert!(copied.totals.blobs_sent > 0, "{source}: {copied:?}");
    }
    let before = stage.leftovers();
    let mut pairs = 0;
    for (from, source) in sources.iter().enumerate() {
        assert_eq!(content(&stage, source), whole, "{source}");
        for text in [
            format!("{}:v1", env.repository("copy")),
            format!("containerd:example.test/copied:{from}"),
            format!("oci:layout-{from}:one"),
            format!("archive:images-{from}.tar:example.test/copied:1"),
        ] {
            let target = endpoint(&stage, &text);
            let shown = format!("{source} to {target}");
            let copied = copy(&stage, source, &target, Platforms::Present).unwrap_or_else(|e| panic!("{shown}: {e}"));
            assert_eq!(content(&stage, &target), whole, "{shown}");
            let again = copy(&stage, source, &target, Platforms::Present).unwrap_or_else(|e| panic!("{shown}: {e}"));
            assert_eq!(again.root, copied.root, "{shown}");
            // An archive is a new file each time.
            if !matches!(target, Endpoint::Archive { .. }) {
                assert_eq!((again.totals.blobs_sent, again.totals.sent), (0, 0), "{shown}");
            }
            assert_eq!(content(&stage, &target), whole, "{shown}, again");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 16);
    let mut after = stage.leftovers();
    assert_eq!((&after.0.leases, &after.0.ingests), (&before.0.leases, &before.0.ingests));
    after.0.images.retain(|name| name.starts_with("example.test/copied:"));
    assert_eq!(after.0.images.len(), 4, "{after:?}");
}

fn one_platform(env: &Env) {
    let pushed = env.pushed(Kind::Index, "copy");
    let stage = Stage::empty(env, "copy");
    let image = env.image(Kind::Index);
    let source = endpoint(&stage, &pushed);
    let host = Platforms::One(Matcher::host());
    for text in [format!("{}:v1", env.repository("copy")), "oci:one:tag".to_owned(), "containerd:one:1".to_owned()] {
        let target = endpoint(&stage, &text);
        let copied = copy(&stage, &source, &target, host.clone()).unwrap();
        assert_eq!(copied.root.digest.as_str(), image.manifest, "{text}");
        assert!(!content(&stage, &target).contains_key(&image.digest), "{text}");
    }
}

fn mistakes(env: &Env) {
    let stage = Stage::new(env, "copy");
    let here = endpoint(&stage, &format!("containerd:{}", super::stage::IMAGE));
    let before = stage.leftovers();
    let registry = format!("{}:v1", env.repository("copy"));
    for (source, target, kind, part) in [
        ("containerd:nope:1", registry.as_str(), Failed::NotFound, "nope:1"),
        (registry.as_str(), "containerd:x:1", Failed::NotFound, registry.as_str()),
        ("oci:nowhere", "containerd:x:1", Failed::NotFound, "nowhere"),
        ("archive:nowhere.tar", "containerd:x:1", Failed::NotFound, "nowhere.tar"),
    ] {
        let shown = format!("{source} to {target}");
        let error = copy(&stage, &endpoint(&stage, source), &endpoint(&stage, target), Platforms::All).unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {error}");
        assert!(error.to_string().contains(part), "{shown}: {error}");
    }
    // A name that points elsewhere is not taken.
    let other = endpoint(&stage, &env.pushed(Kind::ThreeLayers, "copy"));
    let error = copy(&stage, &other, &here, Platforms::All).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    assert_eq!(stage.leftovers(), before);
    assert!(!Path::new(&stage.folder.join("work/nowhere")).exists());
}
