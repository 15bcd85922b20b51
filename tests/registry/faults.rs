//! What networks and registries do wrong, and that a copy survives it: the image is right in the end, or the error is.

use std::time::{Duration, Instant};

use ctrsh::kind::{Failure, Kind as FailureKind};
use ctrsh::oci::{Descriptor, Digest, Manifest};
use ctrsh::registry::{Client, Repository};
use libtest_mimic::Trial;

use super::support::{check_message, client, copy, digest, layout, quick, read_on, repository, sink, source, through};
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::faults::a_pull_survives_what_passes", env, a_pull_survives_what_passes),
        trial("registry::faults::what_goes_on_is_not_fetched_again", env, what_goes_on_is_not_fetched_again),
        trial("registry::faults::bytes_that_are_always_wrong_are_refused", env, always_wrong),
        trial("registry::faults::a_push_survives_what_passes", env, a_push_survives_what_passes),
        trial("registry::faults::a_stalled_download_is_begun_again", env, a_stalled_download),
        trial("registry::faults::retry_after_is_heard_by_all", env, retry_after_is_heard),
        trial("registry::faults::a_wait_that_is_too_long_is_told", env, a_wait_that_is_too_long),
        trial("registry::faults::a_registry_that_never_answers_well_is_given_up", env, given_up),
    ]
}

fn blob_of(env: &Env, kind: Kind) -> String {
    env.image(kind).layers.last().unwrap().clone()
}

/// Returns the faults that pass, for a GET of a blob or a manifest.
fn passing(middle: usize) -> Vec<Fault> {
    let statuses = [408, 429, 500, 502, 503, 504, 522];
    let mut faults: Vec<Fault> = statuses.into_iter().map(Fault::status).collect();
    faults.push(Fault::Answer(429, vec![("Retry-After", "0".into())], String::new()));
    faults.push(Fault::Answer(503, vec![("Content-Type", "text/html".into())], "<html>later</html>".into()));
    faults.extend([
        Fault::LoseAnswer,
        Fault::Reset(0),
        Fault::Reset(middle),
        Fault::Truncate(0),
        Fault::Truncate(middle),
    ]);
    faults
}

fn a_pull_survives_what_passes(env: &Env) {
    let pushed = env.pushed(Kind::ThreeLayers, "faults");
    let image = env.image(Kind::ThreeLayers);
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let mut faults = passing(100);
        faults.extend([Fault::Corrupt(30), Fault::Corrupt(0), Fault::IgnoreRange]);
        for fault in faults {
            for part in [image.layers[0].as_str(), image.config.as_str()] {
                let folder = env.new_folder("faults").join("layout");
                proxy.fault("GET", part, 1, fault.clone());
                copy(&source(&client(), &through(&proxy.host(), &pushed)), &layout(&folder))
                    .await
                    .unwrap_or_else(|error| panic!("{fault:?} on {part}: {error}"));
                let found = layout(&folder).images().await.unwrap();
                assert_eq!(found[0].target.digest, digest(&image.digest));
                for blob in image.layers.iter().chain([&image.config]) {
                    let bytes = std::fs::read(folder.join("blobs").join(blob.replace(':', "/"))).unwrap();
                    assert_eq!(Digest::sha256(&bytes), digest(blob), "{fault:?} on {part}");
                }
            }
        }
        for fault in passing(100) {
            proxy.fault("GET", "/manifests/", 1, fault.clone());
            proxy.fault(
                "HEAD",
                "/manifests/",
                2,
                if let Fault::Answer(..) = fault { fault.clone() } else { Fault::LoseAnswer },
            );
            let repository = repository(&client(), &through(&proxy.host(), &pushed));
            let root = repository.resolve("v1").await.unwrap();
            repository.manifest(&root).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        }
    });
}

async fn layer(repository: &Repository) -> Descriptor {
    let (_, bytes) = repository.fetch("v1").await.unwrap();
    serde_json::from_slice::<Manifest>(&bytes).unwrap().layers.pop().unwrap()
}

fn what_goes_on_is_not_fetched_again(env: &Env) {
    let pushed = env.pushed(Kind::Big(8), "faults");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let repository = repository(&client(), &through(&proxy.host(), &pushed));
        let layer = layer(&repository).await;
        proxy.fault("GET", "/blobs/", 3, Fault::Reset(2 << 20));
        let whole = read_on(&repository, &layer).await;
        assert_eq!(Digest::sha256(&whole), layer.digest);
        let log = proxy.log();
        let starts: Vec<u64> = log
            .iter()
            .filter(|seen| seen.path.contains("/blobs/"))
            .map(|seen| seen.header("range").map_or(0, |r| r["bytes=".len()..].trim_end_matches('-').parse().unwrap()))
            .collect();
        assert_eq!(starts.len(), 4, "{starts:?}");
        assert!(starts[3] > 5 << 20 && starts.windows(2).all(|pair| pair[1] > pair[0]), "{starts:?}");
    });
}

fn always_wrong(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "faults");
    let blob = blob_of(env, Kind::Busybox);
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        for fault in [Fault::Corrupt(7), Fault::Lengthen] {
            let folder = env.new_folder("faults").join("layout");
            proxy.fault("GET", &blob, 50, fault.clone());
            let from = source(&client(), &through(&proxy.host(), &pushed));
            let error = copy(&from, &layout(&folder)).await.unwrap_err();
            assert_eq!(error.kind(), FailureKind::Integrity, "{fault:?}: {error}");
            check_message(&error, &[&blob]);
            assert!(!folder.join("blobs").join(blob.replace(':', "/")).exists());
            // Into a registry, whose own check is the one that counts.
            proxy.clear();
            let target = format!("{}:v1", env.repository("faults"));
            let error = copy(&from, &sink(&client(), &target)).await.unwrap_err();
            assert_eq!(error.kind(), FailureKind::Integrity, "{fault:?}: {error}");
            assert!(proxy.count("GET", &blob) <= 2, "{fault:?}");
            proxy.forgive();
        }
    });
}

fn a_push_survives_what_passes(env: &Env) {
    let pushed = env.pushed(Kind::ThreeLayers, "faults");
    let image = env.image(Kind::ThreeLayers);
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let mut faults: Vec<Fault> = [408, 429, 500, 502, 503, 504].into_iter().map(Fault::status).collect();
        faults.extend([Fault::LoseAnswer, Fault::ResetRequest(0)]);
        for fault in faults {
            for (method, part) in
                [("HEAD", "/blobs/"), ("POST", "/blobs/uploads/"), ("PUT", "/blobs/uploads/"), ("PUT", "/manifests/")]
            {
                let target = format!("{}/{}:v1", proxy.host(), env.fresh("faults"));
                proxy.fault(method, part, 1, fault.clone());
                let client = client();
                copy(&source(&client, &pushed), &sink(&client, &target))
                    .await
                    .unwrap_or_else(|error| panic!("{fault:?} on {method} {part}: {error}"));
                let found = repository(&super::support::client(), &target).fetch("v1").await.unwrap();
                assert_eq!(found.0.digest, digest(&image.digest));
                proxy.forgive();
            }
        }
    });
}

fn a_stalled_download(env: &Env) {
    let pushed = env.pushed(Kind::Big(4), "faults");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let mut config = quick();
        config.timeouts.stall = Duration::from_secs(2);
        let repository = repository(&Client::new(config), &through(&proxy.host(), &pushed));
        let layer = layer(&repository).await;
        proxy.fault("GET", "/blobs/", 1, Fault::Stall(1 << 20));
        let whole = read_on(&repository, &layer).await;
        assert_eq!(Digest::sha256(&whole), layer.digest);
        assert_eq!(proxy.count("GET", "/blobs/"), 2);
        assert!(proxy.log().last().unwrap().header("range").is_some());
    });
}

fn retry_after_is_heard(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "faults");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let client = client();
        let repository = repository(&client, &through(&proxy.host(), &pushed));
        repository.resolve("v1").await.unwrap();
        let wait = vec![("Retry-After", "1".to_owned())];
        proxy.fault("HEAD", "/manifests/", 1, Fault::Answer(429, wait, String::new()));
        let begin = Instant::now();
        repository.resolve("v1").await.unwrap();
        assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());

        // All who ask the host hear it, whatever they ask.
        let wait = vec![("Retry-After", "1".to_owned())];
        proxy.fault("GET", "/tags/", 1, Fault::Answer(503, wait, String::new()));
        proxy.clear();
        let begin = Instant::now();
        let late = async {
            while proxy.log().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            repository.resolve("v1").await.unwrap();
            begin.elapsed()
        };
        let (tags, late) = tokio::join!(repository.tags(), late);
        tags.unwrap();
        assert!(late >= Duration::from_secs(1), "{late:?}");
    });
}

fn a_wait_that_is_too_long(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "faults");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let repository = repository(&client(), &through(&proxy.host(), &pushed));
        let wait = vec![("Retry-After", "3600".to_owned())];
        proxy.fault("HEAD", "/manifests/", 1, Fault::Answer(429, wait, String::new()));
        let error = repository.resolve("v1").await.unwrap_err();
        check_message(&error, &["asks to wait 1h"]);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
        assert!(!error.retryable());
        // Nor is it asked again before that.
        assert!(repository.tags().await.is_err());
        assert_eq!(proxy.log().len(), 1);
    });
}

fn given_up(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "faults");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let mut config = quick();
        config.retry.retries = 3;
        let repository = repository(&Client::new(config), &through(&proxy.host(), &pushed));
        proxy.fault("HEAD", "", 99, Fault::status(502));
        let error = repository.resolve("v1").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unavailable);
        check_message(&error, &["502", &proxy.host()]);
        assert_eq!(proxy.log().len(), 4);

        let refused = vec![("Content-Type", "application/json".to_owned())];
        let body = r#"{"errors":[{"code":"DENIED","message":"go away\u001b[2J"}]}"#.to_owned();
        proxy.fault("GET", "/tags/", 1, Fault::Answer(403, refused, body));
        let error = repository.tags().await.unwrap_err();
        check_message(&error, &["DENIED: go away\\u{1b}[2J"]);
        assert_eq!(error.kind(), FailureKind::Unauthorized);
    });
}
