//! What stands at a name: found first, and opened by what it is.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat};

use super::side::Side;

/// File systems that are no files but a view of the kernel's: procfs, sysfs, cgroup, cgroup2, devpts, mqueue, securityfs,
/// debugfs, tracefs, bpf, selinuxfs, configfs and binfmt_misc (`statfs(2)`, linux/magic.h).
const VIEWS: [i64; 13] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0x7363_6673,
    0x6462_6720,
    0x7472_6163,
    0xcafe_4a11,
    0xf97c_ff8c,
    0x6265_6570,
    0x4249_4e4d,
];

/// What stands at a name.
pub(super) enum Item {
    Folder(OwnedFd, Stat),
    File(File, Stat),
    Link(CString, Stat),
    /// A pipe, a device or a socket.
    Special(Stat),
}

impl Item {
    /// Looks at what a path of a side leads to.
    pub(super) fn at(side: &Side, path: &Path, follow: bool) -> io::Result<Self> {
        let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        Self::of(&side.open(path, OFlags::PATH | last)?)
    }

    pub(super) fn below(folder: &OwnedFd, name: &CStr) -> io::Result<Self> {
        Self::of(&openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens what was found by what it is. By its name it could be a device by now, and to open some does something.
    fn of(found: &OwnedFd) -> io::Result<Self> {
        let stat = fstat(found)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Self::Folder(openat(found, c".", flags, Mode::empty())?, stat)
            }
            FileType::RegularFile => {
                let mut flags = OFlags::RDONLY | OFlags::CLOEXEC;
                // Some, as /proc/kmsg, wait until the kernel has something to say. Of any other file this would let a lease
                // stand in the way (open(2), EWOULDBLOCK).
                flags.set(OFlags::NONBLOCK, is_view(found));
                Self::File(File::from(openat(CWD, open_as(found).as_str(), flags, Mode::empty())?), stat)
            }
            FileType::Symlink => Self::Link(readlinkat(found, c"", Vec::new())?, stat),
            _ => Self::Special(stat),
        })
    }

    pub(super) fn is_folder(&self) -> bool {
        matches!(self, Self::Folder(..))
    }
}

/// Names what is open, so that it can be opened in another way (proc_pid_fd(5)).
pub(super) fn open_as(found: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", found.as_raw_fd())
}

/// Returns whether something stands in a view of the kernel's.
pub(super) fn is_view(found: impl AsFd) -> bool {
    fstatfs(found).is_ok_and(|of| VIEWS.contains(&of.f_type))
}
