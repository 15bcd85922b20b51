//! Writing to registries.

use std::time::Duration;

use bytes::Bytes;
use ctrsh::grant::{Access, Allow, Grant};
use ctrsh::kind::{Failure, Kind as FailureKind};
use ctrsh::layout::{LayoutFolder, Selector};
use ctrsh::oci::store::{BlobWriter, ImageSink, Labels};
use ctrsh::oci::{Descriptor, Digest, MediaType};
use ctrsh::registry::{Client, Options, RegistryStore};
use libtest_mimic::Trial;
use tokio_util::sync::CancellationToken;

use super::support::{client, copy, digest, quick, reference, repository, sink};
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::registry::Registry;
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::push::other_tools_pull_what_was_pushed", env, other_tools_pull),
        trial("registry::push::what_is_there_is_not_sent_again", env, what_is_there_is_not_sent_again),
        trial("registry::push::blobs_are_mounted_from_other_repositories", env, blobs_are_mounted),
        trial("registry::push::a_mount_that_is_refused_becomes_an_upload", env, a_refused_mount),
        trial("registry::push::a_plan_and_a_reader_change_nothing", env, a_plan_and_a_reader_change_nothing),
        trial("registry::push::a_registry_that_wants_pieces_gets_pieces", env, pieces),
        trial("registry::push::a_lost_answer_is_looked_up", env, a_lost_answer),
        trial("registry::push::wrong_bytes_are_refused", env, wrong_bytes),
        trial("registry::push::an_upload_that_is_given_up_is_taken_back", env, an_upload_is_taken_back),
        trial("registry::push::an_upload_goes_on_where_it_stopped", env, an_upload_goes_on),
        trial("registry::push::plain_http_is_still_known_after_an_outage", env, plain_http_after_an_outage),
        trial(
            "registry::push::an_interrupted_upload_stays_with_its_own",
            env,
            an_interrupted_upload_stays_with_its_own,
        ),
        trial("registry::push::only_the_registrys_silence_counts", env, only_the_registrys_silence_counts),
        trial("registry::push::the_empty_blob", env, the_empty_blob),
    ]
}

fn image(env: &Env, kind: Kind) -> LayoutFolder {
    LayoutFolder::new(&env.image(kind).layout, Selector::Only)
}

fn other_tools_pull(env: &Env) {
    let image_of = |kind| env.image(kind);
    for kind in [Kind::Index, Kind::ThreeLayers] {
        let target = format!("{}:v1", env.repository("push"));
        let totals = env.block_on(async { copy(&image(env, kind), &sink(&client(), &target)).await.unwrap() });
        assert!(totals.blobs_sent.len() > 1 && totals.sent > 0);
        let name = format!("docker://{target}");
        let raw = env.skopeo(&["inspect", "--tls-verify=false", "--raw", &name]).ok();
        assert_eq!(Digest::sha256(raw.as_bytes()), digest(&image_of(kind).digest));
        let folder = format!("oci:{}:v1", env.new_folder("push").join("copy").display());
        env.skopeo(&["copy", "--all", "--src-tls-verify=false", &name, &folder]).ok();
    }
}

fn what_is_there_is_not_sent_again(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let name = env.fresh("push");
        let target = |tag: &str| format!("{}/{name}:{tag}", proxy.host());
        let client = client();
        copy(&image(env, Kind::ThreeLayers), &sink(&client, &target("one"))).await.unwrap();
        // The root goes to its tag at once, never by its digest as well.
        assert_eq!(proxy.count("PUT", "/manifests/"), 1);
        proxy.clear();
        copy(&image(env, Kind::ThreeLayers), &sink(&client, &target("two"))).await.unwrap();
        let log = proxy.log();
        assert!(log.iter().all(|seen| !seen.path.contains("/blobs/")), "{log:#?}");
        assert_eq!(proxy.count("PUT", "/manifests/two"), 1);
        // Another process knows nothing, and asks.
        proxy.clear();
        copy(&image(env, Kind::ThreeLayers), &sink(&super::support::client(), &target("one"))).await.unwrap();
        assert_eq!((proxy.count("HEAD", "/blobs/"), proxy.count("POST", "")), (4, 0));
        assert!(sink(&client, &target("one")).current().await.unwrap().is_some());
        assert!(sink(&client, &target("none")).current().await.unwrap().is_none());
    });
}

fn blobs_are_mounted(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let client = client();
        let (one, two) = (env.fresh("push/one"), env.fresh("push/two"));
        copy(&image(env, Kind::ThreeLayers), &sink(&client, &format!("{}/{one}:v1", proxy.host()))).await.unwrap();
        proxy.clear();
        let target = format!("{}/{two}:v1", proxy.host());
        let totals = copy(&image(env, Kind::ThreeLayers), &sink(&client, &target)).await.unwrap();
        assert_eq!((totals.blobs_mounted, totals.sent), (4, 0));
        assert_eq!((proxy.count("POST", "mount="), proxy.count("PUT", "/blobs/")), (4, 0));
        // What is known to be at hand is not asked for, nor is the manifest that is sent to the tag in any case.
        assert_eq!((proxy.count("HEAD", ""), proxy.count("PUT", "/manifests/v1")), (0, 1));
        assert!(proxy.log().iter().any(|seen| seen.path.contains(&one.replace('/', "%2F"))));
        assert!(repository(&client, &target).has_blob(&digest(&env.image(Kind::ThreeLayers).config)).await.unwrap());
    });
}

fn a_refused_mount(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let client = client();
        let (one, two) = (env.fresh("push"), env.fresh("push"));
        copy(&image(env, Kind::Busybox), &sink(&client, &format!("{}/{one}:v1", proxy.host()))).await.unwrap();
        proxy.clear();
        proxy.fault("POST", "mount=", 9, Fault::status(403));
        let target = sink(&client, &format!("{}/{two}:v1", proxy.host()));
        let totals = copy(&image(env, Kind::Busybox), &target).await.unwrap();
        assert_eq!((totals.blobs_mounted, totals.blobs_sent.len()), (0, 2));
        // The upload that the refusal led to is the one that is used.
        assert_eq!((proxy.count("POST", "mount="), proxy.count("POST", "")), (2, 4));
    });
}

fn a_plan_and_a_reader_change_nothing(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let target = reference(&format!("{}/{}:v1", proxy.host(), env.fresh("push")));
        let all = Grant::new(Allow::all(), CancellationToken::new());
        let reader = Grant::new(Allow::of(&[Access::Read]), CancellationToken::new());
        let elsewhere: Allow = "read,write=harbor.example/**".parse().unwrap();
        let elsewhere = Grant::new(elsewhere, CancellationToken::new());
        let grants =
            [(all.planning(), FailureKind::Internal), (reader, FailureKind::Denied), (elsewhere, FailureKind::Denied)];
        for (grant, kind) in grants {
            let sink = RegistryStore::sink(&client(), &target, &grant, &Options::default());
            let error = copy(&image(env, Kind::Busybox), &sink).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            let repository = client().repository(target.registry(), target.repository(), &grant, &Options::default());
            assert_eq!(repository.delete_manifest(&Digest::sha256(b"")).await.unwrap_err().kind(), kind);
        }
        assert!(proxy.log().iter().all(|seen| ["GET", "HEAD"].contains(&seen.method.as_str())), "{:#?}", proxy.log());
        assert!(!proxy.log().is_empty());
    });
}

fn pieces(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let target = format!("{}/{}:v1", proxy.host(), env.fresh("push"));
        let big = digest(env.image(Kind::Big(20)).layers.last().unwrap());
        proxy.fault("PUT", big.hex(), 1, Fault::status(413));
        let client = client();
        copy(&image(env, Kind::Big(20)), &sink(&client, &target)).await.unwrap();
        let image = env.image(Kind::Big(20));
        let raw = repository(&client, &target).resolve("v1").await.unwrap();
        assert_eq!(raw.digest, digest(&image.digest));
        let ranges: Vec<_> = proxy.log().iter().filter_map(|s| s.header("content-range").map(str::to_owned)).collect();
        // 16 MiB and the rest of the noise.
        assert!(ranges.contains(&"0-16777215".to_owned()), "{ranges:?}");
        assert!(ranges.iter().any(|range| range.starts_with("16777216-")), "{ranges:?}");
    });
}

fn a_lost_answer(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let target = format!("{}/{}:v1", proxy.host(), env.fresh("push"));
        proxy.fault("PUT", "/blobs/uploads/", 1, Fault::LoseAnswer);
        let totals = copy(&image(env, Kind::Busybox), &sink(&client(), &target)).await.unwrap();
        assert_eq!(totals.blobs_sent.len(), 2);
        assert_eq!(proxy.count("PUT", "/blobs/uploads/"), 2);
    });
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::Other("application/octet-stream".into()), Digest::sha256(bytes), bytes.len() as u64)
}

async fn writer(sink: &RegistryStore, descriptor: &Descriptor) -> Box<dyn BlobWriter> {
    let writer = sink.write(descriptor, &Labels::new()).await.map_err(|e| e.to_string()).unwrap();
    writer.unwrap()
}

fn wrong_bytes(env: &Env) {
    env.block_on(async {
        let sink = sink(&client(), &format!("{}:v1", env.repository("push")));
        let descriptor = blob(b"what was promised");
        let mut upload = writer(&sink, &descriptor).await;
        upload.write(Bytes::from_static(b"what was promise!")).await.map_err(|e| e.to_string()).unwrap();
        let error = upload.commit().await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Integrity, "{error}");
        let mut upload = writer(&sink, &descriptor).await;
        let error = upload.write(Bytes::from_static(b"what was promised, and more")).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Integrity, "{error}");
        let mut upload = writer(&sink, &descriptor).await;
        upload.write(Bytes::from_static(b"what")).await.map_err(|e| e.to_string()).unwrap();
        let error = upload.commit().await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Integrity, "{error}");
        assert!(!sink.has(&descriptor).await.map_err(|e| e.to_string()).unwrap());
    });
}

fn an_upload_is_taken_back(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let cancel = CancellationToken::new();
        let grant = Grant::new(Allow::all(), cancel.clone());
        let target = reference(&format!("{}/{}:v1", proxy.host(), env.fresh("push")));
        let sink = RegistryStore::sink(&client(), &target, &grant, &Options::default());
        let descriptor = blob(&[7; 1 << 20]);
        let upload = writer(&sink, &descriptor).await;
        upload.close(true).await.map_err(|e| e.to_string()).unwrap();
        assert_eq!(proxy.count("DELETE", "/blobs/uploads/"), 1);
        // Also when the user stops it, and nobody is left to say so.
        let mut upload = writer(&sink, &descriptor).await;
        upload.write(Bytes::from(vec![7; 1 << 10])).await.map_err(|e| e.to_string()).unwrap();
        cancel.cancel();
        let error = upload.write(Bytes::from(vec![7; 1 << 10])).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Cancelled);
        drop(upload);
        wait_for_deletes(&proxy, 2).await;
    });
}

/// Waits until uploads were taken back, which goes on after whoever gave them up is gone.
async fn wait_for_deletes(proxy: &FaultProxy, count: usize) {
    for _ in 0..1500 {
        if proxy.count("DELETE", "/blobs/uploads/") == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("an upload was left behind: {:#?}", proxy.log());
}

fn an_upload_goes_on(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let target = format!("{}/{}:v1", proxy.host(), env.fresh("push"));
        let sink = sink(&client(), &target);
        let bytes = Bytes::from((0..20u32 << 20).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let descriptor = blob(&bytes);
        // The registry takes pieces only, and the second one breaks.
        proxy.fault("PUT", "/blobs/uploads/", 1, Fault::status(413));
        let mut first = writer(&sink, &descriptor).await;
        let _ = first.write(bytes.clone()).await;
        assert!(first.commit().await.unwrap_err().retryable());
        let mut second = writer(&sink, &descriptor).await;
        second.write(bytes.slice(..16 << 20)).await.map_err(|e| e.to_string()).unwrap();
        assert_eq!(second.offset(), 16 << 20);
        second.close(false).await.map_err(|e| e.to_string()).unwrap();
        let mut third = writer(&sink, &descriptor).await;
        assert_eq!(third.offset(), 16 << 20);
        third.write(bytes.slice(16 << 20..)).await.map_err(|e| e.to_string()).unwrap();
        third.commit().await.map_err(|e| e.to_string()).unwrap();
        assert!(repository(&client(), &target).has_blob(&descriptor.digest).await.unwrap());
        assert_eq!(proxy.count("POST", "/blobs/uploads/"), 2);

        // One that is kept and never resumed ends with the sink.
        proxy.clear();
        let bytes = Bytes::from(vec![3; 20 << 20]);
        let mut fourth = writer(&sink, &blob(&bytes)).await;
        fourth.write(bytes.slice(..16 << 20)).await.map_err(|e| e.to_string()).unwrap();
        fourth.close(false).await.map_err(|e| e.to_string()).unwrap();
        drop(sink);
        wait_for_deletes(&proxy, 1).await;
    });
}

fn an_interrupted_upload_stays_with_its_own(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let target = format!("{}/{}:v1", proxy.host(), env.fresh("push"));
        let mut config = quick();
        config.limits.piece = Some(1 << 20);
        let client = Client::new(config);
        let own = sink(&client, &target);
        let bytes = Bytes::from(vec![5; 3 << 20]);
        let descriptor = blob(&bytes);
        let mut upload = writer(&own, &descriptor).await;
        upload.write(bytes.slice(..1 << 20)).await.map_err(|e| e.to_string()).unwrap();
        upload.close(false).await.map_err(|e| e.to_string()).unwrap();
        // Another copy into the same repository comes to its end.
        let other = sink(&client, &target.replace(":v1", ":v2"));
        writer(&other, &blob(b"x")).await.close(true).await.map_err(|e| e.to_string()).unwrap();
        let taken_back = proxy.count("DELETE", "/blobs/uploads/");
        drop(other);
        client.settle().await;
        let mut upload = writer(&own, &descriptor).await;
        assert_eq!(upload.offset(), 1 << 20);
        upload.write(bytes.slice(1 << 20..)).await.map_err(|e| e.to_string()).unwrap();
        upload.commit().await.map_err(|e| e.to_string()).unwrap();
        assert_eq!(proxy.count("DELETE", "/blobs/uploads/"), taken_back);
    });
}

fn only_the_registrys_silence_counts(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let target = format!("{}/{}:v1", proxy.host(), env.fresh("push"));
        let mut config = quick();
        config.timeouts.stall = Duration::from_millis(300);
        config.limits.rate = Some(1.0);
        let bytes = Bytes::from(vec![6; 8 << 20]);
        let sink = sink(&Client::new(config), &target);
        let mut upload = writer(&sink, &blob(&bytes)).await;
        // The request waits for its turn, a second after the last.
        for part in 0..8 {
            let part = bytes.slice(part << 20..(part + 1) << 20);
            upload.write(part).await.map_err(|e| e.to_string()).unwrap();
        }
        upload.commit().await.map_err(|e| e.to_string()).unwrap();
        assert_eq!((proxy.count("POST", ""), proxy.count("DELETE", "")), (1, 0));
    });
}

/// An answer at the address that the registry named before it went away proves nothing of TLS.
fn plain_http_after_an_outage(env: &Env) {
    let mut registry = Registry::start(&env.new_folder("push"));
    let client = client();
    let target = format!("{}/outage:v1", registry.host());
    let sink = sink(&client, &target);
    let descriptors = [b"one".as_slice(), b"two"].map(blob);
    let mut first = env.block_on(writer(&sink, &descriptors[0]));
    registry.kill();
    let error = env.block_on(repository(&client, &target).has_blob(&descriptors[1].digest)).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unavailable, "{error}");
    registry.restart();
    env.block_on(async {
        first.write(Bytes::from_static(b"one")).await.map_err(|e| e.to_string()).unwrap();
        // docker-registry signs the addresses of uploads with a secret that it makes up when it starts.
        let lost = first.commit().await.unwrap_err().to_string();
        assert!(lost.contains("http://") && lost.contains("BLOB_UPLOAD_INVALID"), "{lost}");
        let mut second = writer(&sink, &descriptors[1]).await;
        second.write(Bytes::from_static(b"two")).await.map_err(|e| e.to_string()).unwrap();
        second.commit().await.map_err(|e| e.to_string()).unwrap();
        assert!(repository(&super::support::client(), &target).has_blob(&descriptors[1].digest).await.unwrap());
    });
}

fn the_empty_blob(env: &Env) {
    env.block_on(async {
        let target = format!("{}:v1", env.repository("push"));
        let sink = sink(&client(), &target);
        let descriptor = blob(b"");
        writer(&sink, &descriptor).await.commit().await.map_err(|e| e.to_string()).unwrap();
        assert!(repository(&client(), &target).has_blob(&descriptor.digest).await.unwrap());
    });
}
