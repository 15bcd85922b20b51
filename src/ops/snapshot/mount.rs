//! `snapshots::mount`: a snapshot's files on a folder of this host.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use async_trait::async_trait;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::chdir;
use rustix::thread::UnshareFlags;

use super::mounts;
use crate::containerd::snapshots::Mount as SnapshotMount;
use crate::ops::{Context, Error, Operation, Plan, Result, image};

/// The longest data of a mount: a page, with the zero at its end (`mount(2)`). An overlay of 50 layers is longer.
const MAX_DATA: usize = 4095;

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
        let action = format!("mount snapshot {} on {}", self.key, self.target.display());
        Ok(Plan::new(self.target.clone()).host_path(ctx.local(&self.target), action))
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
    std::fs::create_dir_all(target).map_err(Error::file("make", target))?;
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
    let mounted = match data.join(",") {
        data if data.len() <= MAX_DATA => raw(one, target, flags, data),
        _ => compact(&data).and_then(|(folder, data)| from(&folder, one, target, flags, data)),
    };
    mounted.map_err(Error::file("mount on", target))?;
    if read_only && bind {
        // A bind mount takes the flag only when it is mounted again.
        let again = mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"");
        if let Err(error) = again {
            let _ = unmount(target, UnmountFlags::DETACH);
            return Err(Error::file("mount read-only on", target)(error.into()));
        }
    }
    Ok(())
}

fn raw(one: &SnapshotMount, target: &Path, flags: MountFlags, data: String) -> io::Result<()> {
    let data = CString::new(data)?;
    let data = (!data.is_empty()).then_some(data.as_c_str());
    Ok(mount(one.source.as_str(), target, one.kind.as_str(), flags, data)?)
}

/// Mounts what is named from a folder on.
fn from(folder: &Path, one: &SnapshotMount, target: &Path, flags: MountFlags, data: String) -> io::Result<()> {
    let target = std::path::absolute(target)?;
    // A thread of its own, as the working folder is one of the whole process otherwise.
    let mounting = || {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; what that warns of, unsharing descriptors, is not done here"
        )]
        rustix::thread::unshare(UnshareFlags::FS)?;
        chdir(folder)?;
        raw(one, &target, flags, data)
    };
    thread::scope(|scope| scope.spawn(mounting).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts ended")))
}

/// Shortens the data of an overlay of many layers: the folder that has them all, and their names from there.
fn compact(options: &[&str]) -> io::Result<(PathBuf, String)> {
    let too_long = || io::Error::other(format!("its options are longer than the {MAX_DATA} bytes that mount(2) takes"));
    let layers = options.iter().find_map(|option| option.strip_prefix("lowerdir=")).ok_or_else(too_long)?;
    let layers: Vec<&Path> = layers.split(':').map(Path::new).collect();
    let mut folder = layers[0];
    while !layers.iter().all(|layer| layer.starts_with(folder) && *layer != folder) {
        folder = folder.parent().ok_or_else(too_long)?;
    }
    let names = layers.iter().filter_map(|layer| layer.strip_prefix(folder).ok()?.to_str());
    let short = format!("lowerdir={}", names.collect::<Vec<_>>().join(":"));
    let data: Vec<&str> =
        options.iter().map(|option| if option.starts_with("lowerdir=") { short.as_str() } else { option }).collect();
    let data = data.join(",");
    if data.len() > MAX_DATA { Err(too_long()) } else { Ok((folder.to_owned(), data)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_from_the_folder_that_has_them_all() {
        let (folder, data) = compact(&["index=off", "upperdir=/a/s/3/fs", "lowerdir=/a/s/2/fs:/a/s/1/fs"]).unwrap();
        assert_eq!(folder, Path::new("/a/s"));
        assert_eq!(data, "index=off,upperdir=/a/s/3/fs,lowerdir=2/fs:1/fs");
        assert_eq!(compact(&["lowerdir=/a/1:/b/2"]).unwrap(), (PathBuf::from("/"), "lowerdir=a/1:b/2".to_owned()));
        assert_eq!(compact(&["lowerdir=/a/b/c"]).unwrap(), (PathBuf::from("/a/b"), "lowerdir=c".to_owned()));
        let many = format!("lowerdir={}", vec!["/a/layer"; 700].join(":"));
        let error = compact(&[&many]).unwrap_err().to_string();
        assert!(error.contains("4095 bytes"), "{error}");
        assert!(compact(&["size=1"]).is_err());
    }
}
