//! A Harbor for the tests: its project interface, its tokens and what it refuses are scripted here; images are kept by the
//! real docker-registry behind it, which gets everything of `/v2/` that a Harbor would let pass.
//!
//! No real Harbor runs in these tests: it is a dozen services. What is scripted follows its source: `src/server/v2.0/handler`
//! (projects, pages, system information), `src/server/middleware/v2auth` (a push needs a project, a HEAD needs a token),
//! `src/server/middleware/quota`, `src/lib/http/error.go` (errors).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use url::form_urlencoded;

use super::Env;
use super::clock::UnderWay;
use super::fault::{Head, Seen, Tally, answer, drain, forward};

/// Who may make projects and push into all of them.
pub const ADMIN: (&str, &str) = ("admin", "Harbor12345:%");
/// A robot that may push into projects that exist.
pub const ROBOT: (&str, &str) = ("robot$mover", "r0b0t");

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub public: bool,
    /// What was asked for; -1 for no limit.
    pub limit: i64,
    pub used: i64,
    pub repositories: BTreeSet<String>,
}

#[derive(Debug)]
struct State {
    address: SocketAddr,
    upstream: SocketAddr,
    /// The path of the registry below which its images are: several Harbors share one registry.
    home: String,
    projects: Mutex<BTreeMap<String, Kept>>,
    tokens: Mutex<HashSet<String>>,
    log: Mutex<Vec<Seen>>,
    habits: Mutex<Habits>,
}

/// What differs between Harbors.
#[derive(Debug, Clone)]
pub struct Habits {
    /// The longest page of a list.
    pub page: usize,
    /// Whether a list names its next page.
    pub links: bool,
    /// The status of a refusal for a quota: 403, in some versions 412 or 500.
    pub over_quota: u16,
    /// The quota that a project gets whatever was asked for, as one has who is no administrator.
    pub given: Option<i64>,
    /// Whether it has Harbor's interface at all.
    pub is_harbor: bool,
    /// Whether the interface sends everybody to another address.
    pub elsewhere: Option<String>,
    /// Where the next page of a list is said to be.
    pub next_at: Option<String>,
}

/// A running Harbor; it ends when it is dropped.
#[derive(Debug)]
pub struct Harbor {
    state: Arc<State>,
    task: AbortHandle,
}

impl Drop for Harbor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Harbor {
    /// Starts one with the public project `library`, as a new Harbor has.
    pub fn start(env: &Env) -> Self {
        let upstream = env.registry_of_harbors().parse().unwrap();
        env.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let library = Kept { public: true, limit: -1, used: 0, repositories: BTreeSet::new() };
            let state = Arc::new(State {
                address: listener.local_addr().unwrap(),
                upstream,
                home: env.fresh("harbor"),
                projects: Mutex::new([("library".to_owned(), library)].into()),
                tokens: Mutex::default(),
                log: Mutex::default(),
                habits: Mutex::new(Habits {
                    page: 100,
                    links: true,
                    over_quota: 403,
                    given: None,
                    is_harbor: true,
                    elsewhere: None,
                    next_at: None,
                }),
            });
            let serving = Arc::clone(&state);
            let task = tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let state = Arc::clone(&serving);
                    tokio::spawn(async move { serve(client, &state).await.ok() });
                }
            });
            Self { state, task: task.abort_handle() }
        })
    }

    /// Returns its name as a registry: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.state.address.to_string()
    }

    /// Returns a Docker config file with the login of a user there.
    pub fn docker_config(&self, (user, password): (&str, &str)) -> String {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        json!({ "auths": { self.host(): { "auth": auth } } }).to_string()
    }

    /// Changes how it behaves.
    pub fn habit(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.state.habits.lock().unwrap());
    }

    /// Returns the projects by name.
    pub fn projects(&self) -> BTreeMap<String, Kept> {
        self.state.projects.lock().unwrap().clone()
    }

    /// Makes a project without a request.
    pub fn add(&self, name: &str, limit: i64) {
        let project = Kept { public: false, limit, used: 0, repositories: BTreeSet::new() };
        self.state.projects.lock().unwrap().insert(name.to_owned(), project);
    }

    /// Returns what it was asked, in order, and forgets it.
    pub fn take_log(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }
}

/// An answer: status, headers, body.
type Said = (u16, Vec<(&'static str, String)>, String);

fn error(status: u16, code: &str, message: &str) -> Said {
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    (status, Vec::new(), body.to_string())
}

fn document(value: &Value) -> Said {
    (200, Vec::new(), value.to_string())
}

async fn serve(mut client: TcpStream, state: &State) -> io::Result<()> {
    let Some(mut head) = Head::read(&mut client).await? else { return Ok(()) };
    let mut words = head.first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method == "TLS" {
        // What a server without TLS says to TLS.
        return answer(&mut client, 400, &[], "").await;
    }
    // An address that the registry named has the home in it.
    let home = format!("/v2/{}/", state.home);
    let seen = Seen { method, path: path.replacen(&home, "/v2/", 1), headers: head.headers.clone() };
    state.log.lock().unwrap().push(seen.clone());
    let left = head.length().saturating_sub(head.rest.len());
    let said = if seen.path.starts_with("/v2/") {
        match state.gate(&seen, head.length()) {
            None => {
                let path = seen.path.replacen("/v2/", &home, 1).replace("from=", &format!("from={}/", state.home));
                head.first = format!("{} {path} HTTP/1.1", seen.method);
                return forward(client, &head, state.upstream, None, &Tally::default(), UnderWay::default().begin())
                    .await;
            }
            Some(said) => {
                drain(&mut client, left).await?;
                said
            }
        }
    } else {
        let mut body = head.rest.clone();
        while body.len() < head.length() {
            if client.read_buf(&mut body).await? == 0 {
                return Ok(());
            }
        }
        state.interface(&seen, &body)
    };
    let (status, mut headers, body) = said;
    headers.push(("Content-Type", "application/json; charset=utf-8".to_owned()));
    let body = if seen.method == "HEAD" { String::new() } else { body };
    answer(&mut client, status, &headers, &body).await
}

impl State {
    /// Returns the user whose password a request has: `Err` when it has a wrong one.
    fn user(&self, seen: &Seen) -> Result<Option<&'static str>, ()> {
        let Some(basic) = seen.header("authorization").and_then(|value| value.strip_prefix("Basic ")) else {
            return Ok(None);
        };
        let known = [ADMIN, ROBOT].into_iter();
        let mut known = known.filter(|(user, password)| STANDARD.encode(format!("{user}:{password}")) == basic);
        known.next().map(|(user, _)| Some(user)).ok_or(())
    }

    /// Decides whether a request goes on to the registry.
    fn gate(&self, seen: &Seen, length: usize) -> Option<Said> {
        let path = seen.path.strip_prefix("/v2/").unwrap().split('?').next().unwrap().to_owned();
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let known = token.is_some_and(|token| self.tokens.lock().unwrap().contains(token));
        let known = known || matches!(self.user(seen), Ok(Some(_)));
        let marks = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
        let name = marks.iter().find_map(|mark| Some(path.split_once(mark)?.0.to_owned()));
        let challenge = |message: &str| {
            let scope = name.as_ref().map(|name| format!(",scope=\"repository:{name}:pull,push\"")).unwrap_or_default();
            let bearer =
                format!("Bearer realm=\"http://{}/service/token\",service=\"harbor-registry\"{scope}", self.address);
            let given = seen.header("authorization").is_some();
            let challenge = if given { "Basic realm=\"harbor\"".to_owned() } else { bearer };
            let (status, _, body) = error(401, "UNAUTHORIZED", message);
            Some((status, vec![("WWW-Authenticate", challenge)], body))
        };
        let Some(name) = &name else {
            return if known { Some(document(&json!({}))) } else { challenge("unauthorized") };
        };
        if seen.method == "HEAD" && seen.header("authorization").is_none() {
            return challenge("authorize header needed to send HEAD to repository");
        }
        let mut projects = self.projects.lock().unwrap();
        let project = name.split('/').next().unwrap();
        let Some(kept) = projects.get_mut(project).filter(|_| name.contains('/')) else {
            let (status, _, body) = error(401, "UNAUTHORIZED", &format!("project {project} not found"));
            return Some((status, vec![("WWW-Authenticate", String::new())], body));
        };
        let reads = matches!(seen.method.as_str(), "GET" | "HEAD");
        if !(known || kept.public && reads) {
            return challenge(&format!("unauthorized to access repository: {name}"));
        }
        let mounts = seen.method == "POST" && seen.path.contains("mount=");
        if seen.method == "PUT" || mounts {
            // How long a blob is that is mounted only the registry knows; here it is taken to be long.
            let more = if mounts { 1 << 20 } else { i64::try_from(length).unwrap() };
            if path.contains("/blobs/") && kept.limit >= 0 && kept.used + more > kept.limit {
                let message = format!(
                    "adding {more} Byte of storage resource, which when updated to current usage of {} Byte will exceed the configured upper limit of {} Byte.",
                    kept.used, kept.limit
                );
                let status = self.habits.lock().unwrap().over_quota;
                let code = if status == 412 { "PROJECTPOLICYVIOLATION" } else { "DENIED" };
                return Some(error(status, code, &message));
            }
            if !mounts {
                kept.used += more;
                kept.repositories.insert(name.clone());
            }
        }
        None
    }

    /// Answers for the token service and the interface of Harbor itself.
    fn interface(&self, seen: &Seen, body: &[u8]) -> Said {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let user = match self.user(seen) {
            Ok(user) => user,
            Err(()) => return error(401, "UNAUTHORIZED", "unauthorized"),
        };
        if path == "/service/token" {
            let mut tokens = self.tokens.lock().unwrap();
            let token = format!("token-{}", tokens.len());
            if user.is_some() {
                tokens.insert(token.clone());
            }
            return document(&json!({ "token": token, "expires_in": 1800 }));
        }
        let Some(path) = path.strip_prefix("/api/v2.0/") else { return error(404, "NOT_FOUND", "page not found") };
        let habits = self.habits.lock().unwrap().clone();
        if !habits.is_harbor {
            return error(404, "NOT_FOUND", "page not found");
        }
        if path == "systeminfo" {
            return document(&json!({ "auth_mode": "db_auth", "self_registration": false }));
        }
        if let Some(elsewhere) = habits.elsewhere {
            return (307, vec![("Location", format!("{elsewhere}{}", seen.path))], String::new());
        }
        let mut projects = self.projects.lock().unwrap();
        match (seen.method.as_str(), path.strip_prefix("projects").unwrap_or("?"), user) {
            ("GET", "", _) => self.list(&projects, &query, user.is_some()),
            ("HEAD", "", None) | ("POST", "", None) => error(401, "UNAUTHORIZED", "unauthorized"),
            ("HEAD", "", _) if projects.contains_key(&query["project_name"]) => document(&Value::Null),
            ("HEAD", "", _) => error(404, "NOT_FOUND", ""),
            ("POST", "", Some(user)) if user != ADMIN.0 => error(403, "FORBIDDEN", "Only system admins may do it"),
            ("POST", "", _) => create(&mut projects, &serde_json::from_slice(body).unwrap(), habits.given),
            (method, rest, _) => {
                assert_eq!(seen.header("x-is-resource-name"), Some("true"), "{seen:?}");
                let (name, below) = rest[1..].split_once('/').unwrap_or((&rest[1..], ""));
                let Some(kept) = projects.get(name) else {
                    return error(404, "NOT_FOUND", &format!("project {name} not found"));
                };
                match (method, below, user) {
                    (_, _, None) if !kept.public => error(401, "UNAUTHORIZED", "unauthorized"),
                    ("GET", "", _) => document(&shown(name, kept)),
                    ("GET", "summary", Some("admin")) => document(&json!({ "repo_count": kept.repositories.len(),
                        "quota": { "hard": { "storage": kept.limit }, "used": { "storage": kept.used } } })),
                    ("GET", "summary", _) => document(&json!({ "repo_count": kept.repositories.len() })),
                    ("DELETE", "", Some("admin")) if kept.repositories.is_empty() => {
                        projects.remove(name);
                        document(&Value::Null)
                    }
                    ("DELETE", "", Some("admin")) => error(412, "PRECONDITION", "the project contains repositories"),
                    _ => error(403, "FORBIDDEN", "forbidden"),
                }
            }
        }
    }

    fn list(&self, projects: &BTreeMap<String, Kept>, query: &BTreeMap<String, String>, all: bool) -> Said {
        let Habits { page: longest, links, next_at, .. } = self.habits.lock().unwrap().clone();
        let at = next_at.unwrap_or_default();
        let number = |key: &str| query.get(key).map_or(1, |text| text.parse::<usize>().unwrap());
        let (page, size) = (number("page"), number("page_size").min(longest));
        let seen: Vec<Value> =
            projects.iter().filter(|(_, kept)| all || kept.public).map(|(name, kept)| shown(name, kept)).collect();
        let mut headers = vec![("X-Total-Count", seen.len().to_string())];
        if links && page * size < seen.len() {
            let next = format!("<{at}/api/v2.0/projects?page={}&page_size={size}>; rel=\"next\"", page + 1);
            let before = format!("</api/v2.0/projects?page={}&page_size={size}>; rel=\"prev\"", page.max(2) - 1);
            headers.push(("Link", if page > 1 { format!("{before} , {next}") } else { next }));
        }
        let shown: Vec<Value> = seen.into_iter().skip((page - 1) * size).take(size).collect();
        (200, headers, Value::from(shown).to_string())
    }
}

fn create(projects: &mut BTreeMap<String, Kept>, wanted: &Value, given: Option<i64>) -> Said {
    let name = wanted["project_name"].as_str().unwrap();
    if projects.contains_key(name) {
        return error(409, "CONFLICT", &format!("The project named {name} already exists"));
    }
    let public = wanted["metadata"]["public"] == "true";
    let limit = given.or(wanted["storage_limit"].as_i64()).unwrap_or(-1);
    projects.insert(name.to_owned(), Kept { public, limit, used: 0, repositories: BTreeSet::new() });
    (201, vec![("Location", format!("/api/v2.0/projects/{}", projects.len()))], String::new())
}

fn shown(name: &str, kept: &Kept) -> Value {
    json!({ "project_id": name.len(), "name": name, "owner_name": ADMIN.0, "creation_time": "2024-03-01T10:00:00.000Z",
        "repo_count": kept.repositories.len(), "metadata": { "public": kept.public.to_string() } })
}
