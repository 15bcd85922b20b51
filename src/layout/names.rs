//! How layouts name their images (image-spec annotations.md; containerd core/images/annotations.go).

use std::collections::BTreeMap;

use super::error::{Error, Result};
use crate::oci::{Descriptor, Digest, Index, Reference};

/// The annotation with an image's full name, which containerd and Docker write and read.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// The annotation with an image's tag, or with a full name, as the OCI has it.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image that a layout or archive lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// Its full name, as it stands there.
    pub name: Option<String>,
    /// Its bare tag, when that is all the name it has.
    pub tag: Option<String>,
    /// Its manifest or index, without the annotations that name it.
    pub target: Descriptor,
}

impl ListedImage {
    /// Reads an entry of an `index.json`.
    pub(crate) fn read(mut target: Descriptor) -> Self {
        let full = target.annotations.remove(IMAGE_NAME).filter(|name| !name.is_empty());
        let short = target.annotations.remove(REF_NAME).filter(|name| !name.is_empty());
        // What has none of these is a tag (containerd core/images/archive/reference.go).
        let (name, tag) = match (full, short) {
            (Some(full), _) => (Some(full), None),
            (None, Some(short)) if short.contains(['/', ':', '@']) => (Some(short), None),
            (None, short) => (None, short),
        };
        Self { name, tag, target }
    }

    /// Returns the full name, made of a repository and the tag or digest where the layout gives none.
    #[must_use]
    pub fn name_in(&self, base: &Reference) -> String {
        match (&self.name, &self.tag) {
            (Some(name), _) => name.clone(),
            (None, Some(tag)) => format!("{}:{tag}", base.locator()),
            (None, None) => format!("{}@{}", base.locator(), self.target.digest),
        }
    }

    /// Returns whether its tag says that it is about another image: a list of what refers to that one, or a signature.
    #[must_use]
    pub fn is_companion(&self) -> bool {
        let hex = self.tag.as_deref().and_then(|tag| tag.strip_prefix("sha256-"));
        let (hex, end) = hex.map_or(("", ""), |rest| rest.split_at(rest.find('.').unwrap_or(rest.len())));
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) && end != "."
    }

    /// Returns what lists call it: its name, its tag or its digest.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.as_deref().or(self.tag.as_deref()).unwrap_or_else(|| self.target.digest.as_str())
    }
}

/// Which image of a layout is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selector {
    /// The only one.
    #[default]
    Only,
    /// The one with this name or tag.
    Name(String),
    /// The one with this digest.
    Digest(Digest),
}

impl Selector {
    /// Returns whether it means an image.
    #[must_use]
    pub fn fits(&self, image: &ListedImage) -> bool {
        match self {
            Self::Only => true,
            Self::Digest(digest) => image.target.digest == *digest,
            Self::Name(wanted) => {
                let full = |text: &str| text.parse::<Reference>().ok();
                self.is_name_of(image)
                    || image.name.as_ref().is_some_and(|name| match (full(name), full(wanted)) {
                        // A bare tag finds an image by the tag of its full name.
                        (Some(name), _) if is_tag(wanted) && name.tag() == Some(wanted) => true,
                        (Some(name), Some(wanted)) => name == wanted,
                        _ => false,
                    })
            }
        }
    }

    /// Returns whether it is the very name of an image, and not only what finds it: a bare tag is no full name.
    pub(crate) fn is_name_of(&self, image: &ListedImage) -> bool {
        let Self::Name(wanted) = self else { return false };
        match (&image.name, &image.tag) {
            (Some(name), _) if is_tag(wanted) => name == wanted,
            (Some(name), _) => {
                let both = (name.parse::<Reference>(), wanted.parse::<Reference>());
                name == wanted || matches!(both, (Ok(name), Ok(wanted)) if name == wanted)
            }
            (None, Some(tag)) => tag == wanted,
            (None, None) => false,
        }
    }

    /// Finds the image that is meant: the one with this very name, else the one that the name finds.
    ///
    /// # Errors
    /// [`Error::NoImage`] when none is, [`Error::Ambiguous`] when several different ones are.
    pub(crate) fn find(&self, path: &str, images: &[ListedImage]) -> Result<ListedImage> {
        let labels = || images.iter().map(|image| image.label().to_owned()).collect();
        // What is about an image is not another one to choose.
        let meant = |image: &&ListedImage| self.fits(image) && !(*self == Self::Only && image.is_companion());
        let very = images.iter().any(|image| self.is_name_of(image));
        let mut fitting = images.iter().filter(meant).filter(|image| !very || self.is_name_of(image));
        let Some(first) = fitting.next() else {
            return Err(Error::NoImage { path: path.to_owned(), wanted: self.to_string(), present: labels() });
        };
        // Two names of one image are no choice to make.
        if fitting.any(|other| other.target.digest != first.target.digest) {
            return Err(Error::Ambiguous { path: path.to_owned(), present: labels() });
        }
        Ok(first.clone())
    }

    /// Returns the annotations that name an image in an index.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        let Self::Name(name) = self else { return BTreeMap::new() };
        if is_tag(name) {
            return BTreeMap::from([(REF_NAME.to_owned(), name.clone())]);
        }
        let short = name.parse::<Reference>().ok().map_or_else(|| name.clone(), |full| full.selector().to_owned());
        BTreeMap::from([(IMAGE_NAME.to_owned(), name.clone()), (REF_NAME.to_owned(), short)])
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Only => f.write_str("at all"),
            Self::Name(name) => f.write_str(&crate::oci::excerpt(name)),
            Self::Digest(digest) => f.write_str(digest.as_str()),
        }
    }
}

/// Returns whether a name is a tag alone.
fn is_tag(name: &str) -> bool {
    !name.contains(['/', ':', '@'])
}

/// Lists the images of an index.
pub(crate) fn list(index: Index) -> Vec<ListedImage> {
    index.manifests.into_iter().map(ListedImage::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn image(annotations: &[(&str, &str)]) -> ListedImage {
        let mut target = Descriptor::new(MediaType::OciManifest, Digest::sha256(b"x"), 1);
        target.annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ListedImage::read(target)
    }

    #[test]
    fn the_full_name_wins_over_the_tag() {
        let named = image(&[(IMAGE_NAME, "docker.io/library/nginx:1"), (REF_NAME, "1"), ("other", "kept")]);
        assert_eq!(named.name.as_deref(), Some("docker.io/library/nginx:1"));
        assert_eq!(named.target.annotations.keys().collect::<Vec<_>>(), ["other"]);
        assert_eq!(image(&[(REF_NAME, "host.example/app:2")]).name.as_deref(), Some("host.example/app:2"));
        let tagged = image(&[(REF_NAME, "v2")]);
        assert_eq!((tagged.name.as_deref(), tagged.tag.as_deref()), (None, Some("v2")));
        assert_eq!(tagged.name_in(&"host.example/app".parse().unwrap()), "host.example/app:v2");
        assert!(image(&[]).name_in(&"host.example/app".parse().unwrap()).starts_with("host.example/app@sha256:"));
    }

    #[test]
    fn selectors_find_by_name_tag_and_digest() {
        let named = image(&[(IMAGE_NAME, "docker.io/library/nginx:1")]);
        for wanted in ["docker.io/library/nginx:1", "nginx:1", "1"] {
            assert!(Selector::Name(wanted.into()).fits(&named), "{wanted}");
        }
        for wanted in ["nginx", "2", "other:1"] {
            assert!(!Selector::Name(wanted.into()).fits(&named), "{wanted}");
        }
        assert!(Selector::Digest(Digest::sha256(b"x")).fits(&named));
        let mut other = image(&[(REF_NAME, "1")]);
        other.target.digest = Digest::sha256(b"y");
        let mut signature = image(&[(REF_NAME, &format!("sha256-{}.sig", "a".repeat(64)))]);
        signature.target.digest = Digest::sha256(b"z");
        assert!(signature.is_companion() && !other.is_companion());
        assert_eq!(Selector::Only.find("x", &[other.clone(), signature]).unwrap(), other);
        let mut elsewhere = image(&[(IMAGE_NAME, "quay.io/a/b:1")]);
        elsewhere.target.digest = Digest::sha256(b"w");
        let named = [named, elsewhere];
        assert!(matches!(Selector::Name("1".into()).find("x.tar", &named), Err(Error::Ambiguous { .. })));
        let [named, _] = named;
        let both = [named, other.clone()];
        assert!(matches!(Selector::Only.find("x.tar", &both), Err(Error::Ambiguous { .. })));
        // What has no other name than the tag is meant by it first.
        assert_eq!(Selector::Name("1".into()).find("x.tar", &both).unwrap(), other);
        let error = Selector::Name("9".into()).find("x.tar", &both).unwrap_err();
        assert_eq!(error.to_string(), "x.tar has no image 9");
    }

    #[test]
    fn names_become_annotations_as_containerd_writes_them() {
        let annotations = Selector::Name("docker.io/library/nginx:1".into()).annotations();
        assert_eq!(annotations[IMAGE_NAME], "docker.io/library/nginx:1");
        assert_eq!(annotations[REF_NAME], "1");
        assert_eq!(Selector::Name("v1".into()).annotations().len(), 1);
    }
}
