//! An image as a graph: which documents and blobs a copy has to move.

use bytes::Bytes;

use crate::oci::manifest::MAX_DEPTH;
use crate::oci::store::{ImageSink, ImageSource};
use crate::oci::{Descriptor, Digest, Error as OciError, Manifest, Matcher, Parsed};
use crate::ops::{Error, Result};

/// Which images of an index are moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those that the matcher picks; when it picks none, that is an error.
    Matching(Matcher),
    /// Those whose content the source has whole.
    Present,
}

/// A manifest or index with its exact bytes.
#[derive(Debug, Clone)]
pub struct Document {
    /// What points to it.
    pub descriptor: Descriptor,
    /// Its bytes, which have the descriptor's digest.
    pub bytes: Bytes,
    /// What it says.
    pub parsed: Parsed,
}

impl Document {
    /// Returns the image's manifest, when this is one.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.parsed {
            Parsed::Manifest(manifest) => Some(manifest),
            Parsed::Index(_) => None,
        }
    }
}

/// What has to be moved, in an order in which children come before their parents.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The blobs, each digest once: configs before layers, in the order of the documents.
    pub blobs: Vec<Descriptor>,
    /// The documents, each digest once, the root last.
    pub documents: Vec<Document>,
    /// Children of indexes that were not selected.
    pub left_out: Vec<Descriptor>,
}

impl Graph {
    /// Returns the root.
    #[must_use]
    pub fn root(&self) -> Option<&Document> {
        self.documents.last()
    }

    /// Adds up the bytes of all blobs and documents.
    #[must_use]
    pub fn size(&self) -> u64 {
        let documents = self.documents.iter().map(|document| document.descriptor.size);
        self.blobs.iter().map(|blob| blob.size).chain(documents).sum()
    }

    fn has_document(&self, digest: &Digest) -> bool {
        self.documents.iter().any(|document| document.descriptor.digest == *digest)
    }

    fn add_blob(&mut self, blob: &Descriptor) {
        if !self.blobs.iter().any(|known| known.digest == blob.digest) {
            self.blobs.push(blob.clone());
        }
    }
}

/// Reads the documents below a root, from the sink where it has them and from the source otherwise.
///
/// # Errors
/// What reading failed with; [`OciError::NoPlatform`] when an index has nothing for the platforms that are wanted;
/// [`OciError::Document`] when indexes nest too deep.
pub async fn walk(
    source: &dyn ImageSource,
    sink: Option<&dyn ImageSink>,
    root: &Descriptor,
    selection: &Selection,
) -> Result<Graph> {
    let mut graph = Graph::default();
    visit(source, sink, root, selection, 0, &mut graph).await?;
    Ok(graph)
}

fn visit<'a>(
    source: &'a dyn ImageSource,
    sink: Option<&'a dyn ImageSink>,
    descriptor: &'a Descriptor,
    selection: &'a Selection,
    depth: usize,
    graph: &'a mut Graph,
) -> futures_util::future::BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        if depth > MAX_DEPTH {
            let reason = format!("indexes nest more than {MAX_DEPTH} deep");
            return Err(OciError::Document { what: "index", digest: descriptor.digest.to_string(), reason }.into());
        }
        if graph.has_document(&descriptor.digest) {
            return Ok(());
        }
        let stored = match sink {
            Some(sink) => sink.stored(descriptor).await?,
            None => None,
        };
        let bytes = match stored {
            Some(bytes) => bytes,
            None => source.manifest(descriptor).await?,
        };
        let parsed = Parsed::read(descriptor, &bytes)?;
        match &parsed {
            Parsed::Manifest(manifest) => {
                graph.add_blob(&manifest.config);
                for layer in &manifest.layers {
                    graph.add_blob(layer);
                }
            }
            Parsed::Index(index) => {
                let chosen = choose(source, descriptor, &index.manifests, selection).await?;
                for child in &index.manifests {
                    if !chosen.iter().any(|c| c.digest == child.digest) {
                        graph.left_out.push(child.clone());
                    } else if child.media_type.is_index() || child.media_type.is_manifest() {
                        visit(source, sink, child, selection, depth + 1, graph).await?;
                    } else {
                        graph.add_blob(child);
                    }
                }
            }
        }
        graph.documents.push(Document { descriptor: descriptor.clone(), bytes, parsed });
        Ok(())
    })
}

async fn choose(
    source: &dyn ImageSource,
    index: &Descriptor,
    manifests: &[Descriptor],
    selection: &Selection,
) -> Result<Vec<Descriptor>> {
    match selection {
        Selection::Matching(matcher) => {
            let chosen: Vec<Descriptor> = matcher.select(manifests).into_iter().cloned().collect();
            if chosen.is_empty() && !manifests.is_empty() {
                return Err(no_platform(matcher, index, manifests));
            }
            Ok(chosen)
        }
        Selection::Present => {
            let mut chosen = Vec::new();
            for child in manifests {
                if source.holds(child).await? {
                    chosen.push(child.clone());
                }
            }
            Ok(chosen)
        }
    }
}

fn no_platform(matcher: &Matcher, index: &Descriptor, manifests: &[Descriptor]) -> Error {
    let mut present: Vec<String> = manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| !p.is_unknown())
        .map(ToString::to_string)
        .collect();
    present.dedup();
    OciError::NoPlatform { wanted: matcher.to_string(), digest: index.digest.to_string(), present }.into()
}
