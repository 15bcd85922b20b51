//! A small disk that fills up.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A filesystem in memory, mounted until this is dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of so many bytes.
    pub fn mount(path: &Path, size: usize) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status();
        assert!(status.unwrap().success());
        Self(path.to_owned())
    }

    /// Gives it another size; what is there stays.
    pub fn resize(&self, size: usize) {
        let size = format!("remount,size={size}");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.0).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
