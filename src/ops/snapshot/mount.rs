//! `snapshots::mount`: a snapshot's files on a folder of this host.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::mounts;
use crate::containerd::snapshots::Mount as SnapshotMount;
use crate::grant::Access;
use crate::ops::{Context, Error, Operation, Plan, Result, image};

/// Mounts a snapshot that is there.
#[derive(Debug)]
pub struct Mount {
    key: String,
    target: PathBuf,
    snapshotter: Option<String>,
    found: Vec<SnapshotMount>,
}

impl Mount {
    /// Mounts an active snapshot or a view on a folder, which is made if it is not there.
    #[must_use]
    pub fn new(key: &str, target: PathBuf, snapshotter: Option<String>) -> Self {
        Self { key: key.to_owned(), target, snapshotter, found: Vec::new() }
    }
}

#[async_trait]
impl Operation for Mount {
    type Output = PathBuf;
    const NAME: &'static str = "mount snapshot";

    fn subject(&self) -> String {
        format!("{} on {}", self.key, self.target.display())
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<PathBuf>> {
        let snapshotter = image::snapshotter(ctx, self.snapshotter.as_deref()).await?;
        self.found = mounts(ctx, &snapshotter, &self.key).await?;
        let target = self.target.display().to_string();
        let action = format!("mount snapshot {} on {target}", self.key);
        Ok(Plan::new(self.target.clone()).step(Access::Host, target, action))
    }

    async fn apply(self, _ctx: &Context) -> Result<PathBuf> {
        attach(&self.found, &self.target)?;
        Ok(self.target)
    }
}

/// Mounts one over the other on a folder, which is made if it is not there. When one fails nothing stays.
///
/// # Errors
/// [`Error::File`] with what the kernel says; most often root is needed.
pub(in crate::ops) fn attach(mounts: &[SnapshotMount], target: &Path) -> Result<()> {
    let is_new = !target.exists();
    std::fs::create_dir_all(target).map_err(|source| failed("make", target, source))?;
    for (count, one) in mounts.iter().enumerate() {
        if let Err(error) = mount_one(one, target) {
            for _ in 0..count {
                let _ = unmount(target, UnmountFlags::DETACH);
            }
            if is_new {
                let _ = std::fs::remove_dir(target);
            }
            return Err(error);
        }
    }
    Ok(())
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
