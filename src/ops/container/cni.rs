//! Runs the network plugins of this host (Container Network Interface, cni SPEC.md of 1.0).

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::ops::{Error, Result};

/// Where the networks of the host are written down, as containerd's own clients have it.
pub(super) const CONF_DIR: &str = "/etc/cni/net.d";

/// Where plugins are: containerd's own place, then those of Debian and Fedora.
const BIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// The version that a network has which names none.
const OLDEST: &str = "0.1.0";

/// The network of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Network {
    /// The network as it was written down when the container was made.
    list: List,
    /// Where the plugins are.
    bin_dirs: Vec<PathBuf>,
    /// What adding the container to it gave; removing it again has to say that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Value>,
}

/// A network: plugins that run one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    plugins: Vec<Value>,
}

/// Whom the plugins are to connect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whom<'a> {
    /// The container, by a name that no other one has here.
    pub(super) id: &'a str,
    /// The file of its network namespace.
    pub(super) netns: &'a Path,
}

impl Network {
    /// Reads the first network of a folder by file name, or the one that is called so.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, [`Error::File`] when the file is not one.
    pub(super) fn read(name: Option<&str>, conf_dir: &Path, bin_dir: Option<&Path>) -> Result<Self> {
        let ends = |path: &PathBuf| {
            path.extension().and_then(|end| end.to_str()).is_some_and(|end| matches!(end, "conf" | "conflist" | "json"))
        };
        let entries = std::fs::read_dir(conf_dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut paths: Vec<PathBuf> = entries.filter(ends).collect();
        paths.sort();
        let mut names = Vec::new();
        for path in paths {
            let list = List::read(&path).map_err(|error| Error::File {
                attempted: "read network",
                path: path.display().to_string(),
                source: io::Error::new(io::ErrorKind::InvalidData, error),
            })?;
            if name.is_none_or(|name| name == list.name) {
                let bin_dirs = bin_dir.map_or_else(|| BIN_DIRS.map(PathBuf::from).to_vec(), |dir| vec![dir.to_owned()]);
                return Ok(Self { list, bin_dirs, result: None });
            }
            names.push(list.name);
        }
        let cure = match names.as_slice() {
            [] => format!(
                "{} has no network; write one as cni SPEC.md says, such as 10-bridge.conflist",
                conf_dir.display()
            ),
            names => format!("{} has {}", conf_dir.display(), names.join(", ")),
        };
        let name = name.unwrap_or("the host's first one").to_owned();
        Err(Error::NotFound { what: "CNI network", name, nearest: None, cure: Some(cure) })
    }

    /// Lists the addresses that it gave.
    pub(super) fn addresses(&self) -> Vec<String> {
        let ips = self.result.as_ref().and_then(|result| result["ips"].as_array());
        ips.into_iter().flatten().filter_map(|ip| ip["address"].as_str()).map(str::to_owned).collect()
    }

    /// Connects a container, and remembers what that gave.
    ///
    /// # Errors
    /// What a plugin said.
    pub(super) async fn add(&mut self, whom: Whom<'_>) -> Result<()> {
        // The runtime brings the loopback up only in a namespace that it made itself.
        let loopback = json!({ "cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback" });
        self.plugin("ADD", &loopback, whom, "lo").await?;
        let mut result = None;
        for plugin in &self.list.plugins {
            result = self.plugin("ADD", &self.conf(plugin, result.as_ref()), whom, "eth0").await?;
        }
        self.result = result;
        Ok(())
    }

    /// Disconnects a container; what is not connected is left as it is.
    ///
    /// # Errors
    /// What a plugin said.
    pub(super) async fn remove(&self, whom: Whom<'_>) -> Result<()> {
        for plugin in self.list.plugins.iter().rev() {
            self.plugin("DEL", &self.conf(plugin, self.result.as_ref()), whom, "eth0").await?;
        }
        Ok(())
    }

    fn conf(&self, plugin: &Value, previous: Option<&Value>) -> Value {
        let mut conf = plugin.clone();
        conf["name"] = json!(self.list.name);
        conf["cniVersion"] = json!(if self.list.cni_version.is_empty() { OLDEST } else { &self.list.cni_version });
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        conf
    }

    async fn plugin(&self, command: &str, conf: &Value, whom: Whom<'_>, interface: &str) -> Result<Option<Value>> {
        let name = conf["type"].as_str().unwrap_or_default();
        let path = std::env::join_paths(&self.bin_dirs).unwrap_or_default();
        let find = || self.bin_dirs.iter().map(|dir| dir.join(name)).find(|program| program.is_file());
        let Some(program) = find().filter(|_| !name.is_empty() && !name.contains('/')) else {
            let places: Vec<_> = self.bin_dirs.iter().map(|dir| dir.display().to_string()).collect();
            return Err(Error::NotFound {
                what: "CNI plugin",
                name: crate::oci::excerpt(name),
                nearest: None,
                cure: Some(format!(
                    "install the package containernetworking-plugins; plugins are looked for in {}",
                    places.join(", ")
                )),
            });
        };
        let failed = |source: io::Error| Error::File {
            attempted: "run CNI plugin",
            path: program.display().to_string(),
            source,
        };
        let mut child = Command::new(&program)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", whom.id)
            .env("CNI_NETNS", whom.netns)
            .env("CNI_IFNAME", interface)
            .env("CNI_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C of the terminal is for this program, which takes back what a plugin did.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read its input says so itself.
            let _ = stdin.write_all(conf.to_string().as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if output.status.success() {
            return Ok(answer);
        }
        let said = answer.as_ref().and_then(|answer| answer["msg"].as_str()).unwrap_or_default();
        let details = answer.as_ref().and_then(|answer| answer["details"].as_str()).unwrap_or_default();
        let words = match (said, details) {
            ("", _) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            (said, "") => said.to_owned(),
            (said, details) => format!("{said}: {details}"),
        };
        Err(failed(io::Error::other(if words.is_empty() {
            output.status.to_string()
        } else {
            crate::oci::excerpt(&words)
        })))
    }
}

impl List {
    fn read(path: &Path) -> std::result::Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let document: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let list = if document.get("plugins").is_some() {
            serde_json::from_value(document).map_err(|error| error.to_string())?
        } else {
            // The older form has one plugin and no list.
            let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
            Self { cni_version: text("cniVersion"), name: text("name"), plugins: vec![document] }
        };
        if list.name.is_empty() || list.plugins.iter().any(|plugin| !plugin["type"].is_string()) {
            return Err("it needs a name, and a type for each of its plugins".to_owned());
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_counts_and_names_are_found() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
        let read = |name: Option<&str>| Network::read(name, place.path(), None);
        let error = read(None).unwrap_err();
        assert!(
            matches!(&error, Error::NotFound { cure: Some(cure), .. } if cure.contains("has no network")),
            "{error:?}"
        );
        file("20-old.conf", r#"{"name":"old","type":"bridge","bridge":"b"}"#);
        file("10-new.conflist", r#"{"cniVersion":"1.0.0","name":"new","plugins":[{"type":"ptp"},{"type":"tuning"}]}"#);
        file("notes.txt", "nothing");
        assert_eq!(read(None).unwrap().list.name, "new");
        let old = read(Some("old")).unwrap();
        assert_eq!(old.list.plugins.len(), 1);
        let conf = old.conf(&old.list.plugins[0], Some(&json!({"ips": []})));
        assert_eq!((conf["cniVersion"].as_str(), conf["bridge"].as_str()), (Some(OLDEST), Some("b")));
        assert_eq!(conf["prevResult"], json!({"ips": []}));
        let error = read(Some("other")).unwrap_err();
        assert!(matches!(&error, Error::NotFound { cure: Some(cure), .. } if cure.contains("new, old")), "{error:?}");
        file("00-broken.conflist", r#"{"plugins":[{}]}"#);
        assert!(matches!(read(None).unwrap_err(), Error::File { .. }));
    }
}
