//! Hosts folders: mirrors, capabilities, certificates, headers.

use std::path::{Path, PathBuf};

use ctrsh::kind::{Failure, Kind as FailureKind};
use ctrsh::layout::{LayoutFolder, Selector};
use ctrsh::oci::store::ImageSink;
use ctrsh::ops::registry::Delete;
use ctrsh::registry::{Client, Config, Credential, Options};
use libtest_mimic::Trial;

use super::support::{check_message, copy, digest, grant, quick, read, repository, sink, through};
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::{Env, Kind, trial};
use crate::ops::stage::Stage;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::mirrors::the_mirror_is_asked_first_and_the_registry_helps_out", env, mirror_first),
        trial("registry::mirrors::a_host_is_asked_only_for_what_it_may_do", env, capabilities),
        trial("registry::mirrors::a_registry_that_nobody_reaches_is_read_from_its_mirror", env, only_the_mirror),
        trial("registry::mirrors::credentials_of_a_registry_are_not_for_its_mirror", env, credentials),
        trial("registry::mirrors::certificates_of_the_folder_are_used", env, certificates),
        trial("registry::mirrors::a_broken_file_stops_the_operation", env, broken),
        trial("registry::mirrors::what_is_deleted_is_asked_of_no_mirror", env, deleted),
        trial("registry::mirrors::what_only_the_registry_knows_is_asked_of_it_alone", env, its_own),
        trial("registry::mirrors::settings_of_the_registry_may_stand_among_the_hosts", env, among_hosts),
        trial("registry::mirrors::a_host_that_takes_pushes_has_all_but_the_login", env, stand_in),
    ]
}

fn hosts(folder: &Path, registry: &str, text: &str) -> Config {
    let own = folder.join(registry);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    Config { hosts_dirs: vec![folder.to_owned()], ..quick() }
}

fn mirror_first(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "mirrors");
    let folder = env.new_folder("mirrors");
    env.block_on(async {
        let mirror = FaultProxy::start(&env.registry()).await;
        let own = FaultProxy::start(&env.registry()).await;
        let text = format!(
            "server = \"http://{own}\"\n[host.\"http://{mirror}\"]\n[host.\"http://{mirror}\".header]\nx-key = \"k1\"\n",
            own = own.host(),
            mirror = mirror.host()
        );
        let client = Client::new(hosts(&folder, &own.host(), &text));
        let repository = repository(&client, &through(&own.host(), &pushed));
        let root = repository.resolve("v1").await.unwrap();
        assert_eq!((mirror.log().len(), own.log().len()), (1, 0));
        let seen = &mirror.log()[0];
        assert!(seen.path.contains(&format!("ns={}", own.host().replace(':', "%3A"))), "{}", seen.path);
        assert_eq!(seen.header("x-key"), Some("k1"));

        // What the mirror does not have, or cannot say now, the registry says; without a wait.
        for status in [404, 503, 429, 403] {
            mirror.fault("GET", root.digest.as_str(), 1, Fault::status(status));
            repository.manifest(&root).await.unwrap();
            let seen = own.log().pop().unwrap();
            assert!(!seen.path.contains("ns=") && seen.header("x-key").is_none());
        }
        assert_eq!(own.log().len(), 4);
        // What neither has is told as the registry tells it.
        assert_eq!(repository.resolve("none").await.unwrap_err().kind(), FailureKind::NotFound);
        // A push goes to one host, not to the one that answers.
        mirror.clear();
        mirror.fault("POST", "", 9, Fault::status(405));
        check_message(&repository.upload().await.unwrap_err(), &[&mirror.host(), "405"]);
    });
}

fn capabilities(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "mirrors");
    let folder = env.new_folder("mirrors");
    env.block_on(async {
        let mirror = FaultProxy::start(&env.registry()).await;
        let own = FaultProxy::start(&env.registry()).await;
        let text = format!(
            "server = \"http://{}\"\ncapabilities = [\"resolve\", \"push\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
            own.host(),
            mirror.host()
        );
        let client = Client::new(hosts(&folder, &own.host(), &text));
        let repository = repository(&client, &through(&own.host(), &pushed));
        let root = repository.resolve("v1").await.unwrap();
        assert_eq!((mirror.log().len(), own.log().len()), (0, 1));
        repository.manifest(&root).await.unwrap();
        assert_eq!((mirror.log().len(), own.log().len()), (1, 1));
        repository.upload().await.unwrap().abandon().await;
        assert_eq!((mirror.log().len(), own.log().len()), (1, 3));
        let error = repository.referrers(&root.digest, None).await.unwrap_err();
        check_message(&error, &["no host", "referrers"]);
    });
}

fn only_the_mirror(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "mirrors");
    let folder = env.new_folder("mirrors");
    env.block_on(async {
        let name = pushed.split_once('/').unwrap().1;
        let text = format!("server = \"http://127.0.0.1:9\"\n[host.\"http://{}\"]\n", env.registry());
        let mut config = hosts(&folder, "docker.io", &text);
        config.retry.retries = 1;
        let repository = repository(&Client::new(config), &format!("docker.io/{}", with_slash(name)));
        let error = repository.resolve("v1").await.unwrap_err();
        // The mirror has it under another name; what counts is who was asked.
        check_message(&error, &["cannot connect", "127.0.0.1:9"]);
        let config = hosts(&folder, "quay.example", &text);
        let repository = super::support::repository(&Client::new(config), &format!("quay.example/{name}"));
        let (root, bytes) = repository.fetch("v1").await.unwrap();
        assert_eq!(root.digest, digest(&env.image(Kind::Busybox).digest));
        let manifest: ctrsh::oci::Manifest = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read(&repository, &manifest.layers[0]).await.len() as u64, manifest.layers[0].size);
    });
}

fn with_slash(name: &str) -> String {
    format!("somebody/{name}")
}

fn credentials(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "mirrors");
    let folder = env.new_folder("mirrors");
    env.block_on(async {
        let mirror = FaultProxy::start(&env.registry()).await;
        let own = FaultProxy::start(&env.registry()).await;
        let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.host(), mirror.host());
        let mut config = hosts(&folder, &own.host(), &text);
        config.credentials.insert(own.host(), Credential::password("ann", "secret"));
        let basic = || Fault::Answer(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".into())], String::new());
        mirror.fault("HEAD", "", 9, basic());
        own.fault("HEAD", "", 1, basic());
        let client = Client::new(config);
        repository(&client, &through(&own.host(), &pushed)).resolve("v1").await.unwrap();
        assert!(mirror.log().iter().all(|seen| seen.header("authorization").is_none()));
        assert_eq!(own.log()[1].header("authorization"), Some("Basic YW5uOnNlY3JldA=="));
    });
}

fn certificates(env: &Env) {
    let registry = env.registry_htpasswd_tls();
    let pushed = env.push_secure(&env.image(Kind::Busybox), "mirrors");
    let folder = env.new_folder("mirrors");
    let resolve = |dir: PathBuf| {
        let mut config = Config { hosts_dirs: vec![dir], ..quick() };
        config.credentials.insert(registry.host.clone(), Credential::password(registry.user, registry.password));
        env.block_on(async { repository(&Client::new(config), &pushed).resolve("v1").await })
    };
    // As Docker has it: a folder of certificates.
    let docker = folder.join("docker");
    std::fs::create_dir_all(docker.join(&registry.host)).unwrap();
    std::fs::copy(&registry.ca, docker.join(&registry.host).join("ca.crt")).unwrap();
    resolve(docker).unwrap();
    // As containerd has it, with a name that needs no colon.
    let name = format!("{}_", registry.host.replace(':', "_"));
    let containerd = folder.join("containerd");
    std::fs::create_dir_all(containerd.join(&name)).unwrap();
    std::fs::copy(&registry.ca, containerd.join(&name).join("own.pem")).unwrap();
    std::fs::write(containerd.join(&name).join("hosts.toml"), "ca = \"own.pem\"\n").unwrap();
    resolve(containerd.clone()).unwrap();
    std::fs::write(containerd.join(&name).join("own.pem"), "nonsense").unwrap();
    check_message(&resolve(containerd).unwrap_err(), &["own.pem"]);
}

fn broken(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "mirrors");
    let folder = env.new_folder("mirrors");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let config = hosts(&folder, &proxy.host(), "server = \"http://x\"\n[host.\"http://y\"\n");
        let error = repository(&Client::new(config), &through(&proxy.host(), &pushed)).resolve("v1").await.unwrap_err();
        check_message(&error, &["hosts.toml"]);
        assert_eq!(error.kind(), FailureKind::Usage);
        assert!(proxy.log().is_empty());
    });
}

fn its_own(env: &Env) {
    let pushed = env.pushed(Kind::ThreeLayers, "mirrors");
    let folder = env.new_folder("mirrors");
    env.block_on(async {
        // The mirror has all of the image, and the registry has nothing of it.
        let mirror = FaultProxy::start(&env.registry()).await;
        let own = FaultProxy::start(&env.registry_of_harbors()).await;
        let text = format!(
            "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
            own.host(),
            mirror.host()
        );
        let client = Client::new(hosts(&folder, &own.host(), &text));
        let target = through(&own.host(), &pushed);
        let store = sink(&client, &target);
        assert_eq!(store.current().await.unwrap(), None);
        let image = env.image(Kind::ThreeLayers);
        let totals = copy(&LayoutFolder::new(&image.layout, Selector::Only), &store).await.unwrap();
        assert_eq!(totals.blobs_sent.len(), 4);
        assert_eq!(store.current().await.unwrap().unwrap().digest.as_str(), image.digest);
        let registry = client.registry(&own.host(), &grant(), &Options::default());
        registry.ping().await.unwrap();
        let name = repository(&client, &target).name().to_owned();
        assert!(registry.repositories().await.unwrap().contains(&name));
        assert_eq!(repository(&client, &target).itself().tags().await.unwrap(), ["v1"]);
        assert!(mirror.log().is_empty(), "{:#?}", mirror.log());
        // What may come from anywhere still does.
        repository(&client, &target).resolve("v1").await.unwrap();
        assert_eq!(mirror.log().len(), 1);
    });
}

fn among_hosts(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "mirrors");
    let folder = env.new_folder("mirrors");
    env.block_on(async {
        let own = FaultProxy::start(&env.registry()).await;
        let text =
            format!("[host.\"http://{host}\"]\n[host.\"http://{host}\".header]\nx-key = \"k1\"\n", host = own.host());
        let client = Client::new(hosts(&folder, &own.host(), &text));
        let whole = client.registry(&own.host(), &grant(), &Options::default());
        whole.ping().await.unwrap();
        let repository = repository(&client, &through(&own.host(), &pushed));
        assert!(whole.repositories().await.unwrap().contains(&repository.name().to_owned()));
        assert_eq!(repository.itself().tags().await.unwrap(), ["v1"]);
        let log = own.log();
        assert!(log.len() >= 3 && log.iter().all(|seen| seen.header("x-key") == Some("k1")), "{log:#?}");
    });
}

fn stand_in(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "mirrors");
    let folder = env.new_folder("mirrors");
    env.block_on(async {
        // As kind has it: by its own name the registry is reached from the host alone, and within by another.
        let within = FaultProxy::start(&env.registry()).await;
        let own = FaultProxy::start(&env.registry()).await;
        let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.host(), within.host());
        let client = Client::new(hosts(&folder, &own.host(), &text));
        let whole = client.registry(&own.host(), &grant(), &Options::default());
        let repository = repository(&client, &through(&own.host(), &pushed));
        assert!(whole.repositories().await.unwrap().contains(&repository.name().to_owned()));
        assert_eq!(repository.itself().tags().await.unwrap(), ["v1"]);
        assert!(own.log().is_empty() && !within.log().is_empty());
        // The credentials are kept under the registry's name, and are for nobody else.
        let asked = within.log().len();
        whole.ping().await.unwrap();
        assert_eq!((own.log().len(), within.log().len()), (1, asked));
    });
}

fn deleted(env: &Env) {
    let repository = env.repository("mirrors");
    env.push(&env.image(Kind::Busybox), &format!("{repository}:v1"));
    let folder = env.new_folder("mirrors");
    let registry = env.registry();
    let (mirror, own) =
        env.block_on(async { tokio::join!(FaultProxy::start(&registry), FaultProxy::start(&registry)) });
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        own.host(),
        mirror.host()
    );
    let stage = Stage::with_registry(env, "mirrors", hosts(&folder, &own.host(), &text));
    let target = through(&own.host(), &format!("{repository}:v1"));
    let deleted = stage.run(Delete::new(target.parse().unwrap(), false, Options::default())).unwrap();
    assert_eq!(deleted.tags, ["v1"]);
    assert!(own.log().iter().any(|seen| seen.method == "DELETE"));
    assert!(mirror.log().is_empty(), "{:#?}", mirror.log());
}
