//! Tags, repositories, referrers, and deleting.

use bytes::Bytes;
use ctrsh::kind::{Failure, Kind as FailureKind};
use ctrsh::oci::{Descriptor, Digest, MediaType};
use ctrsh::registry::{Options, Repository};
use libtest_mimic::Trial;
use serde_json::json;

use super::support::{check_message, client, digest, grant, repository, through};
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::lists::tags_are_read_page_by_page", env, tags_are_read_page_by_page),
        trial("registry::lists::a_page_elsewhere_is_not_followed", env, a_page_elsewhere),
        trial("registry::lists::repositories", env, repositories),
        trial("registry::lists::referrers_without_a_list_of_the_registry", env, referrers),
        trial("registry::lists::referrers_of_a_registry_that_lists_them", env, listed_referrers),
        trial("registry::lists::deleting", env, deleting),
    ]
}

fn page(tags: &[&str], link: &str) -> Fault {
    let headers = vec![("Content-Type", "application/json".to_owned()), ("Link", link.to_owned())];
    Fault::Answer(200, headers, json!({ "name": "x", "tags": tags }).to_string())
}

fn tags_are_read_page_by_page(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "lists");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let repository = repository(&client(), &through(&proxy.host(), &pushed));
        assert_eq!(repository.tags().await.unwrap(), ["v1"]);
        let next = format!("</v2/{}/tags/list?last=b&n=1000>; rel=\"next\"", repository.name());
        proxy.fault("GET", "/tags/list?n=", 1, page(&["a", "b"], &next));
        assert_eq!(repository.tags().await.unwrap(), ["a", "b", "v1"]);
        proxy.fault("GET", "/tags/list", 1, Fault::Answer(200, vec![], r#"{"name":"x","tags":null}"#.into()));
        assert!(repository.tags().await.unwrap().is_empty());
    });
}

fn a_page_elsewhere(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "lists");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let other = FaultProxy::start(&env.registry()).await;
        let repository = repository(&client(), &through(&proxy.host(), &pushed));
        let next = format!("<http://{}/v2/{}/tags/list?last=b>; rel=\"next\"", other.host(), repository.name());
        proxy.fault("GET", "/tags/list", 1, page(&["a"], &next));
        check_message(&repository.tags().await.unwrap_err(), &["same host", &other.host()]);
        let next = format!("</v2/{}/tags/list?n=1000>; rel=\"next\"", repository.name());
        proxy.fault("GET", "/tags/list", 1, page(&["a"], &next));
        check_message(&repository.tags().await.unwrap_err(), &["the page itself"]);
        // A list that runs in a circle has an end all the same.
        let link = |last: &str| format!("</v2/{}/tags/list?last={last}>; rel=\"next\"", repository.name());
        proxy.fault("GET", "/tags/list?n=", 1, page(&["a"], &link("a")));
        proxy.fault("GET", "last=a", 99, page(&["b"], &link("b")));
        proxy.fault("GET", "last=b", 99, page(&["c"], &link("a")));
        check_message(&repository.tags().await.unwrap_err(), &["one that came before"]);
        assert_eq!(proxy.count("GET", "last="), 2);
        proxy.fault("GET", "/tags/list", 1, Fault::Answer(200, vec![], "[]".into()));
        check_message(&repository.tags().await.unwrap_err(), &["not the list"]);
        assert!(other.log().is_empty());
    });
}

fn repositories(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "lists");
    env.block_on(async {
        let registry = client().registry(&env.registry(), &grant(), &Options::default());
        registry.ping().await.unwrap();
        let names = registry.repositories().await.unwrap();
        let own = repository(&client(), &pushed);
        assert!(names.iter().any(|name| name == own.name()), "{names:?}");
    });
}

/// Pushes a manifest that refers to another.
pub async fn artifact(repository: &Repository, subject: &Descriptor, artifact_type: &str) -> Descriptor {
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2 });
    let upload = repository.upload().await.unwrap();
    let descriptor: Descriptor = serde_json::from_value(empty.clone()).unwrap();
    let mut writer: Box<dyn ctrsh::oci::store::BlobWriter> = Box::new(upload.writer(&descriptor));
    writer.write(Bytes::from_static(b"{}")).await.map_err(|e| e.to_string()).unwrap();
    writer.commit().await.map_err(|e| e.to_string()).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": artifact_type,
        "config": empty, "layers": [empty], "subject": subject, "annotations": { "who": "test" },
    });
    let bytes = Bytes::from(serde_json::to_vec(&manifest).unwrap());
    let own = Descriptor::new(MediaType::OciManifest, Digest::sha256(&bytes), bytes.len() as u64);
    repository.put_manifest(own.digest.as_str(), &own, bytes).await.unwrap();
    own
}

fn referrers(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "lists");
    env.block_on(async {
        let repository = repository(&client(), &pushed);
        let subject = repository.resolve("v1").await.unwrap();
        assert!(repository.referrers(&subject.digest, None).await.unwrap().is_empty());
        let first = artifact(&repository, &subject, "application/x-signature").await;
        let second = artifact(&repository, &subject, "application/x-sbom").await;
        // Pushed again, it is not listed twice.
        artifact(&repository, &subject, "application/x-sbom").await;
        let all = repository.referrers(&subject.digest, None).await.unwrap();
        let digests: Vec<_> = all.iter().map(|d| &d.digest).collect();
        assert_eq!(digests, [&first.digest, &second.digest]);
        assert_eq!(all[0].annotations.get("who").map(String::as_str), Some("test"));
        let signatures = repository.referrers(&subject.digest, Some("application/x-signature")).await.unwrap();
        assert_eq!(signatures.len(), 1);
        assert_eq!(signatures[0].artifact_type.as_deref(), Some("application/x-signature"));
    });
}

fn listed_referrers(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "lists");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let repository = repository(&client(), &through(&proxy.host(), &pushed));
        let subject = repository.resolve("v1").await.unwrap();
        let entry = |artifact_type: &str| json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject.digest, "size": 3, "artifactType": artifact_type,
        });
        let index = json!({ "schemaVersion": 2, "manifests": [entry("application/a"), entry("application/b")] });
        let headers = vec![("Content-Type", "application/vnd.oci.image.index.v1+json".to_owned())];
        proxy.fault("GET", "/referrers/", 1, Fault::Answer(200, headers, index.to_string()));
        let found = repository.referrers(&subject.digest, Some("application/b")).await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(proxy.log().iter().any(|seen| seen.path.ends_with("?artifactType=application%2Fb")));
        // A registry that is too old for the path may answer with a page.
        let page = Fault::Answer(404, vec![("Content-Type", "text/html".into())], "<html></html>".into());
        proxy.fault("GET", "/referrers/", 1, page);
        assert!(repository.referrers(&subject.digest, None).await.unwrap().is_empty());
    });
}

fn deleting(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "lists");
    env.block_on(async {
        let repository = repository(&client(), &pushed);
        let root = digest(&env.image(Kind::Busybox).digest);
        repository.delete_manifest(&root).await.unwrap();
        assert_eq!(repository.resolve("v1").await.unwrap_err().kind(), FailureKind::NotFound);
        assert!(!repository.has_manifest(&root).await.unwrap());
        let error = repository.delete_manifest(&root).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::NotFound, "{error}");
    });
}
