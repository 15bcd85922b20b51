//! `snapshots::commit`: makes an active snapshot a committed one.

use async_trait::async_trait;

use super::{Snapshot, client, get, keeping, place, taken};
use crate::containerd::Labels;
use crate::containerd::snapshots::{Info, Kind};
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, Seen, image};

/// Makes an active snapshot a committed one of another key, which others can stand on.
#[derive(Debug)]
pub struct Commit {
    key: String,
    active: String,
    labels: Labels,
    snapshotter: Option<String>,
}

impl Commit {
    /// Commits the active snapshot under the key, with these labels in place of its own.
    #[must_use]
    pub fn new(key: &str, active: &str, labels: Labels, snapshotter: Option<String>) -> Self {
        Self { key: key.to_owned(), active: active.to_owned(), labels, snapshotter }
    }
}

#[async_trait]
impl Operation for Commit {
    type Output = Snapshot;
    const NAME: &'static str = "commit snapshot";

    fn subject(&self) -> String {
        format!("{} as {}", self.active, self.key)
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Snapshot>> {
        let snapshotter = image::snapshotter(ctx, self.snapshotter.as_deref()).await?;
        let found = get(ctx, &snapshotter, &self.active).await?;
        if found.info.kind != Kind::Active {
            return Err(Error::Conflict {
                what: "snapshot",
                name: self.active.clone(),
                state: format!("is {}, and only an active one can be committed", found.info.kind.as_str()),
                cure: Some("snapshots::list(\"kind==active\") shows those".into()),
            });
        }
        let at = place(ctx, &snapshotter);
        if let Seen::As(_) = ctx.overlay().get::<Snapshot>(&at, &self.key) {
            return Err(taken(&self.key));
        }
        let info = Info {
            name: self.key.clone(),
            kind: Kind::Committed,
            labels: keeping(ctx, &self.labels),
            updated_at: chrono::Utc::now(),
            ..found.info
        };
        let preview = Snapshot { snapshotter: snapshotter.clone(), info };
        self.snapshotter = Some(snapshotter);
        Ok(Plan::new(preview.clone())
            .step(Access::Write, ctx.target(), format!("commit snapshot {} as {}", self.active, self.key))
            .effect(Effect::gone::<Snapshot>(&at, &self.active))
            .effect(Effect::exists(&at, &self.key, preview)))
    }

    async fn apply(self, ctx: &Context) -> Result<Snapshot> {
        let snapshotter = image::snapshotter(ctx, self.snapshotter.as_deref()).await?;
        let snapshots = client(ctx).await?.snapshots(&snapshotter);
        match snapshots.commit(&self.key, &self.active, &keeping(ctx, &self.labels)).await {
            Err(error) if error.is_already_exists() => return Err(taken(&self.key)),
            other => other?,
        }
        Ok(Snapshot { info: snapshots.stat(&self.key).await?, snapshotter })
    }
}
