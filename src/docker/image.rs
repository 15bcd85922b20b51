//! What an engine says of its images.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::oci::{Descriptor, Digest, Platform};

/// An image of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What the engine calls it: the digest of its config, or, with containerd's image store, of what its names point to.
    pub id: Digest,
    /// Its names with tags, short as Docker writes them.
    pub names: Vec<String>,
    /// Its names with the digests that registries know it by.
    pub digests: Vec<String>,
    /// When it was built, when that is known.
    pub created: Option<DateTime<Utc>>,
    /// Bytes of its files, unpacked.
    pub size: u64,
    /// The labels of its config.
    pub labels: BTreeMap<String, String>,
    /// What it runs on; a list does not say.
    pub platform: Option<Platform>,
    /// What its names point to, when the engine has containerd's image store and version 1.48 of the API.
    pub target: Option<Descriptor>,
}

impl Image {
    /// Returns whether the engine has containerd's image store, in which the id is the digest of the manifest or index.
    ///
    /// Engines with the store and an older API do not say so, but then a registry's digest is the id, which a digest of
    /// a config never is.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let id = self.id.as_str();
        self.target.is_some() || self.digests.iter().any(|name| name.split_once('@').is_some_and(|(_, d)| d == id))
    }
}

/// An image as `/images/json` lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    id: Digest,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    /// Seconds since 1970.
    #[serde(default)]
    created: i64,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    descriptor: Option<Descriptor>,
}

/// An image as `/images/NAME/json` describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: Digest,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    /// RFC 3339; empty or missing when the config does not say.
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    descriptor: Option<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// Engines before API 1.43 say `<none>:<none>` of an image without a name.
fn named(names: Option<Vec<String>>) -> Vec<String> {
    names.unwrap_or_default().into_iter().filter(|name| !name.contains("<none>")).collect()
}

impl From<Listed> for Image {
    fn from(listed: Listed) -> Self {
        Self {
            id: listed.id,
            names: named(listed.repo_tags),
            digests: named(listed.repo_digests),
            created: DateTime::from_timestamp(listed.created, 0).filter(|time| time.timestamp() > 0),
            size: u64::try_from(listed.size).unwrap_or_default(),
            labels: listed.labels.unwrap_or_default(),
            platform: None,
            target: listed.descriptor,
        }
    }
}

impl From<Inspected> for Image {
    fn from(image: Inspected) -> Self {
        let variant = image.variant.filter(|variant| !variant.is_empty()).map(|variant| format!("/{variant}"));
        let platform = format!("{}/{}{}", image.os, image.architecture, variant.unwrap_or_default());
        let created = image.created.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
        Self {
            id: image.id,
            names: named(image.repo_tags),
            digests: named(image.repo_digests),
            created: created.map(|time| time.to_utc()).filter(|time| time.timestamp() > 0),
            size: u64::try_from(image.size).unwrap_or_default(),
            labels: image.config.and_then(|config| config.labels).unwrap_or_default(),
            platform: platform.parse().ok(),
            target: image.descriptor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:a8b45d0ce4e87cac12eca81235e245847e922bdf5afb5e4c5deacd70e8478eaf";

    #[test]
    fn an_answer_of_docker_20_10_is_read() {
        let text = format!(
            r#"{{"Id":"{ID}","RepoTags":["probe/box:1"],"RepoDigests":[],"Parent":"","Created":"2026-11-24T18:22:53.9Z",
            "Config":{{"Cmd":["sh"],"Labels":{{"a":"b"}}}},"Architecture":"amd64","Os":"linux","Size":1982256}}"#
        );
        let image: Image = serde_json::from_str::<Inspected>(&text).unwrap().into();
        assert_eq!((image.id.as_str(), image.size), (ID, 1_982_256));
        assert_eq!(image.names, ["probe/box:1"]);
        assert_eq!(image.labels["a"], "b");
        assert_eq!(image.platform.as_ref().unwrap().to_string(), "linux/amd64");
        assert_eq!(image.created.unwrap().timestamp(), 1_795_544_573);
        assert!(!image.is_exact());
    }

    #[test]
    fn an_image_without_a_name_has_none() {
        let text = format!(
            r#"[{{"Containers":-1,"Created":0,"Id":"{ID}","Labels":null,"RepoDigests":["<none>@<none>"],"RepoTags":["<none>:<none>"],"Size":5}}]"#
        );
        let image: Image = serde_json::from_str::<Vec<Listed>>(&text).unwrap().remove(0).into();
        assert_eq!((image.names.len(), image.digests.len(), image.created), (0, 0, None));
    }

    #[test]
    fn with_the_store_of_containerd_the_id_is_the_digest() {
        // Docker 25 to 27 by the digest's name, 28 and later by the descriptor.
        let by_name = format!(r#"{{"Id":"{ID}","RepoTags":["a:1"],"RepoDigests":["a@{ID}"]}}"#);
        let descriptor = format!(
            r#"{{"Id":"{ID}","RepoTags":["a:1"],"Descriptor":{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{ID}","size":9}}}}"#
        );
        for text in [by_name, descriptor] {
            let image: Image = serde_json::from_str::<Inspected>(&text).unwrap().into();
            assert!(image.is_exact(), "{text}");
        }
    }
}
