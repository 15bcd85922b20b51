//! The client, and the registries and repositories it gives access to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::config::Tls;
use super::hosts::Capability;
use super::pace::Among;
use super::session::{Call, Done, Proof, Session, Shared};
use super::target::Target;
use super::transport::Body;
use super::{Config, Credential, Error, Result};
use crate::grant::{Access, Grant};
use crate::oci::Digest;
use crate::oci::store::Origin;

/// How long what was given up is waited for: an answer that is under way, and the request that takes the upload back.
const SETTLE: Duration = Duration::from_secs(21);

/// A client of registries: one for a process, and cheap to clone.
///
/// Making one costs nothing: certificates, credentials and hosts files are read when a request first needs them. Tokens,
/// connections, back-off and the memory of what registries hold are shared by all that is made from it.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
    /// Clients with other settings for one registry, so that a loop with options keeps its connections.
    variants: Arc<Mutex<HashMap<(String, Options), Client>>>,
    /// Clients that ask at other rates, by the bits of the rate.
    paced: Arc<Mutex<HashMap<u64, Client>>>,
}

/// What one call may set for its registry beside what is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Credentials, before all others.
    pub credential: Option<Credential>,
    /// Speak plain HTTP.
    pub plain_http: bool,
    /// Do not check the certificate.
    pub skip_verify: bool,
    /// Folders to use in place of the configured ones.
    pub hosts_dirs: Option<Vec<PathBuf>>,
    /// Certificates to use beside the configured ones.
    pub tls: Tls,
}

impl Client {
    /// Makes a client.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { shared: Arc::new(Shared::new(config)), variants: Arc::default(), paced: Arc::default() }
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Waits until the uploads are taken back that were begun and given up, for as long as that may take: others, such as the
    /// threads of a batch, may have uploads under way that they still want.
    pub async fn settle(&self) {
        let all = self.all();
        let all = all.iter().map(|client| client.shared.endings.wait());
        if tokio::time::timeout(SETTLE, join_all(all)).await.is_err() {
            tracing::debug!("what registries have to take back is not waited for any longer");
        }
    }

    /// Returns this client and all that were made from it.
    pub(super) fn all(&self) -> Vec<Self> {
        let variants: Vec<Self> =
            self.variants.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let paced: Vec<Self> = self.paced.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let made = variants.iter().chain(&paced).flat_map(Self::all);
        made.chain([self.clone()]).collect()
    }

    /// Returns a client that begins so many requests a second with each registry, and is like this one otherwise.
    #[must_use]
    pub fn paced(&self, rate: f64) -> Self {
        let mut paced = self.paced.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let mut config = self.config().clone();
            config.limits.rate = Some(rate);
            Self::new(config)
        };
        paced.entry(rate.to_bits()).or_insert_with(make).clone()
    }

    /// Returns a repository of a registry, to be used under a grant.
    #[must_use]
    pub fn repository(&self, registry: &str, repository: &str, grant: &Grant, options: &Options) -> Repository {
        Repository {
            session: self.session(registry, grant, options),
            name: repository.to_owned(),
            subject: format!("{registry}/{repository}"),
            pushes: false,
            itself: false,
        }
    }

    /// Returns a registry as a whole, to be used under a grant.
    #[must_use]
    pub fn registry(&self, registry: &str, grant: &Grant, options: &Options) -> Registry {
        Registry { session: self.session(registry, grant, options) }
    }

    fn session(&self, registry: &str, grant: &Grant, options: &Options) -> Session {
        let shared = Arc::clone(&self.variant(registry, options).shared);
        Session { shared, registry: registry.to_owned(), grant: grant.clone() }
    }

    pub(super) fn variant(&self, registry: &str, options: &Options) -> Self {
        if *options == Options::default() {
            return self.clone();
        }
        let mut variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        variants
            .entry((registry.to_owned(), options.clone()))
            .or_insert_with(|| Self::new(changed(self.config(), registry, options)))
            .clone()
    }
}

fn changed(config: &Config, registry: &str, options: &Options) -> Config {
    let mut config = config.clone();
    if let Some(credential) = &options.credential {
        config.credentials.insert(super::credentials::key(registry).to_owned(), credential.clone());
    }
    if options.plain_http {
        config.plain_http.insert(registry.to_owned());
    }
    if options.skip_verify {
        config.skip_verify.insert(registry.to_owned());
    }
    if let Some(dirs) = &options.hosts_dirs {
        config.hosts_dirs.clone_from(dirs);
    }
    config.tls.ca.extend(options.tls.ca.iter().cloned());
    if options.tls.client.is_some() {
        config.tls.client.clone_from(&options.tls.client);
    }
    config
}

/// A registry as a whole.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(super) session: Session,
}

impl Registry {
    /// Returns the registry's name, `HOST[:PORT]`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.session.registry
    }

    /// Makes sure that a registry answers there and takes the credentials (distribution-spec, end-1). Returns whether it
    /// asked for any.
    ///
    /// # Errors
    /// Whatever keeps it from answering; of kind `unauthorized` when the credentials are wrong or missing.
    pub async fn ping(&self) -> Result<bool> {
        // The base itself; Docker's registry answers only with the slash.
        let call = self.call(Capability::Login, Target::Path(String::new(), Vec::new()));
        Ok(self.session.send(call).await?.reply.authenticated)
    }

    pub(super) async fn get(&self, target: Target, scopes: Vec<String>, whole: Option<u64>) -> Result<Done> {
        self.session.send(Call { scopes, whole, ..self.call(Capability::Own, target) }).await
    }

    fn call(&self, capability: Capability, target: Target) -> Call<'_> {
        Call {
            method: Method::GET,
            access: Access::Read,
            capability,
            subject: self.name(),
            target,
            proof: Proof::Asked,
            scopes: Vec::new(),
            headers: HeaderMap::new(),
            body: Body::Empty,
            among: Among::Requests,
            whole: None,
            once: false,
            commits: false,
        }
    }
}

/// A repository of a registry.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) session: Session,
    name: String,
    subject: String,
    /// Whether all requests are for a push.
    pushes: bool,
    /// Whether no mirror is asked.
    itself: bool,
}

impl Repository {
    /// Returns the same repository for a push or a deletion: what it holds is asked of the host that is changed, as a mirror may
    /// hold something else, and tokens allow a push from the first request on, which saves fetching two.
    #[must_use]
    pub fn for_push(mut self) -> Self {
        self.pushes = true;
        self
    }

    /// Returns the same repository, asked of the registry itself and of none of its mirrors.
    #[must_use]
    pub fn itself(mut self) -> Self {
        self.itself = true;
        self
    }

    /// Notes blobs that were sent here by another process: others may mount them, if the registry still finds them here.
    pub fn suppose<'a>(&self, blobs: impl IntoIterator<Item = &'a Digest>) {
        for digest in blobs {
            self.session.shared.presence.suppose(self.registry(), &self.name, digest);
        }
    }

    /// Returns the registry's name, `HOST[:PORT]`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.session.registry
    }

    /// Returns the repository's name within the registry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns registry and name.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { registry: self.registry().to_owned(), repository: self.name.clone() }
    }

    /// Returns `REGISTRY/REPOSITORY`, as messages and grants call it.
    #[must_use]
    pub fn locator(&self) -> &str {
        &self.subject
    }

    /// Returns how messages call a tag or digest of it.
    pub(super) fn named(&self, selector: &str) -> String {
        let mark = if selector.contains(':') { '@' } else { ':' };
        format!("{}{mark}{selector}", self.subject)
    }

    /// Describes a request to a path of this repository; the method decides on the access and the scope. The host has to be
    /// capable of it where any of the registry's hosts may answer.
    pub(super) fn call(&self, method: Method, capability: Capability, path: &str) -> Call<'_> {
        let (access, actions) = match method {
            Method::GET | Method::HEAD if self.pushes => (Access::Read, "pull,push"),
            Method::GET | Method::HEAD => (Access::Read, "pull"),
            Method::DELETE => (Access::Delete, "delete"),
            _ => (Access::Write, "pull,push"),
        };
        let capability = match (self.pushes, self.itself) {
            (true, _) => Capability::Push,
            (false, true) => Capability::Own,
            (false, false) => capability,
        };
        Call {
            method,
            access,
            capability,
            subject: &self.subject,
            target: Target::Path(format!("{}/{path}", self.name), Vec::new()),
            proof: Proof::Asked,
            scopes: vec![format!("repository:{}:{actions}", self.name)],
            headers: HeaderMap::new(),
            body: Body::Empty,
            among: Among::Requests,
            whole: None,
            once: false,
            commits: false,
        }
    }

    pub(super) async fn send(&self, call: Call<'_>) -> Result<Done> {
        self.session.send(call).await
    }

    /// Returns the error for content whose registry says that the repository lacks what it was known to hold.
    pub(super) fn notice(&self, error: Error) -> Error {
        if let Error::Answer(answer) = &error
            && ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"].iter().any(|code| answer.has(code))
        {
            self.session.shared.presence.forget(self.registry(), &self.name);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;

    /// Begins what a client has to end, and returns what ends it.
    fn begin(client: &Client) -> oneshot::Sender<()> {
        let (end, ended) = oneshot::channel();
        client.shared.endings.spawn(ended);
        end
    }

    async fn yielded() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_who_settle_at_once_both_come_to_an_end() {
        let client = Client::new(Config::default());
        let first = begin(&client);
        let mut one = Box::pin(client.settle());
        assert!(poll!(&mut one).is_pending());
        first.send(()).unwrap();
        yielded().await;
        let second = begin(&client);
        let mut two = Box::pin(client.settle());
        assert!(poll!(&mut two).is_pending());
        one.await;
        second.send(()).unwrap();
        yielded().await;
        assert!(poll!(&mut two).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_not_waited_for() {
        let client = Client::new(Config::default());
        let _others = begin(&client);
        tokio::time::timeout(Duration::from_secs(60), client.settle()).await.unwrap();
    }
}
