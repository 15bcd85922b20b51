//! What the registry client is told: plain values, which only the command line gathers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::credentials::{Credential, Secret};
use super::retry::Policy;

/// All settings of a [`Client`](super::Client).
#[derive(Debug, Clone)]
pub struct Config {
    /// Folders with a sub-folder a registry (`hosts.toml`, certificates), the first that has one decides.
    pub hosts_dirs: Vec<PathBuf>,
    /// Docker's `config.json`, read when credentials are first needed.
    pub docker_config: Option<PathBuf>,
    /// Credentials by registry, `HOST[:PORT]`. They go before those of Docker's file.
    pub credentials: BTreeMap<String, Credential>,
    /// Registries that speak plain HTTP.
    pub plain_http: BTreeSet<String>,
    /// Registries whose certificate is not checked.
    pub skip_verify: BTreeSet<String>,
    /// Certificates beside the system's.
    pub tls: Tls,
    /// Proxies.
    pub proxy: Proxy,
    /// Hosts of token services that a registry's password may be sent to, beside the registry's own and the known ones.
    pub token_hosts: BTreeMap<String, BTreeSet<String>>,
    /// What the client calls itself.
    pub user_agent: String,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// How often and how long apart a request is tried again.
    pub retry: Policy,
    /// How hard one host is pressed.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts_dirs: Vec::new(),
            docker_config: None,
            credentials: BTreeMap::new(),
            plain_http: BTreeSet::new(),
            skip_verify: BTreeSet::new(),
            tls: Tls::default(),
            proxy: Proxy::default(),
            token_hosts: BTreeMap::new(),
            user_agent: concat!("ctrsh/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
            retry: Policy::default(),
            limits: Limits::default(),
        }
    }
}

/// Certificates in PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Authorities to trust beside the system's.
    pub ca: Vec<PathBuf>,
    /// The client certificate, and its key when that is in a file of its own.
    pub client: Option<(PathBuf, Option<PathBuf>)>,
}

/// Proxies, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them. Loopback never goes through one.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// For `http` addresses. May hold a password.
    pub http: Option<Secret>,
    /// For `https` addresses. May hold a password.
    pub https: Option<Secret>,
    /// What goes directly: a comma list of hosts, domains and networks.
    pub none: Option<String>,
}

impl Proxy {
    pub(super) fn is_set(&self) -> bool {
        self.http.is_some() || self.https.is_some()
    }
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For an answer's headers.
    pub header: Duration,
    /// Between two bytes of a body, in either direction.
    pub stall: Duration,
    /// How long a body may come more slowly than 1 KiB a second.
    pub crawl: Duration,
    /// For a registry to make a blob of what was uploaded; some copy it in an object store first.
    pub commit: Duration,
    /// For a credential helper.
    pub helper: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let short = Duration::from_secs(30);
        Self {
            connect: short,
            header: short,
            stall: short,
            crawl: Duration::from_secs(60),
            commit: Duration::from_secs(300),
            helper: short,
        }
    }
}

/// How hard one host is pressed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many downloads run at once.
    pub downloads: usize,
    /// How many other requests run at once.
    pub requests: usize,
    /// How many requests begin within a second. Without it, as many as come.
    pub rate: Option<f64>,
    /// How many names of a list are asked for at once. Docker's registry refuses more than 1000.
    pub page: usize,
    /// How long the pieces of an upload are, in bytes. Without it a blob goes up in one request, until a registry says
    /// that this is too large.
    pub piece: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { downloads: 16, requests: 32, rate: None, page: 1000, piece: None }
    }
}
