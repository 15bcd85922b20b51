//! Where the cells of an operation play: a registry that wants tokens, a containerd, an image, and another host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ctrsh::grant::Allow;
use ctrsh::kind::Failure;
use ctrsh::layout::Selector;
use ctrsh::oci::{Descriptor, Digest, Manifest, MediaType, Reference};
use ctrsh::ops::image::{Arrival, Copy, CopyOptions, Endpoint, Pull};
use ctrsh::ops::{Context, Operation as _, execute};
use ctrsh::registry::{Client, Config, Credential};
use tokio::time::Instant;

use super::Cell;
use super::kinds::Outcome;
use super::operation::{Deed, Operation};
use crate::harness::Env;
use crate::harness::clock::UnderWay;
use crate::harness::daemon::Daemon;
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::image::{Image, Kind};
use crate::harness::token_server::{Flow, PASSWORD, TokenServer, USER};
use crate::ops::stage::{context_at, place};
use crate::registry::support::{read, repository};

/// How long the registry is given to forget an upload that was ended.
const SETTLED: Duration = Duration::from_secs(200);
/// An image that no other test moves.
const IMAGE: Kind = Kind::Noise(300);
/// How long the pieces of uploads are.
const PIECE: u64 = 128 << 10;

pub struct Scene {
    env: Env,
    operation: Operation,
    image: Image,
    /// What is pulled, `NAME:v1`.
    pushed: String,
    /// An open registry at another origin.
    elsewhere: FaultProxy,
    daemon: Option<Daemon>,
    folder: PathBuf,
    /// What the registries are busy with.
    under_way: UnderWay,
}

/// What a cell talks to.
struct Hosts {
    tokens: Arc<TokenServer>,
    proxy: FaultProxy,
}

impl Scene {
    pub fn set(env: &Env, operation: Operation) -> Self {
        let folder = env.new_folder("faults");
        let daemon = (operation.deed() == Deed::Pull).then(|| {
            let folder = env.new_folder("faults");
            Daemon::isolated(&folder)
        });
        let image = env.image(IMAGE);
        let pushed = env.pushed(IMAGE, "faults").split_once('/').unwrap().1.to_owned();
        let under_way = UnderWay::default();
        let elsewhere = env.block_on(FaultProxy::timed(&env.registry(), None, &under_way));
        let scene = Self { env: env.clone(), operation, image, pushed, elsewhere, daemon, folder, under_way };
        if operation == Operation::Referrers {
            env.block_on(scene.refer());
        }
        scene
    }

    pub fn under_way(&self) -> &UnderWay {
        &self.under_way
    }

    /// Stores a manifest that refers to the image.
    async fn refer(&self) {
        let repository = repository(&Client::new(Config::default()), &self.direct(&self.pushed));
        let (subject, bytes) = repository.fetch("v1").await.unwrap();
        let mut manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
        manifest.subject = Some(subject);
        let bytes = Bytes::from(serde_json::to_vec(&manifest).unwrap());
        let own = Descriptor::new(MediaType::OciManifest, Digest::sha256(&bytes), bytes.len() as u64);
        repository.put_manifest(own.digest.as_str(), &own, bytes).await.unwrap();
    }

    fn direct(&self, name: &str) -> String {
        format!("{}/{name}", self.env.registry())
    }

    /// Starts a proxy and a token service of the cell's own, by the clock that runs as clocks do.
    async fn hosts(&self) -> Hosts {
        let (registry, under_way) = (self.env.registry(), self.under_way.clone());
        let started = self.env.runtime().spawn(async move {
            let tokens = TokenServer::start(Flow::Get, Duration::from_secs(3600)).await;
            let proxy = FaultProxy::timed(&registry, Some(Arc::clone(&tokens)), &under_way).await;
            Hosts { tokens, proxy }
        });
        started.await.unwrap()
    }

    /// Lets the fault of a cell happen.
    fn arm(&self, cell: &Cell, hosts: &Hosts) {
        let fault = (cell.trouble.make)(&self.elsewhere.host());
        let (config, layer) = (&self.image.config, &self.image.layers[0]);
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        let (method, part) = match cell.operation {
            Operation::Token => {
                let Fault::Answer(status, ..) = fault else { panic!("a token service only answers: {fault:?}") };
                return hosts.tokens.fail(cell.times, status);
            }
            Operation::Resolve => ("HEAD", "/manifests/v1".to_owned()),
            Operation::Manifest => ("GET", "/manifests/sha256:".into()),
            Operation::Config => ("GET", hex(config)),
            Operation::Layer => ("GET", hex(layer)),
            Operation::Exists => ("HEAD", hex(layer)),
            Operation::Open => ("POST", "/blobs/uploads/".into()),
            Operation::Whole | Operation::Close => ("PUT", hex(layer)),
            Operation::Piece => ("PATCH", "/blobs/uploads/".into()),
            Operation::Mount => ("POST", "mount=".into()),
            Operation::PutManifest => ("PUT", "/manifests/v1".into()),
            Operation::Tags => ("GET", "/tags/list".into()),
            Operation::Referrers => ("GET", "/referrers/".into()),
        };
        match cell.trouble.then {
            None => hosts.proxy.fault(method, &part, cell.times, fault),
            Some(then) => {
                hosts.proxy.fault(method, &part, 1, fault);
                hosts.proxy.fault_resumed(&part, cell.times, then());
            }
        }
    }

    fn client_config(&self, cell: &Cell, host: &str) -> Config {
        let mut config = Config::default();
        config.credentials.insert(host.to_owned(), Credential::password(USER, PASSWORD));
        config.limits.piece = cell.operation.in_pieces().then_some(PIECE);
        config
    }

    /// Plays one cell; an error says what was not as it has to be.
    pub async fn play(&self, cell: Cell) -> Result<(), String> {
        let hosts = self.hosts().await;
        let host = hosts.proxy.host();
        let namespace = self.env.fresh("faults");
        let socket = self.daemon.as_ref().map_or_else(|| self.env.socket().to_owned(), Daemon::socket);
        let place = place(&socket.to_string_lossy(), &namespace);
        let ctx = context_at(&self.env, place, &self.folder, Allow::all(), self.client_config(&cell, &host));
        let target = format!("{}:v1", self.env.fresh("faults"));
        self.arm(&cell, &hosts);
        let begun = Instant::now();
        let result = self.act(&ctx, &host, &target).await;
        let took = begun.elapsed();
        // What is taken back at the daemon is a request there, and no pause that could be made short.
        let at_daemon = (self.operation.deed() == Deed::Pull).then(|| self.under_way.begin());
        ctx.settle().await;
        drop(at_daemon);
        let happened = hosts.proxy.faults() + hosts.tokens.failures();
        if happened == 0 {
            return Err(format!("nothing went wrong: {result:?}"));
        }
        if took > cell.deadline() {
            return Err(format!("took {took:?}"));
        }
        let whole = matches!((cell.outcome, cell.times), (Outcome::Harmless, _) | (Outcome::Passes(_), 1 | 3))
            || matches!((cell.outcome, cell.times), (Outcome::Once(_), 1));
        match (whole, cell.outcome, result) {
            (true, _, Ok(())) => self.check_whole(&ctx, &target).await?,
            (true, _, Err((_, message))) => return Err(format!("failed: {message}")),
            (false, Outcome::Passes(kind) | Outcome::Once(kind) | Outcome::Refused(kind), Err((actual, message))) => {
                if actual != kind {
                    return Err(format!("is of kind {actual} and not {kind}: {message}"));
                }
                if message.contains('\n') || message.contains(PASSWORD) {
                    return Err(format!("a message that must not be: {message}"));
                }
            }
            (false, ..) => return Err("succeeded".into()),
        }
        self.check_effort(&cell, &hosts, whole)?;
        // Who hung up is noticed a moment later.
        let out_of_reach = || cell.out_of_reach(happened, hosts.proxy.given_up());
        self.check_rest(&ctx, &target, whole, &out_of_reach).await?;
        // Only this cell's own origin ever saw a token.
        let shown = self.elsewhere.log().into_iter().find(|seen| seen.header("authorization").is_some());
        shown.map_or(Ok(()), |seen| Err(format!("credentials went elsewhere: {seen:?}")))
    }

    /// Does what a user does.
    async fn act(&self, ctx: &Context, host: &str, target: &str) -> Result<(), (ctrsh::kind::Kind, String)> {
        fn told<E: Failure>(error: E) -> (ctrsh::kind::Kind, String) {
            (error.kind(), error.to_string())
        }
        let source = format!("{host}/{}", self.pushed);
        let at_host = |name: &str| -> Reference { format!("{host}/{name}").parse().unwrap() };
        let copy = |from: Endpoint| async move {
            let copy = Copy::new(from, Endpoint::Registry(at_host(target)), CopyOptions::default());
            execute(ctx, copy).await.map(drop).map_err(told)
        };
        match self.operation.deed() {
            Deed::Pull => {
                let arrival = Arrival { unpack: false, ..Arrival::default() };
                let pull = Pull::new(at_host(&self.pushed), arrival, Default::default());
                // What is taken back when it fails is not a part of it here: that waits for the daemon.
                let whole = async |mut pull: Pull| {
                    pull.plan(ctx).await?;
                    pull.apply(ctx).await
                };
                whole(pull).await.map(drop).map_err(told)
            }
            Deed::Push => copy(Endpoint::Layout { path: self.image.layout.clone(), selector: Selector::Only }).await,
            Deed::Copy => copy(Endpoint::Registry(at_host(&self.pushed))).await,
            Deed::Tags => {
                let tags = repository(ctx.registry(), &source).tags().await.map_err(told)?;
                assert!(tags.contains(&"v1".to_owned()), "{tags:?}");
                Ok(())
            }
            Deed::Referrers => {
                let digest = self.image.digest.parse().unwrap();
                let found = repository(ctx.registry(), &source).referrers(&digest, None).await.map_err(told)?;
                assert_eq!(found.len(), 1, "{found:?}");
                Ok(())
            }
        }
    }

    /// Reads what has arrived, and compares it with what was sent.
    async fn check_whole(&self, ctx: &Context, target: &str) -> Result<(), String> {
        let blobs = [&self.image.manifest, &self.image.config, &self.image.layers[0]];
        match self.operation.deed() {
            Deed::Pull => {
                let client = ctx.client().await.unwrap();
                let images = client.images().list(&[]).await.unwrap();
                if images.len() != 1 || images[0].target.digest.as_str() != self.image.digest {
                    return Err(format!("not the image: {images:?}"));
                }
                for blob in blobs {
                    let bytes = client.content().bytes(&blob.parse().unwrap(), 1 << 20).await;
                    let bytes = bytes.map_err(|error| format!("{blob}: {error}"))?;
                    if Digest::sha256(&bytes).as_str() != blob {
                        return Err(format!("{blob} has other bytes"));
                    }
                }
            }
            Deed::Push | Deed::Copy => {
                let repository = repository(&Client::new(Config::default()), &self.direct(target));
                let (root, bytes) = repository.fetch("v1").await.map_err(|error| error.to_string())?;
                if root.digest.as_str() != self.image.digest {
                    return Err(format!("not the image: {root:?}"));
                }
                let manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    let bytes = read(&repository, blob).await;
                    if Digest::sha256(&bytes) != blob.digest {
                        return Err(format!("{} has other bytes", blob.digest));
                    }
                }
            }
            Deed::Tags | Deed::Referrers => {}
        }
        Ok(())
    }

    /// Looks at how often was asked, and how much was sent: no more than the faults are a reason for.
    fn check_effort(&self, cell: &Cell, hosts: &Hosts, whole: bool) -> Result<(), String> {
        let asked = match cell.operation {
            Operation::Resolve => hosts.proxy.count("HEAD", "/manifests/v1"),
            Operation::Config => hosts.proxy.count("GET", &self.image.config),
            Operation::Layer => hosts.proxy.count("GET", &self.image.layers[0]),
            Operation::Tags => hosts.proxy.count("GET", "/tags/list"),
            _ => 0,
        };
        let happened = hosts.proxy.faults();
        if whole && asked > happened + 2 {
            return Err(format!("asked {asked} times for {happened} faults"));
        }
        if cell.operation == Operation::Layer && whole && cell.trouble.then.is_none() {
            let size = std::fs::metadata(self.image.blob(&self.image.layers[0])).unwrap().len();
            let again = if matches!(cell.outcome, Outcome::Once(_)) { size } else { 0 };
            let sent = hosts.proxy.sent();
            if sent > size + size / 10 + again {
                return Err(format!("{sent} bytes were sent for a layer of {size}"));
            }
        }
        if matches!(cell.outcome, Outcome::Refused(_)) && happened > 3 {
            return Err(format!("asked {happened} times for what was refused"));
        }
        Ok(())
    }

    /// Looks for what was begun and not ended.
    async fn check_rest(
        &self,
        ctx: &Context,
        target: &str,
        whole: bool,
        out_of_reach: &dyn Fn() -> usize,
    ) -> Result<(), String> {
        if self.daemon.is_some() {
            let client = ctx.client().await.unwrap();
            let leases = client.leases().list(&[]).await.unwrap();
            let ingests = client.content().statuses(&[]).await.unwrap();
            let images = client.images().list(&[]).await.unwrap();
            if !leases.is_empty() || !ingests.is_empty() || (!whole && !images.is_empty()) {
                return Err(format!("left behind: {leases:?} {ingests:?} {images:?}"));
            }
        }
        if matches!(self.operation.deed(), Deed::Push | Deed::Copy) {
            let repository = target.trim_end_matches(":v1");
            let folder = self.env.sandbox_folder().join("registry-0/docker/registry/v2/repositories");
            let folder = folder.join(repository).join("_uploads");
            let begun = Instant::now();
            while uploads(&folder) > out_of_reach() {
                if begun.elapsed() > SETTLED {
                    return Err(format!("{} uploads are left", uploads(&folder)));
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }
}

/// Counts the uploads in a repository's folder. docker-registry 2.8.2 leaves an empty hash state of those that were ended,
/// which it writes after it has removed the rest.
fn uploads(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| ["data", "startedat"].iter().any(|file| entry.path().join(file).exists())).count()
}
