//! Local files and processes, as far as a script may touch them.

use std::process::Stdio;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::grant::Access;
use crate::ops::file::{Target, resolve};
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, Seen};

/// The longest file that is read into a string: as long as a script's strings may be.
pub const MAX_FILE: u64 = 16 << 20;
/// The most output of a local process that is kept, each of stdout and stderr.
const MAX_OUTPUT: u64 = 16 << 20;

/// Where the overlay of a dry run keeps files.
const FILES: &str = "files";

/// What a dry run would have written.
#[derive(Debug, Clone)]
struct Written(String);

/// Reads a text file.
///
/// # Errors
/// When the access is not granted, the file cannot be read, is too long or is not UTF-8.
pub async fn read(ctx: &Context, path: &str) -> Result<String> {
    let file = resolve(ctx, path);
    ctx.check_path("reading it", &file)?;
    if let Seen::As(Written(text)) = ctx.overlay().get(FILES, &file.display().to_string()) {
        return Ok(text);
    }
    let fail = |source| Error::File { attempted: "read", path: path.to_owned(), source };
    let opened = tokio::fs::File::open(&file).await.map_err(fail)?;
    let mut bytes = Vec::new();
    opened.take(MAX_FILE + 1).read_to_end(&mut bytes).await.map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::argument(path, format!("has more than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::argument(path, "is not UTF-8 text"))
}

/// Writes a text file, whole or not at all.
#[derive(Debug)]
pub struct Write {
    path: String,
    text: String,
}

impl Write {
    /// Writes this text in place of what the file holds.
    #[must_use]
    pub fn new(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }
}

#[async_trait]
impl Operation for Write {
    type Output = ();
    const NAME: &'static str = "write_file";

    fn subject(&self) -> String {
        self.path.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let file = resolve(ctx, &self.path);
        let action = format!("write {} bytes to {}", self.text.len(), self.path);
        let name = file.display().to_string();
        let effect = Effect::exists(FILES, &name, Written(self.text.clone()));
        Ok(Plan::new(()).path(ctx.local(&file), action).effect(effect))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        let file = resolve(ctx, &self.path);
        let mut target = Target::create(&file).await?;
        target.write(self.text.as_bytes()).await?;
        target.finish().await
    }
}

/// What a local process came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The exit status; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs a local process.
#[derive(Debug)]
pub struct Run {
    program: String,
    args: Vec<String>,
    stdin: Option<String>,
}

impl Run {
    /// Runs this program with these arguments; no shell is between.
    #[must_use]
    pub fn new(program: &str, args: Vec<String>, stdin: Option<String>) -> Self {
        Self { program: program.to_owned(), args, stdin }
    }
}

#[async_trait]
impl Operation for Run {
    type Output = Ran;
    const NAME: &'static str = "host::run";

    fn subject(&self) -> String {
        self.program.clone()
    }

    async fn plan(&mut self, _ctx: &Context) -> Result<Plan<Ran>> {
        let preview = Ran { code: 0, stdout: String::new(), stderr: String::new() };
        let action = format!("run {} {}", self.program, self.args.join(" "));
        Ok(Plan::new(preview).step(Access::Host, self.program.clone(), action))
    }

    async fn apply(self, ctx: &Context) -> Result<Ran> {
        let fail = |source| Error::File { attempted: "run", path: self.program.clone(), source };
        let mut child = tokio::process::Command::new(&self.program)
            .args(&self.args)
            .current_dir(&ctx.settings().working_dir)
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(fail)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut pipe), Some(text)) = (stdin, &self.stdin) {
                // A program need not read its input to the end.
                let _ = pipe.write_all(text.as_bytes()).await;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (status, stdout, stderr, ()) = tokio::join!(child.wait(), collect(stdout), collect(stderr), feed);
        let status = status.map_err(fail)?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
        Ok(Ran { code: status.code().or(signal).unwrap_or(-1), stdout, stderr })
    }
}

/// Reads a pipe to its end, keeping only the first part.
async fn collect<R: tokio::io::AsyncRead + Unpin>(pipe: Option<R>) -> String {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = (&mut pipe).take(MAX_OUTPUT).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&kept).into_owned()
}
