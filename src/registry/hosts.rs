//! Which hosts answer for a registry: itself, and the mirrors that a hosts folder names.
//!
//! The format is containerd's (`docs/hosts.md`, `core/remotes/docker/config/hosts.go`), with two differences: a file that
//! cannot be read stops the operation instead of being passed over, and a host is asked only for what its capabilities
//! name.

mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderMap;
use url::Url;

use super::config::Config;
use super::error::Error;
use super::{Result, credentials, reach};

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capability {
    /// Content by its digest.
    Pull,
    /// The digest of a tag.
    Resolve,
    /// Anything that changes the registry.
    Push,
    /// What refers to a manifest.
    Referrers,
    /// What the registry alone knows, such as what it holds altogether. No file names this, and no mirror can do it.
    Own,
    /// To take the credentials that are kept under the registry's name. No file names this either.
    Login,
}

impl Capability {
    pub(super) const ALL: [Self; 4] = [Self::Pull, Self::Resolve, Self::Push, Self::Referrers];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
            Self::Push => "push",
            Self::Referrers => "referrers",
            Self::Own => "own",
            Self::Login => "login",
        }
    }
}

/// How a connection is made: what tells one connection pool from another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Profile {
    /// Authorities beside the system's, PEM files.
    pub(super) ca: Vec<PathBuf>,
    /// The client certificate, and its key when that is in a file of its own.
    pub(super) client: Option<(PathBuf, Option<PathBuf>)>,
    /// Whether certificates go unchecked.
    pub(super) skip_verify: bool,
    /// The time-out of a connection, when it is not the usual.
    pub(super) dial_timeout: Option<Duration>,
}

/// One host that answers for a registry.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Where the paths of the protocol begin, with a slash at the end: `https://HOST[:PORT]/v2/`.
    pub(super) base: Url,
    /// What it may be asked for.
    pub(super) can: Vec<Capability>,
    /// How to connect to it.
    pub(super) profile: Profile,
    /// Headers to send along.
    pub(super) headers: HeaderMap,
    /// The registry that it stands in for, sent as `ns`.
    pub(super) mirror_of: Option<String>,
    /// Whether plain HTTP may be tried when TLS is not spoken there.
    pub(super) fallback: bool,
    /// The name that its credentials are kept under: the registry's as the user writes it, or the mirror's own.
    pub(super) login: String,
}

/// Returns `HOST[:PORT]` of an address.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Works out the hosts of a registry, the mirrors first and the registry itself last.
pub(super) fn load(config: &Config, registry: &str) -> Result<Vec<Endpoint>> {
    let found = config.hosts_dirs.iter().find_map(|dir| folder(dir, registry));
    let mut endpoints = match &found {
        Some(folder) if folder.join("hosts.toml").exists() => file::read(&folder.join("hosts.toml"), registry)?,
        Some(folder) => {
            let (ca, mut client) = certificates(folder)?;
            let mut server = server(registry)?;
            server.profile = Profile { ca, client: client.pop(), ..Profile::default() };
            vec![server]
        }
        None => vec![server(registry)?],
    };
    let own = endpoints.last().map(|endpoint| endpoint.base.clone());
    for endpoint in &mut endpoints {
        endpoint.profile.ca.extend(config.tls.ca.iter().cloned());
        if Some(&endpoint.base) == own.as_ref() {
            // What is given for a registry by name is for the registry itself, however often its file has it; a mirror has
            // its own settings.
            if config.tls.client.is_some() {
                endpoint.profile.client.clone_from(&config.tls.client);
            }
            endpoint.profile.skip_verify |= config.skip_verify.contains(registry);
            if config.plain_http.contains(registry) {
                endpoint.fallback = false;
                // Cannot fail: both schemes are "special" to the URL standard.
                let _ = endpoint.base.set_scheme("http");
            }
        }
        // As containerd does it: nobody stands between this machine and itself.
        if reach::is_localhost(&endpoint.base) && endpoint.profile.ca.is_empty() {
            endpoint.profile.skip_verify = true;
        }
    }
    Ok(endpoints)
}

/// Finds a registry's sub-folder: `HOST_PORT_`, `HOST:PORT` (or `HOST`), `_default`.
pub(super) fn folder(dir: &Path, registry: &str) -> Option<PathBuf> {
    let with_port = registry.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    with_port
        .map(|(host, port)| format!("{host}_{port}_"))
        .into_iter()
        .chain([registry.to_owned(), "_default".to_owned()])
        .map(|name| dir.join(name))
        .find(|path| path.is_dir())
}

/// Makes the endpoint that a registry has when nothing is said.
fn server(registry: &str) -> Result<Endpoint> {
    let host = if credentials::key(registry) == "docker.io" { "registry-1.docker.io" } else { registry };
    let port_80 = host.ends_with(":80");
    let scheme = if port_80 { "http" } else { "https" };
    let base = Url::parse(&format!("{scheme}://{host}/v2/"))
        .map_err(|e| Error::SetUp { what: "address of the registry", reason: format!("{registry}: {e}") })?;
    let fallback = !port_80 && reach::is_localhost(&base);
    Ok(Endpoint {
        base,
        can: Capability::ALL.to_vec(),
        profile: Profile::default(),
        headers: HeaderMap::new(),
        mirror_of: None,
        fallback,
        login: registry.to_owned(),
    })
}

type Identity = (PathBuf, Option<PathBuf>);

/// Reads a folder as Docker's `certs.d`: every `.crt` is an authority, every `.cert` with its `.key` a client.
fn certificates(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Identity>)> {
    let fail = |e: std::io::Error| Error::Hosts { path: folder.to_owned(), reason: e.to_string() };
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        names.push(entry.map_err(fail)?.path());
    }
    names.sort();
    let with = |extension: &str| {
        names.iter().filter(|p| p.extension().is_some_and(|e| e == extension)).cloned().collect::<Vec<_>>()
    };
    let mut clients = Vec::new();
    for certificate in with("cert") {
        let key = certificate.with_extension("key");
        if !key.exists() {
            return Err(Error::Hosts { path: certificate, reason: "there is no .key file beside it".into() });
        }
        clients.push((certificate, Some(key)));
    }
    Ok((with("crt"), clients))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_in(dir: &Path, registry: &str) -> Result<Vec<Endpoint>> {
        load(&Config { hosts_dirs: vec![dir.to_owned()], ..Config::default() }, registry)
    }

    fn with_file(registry_folder: &str, text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(registry_folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("hosts.toml"), text).unwrap();
        dir
    }

    #[test]
    fn without_a_folder_the_registry_answers_itself() {
        let config = Config::default();
        for (registry, base, fallback) in [
            ("docker.io", "https://registry-1.docker.io/v2/", false),
            ("harbor.example:8443", "https://harbor.example:8443/v2/", false),
            ("localhost:5000", "https://localhost:5000/v2/", true),
            ("127.0.0.1:5000", "https://127.0.0.1:5000/v2/", true),
            ("[::1]:5000", "https://[::1]:5000/v2/", true),
            ("localhost:80", "http://localhost/v2/", false),
        ] {
            let [only] = &load(&config, registry).unwrap()[..] else { panic!("{registry}") };
            assert_eq!((only.base.as_str(), only.fallback), (base, fallback));
        }
    }

    #[test]
    fn plain_http_is_said_by_name() {
        let config = Config { plain_http: ["r.example:5000".to_owned()].into(), ..Config::default() };
        assert_eq!(load(&config, "r.example:5000").unwrap()[0].base.as_str(), "http://r.example:5000/v2/");
        assert_eq!(load(&config, "s.example:5000").unwrap()[0].base.as_str(), "https://s.example:5000/v2/");
    }

    #[test]
    fn mirrors_keep_their_order_and_the_server_is_last() {
        let dir = with_file(
            "docker.io",
            r#"
            server = "https://docker.io"
            [host."https://z.example"]
              capabilities = ["pull", "resolve"]
              dial_timeout = "3s"
            [host."http://a.example:5000/prefix"]
              skip_verify = true
              [host."http://a.example:5000/prefix".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."https://own.example/api/registry"]
              override_path = true
            "#,
        );
        let hosts = load_in(dir.path(), "docker.io").unwrap();
        let bases: Vec<_> = hosts.iter().map(|h| h.base.as_str()).collect();
        assert_eq!(
            bases,
            [
                "https://z.example/v2/",
                "http://a.example:5000/prefix/v2/",
                "https://own.example/api/registry/",
                "https://registry-1.docker.io/v2/"
            ]
        );
        assert_eq!(hosts[0].can, [Capability::Pull, Capability::Resolve]);
        assert_eq!(hosts[0].profile.dial_timeout, Some(Duration::from_secs(3)));
        assert_eq!(hosts[0].mirror_of.as_deref(), Some("docker.io"));
        assert_eq!(hosts[1].can, Capability::ALL);
        assert!(hosts[1].profile.skip_verify);
        assert_eq!(hosts[1].headers.get_all("x-two").iter().count(), 2);
        assert_eq!(hosts[3].mirror_of, None);
    }

    #[test]
    fn certificates_are_named_relative_to_the_file() {
        let dir = with_file(
            "r.example_8443_",
            r#"
            ca = ["one.pem", "/abs/two.pem"]
            client = [["cert.pem", "key.pem"]]
            "#,
        );
        let hosts = load_in(dir.path(), "r.example:8443").unwrap();
        let folder = dir.path().join("r.example_8443_");
        assert_eq!(hosts[0].profile.ca, [folder.join("one.pem"), PathBuf::from("/abs/two.pem")]);
        assert_eq!(hosts[0].profile.client, Some((folder.join("cert.pem"), Some(folder.join("key.pem")))));
        assert_eq!(hosts[0].base.as_str(), "https://r.example:8443/v2/");
    }

    #[test]
    fn the_default_folder_serves_all_others() {
        let dir = with_file("_default", r#"[host."https://mirror.example"]"#);
        let hosts = load_in(dir.path(), "quay.io").unwrap();
        assert_eq!(hosts[0].mirror_of.as_deref(), Some("quay.io"));
        assert_eq!(hosts[1].base.as_str(), "https://quay.io/v2/");
    }

    #[test]
    fn a_file_that_cannot_be_used_stops_everything() {
        for (text, part) in [
            ("server = ", "hosts.toml"),
            (r#"[host."https://m.example"]"#.to_owned().as_str(), ""),
            (r#"capabilities = ["pul"]"#, "'pul'"),
            (r#"skip_verify = "yes""#, "skip_verify"),
            (
                r#"[host."https://m.example"]
                dial_timeout = "soon""#,
                "dial_timeout",
            ),
            (r#"server = "ftp://x""#, "ftp"),
            (r#"header = "x""#, "header"),
        ] {
            let dir = with_file("r.example", text);
            let loaded = load_in(dir.path(), "r.example");
            if part.is_empty() {
                assert!(loaded.is_ok());
            } else {
                let error = loaded.unwrap_err().to_string();
                assert!(error.contains(part) && error.contains("hosts.toml"), "{text}: {error}");
            }
        }
    }

    #[test]
    fn dockers_certificate_folder_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("r.example:8443");
        std::fs::create_dir(&folder).unwrap();
        for name in ["ca.crt", "client.cert"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let error = load_in(dir.path(), "r.example:8443").unwrap_err().to_string();
        assert!(error.contains("client.cert") && error.contains(".key"), "{error}");
        std::fs::write(folder.join("client.key"), "").unwrap();
        let hosts = load_in(dir.path(), "r.example:8443").unwrap();
        assert_eq!(hosts[0].profile.ca, [folder.join("ca.crt")]);
        assert_eq!(hosts[0].profile.client, Some((folder.join("client.cert"), Some(folder.join("client.key")))));
    }
}
