//! Local paths, and which access they need.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::grant::{Access, Refused};
use crate::ops::{Context, Result};

/// How many links that lead to nothing yet are followed, as many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A local path as access to it is decided: without links, `.` and `..`, so that none of them leads out of what was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPath {
    /// The class that its use needs: `files` below the working folder, else `host`.
    pub access: Access,
    /// The path as grants name it.
    pub subject: String,
}

impl Context {
    /// Returns what the use of a local path needs.
    #[must_use]
    pub fn local(&self, path: &Path) -> LocalPath {
        // Whoever started the program gave it these.
        if ["/dev/stdin", "/dev/stdout"].iter().any(|stream| path == Path::new(stream)) {
            return LocalPath { access: Access::Files, subject: path.display().to_string() };
        }
        let root = &self.settings().working_dir;
        let path = real(&root.join(path));
        let access = if path.starts_with(real(root)) { Access::Files } else { Access::Host };
        LocalPath { access, subject: path.display().to_string() }
    }

    /// Decides on the use of a local path that is not part of a plan, as reading a file is not.
    ///
    /// # Errors
    /// That the access was not granted.
    pub fn check_path(&self, action: &str, path: &Path) -> Result<()> {
        let LocalPath { access, subject } = self.local(path);
        if self.grant().allow().covers(access, &subject) {
            return Ok(());
        }
        Err(Refused::Denied { access, action: action.to_owned(), subject }.into())
    }
}

/// Returns where an absolute path leads: what exists is resolved by the kernel, and the names behind it as they would be once
/// they exist. A link that leads nowhere yet is followed: whoever creates a file by it creates what it names.
pub(in crate::ops) fn real(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let (existing, rest) = split(&path);
        if let Some(link) = rest.first().and_then(|name| fs::read_link(existing.join(name)).ok()) {
            path = existing.join(link);
            path.extend(&rest[1..]);
            continue;
        }
        // `..` behind a folder that is not there yet: what it leads to may be there, and be a link.
        let goes_up = rest.iter().any(|name| name == "..");
        path = join(existing, &rest);
        if !goes_up {
            return path;
        }
    }
    // Nothing can be opened by such a path.
    path
}

/// Takes a path apart into the deepest folder that exists, resolved, and the names behind it.
fn split(path: &Path) -> (PathBuf, Vec<OsString>) {
    let parts: Vec<Component<'_>> = path.components().collect();
    for length in (1..=parts.len()).rev() {
        let (existing, rest) = parts.split_at(length);
        if let Ok(found) = existing.iter().collect::<PathBuf>().canonicalize() {
            return (found, rest.iter().map(|part| part.as_os_str().to_owned()).collect());
        }
    }
    (PathBuf::from("/"), parts.iter().map(|part| part.as_os_str().to_owned()).collect())
}

fn join(mut path: PathBuf, rest: &[OsString]) -> PathBuf {
    for name in rest {
        match name.to_str() {
            Some("..") => drop(path.pop()),
            _ => path.push(name),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn neither_dots_nor_links_hide_where_a_path_leads() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let inside = root.join("inside");
        fs::create_dir(&inside).unwrap();
        fs::create_dir(root.join("outside")).unwrap();
        symlink("../outside", inside.join("link")).unwrap();
        symlink("../outside/later", inside.join("dangling")).unwrap();
        symlink("chain2", inside.join("chain1")).unwrap();
        symlink("../outside/deep/later", inside.join("chain2")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        for (given, leads) in [
            ("inside/a", "inside/a"),
            ("inside/../outside/a", "outside/a"),
            ("inside/new/../../outside/a", "outside/a"),
            ("inside/new/./a", "inside/new/a"),
            ("inside/new/../link/a", "outside/a"),
            ("inside/new/../dangling", "outside/later"),
            ("inside/link/a", "outside/a"),
            ("inside/link/new/../../a", "a"),
            ("inside/dangling", "outside/later"),
            ("inside/chain1", "outside/deep/later"),
            ("inside/chain1/more", "outside/deep/later/more"),
        ] {
            assert_eq!(real(&root.join(given)), root.join(leads), "{given}");
        }
        assert!(real(&inside.join("loop")).starts_with(&inside));
        assert_eq!(real(Path::new("/../../etc")), Path::new("/etc"));
    }
}
