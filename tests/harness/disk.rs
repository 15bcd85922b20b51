//! Disks that fill up, have a quota, or take no changes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::output::Output;

fn run(program: &str, arguments: &[&dyn AsRef<OsStr>]) {
    let mut command = Command::new(program);
    Output::of(command.args(arguments.iter().map(|argument| argument.as_ref()))).ok();
}

/// A filesystem in memory, mounted until this is dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of so many bytes.
    pub fn mount(path: &Path, size: usize) -> Self {
        std::fs::create_dir_all(path).unwrap();
        run("mount", &[&"-t", &"tmpfs", &"-o", &format!("size={size}"), &"tmpfs", &path]);
        Self(path.to_owned())
    }

    /// Mounts one that knows no attributes of files.
    pub fn bare(path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        run("mount", &[&"-t", &"ramfs", &"ramfs", &path]);
        Self(path.to_owned())
    }

    /// Gives it another size; what is there stays.
    pub fn resize(&self, size: usize) {
        run("mount", &[&"-o", &format!("remount,size={size}"), &self.0]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A file system with a quota, which holds for root too, mounted until this is dropped.
pub struct Quota {
    /// The whole of it, which has no quota, and what it is kept in.
    whole: PathBuf,
    image: PathBuf,
    /// The part that has one.
    part: PathBuf,
}

impl Quota {
    /// Mounts one in which so many bytes may be used.
    pub fn mount(path: &Path, size: usize) -> Self {
        let mounted =
            Self { whole: path.with_extension("whole"), image: path.with_extension("btrfs"), part: path.to_owned() };
        std::fs::create_dir_all(&mounted.whole).unwrap();
        std::fs::create_dir_all(path).unwrap();
        let image = std::fs::File::create(&mounted.image).unwrap();
        image.set_len(400 << 20).unwrap();
        run("mkfs.btrfs", &[&"-q", &mounted.image]);
        run("mount", &[&"-o", &"loop", &mounted.image, &mounted.whole]);
        let part = mounted.whole.join("part");
        run("btrfs", &[&"-q", &"subvolume", &"create", &part]);
        run("btrfs", &[&"quota", &"enable", &mounted.whole]);
        run("mount", &[&"--bind", &part, &path]);
        mounted.resize(size);
        mounted
    }

    /// Sets another quota.
    pub fn resize(&self, size: usize) {
        run("btrfs", &[&"qgroup", &"limit", &size.to_string(), &self.part]);
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        for path in [&self.part, &self.whole] {
            let _ = Command::new("umount").arg(path).status();
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

/// A folder in which nothing can be changed until this is dropped.
pub struct ReadOnly(PathBuf);

impl ReadOnly {
    pub fn over(path: &Path) -> Self {
        run("mount", &[&"--bind", &path, &path]);
        run("mount", &[&"-o", &"remount,bind,ro", &path]);
        Self(path.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
