//! `snapshots::diff`: what changed from one snapshot to another, as a layer.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{KEEP, Wanted, get, make, mounts};
use crate::containerd::snapshots::{Kind, Mount};
use crate::containerd::{Client, Labels};
use crate::grant::Access;
use crate::oci::{Descriptor, Digest, MediaType};
use crate::ops::file::{Target, resolve};
use crate::ops::lease::Leased;
use crate::ops::undo::Undo;
use crate::ops::{Context, Operation, Plan, Result, image};

/// What a diff may be told.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// The sort of layer.
    pub media_type: MediaType,
    /// What names the ingest; without it, a name is made up.
    pub reference: Option<String>,
    /// Labels for the blob.
    pub labels: Labels,
    /// Whether the blob stays until it is deleted by name. Else it goes when the lease does that it was made under.
    pub keep: bool,
    /// The file to write the layer to.
    pub path: Option<PathBuf>,
    /// The snapshotter; without it, the place's default.
    pub snapshotter: Option<String>,
}

/// Packs what differs between two snapshots into a layer.
#[derive(Debug)]
pub struct Diff {
    from: Option<String>,
    to: String,
    options: DiffOptions,
}

impl Diff {
    /// Packs what `to` has other than `from` has; without `from`, than its parent has.
    #[must_use]
    pub fn new(from: Option<String>, to: &str, options: DiffOptions) -> Self {
        Self { from, to: to.to_owned(), options }
    }
}

#[async_trait]
impl Operation for Diff {
    type Output = Descriptor;
    const NAME: &'static str = "diff";

    fn subject(&self) -> String {
        match &self.from {
            Some(from) => format!("{from} to {}", self.to),
            None => self.to.clone(),
        }
    }

    /// What the layer will be is not known before it is made: a dry run returns the empty one.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Descriptor>> {
        let snapshotter = image::snapshotter(ctx, self.options.snapshotter.as_deref()).await?;
        for key in self.from.iter().chain([&self.to]) {
            get(ctx, &snapshotter, key).await?;
        }
        self.options.snapshotter = Some(snapshotter);
        let preview = Descriptor::new(self.options.media_type.clone(), Digest::sha256(b""), 0);
        let action = format!("pack what changed: {}", self.subject());
        let mut plan = Plan::new(preview).step(Access::Write, ctx.target(), action);
        if let Some(path) = &self.options.path {
            plan = plan.path(ctx.local(path), format!("write the layer to {}", path.display()));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<Descriptor> {
        let snapshotter = image::snapshotter(ctx, self.options.snapshotter.as_deref()).await?;
        let leased = Leased::new(ctx).await?;
        // The views are taken back when all is done, too.
        let mut undo = Undo::new(ctx.debts());
        let mut labels = self.options.labels.clone();
        if self.options.keep {
            labels.insert(KEEP.to_owned(), chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        }
        let packing = Packing {
            snapshotter: &snapshotter,
            from: self.from.as_deref(),
            to: &self.to,
            media_type: &self.options.media_type,
            reference: self.options.reference.as_deref(),
            labels: &labels,
        };
        let made = packing.run(ctx, leased.client(), &mut undo).await?;
        if let Some(path) = &self.options.path {
            write(leased.client(), &made, &resolve(ctx, path)).await?;
        }
        leased.release().await?;
        Ok(made)
    }
}

/// A layer to be made of what differs between two snapshots.
pub(in crate::ops) struct Packing<'a> {
    /// The snapshotter.
    pub(in crate::ops) snapshotter: &'a str,
    /// The older one; without it, the parent of the newer one.
    pub(in crate::ops) from: Option<&'a str>,
    /// The newer one.
    pub(in crate::ops) to: &'a str,
    /// The sort of layer.
    pub(in crate::ops) media_type: &'a MediaType,
    /// What names the ingest; without it, a name is made up.
    pub(in crate::ops) reference: Option<&'a str>,
    /// Labels for the blob.
    pub(in crate::ops) labels: &'a Labels,
}

impl Packing<'_> {
    /// Makes it in the content store. Of what is committed it makes views, which are left to the undo; the client should have
    /// a lease.
    ///
    /// # Errors
    /// When there is no such snapshot, or the daemon cannot make such a layer.
    pub(in crate::ops) async fn run(&self, ctx: &Context, client: &Client, undo: &mut Undo) -> Result<Descriptor> {
        let unique = format!("diff-{}-{:08x}", chrono::Utc::now().timestamp_subsec_nanos(), rand::random::<u32>());
        let to = get(ctx, self.snapshotter, self.to).await?.info;
        let lower = match self.from {
            None => self.view(client, format!("{unique}-lower"), to.parent.as_deref(), undo).await?,
            Some(from) => match get(ctx, self.snapshotter, from).await?.info.kind {
                Kind::Committed => self.view(client, format!("{unique}-lower"), Some(from), undo).await?,
                _ => mounts(ctx, self.snapshotter, from).await?,
            },
        };
        let upper = match to.kind {
            Kind::Committed => self.view(client, format!("{unique}-upper"), Some(self.to), undo).await?,
            _ => mounts(ctx, self.snapshotter, self.to).await?,
        };
        let reference = self.reference.unwrap_or(&unique);
        let made = client.diff().compare(&lower, &upper, self.media_type, reference, self.labels).await?;
        // What the store had already, the daemon leaves as it is.
        client.content().ensure_labels(&made.digest, self.labels).await?;
        Ok(made)
    }

    async fn view(&self, client: &Client, key: String, parent: Option<&str>, undo: &mut Undo) -> Result<Vec<Mount>> {
        let wanted = Wanted { key, parent: parent.map(str::to_owned), kind: Kind::View, labels: Labels::new() };
        Ok(make(client, self.snapshotter, wanted, undo).await??)
    }
}

/// Writes a blob to a file, which appears when it is whole.
async fn write(client: &Client, blob: &Descriptor, path: &Path) -> Result<()> {
    let mut target = Target::create(path).await?;
    let bytes = client.content().open_to_read(&blob.digest, 0).await?;
    target.take(&blob.digest, blob.size, bytes).await?;
    target.finish().await
}
