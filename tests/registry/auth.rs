//! Tokens, in all the ways that token services give them, and credentials that must not go astray.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctrsh::kind::{Failure, Kind as FailureKind};
use ctrsh::layout::{LayoutFolder, Selector};
use ctrsh::registry::{Client, Config, Credential};
use libtest_mimic::Trial;

use super::support::{check_message, copy, digest, quick, read, repository, sink, through};
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::token_server::{Flow, IDENTITY, PASSWORD, TokenServer, USER};
use crate::harness::{Env, Kind, trial};

const LONG: Duration = Duration::from_secs(300);

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::auth::a_token_without_a_login", env, without_a_login),
        trial("registry::auth::a_token_for_a_password", env, for_a_password),
        trial("registry::auth::a_token_by_form", env, by_form),
        trial("registry::auth::a_token_for_an_identity_token", env, for_an_identity_token),
        trial("registry::auth::a_wrong_password_is_told", env, a_wrong_password),
        trial("registry::auth::a_push_uses_one_token_and_a_mount_asks_for_both", env, push_and_mount),
        trial("registry::auth::a_token_that_ends_is_renewed", env, a_token_that_ends),
        trial("registry::auth::a_redirect_elsewhere_gets_no_credentials", env, a_redirect_elsewhere),
        trial("registry::auth::redirects_have_an_end", env, redirects_have_an_end),
        trial("registry::auth::credentials_that_changed_are_looked_up_again", env, changed_credentials),
        trial("registry::auth::a_token_service_gets_the_credentials_that_changed", env, changed_for_tokens),
        trial("registry::auth::a_token_that_the_registry_refuses_is_no_more_of_who_was_before", env, changed_user),
    ]
}

fn with(host: &str, credential: Option<Credential>) -> Client {
    let mut config: Config = quick();
    config.credentials.extend(credential.map(|credential| (host.to_owned(), credential)));
    Client::new(config)
}

/// Reads an image through a guarded proxy and returns the methods by which tokens were asked for.
fn pull(env: &Env, flow: Flow, credential: Option<Credential>) -> Vec<String> {
    let pushed = env.pushed(Kind::Busybox, "auth");
    env.block_on(async {
        let tokens = TokenServer::start(flow, LONG).await;
        let proxy = FaultProxy::guarded(&env.registry(), &tokens).await;
        let client = with(&proxy.host(), credential);
        let repository = repository(&client, &through(&proxy.host(), &pushed));
        for _ in 0..3 {
            let root = repository.resolve("v1").await.unwrap();
            assert_eq!(root.digest, digest(&env.image(Kind::Busybox).digest));
            repository.manifest(&root).await.unwrap();
        }
        // One 401 to learn the realm; every other request had its token.
        assert_eq!(proxy.log().iter().filter(|seen| seen.header("authorization").is_none()).count(), 1);
        let log = tokens.log();
        assert!(log.iter().all(|asked| asked.scopes == [format!("repository:{}:pull", repository.name())]), "{log:?}");
        log.into_iter().map(|asked| asked.method).collect()
    })
}

fn without_a_login(env: &Env) {
    assert_eq!(pull(env, Flow::Anonymous, None), ["GET"]);
}

fn for_a_password(env: &Env) {
    assert_eq!(pull(env, Flow::Get, Some(Credential::password(USER, PASSWORD))), ["GET"]);
}

fn by_form(env: &Env) {
    assert_eq!(pull(env, Flow::Form, Some(Credential::password(USER, PASSWORD))), ["POST"]);
}

fn for_an_identity_token(env: &Env) {
    assert_eq!(pull(env, Flow::Identity, Some(Credential::password("<token>", IDENTITY))), ["POST"]);
}

fn a_wrong_password(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "auth");
    env.block_on(async {
        let tokens = TokenServer::start(Flow::Get, LONG).await;
        let proxy = FaultProxy::guarded(&env.registry(), &tokens).await;
        for credential in [None, Some(Credential::password(USER, "wrong-secret"))] {
            let client = with(&proxy.host(), credential);
            let error = repository(&client, &through(&proxy.host(), &pushed)).resolve("v1").await.unwrap_err();
            assert_eq!(error.kind(), FailureKind::Unauthorized);
            check_message(&error, &["incorrect username or password"]);
            assert!(!format!("{error} {error:?}").contains("wrong-secret"));
        }
        assert_eq!(tokens.log().len(), 2);
    });
}

fn image(env: &Env) -> LayoutFolder {
    LayoutFolder::new(&env.image(Kind::ThreeLayers).layout, Selector::Only)
}

fn push_and_mount(env: &Env) {
    env.block_on(async {
        let tokens = TokenServer::start(Flow::Get, LONG).await;
        let proxy = FaultProxy::guarded(&env.registry(), &tokens).await;
        let client = with(&proxy.host(), Some(Credential::password(USER, PASSWORD)));
        let (one, two) = (env.fresh("auth"), env.fresh("auth"));
        copy(&image(env), &sink(&client, &format!("{}/{one}:v1", proxy.host()))).await.unwrap();
        let scopes =
            |log: Vec<crate::harness::token_server::Asked>| log.into_iter().map(|a| a.scopes).collect::<Vec<_>>();
        assert_eq!(scopes(tokens.log()), [[format!("repository:{one}:pull,push")]]);
        let totals = copy(&image(env), &sink(&client, &format!("{}/{two}:v1", proxy.host()))).await.unwrap();
        assert_eq!((totals.blobs_mounted, totals.sent), (4, 0));
        let own = format!("repository:{two}:pull,push");
        let both = vec![own.clone(), format!("repository:{one}:pull")];
        // The mounts come first; the manifest needs only what is its own.
        assert_eq!(scopes(tokens.log()[1..].to_vec()), [both, vec![own]]);
    });
}

fn a_token_that_ends(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "auth");
    env.block_on(async {
        let tokens = TokenServer::start(Flow::Get, Duration::from_secs(1)).await;
        let proxy = FaultProxy::guarded(&env.registry(), &tokens).await;
        let client = with(&proxy.host(), Some(Credential::password(USER, PASSWORD)));
        let repository = repository(&client, &through(&proxy.host(), &pushed));
        repository.resolve("v1").await.unwrap();
        // Past 80 % of its life it is renewed before it is used, although it still counts.
        tokio::time::sleep(Duration::from_millis(850)).await;
        repository.resolve("v1").await.unwrap();
        assert_eq!(tokens.log().len(), 2);
        // One that the registry no longer takes is replaced, once.
        proxy.fault("HEAD", "/manifests/", 1, Fault::Expire);
        repository.resolve("v1").await.unwrap();
        assert_eq!(tokens.log().len(), 3);
    });
}

fn a_redirect_elsewhere(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "auth");
    env.block_on(async {
        let tokens = TokenServer::start(Flow::Get, LONG).await;
        let proxy = FaultProxy::guarded(&env.registry(), &tokens).await;
        let storage = FaultProxy::start(&env.registry()).await;
        let client = with(&proxy.host(), Some(Credential::password(USER, PASSWORD)));
        let repository = repository(&client, &through(&proxy.host(), &pushed));
        let (_, bytes) = repository.fetch("v1").await.unwrap();
        let layer: ctrsh::oci::Manifest = serde_json::from_slice(&bytes).unwrap();
        let layer = &layer.layers[0];
        let path = format!("/v2/{}/blobs/{}", repository.name(), layer.digest);
        // With a user in the address as well, which must not become credentials either.
        proxy.fault("GET", "/blobs/", 1, Fault::redirect(format!("http://eve:pw@{}{path}?sig=secret", storage.host())));
        let whole = read(&repository, layer).await;
        assert_eq!(whole.len() as u64, layer.size);
        let log = storage.log();
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].header("authorization"), None);
        assert!(log[0].path.ends_with("?sig=secret"));
        assert!(proxy.log().last().unwrap().header("authorization").is_some());

        // A 401 there is an answer, and no reason to show credentials.
        storage.clear();
        let basic = vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())];
        storage.fault("GET", "/blobs/", 9, Fault::Answer(401, basic, String::new()));
        proxy.fault("GET", "/blobs/", 1, Fault::redirect(format!("http://{}{path}?sig=secret", storage.host())));
        let error = repository.open_blob(layer, 0).await.err().unwrap();
        assert_eq!(error.kind(), FailureKind::Unauthorized);
        check_message(&error, &[&storage.host()]);
        assert!(!error.to_string().contains("sig="));
        assert_eq!(storage.log().len(), 1);

        // An upload elsewhere is sent, without credentials.
        storage.clear();
        let target = format!("{}/{}:v1", proxy.host(), env.fresh("auth"));
        let location = format!("http://{}/v2/elsewhere", storage.host());
        proxy.fault("POST", "/blobs/uploads/", 1, Fault::Answer(202, vec![("Location", location)], String::new()));
        storage.fault("PUT", "/v2/elsewhere", 1, Fault::status(201));
        copy(&image(env), &sink(&client, &target)).await.unwrap_err();
        let log = storage.log();
        assert_eq!(log.iter().filter(|seen| seen.method == "PUT").count(), 1, "{log:#?}");
        assert!(log.iter().all(|seen| seen.header("authorization").is_none()), "{log:#?}");
    });
}

fn redirects_have_an_end(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "auth");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let repository = repository(&with("", None), &through(&proxy.host(), &pushed));
        let round = format!("/v2/{}/manifests/v1", repository.name());
        proxy.fault("HEAD", "/manifests/", 99, Fault::redirect(round));
        check_message(&repository.resolve("v1").await.unwrap_err(), &["more than 5 redirects"]);
        assert_eq!(proxy.log().len(), 6);
        proxy.fault("GET", "/tags/", 1, Fault::redirect("http://169.254.169.254/latest/meta-data"));
        check_message(&repository.tags().await.unwrap_err(), &["169.254.169.254", "may not send us"]);
        proxy.fault("GET", "/tags/", 1, Fault::redirect("file:///etc/passwd"));
        check_message(&repository.tags().await.unwrap_err(), &["only http and https"]);
        proxy.fault(
            "POST",
            "/blobs/uploads/",
            1,
            Fault::Answer(302, vec![("Location", "/v2/x".into())], String::new()),
        );
        check_message(&repository.upload().await.unwrap_err(), &["only reads follow"]);
    });
}

/// How long credentials are not looked up again, and a little more.
const LOOKED_UP: Duration = Duration::from_millis(2200);

/// A file of credentials that others change.
struct Kept(std::path::PathBuf);

impl Kept {
    fn new(env: &Env) -> Self {
        Self(env.new_folder("auth").join("config.json"))
    }

    fn client(&self) -> Client {
        Client::new(Config { docker_config: Some(self.0.clone()), ..quick() })
    }

    fn write(&self, host: &str, user: &str, password: &str) {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let document = serde_json::json!({ "auths": { host: { "auth": auth } } });
        std::fs::write(&self.0, document.to_string()).unwrap();
    }
}

fn changed_credentials(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "auth");
    env.block_on(async {
        let proxy = FaultProxy::start(&env.registry()).await;
        let basic = || Fault::Answer(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".into())], String::new());
        let last = || proxy.log().last().unwrap().header("authorization").map(str::to_owned);
        let header = |password: &str| Some(format!("Basic {}", STANDARD.encode(format!("{USER}:{password}"))));
        let kept = Kept::new(env);
        let client = kept.client();
        let repository = repository(&client, &through(&proxy.host(), &pushed));
        // Nobody has logged in yet.
        proxy.fault("HEAD", "/manifests/", 1, basic());
        assert_eq!(repository.resolve("v1").await.unwrap_err().kind(), FailureKind::Unauthorized);
        for password in ["first", "second"] {
            kept.write(&proxy.host(), USER, password);
            tokio::time::sleep(LOOKED_UP).await;
            proxy.clear();
            proxy.fault("HEAD", "/manifests/", 1, basic());
            repository.resolve("v1").await.unwrap();
            assert_eq!((proxy.log().len(), last()), (2, header(password)));
        }
        // Those that are the same are refused for good, and no lookup follows upon another.
        tokio::time::sleep(LOOKED_UP).await;
        proxy.clear();
        proxy.fault("GET", "/tags/", 2, basic());
        assert_eq!(repository.tags().await.unwrap_err().kind(), FailureKind::Unauthorized);
        kept.write(&proxy.host(), USER, "third");
        assert_eq!(repository.tags().await.unwrap_err().kind(), FailureKind::Unauthorized);
        assert_eq!(proxy.log().len(), 2);
    });
}

fn changed_for_tokens(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "auth");
    env.block_on(async {
        let tokens = TokenServer::start(Flow::Get, Duration::from_secs(1)).await;
        let proxy = FaultProxy::guarded(&env.registry(), &tokens).await;
        let kept = Kept::new(env);
        kept.write(&proxy.host(), USER, "expired");
        let client = kept.client();
        let repository = repository(&client, &through(&proxy.host(), &pushed));
        let error = repository.resolve("v1").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unauthorized);
        check_message(&error, &["incorrect username or password"]);
        kept.write(&proxy.host(), USER, PASSWORD);
        tokio::time::sleep(LOOKED_UP).await;
        repository.resolve("v1").await.unwrap();
        assert_eq!(tokens.log().iter().filter(|asked| !asked.authorized).count(), 2);
    });
}

fn changed_user(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "auth");
    env.block_on(async {
        let tokens = TokenServer::start(Flow::Get, LONG).await;
        let proxy = FaultProxy::guarded(&env.registry(), &tokens).await;
        let kept = Kept::new(env);
        kept.write(&proxy.host(), USER, PASSWORD);
        let client = kept.client();
        let repository = repository(&client, &through(&proxy.host(), &pushed));
        repository.resolve("v1").await.unwrap();
        // The service would still take the former user, whom the registry refuses.
        kept.write(&proxy.host(), "bob", "unknown");
        tokio::time::sleep(LOOKED_UP).await;
        proxy.fault("HEAD", "/manifests/", 1, Fault::Expire);
        let error = repository.resolve("v1").await.unwrap_err();
        check_message(&error, &["incorrect username or password"]);
        let asked: Vec<bool> = tokens.log().iter().map(|asked| asked.authorized).collect();
        assert_eq!(asked, [true, false]);
    });
}
