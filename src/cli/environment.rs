//! What the environment says: variables, and where a user's files lie.

use std::path::PathBuf;

/// Returns a variable, when it is set and is text.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    // The XDG specification: a relative path is to be ignored.
    let given = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    given.or_else(|| home().map(|home| home.join(below_home)))
}

/// Returns the user's home.
pub(super) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Returns the folder of the user's configuration.
pub(super) fn config_dir() -> Option<PathBuf> {
    folder("XDG_CONFIG_HOME", ".config").map(|path| path.join("ctrsh"))
}

/// Returns the folder of what is kept between runs.
pub(super) fn state_dir() -> Option<PathBuf> {
    folder("XDG_STATE_HOME", ".local/state").map(|path| path.join("ctrsh"))
}

/// Returns the folder of what a running task needs: root's is the system's, as containers outlive a login.
pub(super) fn run_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/run/ctrsh".into();
    }
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    given.unwrap_or_else(std::env::temp_dir).join("ctrsh")
}

/// Returns the folder of the output of detached containers.
pub(super) fn log_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/log/ctrsh".into();
    }
    state_dir().unwrap_or_else(std::env::temp_dir).join("logs")
}

/// Returns the files that settings are read from, the most important first.
pub(super) fn config_files() -> Vec<PathBuf> {
    let own = config_dir().map(|folder| folder.join("config.toml"));
    own.into_iter().chain([PathBuf::from("/etc/ctrsh/config.toml")]).collect()
}

/// How registries are reached: the daemon's hosts files, Docker's credentials, and the proxies of the environment.
pub(super) fn registry(hosts_dir: Option<&str>) -> crate::registry::Config {
    let either = |upper: &str, lower: &str| variable(lower).or_else(|| variable(upper)).filter(|text| !text.is_empty());
    let docker = folder("DOCKER_CONFIG", ".docker").map(|folder| folder.join("config.json"));
    crate::registry::Config {
        hosts_dirs: vec![PathBuf::from(hosts_dir.unwrap_or("/etc/containerd/certs.d"))],
        docker_config: docker,
        proxy: crate::registry::config::Proxy {
            http: either("HTTP_PROXY", "http_proxy").map(Into::into),
            https: either("HTTPS_PROXY", "https_proxy").map(Into::into),
            none: either("NO_PROXY", "no_proxy"),
        },
        ..crate::registry::Config::default()
    }
}
