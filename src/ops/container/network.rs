//! The network of a container that is to have one of the host's own: a namespace, made before the container's processes are,
//! into which the host's plugins put interfaces.
//!
//! It lives as long as the container: a restart finds it as it was, no signal touches it, and `delete` takes it away. What was
//! used is kept with the record, so that it can be taken away when the host's files have changed, and after a reboot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde::{Deserialize, Serialize};

use super::cni::{CONF_DIR, Network, Whom};
use crate::containerd::Client;
use crate::containerd::containers::{Container, Extension};
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Level, Result};

/// What the record keeps it under.
const EXTENSION: &str = "ctrsh.network";
/// The type of it: JSON.
const TYPE_URL: &str = "ctrsh/network/1";
/// Where network namespaces have files, as `ip netns` has it.
const FOLDER: &str = "/run/netns";

/// Which network is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Its name; none for the first of the host.
    pub name: Option<String>,
    /// Where networks are written down; none for `/etc/cni/net.d`.
    pub conf_dir: Option<PathBuf>,
    /// Where the plugins are; none for the usual places.
    pub bin_dir: Option<PathBuf>,
}

/// What the record keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    netns: PathBuf,
    id: String,
    network: Network,
}

impl Kept {
    fn of(container: &Container) -> Option<Self> {
        let extension = container.extensions.get(EXTENSION).filter(|extension| extension.type_url == TYPE_URL)?;
        serde_json::from_slice(&extension.value).ok()
    }

    fn to_extension(&self) -> Extension {
        Extension { type_url: TYPE_URL.to_owned(), value: serde_json::to_vec(self).unwrap_or_default() }
    }

    fn whom(&self) -> Whom<'_> {
        Whom { id: &self.id, netns: &self.netns }
    }
}

/// Names a container on this host. Two dashes stand in neither part (containerd `pkg/identifiers`), so that no other container
/// is called the same, and the plugins take them (cni SPEC.md, CNI_CONTAINERID).
fn name(namespace: &str, id: &str) -> String {
    format!("{namespace}--{id}")
}

/// Returns the file of the network namespace of a container.
pub(super) fn netns(namespace: &str, id: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("ctrsh-{}", name(namespace, id)))
}

/// Chooses a network, and returns how the record keeps that. Nothing is made yet.
///
/// # Errors
/// When the host has no such network.
pub(super) fn choose(namespace: &str, id: &str, options: &NetworkOptions) -> Result<(String, Extension)> {
    let conf_dir = options.conf_dir.as_deref().unwrap_or(Path::new(CONF_DIR));
    let network = Network::read(options.name.as_deref(), conf_dir, options.bin_dir.as_deref())?;
    let kept = Kept { netns: netns(namespace, id), id: name(namespace, id), network };
    Ok((EXTENSION.to_owned(), kept.to_extension()))
}

/// Lists the addresses that a container was given, with the length of their network's prefix.
#[must_use]
pub fn addresses(container: &Container) -> Vec<String> {
    Kept::of(container).map(|kept| kept.network.addresses()).unwrap_or_default()
}

/// Makes the network of a container when it has one to be made, and sees to it that it goes again if the operation does not get
/// through.
///
/// # Errors
/// When the namespace cannot be made, or what a plugin said.
pub(super) async fn ensure(client: &Client, container: &Container, undo: &mut Undo) -> Result<()> {
    let Some(mut kept) = Kept::of(container) else { return Ok(()) };
    let (is_made, is_connected) = (is_made(&kept.netns), kept.network.result.is_some());
    if is_made && is_connected {
        return Ok(());
    }
    undo.push(format!("the network of container {}", container.id), take_back(kept.clone()));
    if is_made || is_connected {
        // The machine was started anew, or ctrsh was killed between the two: plugins that keep books may believe that it is
        // connected.
        if let Err(error) = kept.network.remove(kept.whom()).await {
            tracing::warn!(id = %container.id, %error, "the network of before was not taken away");
        }
        unmake(&kept.netns).map_err(Error::file("remove network namespace", &kept.netns))?;
        kept.network.result = None;
    }
    let path = kept.netns.clone();
    let made = tokio::task::spawn_blocking(move || make(&path)).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    made.map_err(Error::file("make network namespace", &kept.netns))?;
    let whom = Whom { id: &kept.id.clone(), netns: &kept.netns.clone() };
    kept.network.add(whom).await?;
    client.containers().set_extension(&container.id, EXTENSION, &kept.to_extension()).await?;
    Ok(())
}

/// Takes the network of a container away that is deleted. What fails is told and no more: the container has to go all the same,
/// and what a plugin keeps is its own to say.
pub(super) async fn remove(ctx: &Context, container: &Container) {
    let Some(kept) = Kept::of(container) else { return };
    let removed = match kept.network.result.is_some() || is_made(&kept.netns) {
        true => kept.network.remove(kept.whom()).await,
        false => Ok(()),
    };
    let unmade = unmake(&kept.netns).map_err(Error::file("remove network namespace", &kept.netns));
    for error in [removed.err(), unmade.err()].into_iter().flatten() {
        ctx.note(Level::Warn, &format!("the network of {}: {error}", container.id));
    }
}

/// Takes back what was made; what is not there is fine.
async fn take_back(kept: Kept) {
    if let Err(error) = kept.network.remove(kept.whom()).await {
        tracing::warn!(id = %kept.id, %error, "a network was left behind");
    }
    if let Err(error) = unmake(&kept.netns) {
        tracing::warn!(netns = %kept.netns.display(), %error, "a network namespace was left behind");
    }
}

/// Returns whether a namespace is kept by the file: such a file is a mount.
fn is_made(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|about| about.f_type as u64 == NSFS_MAGIC)
}

/// The type of the filesystem that namespaces are files of (`linux/magic.h`).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Makes a network namespace that lives as long as its file is mounted.
fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    drop(file);
    // A thread of its own, as a thread does not get out of a namespace by itself: it ends with it.
    let target = path.to_owned();
    let made = std::thread::Builder::new().name("netns".into()).spawn(move || -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; what that warns of, unsharing descriptors, is not done here"
        )]
        rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET)?;
        mount_bind("/proc/thread-self/ns/net", &target)?;
        Ok(())
    })?;
    let made = made.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes it ended")));
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made
}

fn unmake(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Nothing is mounted there, or there is no file.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_containers_have_one_name() {
        let parts = ["a", "a-b", "a-b-c", "b", "b-c", "c", "a.b", "a_b"];
        let all = parts.iter().flat_map(|namespace| parts.iter().map(|id| netns(namespace, id)));
        let names: std::collections::HashSet<PathBuf> = all.collect();
        assert_eq!(names.len(), parts.len() * parts.len());
    }
}
