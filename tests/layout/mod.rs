//! OCI layouts, image archives and root filesystems, against skopeo, umoci, ctr and containerd.

mod archive_read;
mod archive_write;
mod folder;
mod hostile;
mod movement;
mod rootfs;

use libtest_mimic::Trial;

use crate::harness::Env;

/// The tests of the area.
pub fn trials(env: &Env) -> Vec<Trial> {
    [
        folder::trials(env),
        archive_read::trials(env),
        archive_write::trials(env),
        hostile::trials(env),
        rootfs::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect()
}
