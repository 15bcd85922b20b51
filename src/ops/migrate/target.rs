//! Where the images of a migration go to, by name.

use std::path::{Path, PathBuf};

use super::Candidate;
use crate::layout::Selector;
use crate::oci::Reference;
use crate::ops::image::{At, Endpoint};
use crate::ops::{Error, Result};

/// Returns the name that an image has below the target when nothing renames it: its repository, with tag or digest.
#[must_use]
pub fn default_name(name: &Reference) -> String {
    match (name.tag(), name.digest()) {
        (Some(tag), _) => format!("{}:{tag}", name.repository()),
        (None, Some(digest)) => format!("{}@{digest}", name.repository()),
        (None, None) => name.repository().to_owned(),
    }
}

/// Fills a template: `{registry}`, `{repository}`, `{name}` (its last part), `{tag}`.
///
/// # Errors
/// That it has another placeholder.
pub fn fill(template: &str, name: &Reference) -> Result<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((key, after)) = after.split_once('}') else {
            return Err(Error::argument(format!("the template '{template}'"), "has a { without a }"));
        };
        filled.push_str(match key {
            "registry" => name.registry(),
            "repository" => name.repository(),
            "name" => name.name(),
            "tag" => name.tag().unwrap_or_default(),
            other => {
                return Err(Error::Argument {
                    name: format!("the template '{template}'"),
                    problem: format!("has the placeholder {{{other}}}, which is none"),
                    cure: Some("there are {registry}, {repository}, {name} and {tag}".into()),
                });
            }
        });
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Where all images go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Below a path of a registry.
    Registry(String),
    /// A namespace, below a prefix if there is one.
    Containerd {
        /// Which.
        at: At,
        /// What stands before repository and tag; without it the full name stays.
        base: Option<String>,
    },
    /// An OCI layout, under the full name.
    Layout(PathBuf),
}

impl Destination {
    /// Reads `registry:HOST/PREFIX` or the same without its scheme, `containerd:[…]`, `containerd:PREFIX`, `oci:DIR`.
    ///
    /// # Errors
    /// That it has no such form.
    pub fn parse(text: &str, working_dir: &Path) -> Result<Self> {
        let base = |base: &str| base.trim_end_matches('/').to_owned();
        Ok(match text.split_once(':') {
            Some(("containerd", rest)) => {
                let (at, rest) = At::split(rest)?;
                Self::Containerd { at, base: (!rest.is_empty()).then(|| base(rest)) }
            }
            Some(("oci", folder)) if !folder.is_empty() => Self::Layout(working_dir.join(folder)),
            Some(("archive", _)) => {
                return Err(Error::Argument {
                    name: text.to_owned(),
                    problem: "cannot take one image after another".into(),
                    cure: Some("migrate to oci:DIR, or write an archive with save".into()),
                });
            }
            Some(("registry", rest)) => Self::Registry(base(rest)),
            _ => Self::Registry(base(text)),
        })
    }

    fn endpoint(&self, source: &Reference, renamed: Option<&str>) -> Result<Endpoint> {
        let name = renamed.map(|renamed| with_selector(renamed, source));
        let below = |base: &str| {
            let name = name.clone().unwrap_or_else(|| default_name(source));
            format!("{base}/{name}").parse::<Reference>().map_err(Error::from)
        };
        let full = || name.clone().unwrap_or_else(|| source.to_string());
        Ok(match self {
            Self::Registry(base) => Endpoint::Registry(below(base)?),
            Self::Containerd { at, base } => {
                let name = match base {
                    Some(base) => below(base)?,
                    None => full().parse().map_err(Error::from)?,
                };
                Endpoint::Containerd { at: at.clone(), name: name.to_string() }
            }
            Self::Layout(path) => Endpoint::Layout { path: path.clone(), selector: Selector::Name(full()) },
        })
    }
}

/// Decides where an image goes. A name without a tag keeps the image's own.
///
/// # Errors
/// That it has no target, or one that is no endpoint.
pub fn target(
    to: Option<&Destination>,
    candidate: &Candidate,
    renamed: Option<&str>,
    working_dir: &Path,
) -> Result<Endpoint> {
    match (&candidate.target, to) {
        (Some(target), _) => Endpoint::parse(target, working_dir),
        (None, Some(to)) => to.endpoint(&candidate.name, renamed),
        (None, None) => Err(Error::Argument {
            name: candidate.source.to_string(),
            problem: "has no target".into(),
            cure: Some("say where it goes with 'to', or behind the source".into()),
        }),
    }
}

/// Returns whether an image need not go there, as a tag does for it: a name by digest beside a tag says nothing more to a
/// registry, which cannot even have it where some of the platforms are lacking, and renamed to a tag it would be no digest.
#[must_use]
pub fn is_spare(to: Option<&Destination>, candidate: &Candidate, renamed: Option<&str>) -> bool {
    let to_registry = candidate.target.is_none() && matches!(to, Some(Destination::Registry(_)));
    !candidate.beside.is_empty() && (to_registry || renamed.is_some_and(has_selector))
}

fn has_selector(renamed: &str) -> bool {
    renamed.rsplit('/').next().unwrap_or(renamed).contains([':', '@'])
}

fn with_selector(renamed: &str, source: &Reference) -> String {
    match (has_selector(renamed), source.tag(), source.digest()) {
        (false, Some(tag), _) => format!("{renamed}:{tag}"),
        (false, None, Some(digest)) => format!("{renamed}@{digest}"),
        _ => renamed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(to: &str, source: &str, renamed: Option<&str>) -> String {
        let name: Reference = source.parse().unwrap();
        let source = Endpoint::Registry(name.clone());
        let candidate = Candidate::new(source, name);
        let here = Path::new("/w");
        let to = match Destination::parse(to, here) {
            Ok(to) => to,
            Err(error) => return error.to_string(),
        };
        target(Some(&to), &candidate, renamed, here).map_or_else(|e| e.to_string(), |e| e.to_string())
    }

    #[test]
    fn names_go_below_the_target() {
        for (place, source, renamed, expected) in [
            ("registry:h.example/shop", "a.example/x/y:1", None, "registry:h.example/shop/x/y:1"),
            ("h.example/shop/", "nginx", None, "registry:h.example/shop/library/nginx:latest"),
            ("h.example/shop", "a.example/x/y:1", Some("z"), "registry:h.example/shop/z:1"),
            ("h.example:5000", "a.example/x/y:1", Some("z:2"), "registry:h.example:5000/z:2"),
            ("containerd:", "a.example/x/y:1", None, "containerd:a.example/x/y:1"),
            ("containerd:", "a.example/x/y:1", Some("b.example/y"), "containerd:b.example/y:1"),
            ("containerd:b.example", "a.example/x/y:1", None, "containerd:b.example/x/y:1"),
            ("containerd:[k8s.io]", "a.example/x/y:1", None, "containerd:[k8s.io]a.example/x/y:1"),
            ("containerd:[@/b.sock]h.example", "nginx", None, "containerd:[@/b.sock]h.example/library/nginx:latest"),
            ("oci:bundle", "a.example/x/y:1", None, "oci:/w/bundle:a.example/x/y:1"),
        ] {
            assert_eq!(to(place, source, renamed), expected);
        }
        assert!(to("archive:a.tar", "nginx", None).contains("one image after another"));
    }

    #[test]
    fn a_digest_beside_a_tag_is_for_a_registry_no_more() {
        let name: Reference = format!("a.example/x@sha256:{}", "1".repeat(64)).parse().unwrap();
        let beside = vec!["a.example/x:1".parse().unwrap()];
        let candidate = Candidate { beside, ..Candidate::new(Endpoint::Registry(name.clone()), name.clone()) };
        for (to, renamed, expected) in [
            ("h.example/shop", None, true),
            ("containerd:[k8s.io]", None, false),
            ("containerd:[k8s.io]", Some("b.example/x"), false),
            ("containerd:[k8s.io]", Some("b.example/x:"), true),
            ("oci:bundle", None, false),
        ] {
            let to = Destination::parse(to, Path::new("/w")).unwrap();
            assert_eq!(is_spare(Some(&to), &candidate, renamed), expected, "{to:?} {renamed:?}");
            let alone = Candidate::new(candidate.source.clone(), name.clone());
            assert!(!is_spare(Some(&to), &alone, renamed));
        }
    }

    #[test]
    fn templates_name_their_parts() {
        let name: Reference = "a.example/x/y:1".parse().unwrap();
        assert_eq!(fill("{registry}-{repository}-{name}:{tag}", &name).unwrap(), "a.example-x/y-y:1");
        assert!(fill("{nmae}", &name).is_err() && fill("{name", &name).is_err());
    }
}
