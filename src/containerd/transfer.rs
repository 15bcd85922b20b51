//! The transfer service: the daemon itself moves an image between a registry and its store (containerd 1.7 and later).
//!
//! What is said beside the call goes over streams that the daemon knows by their ids: its questions for credentials, and
//! how far it is (containerd docs/transfer.md, core/transfer/registry, core/transfer/local).

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use containerd_client::services::v1 as api;
use containerd_client::services::v1::streaming_client::StreamingClient;
use containerd_client::services::v1::transfer_client::TransferClient;
use containerd_client::types as wire_v1;
use containerd_client::types::transfer as wire_transfer;
use prost::{Message, Name};
use prost_types::Any;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use zeroize::Zeroizing;

use super::error::{Error, excerpt_long, failed};
use super::guard::Guard;
use super::introspection::Plugin;
use super::{Client, Labels, Result, service, wire};
use crate::kind::{BoxFailure, Kind};
use crate::oci::{Descriptor, MediaType, Platform, excerpt};

/// How long a finished transfer's last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How many messages of ours a stream holds before whoever sends has to wait.
const WAITING: usize = 4;

/// The plugins that have to work, and the part of a filter that finds them.
const PLUGINS: [(&str, &str); 3] = [
    ("io.containerd.grpc.v1", "transfer"),
    ("io.containerd.grpc.v1", "streaming"),
    ("io.containerd.transfer.v1", "local"),
];
/// What the transfer plugin needs where it reads a hosts folder and a scheme; that of 1.7 passes over both.
const VERIFIER: &str = "io.containerd.image-verifier.v1";

/// What the daemon says when it is not configured to unpack as it was asked to.
const NOT_UNPACKED: &str = "no unpack platforms defined";

/// What a daemon's transfer service can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ability {
    /// Whether it hears of a hosts folder and of plain HTTP.
    pub hosts: bool,
}

/// A registry's image, as the daemon is to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The image's full name.
    pub reference: String,
    /// A folder of `hosts.toml` files on the daemon's machine.
    pub hosts_dir: Option<PathBuf>,
    /// Whether HTTP without TLS is spoken.
    pub plain_http: bool,
}

/// How an image is kept in the namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The record's name.
    pub name: String,
    /// The record's labels. They take the place of those that it has.
    pub labels: Labels,
    /// The platforms to fetch, the best first; none means all.
    pub platforms: Vec<Platform>,
    /// Whether of all that fit only the best is fetched.
    pub one: bool,
    /// The platforms to unpack.
    pub unpack: Vec<Platform>,
    /// Where they are unpacked.
    pub snapshotter: String,
}

/// What proves to a registry who asks.
pub struct Login {
    /// The user; none when the secret is an identity token.
    pub user: Option<String>,
    /// The password or token.
    pub secret: Zeroizing<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How far the transfer of one blob or document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// What it is.
    pub descriptor: Descriptor,
    /// Whether it was there before.
    pub present: bool,
    /// Whether it is there now.
    pub complete: bool,
    /// How many of its bytes were moved.
    pub bytes: u64,
}

/// Whom the daemon talks to during a transfer.
#[async_trait]
pub trait Partner: Send + Sync {
    /// Returns what a host may be told to prove who asks; the answer goes to no other.
    async fn login(&self, host: &str) -> Result<Option<Login>, BoxFailure>;

    /// Hears how far it is.
    fn moving(&self, moving: Moving);
}

/// The transfer service.
#[derive(Debug, Clone)]
pub struct Transfer(Client);

impl Client {
    /// Returns the transfer service.
    #[must_use]
    pub fn transfer(&self) -> Transfer {
        Transfer(self.clone())
    }
}

impl Transfer {
    fn rpc(&self) -> TransferClient<Guard> {
        service!(TransferClient<_>, self.0)
    }

    /// Asks the daemon what its transfer service can be told; none when it has no such service that works.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached.
    pub async fn ability(&self) -> Result<Option<Ability>> {
        let filters = PLUGINS.map(|(kind, id)| format!("type=={kind},id=={id}"));
        let plugins = self.0.introspection().plugins(&filters).await?;
        Ok(ability(&plugins))
    }

    /// Has the daemon fetch an image. Dropping the future stops it.
    ///
    /// The daemon unpacks only into the snapshotters that it is configured for; whoever needs the snapshots has to see
    /// whether they are there.
    ///
    /// # Errors
    /// What the registry, the daemon or the partner said.
    pub async fn pull(&self, from: &Remote, to: &Stored, partner: &dyn Partner) -> Result<(), BoxFailure> {
        let fetch = async |to: &Stored| {
            let store = any(&to.to_wire());
            self.run("pull", &from.reference, partner, |auth| (any(&from.to_wire(auth)), store)).await
        };
        match fetch(to).await {
            // It looks before it fetches (core/unpack, NewUnpacker).
            Err(failure) if !to.unpack.is_empty() && failure.to_string().contains(NOT_UNPACKED) => {
                fetch(&Stored { unpack: Vec::new(), ..to.clone() }).await
            }
            other => other,
        }
    }

    /// Has the daemon send an image, all of it. Dropping the future stops it.
    ///
    /// # Errors
    /// What the registry, the daemon or the partner said.
    pub async fn push(&self, name: &str, to: &Remote, partner: &dyn Partner) -> Result<(), BoxFailure> {
        let store = any(&Stored { name: name.to_owned(), ..Stored::default() }.to_wire());
        self.run("push", &to.reference, partner, |auth| (store, any(&to.to_wire(auth)))).await
    }

    async fn run(
        &self,
        action: &'static str,
        subject: &str,
        partner: &dyn Partner,
        ends: impl FnOnce(String) -> (Any, Any),
    ) -> Result<(), BoxFailure> {
        let mut auth = self.stream(subject).await?;
        let mut progress = self.stream(subject).await?;
        let (source, destination) = ends(auth.id.clone());
        let options = api::TransferOptions { progress_stream: progress.id.clone() };
        let request =
            api::TransferRequest { source: Some(source), destination: Some(destination), options: Some(options) };
        let mut rpc = self.rpc();
        let mut transfer = pin!(rpc.transfer(request));
        let mut answering = pin!(async {
            let Err(failure) = auth.answer(partner).await;
            failure
        });
        let mut watching = pin!(progress.watch(partner));
        let mut watched = false;
        loop {
            tokio::select! {
                // A login that cannot be had is told as such, not as what the registry makes of its absence.
                biased;
                failure = &mut answering => return Err(failure),
                () = &mut watching, if !watched => watched = true,
                answer = &mut transfer => {
                    answer.map_err(moved(action, subject))?;
                    break;
                }
            }
        }
        if !watched {
            // What was said before the end may still be on its way; that it is lost harms nobody.
            let _ = tokio::time::timeout(LAST_WORDS, watching).await;
        }
        Ok(())
    }

    /// Opens a stream that the daemon can be told of by its id.
    async fn stream(&self, subject: &str) -> Result<Stream> {
        const ACTION: &str = "open a stream for the transfer of";
        let id = format!("ctrsh-{:016x}", rand::random::<u64>());
        let (sender, receiver) = channel(WAITING);
        // There is room: nothing was sent yet.
        let _ = sender.send(any(&api::StreamInit { id: id.clone() })).await;
        let mut rpc: StreamingClient<Guard> = service!(StreamingClient<_>, self.0);
        let answer = rpc.stream(ReceiverStream::new(receiver)).await;
        let mut answers = answer.map_err(failed(ACTION, subject))?.into_inner();
        // The first message says that the daemon knows the stream.
        let first = answers.message().await.map_err(failed(ACTION, subject))?;
        wire::required(first, ACTION, subject)?;
        Ok(Stream { id, sender, answers })
    }
}

/// A stream between this side and the daemon; dropping it ends it.
struct Stream {
    id: String,
    sender: Sender<Any>,
    answers: tonic::Streaming<Any>,
}

impl Stream {
    /// Answers questions for credentials, until there is no answer to one.
    async fn answer(&mut self, partner: &dyn Partner) -> Result<std::convert::Infallible, BoxFailure> {
        while let Ok(Some(question)) = self.answers.message().await {
            let Ok(asked) = wire_transfer::AuthRequest::decode(question.value.as_slice()) else { continue };
            let answer = match partner.login(&asked.host).await? {
                None => wire_transfer::AuthResponse::default(),
                Some(Login { user: Some(user), secret }) => wire_transfer::AuthResponse {
                    auth_type: wire_transfer::AuthType::Credentials.into(),
                    username: user,
                    secret: secret.to_string(),
                    expire_at: None,
                },
                Some(Login { user: None, secret }) => wire_transfer::AuthResponse {
                    auth_type: wire_transfer::AuthType::Refresh.into(),
                    secret: secret.to_string(),
                    ..wire_transfer::AuthResponse::default()
                },
            };
            if self.sender.send(any(&answer)).await.is_err() {
                break;
            }
        }
        // The daemon asks no more; what became of the transfer is in the answer to its call.
        std::future::pending().await
    }

    /// Passes on how far the transfer is, until the daemon says no more.
    async fn watch(&mut self, partner: &dyn Partner) {
        while let Ok(Some(told)) = self.answers.message().await {
            let moving = wire_transfer::Progress::decode(told.value.as_slice()).ok().and_then(Moving::from_wire);
            if let Some(moving) = moving {
                partner.moving(moving);
            }
        }
    }
}

impl Moving {
    /// Reads a report; one that is not of a blob or document is none.
    fn from_wire(told: wire_transfer::Progress) -> Option<Self> {
        let present = told.event == "already exists";
        let complete = present || told.event == "complete";
        if !complete && !matches!(told.event.as_str(), "waiting" | "downloading" | "uploading") {
            return None;
        }
        let descriptor = match told.desc {
            Some(descriptor) => wire::descriptor(descriptor).ok()?,
            None => named(&told.name, wire::size(told.total))?,
        };
        Some(Self { descriptor, present, complete, bytes: wire::size(told.progress) })
    }
}

/// Reads the key by which containerd 1.7 names what it moves (core/remotes, MakeRefKey): its kind and its digest.
fn named(key: &str, size: u64) -> Option<Descriptor> {
    let (kind, digest) = key.split_once('-')?;
    let media_type = match kind {
        "manifest" => MediaType::OciManifest,
        "index" => MediaType::OciIndex,
        "config" => MediaType::OciConfig,
        "layer" => MediaType::parse("application/vnd.oci.image.layer.v1.tar+gzip"),
        _ => MediaType::parse("application/octet-stream"),
    };
    Some(Descriptor::new(media_type, digest.parse().ok()?, size))
}

impl Remote {
    fn to_wire(&self, auth_stream: String) -> wire_transfer::OciRegistry {
        let resolver = wire_transfer::RegistryResolver {
            auth_stream,
            host_dir: self.hosts_dir.as_deref().map(Path::to_string_lossy).unwrap_or_default().into_owned(),
            default_scheme: if self.plain_http { "http".to_owned() } else { String::new() },
            ..wire_transfer::RegistryResolver::default()
        };
        wire_transfer::OciRegistry { reference: self.reference.clone(), resolver: Some(resolver) }
    }
}

impl Stored {
    fn to_wire(&self) -> wire_transfer::ImageStore {
        let unpacks = self.unpack.iter().map(|one| wire_transfer::UnpackConfiguration {
            platform: Some(platform(one)),
            snapshotter: self.snapshotter.clone(),
        });
        wire_transfer::ImageStore {
            name: self.name.clone(),
            labels: wire::to_labels(&self.labels),
            platforms: self.platforms.iter().map(platform).collect(),
            unpacks: unpacks.collect(),
            manifest_limit: self.one.into(),
            ..wire_transfer::ImageStore::default()
        }
    }
}

fn platform(platform: &Platform) -> wire_v1::Platform {
    wire_v1::Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        os_version: platform.os_version.clone().unwrap_or_default(),
    }
}

fn ability(plugins: &[Plugin]) -> Option<Ability> {
    let find = |(kind, id): (&str, &str)| {
        plugins.iter().find(|plugin| plugin.kind == kind && plugin.id == id && plugin.failure.is_none())
    };
    let [_, _, mover] = PLUGINS.map(find);
    PLUGINS
        .iter()
        .all(|one| find(*one).is_some())
        .then_some(Ability { hosts: mover.is_some_and(|mover| mover.requires.iter().any(|need| need == VERIFIER)) })
}

/// Packs a message as containerd does: its type's name has no slash before it, unlike what prost would write.
fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: message.encode_to_vec() }
}

/// Returns the mapping of a failed transfer's status. What the registry said is in the daemon's words only.
fn moved(action: &'static str, subject: &str) -> impl Fn(Status) -> Error {
    move |status| match (std::error::Error::source(&status), sort(status.message())) {
        // It did not come so far.
        (Some(_), _) | (None, None) => Error::from_status(action, subject, &status),
        (None, Some((kind, cure))) => {
            Error::Transfer { kind, action, subject: excerpt(subject), message: excerpt_long(status.message()), cure }
        }
    }
}

/// Sorts what the daemon says of a registry, by the words of Go's HTTP client and of containerd's resolver.
fn sort(text: &str) -> Option<(Kind, Option<&'static str>)> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["server gave HTTP response to HTTPS client", "tls: first record does not look like a TLS handshake"]) {
        return Some((Kind::Unavailable, Some("it speaks HTTP without TLS: say plain_http, or leave via away")));
    }
    if says(&["x509: ", "tls: failed to verify certificate"]) {
        let cure =
            "the daemon trusts its machine's authorities and those of its hosts folder; leave via away to trust others";
        return Some((Kind::Unavailable, Some(cure)));
    }
    if says(&["401 Unauthorized", "403 Forbidden", "authorization failed", "insufficient_scope"]) {
        return Some((Kind::Unauthorized, Some("log in with login(HOST), or give user")));
    }
    // These are told as those of every other call.
    if Kind::of_words(text).is_some() {
        return None;
    }
    if says(&["429 Too Many Requests", " 500 ", " 502 ", " 503 ", " 504 "]) {
        return Some((Kind::Unavailable, None));
    }
    if says(&["i/o timeout", "deadline exceeded", "TLS handshake timeout", "Client.Timeout"]) {
        return Some((Kind::Timeout, None));
    }
    if says(&["connection refused", "connection reset", "no such host", "network is unreachable", "EOF"]) {
        return Some((Kind::Unavailable, Some("the daemon has to reach the registry from its own machine")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{NO_SPACE, OVER_QUOTA, READ_ONLY};

    fn plugin(kind: &str, id: &str, requires: &[&str]) -> Plugin {
        Plugin {
            kind: kind.into(),
            id: id.into(),
            requires: requires.iter().map(|&need| need.to_owned()).collect(),
            platforms: Vec::new(),
            exports: std::collections::BTreeMap::new(),
            capabilities: Vec::new(),
            failure: None,
        }
    }

    #[test]
    fn a_daemon_can_what_its_plugins_say() {
        let mut plugins = vec![
            plugin(PLUGINS[0].0, PLUGINS[0].1, &[]),
            plugin(PLUGINS[1].0, PLUGINS[1].1, &[]),
            plugin(PLUGINS[2].0, PLUGINS[2].1, &["io.containerd.differ.v1"]),
        ];
        assert_eq!(ability(&plugins), Some(Ability { hosts: false }));
        plugins[2].requires.push(VERIFIER.into());
        assert_eq!(ability(&plugins), Some(Ability { hosts: true }));
        plugins[1].failure = Some("skip".into());
        assert_eq!(ability(&plugins), None);
        assert_eq!(ability(&[]), None);
    }

    #[test]
    fn a_login_is_not_shown() {
        let login = Login { user: Some("ann".into()), secret: Zeroizing::new("hunter2".into()) };
        assert!(!format!("{login:?}").contains("hunter2"));
    }

    #[test]
    fn what_the_daemon_says_of_a_registry_has_a_kind() {
        let kind = |text: &str| sort(text).map(|(kind, _)| kind);
        assert_eq!(
            kind("failed to authorize: unexpected status from GET request to https://r/token: 401 Unauthorized"),
            Some(Kind::Unauthorized)
        );
        assert_eq!(kind("dial tcp 127.0.0.1:1: connect: connection refused"), Some(Kind::Unavailable));
        assert_eq!(kind("read tcp: i/o timeout"), Some(Kind::Timeout));
        assert_eq!(kind("failed to resolve image: r.example/a:1: not found"), None);
        for words in [NO_SPACE, OVER_QUOTA, READ_ONLY] {
            assert_eq!(kind(&format!("write /var/lib/x: {words}")), None);
        }
    }
}
