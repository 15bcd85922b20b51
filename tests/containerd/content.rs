//! Writing and reading blobs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ctrsh::containerd::content::{Ingest, ingest_reference};
use ctrsh::containerd::images::Deletion;
use ctrsh::containerd::leases::Resource;
use ctrsh::containerd::{Client, Fault, Labels};
use ctrsh::kind::{Failure, Kind};
use ctrsh::oci::{Descriptor, Digest, MediaType};
use futures_util::TryStreamExt;
use libtest_mimic::Trial;

use super::{client, grant};
use crate::harness::daemon::Daemon;
use crate::harness::disk::Disk;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("containerd::content::what_is_written_is_read", env, round_trip),
        trial("containerd::content::a_small_blob_goes_in_one_message", env, small),
        trial("containerd::content::a_kept_ingest_resumes_where_it_ended", env, resume),
        trial("containerd::content::wrong_bytes_leave_no_ingest", env, wrong_bytes),
        trial("containerd::content::what_is_there_is_leased_and_gets_its_labels", env, present),
        trial("containerd::content::a_digest_need_not_be_known_before", env, unknown_digest),
        trial("containerd::content::a_second_writer_waits_for_the_first", env, locked),
        trial("containerd::content::a_writer_that_is_dropped_frees_its_reference", env, dropped),
        trial("containerd::content::a_full_disk_is_named_and_can_be_freed", env, full_disk),
        trial("containerd::content::a_daemon_that_is_killed_has_what_it_acknowledged", env, killed),
    ]
}

/// Bytes that no other test stores: the store is shared by all namespaces.
fn noise(env: &Env, length: usize) -> Bytes {
    let seed = Digest::sha256(env.fresh("content").as_bytes());
    seed.as_str().bytes().cycle().zip(0_u32..).map(|(b, n)| b ^ (n >> 7) as u8).take(length).collect::<Vec<u8>>().into()
}

fn blob(bytes: &[u8]) -> Descriptor {
    let layer = MediaType::parse("application/vnd.oci.image.layer.v1.tar+gzip");
    Descriptor::new(layer, Digest::sha256(bytes), bytes.len() as u64)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A client under a lease, because other tests make the collector run.
async fn leased(env: &Env) -> Client {
    let client = client(env, "content").await;
    let lease = client.leases().create(Duration::from_secs(600), &Labels::new()).await.unwrap();
    client.with_lease(&lease.id).unwrap()
}

async fn read(client: &Client, descriptor: &Descriptor, offset: u64) -> Vec<u8> {
    let parts: Vec<Bytes> =
        client.content().read(&descriptor.digest, offset).await.unwrap().try_collect().await.unwrap();
    parts.concat()
}

async fn ingests(client: &Client) -> Vec<String> {
    client.content().statuses(&[]).await.unwrap().into_iter().map(|status| status.reference).collect()
}

fn round_trip(env: &Env) {
    env.block_on(async {
        let client = leased(env).await;
        // Around the message limit, and in pieces that do not fit it.
        for length in [1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9 * (1 << 20) + 12345] {
            let bytes = noise(env, length);
            let descriptor = blob(&bytes);
            let mut writer = client.content().open(&descriptor, &labels(&[("a", "1")])).await.unwrap().unwrap();
            let mut rest = bytes.clone();
            while !rest.is_empty() {
                writer.push(rest.split_to(rest.len().min(777_777))).await.unwrap();
            }
            assert_eq!(writer.finish().await.unwrap(), (descriptor.digest.clone(), descriptor.size));
            assert!(read(&client, &descriptor, 0).await == bytes, "{length} bytes came back changed");
            assert!(read(&client, &descriptor, descriptor.size - 1).await == bytes[length - 1..]);
            assert!(read(&client, &descriptor, descriptor.size).await.is_empty());
            let info = client.content().info(&descriptor.digest).await.unwrap();
            assert_eq!((info.size, &info.labels), (descriptor.size, &labels(&[("a", "1")])));
        }
        assert_eq!(ingests(&client).await, [""; 0]);
        let all: Vec<_> = client.content().list(&[]).await.unwrap().try_collect().await.unwrap();
        assert_eq!(all.len(), 5);
        let absent = Digest::sha256(b"absent");
        assert!(client.content().read(&absent, 0).await.err().unwrap().is_not_found());
        client.content().delete(&all[0].digest).await.unwrap();
        assert!(client.content().info(&all[0].digest).await.unwrap_err().is_not_found());
    });
}

fn small(env: &Env) {
    env.block_on(async {
        let client = leased(env).await;
        for bytes in [Bytes::new(), noise(env, 300), noise(env, 3 << 20)] {
            let descriptor = blob(&bytes);
            assert!(!client.content().put(&descriptor, bytes.clone(), &labels(&[("a", "1")])).await.unwrap());
            assert!(client.content().put(&descriptor, bytes.clone(), &labels(&[("b", "2")])).await.unwrap());
            let info = client.content().info(&descriptor.digest).await.unwrap();
            assert_eq!(info.labels, labels(&[("a", "1"), ("b", "2")]));
            assert_eq!(client.content().bytes(&descriptor.digest, 4 << 20).await.unwrap(), bytes);
        }
        let bytes = noise(env, 300);
        let descriptor = blob(&bytes);
        let error = client.content().put(&descriptor, noise(env, 300), &Labels::new()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Integrity);
        assert_eq!(ingests(&client).await, [""; 0]);
        // Leftovers of another try do not get in the way.
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        writer.push(noise(env, 100)).await.unwrap();
        writer.keep().await;
        assert_eq!(client.content().status(&ingest_reference(&descriptor)).await.unwrap().offset, 100);
        assert!(!client.content().put(&descriptor, bytes.clone(), &Labels::new()).await.unwrap());
        let error = client.content().bytes(&descriptor.digest, 299).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Integrity);
    });
}

fn resume(env: &Env) {
    env.block_on(async {
        let client = leased(env).await;
        let bytes = noise(env, 5 * (1 << 20) + 99);
        let descriptor = blob(&bytes);
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        assert_eq!(writer.offset(), 0);
        writer.push(bytes.slice(..3_000_000)).await.unwrap();
        writer.keep().await;
        let status = client.content().status(&ingest_reference(&descriptor)).await.unwrap();
        assert_eq!((status.offset, status.total), (3_000_000, descriptor.size));
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        assert_eq!(writer.offset(), 3_000_000);
        writer.push(bytes.slice(3_000_000..)).await.unwrap();
        writer.keep().await;
        // All is there but was never committed: opening it does that.
        assert!(client.content().open(&descriptor, &labels(&[("a", "1")])).await.unwrap().is_none());
        assert!(read(&client, &descriptor, 0).await == bytes);
        assert_eq!(client.content().info(&descriptor.digest).await.unwrap().labels, labels(&[("a", "1")]));
    });
}

fn wrong_bytes(env: &Env) {
    env.block_on(async {
        let client = leased(env).await;
        let bytes = noise(env, 2_000_000);
        let descriptor = blob(&bytes);
        let wrong = noise(env, 2_000_000);
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        writer.push(wrong.clone()).await.unwrap();
        let error = writer.finish().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Integrity);
        let (should, is) = (&descriptor.digest, Digest::sha256(&wrong));
        assert_eq!(error.to_string(), format!("layer-{should} should be {should} but is {is}"));
        assert_eq!(ingests(&client).await, [""; 0]);

        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        writer.push(bytes.slice(..1_500_000)).await.unwrap();
        let error = writer.finish().await.unwrap_err();
        assert!(error.to_string().ends_with("should be 2000000 bytes but is 1500000 bytes"), "{error}");
        assert_eq!(ingests(&client).await, [""; 0]);

        // Wrong bytes of full length, left by someone who died before the commit.
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        writer.push(wrong).await.unwrap();
        writer.keep().await;
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        assert_eq!(writer.offset(), 0);
        writer.push(bytes).await.unwrap();
        writer.finish().await.unwrap();

        let descriptor = blob(&noise(env, 10));
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        writer.push(Bytes::from_static(b"123")).await.unwrap();
        writer.discard().await.unwrap();
        assert_eq!(ingests(&client).await, [""; 0]);
    });
}

fn present(env: &Env) {
    env.block_on(async {
        let here = leased(env).await;
        let bytes = noise(env, 1234);
        let descriptor = blob(&bytes);
        let source = "containerd.io/distribution.source.h";
        here.content().put(&descriptor, bytes.clone(), &labels(&[(source, "b"), ("x", "1")])).await.unwrap();
        let lease = here.leases().create(Duration::from_secs(600), &Labels::new()).await.unwrap();
        let other = here.with_lease(&lease.id).unwrap();
        let again = other.content().open(&descriptor, &labels(&[(source, "a"), ("y", "2")])).await.unwrap();
        assert!(again.is_none());
        assert_eq!(here.leases().resources(&lease.id).await.unwrap(), [Resource::Content(descriptor.digest.clone())]);
        let info = here.content().info(&descriptor.digest).await.unwrap();
        assert_eq!(info.labels, labels(&[(source, "a,b"), ("x", "1"), ("y", "2")]));

        // Another namespace gets the bytes without their being written again.
        let there = leased(env).await;
        assert!(there.content().info(&descriptor.digest).await.unwrap_err().is_not_found());
        assert!(there.content().open(&descriptor, &labels(&[("z", "3")])).await.unwrap().is_none());
        assert_eq!(there.content().info(&descriptor.digest).await.unwrap().labels, labels(&[("z", "3")]));
        here.leases().delete(&lease.id, Deletion::Later).await.unwrap();
    });
}

fn unknown_digest(env: &Env) {
    env.block_on(async {
        let client = leased(env).await;
        let bytes = noise(env, 3_333_333);
        let ingest = |reference: &str| Ingest {
            reference: reference.to_owned(),
            expected: None,
            total: None,
            labels: labels(&[("a", "1")]),
        };
        for reference in ["import-1", "import-2"] {
            let mut writer = client.content().ingest(ingest(reference)).await.unwrap().unwrap();
            writer.push(bytes.clone()).await.unwrap();
            assert_eq!(writer.finish().await.unwrap(), (Digest::sha256(&bytes), bytes.len() as u64));
        }
        // Leftovers under the same name are not taken for one's own.
        let mut writer = client.content().ingest(ingest("import-3")).await.unwrap().unwrap();
        writer.push(bytes.clone()).await.unwrap();
        writer.keep().await;
        let other = noise(env, 1000);
        let mut writer = client.content().ingest(ingest("import-3")).await.unwrap().unwrap();
        writer.push(other.clone()).await.unwrap();
        assert_eq!(writer.finish().await.unwrap().0, Digest::sha256(&other));
        assert_eq!(client.content().info(&Digest::sha256(&other)).await.unwrap().size, 1000);
    });
}

fn locked(env: &Env) {
    env.block_on(async {
        let client = leased(env).await;
        let bytes = noise(env, 500_000);
        let descriptor = blob(&bytes);
        let mut first = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        let second = tokio::spawn({
            let (client, descriptor) = (client.clone(), descriptor.clone());
            async move { client.content().open(&descriptor, &Labels::new()).await.map(|writer| writer.is_none()) }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!second.is_finished());
        first.push(bytes.clone()).await.unwrap();
        first.finish().await.unwrap();
        assert!(second.await.unwrap().unwrap(), "the second writer has nothing left to write");
    });
}

fn dropped(env: &Env) {
    env.block_on(async {
        let client = leased(env).await;
        let bytes = noise(env, 2_500_000);
        let descriptor = blob(&bytes);
        let mut first = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        first.push(bytes.slice(..2_200_000)).await.unwrap();
        drop(first);
        let begin = Instant::now();
        let mut second = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10));
        let offset = usize::try_from(second.offset()).unwrap();
        second.push(bytes.slice(offset..)).await.unwrap();
        second.finish().await.unwrap();
    });
}

fn full_disk(env: &Env) {
    let folder = env.new_folder("full");
    let disk = Disk::mount(&folder.join("root"), 24 << 20);
    let daemon = Daemon::start(&folder);
    env.block_on(async {
        let client = daemon.node().await.client("full", &grant()).unwrap();
        let descriptor = blob(&noise(env, 64 << 20));
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        let error = writer.push(noise(env, 64 << 20)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NoSpace, "{error}");
        assert_eq!(error.fault(), Some(Fault::NoSpace));
        writer.discard().await.unwrap();
        assert_eq!(ingests(&client).await, [""; 0]);
        let bytes = noise(env, 4 << 20);
        client.content().put(&blob(&bytes), bytes, &Labels::new()).await.unwrap();
    });
    drop(daemon);
    drop(disk);
}

fn killed(env: &Env) {
    let mut daemon = Daemon::start(&env.new_folder("killed"));
    env.block_on(async {
        let client = daemon.node().await.client("killed", &grant()).unwrap();
        let bytes = noise(env, 8 << 20);
        let descriptor = blob(&bytes);
        let mut writer = client.content().open(&descriptor, &Labels::new()).await.unwrap().unwrap();
        writer.push(bytes.slice(..6 << 20)).await.unwrap();
        let acknowledged = writer.offset();
        assert!(acknowledged >= 2 << 20, "{acknowledged}");
        daemon.kill();
        let error = loop {
            if let Err(error) = writer.push(bytes.slice(..1 << 20)).await {
                break error;
            }
        };
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        daemon.restart();
        // A daemon collects garbage when it has started, and nothing else refers to the blob.
        let kept = Labels::from([("containerd.io/gc.root".to_owned(), "1".to_owned())]);
        let mut writer = client.content().open(&descriptor, &kept).await.unwrap().unwrap();
        let offset = writer.offset();
        assert!(offset >= acknowledged, "{offset} < {acknowledged}");
        writer.push(bytes.slice(usize::try_from(offset).unwrap()..)).await.unwrap();
        writer.finish().await.unwrap();
        assert!(read(&client, &descriptor, 0).await == bytes);
    });
}
