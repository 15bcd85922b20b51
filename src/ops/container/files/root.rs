//! Opens a container's root folder: that of its first process while it runs, else its snapshot.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::containerd::containers::Container;
use crate::containerd::snapshots::Mount;
use crate::containerd::tasks::Task;
use crate::ops::snapshot::Mounted;
use crate::ops::{Context, Error, Result};

/// Opens the root of a container. While it runs, what is mounted in it is seen too, as its processes see it.
pub(super) async fn open(ctx: &Context, container: &Container, task: Option<&Task>) -> Result<OwnedFd> {
    if container.snapshot_key.is_empty() {
        return Err(Error::Conflict {
            what: "container",
            name: container.id.clone(),
            state: "has no snapshot: its root filesystem is a folder of the host".into(),
            cure: Some("copy there and from there with host::run".into()),
        });
    }
    let snapshots = ctx.client().await?.snapshots(&container.snapshotter);
    let mounts = snapshots.mounts(&container.snapshot_key).await?;
    let (id, pid, folder) = (container.id.clone(), task.map(|task| task.pid), ctx.settings().temp_dir.clone());
    let opening = tokio::task::spawn_blocking(move || match pid {
        Some(pid) => of_process(&id, pid, &mounts),
        None => of_snapshot(&mounts, &folder),
    });
    opening.await?
}

fn of_process(id: &str, pid: u32, mounts: &[Mount]) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, path.as_str(), flags, Mode::empty());
    let root = root.map_err(|error| Error::file("open", Path::new(&path))(error.into()));
    // The number means something in the daemon's PID namespace alone: elsewhere it is another process, or none.
    match root {
        Ok(root) if is_root(&root, pid, mounts).unwrap_or(false) => Ok(root),
        Err(error) if Path::new(&format!("/proc/{pid}")).exists() => Err(error),
        Ok(_) | Err(_) => Err(Error::Conflict {
            what: "container",
            name: id.to_owned(),
            state: format!("runs as process {pid}, which is not that here"),
            cure: Some("run ctrsh on the daemon's host, in its PID namespace".into()),
        }),
    }
}

/// Returns whether a process has these mounts as its root.
fn is_root(root: &OwnedFd, pid: u32, mounts: &[Mount]) -> io::Result<bool> {
    let Some(top) = mounts.last() else { return Ok(false) };
    if top.kind == "bind" || top.options.iter().any(|option| option == "bind" || option == "rbind") {
        let (there, here) = (fs::metadata(&top.source)?, fstat(root)?);
        return Ok((there.dev(), there.ino()) == (here.st_dev, here.st_ino));
    }
    Ok(stands_on(&fs::read_to_string(format!("/proc/{pid}/mountinfo"))?, top))
}

/// Returns whether a table of mounts has one as its root.
fn stands_on(table: &str, top: &Mount) -> bool {
    let wanted = |key: &str| top.options.iter().find_map(|option| option.strip_prefix(key));
    let (upper, lower) = (wanted("upperdir="), wanted("lowerdir="));
    // ID, parent, device, root, mount point, options, tags, "-", kind, source, options (proc_pid_mountinfo(5)).
    table.lines().filter(|line| line.split(' ').nth(4) == Some("/")).any(|line| {
        let (_, behind) = line.split_once(" - ").unwrap_or_default();
        let mut words = behind.split(' ');
        let (_kind, source) = (words.next(), words.next());
        let options = words.next().unwrap_or_default();
        let shown = |key: &str| options.split(',').find_map(|option| option.strip_prefix(key));
        match (upper, lower) {
            (Some(upper), _) => shown("upperdir=") == Some(upper),
            // A view has no folder of its own. All overlays have the same source.
            (None, Some(lower)) => {
                shown("upperdir=").is_none() && shown("lowerdir=").is_some_and(|shown| same_layers(lower, shown))
            }
            (None, None) => source == Some(&top.source),
        }
    })
}

/// Compares lists of layers. Of many the daemon says only where they are from a folder on (containerd `mount/mount_linux.go`).
fn same_layers(wanted: &str, shown: &str) -> bool {
    let (wanted, shown): (Vec<_>, Vec<_>) = (wanted.split(':').collect(), shown.split(':').collect());
    wanted.len() == shown.len() && wanted.iter().zip(shown).all(|(wanted, shown)| Path::new(wanted).ends_with(shown))
}

/// Mounts a snapshot and takes the mount away again, but for a copy of it that has no place in the tree and goes with what
/// is returned, however this process ends. Just to keep the mount open would not do: without a mount namespace each link
/// that is followed disturbs the look-up of `..` (`openat2(2)`, EAGAIN).
fn of_snapshot(mounts: &[Mount], folder: &Path) -> Result<OwnedFd> {
    let place = Mounted::new(mounts, folder)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, place.path(), flags).map_err(|error| Error::file("open", place.path())(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_known_by_its_layers() {
        let of = |kind: &str, source: &str, options: &[&str]| Mount {
            kind: kind.to_owned(),
            source: source.to_owned(),
            target: String::new(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        let mount = |options: &[&str]| of("overlay", "overlay", options);
        let table = |options: &str| {
            format!(
                "30 29 0:5 / /proc rw - proc proc rw\n29 1 0:40 / / rw,relatime shared:1 - overlay overlay rw,{options}\n"
            )
        };
        let view = mount(&["lowerdir=/s/2/fs:/s/1/fs"]);
        for (options, same) in [
            ("lowerdir=/s/2/fs:/s/1/fs", true),
            ("lowerdir=2/fs:1/fs", true),
            ("lowerdir=/s/3/fs:/s/1/fs", false),
            ("lowerdir=3/fs:1/fs", false),
            ("lowerdir=/s/2/fs", false),
            ("lowerdir=/s/2/fs:/s/1/fs,upperdir=/s/4/fs,workdir=/s/4/work", false),
        ] {
            assert_eq!(stands_on(&table(options), &view), same, "{options}");
        }
        let own = mount(&["index=off", "workdir=/s/4/work", "upperdir=/s/4/fs", "lowerdir=/s/2/fs:/s/1/fs"]);
        assert!(stands_on(&table("lowerdir=2/fs:1/fs,upperdir=/s/4/fs"), &own));
        assert!(!stands_on(&table("lowerdir=2/fs:1/fs,upperdir=/s/5/fs"), &own));
        let plain = |source: &str| of("ext4", source, &[]);
        let disk = "29 1 8:1 / / rw - ext4 /dev/dm-7 rw\n";
        assert!(stands_on(disk, &plain("/dev/dm-7")) && !stands_on(disk, &plain("/dev/dm-8")));
    }
}
