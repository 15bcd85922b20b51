//! What a registry has on the disk: many images are put there at once, and what was pushed is looked up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// An image as registries have it.
#[derive(Debug, Clone)]
pub struct Placed {
    pub repository: String,
    pub tag: String,
    /// The digest of its manifest.
    pub digest: String,
    /// Its config and layers, with their sizes.
    pub blobs: Vec<(String, u64)>,
}

/// The folder of a docker-registry, `docker/registry/v2` (distribution, registry/storage/paths.go).
pub struct Storage(PathBuf);

impl Storage {
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Removes everything: a registry keeps nothing in memory, so that what comes next is new to it.
    pub fn empty(&self) {
        if self.0.exists() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn data(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.0.join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.0.join("repositories").join(name)
    }

    /// Puts an image there whose blobs lie in a folder by their digests.
    pub fn put(&self, image: &Placed, blobs: &Path) {
        let repository = self.repository(&image.repository);
        let manifests = repository.join("_manifests");
        let layers = repository.join("_layers");
        for digest in image.blobs.iter().map(|(digest, _)| digest).chain([&image.digest]) {
            let data = self.data(digest);
            fs::create_dir_all(data.parent().unwrap()).unwrap();
            match fs::hard_link(blobs.join(digest.replace(':', "/")), data) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{digest}: {error}"),
                _ => {}
            }
        }
        for (digest, _) in &image.blobs {
            link(&layers.join(digest.replace(':', "/")), digest);
        }
        let tag = manifests.join("tags").join(&image.tag);
        let revision = image.digest.replace(':', "/");
        link(&manifests.join("revisions").join(&revision), &image.digest);
        link(&tag.join("index").join(&revision), &image.digest);
        link(&tag.join("current"), &image.digest);
    }

    /// Makes sure that an image is there, with all that belongs to it.
    pub fn check(&self, image: &Placed) {
        let repository = self.repository(&image.repository);
        let of = format!("{}:{}", image.repository, image.tag);
        let current = repository.join("_manifests/tags").join(&image.tag).join("current/link");
        let current = fs::read_to_string(current).unwrap_or_else(|error| panic!("{of}: {error}"));
        assert_eq!(current, image.digest, "{of}");
        assert!(self.data(&current).exists(), "{of}: its manifest is missing");
        for (digest, size) in &image.blobs {
            let linked = repository.join("_layers").join(digest.replace(':', "/")).join("link");
            assert!(linked.exists(), "{of} lacks {digest}");
            let found = fs::metadata(self.data(digest)).unwrap().len();
            assert_eq!(found, *size, "{of}: {digest}");
        }
    }
}

fn link(folder: &Path, digest: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("link"), digest).unwrap();
}
