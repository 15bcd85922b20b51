//! Image records, namespaces, leases and snapshots.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use ctrsh::containerd::Labels;
use ctrsh::containerd::images::Deletion;
use ctrsh::containerd::leases::Resource;
use ctrsh::containerd::snapshots::Kind as Snapshot;
use ctrsh::kind::{Failure, Kind};
use ctrsh::oci::{Descriptor, Digest, MediaType};
use futures_util::TryStreamExt;
use libtest_mimic::Trial;

use super::client;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("containerd::images::records_live_their_life", env, images),
        trial("containerd::namespaces::live_their_life", env, namespaces),
        trial("containerd::leases::keep_by_the_daemons_clock", env, leases),
        trial("containerd::snapshots::live_their_life", env, snapshots),
    ]
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn target(text: &str) -> Descriptor {
    Descriptor::new(MediaType::OciManifest, Digest::sha256(text.as_bytes()), text.len() as u64)
}

fn images(env: &Env) {
    env.block_on(async {
        let images = client(env, "images").await.images();
        let name = "images.test/a:1";
        let error = images.get(name).await.unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), format!("get image {name}: not found"));
        let made = images.create(name, &target("one"), &labels(&[("a", "1"), ("b", "2")])).await.unwrap();
        assert_eq!((made.name.as_str(), &made.target), (name, &target("one")));
        assert!((Utc::now() - made.created_at).abs() < TimeDelta::minutes(1));
        assert!(images.create(name, &target("one"), &Labels::new()).await.unwrap_err().is_already_exists());

        // Whatever is not named stays: CRI would lose its images otherwise.
        let moved = images.put(name, &target("two"), &labels(&[("b", "3")])).await.unwrap();
        assert_eq!(moved.target, target("two"));
        assert_eq!(moved.labels, labels(&[("a", "1"), ("b", "3")]));
        let labelled = images.set_labels(name, &labels(&[("a", ""), ("c", "4")])).await.unwrap();
        assert_eq!(labelled.labels, labels(&[("b", "3"), ("c", "4")]));
        assert_eq!(labelled.target, target("two"));

        // A name that could command a terminal is stored, listed, and escaped in messages.
        let odd = "images.test/\u{1b}[31mred\n:1";
        images.create(odd, &target("odd"), &Labels::new()).await.unwrap();
        assert_eq!(images.list(&[]).await.unwrap().len(), 2);
        let found = images.list(&[format!("name=={name}")]).await.unwrap();
        assert_eq!(found, [labelled]);
        let error = images.create(odd, &target("odd"), &Labels::new()).await.unwrap_err().to_string();
        assert!(!error.contains(['\u{1b}', '\n']), "{error:?}");

        images.delete(odd, None, Deletion::Later).await.unwrap();
        images.delete(name, Some(&target("two")), Deletion::Synchronous).await.unwrap();
        assert!(images.delete(name, None, Deletion::Later).await.unwrap_err().is_not_found());
        let error = images.create("images.test/empty", &Descriptor { size: 0, ..target("x") }, &Labels::new()).await;
        assert_eq!(error.unwrap_err().kind(), Kind::Usage);
    });
}

fn namespaces(env: &Env) {
    env.block_on(async {
        let client = client(env, "namespaces").await;
        let namespaces = client.namespaces();
        let name = env.fresh("namespaces");
        let error = namespaces.create("no spaces", &Labels::new()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "'no spaces' cannot be a namespace: only letters, digits and . _ - may stand in it"
        );
        namespaces.create(&name, &labels(&[("a", "1")])).await.unwrap();
        assert!(namespaces.create(&name, &Labels::new()).await.unwrap_err().is_already_exists());
        namespaces.set_labels(&name, &labels(&[("b", "2")])).await.unwrap();
        assert_eq!(namespaces.get(&name).await.unwrap().labels, labels(&[("a", "1"), ("b", "2")]));
        assert!(namespaces.list().await.unwrap().iter().any(|n| n.name == name));

        let inside = client.in_namespace(&name).unwrap();
        assert_eq!(inside.default_snapshotter().await.unwrap(), "overlayfs");
        namespaces.set_labels(&name, &labels(&[("containerd.io/defaults/snapshotter", "native")])).await.unwrap();
        assert_eq!(inside.default_snapshotter().await.unwrap(), "native");
        inside.images().create("namespaces.test/a:1", &target("x"), &Labels::new()).await.unwrap();
        assert_eq!(namespaces.delete(&name).await.unwrap_err().kind(), Kind::Conflict);
        inside.images().delete("namespaces.test/a:1", None, Deletion::Synchronous).await.unwrap();
        namespaces.delete(&name).await.unwrap();
        assert!(namespaces.list().await.unwrap().iter().all(|n| n.name != name));
    });
}

fn leases(env: &Env) {
    env.block_on(async {
        let client = client(env, "leases").await;
        let leases = client.leases();
        let lease = leases.create(Duration::from_secs(3600), &labels(&[("a", "1")])).await.unwrap();
        let life = lease.expires_at().unwrap() - lease.created_at;
        assert!((life - TimeDelta::hours(1)).abs() < TimeDelta::seconds(10), "{life}");
        assert_eq!(leases.find(&lease.id).await.unwrap().unwrap().labels["a"], "1");
        let blob = Resource::Content(Digest::sha256(b"leases"));
        leases.add_resource(&lease.id, &blob).await.unwrap();
        assert_eq!(leases.resources(&lease.id).await.unwrap(), [blob]);
        leases.delete(&lease.id, Deletion::Synchronous).await.unwrap();
        leases.delete(&lease.id, Deletion::Synchronous).await.unwrap();
        assert_eq!(leases.list(&[]).await.unwrap(), []);
    });
}

fn snapshots(env: &Env) {
    env.block_on(async {
        // Under a lease, because other tests make the collector run.
        let client = client(env, "snapshots").await;
        let lease = client.leases().create(Duration::from_secs(600), &Labels::new()).await.unwrap();
        let client = client.with_lease(&lease.id).unwrap();
        let snapshots = client.snapshots("overlayfs");
        let mounts = snapshots.prepare("work", None, &labels(&[("a", "1")])).await.unwrap();
        assert_eq!(mounts.len(), 1);
        assert_eq!(snapshots.mounts("work").await.unwrap(), mounts);
        assert!(snapshots.prepare("work", None, &Labels::new()).await.unwrap_err().is_already_exists());
        snapshots.commit("base", "work", &labels(&[("b", "2")])).await.unwrap();
        let base = snapshots.stat("base").await.unwrap();
        assert_eq!((base.kind, base.parent.as_deref()), (Snapshot::Committed, None));
        snapshots.view("look", Some("base"), &Labels::new()).await.unwrap();
        let error = snapshots.prepare("orphan", Some("nothing"), &Labels::new()).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert_eq!(snapshots.remove("base").await.unwrap_err().kind(), Kind::Conflict);
        let all: Vec<_> = snapshots.list(&[]).await.unwrap().try_collect().await.unwrap();
        assert_eq!(all.len(), 2);
        assert!(all.iter().any(|s| s.kind == Snapshot::View && s.parent.as_deref() == Some("base")));
        let labelled = snapshots.set_labels("base", &labels(&[("c", "3")])).await.unwrap();
        assert_eq!(labelled.labels["c"], "3");
        assert!(snapshots.usage("base").await.unwrap().inodes > 0);
        for key in ["look", "base"] {
            snapshots.remove(key).await.unwrap();
        }
        let error = client.snapshots("nonsense").stat("x").await.unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
    });
}
