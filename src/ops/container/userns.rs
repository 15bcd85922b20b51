//! Root filesystems for user namespaces: the files of an image under the ids that its users have on the host.
//!
//! As containerd's clients do (`client/snapshotter_opts_unix.go`), they are made once for an image and a mapping: a committed
//! snapshot, named after both, on which containers stand and which the daemon collects when none does.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, openat, statat};
use tokio_util::sync::CancellationToken;

use crate::containerd::Labels;
use crate::containerd::snapshots::{Mount, Snapshots};
use crate::oci::spec::IdMap;
use crate::ops::snapshot::Mounted;
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Result};

/// How deep folders may nest.
const DEPTH: usize = 1000;

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
    undo.push(format!("snapshot {gone}"), async move {
        let _ = undoing.remove(&gone).await;
    });
    let (users, groups) = (maps.users.to_vec(), maps.groups.to_vec());
    let temp_dir = ctx.settings().temp_dir.clone();
    let cancel = ctx.grant().cancel().clone();
    let shifting = tokio::task::spawn_blocking(move || {
        shift(&mounts, &temp_dir, &Shift { maps: Maps { users: &users, groups: &groups }, cancel: &cancel })
    });
    // A thread is not ended by dropping what waits for it: the snapshot is unmounted before it is taken back.
    let step = async { shifting.await.unwrap_or(Err(Error::Cancelled)) };
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
}

fn shift(mounts: &[Mount], temp_dir: &Path, how: &Shift<'_>) -> Result<()> {
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
fn walk(folder: &OwnedFd, how: &Shift<'_>, depth: usize) -> io::Result<()> {
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

fn chown(folder: impl AsFd, name: &Path, how: &Shift<'_>) -> io::Result<FileType> {
    let Shift { maps, cancel } = how;
    if cancel.is_cancelled() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let found = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mapped = |maps: &[IdMap], what: &str, id: u32| {
        maps.iter()
            .find_map(|map| map.host_of(id))
            .ok_or_else(|| io::Error::other(format!("{} belongs to {what} {id}, which is not mapped", name.display())))
    };
    let user = mapped(maps.users, "user", found.st_uid)?;
    let group = mapped(maps.groups, "group", found.st_gid)?;
    let (owner, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    chownat(&folder, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let mode = Mode::from_raw_mode(found.st_mode);
    // The kernel takes these two away with the owner (chown(2)).
    if kind == FileType::RegularFile && mode.intersects(Mode::SUID | Mode::SGID) {
        chmodat(&folder, name, mode, AtFlags::empty())?;
    }
    Ok(kind)
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
}
