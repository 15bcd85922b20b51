//! Many images that share layers, in one OCI layout: what a migration moves.

use std::path::{Path, PathBuf};

use super::image::{INDEX, Kind, Layer, MANIFEST, Writer, host, noise_of};

/// How many of the images are indexes with two platforms and an attestation.
const INDEXES: usize = 3;

/// The images, each under a full name.
pub struct Fleet {
    pub layout: PathBuf,
    /// Repository within `example.test`, tag, and digest of the root.
    pub images: Vec<Member>,
}

pub struct Member {
    pub repository: String,
    pub tag: String,
    pub digest: String,
}

impl Fleet {
    /// Builds them: two layers of `shared` bytes that all have, and one of `own` bytes each.
    pub fn build(layout: &Path, count: usize, shared: usize, own: usize) -> Self {
        let writer = Writer::new(layout);
        let layer = |name: &str, seed: usize, length: usize| {
            Layer::new().file(name, 0o644, &noise_of(0x1234_5678_9abc_def0 + seed as u64, length))
        };
        let mut named = Vec::new();
        let mut images = Vec::new();
        for number in 0..count {
            let (descriptor, digest) = if number < INDEXES {
                // The same index under several names: what differs is the repository.
                let image = writer.index();
                (writer.describe(INDEX, &image.digest), image.digest)
            } else {
                let layers = [layer("one", 1, shared), layer("two", 2, shared), layer("own", 1000 + number, own)];
                let image = writer.manifest(Kind::Busybox, host(), &layers);
                (writer.describe(MANIFEST, &image.digest), image.digest)
            };
            let member = Member { repository: format!("fleet/app{number}"), tag: format!("1.{number}"), digest };
            named.push((format!("example.test/{}:{}", member.repository, member.tag), descriptor));
            images.push(member);
        }
        writer.name(&named);
        Self { layout: layout.to_owned(), images }
    }
}
