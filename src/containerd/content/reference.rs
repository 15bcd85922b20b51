//! What ingests are called.

use crate::oci::{Descriptor, MediaType};

/// Returns the reference under which containerd's own client ingests a blob, so that locks and resumes of both meet
/// (containerd core/remotes/handlers.go, `MakeRefKey`).
#[must_use]
pub fn ingest_reference(descriptor: &Descriptor) -> String {
    let media_type = &descriptor.media_type;
    let sort = match media_type {
        _ if media_type.is_manifest() => "manifest",
        _ if media_type.is_index() => "index",
        _ if media_type.is_layer() => "layer",
        _ if media_type.is_config() => "config",
        MediaType::Other(text) if text.starts_with("application/vnd.in-toto") => "attestation",
        _ => "unknown",
    };
    match descriptor.annotations.get("org.opencontainers.image.ref.name") {
        Some(name) => format!("{sort}-{name}@{}", descriptor.digest),
        None => format!("{sort}-{}", descriptor.digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn references_are_those_of_ctr() {
        let digest = Digest::sha256(b"x");
        for (media_type, sort) in [
            ("application/vnd.oci.image.manifest.v1+json", "manifest"),
            ("application/vnd.docker.distribution.manifest.list.v2+json", "index"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "layer"),
            ("application/vnd.docker.container.image.v1+json", "config"),
            ("application/vnd.in-toto+json", "attestation"),
            ("application/octet-stream", "unknown"),
        ] {
            let mut descriptor = Descriptor::new(MediaType::parse(media_type), digest.clone(), 1);
            assert_eq!(ingest_reference(&descriptor), format!("{sort}-{digest}"));
            descriptor.annotations.insert("org.opencontainers.image.ref.name".into(), "1.2".into());
            assert_eq!(ingest_reference(&descriptor), format!("{sort}-1.2@{digest}"));
        }
    }
}
