//! Which lines are kept, and where: none that holds a secret.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::commands;

/// Words that stand beside secrets.
const TELLING: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "login",
    "credential",
    "authorization",
    "bearer",
    "apikey",
    "api_key",
];

/// How many lines are kept.
pub(super) const LINES: usize = 5_000;

/// Returns whether a line may be kept: not when it begins with a space or looks as if it held a secret.
#[must_use]
pub fn keeps(line: &str) -> bool {
    if let Some(("ctr", words)) = commands::parse(line)
        && crate::ctr::holds_secret(words.trim_start_matches('?'))
    {
        return false;
    }
    let lower = line.to_lowercase();
    // A user and password before the host of a URL.
    let in_url = lower
        .split("://")
        .skip(1)
        .any(|rest| rest.split(['/', '"', ' ', '`']).next().is_some_and(|authority| authority.contains('@')));
    !line.trim().is_empty() && !line.starts_with(' ') && !in_url && !TELLING.iter().any(|word| lower.contains(word))
}

/// What goes into the history of one session, in the order in which it was entered.
pub(super) struct Fresh {
    path: Option<PathBuf>,
    lines: Mutex<Vec<String>>,
}

impl Fresh {
    /// Makes one without lines, for a file, if there is one.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, lines: Mutex::default() }
    }

    /// Adds a line.
    pub(super) fn add(&self, line: &str) {
        self.lines().push(line.to_owned());
    }

    /// Returns what the file has by now, as other prompts write it too.
    pub(super) fn known(&self) -> Vec<String> {
        self.path.as_deref().map(|path| with(path, Vec::new())).unwrap_or_default()
    }

    /// Puts the lines into the file, once.
    ///
    /// # Errors
    /// When the folder or file cannot be written.
    pub(super) fn keep(&self) -> crate::ops::Result<()> {
        // Held until they are there: a signal that comes meanwhile ends the program only then.
        let mut lines = self.lines();
        let Some(path) = self.path.as_deref().filter(|_| !lines.is_empty()) else { return Ok(()) };
        write(path, &with(path, std::mem::take(&mut *lines))).map_err(|source| {
            let path = path.display().to_string();
            crate::ops::Error::File { attempted: "write the history", path, source }
        })
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the lines of a file and these behind them, without those that are not kept.
fn with(path: &Path, fresh: Vec<String>) -> Vec<String> {
    let mut known = merged(read(path), fresh);
    known.retain(|line| keeps(line));
    known
}

/// Reads the lines that were kept, oldest first.
#[must_use]
fn read(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Puts lines behind others: each is there once, where it was entered last, and only the last [`LINES`] are.
#[must_use]
pub(super) fn merged(old: Vec<String>, new: impl IntoIterator<Item = String>) -> Vec<String> {
    let all: Vec<String> = old.into_iter().chain(new).collect();
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<bool> = all.iter().rev().map(|line| seen.insert(line.as_str()) && seen.len() <= LINES).collect();
    kept.reverse();
    all.into_iter().zip(kept).filter_map(|(line, kept)| kept.then_some(line)).collect()
}

/// Keeps the lines, each as a JSON string so that one of several lines stays one, in a file of the user's alone.
///
/// # Errors
/// When the folder or file cannot be written.
fn write(path: &Path, lines: &[String]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line).unwrap_or_default());
        text.push('\n');
    }
    // Renamed over the old one, so that a full disk or another shell loses nothing.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_secrets_are_not_kept() {
        for line in [
            "login(\"harbor.example\", #{ user: \"a\" })",
            "let PassWord = 1",
            "pull(\"x\", #{ token: \"y\" })",
            " images()",
            "registry(\"https://user:pw@harbor.example\")",
            "run(\"app\", #{ env: #{ http_proxy: \"http://proxy:3128\", https_proxy: \"http://ann:pw@proxy:3128\" } })",
            ":ctr images pull -u ann:pw harbor.example/a:1",
            ":ctr images pull -u ann:pw --help",
            ":ctr images mount --user ann:pw box /mnt",
            ":ctr images unmount --refresh abc /mnt",
            ": ctr images pull -u ann:pw harbor.example/a:1",
            ":ctr\timages pull -u ann:pw harbor.example/a:1",
            ":ctr ? images pull -u ann:pw harbor.example/a:1",
            "  ",
        ] {
            assert!(!keeps(line), "{line}");
        }
        for line in [
            "images()",
            "image(\"a@sha256:12\")",
            ":ctr run -u 1:1 a b",
            ": ctr images pull box",
            ":ctr images mount -u ann box /mnt",
            "pull(\"docker.io/library/busybox\")",
            "[\"http://proxy:3128\", \"https://harbor.example/a@sha256:12\"]",
        ] {
            assert!(keeps(line), "{line}");
        }
    }

    #[test]
    fn each_line_is_there_once_and_only_the_last_are() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(merged(lines("a b a c"), lines("b d")), lines("a c b d"));
        let many = merged((0..LINES + 7).map(|i| i.to_string()).collect(), ["7".to_owned()]);
        assert_eq!(many.len(), LINES);
        assert_eq!((many.first().unwrap().as_str(), many.last().unwrap().as_str()), ("8", "7"));
    }

    #[test]
    fn what_was_written_is_read_again_and_only_the_user_can() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctrsh/history");
        let lines = vec!["a".to_owned(), "for i in 1..2 {\n  print(i)\n}".to_owned()];
        write(&path, &lines).unwrap();
        assert_eq!(read(&path), lines);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}
