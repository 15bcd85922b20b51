//! The config and manifest of an image that is made of a root filesystem.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::oci::{Descriptor, Digest, Manifest, MediaType, Platform, spec};

/// What to say of an image besides its files (image-spec config.md).
#[derive(Debug, Clone)]
pub struct RootfsOptions {
    /// The platform that the files are for.
    pub platform: Platform,
    /// The program, and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments when none are given, or the program when there is no entrypoint.
    pub cmd: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// `user|uid[:group|gid]`.
    pub user: Option<String>,
    /// Ports that it listens on, `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Folders meant for data.
    pub volumes: Vec<String>,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Who made it.
    pub author: Option<String>,
    /// When it was made. Without it equal input makes an equal image.
    pub created: Option<DateTime<Utc>>,
    /// The latest time that a file of a folder may have: later ones are set to it, as with `SOURCE_DATE_EPOCH`.
    pub clamp_mtime: Option<DateTime<Utc>>,
}

impl RootfsOptions {
    /// Says nothing but the platform.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            user: None,
            exposed_ports: Vec::new(),
            volumes: Vec::new(),
            stop_signal: None,
            labels: BTreeMap::new(),
            author: None,
            created: None,
            clamp_mtime: None,
        }
    }

    /// Makes the image config.
    pub(super) fn config(&self, diff_id: &Digest) -> serde_json::Result<Vec<u8>> {
        let created = self.created.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
        let keys = |list: &[String]| -> BTreeMap<String, Map<String, Value>> {
            list.iter().map(|key| (key.clone(), Map::new())).collect()
        };
        serde_json::to_vec(&Config {
            created: created.as_deref(),
            author: self.author.as_deref(),
            platform: &self.platform,
            config: Process {
                user: self.user.as_deref(),
                exposed_ports: keys(&self.exposed_ports),
                env: &self.env_with_path(),
                entrypoint: &self.entrypoint,
                cmd: &self.cmd,
                volumes: keys(&self.volumes),
                working_dir: self.working_dir.as_deref(),
                labels: &self.labels,
                stop_signal: self.stop_signal.as_deref(),
            },
            rootfs: RootFs { kind: "layers", diff_ids: [diff_id] },
            history: [History { created: created.as_deref(), created_by: "ctrsh from_rootfs" }],
        })
    }

    /// Returns the environment. Without a `PATH` nothing would be found by its name: only for an image whose environment
    /// is empty do containerd and Docker put one in.
    fn env_with_path(&self) -> Vec<String> {
        let mut env = self.env.clone();
        if !env.is_empty() && !env.iter().any(|entry| entry.starts_with("PATH=")) {
            env.insert(0, spec::DEFAULT_PATH.to_owned());
        }
        env
    }

    /// Makes the image manifest.
    pub(super) fn manifest(&self, config: &Descriptor, layer: &Descriptor) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OciManifest),
            artifact_type: None,
            config: config.clone(),
            layers: vec![layer.clone()],
            subject: None,
            annotations: BTreeMap::new(),
        })
    }
}

#[derive(Serialize)]
struct Config<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    #[serde(flatten)]
    platform: &'a Platform,
    config: Process<'a>,
    rootfs: RootFs<'a>,
    history: [History<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Process<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Map<String, Value>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    cmd: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<String, Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'a str>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    diff_ids: [&'a Digest; 1],
}

#[derive(Serialize)]
struct History<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a str>,
    created_by: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ImageConfig;

    #[test]
    fn a_config_says_what_it_was_told() {
        let mut options = RootfsOptions::new(Platform::new("linux", "arm64", None));
        options.cmd = vec!["/bin/sh".into()];
        options.env = vec!["A=1".into()];
        options.exposed_ports = vec!["80/tcp".into()];
        options.labels = BTreeMap::from([("a".into(), "b".into())]);
        let diff_id = Digest::sha256(b"x");
        let bytes = options.config(&diff_id).unwrap();
        let config = ImageConfig::read(&Digest::sha256(&bytes), &bytes).unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm64");
        assert_eq!(config.config.cmd, ["/bin/sh"]);
        assert_eq!(config.config.env, [spec::DEFAULT_PATH, "A=1"]);
        assert!(config.config.exposed_ports.contains_key("80/tcp"));
        assert_eq!(config.rootfs.diff_ids, [diff_id]);
        assert_eq!(config.created, None);
    }
}
