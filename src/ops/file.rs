//! A file of this host that bytes go to, whole and verified or not at all.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use rustix::fs::{Gid, Uid, fchown};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use crate::layout;
use crate::oci::{self, Digest, Hasher};
use crate::ops::{Context, Error, Result};

/// A file that takes its name when it is whole. A pipe or a device gets the bytes as they come.
pub(super) struct Target {
    path: PathBuf,
    /// What takes the name in the end; none where bytes go to what is there.
    temporary: Option<NamedTempFile>,
    open: tokio::fs::File,
    is_terminal: bool,
}

/// Returns where a path of a script leads.
pub(super) fn resolve(ctx: &Context, path: impl AsRef<Path>) -> PathBuf {
    ctx.settings().working_dir.join(path)
}

impl Target {
    /// Begins a file. One that is there keeps its owner and mode, and a link is written through, as by a shell's redirection.
    pub(super) async fn create(path: &Path) -> Result<Self> {
        let own = layout::standard_output(path).map_err(Error::file("write", path))?;
        // A link that leads nowhere yet is taken for a name like any other.
        let path = match own {
            Some(_) => path.to_owned(),
            None => tokio::fs::canonicalize(path).await.unwrap_or_else(|_| path.to_owned()),
        };
        let place = path.clone();
        let (temporary, file) = match own {
            Some(file) => (None, file),
            None => tokio::task::spawn_blocking(move || open(&place))
                .await
                .map_err(|error| Error::file("write", &path)(io::Error::other(error)))?
                .map_err(Error::file("write", &path))?,
        };
        let is_terminal = file.is_terminal();
        Ok(Self { path, temporary, open: tokio::fs::File::from_std(file), is_terminal })
    }

    /// Takes bytes as they are.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.open.write_all(bytes).await.map_err(Error::file("write", &self.path))
    }

    /// Takes the bytes that have this digest and size.
    pub(super) async fn take<S, E>(&mut self, digest: &Digest, size: u64, mut bytes: S) -> Result<()>
    where
        S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
        Error: From<E>,
    {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut taken = 0;
        while let Some(part) = bytes.try_next().await? {
            taken += part.len() as u64;
            if taken > size {
                break;
            }
            hasher.update(&part);
            if self.is_terminal && !is_text(&part) {
                return Err(self.no_text(digest));
            }
            self.write(&part).await?;
        }
        let mismatch = |expected: String, actual: String| oci::Error::Mismatch {
            subject: format!("content {digest}"),
            expected,
            actual,
        };
        if taken != size {
            return Err(mismatch(format!("{size} bytes"), format!("{taken} bytes")).into());
        }
        let actual = hasher.finish();
        if actual != *digest {
            return Err(mismatch(digest.to_string(), actual.to_string()).into());
        }
        Ok(())
    }

    fn no_text(&self, digest: &Digest) -> Error {
        Error::Argument {
            name: self.path.display().to_string(),
            problem: format!("is a terminal, and {digest} is no text"),
            cure: Some("name a file, or send it on with a pipe".to_owned()),
        }
    }

    /// Gives the file its name.
    pub(super) async fn finish(mut self) -> Result<()> {
        // A sync alone keeps quiet about a write that failed.
        self.open.flush().await.map_err(Error::file("write", &self.path))?;
        if let Some(temporary) = self.temporary {
            self.open.sync_all().await.map_err(Error::file("write", &self.path))?;
            temporary.persist(&self.path).map_err(|error| Error::file("write", &self.path)(error.error))?;
        }
        Ok(())
    }
}

/// Opens what the bytes of a path go to: a file beside it, so that taking the name cannot cross file systems. Blocks.
fn open(path: &Path) -> io::Result<(Option<NamedTempFile>, File)> {
    let old = fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Ok((None, File::options().write(true).open(path)?));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What the user's mask leaves of it, as for any new file.
    let mode = Permissions::from_mode(0o666);
    let temporary = tempfile::Builder::new().prefix(".ctrsh-").permissions(mode).tempfile_in(folder)?;
    let file = temporary.reopen()?;
    if let Some(old) = old {
        keep(&old, &file)?;
    }
    Ok((Some(temporary), file))
}

/// Says whether bytes do nothing to a terminal but show.
fn is_text(bytes: &[u8]) -> bool {
    let controls = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\r' | b'\t');
    // Those of ISO 6429 beyond ASCII, as UTF-8 has them.
    let beyond = |pair: &[u8]| pair[0] == 0xc2 && (0x80..0xa0).contains(&pair[1]);
    !bytes.iter().any(controls) && !bytes.windows(2).any(beyond)
}

/// Gives a file the mode of the one that it replaces, and the owner where that is allowed.
fn keep(old: &Metadata, file: &File) -> io::Result<()> {
    let _ = fchown(file, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())));
    file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    async fn write(path: &Path, text: &[u8]) -> Result<()> {
        let mut target = Target::create(path).await?;
        target.write(text).await?;
        target.finish().await
    }

    #[tokio::test]
    async fn a_file_keeps_its_mode_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        write(&file, b"one").await.unwrap();
        assert_ne!(fs::metadata(&file).unwrap().mode() & 0o044, 0, "others may read it, as any new file");
        fs::set_permissions(&file, Permissions::from_mode(0o751)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, b"two").await.unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o751);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn text_is_what_only_shows() {
        for text in ["{\"a\": 1}\r\n\t", "gr\u{fc}\u{df}e", ""] {
            assert!(is_text(text.as_bytes()), "{text:?}");
        }
        for other in [b"\x1f\x8b\x08".as_slice(), b"a\x1b[2J", b"\0", "\u{9b}2J".as_bytes(), b"\x7f"] {
            assert!(!is_text(other), "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_pipe_gets_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let path = pipe.clone();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        write(&pipe, b"through").await.unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(!fs::metadata(&pipe).unwrap().is_file());
        write(Path::new("/dev/null"), b"nowhere").await.unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let missing = write(&folder.path().join("no/such"), b"").await.unwrap_err().to_string();
        assert!(missing.contains("no/such"), "{missing}");
    }
}
