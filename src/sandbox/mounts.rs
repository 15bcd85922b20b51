//! What is mounted below a folder, and its removal.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use super::error::Error;

/// Unmounts everything below a folder, the last mount first.
///
/// # Errors
/// Fails when something stays mounted: then nothing below the folder may be removed, for a mount can lead anywhere.
pub(super) fn unmount_below(folder: &Path) -> Result<(), Error> {
    for path in mounted_below(folder)?.into_iter().rev() {
        unmount(&path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
            .map_err(|error| Error::Mounted { path, source: error.into() })?;
    }
    match mounted_below(folder)?.into_iter().next() {
        None => Ok(()),
        Some(path) => Err(Error::Mounted { path, source: rustix::io::Errno::BUSY.into() }),
    }
}

/// Lists the mount points below a folder in the order they were mounted.
fn mounted_below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read(table).map_err(|source| Error::File { action: "read", path: table.into(), source })?;
    Ok(parse(&text).filter(|path| path.starts_with(folder)).collect())
}

/// Reads the mount points (proc_pid_mountinfo(5), field 5).
fn parse(text: &[u8]) -> impl Iterator<Item = PathBuf> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
}

/// Undoes the kernel's escapes of space, tab, newline and backslash: `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            bytes.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let text = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
                     37 35 0:5 / /mnt/back\\134slash rw - tmpfs tmpfs rw\n";
        let paths: Vec<_> = parse(text).collect();
        assert_eq!(paths, [PathBuf::from("/mnt/a b"), PathBuf::from("/mnt/back\\slash")]);
    }

    #[test]
    fn a_folder_without_mounts_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(mounted_below(folder.path()).unwrap().is_empty());
        unmount_below(folder.path()).unwrap();
    }
}
