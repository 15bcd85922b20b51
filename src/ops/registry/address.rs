//! Which registry is meant, or which part of one.

use std::fmt;

use crate::oci::Reference;
use crate::ops::{Error, Result};

/// A registry, or what lies below a path of it: `HOST[:PORT][/PATH]`, such as a project of Harbor or a group of GitLab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    path: Option<String>,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`Error::Argument`] when it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |problem: String, cure: &str| Error::Argument {
            name: format!("registry '{}'", crate::oci::excerpt(text)),
            problem,
            cure: Some(cure.to_owned()),
        };
        const FORM: &str = "write HOST[:PORT], such as docker.io or localhost:5000";
        if text.contains("://") {
            return Err(fail("has a scheme".into(), "leave it away; #{ plain_http: true } says that there is no TLS"));
        }
        let trimmed = text.trim_end_matches('/');
        let (host, path) = trimmed.split_once('/').map_or((trimmed, None), |(host, path)| (host, Some(path)));
        // A reference below it is what it will be used for.
        let below: Reference = format!("{trimmed}/x").parse().map_err(|error: crate::oci::Error| {
            use std::error::Error as _;
            let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            fail(format!("cannot be one: {reason}"), FORM)
        })?;
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        if below.registry() != host {
            return Err(fail("is a name without a dot or port, which could be a repository's".into(), FORM));
        }
        Ok(Self { host: host.to_owned(), path: path.map(str::to_owned) })
    }

    /// Returns the registry, `HOST[:PORT]`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the path below which names are, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns an image below it, `NAME[:TAG][@DIGEST]`. A full reference of the same registry is taken as it is.
    ///
    /// # Errors
    /// [`Error::Argument`] when that is no reference.
    pub fn reference(&self, name: &str) -> Result<Reference> {
        let is_full = name.strip_prefix(self.host.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let full = if is_full { name.to_owned() } else { format!("{self}/{name}") };
        Ok(full.parse::<Reference>()?)
    }

    /// Returns a repository below it.
    ///
    /// # Errors
    /// [`Error::Argument`] when the name has a tag or digest, or is none.
    pub fn repository(&self, name: &str) -> Result<Reference> {
        without_selector(name)?;
        self.reference(name)
    }
}

/// Reads the full name of a repository, `HOST[:PORT]/NAME`.
///
/// # Errors
/// [`Error::Argument`] when it has a tag or digest, or is none.
pub fn repository(name: &str) -> Result<Reference> {
    without_selector(name)?;
    Ok(name.parse::<Reference>()?)
}

fn without_selector(name: &str) -> Result<()> {
    let last = name.rsplit('/').next().unwrap_or(name);
    // A port stands before the last slash, or the name is a registry's alone.
    match last.find([':', '@']) {
        None => Ok(()),
        Some(at) => Err(Error::Argument {
            name: format!("repository '{}'", crate::oci::excerpt(name)),
            problem: format!("has '{}' behind its name", crate::oci::excerpt(&last[at..])),
            cure: Some("name the repository alone".into()),
        }),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.path.iter().try_for_each(|path| write!(f, "/{path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Failure, Kind};

    #[test]
    fn names_are_below_the_address() {
        for (address, name, full) in [
            ("docker.io", "busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io", "a/b:1", "docker.io/a/b:1"),
            ("localhost:5000", "app:1", "localhost:5000/app:1"),
            ("localhost:5000", "localhost:5000/app:1", "localhost:5000/app:1"),
            ("harbor.example/course/", "app:1", "harbor.example/course/app:1"),
            ("harbor.example/course", "harbor.example/other/app:1", "harbor.example/other/app:1"),
        ] {
            assert_eq!(Address::parse(address).unwrap().reference(name).unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "/", "registry", "https://r.example", "r.example:port", "r.example/A", "r.example/a:1", "-.x"]
        {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}: {error}");
            assert!(error.hint().is_some(), "{text}");
        }
    }

    #[test]
    fn a_repository_has_no_tag() {
        let address = Address::parse("localhost:5000").unwrap();
        assert_eq!(address.repository("a/b").unwrap().locator(), "localhost:5000/a/b");
        for name in ["a/b:1", "a@sha256:0", ""] {
            assert!(address.repository(name).is_err(), "{name}");
        }
        assert!(repository("localhost:5000/a:1").is_err());
        assert_eq!(repository("localhost:5000/a").unwrap().repository(), "a");
    }
}
