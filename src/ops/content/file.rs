//! A local file that bytes go to, whole and verified or not at all.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use crate::oci::{self, Digest, Hasher};
use crate::ops::{Context, Error, Result};

/// A file that takes its name when it is whole.
pub(super) struct Target {
    path: PathBuf,
    temporary: tempfile::NamedTempFile,
    open: tokio::fs::File,
}

/// Returns where a path of a script leads.
pub(super) fn resolve(ctx: &Context, path: &Path) -> PathBuf {
    ctx.settings().working_dir.join(path)
}

fn fail(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.display().to_string();
    move |source| Error::File { attempted: "write", path, source }
}

impl Target {
    /// Begins a file beside its place, so that taking its name cannot cross file systems.
    pub(super) async fn create(path: PathBuf) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let temporary = tokio::task::spawn_blocking(move || tempfile::NamedTempFile::new_in(folder))
            .await
            .map_err(|error| fail(&path)(std::io::Error::other(error)))?
            .map_err(fail(&path))?;
        let open = tokio::fs::File::from_std(temporary.reopen().map_err(fail(&path))?);
        Ok(Self { path, temporary, open })
    }

    /// Takes the bytes that have this digest and size.
    pub(super) async fn take<S, E>(&mut self, digest: &Digest, size: u64, mut bytes: S) -> Result<()>
    where
        S: futures_util::Stream<Item = std::result::Result<Bytes, E>> + Unpin,
        Error: From<E>,
    {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut taken = 0;
        while let Some(part) = futures_util::TryStreamExt::try_next(&mut bytes).await? {
            taken += part.len() as u64;
            if taken > size {
                break;
            }
            hasher.update(&part);
            self.open.write_all(&part).await.map_err(fail(&self.path))?;
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

    /// Gives the file its name.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.open.flush().await.map_err(fail(&self.path))?;
        self.open.sync_all().await.map_err(fail(&self.path))?;
        self.temporary.persist(&self.path).map_err(|error| fail(&self.path)(error.error))?;
        Ok(())
    }
}
