//! What a registry needs round one request: the host to ask, credentials, and patience.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::sync::RwLock;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use url::Url;

use super::Result;
use super::answer::Answer;
use super::auth::Logins;
use super::cause::Cause;
use super::config::Config;
use super::error::Error;
use super::harbor::Harbors;
use super::hosts::{self, Capability, Endpoint, Profile};
use super::pace::Among;
use super::presence::Presence;
use super::reach::Reach;
use super::retry::Policy;
use super::target::{Place, Target};
use super::token::Asking;
use super::transport::{Body, Parcel, Reply, Transport};
use super::uploads::Interrupted;
use crate::grant::{Access, Grant, Refused};
use crate::kind::Failure;

/// How often one request may be sent again with other credentials: once for none, once for too few.
const MAX_CHALLENGES: usize = 2;

/// How often a host is looked for again that no name server knows.
const RETRIES_OF_NAMES: u32 = 2;
/// How often a request is tried again before the user is told why nothing happens.
const SILENT_RETRIES: u32 = 2;
/// How often the user is told so of one registry.
const TELLING: Duration = Duration::from_secs(30);

/// What all repositories of a client share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    transport: Transport,
    pub(super) logins: Logins,
    pub(super) presence: Presence,
    hosts: Mutex<HashMap<String, Arc<[Arc<Endpoint>]>>>,
    /// Which of the hosts that may fall back to plain HTTP do so, once that is known.
    plain: Mutex<HashMap<url::Origin, bool>>,
    /// How long the pieces of an upload may be, for the registries that refused a whole one.
    pieces: Mutex<HashMap<String, u64>>,
    pub(super) interrupted: Interrupted,
    /// Held while a manifest is put into a repository: alone for an index, together for others.
    puts: Mutex<HashMap<String, Arc<RwLock<()>>>>,
    /// Held while an index that stands in for a list of referrers is read and written anew.
    lists: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// What takes back uploads that nobody waits for any more.
    pub(super) endings: TaskTracker,
    pub(super) harbors: Harbors,
    /// When the user was told of a registry's trouble.
    told: Mutex<HashMap<String, Instant>>,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        let config = Arc::new(config);
        let endings = TaskTracker::new();
        // Closed it still takes tasks, and whoever waits is told whenever there are none.
        endings.close();
        Self {
            transport: Transport::new(Arc::clone(&config)),
            config,
            logins: Logins::default(),
            presence: Presence::default(),
            hosts: Mutex::default(),
            plain: Mutex::default(),
            pieces: Mutex::default(),
            interrupted: Interrupted::default(),
            puts: Mutex::default(),
            lists: Mutex::default(),
            endings,
            harbors: Harbors::default(),
            told: Mutex::default(),
        }
    }

    /// Tells the user why nothing happens: once in a while, however many requests wait.
    fn tell_of_trouble(&self, registry: &str, error: &Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(registry).is_none_or(|last| last.elapsed() >= TELLING) {
            told.insert(registry.to_owned(), Instant::now());
            tracing::warn!("{error}; trying again");
        }
    }

    /// Returns the hosts of a registry, read from the hosts folder when they are first needed.
    fn hosts(&self, registry: &str) -> Result<Arc<[Arc<Endpoint>]>> {
        let mut known = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosts) = known.get(registry) {
            return Ok(Arc::clone(hosts));
        }
        let hosts: Arc<[Arc<Endpoint>]> = hosts::load(&self.config, registry)?.into_iter().map(Arc::new).collect();
        known.insert(registry.to_owned(), Arc::clone(&hosts));
        Ok(hosts)
    }

    fn is_plain(&self, endpoint: &Endpoint) -> Option<bool> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint.base.origin()).copied()
    }

    /// Returns what is held while a manifest is put into a repository, `REGISTRY/REPOSITORY`.
    ///
    /// docker-registry 2.8 empties the link of a manifest before it writes it again, and refuses an index that names the
    /// manifest at that moment.
    pub(super) fn puts(&self, repository: &str) -> Arc<RwLock<()>> {
        held(&self.puts, repository)
    }

    /// Returns what is held while one adds to the list of what refers to a subject, `REGISTRY/REPOSITORY@DIGEST`.
    pub(super) fn list(&self, subject: &str) -> Arc<tokio::sync::Mutex<()>> {
        held(&self.lists, subject)
    }

    fn set_plain(&self, endpoint: &Endpoint, plain: bool) {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.base.origin(), plain);
    }

    /// Returns how long a piece of an upload may be, when it may not be whole.
    pub(super) fn piece(&self, registry: &str) -> Option<u64> {
        let known = self.pieces.lock().unwrap_or_else(PoisonError::into_inner).get(registry).copied();
        known.into_iter().chain(self.config.limits.piece).min()
    }

    pub(super) fn set_piece(&self, registry: &str, piece: u64) {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).insert(registry.to_owned(), piece);
    }

    /// Returns an endpoint's address in use for what is asked there.
    fn base(&self, endpoint: &Endpoint, target: &Target) -> Url {
        if !endpoint.fallback {
            return endpoint.base.clone();
        }
        let mut plain = endpoint.base.clone();
        // Cannot fail: both schemes are "special" to the URL standard.
        let _ = plain.set_scheme("http");
        // What it named while it spoke plain HTTP is its own, though others lost it meanwhile and look for TLS again.
        if target.is_named_by(&plain) || self.is_plain(endpoint) == Some(true) { plain } else { endpoint.base.clone() }
    }
}

/// Returns what is held under a name.
fn held<L: Default>(all: &Mutex<HashMap<String, Arc<L>>>, name: &str) -> Arc<L> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever is done drops its clone; what nobody holds any more is swept here.
    all.retain(|_, held| Arc::strong_count(held) > 1);
    Arc::clone(all.entry(name.to_owned()).or_default())
}

/// Returns the host that stands for the registry itself, whose settings may be among those of the hosts: the one that a push
/// goes to, as a mirror that takes none has only a part; for a login the one of that name, as a mirror has a login of its own.
fn own(hosts: &[Arc<Endpoint>], capability: Capability) -> Option<&Arc<Endpoint>> {
    let stands = |host: &&Arc<Endpoint>| match capability {
        Capability::Login => host.mirror_of.is_none(),
        _ => host.can.contains(&Capability::Push),
    };
    hosts.iter().find(stands).or(hosts.last())
}

/// A registry under a grant: what requests are made through.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    /// The registry as the user writes it.
    pub(super) registry: String,
    pub(super) grant: Grant,
}

/// What goes along to prove who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// What the host asks for: a token, or the user and the password.
    Asked,
    /// The user and the password, unasked: for an interface that takes no tokens and names no way to log in.
    Password,
    /// Nothing.
    Nothing,
}

/// What is asked of a registry.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) access: Access,
    pub(super) capability: Capability,
    /// What the grant is asked about, `REGISTRY/REPOSITORY`.
    pub(super) subject: &'a str,
    pub(super) target: Target,
    /// What proves who asks.
    pub(super) proof: Proof,
    /// What a token must allow, the most important first.
    pub(super) scopes: Vec<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Among which others it waits for a place.
    pub(super) among: Among,
    /// The longest body that the answer may have, when it is to be read whole.
    pub(super) whole: Option<u64>,
    /// Whether it is not worth another try.
    pub(super) once: bool,
    /// Whether the answer may take as long as it takes to make a blob of an upload.
    pub(super) commits: bool,
}

/// Content that an image's author keeps elsewhere.
pub(super) struct Foreign<'a> {
    pub(super) url: &'a str,
    pub(super) subject: &'a str,
    pub(super) range: Option<HeaderValue>,
}

/// A successful answer, and who gave it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) reply: Reply,
    pub(super) endpoint: Arc<Endpoint>,
}

impl Done {
    /// Takes the address that the answer names.
    pub(super) fn place(&self, location: &str) -> Result<Place> {
        let url = self.reply.locate(location)?;
        let chooser = self.reply.reach;
        if url.origin() != self.reply.url.origin() && !chooser.may_choose(Reach::of_literal(&url)) {
            return Err(self.reply.detour(&url, "it is an address that this registry may not send us to"));
        }
        Ok(Place { url, endpoint: Arc::clone(&self.endpoint), chooser })
    }
}

impl Session {
    /// Sends a request to the first host that can answer it, and again where that may help.
    ///
    /// Mirrors are asked in their order, each once, before anyone is asked again. The registry's own answer decides.
    pub(super) async fn send(&self, mut call: Call<'_>) -> Result<Done> {
        let mut hosts = self.candidates(&call)?;
        let decisive = hosts.last().cloned();
        let policy = self.shared.config.retry;
        let mut retry = 0;
        let begun = Instant::now();
        loop {
            let mut again = Vec::new();
            let mut last = None;
            for host in hosts {
                match self.explained(&host, &mut call).await {
                    Ok(done) => return Ok(done),
                    Err(error @ Error::Refused(_)) => return Err(error),
                    Err(error) if error.retryable() && call.body.can_be_sent() => {
                        again.push(host);
                        last = Some(error);
                    }
                    Err(error) => {
                        if decisive.as_ref().is_some_and(|own| Arc::ptr_eq(own, &host)) || !call.body.can_be_sent() {
                            return Err(error);
                        }
                        last = last.or(Some(error));
                    }
                }
            }
            let nobody = || Error::NoHost { registry: self.registry.clone(), capability: call.capability.as_str() };
            let error = last.unwrap_or_else(nobody);
            if again.is_empty() || call.once {
                return Err(error);
            }
            let policy = match error.is_unknown_host() {
                true => Policy { retries: policy.retries.min(RETRIES_OF_NAMES), ..policy },
                false => policy,
            };
            let Some(delay) = policy.delay(retry, begun.elapsed()) else {
                return Err(Error::Exhausted { tries: retry + 1, last: Box::new(error) });
            };
            tracing::debug!(%error, ?delay, retry, "trying again");
            if retry == SILENT_RETRIES {
                self.shared.tell_of_trouble(&self.registry, &error);
            }
            self.sleep(delay).await?;
            hosts = again;
            retry += 1;
        }
    }

    /// Returns the part of a query that says how long the pages of a list may be.
    pub(super) fn page(&self) -> (&'static str, String) {
        ("n", self.shared.config.limits.page.to_string())
    }

    async fn sleep(&self, delay: Duration) -> Result<()> {
        let slept = self.grant.cancel().run_until_cancelled(tokio::time::sleep(delay)).await;
        slept.ok_or(Error::Refused(Refused::Cancelled))
    }

    fn candidates(&self, call: &Call<'_>) -> Result<Vec<Arc<Endpoint>>> {
        if let Target::Named(place) = &call.target {
            return Ok(vec![Arc::clone(&place.endpoint)]);
        }
        let hosts = self.shared.hosts(&self.registry)?;
        if matches!(call.capability, Capability::Own | Capability::Login) {
            return Ok(own(&hosts, call.capability).cloned().into_iter().collect());
        }
        let mut able: Vec<_> = hosts.iter().filter(|host| host.can.contains(&call.capability)).cloned().collect();
        if able.is_empty() {
            return Err(Error::NoHost { registry: self.registry.clone(), capability: call.capability.as_str() });
        }
        if call.capability == Capability::Push {
            // As containerd does: a push that moved on from host to host would leave parts of it everywhere.
            able.truncate(1);
        }
        Ok(able)
    }

    /// Asks one host once. The answer to a HEAD has no body, so why one was refused is asked with a GET.
    async fn explained(&self, endpoint: &Arc<Endpoint>, call: &mut Call<'_>) -> Result<Done> {
        let refused = match self.attempt(endpoint, call).await {
            Err(Error::Answer(answer))
                if call.method == Method::HEAD
                    && matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
                    && answer.authenticated
                    && !answer.another_way
                    // And not what a token service said of the password.
                    && answer.action.starts_with("HEAD ") =>
            {
                answer
            }
            other => return other,
        };
        call.method = Method::GET;
        let again = self.attempt(endpoint, call).await;
        call.method = Method::HEAD;
        match again {
            Err(Error::Answer(said)) if said.status == refused.status => Err(Error::Answer(said)),
            Err(error @ Error::Refused(_)) => Err(error),
            _ => Err(Error::Answer(refused)),
        }
    }

    /// Asks one host once, with the credentials that it wants.
    async fn attempt(&self, endpoint: &Arc<Endpoint>, call: &mut Call<'_>) -> Result<Done> {
        let mut challenges = 0;
        loop {
            let base = self.shared.base(endpoint, &call.target);
            let (url, guard) = call.target.at(&base, endpoint);
            let own = url.origin() == base.origin();
            let login = self.shared.logins.of(base.origin());
            let ask = Asking {
                transport: &self.shared.transport,
                config: &self.shared.config,
                grant: &self.grant,
                subject: call.subject,
                endpoint,
                base: &base,
            };
            let mut own_headers = HeaderMap::new();
            let mut authorization = None;
            let mut profile = endpoint.profile.clone();
            if own {
                authorization = match call.proof {
                    Proof::Asked => login.authorization(&ask, &call.scopes).await?,
                    Proof::Password => login.password(&ask).await?,
                    Proof::Nothing => None,
                };
                own_headers.extend(endpoint.headers.clone());
                if let Some(value) = &authorization {
                    own_headers.insert(AUTHORIZATION, value.clone());
                }
            } else {
                profile.client = None;
            }
            let sent = self
                .shared
                .transport
                .send(Parcel {
                    grant: &self.grant,
                    access: call.access,
                    subject: call.subject,
                    method: call.method.clone(),
                    url,
                    profile: &profile,
                    guard,
                    headers: call.headers.clone(),
                    own_headers,
                    body: &mut call.body,
                    among: call.among,
                    commits: call.commits,
                })
                .await;
            let reply = match sent {
                Err(Error::Unreachable { source, .. })
                    if endpoint.fallback
                        && own
                        && base.scheme() == "https"
                        && self.shared.is_plain(endpoint) != Some(false)
                        // As in containerd: not for a certificate that is not to be trusted.
                        && matches!(Cause::of(&source), Cause::NotTls | Cause::Refused)
                        && call.body.can_be_sent() =>
                {
                    self.shared.set_plain(endpoint, true);
                    continue;
                }
                Err(error @ Error::Unreachable { .. }) if endpoint.fallback && own && base.scheme() == "http" => {
                    // It may come back speaking TLS.
                    self.shared.plain.lock().unwrap_or_else(PoisonError::into_inner).remove(&endpoint.base.origin());
                    return Err(error);
                }
                other => other?,
            };
            if endpoint.fallback && own && base.scheme() == "https" {
                self.shared.set_plain(endpoint, false);
            }
            let may_learn = reply.direct && own && call.proof == Proof::Asked && challenges < MAX_CHALLENGES;
            if reply.status() == StatusCode::UNAUTHORIZED && may_learn {
                challenges += 1;
                let asked = (reply.headers(), reply.reach);
                let better = login.learn(&ask, asked, &call.scopes, authorization.as_ref()).await?;
                if better && call.body.can_be_sent() {
                    continue;
                }
                return match reply.checked().await {
                    Err(Error::Answer(answer)) => {
                        Err(Error::Answer(Box::new(Answer { another_way: better, ..*answer })))
                    }
                    Err(error) => Err(error),
                    Ok(reply) => Ok(Done { reply, endpoint: Arc::clone(endpoint) }),
                };
            }
            let mut reply = reply.checked().await?;
            if let Some(limit) = call.whole {
                // Here, so that a body that breaks off is asked for again.
                reply.fill(limit).await?;
            }
            return Ok(Done { reply, endpoint: Arc::clone(endpoint) });
        }
    }

    /// Reads content from where an image's author says it is, with nobody's credentials.
    pub(super) async fn fetch_foreign(&self, foreign: Foreign<'_>) -> Result<Reply> {
        let fail = |reason| Error::Detour {
            action: "GET".to_owned(),
            host: foreign.subject.to_owned(),
            target: super::error::plain(foreign.url, 200),
            reason,
        };
        let url = Url::parse(foreign.url).map_err(|_| fail("it is not an address"))?;
        if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
            return Err(fail("content elsewhere is fetched only by https, without a user"));
        }
        let headers = foreign.range.into_iter().map(|range| (RANGE, range)).collect();
        let parcel = Parcel {
            grant: &self.grant,
            access: Access::Read,
            subject: foreign.subject,
            method: Method::GET,
            url,
            profile: &Profile::default(),
            guard: Some(Reach::Public),
            headers,
            own_headers: HeaderMap::new(),
            body: &mut Body::Empty,
            among: Among::Downloads,
            commits: false,
        };
        self.shared.transport.send(parcel).await?.checked().await
    }
}
