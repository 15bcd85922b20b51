//! The only place that sends an HTTP request.
//!
//! Whatever no call site may forget is here: the grant is asked, the host's pace is kept, silence has an end, the cancel
//! token is heard, redirects are followed without credentials and only where a registry may send us.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, WARNING};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Result;
use super::answer::Answer;
use super::config::{Config, Timeouts};
use super::connect::Pools;
use super::error::{Error, plain};
use super::hosts::Profile;
use super::pace::{Among, Crawl, Paces};
use super::reach::Reach;
use super::retry;
use crate::grant::{Access, Grant, Refused};
use crate::kind::{NO_SPACE, OVER_QUOTA, READ_ONLY};

/// How many redirects are followed.
const MAX_HOPS: usize = 5;
/// How much of an error's body is read.
const MAX_ERROR: usize = 64 << 10;
/// How much of what a registry says is shown.
const MAX_SHOWN: usize = 400;

/// Sends requests.
#[derive(Debug)]
pub(super) struct Transport {
    config: Arc<Config>,
    pools: Pools,
    paces: Paces,
}

/// One request.
pub(super) struct Parcel<'a> {
    pub(super) grant: &'a Grant,
    /// What the request needs of the grant, for the subject.
    pub(super) access: Access,
    pub(super) subject: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) profile: &'a Profile,
    /// How far the registry reaches that chose the address; `None` when the user or a file of theirs did.
    pub(super) guard: Option<Reach>,
    /// Headers for whoever answers in the end.
    pub(super) headers: HeaderMap,
    /// Headers for the origin of the address alone, such as credentials.
    pub(super) own_headers: HeaderMap,
    pub(super) body: &'a mut Body,
    /// Among which others it waits for a place.
    pub(super) among: Among,
    /// Whether the answer may take as long as it takes to make a blob of an upload.
    pub(super) commits: bool,
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// Bytes in memory, which can be sent again.
    Bytes(Bytes),
    /// A stream, which can be sent once.
    Stream(Option<reqwest::Body>),
}

impl Body {
    pub(super) fn can_be_sent(&self) -> bool {
        !matches!(self, Self::Stream(None))
    }

    fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    fn take(&mut self) -> Option<reqwest::Body> {
        match self {
            Self::Empty => None,
            Self::Bytes(bytes) => Some(bytes.clone().into()),
            Self::Stream(stream) => stream.take(),
        }
    }
}

/// An answer whose headers are there.
#[derive(Debug)]
pub(super) struct Reply {
    response: reqwest::Response,
    /// The address that answered, after redirects.
    pub(super) url: Url,
    /// How far that address reaches.
    pub(super) reach: Reach,
    /// Whether the origin that was asked answered itself.
    pub(super) direct: bool,
    action: String,
    host: String,
    /// Whether credentials were sent.
    pub(super) authenticated: bool,
    cancel: CancellationToken,
    timeouts: Timeouts,
    crawl: Crawl,
    _place: Option<OwnedSemaphorePermit>,
    /// The whole body, once it was asked for.
    pub(super) body: Bytes,
}

impl Transport {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { paces: Paces::new(config.limits), pools: Pools::default(), config }
    }

    /// Sends one request and follows its redirects. An answer of any status is an answer.
    pub(super) async fn send(&self, parcel: Parcel<'_>) -> Result<Reply> {
        let cancel = parcel.grant.cancel().clone();
        cancel.run_until_cancelled(self.follow(parcel)).await.unwrap_or(Err(Error::Refused(Refused::Cancelled)))
    }

    async fn follow(&self, parcel: Parcel<'_>) -> Result<Reply> {
        let Parcel {
            grant,
            access,
            subject,
            method,
            mut url,
            mut guard,
            headers,
            mut own_headers,
            body,
            among,
            commits,
            ..
        } = parcel;
        let action = format!("{method} {}", shown_path(&url));
        let mut profile = parcel.profile.clone();
        let mut direct = true;
        for _ in 0..=MAX_HOPS {
            grant.check(access, method.as_str(), subject)?;
            let host = url.origin().ascii_serialization();
            let place = self.wait(&url, &action, &host, among).await?;
            if let Some(chooser) = guard.filter(|chooser| !chooser.may_choose(Reach::of_literal(&url))) {
                return Err(detour(&action, &host, &url, forbidden(chooser)));
            }
            let client = self.pools.get(&self.config, &profile, guard)?;
            let mut request = reqwest::Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            for (name, value) in &own_headers {
                request.headers_mut().append(name, value.clone());
            }
            let streamed = body.is_stream();
            *request.body_mut() = body.take();
            tracing::debug!(%method, %host, path = url.path(), "request");
            let sent = client.execute(request);
            let response = if streamed {
                // Its sender watches the progress: the answer comes after the last byte.
                sent.await
            } else {
                let limit = if commits { self.config.timeouts.commit } else { self.config.timeouts.header };
                tokio::time::timeout(limit, sent).await.map_err(|_| Error::Silent {
                    action: action.clone(),
                    host: host.clone(),
                    after: limit,
                })?
            }
            .map_err(|e| failed(e.without_url(), &action, &host))?;
            tracing::debug!(%method, %host, status = response.status().as_u16(), "answer");
            pass_on_warnings(response.headers(), &host);
            let reach = self.reach(&response, &url);
            self.hear_wish(&response, &url, &action, &host)?;
            let reply = Reply {
                response,
                url: url.clone(),
                reach,
                direct,
                action: action.clone(),
                host,
                authenticated: own_headers.contains_key(AUTHORIZATION),
                cancel: grant.cancel().clone(),
                timeouts: self.config.timeouts,
                crawl: Crawl::default(),
                _place: place,
                body: Bytes::new(),
            };
            let Some(next) = reply.redirect(&method, body)? else { return Ok(reply) };
            if next.origin() != url.origin() {
                // Whoever is there has no business with our credentials (distribution-spec, "MUST NOT forward").
                own_headers.clear();
                profile.client = None;
                guard = Some(reach);
                direct = false;
            }
            url = next;
        }
        Err(detour(&action, &url.origin().ascii_serialization(), &url, "there were more than 5 redirects"))
    }

    /// Waits for the host's permission to go on: its wish to be left alone, the rate, a place.
    async fn wait(&self, url: &Url, action: &str, host: &str, among: Among) -> Result<Option<OwnedSemaphorePermit>> {
        let pace = self.paces.of(url.origin());
        if let Some(wait) = pace.remaining().filter(|wait| *wait > self.config.retry.patience) {
            return Err(Error::Throttled { action: action.to_owned(), host: host.to_owned(), wait: whole(wait) });
        }
        let place = pace.place(among).await;
        pace.turn().await;
        Ok(place)
    }

    /// Notes a Retry-After for all that ask the same host.
    fn hear_wish(&self, response: &reqwest::Response, url: &Url, action: &str, host: &str) -> Result<()> {
        if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return Ok(());
        }
        let Some(wait) = retry::retry_after(response.headers(), SystemTime::now()) else { return Ok(()) };
        self.paces.of(url.origin()).quiet(wait);
        if wait > self.config.retry.patience {
            return Err(Error::Throttled { action: action.to_owned(), host: host.to_owned(), wait });
        }
        Ok(())
    }

    fn reach(&self, response: &reqwest::Response, url: &Url) -> Reach {
        // Behind a proxy the address is the proxy's, and says nothing of the registry.
        match response.remote_addr().filter(|_| !self.config.proxy.is_set()) {
            Some(address) => Reach::of(address.ip()),
            None => Reach::of_literal(url),
        }
    }
}

impl Reply {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Returns a header's text, when it has one.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Complains of an answer that makes no sense.
    pub(super) fn nonsense(&self, reason: impl Into<String>) -> Error {
        Error::Nonsense { action: self.action.clone(), host: self.host.clone(), reason: reason.into() }
    }

    /// Complains of an address that the registry named.
    pub(super) fn detour(&self, target: &Url, reason: &'static str) -> Error {
        detour(&self.action, &self.host, target, reason)
    }

    /// Resolves an address that the registry named against the one that answered.
    ///
    /// # Errors
    /// [`Error::Detour`] when it is no address, or leads from TLS to plain HTTP.
    pub(super) fn locate(&self, text: &str) -> Result<Url> {
        let mut target = self.url.join(text).map_err(|_| self.detour(&self.url, "it is not an address"))?;
        if !matches!(target.scheme(), "http" | "https") || target.host().is_none() {
            return Err(self.detour(&target, "only http and https are followed"));
        }
        if self.url.scheme() == "https" && target.scheme() == "http" {
            return Err(self.detour(&target, "it leads from https to http"));
        }
        // A user in an address would become an Authorization header.
        let _ = target.set_username("");
        let _ = target.set_password(None);
        target.set_fragment(None);
        Ok(target)
    }

    fn redirect(&self, method: &Method, body: &Body) -> Result<Option<Url>> {
        let status = self.status().as_u16();
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = self.header(LOCATION.as_str()) else { return Ok(None) };
        let target = self.locate(location)?;
        let read = matches!(*method, Method::GET | Method::HEAD);
        let again = matches!(status, 307 | 308) && body.can_be_sent();
        if !read && !again {
            return Err(self.detour(&target, "only reads follow such a redirect"));
        }
        Ok(Some(target))
    }

    /// Refuses a web page where a document of a registry has to be: that of a login, or of another server.
    pub(super) fn refuse_page(&self) -> Result<()> {
        let media_type = self.header(CONTENT_TYPE.as_str()).unwrap_or_default().to_ascii_lowercase();
        if media_type.starts_with("text/html") {
            let (action, host, status) = (self.action.clone(), self.host.clone(), self.status());
            return Err(Error::NotARegistry { action, host, status, what: "a web page".into() });
        }
        Ok(())
    }

    /// Returns the reply when its status says success, else the registry's error.
    pub(super) async fn checked(self) -> Result<Self> {
        if self.status().is_success() {
            return Ok(self);
        }
        let (status, action, host, authenticated) =
            (self.status(), self.action.clone(), self.host.clone(), self.authenticated);
        let retry_after = retry::retry_after(self.headers(), SystemTime::now());
        let media_type = self.header(CONTENT_TYPE.as_str()).unwrap_or_default().to_ascii_lowercase();
        let body = self.some_bytes(MAX_ERROR).await;
        let (codes, detail) = read_error(&body);
        let markup = media_type.contains("html") || body.trim_ascii_start().starts_with(b"<");
        if codes.is_empty() && markup && !retry::temporary(status) && status != StatusCode::UNAUTHORIZED {
            return Err(Error::NotARegistry { action, host, status, what: "a web page".into() });
        }
        let detail = if markup { String::new() } else { detail };
        Err(Error::Answer(Box::new(Answer {
            action,
            host,
            status,
            codes,
            detail,
            retry_after,
            authenticated,
            another_way: false,
        })))
    }

    /// Returns the next bytes of the body.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let asked = Instant::now();
        let next = tokio::time::timeout(self.timeouts.stall, self.response.chunk());
        let (action, host) = (&self.action, &self.host);
        match self.cancel.run_until_cancelled(next).await {
            None => Err(Error::Refused(Refused::Cancelled)),
            Some(Ok(Ok(bytes))) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                if bytes.is_some() && self.crawl.is_too_slow(asked.elapsed(), length, self.timeouts.crawl) {
                    let after = self.timeouts.crawl;
                    return Err(Error::Slow { action: action.clone(), host: host.clone(), after });
                }
                Ok(bytes)
            }
            Some(Ok(Err(source))) => {
                Err(Error::Broken { action: action.clone(), host: host.clone(), source: source.without_url() })
            }
            Some(Err(_)) => {
                Err(Error::Silent { action: action.clone(), host: host.clone(), after: self.timeouts.stall })
            }
        }
    }

    /// Reads the whole body, which may not be longer than the limit.
    pub(super) async fn fill(&mut self, limit: u64) -> Result<()> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            if (whole.len() + bytes.len()) as u64 > limit {
                return Err(self.nonsense(format!("it is longer than {limit} bytes")));
            }
            whole.extend_from_slice(&bytes);
        }
        self.body = whole.into();
        Ok(())
    }

    /// Reads what there is of a body, up to the limit; a body that breaks off counts as far as it came.
    async fn some_bytes(mut self, limit: usize) -> Vec<u8> {
        let mut some = Vec::new();
        while some.len() < limit {
            let Ok(Some(bytes)) = self.chunk().await else { break };
            some.extend_from_slice(&bytes[..bytes.len().min(limit - some.len())]);
        }
        some
    }
}

fn failed(source: reqwest::Error, action: &str, host: &str) -> Error {
    let (action, host) = (action.to_owned(), host.to_owned());
    if source.is_connect() {
        Error::Unreachable { action, host, source }
    } else {
        Error::Broken { action, host, source }
    }
}

fn detour(action: &str, host: &str, target: &Url, reason: &'static str) -> Error {
    let target = plain(&format!("{}{}", target.origin().ascii_serialization(), target.path()), 200);
    Error::Detour { action: action.to_owned(), host: host.to_owned(), target, reason }
}

fn forbidden(chooser: Reach) -> &'static str {
    match chooser {
        Reach::Public => "it is inside a private network, where a registry on the internet may not send us",
        Reach::Private | Reach::Loopback | Reach::Link => "it is an address that this registry may not send us to",
    }
}

/// Tells what a registry warns of (distribution-spec, section Warnings).
fn pass_on_warnings(headers: &HeaderMap, host: &str) {
    for warning in headers.get_all(WARNING).iter().filter_map(|value| value.to_str().ok()) {
        if let Some(text) = warning.strip_prefix("299 - ") {
            tracing::warn!(host, "{}", plain(text.trim_matches('"'), MAX_SHOWN));
        }
    }
}

/// Returns the path of an address; its query may be signed and is never shown.
fn shown_path(url: &Url) -> String {
    plain(url.path(), 300)
}

fn whole(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs_f64().ceil() as u64)
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Single>,
}

#[derive(Deserialize)]
struct Single {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// Reads the codes and the text of an error's body (distribution-spec, section Error Codes; OAuth's form for tokens).
fn read_error(body: &[u8]) -> (Vec<String>, String) {
    if let Ok(Errors { errors }) = serde_json::from_slice(body) {
        let codes = errors.iter().filter(|e| !e.code.is_empty()).map(|e| plain(&e.code, 60)).collect();
        let text: Vec<_> = errors.iter().map(Single::text).collect();
        return (codes, plain(&text.join("; "), MAX_SHOWN));
    }
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(body) {
        let said = ["details", "error_description", "message", "error"]
            .iter()
            .find_map(|key| object.get(*key)?.as_str().filter(|text| !text.is_empty()));
        return (Vec::new(), plain(said.unwrap_or_default(), MAX_SHOWN));
    }
    (Vec::new(), plain(String::from_utf8_lossy(body).trim(), MAX_SHOWN))
}

impl Single {
    fn text(&self) -> String {
        let mut text = self.code.clone();
        // docker-registry's storage gives the kernel's number of the error alone.
        let number = match self.detail.pointer("/Enclosed/Err").and_then(serde_json::Value::as_i64) {
            Some(28) => NO_SPACE,
            Some(30) => READ_ONLY,
            Some(122) => OVER_QUOTA,
            _ => "",
        };
        for part in [self.message.as_str(), self.detail.as_str().unwrap_or(number)] {
            if !part.is_empty() && part != text {
                if !text.is_empty() {
                    text.push_str(": ");
                }
                text.push_str(part);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_registries_and_token_services_are_read() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        assert_eq!(read_error(body), (vec!["MANIFEST_UNKNOWN".into()], "MANIFEST_UNKNOWN: manifest unknown".into()));
        assert_eq!(read_error(br#"{"details":"incorrect username or password"}"#).1, "incorrect username or password");
        assert_eq!(read_error(b"gateway \x1b[2J trouble\n").1, "gateway \\u{1b}[2J trouble");
        assert_eq!(read_error(b""), (vec![], String::new()));
        let body = br#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/d","Err":28}}}]}"#;
        assert_eq!(read_error(body).1, "UNKNOWN: unknown error: no space left on device");
    }
}
