//! What images an archive lists: by its OCI layout, else by Docker's `manifest.json`.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::read::{Contents, sniff};
use crate::layout::error::{Error, Result};
use crate::layout::names::{self, ListedImage, Selector};
use crate::layout::stream::{CHUNK, Piece};
use crate::oci::media_type::Compression;
use crate::oci::{Algorithm, Descriptor, Digest, Hasher, ImageConfig, Index, Manifest, MediaType, Reference};

/// The longest JSON document that lists images: 20 MiB (containerd core/images/archive/importer.go, jsonLimit).
const MAX_JSON: u64 = 20 << 20;

/// What was read of an archive's lists.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The images, in the archive's order.
    pub(crate) images: Vec<ListedImage>,
    /// The list itself as one index: the layout's own, else what containerd's importer makes of Docker's list.
    pub(crate) index: Option<Descriptor>,
    /// Documents that are not among the archive's blobs: the index, and manifests made of what the archive says.
    pub(crate) made: HashMap<Digest, Bytes>,
    /// Blobs that lie under another name than their digest.
    pub(crate) blobs: HashMap<Digest, Piece>,
}

/// Returns where an OCI layout has a blob.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

/// One image of Docker's `manifest.json` (moby image/spec/spec.md).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads the lists of an archive. Blocks.
///
/// The OCI layout wins where there are both, as in containerd. Docker 25 and later writes an `index.json` without
/// manifests when an image is saved by its id, beside a good `manifest.json`: that one counts then.
pub(crate) fn read(contents: &Contents) -> Result<Listing> {
    let docker = contents.piece("manifest.json");
    if contents.piece("oci-layout").is_some() {
        let layout: LayoutFile = json(contents, "oci-layout")?;
        if layout.image_layout_version != "1.0.0" {
            return Err(broken(contents, "oci-layout", format!("its version is {}", layout.image_layout_version)));
        }
        let index = match contents.piece("index.json") {
            Some(_) => Some(document::<Index>(contents, "index.json")?),
            None => None,
        };
        match index {
            Some((bytes, index)) if !index.manifests.is_empty() || docker.is_none() => {
                let mut listing = Listing { images: names::list(index), ..Listing::default() };
                listing.keep_index(bytes);
                return Ok(listing);
            }
            None if docker.is_none() => {
                return Err(Error::Missing { path: contents.name.to_string(), what: "index.json".into() });
            }
            _ => {}
        }
    }
    if docker.is_none() {
        return Err(Error::NoArchive { path: contents.name.to_string() });
    }
    let mut listing = Listing::default();
    for image in json::<Vec<DockerImage>>(contents, "manifest.json")? {
        add_docker(contents, &image, &mut listing)?;
    }
    let named = listing.images.iter().map(|image| {
        let mut target = image.target.clone();
        target.annotations = image.name.clone().map(Selector::Name).unwrap_or_default().annotations();
        target
    });
    let index = Index { media_type: None, ..Index::of(named.collect()) };
    let bytes = serde_json::to_vec(&index).map_err(|error| broken(contents, "manifest.json", error.to_string()))?;
    listing.keep_index(bytes.into());
    Ok(listing)
}

impl Listing {
    fn keep_index(&mut self, bytes: Bytes) {
        let digest = Digest::sha256(&bytes);
        self.index = Some(Descriptor::new(MediaType::OciIndex, digest.clone(), bytes.len() as u64));
        self.made.insert(digest, bytes);
    }
}

/// Makes the manifest of one of Docker's images as containerd's importer does, byte for byte, so that the digests agree.
fn add_docker(contents: &Contents, image: &DockerImage, listing: &mut Listing) -> Result<()> {
    let piece = find(contents, "config", &image.config)?;
    if piece.len > crate::oci::config::MAX_SIZE {
        return Err(broken(contents, &image.config, format!("a config of {} bytes is too long", piece.len)));
    }
    let bytes = piece.read_all()?;
    let digest = Digest::sha256(&bytes);
    let oci = |source| Error::Oci { path: contents.name.to_string(), source };
    let config = ImageConfig::read(&digest, &bytes).map_err(oci)?;
    let layers = image.layers.as_deref().unwrap_or_default();
    if layers.len() != config.rootfs.diff_ids.len() {
        let reason = format!("it lists {} layers, its config {}", layers.len(), config.rootfs.diff_ids.len());
        return Err(broken(contents, "manifest.json", reason));
    }
    let mut descriptors = Vec::with_capacity(layers.len());
    for (name, diff_id) in layers.iter().zip(&config.rootfs.diff_ids) {
        let piece = find(contents, "layer", name)?;
        let (compressed, digest) = identify(name, &piece, diff_id)?;
        // The importer calls every compressed layer gzip; whoever unpacks it looks at its first bytes.
        let media_type = if compressed {
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
        } else {
            "application/vnd.docker.image.rootfs.diff.tar"
        };
        descriptors.push(Descriptor::new(MediaType::parse(media_type), digest.clone(), piece.len));
        listing.blobs.insert(digest, piece);
    }
    listing.blobs.insert(digest.clone(), piece);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::DockerManifest),
        artifact_type: None,
        config: Descriptor::new(MediaType::DockerConfig, digest, bytes.len() as u64),
        layers: descriptors,
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| broken(contents, "manifest.json", error.to_string()))?;
    let mut target = Descriptor::new(MediaType::DockerManifest, Digest::sha256(&bytes), bytes.len() as u64);
    if !config.platform.os.is_empty() {
        target.platform = Some(config.platform.normalized());
    }
    listing.made.insert(target.digest.clone(), bytes.into());
    let tags = image.repo_tags.as_deref().unwrap_or_default();
    if tags.is_empty() {
        listing.images.push(ListedImage { name: None, tag: None, target });
        return Ok(());
    }
    for tag in tags {
        let reference: Reference = tag.parse().map_err(oci)?;
        listing.images.push(ListedImage { name: Some(reference.to_string()), tag: None, target: target.clone() });
    }
    Ok(())
}

/// Tells whether a layer is compressed, and its digest.
///
/// The digest of a plain layer is its diff id, and a blob may carry its digest as its name; both are only claims, which
/// whoever copies the blob checks while it passes. Only a compressed layer under another name is read here to be hashed.
fn identify(name: &str, piece: &Piece, diff_id: &Digest) -> Result<(bool, Digest)> {
    let head = piece.read(0, 6)?;
    let compressed = !matches!(sniff(&head), Ok(Compression::None));
    if let Some(named) = super::walk::clean(name).strip_prefix("blobs/")
        && let Ok(digest) = named.replacen('/', ":", 1).parse()
    {
        return Ok((compressed, digest));
    }
    if !compressed {
        return Ok((false, diff_id.clone()));
    }
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut at = 0;
    while at < piece.len {
        let bytes = piece.read(at, CHUNK)?;
        hasher.update(&bytes);
        at += bytes.len() as u64;
    }
    Ok((true, hasher.finish()))
}

fn find(contents: &Contents, what: &str, name: &str) -> Result<Piece> {
    contents.piece(&super::walk::clean(name)).ok_or_else(|| Error::Missing {
        path: contents.name.to_string(),
        what: format!("{what} {}, which its manifest.json names", crate::oci::excerpt(name)),
    })
}

fn json<T: DeserializeOwned>(contents: &Contents, name: &str) -> Result<T> {
    Ok(document(contents, name)?.1)
}

/// Reads a JSON document, and returns its bytes too.
fn document<T: DeserializeOwned>(contents: &Contents, name: &str) -> Result<(Bytes, T)> {
    let piece = find(contents, "file", name)?;
    if piece.len > MAX_JSON {
        return Err(broken(
            contents,
            name,
            format!("it has {} bytes, more than the {MAX_JSON} that are read", piece.len),
        ));
    }
    let bytes = piece.read_all()?;
    let read = serde_json::from_slice(&bytes).map_err(|error| broken(contents, name, error.to_string()))?;
    Ok((bytes, read))
}

fn broken(contents: &Contents, name: &str, reason: String) -> Error {
    Error::Document { document: format!("{} in {}", crate::oci::excerpt(name), contents.name), reason }
}
