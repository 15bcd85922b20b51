//! `cp`: copies files and folders from a container and into one, whether it runs or not.

mod item;
mod root;
mod side;
mod tree;

pub use tree::Tally;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::fs::{Gid, Uid, fstat};

use self::item::Item;
use self::side::Side;
use self::tree::{Copying, Rules};
use super::{Snapshot, snapshot};
use crate::grant::Access;
use crate::ops::file::resolve;
use crate::ops::progress::Level;
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// Which way files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the container to this host.
    Out,
    /// From this host into the container.
    In,
}

/// How files are copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyFilesOptions {
    /// Whether owners, set-user-ID bits, capabilities and devices are kept.
    pub archive: bool,
    /// Whether a link that is named as the source is followed.
    pub follow: bool,
}

/// Copies a file or a folder between a container and this host.
#[derive(Debug)]
pub struct CopyFiles {
    id: String,
    direction: Direction,
    inside: PathBuf,
    outside: PathBuf,
    options: CopyFilesOptions,
    found: Option<Snapshot>,
}

impl CopyFiles {
    /// Copies between a path of the container and one of this host.
    #[must_use]
    pub fn new(id: &str, direction: Direction, inside: &str, outside: &str, options: CopyFilesOptions) -> Self {
        let (id, inside, outside) = (id.to_owned(), inside.into(), outside.into());
        Self { id, direction, inside, outside, options, found: None }
    }
}

#[async_trait]
impl Operation for CopyFiles {
    type Output = Tally;
    const NAME: &'static str = "cp";

    fn subject(&self) -> String {
        let (inside, outside) = (format!("{}:{}", self.id, self.inside.display()), self.outside.display());
        match self.direction {
            Direction::Out => format!("{inside} to {outside}"),
            Direction::In => format!("{outside} to {inside}"),
        }
    }

    /// What there is to copy is not known before it is read: a dry run returns nothing.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Tally>> {
        for (what, path) in [("path in the container", &self.inside), ("path", &self.outside)] {
            if path.as_os_str().is_empty() {
                return Err(Error::argument(what, "is empty"));
            }
        }
        let found = snapshot(ctx, &self.id).await?;
        let outside = resolve(ctx, &self.outside);
        let shown = outside.display();
        let inside = format!("{} of container {}", self.inside.display(), self.id);
        let plan = Plan::new(Tally::default());
        let plan = match self.direction {
            Direction::Out => plan
                .step(Access::Host, ctx.target(), format!("read {inside}"))
                .path(ctx.local(&outside), format!("write {shown}")),
            Direction::In => plan.path(ctx.local(&outside), format!("read {shown}")).step(
                Access::Host,
                ctx.target(),
                format!("write {inside}"),
            ),
        };
        self.found = Some(found);
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Tally> {
        let found = match self.found {
            Some(found) => found,
            None => snapshot(ctx, &self.id).await?,
        };
        let task = found.task.as_ref().filter(|task| task.status.is_alive());
        let root = root::open(ctx, &found.container, task).await?;
        let host = Side { root: None, label: String::new() };
        let outside = resolve(ctx, &self.outside);
        let work = Work {
            direction: self.direction,
            inside: (Side { root: Some(root), label: format!("{}:", self.id) }, self.inside),
            // A slash or dot at the end means something, which joining keeps.
            outside: (host, outside),
            options: self.options,
        };
        let meter = ctx.progress().meter(&format!("files of {}", self.id), None);
        meter.phase("copying");
        let (cancel, shown) = (ctx.grant().cancel().clone(), std::sync::Arc::clone(&meter));
        let copying = tokio::task::spawn_blocking(move || work.run(cancel, shown));
        // A thread is not ended by dropping what waits for it: it hears the token, and is waited for.
        let mut undo = Undo::new(ctx.debts());
        let step = async move { copying.await? };
        let tally = undo.step(format!("a copy of files of {}", self.id), step, async {}).await??;
        undo.forget();
        meter.done("copied");
        if tally.left_out > 0 {
            let text = format!("{}: {} sockets, devices or views of the kernel were left out", self.id, tally.left_out);
            ctx.note(Level::Info, &text);
        }
        if tally.bare > 0 {
            let text = format!(
                "{}: {} files lost attributes, such as capabilities: the file system of the target takes none",
                self.id, tally.bare
            );
            ctx.note(Level::Warn, &text);
        }
        Ok(tally)
    }
}

/// What the thread that copies is given.
struct Work {
    direction: Direction,
    inside: (Side, PathBuf),
    outside: (Side, PathBuf),
    options: CopyFilesOptions,
}

impl Work {
    fn run(
        self,
        cancel: tokio_util::sync::CancellationToken,
        meter: std::sync::Arc<dyn crate::ops::progress::Meter>,
    ) -> Result<Tally> {
        let owner = match (self.direction, &self.inside.0.root) {
            // Whoever is root in the container, which another user of the host may be.
            (Direction::In, Some(root)) => {
                let stat = fstat(root).map_err(|error| Error::file("read", &self.inside.1)(error.into()))?;
                Some((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)))
            }
            _ => None,
        };
        let rules = Rules { archive: self.options.archive, owner, harmless: self.direction == Direction::Out };
        let ((from, source), (to, target)) = match self.direction {
            Direction::Out => (self.inside, self.outside),
            Direction::In => (self.outside, self.inside),
        };
        let unread = |error| absent(&from, &source, error, "read");
        let item = Item::at(&from, &source, self.options.follow).map_err(unread)?;
        let content = source.as_os_str().as_encoded_bytes().ends_with(b"/.");
        let name = source.file_name().filter(|_| !content || !item.is_folder());
        let unwritten = |error| absent(&to, &target, error, "write to");
        let place = to.place(&target, name, item.is_folder()).map_err(unwritten)?;
        Copying::new(rules, from.name(&source), place, cancel, meter).run(item)
    }
}

/// Names a path that is not there, or is another thing than it has to be.
fn absent(side: &Side, path: &Path, error: std::io::Error, attempted: &'static str) -> Error {
    let name = side.name(path);
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            let cure = (attempted != "read").then(|| "make the folder that it goes to first".to_owned());
            Error::NotFound { what: "path", name, nearest: None, cure }
        }
        _ => Error::file(attempted, Path::new(&name))(error),
    }
}
