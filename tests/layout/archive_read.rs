//! Archives that others wrote.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ctrsh::layout::{ArchiveReader, LayoutFolder, ReadOptions, Selector};
use ctrsh::oci::Digest;
use libtest_mimic::Trial;

use super::movement::{Announce, copy};
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("layout::archive_read::what_ctr_exports", env, what_ctr_exports),
        trial("layout::archive_read::what_skopeo_writes", env, what_skopeo_writes),
        trial("layout::archive_read::docker_archives_have_ctrs_digests", env, docker_archives_have_ctrs_digests),
        trial("layout::archive_read::compressed_and_piped_archives", env, compressed_and_piped_archives),
    ]
}

pub fn open(env: &Env, path: &Path) -> ctrsh::layout::ArchiveReader {
    env.block_on(ArchiveReader::open(path, &ReadOptions::new(env.new_folder("layout")))).unwrap()
}

/// Copies the only image of an archive to a folder, which checks every byte.
pub fn verify(env: &Env, reader: &ArchiveReader, selector: &Selector) -> Digest {
    let image = reader.find(selector).unwrap();
    let sink = LayoutFolder::new(env.new_folder("layout").join("made"), Selector::Name("v1".into()));
    env.block_on(copy(&reader.source_for(&image), &sink, Announce::No)).unwrap().digest
}

fn what_ctr_exports(env: &Env) {
    let namespace = env.namespace("layout");
    for kind in [Kind::Busybox, Kind::Docker, Kind::Index] {
        let reference = env.pushed(kind, "layout");
        // Without unpacking, which ctr 1.6 tries with attestations too.
        env.ctr(&["-n", &namespace, "content", "fetch", "--plain-http", "--all-platforms", &reference]).ok();
        let path = env.new_folder("layout").join("ctr.tar");
        let file = path.display().to_string();
        env.ctr(&["-n", &namespace, "images", "export", "--all-platforms", &file, &reference]).ok();
        let reader = open(env, &path);
        assert_eq!(reader.images().len(), 1);
        assert_eq!(reader.images()[0].name.as_deref(), Some(reference.as_str()));
        let digest = verify(env, &reader, &Selector::Name(reference.clone()));
        if kind == Kind::Docker {
            assert_eq!(
                reader.images()[0].target.media_type.as_str(),
                "application/vnd.docker.distribution.manifest.v2+json"
            );
        } else {
            assert_eq!(digest.as_str(), env.image(kind).digest, "{kind:?}");
        }
    }
}

fn what_skopeo_writes(env: &Env) {
    let image = env.image(Kind::ThreeLayers);
    let path = env.new_folder("layout").join("skopeo.tar");
    env.skopeo(&["copy", &image.skopeo_name(), &format!("oci-archive:{}:v7", path.display())]).ok();
    let reader = open(env, &path);
    assert_eq!(reader.images()[0].tag.as_deref(), Some("v7"));
    assert_eq!(verify(env, &reader, &Selector::Only).as_str(), image.digest);
}

fn docker_archive(env: &Env, kind: Kind, names: &str) -> PathBuf {
    let path = env.new_folder("layout").join("docker.tar");
    let target = format!("docker-archive:{}:{names}", path.display());
    env.skopeo(&["copy", &env.image(kind).skopeo_name(), &target]).ok();
    path
}

fn docker_archives_have_ctrs_digests(env: &Env) {
    for kind in [Kind::Busybox, Kind::ThreeLayers, Kind::Many(5)] {
        let path = docker_archive(env, kind, "team/app:3");
        let reader = open(env, &path);
        assert_eq!(reader.images()[0].name.as_deref(), Some("docker.io/team/app:3"));
        let digest = verify(env, &reader, &Selector::Name("team/app:3".into()));
        let namespace = env.namespace("layout");
        env.ctr(&["-n", &namespace, "images", "import", "--no-unpack", &path.display().to_string()]).ok();
        let listed = env.ctr(&["-n", &namespace, "images", "ls"]).lines();
        assert!(
            listed.iter().any(|line| line.starts_with("docker.io/team/app:3") && line.contains(digest.as_str())),
            "{kind:?}: {digest} in {listed:?}"
        );
    }
}

fn compressed_and_piped_archives(env: &Env) {
    let path = docker_archive(env, Kind::ThreeLayers, "app:1");
    let plain = fs::read(&path).unwrap();
    let expected = verify(env, &open(env, &path), &Selector::Only);
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let two_members = [gzip.as_slice(), &flate2_empty()].concat();
    for (name, bytes) in [("x.tar.gz", &gzip), ("x.tar.zst", &zstd), ("members.gz", &two_members)] {
        let path = env.new_folder("layout").join(name);
        fs::write(&path, bytes).unwrap();
        let spool = env.new_folder("layout");
        let reader = env.block_on(ArchiveReader::open(&path, &ReadOptions::new(&spool))).unwrap();
        assert_eq!(verify(env, &reader, &Selector::Only), expected, "{name}");
        // The spool file has no name at any time.
        assert_eq!(fs::read_dir(&spool).unwrap().count(), 0);
    }
    for bytes in [plain, gzip] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let feeder = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        let options = ReadOptions::new(env.new_folder("layout"));
        let reader = env.block_on(ArchiveReader::from_reader("standard input", Box::new(reader), &options)).unwrap();
        feeder.join().unwrap();
        assert_eq!(verify(env, &reader, &Selector::Only), expected);
    }
}

fn flate2_empty() -> Vec<u8> {
    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().unwrap()
}
