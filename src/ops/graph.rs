//! An image as a graph: which documents and blobs a copy has to move.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::oci::manifest::MAX_DEPTH;
use crate::oci::narrow::{self, Entry};
use crate::oci::store::{ImageSink, ImageSource};
use crate::oci::{Descriptor, Digest, Error as OciError, Manifest, Matcher, Parsed};
use crate::ops::{Error, Result};

/// The annotation with the digest of the image that an attestation is of (BuildKit, docs/attestations).
const ATTESTED: &str = "vnd.docker.reference.digest";

/// Which images of an index are moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those that the matcher picks; when it picks none, that is an error.
    Matching(Matcher),
    /// Those that the matcher picks, each of its platforms, and with them the attestations that the source has of them.
    Attested(Matcher),
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

    /// Returns the graph with indexes that list only what was selected, and so have other digests; a graph that leaves
    /// nothing out is returned as it is.
    ///
    /// # Errors
    /// [`OciError::Document`] when what is made cannot be read.
    pub fn narrowed(mut self) -> Result<Self> {
        let gone: HashSet<Digest> = self.left_out.drain(..).map(|descriptor| descriptor.digest).collect();
        let mut made: HashMap<Digest, Descriptor> = HashMap::new();
        // Children come before their parents, which then know their new digests.
        for document in &mut self.documents {
            let choose = |digest: &Digest| match made.get(digest) {
                Some(new) => Entry::Replace(new.digest.clone(), new.size),
                None if gone.contains(digest) => Entry::Drop,
                None => Entry::Keep,
            };
            if let Some(bytes) = narrow::narrow(&document.bytes, choose) {
                let new = narrow::described(&document.descriptor, &bytes);
                made.insert(document.descriptor.digest.clone(), new.clone());
                *document = Document { parsed: Parsed::read(&new, &bytes)?, descriptor: new, bytes };
            }
        }
        Ok(self)
    }

    /// Returns the graph without layers: the documents, and the configs that they name.
    #[must_use]
    pub fn metadata(&self) -> Self {
        let is_config = |blob: &&Descriptor| {
            let mut manifests = self.documents.iter().filter_map(Document::manifest);
            manifests.any(|manifest| manifest.config.digest == blob.digest)
        };
        Self { blobs: self.blobs.iter().filter(is_config).cloned().collect(), ..self.clone() }
    }

    /// Takes in what another graph has, before its own documents.
    pub fn precede(&mut self, other: Self) {
        other.blobs.iter().for_each(|blob| self.add_blob(blob));
        let own = std::mem::take(&mut self.documents);
        for document in other.documents.into_iter().chain(own) {
            if !self.has_document(&document.descriptor.digest) {
                self.documents.push(document);
            }
        }
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
        Selection::Attested(matcher) => {
            let mut chosen: Vec<Descriptor> = Vec::new();
            for one in matcher.each() {
                let found = one.select(manifests);
                if found.is_empty() && !manifests.is_empty() {
                    return Err(no_platform(&one, index, manifests));
                }
                chosen.extend(found.into_iter().cloned());
            }
            for child in manifests.iter().filter(|child| child.is_attestation()) {
                let of = child.annotations.get(ATTESTED);
                let wanted = of.is_some_and(|of| chosen.iter().any(|image| image.digest.as_str() == of));
                if wanted && source.holds(child).await? {
                    chosen.push(child.clone());
                }
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

pub(super) fn no_platform(matcher: &Matcher, index: &Descriptor, manifests: &[Descriptor]) -> Error {
    let mut present: Vec<String> = manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| !p.is_unknown())
        .map(ToString::to_string)
        .collect();
    present.dedup();
    OciError::NoPlatform { wanted: matcher.to_string(), digest: index.digest.to_string(), present }.into()
}
