//! `mount` and `unmount`: an image's files on a folder of this host.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::{Unpack, get, image_of, snapshotter};
use crate::containerd::Labels;
use crate::containerd::images::Image;
use crate::containerd::snapshots::Mount as SnapshotMount;
use crate::grant::Access;
use crate::oci::Matcher;
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// Keeps a snapshot until it is removed by name (containerd docs/garbage-collection.md).
const KEEP: &str = "containerd.io/gc.root";

/// Mounts an image.
pub struct Mount {
    name: String,
    target: PathBuf,
    writable: bool,
    platform: Matcher,
    snapshotter: Option<String>,
    found: Option<Image>,
}

impl Mount {
    /// Mounts the image of that name on a folder, read-only unless `writable`. The folder's path is the snapshot's key.
    #[must_use]
    pub fn new(name: &str, target: PathBuf, writable: bool, platform: Matcher, snapshotter: Option<String>) -> Self {
        Self { name: name.to_owned(), target, writable, platform, snapshotter, found: None }
    }
}

#[async_trait]
impl Operation for Mount {
    type Output = PathBuf;
    const NAME: &'static str = "mount";

    fn subject(&self) -> String {
        format!("{} on {}", self.name, self.target.display())
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<PathBuf>> {
        let image = get(ctx, &self.name).await?;
        let target = self.target.display().to_string();
        let plan = Plan::new(self.target.clone())
            .step(Access::Write, ctx.target(), format!("make a snapshot of {} for {target}", image.name))
            .step(Access::Host, target.clone(), format!("mount {} on {target}", image.name));
        self.found = Some(image);
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<PathBuf> {
        let image = match self.found {
            Some(image) => image,
            None => get(ctx, &self.name).await?,
        };
        let named = snapshotter(ctx, self.snapshotter.as_deref()).await?;
        let unpack = Unpack::new(&image.name, self.platform.clone(), Some(named.clone()));
        crate::ops::execute(ctx, unpack).await?;
        let (_, _, config) = image_of(ctx, &image, &self.platform).await?;
        let top = config.chain_ids().pop();
        let client = ctx.client().await?;
        let snapshots = client.snapshots(&named);
        let key = self.target.display().to_string();
        let labels = Labels::from([(KEEP.to_owned(), chrono::Utc::now().to_rfc3339())]);
        let parent = top.as_ref().map(crate::oci::Digest::as_str);
        let mut undo = Undo::new(ctx.debts());
        let made = if self.writable {
            snapshots.prepare(&key, parent, &labels).await
        } else {
            snapshots.view(&key, parent, &labels).await
        };
        let mounts = match made {
            Err(error) if error.is_already_exists() => {
                return Err(Error::Conflict {
                    what: "folder",
                    name: key.clone(),
                    state: "has an image mounted on it already".into(),
                    cure: Some(format!("unmount(\"{key}\") takes it away")),
                });
            }
            other => other?,
        };
        let (undoing, gone) = (client.undoing().snapshots(&named), key.clone());
        undo.push(async move {
            let _ = undoing.remove(&gone).await;
        });
        let target = self.target.clone();
        std::fs::create_dir_all(&target).map_err(|source| failed("make", &target, source))?;
        for one in &mounts {
            mount_one(one, &target)?;
        }
        undo.forget();
        Ok(self.target)
    }
}

fn failed(attempted: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { attempted, path: path.display().to_string(), source }
}

/// Mounts as containerd's mount package does: words that are flags of mount(2) become flags, the rest is data.
fn mount_one(one: &SnapshotMount, target: &Path) -> Result<()> {
    let mut flags = MountFlags::empty();
    let mut read_only = false;
    let mut data = Vec::new();
    for option in &one.options {
        match option.as_str() {
            "ro" => read_only = true,
            "rw" => {}
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            other => data.push(other),
        }
    }
    let bind = flags.contains(MountFlags::BIND);
    if read_only && !bind {
        flags |= MountFlags::RDONLY;
    }
    let data = CString::new(data.join(",")).unwrap_or_default();
    let data = (!data.is_empty()).then_some(data.as_c_str());
    mount(one.source.as_str(), target, one.kind.as_str(), flags, data)
        .map_err(|error| failed("mount on", target, error.into()))?;
    if read_only && bind {
        // A bind mount takes the flag only when it is mounted again.
        let again = mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"");
        if let Err(error) = again {
            let _ = unmount(target, UnmountFlags::DETACH);
            return Err(failed("mount read-only on", target, error.into()));
        }
    }
    Ok(())
}

/// Unmounts what [`Mount`] mounted.
pub struct Unmount {
    target: PathBuf,
    keep_snapshot: bool,
    snapshotter: Option<String>,
}

impl Unmount {
    /// Unmounts a folder and removes the snapshot behind it, unless that is to be kept.
    #[must_use]
    pub fn new(target: PathBuf, keep_snapshot: bool, snapshotter: Option<String>) -> Self {
        Self { target, keep_snapshot, snapshotter }
    }
}

#[async_trait]
impl Operation for Unmount {
    type Output = ();
    const NAME: &'static str = "unmount";

    fn subject(&self) -> String {
        self.target.display().to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let target = self.target.display().to_string();
        let mut plan = Plan::new(()).step(Access::Host, target.clone(), format!("unmount {target}"));
        if !self.keep_snapshot {
            plan = plan.step(Access::Write, ctx.target(), format!("remove the snapshot of {target}"));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        match unmount(&self.target, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there: the snapshot may still be.
            Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(failed("unmount", &self.target, error.into())),
        }
        if !self.keep_snapshot {
            let named = snapshotter(ctx, self.snapshotter.as_deref()).await?;
            let snapshots = ctx.client().await?.undoing().snapshots(&named);
            match snapshots.remove(&self.target.display().to_string()).await {
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
        Ok(())
    }
}
