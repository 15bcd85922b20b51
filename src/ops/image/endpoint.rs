//! Where images come from and go to, as scripts write it: `registry:REF`, `containerd:REF`, `oci:DIR[:TAG]`,
//! `archive:FILE[:REF]`; and `containerd:[NAMESPACE@SOCKET]REF` for another namespace or daemon, `docker:IMAGE` or
//! `docker:[SOCKET]IMAGE` for a Docker Engine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{full_name, get, here};
use crate::containerd;
use crate::docker::Address;
use crate::kind::BoxFailure;
use crate::layout::{ArchiveReader, LayoutFolder, ReadOptions, Selector};
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Reference};
use crate::ops::{Context, Daemon, Error, Place, Result, docker};
use crate::registry::{self, RegistryStore};

/// A namespace of a daemon; what it does not say is that of the call.
#[derive(Clone, Default)]
pub struct At {
    daemon: Option<Daemon>,
    namespace: Option<Arc<str>>,
}

impl At {
    /// Names a place, as it is seen from another: what the two have in common is left out.
    #[must_use]
    pub fn seen_from(here: &Place, place: &Place) -> Self {
        let daemon = (place.daemon.endpoint() != here.daemon.endpoint()).then(|| place.daemon.clone());
        let namespace = (daemon.is_some() || place.namespace != here.namespace).then(|| place.namespace.clone());
        Self { daemon, namespace }
    }

    /// Takes the place off the front of what follows `containerd:`, `[NAMESPACE]`, `[@SOCKET]` or `[NAMESPACE@SOCKET]`.
    ///
    /// # Errors
    /// That it is none, and what would be.
    pub fn split(rest: &str) -> Result<(Self, &str)> {
        match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
            None => Ok((Self::default(), rest)),
            Some(Some((at, name))) => Ok((Self::parse(at)?, name)),
            Some(None) => Err(Error::Argument {
                name: format!("containerd:{rest}"),
                problem: "has no ']'".into(),
                cure: Some("write containerd:[NAMESPACE]REF or containerd:[NAMESPACE@SOCKET]REF".into()),
            }),
        }
    }

    /// Reads `NAMESPACE`, `@SOCKET` or `NAMESPACE@SOCKET`.
    fn parse(text: &str) -> Result<Self> {
        let (namespace, address) = text.split_once('@').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let daemon = address.map(containerd::Endpoint::parse).transpose()?;
        let daemon = daemon.map(|endpoint| Daemon::new(endpoint, containerd::ConnectOptions::default()));
        Ok(Self { daemon, namespace: (!namespace.is_empty()).then(|| namespace.into()) })
    }

    /// Returns a context moved there.
    #[must_use]
    pub fn context(&self, ctx: &Context) -> Context {
        let here = ctx.place();
        let daemon = self.daemon.as_ref().map_or_else(|| here.daemon.clone(), |daemon| ctx.neighbour(daemon));
        ctx.at(&Place { daemon, namespace: self.namespace.clone().unwrap_or_else(|| here.namespace.clone()) })
    }

    fn parts(&self) -> (Option<&containerd::Endpoint>, Option<&str>) {
        (self.daemon.as_ref().map(Daemon::endpoint), self.namespace.as_deref())
    }
}

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for At {}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("At").field(&self.parts()).finish()
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (None, None) => Ok(()),
            (None, Some(namespace)) => write!(f, "[{namespace}]"),
            (Some(address), namespace) => write!(f, "[{}@{address}]", namespace.unwrap_or_default()),
        }
    }
}

/// A place that holds an image, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A repository of a registry.
    Registry(Reference),
    /// A namespace of a containerd.
    Containerd {
        /// Which.
        at: At,
        /// The image's name, mostly a full reference.
        name: String,
    },
    /// A Docker Engine, which is only a source.
    Docker {
        /// Where it listens, when not where the settings say.
        engine: Option<Address>,
        /// The image, as `docker image inspect` takes it.
        name: String,
    },
    /// An OCI image layout.
    Layout {
        /// The folder.
        path: PathBuf,
        /// The image in it.
        selector: Selector,
    },
    /// An archive that Docker, ctr or an OCI tool reads and writes.
    Archive {
        /// The file.
        path: PathBuf,
        /// The image in it.
        selector: Selector,
    },
}

impl Endpoint {
    /// Reads an endpoint. Without a scheme it is a registry's reference.
    ///
    /// # Errors
    /// That it has no such form, and what would.
    pub fn parse(text: &str, working_dir: &Path) -> Result<Self> {
        let file = |rest: &str| -> Result<(PathBuf, Selector)> {
            let (path, name) = rest.split_once(':').unwrap_or((rest, ""));
            if path.is_empty() {
                return Err(Error::Argument {
                    name: text.to_owned(),
                    problem: "names no file".into(),
                    cure: Some("write oci:DIR[:TAG] or archive:FILE[:REF]".into()),
                });
            }
            let selector = match (name, name.parse()) {
                ("", _) => Selector::Only,
                (_, Ok(digest)) => Selector::Digest(digest),
                (name, Err(_)) => Selector::Name(name.to_owned()),
            };
            Ok((working_dir.join(path), selector))
        };
        Ok(match text.split_once(':') {
            Some(("registry", rest)) => Self::Registry(rest.parse().map_err(Error::from)?),
            Some(("containerd", rest)) => {
                let (at, name) = At::split(rest)?;
                Self::Containerd { at, name: full_name(name)? }
            }
            Some(("docker", rest)) => {
                let (engine, name) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                    Some((address, name)) => (Some(Address::parse(address).map_err(BoxFailure::from)?), name),
                    None => (None, rest),
                };
                Self::Docker { engine, name: name.to_owned() }
            }
            Some(("oci", rest)) => {
                let (path, selector) = file(rest)?;
                Self::Layout { path, selector }
            }
            Some(("archive", rest)) => {
                let (path, selector) = file(rest)?;
                Self::Archive { path, selector }
            }
            _ => Self::Registry(text.parse().map_err(Error::from)?),
        })
    }

    /// Names an image of the namespace in which the call acts.
    #[must_use]
    pub fn here(name: &str) -> Self {
        Self::Containerd { at: At::default(), name: name.to_owned() }
    }

    /// Returns the image's name there, without what the endpoint is; a layout or archive may have none for it.
    #[must_use]
    pub fn reference(&self) -> Option<String> {
        match self {
            Self::Registry(reference) => Some(reference.to_string()),
            Self::Containerd { name, .. } => Some(name.clone()),
            // What an engine calls an image without a name is its id.
            Self::Docker { name, .. } if name.starts_with("sha256:") => None,
            Self::Docker { name, .. } => full_name(name).ok(),
            Self::Layout { selector, .. } | Self::Archive { selector, .. } => match selector {
                Selector::Name(name) => Some(name.clone()),
                Selector::Only | Selector::Digest(_) => None,
            },
        }
    }

    /// Returns the context of a call moved to where the endpoint is.
    #[must_use]
    pub fn context(&self, ctx: &Context) -> Context {
        match self {
            Self::Containerd { at, .. } => at.context(ctx),
            _ => ctx.clone(),
        }
    }

    /// Returns what messages call the image: what is here by its name, all else by the endpoint.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Containerd { at, name } if *at == At::default() => name.clone(),
            Self::Registry(reference) => reference.to_string(),
            other => other.to_string(),
        }
    }

    /// Returns whether what it holds may lack some of an index's images, as a registry's may not.
    pub(super) fn may_be_partial(&self) -> bool {
        !matches!(self, Self::Registry(_))
    }

    /// Opens it to be read from, and finds what it points to.
    ///
    /// # Errors
    /// That there is no such image, or that it cannot be read.
    pub async fn source(
        &self,
        ctx: &Context,
        registry: &registry::Options,
    ) -> Result<(Box<dyn ImageSource>, Descriptor)> {
        let source: Box<dyn ImageSource> = match self {
            Self::Registry(reference) => {
                Box::new(RegistryStore::source(ctx.registry(), reference, ctx.grant(), registry))
            }
            Self::Containerd { at, name } => {
                let ctx = &at.context(ctx);
                let image = get(ctx, name).await?;
                return Ok((here::source(ctx, &image.name).await?, image.target));
            }
            Self::Docker { engine, name } => return docker::export(ctx, engine.as_ref(), name).await,
            Self::Layout { path, selector } => {
                ctx.check_path("reading it", path)?;
                Box::new(LayoutFolder::new(path, selector.clone()))
            }
            Self::Archive { path, selector } => {
                ctx.check_path("reading it", path)?;
                let options = ReadOptions::new(&ctx.settings().temp_dir);
                let archive = ArchiveReader::open(path, &options).await.map_err(BoxFailure::from)?;
                let image = archive.find(selector).map_err(BoxFailure::from)?;
                Box::new(archive.source_for(&image))
            }
        };
        let root = source.resolve().await?;
        Ok((source, root))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |f: &mut fmt::Formatter<'_>, scheme: &str, path: &Path, selector: &Selector| {
            write!(f, "{scheme}:{}", path.display())?;
            match selector {
                Selector::Only => Ok(()),
                Selector::Name(name) => write!(f, ":{name}"),
                Selector::Digest(digest) => write!(f, ":{digest}"),
            }
        };
        match self {
            Self::Registry(reference) => write!(f, "registry:{reference}"),
            Self::Containerd { at, name } => write!(f, "containerd:{at}{name}"),
            Self::Docker { engine: None, name } => write!(f, "docker:{name}"),
            Self::Docker { engine: Some(address), name } => write!(f, "docker:[{}]{name}", address.path().display()),
            Self::Layout { path, selector } => file(f, "oci", path, selector),
            Self::Archive { path, selector } => file(f, "archive", path, selector),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written() {
        let here = Path::new("/work");
        for (text, shown) in [
            ("registry:nginx", "registry:docker.io/library/nginx:latest"),
            ("nginx:1", "registry:docker.io/library/nginx:1"),
            ("localhost:5000/a/b:1", "registry:localhost:5000/a/b:1"),
            ("containerd:nginx", "containerd:docker.io/library/nginx:latest"),
            ("containerd:[k8s.io]nginx:1", "containerd:[k8s.io]docker.io/library/nginx:1"),
            ("containerd:[@/run/b.sock]nginx:1", "containerd:[@/run/b.sock]docker.io/library/nginx:1"),
            ("containerd:[k8s.io@unix:///run/b.sock]a/b", "containerd:[k8s.io@/run/b.sock]docker.io/a/b:latest"),
            ("containerd:[]nginx:1", "containerd:docker.io/library/nginx:1"),
            ("docker:a/b", "docker:a/b"),
            ("docker:sha256:00ff", "docker:sha256:00ff"),
            ("docker:[unix:///run/b.sock]a:1", "docker:[/run/b.sock]a:1"),
            ("oci:images", "oci:/work/images"),
            ("oci:/srv/images:1.2", "oci:/srv/images:1.2"),
            ("archive:a.tar:docker.io/library/x:1", "archive:/work/a.tar:docker.io/library/x:1"),
        ] {
            assert_eq!(Endpoint::parse(text, here).unwrap().to_string(), shown);
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        let endpoint = Endpoint::parse(&format!("oci:images:{digest}"), here).unwrap();
        assert_eq!(
            endpoint,
            Endpoint::Layout { path: here.join("images"), selector: Selector::Digest(digest.parse().unwrap()) }
        );
        for bad in [
            "oci:",
            "archive::x",
            "registry:",
            "containerd:A B",
            "docker:[tcp://host:2375]a",
            "containerd:[k8s.io",
            "containerd:[@]a",
            "",
        ] {
            assert!(Endpoint::parse(bad, here).is_err(), "{bad}");
        }
    }
}
