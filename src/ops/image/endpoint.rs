//! Where images come from and go to, as scripts write it: `registry:REF`, `containerd:REF`, `oci:DIR[:TAG]`,
//! `archive:FILE[:REF]`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{full_name, get};
use crate::containerd::store::ContainerdStore;
use crate::kind::BoxFailure;
use crate::layout::{ArchiveReader, LayoutFolder, ReadOptions, Selector};
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Reference};
use crate::ops::{Context, Error, Result};
use crate::registry::{self, RegistryStore};

/// A place that holds an image, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A repository of a registry.
    Registry(Reference),
    /// The namespace in which the call acts, under a full name.
    Containerd(String),
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
            Some(("containerd", rest)) => Self::Containerd(full_name(rest)?),
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

    /// Returns whether what it holds may lack some of an index's images, as a registry's may not.
    pub(super) fn may_be_partial(&self) -> bool {
        !matches!(self, Self::Registry(_))
    }

    /// Opens it to be read from, and finds what it points to.
    ///
    /// # Errors
    /// That there is no such image, or that it cannot be read.
    pub(super) async fn source(
        &self,
        ctx: &Context,
        registry: &registry::Options,
    ) -> Result<(Box<dyn ImageSource>, Descriptor)> {
        let source: Box<dyn ImageSource> = match self {
            Self::Registry(reference) => {
                Box::new(RegistryStore::source(ctx.registry(), reference, ctx.grant(), registry))
            }
            Self::Containerd(name) => {
                let image = get(ctx, name).await?;
                return Ok((Box::new(ContainerdStore::new(ctx.client().await?, &image.name)), image.target));
            }
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
            Self::Containerd(name) => write!(f, "containerd:{name}"),
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
        for bad in ["oci:", "archive::x", "registry:", "containerd:A B", ""] {
            assert!(Endpoint::parse(bad, here).is_err(), "{bad}");
        }
    }
}
