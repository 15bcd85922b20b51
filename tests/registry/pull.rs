//! Reading from registries.

use std::path::PathBuf;

use ctrsh::kind::{Failure, Kind as FailureKind};
use ctrsh::oci::{Digest, MediaType, Parsed};
use ctrsh::registry::{Client, Config, Credential, Options};
use libtest_mimic::Trial;

use super::support::{self, check_message, client, copy, digest, grant, layout, quick, read, reference, repository};
use crate::harness::env::SecureRegistry;
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::pull::an_image_is_read_whole", env, an_image_is_read_whole),
        trial("registry::pull::an_index_is_read_with_all_platforms", env, an_index_is_read),
        trial("registry::pull::dockers_types_are_read", env, dockers_types_are_read),
        trial("registry::pull::what_is_not_there_is_named", env, what_is_not_there_is_named),
        trial("registry::pull::a_blob_is_read_from_an_offset", env, a_blob_is_read_from_an_offset),
        trial("registry::pull::tls_and_passwords", env, tls_and_passwords),
        trial("registry::pull::what_is_no_registry_is_said_to_be_none", env, what_is_no_registry),
        trial("registry::pull::a_head_that_says_nothing_is_made_up_for", env, a_head_that_says_nothing),
        trial("registry::pull::another_document_is_refused", env, another_document_is_refused),
    ]
}

fn an_image_is_read_whole(env: &Env) {
    let pushed = env.pushed(Kind::ThreeLayers, "pull");
    let image = env.image(Kind::ThreeLayers);
    env.block_on(async {
        let repository = repository(&client(), &pushed);
        let root = repository.resolve("v1").await.unwrap();
        assert_eq!(root.digest, digest(&image.digest));
        let bytes = repository.manifest(&root).await.unwrap();
        assert_eq!(Digest::sha256(&bytes), root.digest);
        let Parsed::Manifest(manifest) = Parsed::read(&root, &bytes).unwrap() else { panic!("not an image") };
        assert_eq!(manifest.config.digest, digest(&image.config));
        let layers: Vec<_> = manifest.layers.iter().map(|layer| layer.digest.to_string()).collect();
        assert_eq!(layers, image.layers);
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            assert_eq!(Digest::sha256(&read(&repository, blob).await), blob.digest);
        }
    });
}

fn an_index_is_read(env: &Env) {
    let pushed = env.pushed(Kind::Index, "pull");
    let folder = env.new_folder("pull").join("layout");
    env.block_on(async {
        copy(&support::source(&client(), &pushed), &layout(&folder)).await.unwrap();
        let images = layout(&folder).images().await.unwrap();
        assert_eq!(images[0].target.digest, digest(&env.image(Kind::Index).digest));
        assert_eq!(images[0].target.media_type, MediaType::OciIndex);
    });
    // What was read is what another tool reads there.
    let name = format!("oci:{}:v1", folder.display());
    let raw = env.skopeo(&["inspect", "--raw", &name]).ok();
    assert_eq!(Digest::sha256(raw.as_bytes()), digest(&env.image(Kind::Index).digest));
}

fn dockers_types_are_read(env: &Env) {
    let pushed = env.pushed(Kind::Docker, "pull");
    env.block_on(async {
        let (root, bytes) = repository(&client(), &pushed).fetch("v1").await.unwrap();
        assert_eq!(root.media_type, MediaType::DockerManifest);
        let Parsed::Manifest(manifest) = Parsed::read(&root, &bytes).unwrap() else { panic!("not an image") };
        assert_eq!(manifest.config.media_type, MediaType::DockerConfig);
    });
}

fn what_is_not_there_is_named(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "pull");
    env.block_on(async {
        let there = repository(&client(), &pushed);
        let error = there.resolve("nope").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::NotFound);
        check_message(&error, &[&format!("{}:nope", there.locator())]);
        let nowhere = repository(&client(), &format!("{}/no/such:v1", there.registry()));
        assert_eq!(nowhere.resolve("v1").await.unwrap_err().kind(), FailureKind::NotFound);
        assert_eq!(nowhere.tags().await.unwrap_err().kind(), FailureKind::NotFound);
        let mut blob = there.resolve("v1").await.unwrap();
        blob.digest = Digest::sha256(b"not there");
        let error = there.open_blob(&blob, 0).await.err().unwrap();
        assert_eq!(error.kind(), FailureKind::NotFound);
        check_message(&error, &[blob.digest.as_str()]);
    });
}

fn a_blob_is_read_from_an_offset(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "pull");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let repository = repository(&client(), &support::through(&proxy.host(), &pushed));
        let (root, bytes) = repository.fetch("v1").await.unwrap();
        let Parsed::Manifest(manifest) = Parsed::read(&root, &bytes).unwrap() else { panic!("not an image") };
        let layer = &manifest.layers[0];
        let whole = read(&repository, layer).await;
        for (fault, start) in [
            (None, 1000),
            (Some(Fault::IgnoreRange), 0),
            (Some(Fault::status(416)), 0),
            (Some(Fault::Answer(206, vec![("Content-Range", "bytes 5-6/7".into())], "xx".into())), 0),
        ] {
            if let Some(fault) = fault {
                proxy.fault("GET", layer.digest.as_str(), 1, fault);
            }
            let reader = repository.open_blob(layer, 1000).await.unwrap();
            assert_eq!(reader.start, start);
            let rest: Vec<_> =
                futures_util::TryStreamExt::try_collect(reader.stream).await.map_err(|e| e.to_string()).unwrap();
            let rest: Vec<bytes::Bytes> = rest;
            assert_eq!(rest.concat(), whole[usize::try_from(start).unwrap()..]);
        }
        assert_eq!(repository.open_blob(layer, layer.size).await.unwrap().start, layer.size);
    });
}

fn secure(registry: &SecureRegistry, password: &str) -> Config {
    let mut config = quick();
    config.tls.ca = vec![registry.ca.clone()];
    config.credentials.insert(registry.host.clone(), Credential::password(registry.user, password));
    config
}

fn tls_and_passwords(env: &Env) {
    let registry = env.registry_htpasswd_tls();
    let pushed = env.push_secure(&env.image(Kind::Busybox), "pull");
    let folder = env.new_folder("pull");
    env.block_on(async {
        let resolve = |config: Config| {
            let pushed = pushed.clone();
            async move { repository(&Client::new(config), &pushed).resolve("v1").await }
        };
        let found = resolve(secure(&registry, registry.password)).await.unwrap();
        assert_eq!(found.digest, digest(&env.image(Kind::Busybox).digest));

        let error = resolve(secure(&registry, "wrong")).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unauthorized);
        assert!(error.hint().unwrap().contains("not enough"), "{:?}", error.hint());
        let mut nobody = secure(&registry, "");
        nobody.credentials.clear();
        let error = resolve(nobody).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unauthorized);
        assert!(error.hint().unwrap().contains("log in"), "{:?}", error.hint());

        // A CA that did not sign: checked even on this machine, because one was named.
        let mut other = secure(&registry, registry.password);
        other.tls.ca = vec![foreign_authority(&folder)];
        let error = resolve(other).await.unwrap_err();
        check_message(&error, &["certificate"]);
        assert!(!error.retryable() && error.hint().unwrap().contains("skip_verify"));

        let mut missing = secure(&registry, registry.password);
        missing.tls.ca = vec![PathBuf::from("/nonexistent/ca.crt")];
        check_message(&resolve(missing).await.unwrap_err(), &["/nonexistent/ca.crt"]);

        // By an option of one call, beside a client that knows nothing.
        let mut options =
            Options { credential: Some(Credential::password(registry.user, registry.password)), ..Options::default() };
        options.tls.ca = vec![registry.ca.clone()];
        let name = reference(&pushed);
        let repository = client().repository(name.registry(), name.repository(), &grant(), &options);
        repository.resolve("v1").await.unwrap();
        assert!(!format!("{repository:?} {options:?}").contains(registry.password));
    });
}

fn foreign_authority(folder: &std::path::Path) -> PathBuf {
    let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let path = folder.join("foreign.crt");
    std::fs::write(&path, made.cert.pem()).unwrap();
    path
}

fn what_is_no_registry(env: &Env) {
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let page = || Fault::Answer(404, vec![("Content-Type", "text/html".into())], "<html>\u{1b}[2J</html>".into());
        proxy.fault("HEAD", "", 1, page());
        proxy.fault("GET", "", 1, page());
        let error = repository(&client(), &format!("{}/a/b:v1", proxy.host())).tags().await.unwrap_err();
        check_message(&error, &["is not a registry", "a web page"]);
        assert_eq!(error.kind(), FailureKind::Usage);

        // Nobody listens there: the port was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = quick();
        config.retry.retries = 1;
        let error = repository(&Client::new(config), &format!("{free}/a/b:v1")).resolve("v1").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unavailable);
        check_message(&error, &[&free.to_string(), "refused"]);
    });
}

fn a_head_that_says_nothing(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "pull");
    let image = env.image(Kind::Busybox);
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let repository = repository(&client(), &support::through(&proxy.host(), &pushed));
        for fault in
            [Fault::status(405), Fault::Answer(200, vec![("Content-Type", "text/plain".into())], String::new())]
        {
            proxy.fault("HEAD", "/manifests/", 1, fault);
            let found = repository.resolve("v1").await.unwrap();
            assert_eq!((found.digest, found.media_type), (digest(&image.digest), MediaType::OciManifest));
        }
        assert_eq!(proxy.count("GET", "/manifests/v1"), 2);
    });
}

fn another_document_is_refused(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "pull");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let repository = repository(&client(), &support::through(&proxy.host(), &pushed));
        let root = repository.resolve("v1").await.unwrap();
        let typed = |media_type: &str, body: &str| {
            Fault::Answer(200, vec![("Content-Type", media_type.into())], body.to_owned())
        };
        let oci = "application/vnd.oci.image.manifest.v1+json";
        for (fault, part) in [
            (Fault::Corrupt(20), "should be sha256:"),
            (typed(oci, "{}"), "should be sha256:"),
            (typed(oci, &" ".repeat(5 << 20)), "longer than"),
        ] {
            // Twice, because what may be damage is asked for again.
            proxy.fault("GET", root.digest.as_str(), 2, fault);
            check_message(&repository.manifest(&root).await.unwrap_err(), &[part]);
            proxy.forgive();
        }
        proxy.fault("GET", root.digest.as_str(), 1, Fault::Corrupt(20));
        repository.manifest(&root).await.unwrap();
        proxy.fault("GET", "/manifests/v1", 1, typed(oci, r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#));
        check_message(&repository.fetch("v1").await.unwrap_err(), &["both an index and an image"]);
        proxy.fault("GET", "/manifests/v1", 1, typed(oci, r#"{"schemaVersion":1,"fsLayers":[]}"#));
        check_message(&repository.fetch("v1").await.unwrap_err(), &["schema 1"]);
        let lie = vec![("Docker-Content-Digest", format!("sha256:{}", "0".repeat(64)))];
        proxy.fault("HEAD", root.digest.as_str(), 1, Fault::Answer(200, lie, String::new()));
        let error = repository.resolve(root.digest.as_str()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Integrity);
    });
}
