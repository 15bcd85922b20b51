//! `mount` and `unmount`: an image's files on a folder of this host.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::{Unpack, get, image_of, snapshotter};
use crate::containerd::images::{Deletion, Image};
use crate::containerd::leases::Resource;
use crate::containerd::snapshots::Kind;
use crate::containerd::{Client, Labels};
use crate::grant::Access;
use crate::oci::{Digest, Matcher};
use crate::ops::local::real;
use crate::ops::snapshot::{Wanted, attach, make};
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// Keeps a snapshot until it is removed by name (containerd docs/garbage-collection.md).
const KEEP: &str = "containerd.io/gc.root";
/// How long a mount may be busy: a process that is just being started has all files open that this one had, until it runs its
/// program.
const BUSY: Duration = Duration::from_millis(500);
/// The label that ctr puts on the lease of a mount. containerd 1.6 keeps only what is among the lease's resources.
const REFERS: &str = "containerd.io/gc.ref.snapshot.";

/// How an image is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Whether it can be written.
    pub writable: bool,
    /// Of which platform the files are.
    pub platform: Matcher,
    /// The snapshotter; without it, the place's default.
    pub snapshotter: Option<String>,
    /// How long the daemon keeps the snapshot behind it; without it, until it is removed by name.
    pub expiration: Option<Duration>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self { writable: false, platform: Matcher::host(), snapshotter: None, expiration: None }
    }
}

/// Mounts an image.
pub struct Mount {
    name: String,
    target: PathBuf,
    options: MountOptions,
    found: Option<Image>,
}

impl Mount {
    /// Mounts the image of that name on a folder. The folder's path is the snapshot's key, and the lease's id when it
    /// expires, as ctr has it; links in it are followed, as mount(2) does.
    #[must_use]
    pub fn new(name: &str, target: PathBuf, options: MountOptions) -> Self {
        Self { name: name.to_owned(), target: real(&target), options, found: None }
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
            .host_path(ctx.local(&self.target), format!("mount {} on {target}", image.name));
        self.found = Some(image);
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<PathBuf> {
        let image = match self.found {
            Some(image) => image,
            None => get(ctx, &self.name).await?,
        };
        let MountOptions { writable, platform, expiration, snapshotter: named } = self.options;
        let named = snapshotter(ctx, named.as_deref()).await?;
        let unpack = Unpack::new(&image.name, platform.clone(), Some(named.clone()));
        crate::ops::execute(ctx, unpack).await?;
        let (_, _, config) = image_of(ctx, &image, &platform).await?;
        let client = ctx.client().await?;
        let key = self.target.display().to_string();
        let mut undo = Undo::new(ctx.debts());
        let mut labels = Labels::new();
        match expiration {
            Some(lifetime) => lease(&client, &key, &named, lifetime, &mut undo).await?,
            None => drop(labels.insert(KEEP.to_owned(), chrono::Utc::now().to_rfc3339())),
        }
        let wanted = Wanted {
            key: key.clone(),
            parent: config.chain_ids().last().map(Digest::to_string),
            kind: if writable { Kind::Active } else { Kind::View },
            labels,
        };
        let mounts = match make(&client, &named, wanted, &mut undo).await? {
            Err(error) if error.is_already_exists() => return Err(mounted_already(&key)),
            other => other?,
        };
        attach(&mounts, &self.target)?;
        undo.forget();
        Ok(self.target)
    }
}

/// Makes the lease that keeps the snapshot of a mount for a while.
async fn lease(client: &Client, key: &str, snapshotter: &str, lifetime: Duration, undo: &mut Undo) -> Result<()> {
    let labels = Labels::from([(format!("{REFERS}{snapshotter}"), key.to_owned())]);
    let snapshot = Resource::Snapshot { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
    let (leases, id) = (client.leases(), key.to_owned());
    let step = async move { leases.create_named(&id, Some(lifetime), &labels).await };
    let (undoing, id) = (client.undoing().leases(), key.to_owned());
    let back = async move { undoing.delete(&id, Deletion::Later).await };
    match undo.step(format!("lease {key}"), step, back).await? {
        // Before it is made, so that there is no moment in which it could be collected.
        Ok(_) => Ok(client.leases().add_resource(key, &snapshot).await?),
        Err(error) if error.is_already_exists() => Err(mounted_already(key)),
        Err(error) => Err(error.into()),
    }
}

fn mounted_already(key: &str) -> Error {
    Error::Conflict {
        what: "folder",
        name: key.to_owned(),
        state: "has an image mounted on it already".into(),
        cure: Some(format!("unmount(\"{key}\") takes it away")),
    }
}

/// Unmounts what [`Mount`] mounted.
pub struct Unmount {
    target: PathBuf,
    given: PathBuf,
    remove: bool,
    snapshotter: Option<String>,
}

impl Unmount {
    /// Unmounts a folder and, with `remove`, removes the snapshot behind it and its lease.
    #[must_use]
    pub fn new(target: PathBuf, remove: bool, snapshotter: Option<String>) -> Self {
        Self { target: real(&target), given: target, remove, snapshotter }
    }
}

impl Unmount {
    /// Returns the keys that the snapshot may have: where the path leads, and the path as ctr was given it.
    fn keys(&self) -> Vec<String> {
        let mut keys = vec![self.target.display().to_string(), self.given.display().to_string()];
        keys.dedup();
        keys
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
        let mut plan = Plan::new(()).host_path(ctx.local(&self.target), format!("unmount {target}"));
        if self.remove {
            plan = plan.step(Access::Delete, ctx.target(), format!("remove the snapshot of {target}"));
        }
        Ok(plan)
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        let begun = Instant::now();
        let unmounted = loop {
            match unmount(&self.target, UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) if begun.elapsed() < BUSY => tokio::time::sleep(BUSY / 20).await,
                other => break other,
            }
        };
        match unmounted {
            Ok(()) => {}
            // Nothing is mounted there: the snapshot may still be.
            Err(Errno::INVAL) if !is_mounted(&self.target)? => {}
            Err(error) => return Err(Error::file("unmount", &self.target)(error.into())),
        }
        if self.remove {
            let named = snapshotter(ctx, self.snapshotter.as_deref()).await?;
            let client = ctx.client().await?.undoing();
            for key in self.keys() {
                client.leases().delete(&key, Deletion::Later).await?;
                match client.snapshots(&named).remove(&key).await {
                    Err(error) if error.is_not_found() => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }
}

/// Returns whether something is mounted on a folder.
fn is_mounted(folder: &Path) -> Result<bool> {
    let table = Path::new("/proc/self/mountinfo");
    Ok(lists(&std::fs::read(table).map_err(Error::file("read", table))?, folder.as_os_str()))
}

/// Returns whether a table of mounts has a mount point (proc_pid_mountinfo(5), field 5).
fn lists(table: &[u8], folder: &OsStr) -> bool {
    let mut escaped = Vec::new();
    for byte in folder.as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            other => escaped.push(*other),
        }
    }
    table.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(&escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_found_by_its_whole_name() {
        let table = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
                      37 35 0:5 / /mnt/back\\134slash rw - tmpfs tmpfs rw\n";
        for (folder, mounted) in [
            ("/mnt/a b", true),
            ("/mnt/back\\slash", true),
            ("/mnt/a", false),
            ("/mnt", false),
            ("/mnt/a\\040b", false),
            ("/", false),
        ] {
            assert_eq!(lists(table, OsStr::new(folder)), mounted, "{folder}");
        }
        assert!(is_mounted(Path::new("/proc")).unwrap());
    }
}
