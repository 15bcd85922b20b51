//! Looks into a container's root filesystem without mounting it.
//!
//! The user files are found by walking the layers as overlayfs would show them (kernel `Documentation/filesystems/
//! overlayfs.rst`): the topmost entry counts, a whiteout hides what is below, folders merge unless opaque. Each step opens
//! one name without following links; a link is resolved here, against the root of the image, so that none leads out
//!.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::containerd::snapshots::Mount;
use crate::oci::spec::UserFiles;

/// The longest user file that is read: 1 MiB.
const MAX_FILE: u64 = 1 << 20;
/// How many links may be followed (the kernel's limit, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Reads the user files of the root filesystem that these mounts make.
pub(super) fn user_files(mounts: &[Mount]) -> UserFiles {
    let read = || -> io::Result<UserFiles> {
        let layers = layers(mounts)?;
        Ok(UserFiles::Read { passwd: read(&layers, "etc/passwd")?, group: read(&layers, "etc/group")? })
    };
    read().unwrap_or_else(|error| UserFiles::Unreadable(error.to_string()))
}

/// Opens the folders of a filesystem, the topmost first.
fn layers(mounts: &[Mount]) -> io::Result<Vec<OwnedFd>> {
    let [mount] = mounts else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is made of several mounts"));
    };
    let folders: Vec<&str> = match mount.kind.as_str() {
        "bind" => vec![mount.source.as_str()],
        "overlay" => {
            let value =
                |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
            value("upperdir")
                .into_iter()
                .chain(value("lowerdir").into_iter().flat_map(|text| text.split(':')))
                .collect()
        }
        other => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it is a {} filesystem that would have to be mounted", crate::oci::excerpt(other)),
            ));
        }
    };
    folders
        .into_iter()
        .map(|folder| Ok(openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
        .collect()
}

/// Reads a file; one that does not exist is empty.
fn read(layers: &[OwnedFd], path: &str) -> io::Result<String> {
    match find(layers, path)? {
        None => Ok(String::new()),
        Some(file) => {
            let mut text = Vec::new();
            if file.take(MAX_FILE + 1).read_to_end(&mut text)? as u64 > MAX_FILE {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("/{path} is larger than 1 MiB")));
            }
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
    }
}

/// What stands at one name of a merged folder.
enum Entry {
    None,
    File(File),
    Link(OsString),
    Folder(Vec<OwnedFd>),
}

fn find(root: &[OwnedFd], path: &str) -> io::Result<Option<File>> {
    let mut ahead: VecDeque<OsString> = Path::new(path).iter().map(OsStr::to_owned).collect();
    // The folders from the root down to where the walk is; the root itself is not in it.
    let mut behind: Vec<Vec<OwnedFd>> = Vec::new();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        match lookup(behind.last().map_or(root, Vec::as_slice), &name)? {
            Entry::None => return Ok(None),
            Entry::File(file) => return Ok(ahead.is_empty().then_some(file)),
            Entry::Folder(layers) => behind.push(layers),
            Entry::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(None);
                }
                let mut parts = VecDeque::new();
                for part in Path::new(&target).components() {
                    match part {
                        Component::RootDir => behind.clear(),
                        // Above the root is the root.
                        Component::ParentDir if parts.pop_back().is_none() => drop(behind.pop()),
                        Component::Normal(name) => parts.push_back(name.to_owned()),
                        Component::ParentDir | Component::CurDir | Component::Prefix(_) => {}
                    }
                }
                parts.append(&mut ahead);
                ahead = parts;
            }
        }
    }
    Ok(None)
}

fn lookup(layers: &[OwnedFd], name: &OsStr) -> io::Result<Entry> {
    let mut merged = Vec::new();
    for layer in layers {
        let found = match statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other?,
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let folder = openat(
                    layer,
                    name,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                let opaque = is_opaque(&folder);
                merged.push(folder);
                if opaque {
                    break;
                }
            }
            // Below a folder only folders merge; a file or whiteout there ends what shines through.
            _ if !merged.is_empty() => break,
            FileType::CharacterDevice if found.st_rdev == 0 => return Ok(Entry::None),
            FileType::Symlink => {
                let target = readlinkat(layer, name, Vec::new())?;
                return Ok(Entry::Link(OsStr::from_bytes(target.as_bytes()).to_owned()));
            }
            FileType::RegularFile => {
                let file = openat(
                    layer,
                    name,
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                return Ok(Entry::File(File::from(file)));
            }
            _ => return Ok(Entry::None),
        }
    }
    Ok(if merged.is_empty() { Entry::None } else { Entry::Folder(merged) })
}

fn is_opaque(folder: &OwnedFd) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0_u8; 4];
        rustix::fs::fgetxattr(folder, *name, &mut value[..]).is_ok_and(|length| value.starts_with(b"y") && length == 1)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn overlay(layers: &[&Path]) -> Vec<Mount> {
        let lower: Vec<_> = layers[1..].iter().map(|path| path.display().to_string()).collect();
        let options = vec![format!("upperdir={}", layers[0].display()), format!("lowerdir={}", lower.join(":"))];
        vec![Mount { kind: "overlay".into(), source: "overlay".into(), target: String::new(), options }]
    }

    fn passwd(mounts: &[Mount]) -> String {
        match user_files(mounts) {
            UserFiles::Read { passwd, .. } => passwd,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_topmost_file_counts_and_links_stay_inside() {
        let place = tempfile::tempdir().unwrap();
        let layer = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir_all(path.join("etc")).unwrap();
            path
        };
        let (upper, middle, lower) = (layer("upper"), layer("middle"), layer("lower"));
        fs::write(lower.join("etc/passwd"), "lower").unwrap();
        let mounts = overlay(&[&upper, &middle, &lower]);
        assert_eq!(passwd(&mounts), "lower");
        fs::write(middle.join("etc/passwd"), "middle").unwrap();
        assert_eq!(passwd(&mounts), "middle");
        // A link that climbs out of the root, to a file that exists on the host and in a lower layer.
        fs::create_dir_all(lower.join("usr/lib")).unwrap();
        fs::write(lower.join("usr/lib/users"), "linked").unwrap();
        symlink("../../../../usr/lib/users", upper.join("etc/passwd")).unwrap();
        assert_eq!(passwd(&mounts), "linked");
        fs::remove_file(upper.join("etc/passwd")).unwrap();
        symlink("/etc/hostname", upper.join("etc/passwd")).unwrap();
        assert_eq!(passwd(&mounts), "", "the host's file must not be read");
        fs::remove_file(upper.join("etc/passwd")).unwrap();
        symlink("passwd", upper.join("etc/passwd")).unwrap();
        assert_eq!(passwd(&mounts), "", "a link to itself ends");
    }

    #[test]
    fn a_folder_of_the_host_is_one_layer_and_others_are_named() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("etc")).unwrap();
        fs::write(place.path().join("etc/passwd"), "bound").unwrap();
        let mount = |kind: &str| {
            vec![Mount {
                kind: kind.into(),
                source: place.path().display().to_string(),
                target: String::new(),
                options: Vec::new(),
            }]
        };
        assert_eq!(passwd(&mount("bind")), "bound");
        let UserFiles::Unreadable(reason) = user_files(&mount("ext4")) else { panic!("it was read") };
        assert!(reason.contains("ext4"), "{reason}");
    }
}
