//! The configuration files of the daemons.

use std::path::Path;

use serde::Serialize;

/// What containerd may not load in a sandbox.
///
/// The CRI plugin wants CNI configuration and takes most of the start; NRI listens on a socket that all daemons of the
/// machine would share. An entry that a version does not know is ignored.
const CRI: [&str; 4] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.podsandbox.controller.v1.podsandbox",
];
const NEVER: [&str; 5] = [
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
];

/// Writes containerd's configuration in version 2, which all of 1.6, 1.7 and 2.x read.
pub(super) fn containerd(folder: &Path, cri: bool, extra: &str) -> String {
    let quoted = |name: &str| toml::Value::String(folder.join(name).to_string_lossy().into_owned());
    let disabled: Vec<&str> = NEVER.into_iter().chain(CRI.into_iter().filter(|_| !cri)).collect();
    let disabled = toml::Value::from(disabled);
    format!(
        "version = 2\nroot = {root}\nstate = {state}\ndisabled_plugins = {disabled}\n\
         [grpc]\naddress = {socket}\n\
         [debug]\nlevel = \"warn\"\naddress = {debug}\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = {opt}\n\
         {extra}\n",
        root = quoted("root"),
        state = quoted("state"),
        socket = quoted("containerd.sock"),
        debug = quoted("debug.sock"),
        opt = quoted("opt"),
    )
}

/// A registry's configuration, as far as a sandbox needs it (distribution, docs/configuration.md); JSON is YAML.
#[derive(Serialize)]
struct Registry<'a> {
    version: &'static str,
    log: Log,
    storage: Storage<'a>,
    http: Http<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<Auth<'a>>,
}

#[derive(Serialize)]
struct Log {
    level: &'static str,
    formatter: &'static str,
    accesslog: AccessLog,
}

#[derive(Serialize)]
struct AccessLog {
    disabled: bool,
}

#[derive(Serialize)]
struct Storage<'a> {
    filesystem: Filesystem<'a>,
    delete: Switch,
    maintenance: Maintenance,
}

#[derive(Serialize)]
struct Filesystem<'a> {
    rootdirectory: &'a Path,
}

#[derive(Serialize)]
struct Switch {
    enabled: bool,
}

#[derive(Serialize)]
struct Maintenance {
    uploadpurging: Switch,
}

#[derive(Serialize)]
struct Http<'a> {
    addr: &'static str,
    secret: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'a>>,
}

#[derive(Serialize)]
struct Tls<'a> {
    certificate: &'a Path,
    key: &'a Path,
}

#[derive(Serialize)]
struct Auth<'a> {
    htpasswd: Htpasswd<'a>,
}

#[derive(Serialize)]
struct Htpasswd<'a> {
    realm: &'static str,
    path: &'a Path,
}

/// Writes a registry's configuration: a free port of the loopback, which the registry then names in its log.
pub(super) fn registry(data: &Path, tls: Option<(&Path, &Path)>, htpasswd: Option<&Path>) -> String {
    let configuration = Registry {
        version: "0.1",
        log: Log { level: "info", formatter: "text", accesslog: AccessLog { disabled: true } },
        storage: Storage {
            filesystem: Filesystem { rootdirectory: data },
            delete: Switch { enabled: true },
            maintenance: Maintenance { uploadpurging: Switch { enabled: false } },
        },
        http: Http {
            addr: "127.0.0.1:0",
            secret: format!("{:032x}", rand::random::<u128>()),
            tls: tls.map(|(certificate, key)| Tls { certificate, key }),
        },
        auth: htpasswd.map(|path| Auth { htpasswd: Htpasswd { realm: "ctrsh sandbox", path } }),
    };
    serde_json::to_string_pretty(&configuration).unwrap_or_default()
}

/// Finds in a registry's log the address that it listens on.
pub(super) fn listening_on(log: &str) -> Option<std::net::SocketAddr> {
    let (_, rest) = log.split_once("listening on ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerds_configuration_is_toml_with_all_paths_in_the_folder() {
        let text = containerd(Path::new("/tmp/a \"quoted\" folder"), false, "[metrics]\naddress = \"\"");
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["root"].as_str(), Some("/tmp/a \"quoted\" folder/root"));
        assert_eq!(table["grpc"]["address"].as_str(), Some("/tmp/a \"quoted\" folder/containerd.sock"));
        assert_eq!(table["metrics"]["address"].as_str(), Some(""));
        let off = |text: &str| {
            let table: toml::Table = text.parse().unwrap();
            table["disabled_plugins"].as_array().unwrap().iter().any(|p| p.as_str() == Some(CRI[0]))
        };
        assert!(off(&text));
        assert!(!off(&containerd(Path::new("/tmp/x"), true, "")));
    }

    #[test]
    fn the_port_is_read_from_the_log() {
        let plain = r#"level=info msg="listening on 127.0.0.1:46639" go.version=go1.19.8"#;
        assert_eq!(listening_on(plain), Some("127.0.0.1:46639".parse().unwrap()));
        let tls = r#"level=info msg="listening on 127.0.0.1:5001, tls" go.version=go1.19.8"#;
        assert_eq!(listening_on(tls), Some("127.0.0.1:5001".parse().unwrap()));
        assert_eq!(listening_on("level=info msg=\"listening on 127.0.0.1:4"), None, "half a line");
    }

    #[test]
    fn a_registry_without_options_asks_for_nothing() {
        let text = registry(Path::new("/tmp/data"), None, None);
        assert!(text.contains("127.0.0.1:0") && !text.contains("htpasswd") && !text.contains("certificate"));
    }
}
