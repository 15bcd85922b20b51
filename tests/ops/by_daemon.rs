//! `via: "daemon"`: what containerd's transfer service moves is what this program moves, and what it cannot is refused.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ctrsh::containerd::images::Image;
use ctrsh::grant::Allow;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::{Matcher, Reference};
use ctrsh::ops::Context;
use ctrsh::ops::image::{Arrival, Pull, PullByDaemon, PushByDaemon, PushOptions, get};
use ctrsh::registry::config::Tls;
use ctrsh::registry::{Config, Credential, Options};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::stage::{Stage, context_at, place};
use crate::examples::Quiet;
use crate::harness::daemon::Daemon;
use crate::harness::env::SecureRegistry;
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::image::{Kind, foreign, host};
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::by_daemon::what the daemon pulls is what we pull", env, pulled),
        trial("ops::by_daemon::what the daemon pushes is what was there", env, pushed),
        trial("ops::by_daemon::a record keeps its labels, and the kubelet sees it", env, labels),
        trial("ops::by_daemon::what the daemon cannot be told is refused by name", env, refused),
        trial("ops::by_daemon::failures have a kind and leave nothing", env, failures),
        trial("ops::by_daemon::a transfer that is cancelled leaves no lease and no ingest", env, cancelled),
        trial("ops::by_daemon::a password is for no host but its own", env, foreign_host),
        trial("ops::by_daemon::scripts choose it, dry and not, where it is granted", env, scripts),
    ]
}

/// What the daemon under test can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Generation {
    /// No transfer service.
    None,
    /// One that hears of no hosts folder and no scheme.
    Deaf,
    /// One that does.
    Full,
}

/// A daemon of its own that trusts the registry with a password, and someone with a login there.
struct Scene {
    env: Env,
    daemon: Daemon,
    folder: PathBuf,
    namespace: String,
    registry: SecureRegistry,
    ctx: Context,
    generation: Generation,
}

impl Scene {
    fn new(env: &Env) -> Self {
        let registry = env.registry_htpasswd_tls();
        let folder = env.new_folder("daemon");
        let daemon = Daemon::trusting(&folder, &registry.ca);
        let namespace = env.fresh("daemon");
        let ctx = context(env, &daemon, &folder, &namespace, &registry, registry.password);
        let version = Output::of(
            std::process::Command::new("containerd").arg("--version").env("PATH", crate::harness::env::path()),
        );
        let version = version.ok();
        let generation = match () {
            () if version.contains(" 1.6.") => Generation::None,
            () if version.contains(" 1.7.") => Generation::Deaf,
            () => Generation::Full,
        };
        Self { env: env.clone(), daemon, folder, namespace, registry, ctx, generation }
    }

    /// Asserts that the daemon cannot, as one of before 1.7 says it; returns whether it can.
    #[track_caller]
    fn can<T: std::fmt::Debug>(&self, result: &ctrsh::ops::Result<T>) -> bool {
        if self.generation != Generation::None {
            return true;
        }
        let error = result.as_ref().unwrap_err();
        assert_eq!(error.kind(), Failed::Usage, "{error}");
        assert!(error.to_string().contains("no transfer service"), "{error}");
        assert!(error.hint().unwrap().contains("leave via away"), "{error:?}");
        self.assert_empty();
        false
    }

    fn ctr_in(&self, namespace: &str, arguments: &[&str]) -> String {
        let mut command = std::process::Command::new("ctr");
        command.arg("--address").arg(self.daemon.socket()).args(["-n", namespace]).args(arguments);
        Output::of(command.env("PATH", crate::harness::env::path())).ok()
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        self.ctr_in(&self.namespace, arguments)
    }

    /// Lists what ctr lists: each line's words and labels sorted, without how long ago it was.
    fn listing(&self, namespace: &str, arguments: &[&str]) -> Vec<String> {
        let text = self.ctr_in(namespace, arguments);
        let lines = text.lines().skip(1).map(|line| {
            let words = line.split([' ', '\t', ',']).filter(|word| word.contains([':', '=', '/', '.', '-']));
            let mut words: Vec<&str> = words.collect();
            words.sort_unstable();
            words.join(" ")
        });
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    }

    #[track_caller]
    fn assert_idle(&self) {
        assert_eq!(self.ctr(&["leases", "ls", "-q"]), "");
        assert_eq!(self.ctr(&["content", "active"]).lines().count(), 1, "{}", self.ctr(&["content", "active"]));
    }

    #[track_caller]
    fn assert_empty(&self) {
        self.assert_idle();
        assert_eq!(self.ctr(&["images", "ls", "-q"]), "");
        assert_eq!(self.ctr(&["content", "ls", "-q"]), "");
    }

    fn run<O: ctrsh::ops::Operation>(&self, ctx: &Context, operation: O) -> ctrsh::ops::Result<O::Output> {
        self.env.block_on(async {
            let result = ctrsh::ops::execute(ctx, operation).await;
            ctx.settle().await;
            result
        })
    }

    fn pull(&self, name: &str, arrival: Arrival) -> ctrsh::ops::Result<Option<Image>> {
        self.run(&self.ctx, PullByDaemon::new(reference(name), arrival, Options::default()))
    }

    fn pull_ourselves(&self, namespace: &str, name: &str, arrival: Arrival) -> Image {
        let tls = Tls { ca: vec![self.registry.ca.clone()], client: None };
        let options = Options { tls, ..Options::default() };
        self.run(&self.ctx.in_namespace(namespace), Pull::new(reference(name), arrival, options)).unwrap()
    }

    fn digest_at(&self, reference: &str) -> String {
        let credentials = format!("{}:{}", self.registry.user, self.registry.password);
        let folder = self.registry.cert_dir.to_string_lossy().into_owned();
        let source = format!("docker://{reference}");
        let arguments = ["inspect", "--raw", "--creds", &credentials, "--cert-dir", &folder, &source];
        crate::harness::image::digest(self.env.skopeo(&arguments).ok().as_bytes())
    }

    fn fresh(&self) -> String {
        format!("{}/{}:v1", self.registry.host, self.env.fresh("daemon"))
    }
}

/// Makes a context with a login that Docker's file has.
fn context(
    env: &Env,
    daemon: &Daemon,
    folder: &std::path::Path,
    namespace: &str,
    registry: &SecureRegistry,
    password: &str,
) -> Context {
    use base64::Engine as _;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", registry.user));
    let file = folder.join("config.json");
    std::fs::write(&file, serde_json::json!({ "auths": { &registry.host: { "auth": auth } } }).to_string()).unwrap();
    let config = Config { docker_config: Some(file), ..Config::default() };
    context_at(env, place(&daemon.socket().to_string_lossy(), namespace), folder, Allow::all(), config)
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn pulled(env: &Env) {
    let scene = Scene::new(env);
    for (kind, platforms) in [
        (Kind::Busybox, Matcher::host()),
        (Kind::ThreeLayers, Matcher::host()),
        (Kind::Index, Matcher::host()),
        (Kind::Index, Matcher::All),
    ] {
        for snapshotter in [env.snapshotter(), "native".to_owned()] {
            let name = env.push_secure(&env.image(kind), "daemon");
            let arrival = Arrival {
                platforms: platforms.clone(),
                snapshotter: Some(snapshotter.clone()),
                labels: [("team".to_owned(), "core".to_owned())].into(),
                ..Arrival::default()
            };
            let ours = env.fresh("daemon");
            let result = scene.pull(&name, arrival.clone());
            if !scene.can(&result) {
                return;
            }
            let image = result.unwrap().unwrap();
            scene.assert_idle();
            assert_eq!((image.name.as_str(), image.target.digest.as_str()), (&*name, &*env.image(kind).digest));
            let own = scene.pull_ourselves(&ours, &name, arrival);
            assert_eq!((&image.target, &image.labels), (&own.target, &own.labels));
            let same = |arguments: &[&str]| {
                let (theirs, own) = (scene.listing(&scene.namespace, arguments), scene.listing(&ours, arguments));
                assert_eq!(theirs, own, "{kind:?} {snapshotter} {arguments:?}");
                assert!(!own.is_empty());
            };
            same(&["images", "ls"]);
            same(&["content", "ls"]);
            same(&["snapshots", "--snapshotter", &snapshotter, "ls"]);
            scene.ctr(&["images", "rm", "--sync", &name]);
            assert_eq!(scene.ctr(&["content", "ls", "-q"]), "");
        }
    }
    // A platform that the image does not have: nothing is left, and a record that was there is what it was.
    let name = env.push_secure(&env.image(Kind::Index), "daemon");
    let platforms = Matcher::Any(vec!["linux/s390x".parse().unwrap()]);
    let nothing = Arrival { platforms, ..Arrival::default() };
    let error = scene.pull(&name, nothing.clone()).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    scene.assert_idle();
    assert_eq!(scene.ctr(&["images", "ls", "-q"]), "");
    let before = scene.pull(&name, Arrival::default()).unwrap().unwrap();
    scene.pull(&name, nothing).unwrap_err();
    let after = env.block_on(get(&scene.ctx, &name)).unwrap();
    assert_eq!((after.target, after.labels), (before.target, before.labels));
    // Layers that are unpacked are let go of.
    let name = env.push_secure(&env.image(Kind::Busybox), "daemon");
    let keeps = |arrival: Arrival| {
        scene.pull(&name, arrival).unwrap();
        scene.ctr(&["content", "ls", &format!("digest=={}", env.image(Kind::Busybox).manifest)]).contains("content.l.0")
    };
    assert!(keeps(Arrival::default()));
    assert!(!keeps(Arrival { discard_layers: true, ..Arrival::default() }));
}

fn pushed(env: &Env) {
    let scene = Scene::new(env);
    // Of another registry, so that nothing can be mounted.
    let name = env.pushed(Kind::Index, "daemon");
    let push = |source: &str, target: &str, platform: Option<Matcher>| {
        let options = PushOptions { source: Some(source.into()), platform, ..PushOptions::default() };
        scene.run(&scene.ctx, PushByDaemon::new(reference(target), options))
    };
    scene.pull_ourselves(&scene.namespace, &name, Arrival::default());
    let target = scene.fresh();
    let result = push(&name, &target, None);
    if scene.generation == Generation::None {
        let error = result.unwrap_err();
        assert!(error.kind() == Failed::Usage && error.to_string().contains("no transfer service"), "{error}");
        return;
    }
    // An index of which one platform is here.
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    assert!(error.hint().unwrap().contains("all_platforms"), "{error:?}");
    let error = push(&name, &target, Some(Matcher::host())).unwrap_err();
    assert!(error.kind() == Failed::Usage && error.to_string().contains("platform"), "{error}");
    let manifest = Some(env.image(Kind::Index).manifest.parse().unwrap());
    let by_digest = PushByDaemon::new(reference(&target), PushOptions { manifest, ..PushOptions::default() });
    let error = scene.run(&scene.ctx, by_digest).unwrap_err();
    assert!(error.kind() == Failed::Usage && error.to_string().contains("manifest"), "{error}");

    let whole = Arrival { platforms: Matcher::All, unpack: false, ..Arrival::default() };
    scene.pull_ourselves(&scene.namespace, &name, whole);
    let copied = push(&name, &target, None).unwrap();
    let digest = env.image(Kind::Index).digest;
    assert_eq!((copied.root.digest.as_str(), &*scene.digest_at(&target)), (&*digest, &*digest));
    assert!(copied.totals.sent > 0 && !copied.totals.blobs_sent.is_empty(), "{:?}", copied.totals);
    scene.assert_idle();
    let again = push(&name, &target, None).unwrap();
    assert_eq!((again.totals.sent, again.totals.blobs_sent.len()), (0, 0), "{:?}", again.totals);
    let error = push("example.test/nobody:1", &target, None).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
}

fn labels(env: &Env) {
    let scene = Scene::new(env);
    let name = env.push_secure(&env.image(Kind::ThreeLayers), "daemon");
    if !scene.can(&scene.pull(&name, Arrival::default())) {
        return;
    }
    scene.ctr(&["images", "label", &name, "keep=me"]);
    let arrival = Arrival { labels: [("new".to_owned(), "one".to_owned())].into(), ..Arrival::default() };
    let image = scene.pull(&name, arrival).unwrap().unwrap();
    let expected = [("keep".to_owned(), "me".to_owned()), ("new".to_owned(), "one".to_owned())];
    assert_eq!(image.labels, expected.into());
    let kubernetes = scene.ctx.in_namespace("k8s.io");
    let pull = PullByDaemon::new(reference(&name), Arrival::default(), Options::default());
    let image = scene.run(&kubernetes, pull).unwrap().unwrap();
    assert_eq!(image.labels["io.cri-containerd.image"], "managed");
    let by_config = env.block_on(get(&kubernetes, &env.image(Kind::ThreeLayers).config)).unwrap();
    assert_eq!((&by_config.target.digest, &by_config.labels), (&image.target.digest, &image.labels));
}

fn refused(env: &Env) {
    let scene = Scene::new(env);
    let name = env.push_secure(&env.image(Kind::Busybox), "daemon");
    let with =
        |options: Options| scene.run(&scene.ctx, PullByDaemon::new(reference(&name), Arrival::default(), options));
    let tls = |ca: &[&str], client: Option<&str>| Options {
        tls: Tls { ca: ca.iter().map(Into::into).collect(), client: client.map(|file| (file.into(), None)) },
        ..Options::default()
    };
    let mut cases = vec![
        ("skip_verify", Options { skip_verify: true, ..Options::default() }),
        ("tlscacert", tls(&["/ca.pem"], None)),
        ("tlscert", tls(&[], Some("/cert.pem"))),
    ];
    let plain = ("plain_http", Options { plain_http: true, ..Options::default() });
    let hosts = ("hosts_dir", Options { hosts_dirs: Some(vec!["/hosts".into()]), ..Options::default() });
    if scene.generation != Generation::Full {
        cases.extend([plain, hosts]);
    }
    for (option, options) in cases {
        let result = with(options.clone());
        if !scene.can(&result) {
            continue;
        }
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Failed::Usage, "{error}");
        assert!(error.to_string().contains(option), "{option}: {error}");
        assert!(error.hint().unwrap().contains("leave via away"), "{error:?}");
        let settings = PushOptions { registry: options, ..PushOptions::default() };
        let error = scene.run(&scene.ctx, PushByDaemon::new(reference(&name), settings)).unwrap_err();
        assert!(error.to_string().contains(option), "{option}: {error}");
    }
    scene.assert_empty();
}

fn failures(env: &Env) {
    let scene = Scene::new(env);
    let name = env.push_secure(&env.image(Kind::Busybox), "daemon");
    let nobody = context(env, &scene.daemon, &scene.folder, &scene.namespace, &scene.registry, "wrong-secret");
    let pull = |ctx: &Context, name: &str| {
        scene.run(ctx, PullByDaemon::new(reference(name), Arrival::default(), Options::default()))
    };
    let result = pull(&nobody, &name);
    if !scene.can(&result) {
        return;
    }
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Failed::Unauthorized, "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong-secret"));
    assert!(error.to_string().contains(&name), "{error}");
    let given = Options {
        credential: Some(Credential::password(scene.registry.user, scene.registry.password)),
        ..Options::default()
    };
    let given = scene.run(&nobody, PullByDaemon::new(reference(&name), Arrival::default(), given));
    assert!(given.is_ok(), "a password that the call names goes first: {given:?}");
    scene.ctr(&["images", "rm", "--sync", &name]);

    let login = context(env, &scene.daemon, &scene.folder, &scene.namespace, &scene.registry, scene.registry.password);
    let error = pull(&login, &format!("{}/nobody/here:1", scene.registry.host)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    let error = pull(&login, "localhost:1/example/box:1").unwrap_err();
    assert_eq!(error.kind(), Failed::Unavailable, "{error}");
    // The file that has the password cannot be read: that is what is told.
    std::fs::write(scene.folder.join("config.json"), "{").unwrap();
    let broken = Config { docker_config: Some(scene.folder.join("config.json")), ..Config::default() };
    let there = place(&scene.daemon.socket().to_string_lossy(), &scene.namespace);
    let error = pull(&context_at(env, there, &scene.folder, Allow::all(), broken), &name).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
    scene.assert_empty();
}

/// Stands before a server, and holds back all after so many bytes in either direction.
struct Weir {
    host: String,
    full: watch::Sender<bool>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Weir {
    async fn build(upstream: &str, limit: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let full = watch::Sender::new(false);
        let (upstream, filled) = (upstream.replace("localhost", "127.0.0.1"), full.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&upstream).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, limit, filled.clone()));
                tokio::spawn(pass(from_server, to_client, limit, filled.clone()));
            }
        });
        Self { host, full, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    async fn full(&self) {
        let mut full = self.full.subscribe();
        let filled = tokio::time::timeout(Duration::from_secs(30), full.wait_for(|full| *full)).await;
        filled.expect("nothing was held back within 30 s").unwrap();
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    limit: usize,
    full: watch::Sender<bool>,
) {
    let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        passed += count;
        if passed > limit {
            full.send_replace(true);
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Makes the scene's context for a weir before the registry, with the same password.
fn behind(scene: &Scene, weir: &Weir) -> Context {
    let text = std::fs::read_to_string(scene.folder.join("config.json")).unwrap();
    let file = scene.folder.join(format!("{}.json", weir.host));
    std::fs::write(&file, text.replace(&scene.registry.host, &weir.host)).unwrap();
    let config = Config { docker_config: Some(file), ..Config::default() };
    let there = place(&scene.daemon.socket().to_string_lossy(), &scene.namespace);
    context_at(&scene.env, there, &scene.folder, Allow::all(), config)
}

fn cancelled(env: &Env) {
    let scene = Scene::new(env);
    let name = env.push_secure(&env.image(Kind::Big(8)), "daemon");
    let weir = env.block_on(Weir::build(&scene.registry.host, 256 << 10));
    let ctx = behind(&scene, &weir);
    let held = reference(&name.replace(&scene.registry.host, &weir.host));
    let pull = PullByDaemon::new(held, Arrival::default(), Options::default());
    if scene.generation == Generation::None {
        assert!(!scene.can(&scene.run(&ctx, pull)));
        return;
    }
    env.block_on(async {
        tokio::select! {
            pulled = ctrsh::ops::execute(&ctx, pull) => panic!("it ended: {pulled:?}"),
            () = async {
                weir.full().await;
                // Until the daemon has written some of it.
                while scene.ctr(&["content", "active"]).lines().count() < 2 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            } => {}
        }
        ctx.settle().await;
    });
    scene.assert_idle();
    assert_eq!(scene.ctr(&["images", "ls", "-q"]), "");

    // Of another registry, so that nothing can be mounted; and containerd 1.7 uses the held connection once more.
    let name = env.pushed(Kind::Big(8), "daemon");
    scene.pull_ourselves(&scene.namespace, &name, Arrival { unpack: false, ..Arrival::default() });
    let weir = env.block_on(Weir::build(&scene.registry.host, 256 << 10));
    let ctx = behind(&scene, &weir);
    let target = reference(&scene.fresh().replace(&scene.registry.host, &weir.host));
    let push = PushByDaemon::new(target, PushOptions { source: Some(name), ..PushOptions::default() });
    env.block_on(async {
        tokio::select! {
            pushed = ctrsh::ops::execute(&ctx, push) => panic!("it ended: {pushed:?}"),
            () = weir.full() => {}
        }
        ctx.settle().await;
    });
    scene.assert_idle();
}

fn foreign_host(env: &Env) {
    let scene = Scene::new(env);
    if scene.generation != Generation::Full {
        // Without a hosts folder there is no other host.
        return refused(env);
    }
    let name = env.push_secure(&env.image(Kind::Busybox), "daemon");
    let mirror = env.block_on(FaultProxy::start(&env.registry()));
    let challenge = vec![("WWW-Authenticate", "Basic realm=\"mirror\"".to_owned())];
    for method in ["GET", "HEAD"] {
        mirror.fault(method, "/v2/", 100, Fault::Answer(401, challenge.clone(), String::new()));
    }
    let hosts = scene.folder.join("hosts");
    let folder = hosts.join(&scene.registry.host);
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "server = \"https://{}\"\nca = {:?}\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        scene.registry.host,
        scene.registry.ca,
        mirror.host()
    );
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    let options = Options {
        credential: Some(Credential::password(scene.registry.user, scene.registry.password)),
        hosts_dirs: Some(vec![hosts]),
        ..Options::default()
    };
    let pull = PullByDaemon::new(reference(&name), Arrival::default(), options);
    scene.run(&scene.ctx, pull).unwrap();
    let log = mirror.log();
    assert!(!log.is_empty(), "the mirror was not asked");
    let secret = |text: &str| text.starts_with("Basic") && text.len() > "Basic Og==".len();
    assert!(log.iter().all(|seen| !seen.header("authorization").is_some_and(secret)), "{log:?}");
}

fn scripts(env: &Env) {
    let stage = Stage::empty(env, "daemon");
    let name = env.pushed(Kind::ThreeLayers, "daemon");
    let can = Scene::new(env).generation;
    let options = "#{ via: \"daemon\", plain_http: true }";
    let code = format!("pull(\"{name}\", {options})");
    let error = |report: ctrsh::script::Report| (report.error.kind, report.error.message, report.error.hint);
    let (kind, message, _) = error(stage.script(&format!("pull(\"{name}\", #{{ via: \"dameon\" }})")).unwrap_err());
    assert!(kind == Failed::Usage && message.contains("'daemon'"), "{message}");
    if can != Generation::Full {
        let (kind, message, hint) = error(stage.script(&code).unwrap_err());
        assert_eq!(kind, Failed::Usage, "{message}");
        assert!(hint.unwrap().contains("leave via away"), "{message}");
        assert_eq!(stage.ctr(&["images", "ls", "-q"]), "");
        return;
    }
    let run = |ctx: &Context, code: &str| -> Result<Value, ctrsh::script::Report> {
        let mut interpreter = stage.interpreter(ctx, Arc::new(Quiet));
        let evaluated = interpreter.run(code, None, tokio_util::sync::CancellationToken::new())?;
        interpreter.json(&evaluated)
    };
    let digest = env.image(Kind::ThreeLayers).digest;
    let dry = run(&stage.ctx.dry_run(), &format!("{code}.digest; image(\"{name}\").digest")).unwrap();
    assert_eq!(dry, digest);
    assert_eq!(stage.ctr(&["images", "ls", "-q"]), "");
    for allow in ["read", "read,write=nowhere/**", "read=nowhere/**,write"] {
        let denied = run(&stage.allowing(allow.parse().unwrap()), &code).unwrap_err();
        assert_eq!(denied.error.kind, Failed::Denied, "{allow}: {denied:?}");
    }
    assert_eq!(stage.value(&format!("{code}.digest")), digest);
    let target = format!("{}:v1", env.repository("daemon"));
    let granted = format!("read,write=containerd/{}", stage.namespace);
    let push = format!("push(\"{target}\", \"{name}\", {options}).digest");
    let denied = run(&stage.allowing(granted.parse().unwrap()), &push).unwrap_err();
    assert_eq!(denied.error.kind, Failed::Denied, "{denied:?}");
    assert_eq!(run(&stage.ctx.dry_run(), &push).unwrap(), digest);
    let there = || env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{target}")]);
    assert!(!there().succeeded(), "a dry push made {target}");
    assert_eq!(stage.value(&push), digest);
    assert_eq!(crate::harness::image::digest(there().ok().as_bytes()), digest);
    // Loopback may speak HTTP unsaid, as with this program.
    let foreign = format!("linux/{}", foreign());
    let index = env.pushed(Kind::Index, "daemon");
    let code = format!("pull(\"{index}\", #{{ via: \"daemon\", platform: [\"{}\", \"{foreign}\"] }})", host());
    stage.value(&format!("{code}; image(\"{index}\").push(#{{ via: \"client\" }}).sent"));
    assert_eq!(stage.ctr(&["leases", "ls", "-q"]), "");
}
