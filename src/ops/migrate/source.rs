//! Where the images of a migration come from: single endpoints, and whole places that are listed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Candidate;
use super::options::Options;
use super::run::ends_all;
use crate::containerd::images::Image;
use crate::docker::Address;
use crate::kind::{BoxFailure, Failure, Kind};
use crate::layout::{ArchiveReader, LayoutFolder, ListedImage, ReadOptions, Selector};
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Digest, ImageConfig, Matcher, Reference, config};
use crate::ops::graph::{self, Selection};
use crate::ops::image::{self, At, Endpoint};
use crate::ops::{Context, Error, Level, Result, docker, host};
use crate::registry;

/// How many lists and configs are read at the same time.
const PARALLEL: usize = 8;

/// One entry of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One image, and where it goes when that is said.
    One {
        /// The image.
        endpoint: Endpoint,
        /// Its target.
        target: Option<String>,
    },
    /// All images of a namespace.
    Namespace(At),
    /// All images of a Docker Engine; without an address, of the one that the settings name.
    Docker(Option<Address>),
    /// All tags of all repositories of a registry whose names begin so.
    Repositories {
        /// The registry, `HOST[:PORT]`.
        registry: String,
        /// How the names begin.
        prefix: String,
    },
    /// All tags of one repository.
    Tags(Reference),
    /// All images of an OCI layout.
    Layout(PathBuf),
    /// All images of an archive.
    Archive(PathBuf),
    /// The lines of a file: a source each, and a target behind it if there is a second word.
    File(String),
}

impl Source {
    /// Reads a source: an endpoint of `copy`, or a place: `containerd:`, `containerd:[NAMESPACE@SOCKET]`, `registry:HOST/[PREFIX/]`, `registry:REPOSITORY:*`,
    /// `oci:DIR`, `archive:FILE`, `file:PATH`.
    ///
    /// # Errors
    /// That it has no such form.
    pub fn parse(text: &str, target: Option<String>, working_dir: &Path) -> Result<Self> {
        let place = match text.split_once(':') {
            Some(("containerd", rest)) => match At::split(rest)? {
                (at, "") => Some(Self::Namespace(at)),
                _ => None,
            },
            Some(("docker", rest)) => match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                None if rest.is_empty() => Some(Self::Docker(None)),
                Some((address, "")) => Some(Self::Docker(Some(Address::parse(address).map_err(BoxFailure::from)?))),
                _ => None,
            },
            Some(("file", path)) => Some(Self::File(path.to_owned())),
            Some(("oci", path)) if !path.contains(':') && !path.is_empty() => {
                Some(Self::Layout(working_dir.join(path)))
            }
            Some(("archive", path)) if !path.contains(':') && !path.is_empty() => {
                Some(Self::Archive(working_dir.join(path)))
            }
            _ => None,
        };
        let rest = text.strip_prefix("registry:").unwrap_or(text);
        let place = match (place, rest.strip_suffix('/'), rest.strip_suffix(":*")) {
            (Some(place), ..) => place,
            (None, Some(path), _) => {
                let (registry, prefix) = path.split_once('/').unwrap_or((path, ""));
                // It has to be a name that a reference could begin with.
                format!("{registry}/x").parse::<Reference>().map_err(Error::from)?;
                let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
                Self::Repositories { registry: registry.to_owned(), prefix }
            }
            (None, None, Some(repository)) => Self::Tags(repository.parse().map_err(Error::from)?),
            (None, None, None) => {
                return Ok(Self::One { endpoint: Endpoint::parse(text, working_dir)?, target });
            }
        };
        match target {
            None => Ok(place),
            Some(target) => Err(Error::Argument {
                name: format!("the source {text}"),
                problem: format!("may hold many images, and they cannot all go to {target}"),
                cure: Some("say where they go with 'to' and 'rename'".into()),
            }),
        }
    }

    /// Lists its images.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub async fn list(&self, ctx: &Context, options: &registry::Options) -> Result<Vec<Candidate>> {
        match self {
            Self::One { endpoint, target } => {
                let mut one = candidate(endpoint.clone())?;
                if let Endpoint::Docker { engine, name } = endpoint {
                    let image = docker::image(ctx, engine.as_ref(), name).await?;
                    one = Candidate {
                        created: image.created,
                        content: Some(image.id.to_string()),
                        size: Some(image.size),
                        ..one
                    };
                }
                one.target.clone_from(target);
                Ok(vec![one])
            }
            Self::Namespace(at) => namespace(ctx, at).await,
            Self::Docker(address) => engine(ctx, address.as_ref()).await,
            Self::Repositories { registry, prefix } => {
                let catalog = ctx.registry().registry(registry, ctx.grant(), options);
                let mut repositories = catalog.repositories().await.map_err(BoxFailure::from)?;
                repositories.retain(|name| name.starts_with(prefix.as_str()));
                let lists = stream::iter(repositories).map(|name| async move {
                    let Ok(repository) = format!("{registry}/{name}").parse() else { return Ok(Vec::new()) };
                    match tags(ctx, &repository, options).await {
                        // A repository whose tags were all deleted stays in the catalog.
                        Err(error) if error.kind() == Kind::NotFound => Ok(Vec::new()),
                        other => other,
                    }
                });
                let lists: Vec<Vec<Candidate>> = lists.buffered(PARALLEL).try_collect().await?;
                Ok(lists.into_iter().flatten().collect())
            }
            Self::Tags(repository) => tags(ctx, repository, options).await,
            Self::Layout(path) => {
                ctx.check_path("reading it", path)?;
                let images = LayoutFolder::new(path, Selector::Only).images().await.map_err(BoxFailure::from)?;
                let endpoint = |selector| Endpoint::Layout { path: path.clone(), selector };
                Ok(listed(ctx, path, images, endpoint))
            }
            Self::Archive(path) => {
                ctx.check_path("reading it", path)?;
                let options = ReadOptions::new(&ctx.settings().temp_dir);
                let archive = ArchiveReader::open(path, &options).await.map_err(BoxFailure::from)?;
                let endpoint = |selector| Endpoint::Archive { path: path.clone(), selector };
                let listed = listed(ctx, path, archive.images().to_vec(), endpoint);
                // For one image alone it would be held open from here to the end, and a list may have many such archives.
                let archive = (listed.len() > 1).then_some(archive);
                Ok(listed.into_iter().map(|one| Candidate { archive: archive.clone(), ..one }).collect())
            }
            Self::File(path) => {
                let text = host::read(ctx, path).await?;
                let mut all = Vec::new();
                for (number, line) in text.lines().enumerate() {
                    let mut words = line.split_whitespace();
                    let Some(source) = words.next().filter(|word| !word.starts_with('#')) else { continue };
                    let at = |error: Error| Error::argument(format!("{path}, line {}", number + 1), error.to_string());
                    let target = words.next().map(str::to_owned);
                    if let Some(more) = words.next() {
                        return Err(at(Error::argument(more, "is a third word; a line is SOURCE [TARGET]")));
                    }
                    let source = Self::parse(source, target, &ctx.settings().working_dir).map_err(at)?;
                    if matches!(source, Self::File(_)) {
                        return Err(at(Error::argument(source_text(line), "names another file")));
                    }
                    all.extend(Box::pin(source.list(ctx, options)).await?);
                }
                Ok(all)
            }
        }
    }
}

fn source_text(line: &str) -> String {
    crate::oci::excerpt(line.trim())
}

async fn namespace(ctx: &Context, at: &At) -> Result<Vec<Candidate>> {
    let mut named = Vec::new();
    for image in image::list(&at.context(ctx), &[]).await? {
        // The records that the kubelet knows an image by point to what another name points to.
        if image.name.starts_with("sha256:") {
            continue;
        }
        match image.name.parse::<Reference>() {
            Ok(name) => named.push((name, image)),
            Err(_) => {
                let text = format!("image {} has no name that another place could take, and is left out", image.name);
                ctx.note(Level::Warn, &text);
            }
        }
    }
    let tagged = tagged(&named);
    let candidates = named.into_iter().map(|(name, image)| {
        let beside = match name.tag() {
            Some(_) => None,
            None => tagged.get(&(name.locator(), image.target.digest)),
        };
        let source = Endpoint::Containerd { at: at.clone(), name: image.name };
        Candidate { beside: beside.cloned().unwrap_or_default(), ..Candidate::new(source, name) }
    });
    Ok(candidates.collect())
}

/// Returns the tags by repository and what they point to: beside a tag the kubelet's side of containerd keeps a name by the
/// digest.
fn tagged(named: &[(Reference, Image)]) -> HashMap<(String, Digest), Vec<Reference>> {
    let mut tagged: HashMap<_, Vec<Reference>> = HashMap::new();
    for (name, image) in named.iter().filter(|(name, _)| name.tag().is_some()) {
        tagged.entry((name.locator(), image.target.digest.clone())).or_default().push(name.clone());
    }
    tagged
}

async fn engine(ctx: &Context, address: Option<&Address>) -> Result<Vec<Candidate>> {
    let mut all = Vec::new();
    for image in docker::images(ctx, address).await? {
        if image.names.is_empty() {
            let text = format!("image {} of the Docker Engine has no tag, and is left out", image.id.short());
            ctx.note(Level::Info, &text);
        }
        for name in &image.names {
            let Ok(reference) = name.parse::<Reference>() else { continue };
            let source = Endpoint::Docker { engine: address.cloned(), name: name.clone() };
            all.push(Candidate {
                created: image.created,
                content: Some(image.id.to_string()),
                size: Some(image.size),
                ..Candidate::new(source, reference)
            });
        }
    }
    Ok(all)
}

async fn tags(ctx: &Context, repository: &Reference, options: &registry::Options) -> Result<Vec<Candidate>> {
    let client = ctx.registry().repository(repository.registry(), repository.repository(), ctx.grant(), options);
    // A mirror may list only what was asked of it before.
    let mut tags = client.itself().tags().await.map_err(BoxFailure::from)?;
    tags.sort();
    let mut all = Vec::new();
    for tag in tags {
        let Ok(name) = format!("{}:{tag}", repository.locator()).parse::<Reference>() else { continue };
        let source = Endpoint::Registry(name.clone());
        all.push(Candidate::new(source, name));
    }
    Ok(all)
}

/// Names the images of a file: by the name they have there, else by the file's name and their tag.
fn listed(
    ctx: &Context,
    path: &Path,
    images: Vec<ListedImage>,
    endpoint: impl Fn(Selector) -> Endpoint,
) -> Vec<Candidate> {
    let mut all = Vec::new();
    for image in images {
        let selector = match image.name.clone().or_else(|| image.tag.clone()) {
            Some(name) => Selector::Name(name),
            None => Selector::Digest(image.target.digest.clone()),
        };
        match name_of(path, &selector) {
            Some(name) => all.push(Candidate::new(endpoint(selector), name)),
            None => {
                let text = format!("image {} of {} has no usable name, and is left out", image.label(), path.display());
                ctx.note(Level::Warn, &text);
            }
        }
    }
    all
}

fn name_of(path: &Path, selector: &Selector) -> Option<Reference> {
    let stem = path.file_stem()?.to_str()?.to_lowercase();
    match selector {
        Selector::Name(name) if name.contains(['/', ':']) => name.parse().ok(),
        Selector::Name(tag) => format!("{stem}:{tag}").parse().ok(),
        Selector::Digest(digest) => format!("{stem}@{digest}").parse().ok(),
        Selector::Only => stem.parse().ok(),
    }
}

/// Makes the candidate of one endpoint.
fn candidate(source: Endpoint) -> Result<Candidate> {
    let name = match &source {
        Endpoint::Registry(name) => Some(name.clone()),
        Endpoint::Containerd { name, .. } | Endpoint::Docker { name, .. } => name.parse().ok(),
        Endpoint::Layout { path, selector } | Endpoint::Archive { path, selector } => name_of(path, selector),
    };
    let Some(name) = name else {
        return Err(Error::argument(source.to_string(), "has no name that another place could take"));
    };
    Ok(Candidate::new(source, name))
}

/// Finds out when images were made, from their configs. Those that cannot be read are returned apart, with the reason, when
/// the others are to go on without them.
///
/// # Errors
/// When one cannot be read, also when that was tried again as often as an image is.
pub(super) async fn read_times(
    ctx: &Context,
    candidates: Vec<Candidate>,
    options: &Options,
) -> Result<(Vec<Candidate>, Vec<Candidate>)> {
    let read = stream::iter(candidates).map(|candidate| async move {
        let made = match candidate.created {
            Some(made) => Ok(Some(made)),
            None => read_time(ctx, &candidate, options).await,
        };
        (candidate, made)
    });
    let mut read = std::pin::pin!(read.buffered(PARALLEL));
    let (mut known, mut unreadable) = (Vec::new(), Vec::new());
    while let Some((candidate, made)) = read.next().await {
        match made {
            Ok(created) => known.push(Candidate { created, ..candidate }),
            Err(error) if options.keep_going && !ends_all(&error) => {
                unreadable.push(Candidate { unread: Some(error), ..candidate });
            }
            Err(error) => return Err(error),
        }
    }
    Ok((known, unreadable))
}

async fn read_time(ctx: &Context, candidate: &Candidate, options: &Options) -> Result<Option<DateTime<Utc>>> {
    let mut tries = 1;
    loop {
        let read = async {
            let (source, root) = match candidate.opened() {
                Some(opened) => opened,
                None => candidate.source.source(ctx, &options.copy.registry).await?,
            };
            created(&*source, &root).await
        };
        match read.await {
            Err(error) if error.retryable() && tries <= options.retries => {
                tokio::time::sleep(options.pause(tries, &error)).await;
                tries += 1;
            }
            read => return read,
        }
    }
}

/// Reads when an image was made: this host's platform of it, else any.
async fn created(source: &dyn ImageSource, root: &Descriptor) -> Result<Option<DateTime<Utc>>> {
    let host = graph::walk(source, None, root, &Selection::Matching(Matcher::host())).await;
    let graph = match host {
        Ok(graph) => graph,
        Err(_) => graph::walk(source, None, root, &Selection::Present).await?,
    };
    let manifest = graph.documents.iter().filter(|d| !d.descriptor.is_attestation()).find_map(|d| d.manifest());
    let Some(manifest) = manifest.filter(|m| m.config.size <= config::MAX_SIZE) else { return Ok(None) };
    let mut bytes = Vec::new();
    let mut stream = source.open(&manifest.config, 0).await?.stream;
    while let Some(part) = stream.try_next().await? {
        bytes.extend_from_slice(&part);
        if bytes.len() as u64 > config::MAX_SIZE {
            return Ok(None);
        }
    }
    let made = serde_json::from_slice::<ImageConfig>(&bytes).ok().and_then(|config| config.created);
    Ok(made.and_then(|text| DateTime::parse_from_rfc3339(&text).ok()).map(|time| time.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_one_image_or_a_place() {
        let here = Path::new("/work");
        let parse = |text: &str| Source::parse(text, None, here);
        assert!(matches!(parse("nginx:1").unwrap(), Source::One { endpoint: Endpoint::Registry(_), .. }));
        assert!(matches!(parse("oci:a:b").unwrap(), Source::One { endpoint: Endpoint::Layout { .. }, .. }));
        assert_eq!(parse("containerd:").unwrap(), Source::Namespace(At::default()));
        assert!(matches!(parse("containerd:[k8s.io]").unwrap(), Source::Namespace(at) if at != At::default()));
        assert!(matches!(parse("containerd:[k8s.io]a").unwrap(), Source::One { .. }));
        assert_eq!(parse("docker:").unwrap(), Source::Docker(None));
        assert!(matches!(parse("docker:[/run/d.sock]").unwrap(), Source::Docker(Some(_))));
        assert!(matches!(parse("docker:a:1").unwrap(), Source::One { endpoint: Endpoint::Docker { .. }, .. }));
        assert_eq!(parse("oci:a").unwrap(), Source::Layout("/work/a".into()));
        assert_eq!(parse("archive:/a.tar").unwrap(), Source::Archive("/a.tar".into()));
        assert_eq!(parse("file:l.txt").unwrap(), Source::File("l.txt".into()));
        let all =
            |registry: &str, prefix: &str| Source::Repositories { registry: registry.into(), prefix: prefix.into() };
        assert_eq!(parse("registry:localhost:5000/").unwrap(), all("localhost:5000", ""));
        assert_eq!(parse("harbor.example/shop/").unwrap(), all("harbor.example", "shop/"));
        assert_eq!(parse("localhost:5000/a/b:*").unwrap(), Source::Tags("localhost:5000/a/b".parse().unwrap()));
        assert!(parse("registry:A B/").is_err());
        assert!(Source::parse("containerd:", Some("x".into()), here).is_err());
    }
}
