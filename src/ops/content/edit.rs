//! `content::edit`: an editor on a copy of a blob, and what comes of it as a blob of its own.

use async_trait::async_trait;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::{Ingest, IngestOptions, Source, info};
use crate::containerd::content::Info;
use crate::grant::Access;
use crate::oci::Digest;
use crate::ops::file::Target;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// Runs an editor on a copy of a blob and stores what it leaves.
#[derive(Debug)]
pub struct Edit {
    digest: Digest,
    editor: String,
}

impl Edit {
    /// Edits this blob with this command of the shell, behind which the file's name stands.
    #[must_use]
    pub fn new(digest: Digest, editor: &str) -> Self {
        Self { digest, editor: editor.to_owned() }
    }

    /// Runs the editor at the user's terminal, where there is one.
    async fn run(&self, file: &NamedTempFile) -> Result<()> {
        let status = Command::new("sh")
            .args(["-c", &format!("{} \"$1\"", self.editor), "sh"])
            .arg(file.path())
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|source| Error::File { attempted: "run", path: self.editor.clone(), source })?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Argument {
            name: format!("editor {}", self.editor),
            problem: format!("ended with {status}, so nothing is stored"),
            cure: Some("the option editor, or EDITOR in the environment, names another one".to_owned()),
        })
    }
}

#[async_trait]
impl Operation for Edit {
    type Output = Info;
    const NAME: &'static str = "content::edit";

    fn subject(&self) -> String {
        self.digest.to_string()
    }

    /// What comes of it is not known before: a dry run returns the blob as it is.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Info>> {
        let blob = info(ctx, &self.digest).await?;
        let run = format!("run {} on a copy of {}", self.editor, self.digest);
        Ok(Plan::new(blob).step(Access::Host, self.editor.clone(), run).step(
            Access::Write,
            ctx.target(),
            "store what comes of it",
        ))
    }

    async fn apply(self, ctx: &Context) -> Result<Info> {
        let blob = info(ctx, &self.digest).await?;
        let folder = &ctx.settings().temp_dir;
        tokio::fs::create_dir_all(folder).await.map_err(Error::file("make", folder))?;
        // An editor knows by the name how to show it, and what is stored is text for the most part.
        let file = tempfile::Builder::new().prefix("ctrsh-").suffix(".json").tempfile_in(folder);
        let file = file.map_err(Error::file("make a file in", folder))?;
        let mut target = Target::create(file.path()).await?;
        let bytes = ctx.client().await?.content().open_to_read(&self.digest, 0).await?;
        target.take(&self.digest, blob.size, bytes).await?;
        target.finish().await?;
        self.run(&file).await?;
        let mut ingest = Ingest::new(Source::File(file.path().to_owned()), IngestOptions::default());
        let left = ingest.plan(ctx).await?.preview;
        // One that stays as it was is not kept longer for that.
        if left.digest == blob.digest { Ok(blob) } else { ingest.apply(ctx).await }
    }
}
