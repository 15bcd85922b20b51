//! What the guard lets pass, and how a refusal comes back.

use ctrsh::containerd::{Client, Error, Fault};
use ctrsh::grant::{Access, Allow, Grant, Refused};
use ctrsh::kind::{Failure, Kind};
use ctrsh::oci::{Descriptor, Digest, MediaType};
use libtest_mimic::Trial;
use tokio_util::sync::CancellationToken;

use super::client;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("containerd::guard::a_plan_reads_and_changes_nothing", env, a_plan),
        trial("containerd::guard::a_class_that_is_missing_is_named", env, denied),
        trial("containerd::guard::after_a_cancel_only_undoing_goes_on", env, cancelled),
        trial("containerd::guard::calls_act_in_their_namespace_and_lease", env, headers),
    ]
}

async fn create(client: &Client, name: &str) -> Result<(), Error> {
    let target = Descriptor::new(MediaType::OciManifest, Digest::sha256(name.as_bytes()), 7);
    client.images().create(name, &target, &Default::default()).await.map(|_| ())
}

fn a_plan(env: &Env) {
    env.block_on(async {
        let client = client(env, "guard").await;
        let planning = client.planning();
        assert!(planning.images().list(&[]).await.unwrap().is_empty());
        let error = create(&planning, "guard.test/planned:1").await.unwrap_err();
        let subject = format!("containerd/{}", client.namespace());
        let action = "Images/Create".to_owned();
        assert!(matches!(&error, Error::Refused(r) if *r == Refused::Planning { action, subject }), "{error:?}");
        let error =
            planning.leases().create(std::time::Duration::from_secs(60), &Default::default()).await.unwrap_err();
        assert!(matches!(error, Error::Refused(Refused::Planning { .. })), "{error:?}");
        let blob = Descriptor::new(MediaType::OciConfig, Digest::sha256(b"x"), 1);
        let error = planning.content().open(&blob, &Default::default()).await.unwrap_err();
        assert!(matches!(error, Error::Refused(Refused::Planning { .. })), "{error:?}");
        assert!(client.images().list(&[]).await.unwrap().is_empty());
        assert!(client.content().statuses(&[]).await.unwrap().is_empty());
    });
}

fn denied(env: &Env) {
    env.block_on(async {
        let all = client(env, "guard").await;
        let only = |allow: Allow| all.with_grant(&Grant::new(allow, CancellationToken::new()));
        let error = create(&only(Allow::of(&[Access::Read])), "guard.test/denied:1").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert_eq!(
            error.to_string(),
            format!("Images/Create needs 'write' access to containerd/{}, which was not granted", all.namespace())
        );
        let elsewhere: Allow = "read,write=containerd/elsewhere".parse().unwrap();
        assert_eq!(create(&only(elsewhere), "guard.test/denied:1").await.unwrap_err().kind(), Kind::Denied);
        let here: Allow = format!("write=containerd/{}", all.namespace()).parse().unwrap();
        create(&only(here.clone()), "guard.test/granted:1").await.unwrap();
        let error = only(here).images().delete("guard.test/granted:1", None, Default::default()).await.unwrap_err();
        assert!(matches!(error, Error::Refused(Refused::Denied { access: Access::Delete, .. })), "{error:?}");
    });
}

fn cancelled(env: &Env) {
    env.block_on(async {
        let cancel = CancellationToken::new();
        let client = client(env, "guard")
            .await
            .with_grant(&Grant::new(Allow::of(&[Access::Read, Access::Write]), cancel.clone()));
        // Other tests make the collector run.
        let lease = client.leases().create(std::time::Duration::from_secs(600), &Default::default()).await.unwrap();
        let client = client.with_lease(&lease.id).unwrap();
        let snapshots = client.snapshots("native");
        snapshots.prepare("guard", None, &Default::default()).await.unwrap();
        cancel.cancel();
        let error = client.images().list(&[]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled);
        assert!(matches!(snapshots.remove("guard").await, Err(Error::Refused(Refused::Cancelled))));
        let undoing = client.undoing().snapshots("native");
        undoing.remove("guard").await.unwrap();
        assert!(undoing.stat("guard").await.unwrap_err().is_not_found());
    });
}

fn headers(env: &Env) {
    env.block_on(async {
        let here = client(env, "guard").await;
        let there = here.in_namespace(&env.namespace("guard")).unwrap();
        create(&here, "guard.test/headers:1").await.unwrap();
        assert_eq!(there.images().list(&[]).await.unwrap(), []);
        assert!(env.ctr(&["-n", here.namespace(), "images", "ls", "-q"]).ok().contains("guard.test/headers:1"));

        let lease = here.leases().create(std::time::Duration::from_secs(600), &Default::default()).await.unwrap();
        let leased = here.with_lease(&lease.id).unwrap();
        leased.snapshots("native").prepare("leased", None, &Default::default()).await.unwrap();
        let kept = here.leases().resources(&lease.id).await.unwrap();
        assert_eq!(kept.len(), 1, "{kept:?}");
        here.leases().delete(&lease.id, ctrsh::containerd::images::Deletion::Synchronous).await.unwrap();
        assert!(here.snapshots("native").stat("leased").await.unwrap_err().is_not_found());
        let error = leased.snapshots("native").prepare("again", None, &Default::default()).await.unwrap_err();
        assert_eq!(error.fault(), Some(Fault::LeaseGone), "{error}");
    });
}
