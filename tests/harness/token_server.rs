//! A token service as registries have one (the distribution project's token and OAuth2 specifications).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use url::form_urlencoded;

use super::fault::{Head, Seen, answer};

/// What the service insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Anybody may read.
    Anonymous,
    /// A user and password, by GET with Basic authentication.
    Get,
    /// A user and password, by an OAuth2 form only.
    Form,
    /// An identity token, by an OAuth2 form.
    Identity,
}

/// The user that the service knows.
pub const USER: &str = "ann";
/// The user's password.
pub const PASSWORD: &str = "p&ss w/ord";
/// The user's identity token.
pub const IDENTITY: &str = "identity-token-1";
const SERVICE: &str = "test registry, guarded";

/// A request for a token.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub scopes: Vec<String>,
    pub authorized: bool,
}

/// A running token service; it ends when it is dropped.
#[derive(Debug)]
pub struct TokenServer {
    address: SocketAddr,
    flow: Flow,
    life: Duration,
    granted: Mutex<HashMap<String, (Vec<String>, Instant)>>,
    log: Mutex<Vec<Asked>>,
    /// How many of the next requests are answered with a status instead, the status, and how many were.
    failing: Mutex<(usize, u16, usize)>,
    _task: AbortOnDropHandle<()>,
}

impl TokenServer {
    /// Starts a service whose tokens live so long.
    pub async fn start(flow: Flow, life: Duration) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (granted, log, failing) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new_cyclic(|server: &Weak<Self>| {
            let server = server.clone();
            let task = tokio::spawn(async move {
                while let (Ok((client, _)), Some(server)) = (listener.accept().await, server.upgrade()) {
                    tokio::spawn(async move { server.serve(client).await.ok() });
                }
            });
            Self { address, flow, life, granted, log, failing, _task: AbortOnDropHandle::new(task) }
        })
    }

    /// Lets the next so many requests be answered with a status and nothing else.
    pub fn fail(&self, times: usize, status: u16) {
        *self.failing.lock().unwrap() = (times, status, 0);
    }

    /// Returns how many requests were answered so.
    pub fn failures(&self) -> usize {
        self.failing.lock().unwrap().2
    }

    /// Returns what tokens were asked for.
    pub fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Returns what a registry answers to a request without a good token; `None` when the token is good.
    pub fn challenge(&self, seen: &Seen) -> Option<String> {
        let name = seen.path.strip_prefix("/v2/").unwrap_or_default();
        let name =
            ["/manifests/", "/blobs/", "/tags/", "/referrers/"].iter().find_map(|mark| Some(name.split_once(mark)?.0));
        let actions = match seen.method.as_str() {
            "GET" | "HEAD" => "pull",
            "DELETE" if seen.path.contains("/manifests/") => "delete",
            _ => "pull,push",
        };
        let mut wanted: Vec<(String, String)> = Vec::new();
        if let Some(name) = name {
            wanted.push((name.to_owned(), actions.to_owned()));
        }
        if let Some((_, from)) = seen.path.split_once("from=") {
            let query = format!("from={from}");
            let from = form_urlencoded::parse(query.as_bytes()).next().unwrap().1.into_owned();
            wanted.push((from, "pull".to_owned()));
        }
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let granted = self.granted.lock().unwrap();
        let good = token.and_then(|token| granted.get(token)).is_some_and(|(scopes, until)| {
            *until > Instant::now() && wanted.iter().all(|(name, actions)| allows(scopes, name, actions))
        });
        let scopes: Vec<_> = wanted.iter().map(|(name, actions)| format!("repository:{name}:{actions}")).collect();
        (!good).then(|| {
            let scope = scopes.join(" ");
            format!("Bearer realm=\"http://{}/token\",service=\"{SERVICE}\",scope=\"{scope}\"", self.address)
        })
    }

    /// Makes a token.
    fn grant(&self, scopes: Vec<String>) -> String {
        let mut granted = self.granted.lock().unwrap();
        let token = format!("token-{}", granted.len());
        granted.insert(token.clone(), (scopes, Instant::now() + self.life));
        token
    }

    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(head) = Head::read(&mut client).await? else { return Ok(()) };
        let mut body = head.rest.clone();
        while body.len() < head.length() {
            if client.read_buf(&mut body).await? == 0 {
                return Ok(());
            }
        }
        let method = head.first.split(' ').next().unwrap().to_owned();
        let query = head.first.split(' ').nth(1).and_then(|path| path.split_once('?')).map_or("", |(_, query)| query);
        let form = if method == "POST" { &body[..] } else { query.as_bytes() };
        let form: Vec<(String, String)> = form_urlencoded::parse(form).into_owned().collect();
        let values = |key: &str| form.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect::<Vec<_>>();
        let scopes: Vec<String> =
            values("scope").iter().flat_map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
        if method == "GET" && matches!(self.flow, Flow::Form | Flow::Identity) {
            return answer(&mut client, 405, &[], "").await;
        }
        if method == "POST" && matches!(self.flow, Flow::Get | Flow::Anonymous) {
            return answer(&mut client, 404, &[], "").await;
        }
        let is = |key: &str, value: &str| values(key) == [value];
        let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let authorized = match self.flow {
            Flow::Anonymous => head.header("authorization").is_none(),
            Flow::Get => head.header("authorization") == Some(&basic),
            Flow::Form => is("grant_type", "password") && is("username", USER) && is("password", PASSWORD),
            Flow::Identity => is("grant_type", "refresh_token") && is("refresh_token", IDENTITY),
        };
        let authorized = authorized && is("service", SERVICE);
        self.log.lock().unwrap().push(Asked { method, scopes: scopes.clone(), authorized });
        let failure = {
            let mut failing = self.failing.lock().unwrap();
            failing.0.checked_sub(1).map(|left| {
                failing.0 = left;
                failing.2 += 1;
                failing.1
            })
        };
        if let Some(status) = failure {
            return answer(&mut client, status, &[], "").await;
        }
        if !authorized {
            return answer(&mut client, 401, &[], r#"{"details":"incorrect username or password"}"#).await;
        }
        let token = self.grant(scopes);
        let body = format!(r#"{{"access_token":"{token}","expires_in":{}}}"#, self.life.as_secs());
        answer(&mut client, 200, &[("Content-Type", "application/json".into())], &body).await
    }
}

fn allows(scopes: &[String], name: &str, actions: &str) -> bool {
    let prefix = format!("repository:{name}:");
    let allowed: Vec<&str> = scopes.iter().filter_map(|s| s.strip_prefix(&prefix)).flat_map(|a| a.split(',')).collect();
    actions.split(',').all(|action| allowed.contains(&action))
}
