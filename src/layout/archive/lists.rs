//! The two lists of images that an archive is written with.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::Serialize;

use super::index::blob_path;
use crate::layout::names::Selector;
use crate::oci::{Descriptor, Digest, Index, Manifest, Matcher, Parsed, Reference, manifest};

/// The content of the file that marks an OCI layout (image-spec image-layout.md).
pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Makes `index.json`.
pub(crate) fn oci_index(images: &[(&Selector, &Descriptor)]) -> serde_json::Result<Vec<u8>> {
    let manifests = images
        .iter()
        .map(|(name, root)| {
            let mut root = (*root).clone();
            root.annotations.extend(name.annotations());
            root
        })
        .collect();
    serde_json::to_vec(&Index {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        manifests,
        subject: None,
        annotations: BTreeMap::new(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Makes Docker's `manifest.json`, one entry for each image, with all its names; `None` when it has no image for Docker.
pub(crate) fn docker_manifest(
    images: &[(&Selector, &Descriptor)],
    manifests: &HashMap<Digest, Bytes>,
    platforms: &Matcher,
) -> serde_json::Result<Option<Vec<u8>>> {
    let mut listed: Vec<(Digest, DockerImage)> = Vec::new();
    for (name, root) in images {
        let Some((digest, image)) = pick(root, manifests, platforms, 0) else { continue };
        let at = listed.iter().position(|(other, _)| *other == digest).unwrap_or_else(|| {
            let layers = image.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
            let config = blob_path(&image.config.digest);
            listed.push((digest, DockerImage { config, repo_tags: None, layers }));
            listed.len() - 1
        });
        if let Some(tag) = repo_tag(name) {
            listed[at].1.repo_tags.get_or_insert_default().push(tag);
        }
    }
    let listed: Vec<DockerImage> = listed.into_iter().map(|(_, image)| image).collect();
    if listed.is_empty() { Ok(None) } else { serde_json::to_vec(&listed).map(Some) }
}

/// Finds the image that Docker sees of an image: of several platforms the wanted one, else the first that is there.
fn pick(
    descriptor: &Descriptor,
    manifests: &HashMap<Digest, Bytes>,
    platforms: &Matcher,
    depth: usize,
) -> Option<(Digest, Manifest)> {
    let bytes = manifests.get(&descriptor.digest)?;
    match Parsed::read(descriptor, bytes).ok()? {
        // An artifact (a chart, a signature) is no image to Docker.
        Parsed::Manifest(image) => image.config.media_type.is_config().then(|| (descriptor.digest.clone(), image)),
        Parsed::Index(_) if depth >= manifest::MAX_DEPTH => None,
        Parsed::Index(index) => {
            let present: Vec<Descriptor> = index
                .manifests
                .into_iter()
                .filter(|child| manifests.contains_key(&child.digest) && !child.is_attestation())
                .collect();
            platforms
                .select(&present)
                .into_iter()
                .chain(&present)
                .find_map(|child| pick(child, manifests, platforms, depth + 1))
        }
    }
}

/// Returns how Docker writes a name, when it is one that Docker takes: with a tag.
fn repo_tag(name: &Selector) -> Option<String> {
    let Selector::Name(name) = name else { return None };
    // A bare tag names no repository.
    if !name.contains(['/', ':', '@']) {
        return None;
    }
    let reference: Reference = name.parse().ok()?;
    let tagged: Reference = format!("{}:{}", reference.locator(), reference.tag()?).parse().ok()?;
    Some(tagged.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_names_are_familiar() {
        let tag = |name: &str| repo_tag(&Selector::Name(name.into()));
        assert_eq!(tag("docker.io/library/nginx:1").as_deref(), Some("nginx:1"));
        assert_eq!(tag("docker.io/library/a/b:1").as_deref(), Some("library/a/b:1"));
        assert_eq!(tag("host:5000/team/app:2").as_deref(), Some("host:5000/team/app:2"));
        let digest = Digest::sha256(b"");
        assert_eq!(tag(&format!("nginx@{digest}")), None);
        assert_eq!(tag(&format!("nginx:1@{digest}")).as_deref(), Some("nginx:1"));
        assert_eq!(tag("v1"), None);
    }
}
