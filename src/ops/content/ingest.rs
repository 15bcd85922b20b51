//! `content::ingest`: stores bytes as a blob, verified, and says what keeps it.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{ROOT, info, would_be_here};
use crate::containerd::content::{self, Info};
use crate::containerd::{Client, Labels};
use crate::oci::{self, Algorithm, Digest, Hasher};
use crate::ops::file::resolve;
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Operation, Plan, Result, lease};

/// The bytes that are read from a file at a time.
const CHUNK: usize = 256 << 10;

/// Where the bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// From memory.
    Bytes(Bytes),
    /// From a local file, or a pipe.
    File(PathBuf),
}

/// How bytes are stored.
#[derive(Debug, Clone, Default)]
pub struct IngestOptions {
    /// What names the ingest while it is written; without one, the digest does.
    pub reference: Option<String>,
    /// How many bytes there have to be.
    pub expected_size: Option<u64>,
    /// The digest that they have to have.
    pub expected_digest: Option<Digest>,
    /// Labels for the blob.
    pub labels: Labels,
    /// The lease that keeps it.
    pub lease: Option<String>,
    /// Whether a label keeps it until it is deleted; without a choice, when no lease keeps it.
    pub root: Option<bool>,
}

/// Stores bytes as a blob.
pub struct Ingest {
    source: Source,
    options: IngestOptions,
    found: Option<(Digest, u64)>,
    spooled: Option<NamedTempFile>,
}

impl Ingest {
    /// Stores what comes from the source.
    #[must_use]
    pub fn new(source: Source, options: IngestOptions) -> Self {
        Self { source, options, found: None, spooled: None }
    }

    /// Keeps what comes through a pipe in a file, as it is read twice: measured, and sent.
    async fn spool(&mut self, ctx: &Context) -> Result<()> {
        let Source::File(path) = &self.source else { return Ok(()) };
        let path = resolve(ctx, path);
        ctx.check_path("reading it", &path)?;
        let kind = tokio::fs::metadata(&path).await.map_err(fail(&path))?.file_type();
        if !kind.is_fifo() || self.spooled.is_some() {
            return Ok(());
        }
        let folder = &ctx.settings().temp_dir;
        tokio::fs::create_dir_all(folder).await.map_err(Error::file("make", folder))?;
        let spooled = NamedTempFile::new_in(folder).map_err(fail(folder))?;
        let mut pipe = tokio::fs::File::open(&path).await.map_err(fail(&path))?;
        let mut file = tokio::fs::File::from_std(spooled.reopen().map_err(fail(folder))?);
        tokio::io::copy(&mut pipe, &mut file).await.map_err(fail(&path))?;
        file.flush().await.map_err(fail(folder))?;
        self.spooled = Some(spooled);
        Ok(())
    }

    /// Opens the file at an offset.
    async fn open(&self, ctx: &Context, path: &Path, offset: u64) -> Result<(PathBuf, tokio::fs::File)> {
        let path = resolve(ctx, path);
        ctx.check_path("reading it", &path)?;
        let mut open = match &self.spooled {
            Some(spooled) => tokio::fs::File::from_std(spooled.reopen().map_err(fail(&path))?),
            None => tokio::fs::File::open(&path).await.map_err(fail(&path))?,
        };
        if !open.metadata().await.map_err(fail(&path))?.is_file() {
            return Err(Error::argument(path.display().to_string(), "is not a file"));
        }
        open.seek(std::io::SeekFrom::Start(offset)).await.map_err(fail(&path))?;
        Ok((path, open))
    }

    /// Hashes the source, so that nothing is sent of what is not what it should be.
    async fn measure(&self, ctx: &Context) -> Result<(Digest, u64)> {
        let algorithm = self.options.expected_digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let mut hasher = Hasher::new(algorithm);
        let mut size = 0;
        match &self.source {
            Source::Bytes(bytes) => {
                hasher.update(bytes);
                size = bytes.len() as u64;
            }
            Source::File(path) => {
                let (path, mut open) = self.open(ctx, path, 0).await?;
                let mut buffer = vec![0; CHUNK];
                loop {
                    let read = open.read(&mut buffer).await.map_err(fail(&path))?;
                    if read == 0 {
                        break;
                    }
                    hasher.update(&buffer[..read]);
                    size += read as u64;
                }
            }
        }
        let digest = hasher.finish();
        let mismatch = |expected: String, actual: String| {
            Err(oci::Error::Mismatch { subject: self.subject(), expected, actual }.into())
        };
        if let Some(expected) = self.options.expected_size.filter(|expected| *expected != size) {
            return mismatch(format!("{expected} bytes"), format!("{size} bytes"));
        }
        if let Some(expected) = self.options.expected_digest.as_ref().filter(|expected| **expected != digest) {
            return mismatch(expected.to_string(), digest.to_string());
        }
        Ok((digest, size))
    }

    fn labels(&self, ctx: &Context) -> Labels {
        let mut labels = self.options.labels.clone();
        let leased = self.options.lease.is_some() || ctx.lease().is_some();
        if self.options.root.unwrap_or(!leased) {
            let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            labels.entry(ROOT.to_owned()).or_insert(now);
        }
        labels
    }

    async fn client(&self, ctx: &Context) -> Result<Client> {
        let client = ctx.client().await?;
        match &self.options.lease {
            Some(lease) => Ok(client.with_lease(lease)?),
            None => Ok(client),
        }
    }
}

fn fail(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.display().to_string();
    move |source| Error::File { attempted: "read", path, source }
}

#[async_trait]
impl Operation for Ingest {
    type Output = Info;
    const NAME: &'static str = "content::ingest";

    fn subject(&self) -> String {
        match (&self.options.reference, &self.source) {
            (Some(reference), _) => reference.clone(),
            (None, Source::File(path)) => path.display().to_string(),
            (None, Source::Bytes(bytes)) => format!("{} bytes", bytes.len()),
        }
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Info>> {
        if let Some(id) = &self.options.lease {
            lease::get(ctx, id).await?;
        }
        self.spool(ctx).await?;
        let (digest, size) = self.measure(ctx).await?;
        self.found = Some((digest.clone(), size));
        let now = chrono::Utc::now();
        let labels = self.labels(ctx);
        let kept = match (&self.options.lease, labels.contains_key(ROOT)) {
            (Some(lease), _) => format!("kept by lease {lease}"),
            (None, true) => format!("kept by its label {ROOT}"),
            (None, false) if ctx.lease().is_some() => "kept by the lease around it".to_owned(),
            (None, false) => "kept by nothing of its own".to_owned(),
        };
        let preview = Info { digest: digest.clone(), size, created_at: now, updated_at: now, labels };
        let bytes = match &self.source {
            Source::Bytes(bytes) if ctx.is_dry_run() => Some(bytes.clone()),
            Source::Bytes(_) | Source::File(_) => None,
        };
        let mut plan =
            Plan::new(preview.clone()).transfer(ctx.target(), format!("store content {digest}, {kept}"), size);
        plan.effects = would_be_here(ctx, &preview, bytes);
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Info> {
        let Some((digest, size)) = self.found.clone() else { return Err(Error::argument("source", "was not read")) };
        let client = self.client(ctx).await?;
        let reference = self.options.reference.clone().unwrap_or_else(|| format!("ingest-{digest}"));
        let labels = self.labels(ctx);
        let mut undo = Undo::new(ctx.debts());
        // What another one began under this name is not ours to throw away.
        if let Err(error) = client.content().status(&reference).await {
            if !error.is_not_found() {
                return Err(error.into());
            }
            let (undoing, begun) = (client.undoing(), reference.clone());
            undo.push(format!("ingest {begun}"), async move { undoing.content().abort(&begun).await });
        }
        let ingest = content::Ingest { reference, expected: Some(digest.clone()), total: Some(size), labels };
        if let Some(mut writer) = client.content().ingest(ingest).await? {
            match &self.source {
                Source::Bytes(bytes) => {
                    let begin = usize::try_from(writer.offset()).unwrap_or(usize::MAX).min(bytes.len());
                    writer.push(bytes.slice(begin..)).await?;
                }
                Source::File(path) => {
                    let (path, mut open) = self.open(ctx, path, writer.offset()).await?;
                    loop {
                        let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
                        if open.read_buf(&mut buffer).await.map_err(fail(&path))? == 0 {
                            break;
                        }
                        writer.push(buffer.freeze()).await?;
                    }
                }
            }
            writer.finish().await?;
        }
        undo.forget();
        info(ctx, &digest).await
    }
}
