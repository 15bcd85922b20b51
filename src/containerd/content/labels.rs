//! The labels that containerd's own client leaves on content, and that its collector and its pushes read.

use std::collections::HashMap;

use super::Content;
use crate::containerd::{Labels, Result};
use crate::oci::store::Origin;
use crate::oci::{Descriptor, Digest, Parsed};

/// Begins the labels that say which repositories of a registry have a blob.
const SOURCE: &str = "containerd.io/distribution.source.";
/// The longest key and value together (containerd pkg/labels/validate.go).
const MAX: usize = 4096;

/// Returns the labels that keep what a manifest or index points to from being collected: one a child, on all children,
/// also those of platforms that were not pulled (containerd core/images/mediatypes.go, `ChildGCLabels`).
#[must_use]
pub fn gc_labels(parsed: &Parsed) -> Labels {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut labels = Labels::new();
    for child in parsed.children() {
        let key = gc_key(&child);
        let index = counts.entry(key).or_default();
        let label = if *index > 0 || key.ends_with('.') { format!("{key}{index}") } else { key.to_owned() };
        *index += 1;
        labels.insert(label, child.digest.to_string());
    }
    labels
}

fn gc_key(child: &Descriptor) -> &'static str {
    let media_type = &child.media_type;
    if media_type.is_config() {
        "containerd.io/gc.ref.content.config"
    } else if media_type.is_manifest() {
        "containerd.io/gc.ref.content.m."
    } else if media_type.is_layer() || media_type.as_str().starts_with("application/vnd.oci.image.layer.") {
        "containerd.io/gc.ref.content.l."
    } else {
        "containerd.io/gc.ref.content."
    }
}

/// Returns the label that notes a repository as having a blob, added to those that `existing` labels name already.
/// Nothing when it would not fit (containerd core/remotes/docker/handler.go).
#[must_use]
pub fn source_labels(origin: &Origin, existing: &Labels) -> Labels {
    let key = source_key(&origin.registry);
    let before = existing.get(&key).map_or("", String::as_str);
    let value = merge(before, &origin.repository);
    if key.len() + value.len() > MAX {
        return Labels::new();
    }
    Labels::from([(key, value)])
}

/// Returns the repositories of a registry that a blob's labels name.
#[must_use]
pub fn sources(registry: &str, labels: &Labels) -> Vec<String> {
    let list = labels.get(&source_key(registry)).map_or("", String::as_str);
    list.split(',').filter(|repository| !repository.is_empty()).map(str::to_owned).collect()
}

/// The host stands without its port, and an IPv6 address without its brackets, as Go's `URL.Hostname` gives it.
fn source_key(registry: &str) -> String {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    format!("{SOURCE}{host}")
}

fn merge(before: &str, more: &str) -> String {
    let mut all: Vec<&str> = before.split(',').chain(more.split(',')).filter(|part| !part.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

/// Works out which of the labels a blob lacks.
fn missing(wanted: &Labels, existing: &Labels) -> Labels {
    let mut missing = Labels::new();
    for (key, value) in wanted {
        let before = existing.get(key);
        let value = match before {
            Some(before) if key.starts_with(SOURCE) => merge(before, value),
            _ => value.clone(),
        };
        if before != Some(&value) && key.len() + value.len() <= MAX {
            missing.insert(key.clone(), value);
        }
    }
    missing
}

impl Content {
    /// Gives a blob the labels that it lacks; lists of source repositories are joined.
    ///
    /// # Errors
    /// [`Error::is_not_found`](crate::containerd::Error::is_not_found) when there is no such blob.
    pub async fn ensure_labels(&self, digest: &Digest, labels: &Labels) -> Result<()> {
        if labels.is_empty() {
            return Ok(());
        }
        let info = self.info(digest).await?;
        let missing = missing(labels, &info.labels);
        if !missing.is_empty() {
            self.set_labels(digest, &missing).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Index, Manifest, MediaType};

    fn descriptor(media_type: &str, content: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::parse(media_type), Digest::sha256(content), content.len() as u64)
    }

    #[test]
    fn every_child_gets_a_label_counted_by_its_sort() {
        let layer = |n: u8| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &[n]);
        let manifest = Parsed::Manifest(Manifest {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            config: descriptor("application/vnd.oci.image.config.v1+json", b"c"),
            layers: vec![layer(0), descriptor("application/vnd.in-toto+json", b"a"), layer(1)],
            subject: None,
            annotations: Labels::new(),
        });
        let labels = gc_labels(&manifest);
        let keys: Vec<_> = labels.keys().map(|k| k.trim_start_matches("containerd.io/gc.ref.content.")).collect();
        assert_eq!(keys, ["0", "config", "l.0", "l.1"]);
        assert_eq!(labels["containerd.io/gc.ref.content.l.1"], Digest::sha256(&[1]).to_string());

        let index = Parsed::Index(Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests: vec![
                descriptor("application/vnd.oci.image.manifest.v1+json", b"1"),
                descriptor("application/vnd.docker.distribution.manifest.v2+json", b"2"),
                descriptor("application/vnd.oci.image.index.v1+json", b"3"),
            ],
            subject: None,
            annotations: Labels::new(),
        });
        let labels = gc_labels(&index);
        let keys: Vec<_> = labels.keys().map(|k| k.trim_start_matches("containerd.io/gc.ref.content.")).collect();
        assert_eq!(keys, ["0", "m.0", "m.1"]);
    }

    #[test]
    fn sources_are_a_sorted_list_under_the_host_without_its_port() {
        let origin = |registry: &str, repository: &str| Origin {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
        };
        let first = source_labels(&origin("localhost:5000", "team/b"), &Labels::new());
        assert_eq!(first, Labels::from([("containerd.io/distribution.source.localhost".into(), "team/b".into())]));
        let second = source_labels(&origin("localhost:6000", "team/a"), &first);
        assert_eq!(second["containerd.io/distribution.source.localhost"], "team/a,team/b");
        assert_eq!(source_labels(&origin("localhost", "team/a"), &second), second);
        assert_eq!(sources("localhost:1", &second), ["team/a", "team/b"]);
        assert_eq!(
            source_labels(&origin("[::1]:5000", "x"), &Labels::new()).keys().next().unwrap(),
            "containerd.io/distribution.source.::1"
        );
        assert!(source_labels(&origin("h", &"x".repeat(MAX)), &Labels::new()).is_empty());
    }

    #[test]
    fn only_what_is_missing_is_set() {
        let wanted = Labels::from([
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
            ("containerd.io/distribution.source.h".to_owned(), "y".to_owned()),
        ]);
        let existing = Labels::from([
            ("a".to_owned(), "1".to_owned()),
            ("z".to_owned(), "9".to_owned()),
            ("containerd.io/distribution.source.h".to_owned(), "x".to_owned()),
        ]);
        let missing = missing(&wanted, &existing);
        assert_eq!(missing.len(), 2);
        assert_eq!(missing["b"], "2");
        assert_eq!(missing["containerd.io/distribution.source.h"], "x,y");
    }
}
