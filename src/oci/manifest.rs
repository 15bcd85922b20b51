//! Manifests and indexes (image-spec manifest.md, image-index.md; Docker image manifest v2 schema 2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::descriptor::null_as_default;
use super::error::Error;
use super::{Descriptor, MediaType};

/// The longest manifest or index that is read: 4 MiB (distribution-spec asks registries to take at least that).
pub const MAX_SIZE: u64 = 4 << 20;
/// The most children that an index may list.
pub const MAX_CHILDREN: usize = 10_000;
/// How deep indexes may nest.
pub const MAX_DEPTH: usize = 5;

/// One image for one platform: its config and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image's config.
    pub config: Descriptor,
    /// The layers, the base first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// What this artifact is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes of the author.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, most often one a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, or further indexes.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// What this artifact is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes of the author.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Makes an index of these manifests, in this order.
    #[must_use]
    pub fn of(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A document that is one or the other, and surely not both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// One image.
    Manifest(Manifest),
    /// A list of images.
    Index(Index),
}

impl Parsed {
    /// Reads the bytes of a manifest or index that a descriptor points to.
    ///
    /// # Errors
    /// [`Error::Document`] when it is not JSON, is both an index and an image (CVE-2021-41190), calls itself another type
    /// than the descriptor does, or lists too many children; [`Error::Schema1`] for Docker's first format.
    pub fn read(descriptor: &Descriptor, bytes: &[u8]) -> Result<Self, Error> {
        let fail = |reason: String| Error::Document { what: "manifest", digest: descriptor.digest.to_string(), reason };
        if descriptor.media_type == MediaType::DockerSchema1 {
            return Err(Error::Schema1 { digest: descriptor.digest.to_string() });
        }
        if bytes.len() as u64 > MAX_SIZE {
            return Err(fail(format!(
                "it has {} bytes, more than the {MAX_SIZE} that a manifest may have",
                bytes.len()
            )));
        }
        let document: Value = serde_json::from_slice(bytes).map_err(|e| fail(format!("it is not JSON: {e}")))?;
        if document.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
            return Err(Error::Schema1 { digest: descriptor.digest.to_string() });
        }
        let filled = |key: &str| document.get(key).is_some_and(|v| !v.is_null());
        if filled("manifests") && (filled("config") || filled("layers")) {
            return Err(fail("it is both an index and an image".into()));
        }
        if let Some(own) = document.get("mediaType").and_then(Value::as_str).filter(|own| !own.is_empty()) {
            let own = MediaType::parse(own);
            if own != descriptor.media_type {
                return Err(fail(format!("it calls itself {own}, but was announced as {}", descriptor.media_type)));
            }
        }
        if descriptor.media_type.is_index() {
            let index: Index = serde_json::from_value(document).map_err(|e| fail(e.to_string()))?;
            if index.manifests.len() > MAX_CHILDREN {
                return Err(fail(format!("it lists more than {MAX_CHILDREN} manifests")));
            }
            Ok(Self::Index(index))
        } else if descriptor.media_type.is_manifest() {
            let manifest: Manifest = serde_json::from_value(document).map_err(|e| fail(e.to_string()))?;
            if manifest.layers.len() > MAX_CHILDREN {
                return Err(fail(format!("it lists more than {MAX_CHILDREN} layers")));
            }
            Ok(Self::Manifest(manifest))
        } else {
            Err(fail(format!("{} is not a manifest's media type", descriptor.media_type)))
        }
    }

    /// Returns all that the document points to, in its own order: an index's manifests; an image's config, then its layers.
    #[must_use]
    pub fn children(&self) -> Vec<Descriptor> {
        match self {
            Self::Index(index) => index.manifests.clone(),
            Self::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).cloned().collect(),
        }
    }
}

/// Works out the media type of manifest bytes from what they say of themselves, for sources that do not tell.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Option<MediaType> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    if document.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Some(MediaType::DockerSchema1);
    }
    if let Some(own) = document.get("mediaType").and_then(Value::as_str).filter(|own| !own.is_empty()) {
        return Some(MediaType::parse(own));
    }
    if document.get("manifests").is_some_and(Value::is_array) {
        return Some(MediaType::OciIndex);
    }
    // An image's config has a `config` too, which is no descriptor.
    let descriptor = document.get("config").and_then(|config| config.get("digest")).is_some_and(Value::is_string);
    (descriptor && document.get("rootfs").is_none()).then_some(MediaType::OciManifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn read(media_type: MediaType, text: &str) -> Result<Parsed, Error> {
        Parsed::read(&Descriptor::new(media_type, Digest::sha256(text.as_bytes()), text.len() as u64), text.as_bytes())
    }

    #[test]
    fn a_document_that_is_both_is_refused() {
        let error = read(MediaType::OciIndex, r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#).unwrap_err();
        assert!(error.to_string().contains("both an index and an image"), "{error}");
    }

    #[test]
    fn a_document_of_another_type_is_refused() {
        let text = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(read(MediaType::OciManifest, text).is_err());
        assert!(read(MediaType::OciIndex, text).is_ok());
    }

    #[test]
    fn schema_1_is_named() {
        assert!(matches!(
            read(MediaType::OciManifest, r#"{"schemaVersion":1,"fsLayers":[]}"#),
            Err(Error::Schema1 { .. })
        ));
    }

    #[test]
    fn null_lists_are_empty_lists() {
        let Ok(Parsed::Index(index)) = read(MediaType::OciIndex, r#"{"schemaVersion":2,"manifests":null}"#) else {
            panic!("not an index");
        };
        assert!(index.manifests.is_empty());
    }

    #[test]
    fn the_config_of_an_image_is_no_manifest() {
        let config = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert_eq!(sniff(config), None);
        assert_eq!(sniff(br#"{"architecture":"amd64","os":"linux","config":{"digest":"x"},"rootfs":{}}"#), None);
        let digest = Digest::sha256(b"x");
        let manifest =
            format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{digest}","size":1}},"layers":[]}}"#);
        assert_eq!(sniff(manifest.as_bytes()), Some(MediaType::OciManifest));
    }
}
