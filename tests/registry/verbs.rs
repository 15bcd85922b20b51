//! Registries without a pull: lists, digests, documents, sizes, referrers and deletions, compared with what skopeo sees.

use std::collections::BTreeMap;

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::{Matcher, Reference};
use ctrsh::ops::registry::{self, Address, Delete, Deleted};
use ctrsh::registry::{Config, Options};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::lists::artifact;
use super::support::{check_message, reference, repository, through};
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::{Env, Kind, trial};
use crate::ops::stage::Stage;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::verbs::repositories_come_page_by_page", env, repositories),
        trial("registry::verbs::a_registry_without_a_list_says_so", env, without_a_list),
        trial("registry::verbs::what_is_read_is_what_skopeo_reads", env, as_skopeo),
        trial("registry::verbs::a_size_counts_each_digest_once", env, sizes),
        trial("registry::verbs::referrers_by_the_tag_that_stands_in", env, referrers),
        trial("registry::verbs::a_tag_alone_is_deleted_for_good", env, delete_tag),
        trial("registry::verbs::tags_of_one_digest_go_together_only_when_that_was_said", env, delete_shared),
        trial("registry::verbs::a_registry_that_deletes_tags_is_asked_for_that_alone", env, delete_only_tag),
        trial("registry::verbs::a_registry_that_deletes_nothing_says_so", env, delete_refused),
        trial("registry::verbs::a_dry_run_deletes_nothing_and_goes_on_without_it", env, delete_dry),
    ]
}

fn none() -> Options {
    Options::default()
}

/// Pushes an image under several tags of a new repository; returns the repository.
fn tagged(env: &Env, kind: Kind, tags: &[&str]) -> String {
    let repository = env.repository("verbs");
    for tag in tags {
        env.push(&env.image(kind), &format!("{repository}:{tag}"));
    }
    repository
}

fn skopeo(env: &Env, arguments: &[&str], image: &str) -> String {
    let image = format!("docker://{image}");
    env.skopeo(&[&["inspect", "--tls-verify=false"], arguments, &[&image]].concat()).ok()
}

fn repositories(env: &Env) {
    let project = env.repository("verbs");
    let (host, path) = project.split_once('/').unwrap();
    let names = ["a/one", "a/two", "b/one", "c", "d"];
    for name in names {
        env.push(&env.image(Kind::Busybox), &format!("{project}/{name}:v1"));
    }
    let proxy = env.block_on(FaultProxy::start(host));
    let mut config = Config::default();
    config.limits.page = 3;
    let stage = Stage::with_registry(env, "verbs", config);
    let list = |globs: &[&str]| {
        let address = Address::parse(&format!("{}/{path}", proxy.host())).unwrap();
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        let found = env.block_on(registry::repositories(&stage.ctx, &address, &globs, &none()));
        let names = found.map(|found| found.iter().map(|one| one.repository().to_owned()).collect::<Vec<_>>());
        names.map(|names| names.iter().map(|name| name.strip_prefix(path).unwrap()[1..].to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(list(&[]).unwrap(), names);
    let pages = proxy.log().iter().filter(|seen| seen.path.contains("_catalog")).count();
    assert!(pages > 1, "all came in one page");
    assert!(proxy.log().iter().all(|seen| seen.path.contains("n=3")), "{:?}", proxy.log());
    assert_eq!(list(&["*/one"]).unwrap(), ["a/one", "b/one"]);
    assert_eq!(list(&["c", "a/*"]).unwrap(), ["a/one", "a/two", "c"]);
    assert_eq!(list(&["*"]).unwrap(), ["c", "d"]);
    assert_eq!(list(&["["]).unwrap_err().kind(), Failed::Usage);
}

fn without_a_list(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let address = Address::parse(&proxy.host()).unwrap();
    let codes = |code: &str| json!({ "errors": [{ "code": code, "message": "no" }] }).to_string();
    for (status, body, kind) in [
        (401, codes("UNAUTHORIZED"), Failed::Unauthorized),
        (403, codes("DENIED"), Failed::Unauthorized),
        (404, codes("NAME_UNKNOWN"), Failed::NotFound),
        (405, codes("UNSUPPORTED"), Failed::Conflict),
    ] {
        proxy.fault(
            "GET",
            "_catalog",
            9,
            Fault::Answer(status, vec![("Content-Type", "application/json".into())], body),
        );
        let error = env.block_on(registry::repositories(&stage.ctx, &address, &[], &none())).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        check_message(&error, &["does not list its repositories", &status.to_string(), &proxy.host()]);
        assert!(error.hint().unwrap().contains("name the repositories yourself"), "{:?}", error.hint());
        proxy.forgive();
    }
    // What may pass is not taken for a refusal.
    proxy.fault("GET", "_catalog", 99, Fault::Answer(429, vec![("Retry-After", "4000".into())], String::new()));
    let error = env.block_on(registry::repositories(&stage.ctx, &address, &[], &none())).unwrap_err();
    assert_eq!(error.kind(), Failed::Unavailable, "{error}");
}

fn as_skopeo(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    for kind in [Kind::Busybox, Kind::Docker, Kind::Index, Kind::ThreeLayers] {
        let pushed = env.pushed(kind, "verbs");
        let image = reference(&pushed);
        let raw = skopeo(env, &["--raw"], &pushed);
        env.block_on(async {
            let ctx = &stage.ctx;
            let found = registry::resolve(ctx, &image, None, &none()).await.unwrap();
            if kind == Kind::Docker {
                // skopeo writes the manifest anew, and gives its digest.
                assert_eq!(found.digest.as_str(), skopeo(env, &["--format", "{{.Digest}}"], &pushed).trim());
            } else {
                assert_eq!(found.digest.as_str(), env.image(kind).digest);
            }
            let (document, bytes) = registry::document(ctx, &image, None, &none()).await.unwrap();
            assert_eq!((document.digest, std::str::from_utf8(&bytes).unwrap()), (found.digest.clone(), raw.trim_end()));
            let host = Matcher::host();
            let own = registry::resolve(ctx, &image, Some(&host), &none()).await.unwrap();
            assert_eq!(own.digest == found.digest, kind != Kind::Index, "{kind:?}");
            if kind != Kind::Docker {
                assert_eq!(own.digest.as_str(), env.image(kind).manifest);
            }
            let config = registry::config(ctx, &image, &host, &none()).await.unwrap();
            let theirs: Value = serde_json::from_str(&skopeo(env, &["--config", "--raw"], &pushed)).unwrap();
            assert_eq!(config, theirs, "{kind:?}");
            let nowhere = Matcher::Any(vec!["windows/arm64".parse().unwrap()]);
            let error = registry::resolve(ctx, &image, Some(&nowhere), &none()).await;
            assert_eq!(error.is_err(), kind == Kind::Index, "a manifest stands for itself");
        });
    }
    let missing = reference(&format!("{}:v1", env.repository("verbs")));
    let error = env.block_on(registry::resolve(&stage.ctx, &missing, None, &none())).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    // A registry that knows no HEAD is asked by GET, and the digest worked out.
    let pushed = env.pushed(Kind::Busybox, "verbs");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        proxy.fault("HEAD", "/manifests/", 9, Fault::status(405));
        let image = reference(&through(&proxy.host(), &pushed));
        let found = registry::resolve(&stage.ctx, &image, None, &none()).await.unwrap();
        assert_eq!(found.digest.as_str(), env.image(Kind::Busybox).digest);
        assert_eq!(proxy.count("GET", "/manifests/"), 1);
    });
}

/// Adds up an image by its layout's files.
fn by_hand(env: &Env, kind: Kind, root: &str) -> u64 {
    fn visit(image: &crate::harness::image::Image, digest: &str, seen: &mut BTreeMap<String, u64>) {
        let bytes = std::fs::read(image.blob(digest)).unwrap();
        seen.insert(digest.to_owned(), bytes.len() as u64);
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        for child in document["manifests"].as_array().into_iter().flatten() {
            visit(image, child["digest"].as_str().unwrap(), seen);
        }
        let layers = document["layers"].as_array().into_iter().flatten().chain(document.get("config"));
        for blob in layers {
            seen.insert(blob["digest"].as_str().unwrap().to_owned(), blob["size"].as_u64().unwrap());
        }
    }
    let mut seen = BTreeMap::new();
    visit(&env.image(kind), root, &mut seen);
    seen.values().sum()
}

fn sizes(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    let size = |pushed: &str, matcher: &Matcher| {
        env.block_on(registry::size(&stage.ctx, &reference(pushed), matcher, &none())).unwrap()
    };
    let (index, single) = (env.pushed(Kind::Index, "verbs"), env.pushed(Kind::ThreeLayers, "verbs"));
    let image = env.image(Kind::Index);
    let whole = by_hand(env, Kind::Index, &image.digest);
    assert_eq!(size(&index, &Matcher::All), whole);
    let own = by_hand(env, Kind::Index, &image.manifest) + std::fs::metadata(image.blob(&image.digest)).unwrap().len();
    assert_eq!(size(&index, &Matcher::host()), own);
    assert!(own < whole);
    let three = env.image(Kind::ThreeLayers);
    assert_eq!(size(&single, &Matcher::All), by_hand(env, Kind::ThreeLayers, &three.digest));
}

fn referrers(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    let pushed = env.pushed(Kind::Busybox, "verbs");
    env.block_on(async {
        let list = async |artifact_type: Option<&str>| {
            let found = registry::referrers(&stage.ctx, &reference(&pushed), artifact_type, &none()).await.unwrap();
            found.into_iter().map(|one| one.digest).collect::<Vec<_>>()
        };
        assert!(list(None).await.is_empty());
        let repository = repository(stage.ctx.registry(), &pushed);
        let subject = repository.resolve("v1").await.unwrap();
        let signature = artifact(&repository, &subject, "application/x-signature").await.digest;
        let sbom = artifact(&repository, &subject, "application/spdx+json").await.digest;
        assert_eq!(list(None).await, [signature, sbom.clone()]);
        assert_eq!(list(Some("application/spdx+json")).await, [sbom]);
        assert!(list(Some("application/nope")).await.is_empty());
    });
}

fn delete(stage: &Stage, image: &str, all_tags: bool) -> ctrsh::ops::Result<Deleted> {
    stage.run(Delete::new(reference(image), all_tags, none()))
}

/// Returns the tags that the registry still lists, as skopeo sees them.
fn left(env: &Env, repository: &str) -> Vec<String> {
    let output = env.skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{repository}")]).ok();
    let list: Value = serde_json::from_str(&output).unwrap();
    let mut tags: Vec<String> = serde_json::from_value(list["Tags"].clone()).unwrap_or_default();
    tags.sort();
    tags
}

/// Returns the status that the registry answers a HEAD with.
fn status(env: &Env, stage: &Stage, image: &Reference) -> Option<u16> {
    let client = stage.ctx.registry();
    let repository = client.repository(image.registry(), image.repository(), stage.ctx.grant(), &none());
    let answer = env.block_on(repository.resolve(image.selector()));
    answer.err().map(|error| error.status().unwrap().as_u16())
}

fn delete_tag(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    let repository = tagged(env, Kind::Busybox, &["v1"]);
    env.push(&env.image(Kind::ThreeLayers), &format!("{repository}:other"));
    let (image, digest) = (format!("{repository}:v1"), env.image(Kind::Busybox).digest);
    let denied = stage.allowing(Allow::of(&[Access::Read, Access::Write]));
    let error = stage.run_in(&denied, Delete::new(reference(&image), false, none())).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied, "{error}");
    let elsewhere = stage.allowing("read,delete=other.example/**".parse().unwrap());
    let error = stage.run_in(&elsewhere, Delete::new(reference(&image), false, none())).unwrap_err();
    assert!(error.to_string().contains(&repository), "{error}");
    assert_eq!(left(env, &repository), ["other", "v1"]);
    let here = stage.allowing(format!("read,delete={repository}").parse().unwrap());
    let deleted = stage.run_in(&here, Delete::new(reference(&image), false, none())).unwrap();
    assert_eq!((deleted.digest.as_str(), &deleted.tags[..]), (digest.as_str(), &["v1".to_owned()][..]));
    assert_eq!(status(env, &stage, &reference(&image)), Some(404));
    assert_eq!(status(env, &stage, &reference(&format!("{repository}@{digest}"))), Some(404));
    assert_eq!(left(env, &repository), ["other"]);
    let error = delete(&stage, &image, false).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
}

fn delete_shared(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    let repository = tagged(env, Kind::Busybox, &["v1", "v2", "v3"]);
    env.push(&env.image(Kind::ThreeLayers), &format!("{repository}:other"));
    let error = delete(&stage, &format!("{repository}:v2"), false).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    check_message(&error, &["does not delete a tag alone", "v1, v3 would go with it"]);
    assert!(error.hint().unwrap().contains("all_tags"), "{:?}", error.hint());
    assert_eq!(left(env, &repository), ["other", "v1", "v2", "v3"]);
    let deleted = delete(&stage, &format!("{repository}:v2"), true).unwrap();
    assert_eq!(deleted.tags, ["v2", "v1", "v3"]);
    assert_eq!(left(env, &repository), ["other"]);
    // By digest all tags go, as was said.
    let digest = env.image(Kind::ThreeLayers).digest;
    let deleted = delete(&stage, &format!("{repository}@{digest}"), false).unwrap();
    assert_eq!(deleted.tags, ["other"]);
    assert_eq!(status(env, &stage, &reference(&format!("{repository}:other"))), Some(404));
}

fn delete_only_tag(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    let repository = tagged(env, Kind::Busybox, &["v1", "v2"]);
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let there = through(&proxy.host(), &repository);
    proxy.fault("DELETE", "/manifests/v1", 1, Fault::status(202));
    let deleted = delete(&stage, &format!("{there}:v1"), false).unwrap();
    assert_eq!(deleted.tags, ["v1"]);
    let deletions: Vec<_> = proxy.log().into_iter().filter(|seen| seen.method == "DELETE").collect();
    assert_eq!(deletions.len(), 1, "{deletions:?}");
    assert_eq!(left(env, &repository), ["v1", "v2"], "the digest was left alone");
}

fn delete_refused(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    let repository = tagged(env, Kind::Busybox, &["v1"]);
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let there = through(&proxy.host(), &repository);
    // As Docker's registry answers without storage.delete.enabled.
    let body = json!({ "errors": [{ "code": "UNSUPPORTED", "message": "The operation is unsupported." }] }).to_string();
    proxy.fault(
        "DELETE",
        "/manifests/",
        9,
        Fault::Answer(405, vec![("Content-Type", "application/json".into())], body),
    );
    let error = delete(&stage, &format!("{there}:v1"), false).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    check_message(&error, &["does not delete manifests", "405"]);
    assert!(error.hint().unwrap().contains("storage.delete.enabled"), "{:?}", error.hint());
    assert_eq!(left(env, &repository), ["v1"]);
}

fn delete_dry(env: &Env) {
    let stage = Stage::empty(env, "verbs");
    let repository = tagged(env, Kind::Busybox, &["v1", "v2"]);
    env.push(&env.image(Kind::ThreeLayers), &format!("{repository}:other"));
    let dry = stage.ctx.dry_run();
    let deleted = stage.run_in(&dry, Delete::new(reference(&format!("{repository}:v1")), true, none())).unwrap();
    assert_eq!(deleted.tags, ["v1", "v2"]);
    env.block_on(async {
        let tags = registry::tags(&dry, &reference(&repository), &none()).await.unwrap();
        assert_eq!(tags, ["other"]);
        for gone in [format!("{repository}:v2"), format!("{repository}@{}", deleted.digest)] {
            let error = registry::resolve(&dry, &reference(&gone), None, &none()).await.unwrap_err();
            assert_eq!(error.kind(), Failed::NotFound, "{error}");
        }
    });
    let again = stage.run_in(&dry, Delete::new(reference(&format!("{repository}:v1")), false, none()));
    assert_eq!(again.unwrap_err().kind(), Failed::NotFound);
    assert_eq!(left(env, &repository), ["other", "v1", "v2"]);
}
