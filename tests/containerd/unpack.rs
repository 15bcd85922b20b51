//! An image through the store and the unpacker, compared with what `ctr images pull` leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctrsh::containerd::images::Deletion;
use ctrsh::containerd::snapshots::Kind as Snapshot;
use ctrsh::containerd::{Client, ContainerdStore, Labels};
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::store::{ImageSink, ImageSource, Origin};
use ctrsh::oci::{Descriptor, Digest, ImageConfig, Manifest, Matcher, MediaType, Reference};
use ctrsh::ops::copy::{Copy, Flights};
use ctrsh::ops::graph::{Graph, Selection, walk};
use ctrsh::ops::progress::{Progress, Silent};
use ctrsh::ops::undo::Debts;
use ctrsh::ops::unpack::{Unpacked, Unpacker};
use futures_util::TryStreamExt;
use libtest_mimic::Trial;

use super::client;
use crate::harness::{Env, Kind, trial};

const SNAPSHOTTER: &str = "native";

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("containerd::unpack::three_layers_leave_what_ctr_leaves", env, |env| same_as_ctr(env, Kind::ThreeLayers)),
        trial("containerd::unpack::an_index_leaves_what_ctr_leaves", env, |env| same_as_ctr(env, Kind::Index)),
        trial("containerd::unpack::docker_types_leave_what_ctr_leaves", env, |env| same_as_ctr(env, Kind::Docker)),
        trial("containerd::unpack::what_is_unpacked_is_not_unpacked_again", env, again),
        trial("containerd::unpack::a_layer_that_is_not_what_the_config_says_leaves_nothing", env, wrong_diff_id),
        trial("containerd::unpack::a_layer_that_is_no_archive_leaves_nothing", env, no_archive),
        trial("containerd::unpack::dropped_half_way_it_leaves_nothing", env, dropped),
        trial("containerd::unpack::two_at_once_end_with_one_stack", env, two_at_once),
        trial("containerd::unpack::a_layer_waits_for_its_arrival", env, waits),
    ]
}

fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}

async fn leased(client: &Client) -> Client {
    let lease = client.leases().create(Duration::from_secs(600), &Labels::new()).await.unwrap();
    client.with_lease(&lease.id).unwrap()
}

async fn release(client: &Client) {
    client.leases().delete(client.lease().unwrap(), Deletion::Synchronous).await.unwrap();
}

fn manifest(graph: &Graph) -> &Manifest {
    graph.documents.iter().find_map(|document| document.manifest()).unwrap()
}

/// Pushes an image and pulls it with ctr into a namespace; returns the client there and the reference.
async fn pulled(env: &Env, kind: Kind) -> (Client, String) {
    let reference = env.pushed(kind, "unpack");
    let by_ctr = client(env, "unpack-ctr").await;
    let pull = ["-n", by_ctr.namespace(), "images", "pull", "--plain-http", "--snapshotter", SNAPSHOTTER, &reference];
    env.ctr(&pull).ok();
    (by_ctr, reference)
}

/// Takes an image from one namespace to another as a pull would, unpacking while it copies.
async fn take(from: &Client, to: &Client, reference: &str) -> (Graph, Unpacked) {
    let parsed: Reference = reference.parse().unwrap();
    let origin = Origin { registry: parsed.registry().into(), repository: parsed.repository().into() };
    let source = ContainerdStore::new(from.clone(), reference);
    let sink = ContainerdStore::new(to.clone(), reference).with_origin(Some(origin));
    let root = source.resolve().await.unwrap();
    let selection = Selection::Matching(Matcher::host());
    let graph = walk(&source, Some(&sink), &root, &selection).await.unwrap();
    let debts = Debts::default();
    let (feed, unpacker) = Unpacker::new(to, SNAPSHOTTER, manifest(&graph), &silent(), &debts);
    let flights = Flights::default();
    let arrived = |blob: &Descriptor| feed.arrived(blob);
    let copy = Copy {
        source: &source,
        sink: &sink,
        graph: &graph,
        flights: &flights,
        progress: &Silent,
        arrived: Some(&arrived),
    };
    let (_, unpacked) = tokio::try_join!(copy.run(), unpacker.run()).unwrap();
    sink.finish(&root).await.unwrap();
    (graph, unpacked)
}

/// What a namespace has, as far as two pulls of the same image have to agree.
#[derive(Debug, PartialEq, Eq)]
struct State {
    images: BTreeMap<String, (Descriptor, Labels)>,
    content: BTreeMap<Digest, (u64, Labels)>,
    snapshots: BTreeMap<String, (Option<String>, Snapshot, Labels)>,
    ingests: Vec<String>,
    leases: usize,
}

async fn state(client: &Client) -> State {
    let images = client.images().list(&[]).await.unwrap();
    let content: Vec<_> = client.content().list(&[]).await.unwrap().try_collect().await.unwrap();
    let snapshots: Vec<_> = client.snapshots(SNAPSHOTTER).list(&[]).await.unwrap().try_collect().await.unwrap();
    State {
        images: images.into_iter().map(|i| (i.name, (i.target, i.labels))).collect(),
        content: content.into_iter().map(|c| (c.digest, (c.size, c.labels))).collect(),
        snapshots: snapshots.into_iter().map(|s| (s.name, (s.parent, s.kind, s.labels))).collect(),
        ingests: client.content().statuses(&[]).await.unwrap().into_iter().map(|s| s.reference).collect(),
        leases: client.leases().list(&[]).await.unwrap().len(),
    }
}

fn same_as_ctr(env: &Env, kind: Kind) {
    env.block_on(async {
        let (by_ctr, reference) = pulled(env, kind).await;
        let ours = leased(&client(env, "unpack").await).await;
        let (_, unpacked) = take(&by_ctr, &ours, &reference).await;
        // After this only what the image record keeps is left.
        release(&ours).await;
        let (theirs, mut mine) = (state(&by_ctr).await, state(&ours).await);
        // `ctr images pull` of 1.6 unpacks by an older function of containerd's client than `Client.Pull` does, which
        // nerdctl and the CRI plugin stand on; that one, and so ours, leaves each snapshot's own name on it as well.
        for (name, (_, _, labels)) in &mut mine.snapshots {
            assert_eq!(labels.remove("containerd.io/snapshot.ref").as_ref(), Some(name));
        }
        assert!(theirs.content.len() >= 3 && !theirs.snapshots.is_empty(), "{theirs:#?}");
        assert_eq!(mine, theirs);
        assert_eq!(unpacked.layers, theirs.snapshots.len());
        let listed = env.ctr(&["-n", ours.namespace(), "images", "check", "--snapshotter", SNAPSHOTTER]).ok();
        assert!(listed.contains("complete") && listed.trim_end().ends_with("true"), "{listed}");
    });
}

fn again(env: &Env) {
    env.block_on(async {
        let (by_ctr, reference) = pulled(env, Kind::ThreeLayers).await;
        let ours = leased(&client(env, "unpack").await).await;
        let (graph, first) = take(&by_ctr, &ours, &reference).await;
        assert_eq!(first.layers, 3);
        let before = state(&ours).await;
        let (_, second) = take(&by_ctr, &ours, &reference).await;
        assert_eq!(second, Unpacked { top: first.top.clone(), layers: 0 });
        assert_eq!(state(&ours).await, before);
        // Someone removed the top: only that is unpacked.
        ours.snapshots(SNAPSHOTTER).remove(first.top.as_ref().unwrap().as_str()).await.unwrap();
        let (_, unpacker) = Unpacker::new(&ours, SNAPSHOTTER, manifest(&graph), &silent(), &Debts::default());
        assert_eq!(unpacker.run().await.unwrap(), Unpacked { top: first.top, layers: 1 });
        release(&ours).await;
    });
}

/// Stores an image whose single layer has these bytes and this diff id.
async fn crafted(client: &Client, layer: &[u8], diff_id: &Digest) -> Manifest {
    let stored = |media_type: &str, bytes: &[u8]| {
        let bytes = Bytes::copy_from_slice(bytes);
        let descriptor = Descriptor::new(MediaType::parse(media_type), Digest::sha256(&bytes), bytes.len() as u64);
        async move {
            client.content().put(&descriptor, bytes, &Labels::new()).await.unwrap();
            descriptor
        }
    };
    let layer = stored("application/vnd.oci.image.layer.v1.tar", layer).await;
    let config =
        format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#);
    let config = stored("application/vnd.oci.image.config.v1+json", config.as_bytes()).await;
    let text = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    serde_json::from_value(text).unwrap()
}

fn archive(env: &Env) -> Vec<u8> {
    let name = env.fresh("unpack");
    crate::harness::image::Layer::new().file("name", 0o644, name.as_bytes()).tar()
}

async fn failure(client: &Client, manifest: &Manifest) -> ctrsh::ops::Error {
    let debts = Debts::default();
    let (_, unpacker) = Unpacker::new(client, SNAPSHOTTER, manifest, &silent(), &debts);
    let error = unpacker.run().await.unwrap_err();
    debts.settle().await;
    assert_eq!(state(client).await.snapshots, BTreeMap::new());
    error
}

fn wrong_diff_id(env: &Env) {
    env.block_on(async {
        let client = leased(&client(env, "unpack").await).await;
        let layer = archive(env);
        let promised = Digest::sha256(b"something else");
        let manifest = crafted(&client, &layer, &promised).await;
        let error = failure(&client, &manifest).await;
        assert_eq!(error.kind(), Failed::Integrity);
        assert!(
            error.to_string().ends_with(&format!("should be {promised} but is {}", Digest::sha256(&layer))),
            "{error}"
        );
        let mut manifest = crafted(&client, &layer, &Digest::sha256(&layer)).await;
        manifest.layers.clear();
        let error = failure(&client, &manifest).await;
        assert!(error.to_string().contains("it has 1 layers, but the manifest has 0"), "{error}");
    });
}

fn no_archive(env: &Env) {
    env.block_on(async {
        let client = leased(&client(env, "unpack").await).await;
        let layer = env.fresh("this is no archive").into_bytes();
        let manifest = crafted(&client, &layer, &Digest::sha256(&layer)).await;
        let error = failure(&client, &manifest).await;
        assert!(error.to_string().contains(manifest.layers[0].digest.as_str()), "{error}");
    });
}

fn dropped(env: &Env) {
    env.block_on(async {
        let big = env.image(Kind::Big(64));
        let (by_ctr, reference) = pulled(env, Kind::Big(64)).await;
        let ours = leased(&client(env, "unpack").await).await;
        let (graph, _) = take(&by_ctr, &ours, &reference).await;
        let top = {
            let bytes = ours.content().bytes(&big.config.parse().unwrap(), 1 << 20).await.unwrap();
            let config = ImageConfig::read(&big.config.parse().unwrap(), &bytes).unwrap();
            config.chain_ids().pop().unwrap()
        };
        let snapshots = ours.snapshots(SNAPSHOTTER);
        snapshots.remove(top.as_str()).await.unwrap();
        let before = state(&ours).await;
        let debts = Debts::default();
        let (_, unpacker) = Unpacker::new(&ours, SNAPSHOTTER, manifest(&graph), &silent(), &debts);
        let half = async {
            loop {
                let now: Vec<_> = snapshots.list(&[]).await.unwrap().try_collect().await.unwrap();
                if now.iter().any(|snapshot| snapshot.name.starts_with("extract-")) {
                    break;
                }
            }
        };
        tokio::select! {
            _ = unpacker.run() => panic!("it ended before it was dropped"),
            () = half => {}
        }
        debts.settle().await;
        assert_eq!(state(&ours).await, before);
    });
}

fn two_at_once(env: &Env) {
    env.block_on(async {
        let client = leased(&client(env, "unpack").await).await;
        let layer = archive(env);
        let manifest = crafted(&client, &layer, &Digest::sha256(&layer)).await;
        let debts = Debts::default();
        let run = || Unpacker::new(&client, SNAPSHOTTER, &manifest, &silent(), &debts).1.run();
        let all = futures_util::future::try_join_all([run(), run(), run(), run()]).await.unwrap();
        assert!(all.iter().all(|unpacked| unpacked.top.as_ref() == Some(&Digest::sha256(&layer))), "{all:?}");
        debts.settle().await;
        let snapshots = state(&client).await.snapshots;
        assert_eq!(snapshots.keys().map(String::as_str).collect::<Vec<_>>(), [Digest::sha256(&layer).as_str()]);
    });
}

fn waits(env: &Env) {
    env.block_on(async {
        let client = leased(&client(env, "unpack").await).await;
        let layer = archive(env);
        let manifest = crafted(&client, &layer, &Digest::sha256(&layer)).await;
        let (feed, unpacker) = Unpacker::new(&client, SNAPSHOTTER, &manifest, &silent(), &Debts::default());
        let running = tokio::spawn(unpacker.run());
        feed.arrived(&manifest.config);
        // Its place is made already, and nothing is in it.
        let begun = Instant::now();
        let kinds = loop {
            let kinds: Vec<_> = state(&client).await.snapshots.into_values().map(|(_, kind, _)| kind).collect();
            if !kinds.is_empty() || begun.elapsed() > Duration::from_secs(20) {
                break kinds;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(kinds, [Snapshot::Active]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!running.is_finished());
        feed.arrived(&manifest.layers[0]);
        let unpacked = tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap().unwrap();
        assert_eq!(unpacked.layers, 1);
        drop(feed);
    });
}
