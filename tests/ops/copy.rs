//! `copy` over every pair of endpoints: an index with two platforms and an attestation arrives byte for byte.

use std::collections::BTreeMap;
use std::path::Path;

use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::{Hasher, Matcher};
use ctrsh::ops::graph::{self, Selection};
use ctrsh::ops::image::{Copied, Copy, CopyOptions, Endpoint, Platforms};
use futures_util::TryStreamExt;
use libtest_mimic::Trial;

use super::stage::{Stage, place};
use crate::harness::counter::Counter;
use crate::harness::daemon::Daemon;
use crate::harness::fault::{FaultProxy, Seen};
use crate::harness::image::Kind;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::copy::every pair of endpoints keeps every byte, and the second copy moves none", env, pairs),
        trial("ops::copy::one platform goes alone and says so", env, one_platform),
        trial("ops::copy::mistakes are named", env, mistakes),
    ]
}

pub fn endpoint(stage: &Stage, text: &str) -> Endpoint {
    Endpoint::parse(text, &stage.ctx.settings().working_dir).unwrap()
}

pub fn copy(stage: &Stage, source: &Endpoint, target: &Endpoint, platforms: Platforms) -> ctrsh::ops::Result<Copied> {
    let mut options = CopyOptions { platforms, ..CopyOptions::default() };
    options.arrival.platforms = Matcher::All;
    stage.run(Copy::new(source.clone(), target.clone(), options))
}

/// Reads all that an endpoint holds of an image: the digest of each blob and document, worked out from its bytes.
pub fn content(stage: &Stage, endpoint: &Endpoint) -> BTreeMap<String, u64> {
    stage.env.block_on(async {
        let (source, root) = endpoint.source(&stage.ctx, &Default::default()).await.unwrap();
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

/// What stands between the copies and their endpoints, and counts.
struct Counted {
    registry: FaultProxy,
    /// Before the daemon of the stage, and before another one.
    daemons: [Counter; 2],
}

impl Counted {
    /// Returns how many requests moved a blob from or to the registry, and how many bytes the daemons were sent.
    fn take(&self) -> (usize, u64) {
        let moves = |seen: &Seen| seen.path.contains("/blobs/") && seen.method != "HEAD";
        let moved = self.registry.log().iter().filter(|seen| moves(seen)).count();
        self.registry.clear();
        (moved, self.daemons.iter().map(|daemon| daemon.take().0).sum())
    }
}

fn pairs(env: &Env) {
    let pushed = env.pushed(Kind::Index, "copy");
    let mut stage = Stage::empty(env, "copy");
    std::fs::create_dir_all(stage.folder.join("work")).unwrap();
    std::fs::create_dir_all(stage.folder.join("tmp")).unwrap();
    let other = Daemon::start(&env.new_folder("copy"));
    let counted = env.block_on(async {
        Counted {
            registry: FaultProxy::start(&env.registry()).await,
            daemons: [
                Counter::start(stage.folder.join("a.sock"), env.socket()).await,
                Counter::start(stage.folder.join("b.sock"), &other.socket()).await,
            ],
        }
    });
    let sockets = counted.daemons.each_ref().map(|daemon| daemon.socket().display().to_string());
    stage.ctx = stage.ctx.at(&place(&sockets[0], &stage.namespace));
    let registry = |name: &str| format!("{}/{name}:v1", counted.registry.host());
    let (second, third) = (env.namespace("copy"), env.fresh("copy"));
    let first = endpoint(&stage, &pushed.replacen(&env.registry(), &counted.registry.host(), 1));
    let whole = content(&stage, &first);
    // Two images and an attestation in an index: four documents, three configs, and their layers.
    assert!(whole.len() > 7, "{whole:?}");
    let bytes: u64 = whole.values().sum();
    let sources = [
        first.clone(),
        endpoint(&stage, "containerd:example.test/copied:1"),
        endpoint(&stage, &format!("containerd:[{second}]example.test/copied:1")),
        endpoint(&stage, &format!("containerd:[{third}@{}]example.test/copied:1", sockets[1])),
        endpoint(&stage, "oci:layout:one"),
        endpoint(&stage, "archive:images.tar.gz:example.test/copied:1"),
    ];
    for source in &sources[1..] {
        copy(&stage, &first, source, Platforms::Present).unwrap_or_else(|error| panic!("{source}: {error}"));
    }
    let before = stage.leftovers();
    let mut pairs = 0;
    for (from, source) in sources.iter().enumerate() {
        assert_eq!(content(&stage, source), whole, "{source}");
        for text in [
            registry(&env.fresh("copy")),
            format!("containerd:example.test/copied:{from}"),
            format!("containerd:[{}]example.test/copied:1", env.namespace("copy")),
            format!("containerd:[{}@{}]example.test/copied:1", env.fresh("copy"), sockets[1]),
            format!("oci:layout-{from}:one"),
            format!("archive:images-{from}.tar.zst:example.test/copied:1"),
        ] {
            let target = endpoint(&stage, &text);
            let shown = format!("{source} to {target}");
            let copied = copy(&stage, source, &target, Platforms::Present).unwrap_or_else(|e| panic!("{shown}: {e}"));
            assert_eq!(content(&stage, &target), whole, "{shown}");
            counted.take();
            let again = copy(&stage, source, &target, Platforms::Present).unwrap_or_else(|e| panic!("{shown}: {e}"));
            let (moved, sent) = counted.take();
            assert_eq!(again.root, copied.root, "{shown}");
            // An archive is a new file each time, and its content is read again.
            if !matches!(target, Endpoint::Archive { .. }) {
                assert_eq!((again.totals.blobs_sent.len(), again.totals.sent), (0, 0), "{shown}");
                assert_eq!(moved, 0, "{shown}: requests that move a blob");
            }
            // Questions alone: a fraction of what the image has.
            assert!(sent < bytes / 10, "{shown}: {sent} bytes sent to the daemons, of an image of {bytes}");
            assert_eq!(content(&stage, &target), whole, "{shown}, again");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 36);
    let mut after = stage.leftovers();
    assert_eq!((&after.0.leases, &after.0.ingests), (&before.0.leases, &before.0.ingests));
    after.0.images.retain(|name| name.starts_with("example.test/copied:"));
    assert_eq!(after.0.images.len(), 6, "{after:?}");
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
