//! Fetching a token from a token service (the distribution project's token and OAuth2 specifications).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::Serializer;

use super::Result;
use super::config::Config;
use super::credentials::{self, Credential, Secret};
use super::error::{Error, plain};
use super::hosts::Endpoint;
use super::pace::Among;
use super::reach::Reach;
use super::transport::{Body, Parcel, Transport};
use crate::grant::{Access, Grant};

/// The longest answer of a token service.
const MAX_ANSWER: u64 = 1 << 20;
/// How long a token lives when its service does not say (token specification, `expires_in`).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// What part of a token's life it is used for, so that it does not run out under a request.
const USED_PART: f64 = 0.8;
/// Who we are to an OAuth2 service.
const CLIENT_ID: &str = "ctrsh";
/// Token services that are known to belong to a registry of another name.
const KNOWN: [(&str, &str); 3] = [
    ("docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
];

/// A token and how long it is used.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    stale: Instant,
}

impl Token {
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.stale
    }
}

/// A token service, as a registry named it.
#[derive(Debug)]
pub(super) struct Service {
    realm: Url,
    name: Option<String>,
    /// How far the registry reaches that named it.
    chooser: Reach,
    /// Whether it wants the password in a form (OAuth2) rather than with a GET.
    wants_form: AtomicBool,
}

/// Who asks, for what.
pub(super) struct Asking<'a> {
    pub(super) transport: &'a Transport,
    pub(super) config: &'a Config,
    pub(super) grant: &'a Grant,
    pub(super) subject: &'a str,
    pub(super) endpoint: &'a Endpoint,
    /// The endpoint's address in use, which may have fallen back to plain HTTP.
    pub(super) base: &'a Url,
}

impl Service {
    /// Takes a registry's word for where its token service is.
    ///
    /// # Errors
    /// [`Error::Realm`] when that is no address, or would be spoken to in plain HTTP where the registry is not.
    pub(super) fn new(base: &Url, realm: &str, name: Option<String>, chooser: Reach) -> Result<Self> {
        let fail =
            |reason| Error::Realm { host: base.origin().ascii_serialization(), realm: plain(realm, 200), reason };
        let url = base.join(realm).map_err(|_| fail("it is not an address"))?;
        let local = Reach::of_literal(base) == Reach::Loopback && Reach::of_literal(&url) == Reach::Loopback;
        let safe = url.scheme() == "https" || url.origin() == base.origin() || (local && base.scheme() == "http");
        if !safe || url.host().is_none() {
            return Err(fail("a token service must speak https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fail("its address has a user in it"));
        }
        Ok(Self { realm: url, name, chooser, wants_form: AtomicBool::new(false) })
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.realm == other.realm && self.name == other.name
    }

    /// Fetches a token for these scopes, the most important first.
    pub(super) async fn fetch(&self, ask: &Asking<'_>, scopes: &[String], who: Option<&Credential>) -> Result<Token> {
        if who.is_some() {
            self.check_trust(ask)?;
        }
        let answer = match who {
            None => self.get(ask, scopes, None).await?,
            Some(Credential::Identity(token)) => {
                self.post(ask, scopes, &[("grant_type", "refresh_token"), ("refresh_token", token.expose())]).await?
            }
            Some(Credential::Password { user, password }) => self.with_password(ask, scopes, user, password).await?,
        };
        self.read(ask, &answer)
    }

    /// Asks with a GET first, as Docker does, and by a form where that is not known.
    async fn with_password(&self, ask: &Asking<'_>, scopes: &[String], user: &str, password: &Secret) -> Result<Bytes> {
        let form = [("grant_type", "password"), ("username", user), ("password", password.expose())];
        if self.wants_form.load(Ordering::Relaxed) {
            return self.post(ask, scopes, &form).await;
        }
        match self.get(ask, scopes, Some(basic(user, password)?)).await {
            Err(error) if error.status().is_some_and(|s| matches!(s.as_u16(), 400 | 404 | 405)) => {
                let answer = self.post(ask, scopes, &form).await.map_err(|second| match second.status() {
                    // It knows neither; what it said first is the answer to the usual question.
                    Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => error,
                    _ => second,
                })?;
                self.wants_form.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            other => other,
        }
    }

    async fn get(&self, ask: &Asking<'_>, scopes: &[String], authorization: Option<HeaderValue>) -> Result<Bytes> {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(name) = &self.name {
                query.append_pair("service", name);
            }
            for scope in scopes {
                query.append_pair("scope", scope);
            }
        }
        let own_headers = authorization.into_iter().map(|value| (AUTHORIZATION, value)).collect();
        self.send(ask, Method::GET, url, HeaderMap::new(), own_headers, Body::Empty).await
    }

    async fn post(&self, ask: &Asking<'_>, scopes: &[String], form: &[(&str, &str)]) -> Result<Bytes> {
        let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type)]);
        let body = Body::Bytes(self.form(scopes, form).into());
        self.send(ask, Method::POST, self.realm.clone(), headers, HeaderMap::new(), body).await
    }

    fn form(&self, scopes: &[String], form: &[(&str, &str)]) -> String {
        let mut body = Serializer::new(String::new());
        body.extend_pairs(form).append_pair("client_id", CLIENT_ID);
        if let Some(name) = &self.name {
            body.append_pair("service", name);
        }
        if !scopes.is_empty() {
            body.append_pair("scope", &scopes.join(" "));
        }
        body.finish()
    }

    async fn send(
        &self,
        ask: &Asking<'_>,
        method: Method,
        url: Url,
        headers: HeaderMap,
        own_headers: HeaderMap,
        mut body: Body,
    ) -> Result<Bytes> {
        let at_home = url.origin() == ask.base.origin();
        let mut profile = ask.endpoint.profile.clone();
        if !at_home {
            profile.client = None;
        }
        let reply = ask
            .transport
            .send(Parcel {
                grant: ask.grant,
                // A token changes nothing.
                access: Access::Read,
                subject: ask.subject,
                method,
                url,
                profile: &profile,
                guard: (!at_home).then_some(self.chooser),
                headers,
                own_headers,
                body: &mut body,
                among: Among::Requests,
                commits: false,
            })
            .await?;
        let mut reply = reply.checked().await?;
        reply.fill(MAX_ANSWER).await?;
        Ok(reply.body)
    }

    fn read(&self, ask: &Asking<'_>, answer: &[u8]) -> Result<Token> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
            #[serde(default)]
            expires_in: Option<f64>,
        }
        let fail = |reason: &str| Error::Nonsense {
            action: format!("token for {}", ask.subject),
            host: self.realm.origin().ascii_serialization(),
            reason: reason.to_owned(),
        };
        let answer: Answer = serde_json::from_slice(answer).map_err(|_| fail("it is not the JSON of a token"))?;
        let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = Secret::from(token.ok_or_else(|| fail("it has no token"))?);
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| fail("its token cannot stand in a header"))?;
        header.set_sensitive(true);
        // Counted from now by the monotonic clock; `issued_at` is the other side's clock and says nothing here.
        let life = answer.expires_in.and_then(|s| Duration::try_from_secs_f64(s).ok()).filter(|life| !life.is_zero());
        let life = life.unwrap_or(DEFAULT_LIFE).min(Duration::from_secs(24 * 3600));
        Ok(Token { header, stale: Instant::now() + life.mul_f64(USED_PART) })
    }

    /// Makes sure that a password goes only to a service of the registry itself.
    pub(super) fn check_trust(&self, ask: &Asking<'_>) -> Result<()> {
        let realm = self.realm.host_str().unwrap_or_default();
        let registry = credentials::key(&ask.endpoint.login);
        let own = Some(realm) == ask.base.host_str();
        let known = KNOWN.contains(&(registry, realm));
        let allowed = ask.config.token_hosts.get(registry).is_some_and(|hosts| hosts.contains(realm));
        let local = Reach::of_literal(ask.base) == Reach::Loopback && Reach::of_literal(&self.realm) == Reach::Loopback;
        if own || known || allowed || local {
            return Ok(());
        }
        Err(Error::Realm {
            host: ask.base.origin().ascii_serialization(),
            realm: plain(realm, 200),
            reason: "a password goes only to a token service of the registry's own host",
        })
    }
}

/// Makes a Basic header (RFC 7617).
pub(super) fn basic(user: &str, password: &Secret) -> Result<HeaderValue> {
    let pair = Secret::from(format!("{user}:{}", password.expose()));
    let mut header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair.expose())))
        .map_err(|e| Error::SetUp { what: "Authorization header", reason: e.to_string() })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_must_be_https_or_at_home() {
        let new = |base: &str, realm: &str| Service::new(&base.parse().unwrap(), realm, None, Reach::Public).is_ok();
        assert!(new("https://r.example/v2/", "https://auth.example/token"));
        assert!(new("http://r.example:5000/v2/", "http://r.example:5000/token"));
        assert!(new("https://r.example/v2/", "/token"));
        assert!(new("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/token"));
        assert!(!new("https://r.example/v2/", "http://r.example/token"));
        assert!(!new("http://r.example:5000/v2/", "http://r.example:5001/token"));
        assert!(!new("https://r.example/v2/", "https://user:pw@auth.example/token"));
        assert!(!new("https://localhost:5000/v2/", "http://localhost:5001/token"));
    }

    #[test]
    fn a_password_goes_only_to_the_registrys_own_service() {
        let mut config = Config::default();
        config.token_hosts.insert("git.example".into(), ["login.example".to_owned()].into());
        let transport = Transport::new(std::sync::Arc::new(config.clone()));
        let grant = Grant::new(crate::grant::Allow::all(), tokio_util::sync::CancellationToken::new());
        let trust = |registry: &str, realm: &str| {
            let endpoint = super::super::hosts::load(&config, registry).unwrap().remove(0);
            let ask = Asking {
                transport: &transport,
                config: &config,
                grant: &grant,
                subject: "x",
                base: &endpoint.base,
                endpoint: &endpoint,
            };
            Service::new(&endpoint.base, realm, None, Reach::Public).unwrap().check_trust(&ask).is_ok()
        };
        assert!(trust("harbor.example", "https://harbor.example/service/token"));
        assert!(trust("docker.io", "https://auth.docker.io/token"));
        assert!(trust("git.example", "https://login.example/jwt"));
        assert!(trust("localhost:5000", "https://127.0.0.1:5001/token"));
        assert!(!trust("evil.example", "https://auth.docker.io/token"));
        assert!(!trust("docker.io", "https://auth.docker.io.evil.example/token"));
        assert!(!trust("harbor.example", "https://login.example/jwt"));
    }
}
