//! Documents that point to converted content: the same manifest or index with other entries.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Descriptor, Digest, Error, MediaType};

/// The annotation with the digest of the image that an attestation is of (BuildKit, docs/attestations).
const ATTESTED: &str = "vnd.docker.reference.digest";

/// What becomes of what documents point to.
#[derive(Debug, Clone, Default)]
pub struct Conversion {
    /// Whether Docker's media types become OCI's.
    pub to_oci: bool,
    /// What is replaced, by its old digest.
    pub replaced: HashMap<Digest, Descriptor>,
    /// What indexes list no more.
    pub gone: HashSet<Digest>,
}

impl Conversion {
    /// Returns the converted document with what points to it, or `None` when nothing of it changes.
    ///
    /// Whatever else the document says stays, in its order, also members that nobody knows, and equal documents make equal
    /// bytes.
    ///
    /// # Errors
    /// [`Error::Document`] when the bytes are no JSON object.
    pub fn apply(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Option<(Descriptor, Bytes)>, Error> {
        let fail = |reason: String| Error::Document { what: "manifest", digest: descriptor.digest.to_string(), reason };
        let before: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        let mut document = before.clone();
        self.media_type(&mut document);
        if let Some(Value::Object(config)) = document.get_mut("config") {
            self.entry(config);
        }
        for list in ["layers", "manifests"] {
            let Some(Value::Array(entries)) = document.get_mut(list) else { continue };
            entries.retain(|entry| !digest_of(entry).is_some_and(|digest| self.gone.contains(&digest)));
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                self.entry(entry);
            }
        }
        if document == before {
            return Ok(None);
        }
        let bytes: Bytes = serde_json::to_vec(&document).map_err(|error| fail(error.to_string()))?.into();
        let new = Descriptor {
            media_type: if self.to_oci { descriptor.media_type.to_oci() } else { descriptor.media_type.clone() },
            digest: Digest::sha256(&bytes),
            size: bytes.len() as u64,
            data: None,
            ..descriptor.clone()
        };
        Ok(Some((new, bytes)))
    }

    fn media_type(&self, object: &mut Map<String, Value>) {
        if let (true, Some(Value::String(text))) = (self.to_oci, object.get_mut("mediaType")) {
            let old = MediaType::parse(text);
            let new = old.to_oci();
            if new != old {
                new.as_str().clone_into(text);
            }
        }
    }

    fn entry(&self, entry: &mut Map<String, Value>) {
        let old = entry.get("digest").and_then(Value::as_str).and_then(|text| text.parse::<Digest>().ok());
        match old.and_then(|old| self.replaced.get(&old)) {
            Some(new) => {
                entry.insert("mediaType".into(), new.media_type.as_str().into());
                entry.insert("digest".into(), new.digest.to_string().into());
                entry.insert("size".into(), new.size.into());
                // The old content, where it stood in the entry itself, and where else it could be had.
                entry.shift_remove("data");
                entry.shift_remove("urls");
            }
            None => self.media_type(entry),
        }
        let Some(Value::Object(annotations)) = entry.get_mut("annotations") else { return };
        if let Some(Value::String(attested)) = annotations.get_mut(ATTESTED)
            && let Some(new) = attested.parse::<Digest>().ok().and_then(|old| self.replaced.get(&old))
        {
            new.digest.as_str().clone_into(attested);
        }
    }
}

fn digest_of(entry: &Value) -> Option<Digest> {
    entry.get("digest").and_then(Value::as_str)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::parse(media_type), Digest::sha256(bytes), bytes.len() as u64)
    }

    fn entry(descriptor: &Descriptor, more: &str) -> String {
        let Descriptor { media_type, digest, size, .. } = descriptor;
        format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}"{more}}}"#)
    }

    const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

    #[test]
    fn entries_change_and_all_else_stays_in_its_order() {
        let (config, layer) = (described(CONFIG, b"c"), described(LAYER, b"l"));
        let document = |media_type: &str, config: &str, layer: &str| {
            format!(r#"{{"odd":1,"mediaType":"{media_type}","config":{config},"layers":[{layer}],"schemaVersion":2}}"#)
        };
        let whole = document(MANIFEST, &entry(&config, ""), &entry(&layer, r#","urls":["x"],"odd":true"#));
        let old = described(MANIFEST, whole.as_bytes());
        let nothing = Conversion::default();
        assert_eq!(nothing.apply(&old, whole.as_bytes()).unwrap(), None);

        let to_oci = Conversion { to_oci: true, ..Conversion::default() };
        let (new, bytes) = to_oci.apply(&old, whole.as_bytes()).unwrap().unwrap();
        assert_eq!(new.media_type, MediaType::OciManifest);
        assert_eq!((&new.digest, new.size), (&Digest::sha256(&bytes), bytes.len() as u64));
        let like = |media_type: MediaType, old: &Descriptor| Descriptor { media_type, ..old.clone() };
        let expected = document(
            "application/vnd.oci.image.manifest.v1+json",
            &entry(&like(MediaType::OciConfig, &config), ""),
            &entry(&like(layer.media_type.to_oci(), &layer), r#","urls":["x"],"odd":true"#),
        );
        assert_eq!(bytes, expected);

        let plain = described("application/vnd.docker.image.rootfs.diff.tar", b"longer");
        let replaced = HashMap::from([(layer.digest.clone(), plain.clone())]);
        let (new, bytes) =
            Conversion { replaced, ..Conversion::default() }.apply(&old, whole.as_bytes()).unwrap().unwrap();
        assert_eq!(new.media_type, MediaType::DockerManifest);
        assert_eq!(bytes, document(MANIFEST, &entry(&config, ""), &entry(&plain, r#","odd":true"#)));
    }

    #[test]
    fn an_index_loses_what_is_gone_and_attestations_follow_their_image() {
        let image = described("application/vnd.oci.image.manifest.v1+json", b"image");
        let other = described("application/vnd.oci.image.manifest.v1+json", b"other");
        let new = described("application/vnd.oci.image.manifest.v1+json", b"converted");
        let attestation = described("application/vnd.oci.image.manifest.v1+json", b"attestation");
        let of =
            |image: &Descriptor| entry(&attestation, &format!(r#","annotations":{{"{ATTESTED}":"{}"}}"#, image.digest));
        let index = |entries: &[String]| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let whole = index(&[entry(&image, ""), entry(&other, ""), of(&image)]);
        let conversion = Conversion {
            replaced: HashMap::from([(image.digest.clone(), new.clone())]),
            gone: HashSet::from([other.digest]),
            to_oci: false,
        };
        let root = described("application/vnd.oci.image.index.v1+json", whole.as_bytes());
        let (_, bytes) = conversion.apply(&root, whole.as_bytes()).unwrap().unwrap();
        assert_eq!(bytes, index(&[entry(&new, ""), of(&new)]));
    }
}
