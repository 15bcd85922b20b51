//! Image references (the distribution project's reference grammar; containerd's reference package).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::Digest;
use super::error::{Error, excerpt};

/// The registry that a reference without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A full image reference: `REGISTRY/REPOSITORY[:TAG][@DIGEST]`. With a digest, the digest decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Returns the registry, `HOST[:PORT]`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository within the registry, such as `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the last part of the repository, such as `nginx`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    /// Returns the tag, if there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if there is one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns what to ask the registry for: the digest, else the tag.
    #[must_use]
    pub fn selector(&self) -> &str {
        self.digest.as_ref().map_or_else(|| self.tag.as_deref().unwrap_or("latest"), Digest::as_str)
    }

    /// Returns the same repository under this digest alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns the repository with its registry, `REGISTRY/REPOSITORY`, which is also the subject that grants name.
    #[must_use]
    pub fn locator(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns how people write it: without `docker.io/`, `library/` and nothing else, as far as it is read back as the same.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else { return full };
        let short = [rest.strip_prefix("library/"), Some(rest)].into_iter().flatten();
        let mut same = short.filter(|text| text.parse::<Self>().is_ok_and(|read| read == *self));
        same.next().unwrap_or(&full).to_owned()
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Reads a reference as Docker does: `nginx` is `docker.io/library/nginx:latest`.
    ///
    /// The first part is a registry only when it has a dot, a colon or an upper-case letter, or is `localhost`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Reference { text: excerpt(text), reason: reason.to_owned() };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(fail(&format!("it starts with {}://, and a reference has no scheme", excerpt(scheme))));
        }
        if let Some(c) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(fail(&format!("it has the character {c:?}")));
        }
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(fail("64 hex digits are an image id; write it as NAME@sha256:…"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (registry, path) = match rest.split_once('/') {
            Some((first, path)) if is_registry(first) => (first.to_owned(), path.to_owned()),
            _ => (DEFAULT_REGISTRY.to_owned(), rest.to_owned()),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path.to_owned(), Some(tag.to_owned())),
            None => (path, None),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY.to_owned() } else { registry };
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') && !path.is_empty() {
            format!("library/{path}")
        } else {
            path
        };
        check_registry(&registry).map_err(|reason| fail(&reason))?;
        check_repository(&repository).map_err(|reason| fail(&reason))?;
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(fail("its name is longer than 255 characters"));
        }
        if let Some(tag) = &tag {
            check_tag(tag).map_err(|reason| fail(&reason))?;
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry, repository, tag, digest })
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("its registry has an unclosed [")?;
            if !host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return Err("its registry is not an IPv6 address".into());
            }
            (host, port.strip_prefix(':'))
        }
        None => {
            let (host, port) = registry.split_once(':').map_or((registry, None), |(h, p)| (h, Some(p)));
            let label = |l: &str| {
                !l.is_empty()
                    && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    && !l.starts_with('-')
                    && !l.ends_with('-')
            };
            if !host.split('.').all(label) {
                return Err(format!("its registry '{}' is not a host name", excerpt(host)));
            }
            (host, port)
        }
    };
    if host.is_empty() {
        return Err("its registry is empty".into());
    }
    if port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return Err("its registry's port is not a number".into());
    }
    Ok(())
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("it has no repository".into());
    }
    for part in repository.split('/') {
        let ok = !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
            && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && part.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
            && !part.contains("..")
            && !part.contains("___")
            && !["._", "_.", "-.", ".-", "_-", "-_"].iter().any(|pair| part.contains(pair));
        if !ok {
            if part.chars().any(char::is_uppercase) {
                return Err("a repository is lower case".into());
            }
            return Err(format!("'{}' cannot be part of a repository", excerpt(part)));
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), String> {
    if tag.is_empty() {
        return Err("its tag is empty".into());
    }
    if tag.len() > MAX_TAG {
        return Err("its tag is longer than 128 characters".into());
    }
    let first = tag.as_bytes()[0];
    if !(first.is_ascii_alphanumeric() || first == b'_')
        || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    {
        return Err(format!("'{}' is not a tag", excerpt(tag)));
    }
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_forms_are_made_full() {
        for (given, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:alpine", "docker.io/library/nginx:alpine"),
            ("team/app", "docker.io/team/app:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ] {
            let reference: Reference = given.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn the_familiar_form_is_the_same_reference() {
        let digest = Digest::sha256(b"x");
        for (full, familiar) in [
            ("docker.io/library/nginx:1", "nginx:1"),
            (&format!("docker.io/library/nginx@{digest}"), &format!("nginx@{digest}")),
            ("docker.io/team/app:1", "team/app:1"),
            ("docker.io/library/a/b:1", "library/a/b:1"),
            ("docker.io/library/library/a:1", "library/library/a:1"),
            ("docker.io/team.x/app:1", "docker.io/team.x/app:1"),
            ("docker.io/localhost/app:1", "docker.io/localhost/app:1"),
            ("host.example/library/nginx:1", "host.example/library/nginx:1"),
        ] {
            let reference: Reference = full.parse().unwrap();
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_decides() {
        let digest = Digest::sha256(b"x");
        let reference: Reference = format!("nginx:1@{digest}").parse().unwrap();
        assert_eq!(reference.selector(), digest.as_str());
        assert_eq!(reference.tag(), Some("1"));
        let reference: Reference = format!("nginx@{digest}").parse().unwrap();
        assert_eq!(reference.tag(), None);
    }

    #[test]
    fn what_is_no_reference_says_why() {
        for (bad, why) in [
            ("", "empty"),
            ("Nginx", "lower case"),
            ("nginx:", "tag is empty"),
            ("nginx:a b", "character ' '"),
            ("nginx\u{1b}[31m", "character"),
            ("https://docker.io/nginx", "no scheme"),
            ("a//b", "cannot be part"),
            ("a/../b", "cannot be part"),
            ("host.example:port/a", "port is not a number"),
            (&"f".repeat(64), "image id"),
        ] {
            let error = bad.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
            assert!(!error.contains('\u{1b}'));
        }
    }
}
