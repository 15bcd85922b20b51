//! Looks into a container's root filesystem without mounting it.
//!
//! The user files are found by walking the layers as overlayfs would show them. Each step opens one name without
//! following links; a link is resolved here, against the root of the image, so that none leads out.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};

use super::layers::{self, Folders};
use crate::containerd::snapshots::Mount;
use crate::oci::spec::UserFiles;

/// The longest user file that is read: 1 MiB.
const MAX_FILE: u64 = 1 << 20;
/// How many links may be followed (the kernel's limit, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Reads the user files of the root filesystem that these mounts make.
pub(super) fn user_files(mounts: &[Mount]) -> UserFiles {
    let read = || -> io::Result<UserFiles> {
        let folders = Folders::of(mounts)?;
        let layers = layers::open(folders.upper.iter().chain(&folders.lower))?;
        Ok(UserFiles::Read { passwd: read(&layers, "etc/passwd")?, group: read(&layers, "etc/group")? })
    };
    read().unwrap_or_else(|error| UserFiles::Unreadable(error.to_string()))
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
    let Some(found) = layers::lookup(layers, name)? else { return Ok(Entry::None) };
    let layer = &layers[found.layer];
    Ok(match FileType::from_raw_mode(found.stat.st_mode) {
        FileType::Directory => Entry::Folder(found.folders.into_iter().map(|(_, folder)| folder).collect()),
        FileType::Symlink => {
            let target = readlinkat(layer, name, Vec::new())?;
            Entry::Link(OsStr::from_bytes(target.as_bytes()).to_owned())
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Entry::File(File::from(openat(layer, name, flags, Mode::empty())?))
        }
        _ => Entry::None,
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
