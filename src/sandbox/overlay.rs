//! Whether the kernel lays overlay mounts over the sandbox's file system.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Returns whether an overlay can be mounted in a folder.
///
/// It cannot where the folder itself lies on an overlay, as inside most containers, or on some network file systems;
/// containerd notices this only when the first container starts. The folders that this makes stay.
pub(super) fn works_in(folder: &Path) -> bool {
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| folder.join(name));
    if [&lower, &upper, &work, &merged].into_iter().any(|path| fs::create_dir_all(path).is_err()) {
        return false;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let Ok(options) = CString::new(options) else { return false };
    let mounted = mount("overlay", &merged, "overlay", MountFlags::empty(), Some(options.as_c_str())).is_ok();
    mounted && unmount(&merged, UnmountFlags::NOFOLLOW).is_ok()
}
