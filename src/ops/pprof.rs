//! `pprof::read`, `pprof::save`: what the Go runtime of containerd, or of a shim, measures of itself.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;

use crate::containerd::Endpoint;
use crate::containerd::profile::{Profile, Profiler};
use crate::ops::content::MAX_READ;
use crate::ops::file::{Target, resolve};
use crate::ops::{Context, Error, Operation, Plan, Result};

/// What is to be measured, and where.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is measured.
    pub profile: Profile,
    /// The form: 0 is the binary one, 1 and 2 are text.
    pub form: usize,
    /// How long it is measured, of what takes time.
    pub length: Option<Duration>,
    /// The debug socket, when not the one beside the daemon's.
    pub socket: Option<Endpoint>,
    /// The shim that is measured instead of the daemon.
    pub shim: Option<String>,
}

impl Wanted {
    fn profiler(&self, ctx: &Context) -> Result<Profiler> {
        let endpoint = ctx.place().daemon.endpoint();
        let (subject, grant) = (ctx.target(), ctx.grant());
        Ok(match (&self.shim, &self.socket) {
            (Some(id), None) => Profiler::shim(endpoint, ctx.namespace(), id, &subject, grant)?,
            (_, socket) => Profiler::daemon(endpoint, socket.as_ref(), &subject, grant),
        })
    }

    fn name(&self) -> &'static str {
        self.profile.as_str()
    }
}

/// Reads a profile into memory.
///
/// # Errors
/// Why there is no answer, or that it is longer than [`MAX_READ`].
pub async fn read(ctx: &Context, wanted: &Wanted) -> Result<Bytes> {
    let mut stream = wanted.profiler(ctx)?.read(wanted.profile, wanted.form, wanted.length).await?;
    let mut bytes = BytesMut::new();
    while let Some(part) = stream.try_next().await? {
        if (bytes.len() + part.len()) as u64 > MAX_READ {
            return Err(Error::Argument {
                name: format!("profile {}", wanted.name()),
                problem: format!("has more than the {MAX_READ} bytes that are read into memory"),
                cure: Some("pprof::save writes it to a file".into()),
            });
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

/// Writes a profile into a local file.
#[derive(Debug)]
pub struct Save {
    wanted: Wanted,
    path: PathBuf,
}

impl Save {
    /// Writes what is wanted into this file.
    #[must_use]
    pub fn new(wanted: Wanted, path: PathBuf) -> Self {
        Self { wanted, path }
    }
}

#[async_trait]
impl Operation for Save {
    type Output = u64;
    const NAME: &'static str = "pprof::save";

    fn subject(&self) -> String {
        self.wanted.name().to_owned()
    }

    /// How long it will be is not known before: a dry run returns 0.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<u64>> {
        let profiler = self.wanted.profiler(ctx)?;
        let path = resolve(ctx, &self.path);
        let from = profiler.socket().display();
        let action = format!("write profile {} of {from} to {}", self.wanted.name(), self.path.display());
        Ok(Plan::new(0).path(ctx.local(&path), action))
    }

    async fn apply(self, ctx: &Context) -> Result<u64> {
        let Wanted { profile, form, length, .. } = self.wanted;
        // The file is made only when there is something to write.
        let mut stream = self.wanted.profiler(ctx)?.read(profile, form, length).await?;
        let mut target = Target::create(&resolve(ctx, &self.path)).await?;
        let mut size = 0;
        while let Some(part) = stream.try_next().await? {
            target.write(&part).await?;
            size += part.len() as u64;
        }
        target.finish().await?;
        Ok(size)
    }
}
