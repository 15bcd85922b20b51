//! Names that containerd lets namespaces, containers and execs have (its pkg/identifiers).

use super::Result;
use super::error::Error;
use crate::oci::excerpt;

const MAX: usize = 76;

/// Checks a name: letters and digits, with single `.`, `_` or `-` between them, at most 76 characters.
///
/// `what` says whose name it is, such as `namespace`.
///
/// # Errors
/// [`Error::Name`] when containerd would refuse it.
pub fn check(what: &'static str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(refuse(what, text, "it is empty"));
    }
    if text.len() > MAX {
        return Err(refuse(what, text, "it has more than 76 characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(refuse(what, text, "only letters, digits and . _ - may stand in it"));
    }
    if !text.split(['.', '_', '-']).all(|part| !part.is_empty()) {
        return Err(refuse(what, text, "each . _ - must stand between letters or digits"));
    }
    Ok(())
}

pub(crate) fn refuse(what: &'static str, text: &str, reason: &'static str) -> Error {
    Error::Name { what, text: excerpt(text), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_containerd() {
        for good in ["default", "k8s.io", "a", "a-b_c.d", "A9", &"x".repeat(76)] {
            assert!(check("namespace", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "-a", "a-", "a..b", "a._b", "a b", "a/b", "ä", "a\n", &"x".repeat(77)] {
            assert!(check("namespace", bad).is_err(), "{bad}");
        }
    }
}
