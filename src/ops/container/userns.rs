//! Root filesystems for user namespaces: the files of an image under the ids that its users have on the host.
//!
//! As containerd's clients do (`client/snapshotter_opts_unix.go`), they are made once for an image and a mapping: a committed
//! snapshot, named after both, on which containers stand and which the daemon collects when none does.
//!
//! What is found under the name is taken as it is, whoever made it: to share it with ctr is what the name is for. ctr's own may have
//! wrong owners where a file has several names, and has no capabilities; it is made anew, and right, once no container stands on it
//! and the daemon has collected it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, XattrFlags, chmodat, chownat, lgetxattr, lsetxattr, openat,
    statat,
};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use crate::containerd::Labels;
use crate::containerd::snapshots::{Mount, Snapshots};
use crate::oci::spec::IdMap;
use crate::ops::snapshot::Mounted;
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Result};

/// How deep folders may nest.
const DEPTH: usize = 1000;
/// The attribute that keeps a file's capabilities.
const CAPABILITY: &str = "security.capability";
/// Its two forms, by the byte that tells them apart and their length: what holds in every user namespace, and what holds only
/// where the user with the id at its end is root (capabilities(7), linux/capability.h).
const EVERYWHERE: (u8, usize) = (2, 20);
const OF_ROOT: (u8, usize) = (3, 24);

/// The mapping of a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maps<'a> {
    pub(super) users: &'a [IdMap],
    pub(super) groups: &'a [IdMap],
}

impl Maps<'_> {
    /// Returns the labels by which a snapshotter that can do it shifts the ids itself (containerd `core/snapshots`).
    pub(super) fn labels(self) -> Labels {
        let text = |maps: &[IdMap]| maps.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        [
            ("containerd.io/snapshot/uidmapping".to_owned(), text(self.users)),
            ("containerd.io/snapshot/gidmapping".to_owned(), text(self.groups)),
        ]
        .into()
    }

    /// Names the snapshot: as containerd's clients do where all ids from 0 are moved up, else by every number.
    fn name(self, parent: &str) -> String {
        match (self.users, self.groups) {
            ([user], [group]) if user.container == 0 && group.container == 0 => {
                format!("{parent}-{}-{}", user.host, group.host)
            }
            (users, groups) => {
                let text = |maps: &[IdMap]| maps.iter().map(ToString::to_string).collect::<Vec<_>>().join("_");
                format!("{parent}-{}-{}", text(users), text(groups))
            }
        }
    }
}

/// Says whether a snapshotter moves the ids itself where it finds the labels; containerd's clients then leave it to it.
pub(super) async fn moves_ids(ctx: &Context, snapshotter: &str) -> Result<bool> {
    let filter = format!("type==io.containerd.snapshotter.v1,id=={snapshotter}");
    let plugins = ctx.client().await?.introspection().plugins(&[filter]).await?;
    Ok(plugins.iter().flat_map(|plugin| &plugin.capabilities).any(|can| can == "remap-ids"))
}

/// Returns the committed snapshot whose files have the ids of the mapping, making it when it is not there.
///
/// # Errors
/// [`Error::File`] when the files cannot be reached from here, or one has an id that is not mapped.
pub(super) async fn remapped(
    ctx: &Context,
    snapshots: &Snapshots,
    undoing: Snapshots,
    parent: Option<&str>,
    maps: Maps<'_>,
) -> Result<String> {
    let name = maps.name(parent.unwrap_or("empty"));
    match snapshots.stat(&name).await {
        Ok(_) => return Ok(name),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let key = format!("{name}-remap-{:08x}", rand::random::<u32>());
    let mut undo = Undo::new(ctx.debts());
    let mounts = snapshots.prepare(&key, parent, &Labels::new()).await?;
    let gone = key.clone();
    undo.push(format!("snapshot {gone}"), async move { undoing.remove(&gone).await });
    let (users, groups) = (maps.users.to_vec(), maps.groups.to_vec());
    let temp_dir = ctx.settings().temp_dir.clone();
    let cancel = ctx.grant().cancel().clone();
    let shifting = tokio::task::spawn_blocking(move || {
        let maps = Maps { users: &users, groups: &groups };
        shift(&mounts, &temp_dir, &mut Shift { maps, cancel: &cancel, done: HashSet::new() })
    });
    // A thread is not ended by dropping what waits for it: the snapshot is unmounted before it is taken back.
    let step = async { shifting.await? };
    undo.step(format!("the files of snapshot {key}"), step, async {}).await??;
    match snapshots.commit(&name, &key, &Labels::new()).await {
        // Another one made it meanwhile; this one is taken back.
        Err(error) if error.is_already_exists() => return Ok(name),
        other => other?,
    }
    undo.forget();
    Ok(name)
}

/// What is done to files.
struct Shift<'a> {
    maps: Maps<'a>,
    cancel: &'a CancellationToken,
    /// The files of several names that have their new owner.
    done: HashSet<(u64, u64)>,
}

fn shift(mounts: &[Mount], temp_dir: &Path, how: &mut Shift<'_>) -> Result<()> {
    let mounted = Mounted::new(mounts, temp_dir)?;
    let failed = |source: io::Error| Error::File {
        attempted: "change the owners in",
        path: mounted.path().display().to_string(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, mounted.path(), flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    chown(&root, Path::new("."), how).map_err(failed)?;
    walk(&root, how, DEPTH).map_err(failed)
}

/// Changes the owners of all that is in a folder, following no link.
fn walk(folder: &OwnedFd, how: &mut Shift<'_>, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("its folders nest too deep"));
    }
    let names: Vec<OsString> = Dir::read_from(folder)?
        .map(|entry| Ok(OsString::from_vec(entry?.file_name().to_bytes().to_vec())))
        .collect::<io::Result<_>>()?;
    for name in names.iter().filter(|name| *name != "." && *name != "..") {
        let kind = chown(folder, Path::new(name), how)?;
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = openat(folder, name.as_os_str(), flags, Mode::empty())?;
            walk(&below, how, depth - 1)?;
        }
    }
    Ok(())
}

fn chown(folder: impl AsFd, name: &Path, how: &mut Shift<'_>) -> io::Result<FileType> {
    let Shift { maps, cancel, done } = how;
    if cancel.is_cancelled() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let found = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let several = kind != FileType::Directory && found.st_nlink > 1;
    if several && done.contains(&(found.st_dev, found.st_ino)) {
        return Ok(kind);
    }
    let mapped = |maps: &[IdMap], what: &str, id: u32| {
        let unmapped = || io::Error::other(format!("{} belongs to {what} {id}, which is not mapped", name.display()));
        host_of(maps, id).ok_or_else(unmapped)
    };
    let user = mapped(maps.users, "user", found.st_uid)?;
    let group = mapped(maps.groups, "group", found.st_gid)?;
    let (owner, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    let path = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
    let path = Path::new(&path).join(name);
    let capabilities = if kind == FileType::RegularFile { capabilities(&path, maps.users)? } else { None };
    chownat(&folder, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(found.st_mode);
    // The kernel takes these away with the owner (chown(2)).
    if kind == FileType::RegularFile && mode.intersects(Mode::SUID | Mode::SGID) {
        chmodat(&folder, name, mode, AtFlags::empty())?;
    }
    if let Some(capabilities) = capabilities {
        lsetxattr(&path, CAPABILITY, &capabilities, XattrFlags::empty())?;
    }
    if several {
        // An overlay makes a file of its own of this name, and the others wait for their owner (overlayfs.rst, index).
        let now = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if now.st_nlink > 1 {
            done.insert((now.st_dev, now.st_ino));
        }
    }
    Ok(kind)
}

fn host_of(maps: &[IdMap], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| map.host_of(id))
}

/// Returns the capabilities of a file as they are to be when it is shifted.
fn capabilities(path: &Path, users: &[IdMap]) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut value = [0; OF_ROOT.1];
    match lgetxattr(path, CAPABILITY, &mut value[..]) {
        Ok(length) => Ok(shifted(&value[..length], users)),
        // There are none, the file system knows none, or they are of a form that the kernel does not heed.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets capabilities hold where the root of the mapping, or who they are of, is root: as the kernel has it of an ID-mapped mount.
/// Those that hold everywhere would give who comes upon the file on the host what its maker gave to the container's users. None
/// of somebody whom the mapping does not have: they hold nowhere in it.
fn shifted(value: &[u8], users: &[IdMap]) -> Option<Vec<u8>> {
    let root = match (*value.get(3)?, value.len()) {
        EVERYWHERE => 0,
        OF_ROOT => u32::from_le_bytes(value[EVERYWHERE.1..].try_into().ok()?),
        _ => return None,
    };
    let root = host_of(users, root)?;
    let mut shifted = value[..EVERYWHERE.1].to_vec();
    shifted[3] = OF_ROOT.0;
    shifted.extend(root.to_le_bytes());
    Some(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_containerd_for_a_plain_shift() {
        let map = |text: &str| text.parse::<IdMap>().unwrap();
        let (users, groups) = ([map("0:1000:65536")], [map("0:2000:65536")]);
        let plain = Maps { users: &users, groups: &groups };
        assert_eq!(plain.name("sha256:a"), "sha256:a-1000-2000");
        assert_eq!(plain.labels()["containerd.io/snapshot/gidmapping"], "0:2000:65536");
        let users = [map("0:1000:1"), map("5:7:2")];
        assert_eq!(Maps { users: &users, groups: &groups }.name("p"), "p-0:1000:1_5:7:2-0:2000:65536");
        assert_eq!((users[1].host_of(6), users[1].host_of(7), users[1].host_of(4)), (Some(8), None, None));
        for text in ["", "1:2", "1:2:3:4", "a:b:c", "-1:0:1"] {
            assert!(text.parse::<IdMap>().is_err(), "{text}");
        }
        assert!(!map("0:4294967295:1").is_possible() && map("0:0:1").is_possible());
    }

    #[test]
    fn capabilities_are_those_of_the_mapping() {
        let users: Vec<IdMap> = vec!["0:1000:10".parse().unwrap()];
        let value = |form: u8, root: &[u8]| {
            let mut value = vec![0; 20];
            (value[0], value[3], value[5]) = (1, form, 4);
            value.extend(root);
            value
        };
        let of = |root: u32| value(3, &root.to_le_bytes());
        assert_eq!(shifted(&value(2, &[]), &users), Some(of(1000)));
        assert_eq!(shifted(&of(0), &users), Some(of(1000)));
        assert_eq!(shifted(&of(9), &users), Some(of(1009)));
        for other in [of(10), value(1, &[]), value(2, &[0; 4]), value(3, &[]), Vec::new()] {
            assert_eq!(shifted(&other, &users), None, "{other:?}");
        }
    }
}
