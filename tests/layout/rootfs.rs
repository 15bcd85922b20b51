//! Images made of a root filesystem.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ctrsh::kind::Kind as Failure;
use ctrsh::layout::{ArchiveWriter, BuiltImage, LayoutFolder, RootfsOptions, Selector, WriteOptions, from_rootfs};
use ctrsh::oci::media_type::Compression;
use ctrsh::oci::{Matcher, Platform};
use libtest_mimic::Trial;

use super::movement::{Announce, copy};
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("layout::rootfs::a_folder_becomes_an_image_that_runs", env, a_folder_becomes_an_image_that_runs),
        trial("layout::rootfs::files_keep_what_they_are", env, files_keep_what_they_are),
        trial("layout::rootfs::equal_input_makes_an_equal_image", env, equal_input_makes_an_equal_image),
        trial("layout::rootfs::a_tar_becomes_an_image", env, a_tar_becomes_an_image),
        trial("layout::rootfs::what_is_no_root_filesystem_is_refused", env, what_is_no_root_filesystem_is_refused),
    ]
}

fn options() -> RootfsOptions {
    RootfsOptions::new(Platform::host())
}

fn build(env: &Env, source: &Path, options: &RootfsOptions) -> BuiltImage {
    let spool = env.new_folder("layout");
    let image = env.block_on(from_rootfs(source, options, &spool, |_| ())).unwrap();
    assert_eq!(fs::read_dir(spool).unwrap().count(), 0);
    image
}

fn busybox(env: &Env) -> PathBuf {
    let root = env.new_folder("layout");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    symlink("busybox", root.join("bin/sh")).unwrap();
    fs::write(root.join("hello"), "from a folder\n").unwrap();
    root
}

fn a_folder_becomes_an_image_that_runs(env: &Env) {
    let mut options = options();
    options.entrypoint = vec!["/bin/sh".into(), "-c".into()];
    options.cmd = vec!["cat hello; echo $GREETING; /bin/busybox id -u".into()];
    options.env = vec!["GREETING=good day".into()];
    options.working_dir = Some("/".into());
    options.user = Some("1234".into());
    let image = build(env, &busybox(env), &options);
    let path = env.new_folder("layout").join("image.tar");
    let reference = "example.org/made/of:folder";
    env.block_on(async {
        let spool = env.new_folder("layout");
        let options = WriteOptions { compression: Compression::None, platforms: Matcher::host(), spool };
        let writer = ArchiveWriter::create(&path, options).await.unwrap();
        copy(&image, &writer.image(Selector::Name(reference.into())), Announce::Yes).await.unwrap();
        writer.close().await.unwrap();
    });
    let namespace = env.namespace("layout");
    env.ctr(&["-n", &namespace, "images", "import", &path.display().to_string()]).ok();
    let id = env.fresh("layout");
    let output = env.ctr(&["-n", &namespace, "run", "--rm", reference, &id]);
    assert_eq!(output.ok(), "from a folder\ngood day\n1234\n");
}

fn sh(script: &str, folder: &Path) -> String {
    Output::of(Command::new("sh").args(["-ec", script]).current_dir(folder)).ok()
}

fn files_keep_what_they_are(env: &Env) {
    let root = env.new_folder("layout");
    let long = "d".repeat(120);
    sh(
        &format!(
            "mkdir -p a/{long}/{long} && echo deep > a/{long}/{long}/file
             echo one > one && chown 70000:3000000 one && chmod 4751 one && ln one two
             ln -s ../nowhere a/link && ln -s {long}{long} longlink
             mkfifo pipe && mknod null c 1 3 && mknod disk b 259 300000
             cp /bin/true capable
             touch -d @1000000000 one && mkdir -m 1777 tmp && printf x > \"$(printf 'b\\377d')\""
        ),
        &root,
    );
    let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    rustix::fs::setxattr(root.join("one"), "user.note", b"line\nline", rustix::fs::XattrFlags::empty()).unwrap();
    // VFS_CAP_REVISION_2, effective, CAP_NET_RAW (linux/capability.h).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(root.join("capable"), "security.capability", &capability, rustix::fs::XattrFlags::empty())
        .unwrap();
    let image = build(env, &root, &options());
    drop(socket);

    let layout = env.new_folder("layout").join("oci");
    let sink = LayoutFolder::new(&layout, Selector::Name("v1".into()));
    env.block_on(copy(&image, &sink, Announce::No)).unwrap();
    let bundle = env.new_folder("layout").join("bundle");
    let name = format!("{}:v1", layout.display());
    Output::of(Command::new("umoci").args(["unpack", "--image", &name]).arg(&bundle)).ok();
    let unpacked = bundle.join("rootfs");
    let list = r"find . -mindepth 1 ! -type s ! -name file -printf '%p %y %m %U %G %l %n\n' | LC_ALL=C sort";
    assert_eq!(sh(list, &unpacked), sh(list, &root));
    assert_eq!(fs::read_to_string(unpacked.join(format!("a/{long}/{long}/file"))).unwrap(), "deep\n");
    let (one, two) = (fs::metadata(unpacked.join("one")).unwrap(), fs::metadata(unpacked.join("two")).unwrap());
    assert_eq!(one.ino(), two.ino());
    assert_eq!((one.uid(), one.gid(), one.permissions().mode() & 0o7777), (70000, 3_000_000, 0o4751));
    assert_eq!(one.mtime(), 1_000_000_000);
    let disk = fs::metadata(unpacked.join("disk")).unwrap().rdev();
    assert_eq!(disk, fs::metadata(root.join("disk")).unwrap().rdev());
    assert!(!unpacked.join("socket").exists());
    let xattr = |path: &str, key: &str| {
        let mut value = vec![0; 100];
        let len = rustix::fs::getxattr(unpacked.join(path), key, value.as_mut_slice()).unwrap();
        value.truncate(len);
        value
    };
    assert_eq!(xattr("one", "user.note"), b"line\nline");
    assert_eq!(xattr("capable", "security.capability"), capability);
}

fn equal_input_makes_an_equal_image(env: &Env) {
    let root = busybox(env);
    let first = build(env, &root, &options());
    assert_eq!(build(env, &root, &options()).target(), first.target());
    // Another folder with the same files and times, made in another order.
    let copied = env.new_folder("layout").join("copied");
    Output::of(Command::new("cp").arg("-a").arg(&root).arg(&copied)).ok();
    assert_eq!(build(env, &copied, &options()).target(), first.target());
    sh("touch hello", &copied);
    assert_ne!(build(env, &copied, &options()).target(), first.target());
    let mut clamped = options();
    clamped.clamp_mtime = Some("2001-09-09T01:46:40Z".parse().unwrap());
    assert_eq!(build(env, &copied, &clamped).target(), build(env, &root, &clamped).target());
    let mut labelled = options();
    labelled.labels.insert("a".into(), "b".into());
    assert_eq!(build(env, &root, &labelled).diff_id(), first.diff_id());
    assert_ne!(build(env, &root, &labelled).target(), first.target());
}

fn a_tar_becomes_an_image(env: &Env) {
    let root = busybox(env);
    let folder = env.new_folder("layout");
    let tar = folder.join("root.tar");
    Output::of(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".")).ok();
    let bytes = fs::read(&tar).unwrap();
    let plain = build(env, &tar, &options());
    assert_eq!(plain.diff_id(), &ctrsh::oci::Digest::sha256(&bytes));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&bytes).unwrap();
    let gzip = encoder.finish().unwrap();
    let zstd = zstd::encode_all(bytes.as_slice(), 1).unwrap();
    for (name, compressed) in [("root.tar.gz", &gzip), ("root.tar.zst", &zstd)] {
        let path = folder.join(name);
        fs::write(&path, compressed).unwrap();
        let image = build(env, &path, &options());
        assert_eq!(image.diff_id(), plain.diff_id(), "{name}");
        let layout = env.new_folder("layout").join("oci");
        let sink = LayoutFolder::new(&layout, Selector::Name("v1".into()));
        env.block_on(copy(&image, &sink, Announce::No)).unwrap();
        let bundle = env.new_folder("layout").join("bundle");
        let source = format!("{}:v1", layout.display());
        Output::of(Command::new("umoci").args(["unpack", "--image", &source]).arg(&bundle)).ok();
        assert_eq!(fs::read_to_string(bundle.join("rootfs/hello")).unwrap(), "from a folder\n");
        if name.ends_with("gz") {
            let own = ctrsh::oci::Digest::sha256(&gzip);
            assert!(layout.join("blobs/sha256").join(own.hex()).exists(), "the gzip was made anew");
        }
    }
}

fn what_is_no_root_filesystem_is_refused(env: &Env) {
    let folder = env.new_folder("layout");
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        env.block_on(from_rootfs(&path, &options(), &env.new_folder("layout"), |_| ())).unwrap_err()
    };
    assert!(refused("text", &[b'x'; 1000]).to_string().contains("not begin with a tar header"));
    assert!(refused("empty.tar", &[0; 1024]).to_string().contains("has no entries"));
    assert!(refused("nothing", b"").to_string().contains("is empty"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(100_000);
    tar.append_data(&mut header, "file", &vec![7; 100_000][..]).unwrap();
    encoder.write_all(&tar.into_inner().unwrap()).unwrap();
    let gzip = encoder.finish().unwrap();
    let error = refused("cut.tar.gz", &gzip[..gzip.len() - 9]);
    assert!(error.to_string().contains("cut off"), "{error}");
    let nowhere = env.block_on(from_rootfs(&folder.join("no"), &options(), &folder, |_| ())).unwrap_err();
    assert_eq!(ctrsh::kind::Failure::kind(&nowhere), Failure::NotFound);
}
