//! The extended attributes of files that go where their file goes.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{fgetxattr, flistxattr, flistxattr_query};
use rustix::io::Errno;

/// The longest list of attributes, and the longest value, that Linux allows (xattr(7)).
const MAX: usize = 65536;

/// Reads the attributes that belong to a file wherever it goes: its capabilities and its user's. Labels of SELinux and the
/// marks of overlay filesystems belong to this machine. They come sorted by name.
///
/// # Errors
/// What the kernel says; a filesystem without attributes has none.
pub(crate) fn xattrs(file: impl AsFd) -> io::Result<Vec<(CString, Vec<u8>)>> {
    // Nearly every file has none, and without a buffer the kernel tells how long the list is.
    match flistxattr_query(&file) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut names = vec![0; MAX];
    let length = flistxattr(&file, names.as_mut_slice())?;
    let mut value = vec![0; MAX];
    let mut found = Vec::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name == c"security.capability" || name.to_bytes().starts_with(b"user.") {
            let length = fgetxattr(&file, name, value.as_mut_slice())?;
            found.push((name.to_owned(), value[..length].to_vec()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
