//! What goes along with an image: the artifacts that refer to it (distribution-spec, section Listing Referrers) and the
//! tags that name its digest, as cosign's `sha256-….sig`, `.att` and `.sbom` do.
//!
//! A registry lists referrers itself or by the tag `sha256-…` that stands in for its list. A layout folder has that tag
//! too, and so holds what a registry does. Namespaces and archives have no such list.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

use super::copy::CopyOptions;
use super::endpoint::Endpoint;
use crate::kind::BoxFailure;
use crate::layout::{LayoutFolder, Selector};
use crate::oci::manifest::MAX_CHILDREN;
use crate::oci::store::{ImageSink, ImageSource};
use crate::oci::{Descriptor, Digest, Error as OciError, Index, Matcher, MediaType, Parsed, Reference};
use crate::ops::graph::{self, Document, Graph, Selection};
use crate::ops::registry as ops_registry;
use crate::ops::{Context, Error, Result};
use crate::registry::{self, Repository};

/// One image that goes along.
pub(super) struct Companion {
    /// What will point to it.
    pub(super) target: Endpoint,
    /// What it is.
    pub(super) root: Descriptor,
    /// What to move; none when it is there.
    pub(super) graph: Option<Graph>,
    /// Whether it is a list, which others may add to at the same time.
    pub(super) is_list: bool,
}

/// Makes sure that both sides can hold what goes along.
///
/// # Errors
/// [`Error::Argument`] when one cannot.
pub(super) fn check(source: &Endpoint, target: &Endpoint) -> Result<()> {
    for (way, endpoint) in [("from", source), ("to", target)] {
        if !matches!(endpoint, Endpoint::Registry(_) | Endpoint::Layout { .. }) {
            return Err(Error::Argument {
                name: "referrers and digest_tags".into(),
                problem: format!("do not go {way} {endpoint}, which has no list of them"),
                cure: Some("copy them between registries and OCI layouts".into()),
            });
        }
    }
    Ok(())
}

/// Finds all that goes along with the documents of an image, and what of it the target lacks.
///
/// # Errors
/// What reading it failed with.
pub(super) async fn find(
    ctx: &Context,
    (source, store): (&Endpoint, &dyn ImageSource),
    target: &Endpoint,
    image: &Graph,
    options: &CopyOptions,
) -> Result<Vec<Companion>> {
    let search = Search { ctx, source, store, target, registry: &options.registry };
    let mut subjects: VecDeque<Digest> = digests(image).collect();
    let mut known: HashSet<Digest> = subjects.iter().cloned().collect();
    let mut companions = Vec::new();
    let mut all: Vec<Digest> = Vec::new();
    while let Some(subject) = subjects.pop_front() {
        if options.referrers {
            let listed = search.referrers(source, &subject).await?;
            let mut graphs = Vec::new();
            for descriptor in &listed {
                let graph = search.graph(descriptor).await?;
                // What refers to a referrer goes along as well: the signature of an SBOM.
                subjects.extend(digests(&graph).filter(|digest| known.insert(digest.clone())));
                graphs.push((descriptor.clone(), graph));
            }
            if known.len() > MAX_CHILDREN {
                let reason = format!("more than {MAX_CHILDREN} manifests refer to it");
                return Err(OciError::Document { what: "image", digest: subject.to_string(), reason }.into());
            }
            companions.extend(search.listed(&subject, graphs).await?);
        }
        all.push(subject);
    }
    if options.digest_tags {
        companions.extend(search.tagged(&all).await?);
    }
    Ok(companions)
}

fn digests(graph: &Graph) -> impl Iterator<Item = Digest> + '_ {
    graph.documents.iter().map(|document| document.descriptor.digest.clone())
}

struct Search<'a> {
    ctx: &'a Context,
    source: &'a Endpoint,
    store: &'a dyn ImageSource,
    target: &'a Endpoint,
    registry: &'a registry::Options,
}

impl Search<'_> {
    fn repository(&self, reference: &Reference) -> Repository {
        let client = self.ctx.registry();
        client.repository(reference.registry(), reference.repository(), self.ctx.grant(), self.registry)
    }

    async fn graph(&self, root: &Descriptor) -> Result<Graph> {
        graph::walk(self.store, None, root, &Selection::Matching(Matcher::All)).await
    }

    /// Lists what refers to a manifest.
    async fn referrers(&self, endpoint: &Endpoint, subject: &Digest) -> Result<Vec<Descriptor>> {
        match endpoint {
            Endpoint::Registry(reference) => {
                Ok(self.repository(reference).referrers(subject, None).await.map_err(BoxFailure::from)?)
            }
            Endpoint::Layout { path, .. } => {
                let list = LayoutFolder::new(path, Selector::Name(subject.referrers_tag()));
                let Some(descriptor) = list.current().await? else { return Ok(Vec::new()) };
                match Parsed::read(&descriptor, &list.manifest(&descriptor).await?)? {
                    Parsed::Index(index) => Ok(index.manifests),
                    Parsed::Manifest(_) => Ok(Vec::new()),
                }
            }
            Endpoint::Containerd { .. } | Endpoint::Docker { .. } | Endpoint::Archive { .. } => Ok(Vec::new()),
        }
    }

    /// Says how what refers to a manifest is stored: each for itself in a registry, which lists it by its subject; all of
    /// it under the tag that stands in for the list in a layout.
    async fn listed(&self, subject: &Digest, referrers: Vec<(Descriptor, Graph)>) -> Result<Vec<Companion>> {
        match self.target {
            Endpoint::Registry(reference) => {
                let mut companions = Vec::new();
                for (descriptor, graph) in referrers {
                    let own = format!("{}@{}", reference.locator(), descriptor.digest);
                    let target = Endpoint::Registry(own.parse().map_err(Error::from)?);
                    companions.push(self.companion(target, descriptor, graph).await?);
                }
                Ok(companions)
            }
            Endpoint::Layout { path, .. } if !referrers.is_empty() => {
                let mut entries = self.referrers(self.target, subject).await?;
                let mut whole = Graph::default();
                for (descriptor, graph) in referrers {
                    if !entries.iter().any(|entry| entry.digest == descriptor.digest) {
                        entries.push(descriptor);
                    }
                    whole.precede(graph);
                }
                let list = list(entries)?;
                let root = list.descriptor.clone();
                whole.documents.push(list);
                let target = Endpoint::Layout { path: path.clone(), selector: Selector::Name(subject.referrers_tag()) };
                Ok(vec![Companion { is_list: true, ..self.companion(target, root, whole).await? }])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Finds the tags that name one of the digests and say what they have of it.
    async fn tagged(&self, subjects: &[Digest]) -> Result<Vec<Companion>> {
        let names = match self.source {
            Endpoint::Registry(reference) => self.repository(reference).tags().await.map_err(BoxFailure::from)?,
            Endpoint::Layout { path, .. } => {
                let images = LayoutFolder::new(path, Selector::Only).images().await.map_err(BoxFailure::from)?;
                images.into_iter().filter_map(|image| image.tag).collect()
            }
            Endpoint::Containerd { .. } | Endpoint::Docker { .. } | Endpoint::Archive { .. } => Vec::new(),
        };
        let about = |name: &str, subject: &Digest| {
            name.strip_prefix(&subject.referrers_tag()).is_some_and(|rest| rest.starts_with('.'))
        };
        let mut companions = Vec::new();
        for name in names.iter().filter(|name| subjects.iter().any(|subject| about(name, subject))) {
            let (_, root) = renamed(self.source, name)?.source(self.ctx, self.registry).await?;
            let graph = self.graph(&root).await?;
            companions.push(self.companion(renamed(self.target, name)?, root, graph).await?);
        }
        Ok(companions)
    }

    async fn companion(&self, target: Endpoint, root: Descriptor, graph: Graph) -> Result<Companion> {
        let current = match &target {
            Endpoint::Registry(reference) => ops_registry::held(self.ctx, reference, self.registry).await?,
            Endpoint::Layout { path, selector } => LayoutFolder::new(path, selector.clone()).current().await?,
            Endpoint::Containerd { .. } | Endpoint::Docker { .. } | Endpoint::Archive { .. } => None,
        };
        let there = current.is_some_and(|current| current.digest == root.digest);
        Ok(Companion { target, root, graph: (!there).then_some(graph), is_list: false })
    }
}

/// Returns the same repository or layout with another tag.
fn renamed(endpoint: &Endpoint, tag: &str) -> Result<Endpoint> {
    match endpoint {
        Endpoint::Registry(reference) => {
            Ok(Endpoint::Registry(format!("{}:{tag}", reference.locator()).parse().map_err(Error::from)?))
        }
        Endpoint::Layout { path, .. } => {
            Ok(Endpoint::Layout { path: path.clone(), selector: Selector::Name(tag.to_owned()) })
        }
        other => Ok(other.clone()),
    }
}

/// Makes the index that the tag points to which stands in for a list.
fn list(manifests: Vec<Descriptor>) -> Result<Document> {
    // Cannot fail: all keys are strings.
    let bytes = Bytes::from(serde_json::to_vec(&Index::of(manifests)).unwrap_or_default());
    let descriptor = Descriptor::new(MediaType::OciIndex, Digest::sha256(&bytes), bytes.len() as u64);
    Ok(Document { parsed: Parsed::read(&descriptor, &bytes)?, descriptor, bytes })
}
