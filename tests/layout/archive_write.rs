//! Archives that we write, read by others.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ctrsh::kind::Kind as Failure;
use ctrsh::layout::{ArchiveWriter, LayoutFolder, Selector, WriteOptions};
use ctrsh::oci::media_type::Compression;
use ctrsh::oci::store::{ImageSink, ImageSource, Labels};
use ctrsh::oci::{Descriptor, Digest, Matcher, MediaType};
use libtest_mimic::Trial;
use serde_json::Value;

use super::archive_read::{open, verify};
use super::movement::{self, Announce, copy};
use crate::harness::disk::Disk;
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("layout::archive_write::ctr_imports_it_and_runs_it", env, ctr_imports_it_and_runs_it),
        trial("layout::archive_write::skopeo_reads_it_both_ways", env, skopeo_reads_it_both_ways),
        trial("layout::archive_write::equal_images_make_equal_archives", env, equal_images_make_equal_archives),
        trial("layout::archive_write::images_share_blobs", env, images_share_blobs),
        trial("layout::archive_write::platforms_may_be_absent", env, platforms_may_be_absent),
        trial("layout::archive_write::nothing_stays_of_an_archive_given_up", env, nothing_stays_of_an_archive_given_up),
        trial("layout::archive_write::writers_at_once_take_turns", env, writers_at_once_take_turns),
        trial("layout::archive_write::long_digests_fit", env, long_digests_fit),
        trial("layout::archive_write::a_full_disk_is_named", env, a_full_disk_is_named),
    ]
}

fn options(env: &Env, compression: Compression) -> WriteOptions {
    WriteOptions { compression, platforms: Matcher::host(), spool: env.new_folder("layout") }
}

/// Saves test images under names, and returns the path of the archive and the digests.
fn save(env: &Env, images: &[(Kind, &str)], announce: Announce, compression: Compression) -> (PathBuf, Vec<Digest>) {
    let path = env.new_folder("layout").join("saved.tar");
    let digests = env.block_on(async {
        let writer = ArchiveWriter::create(&path, options(env, compression)).await.unwrap();
        let mut digests = Vec::new();
        for (kind, name) in images {
            let source = LayoutFolder::new(&env.image(*kind).layout, Selector::Only);
            let sink = writer.image(Selector::Name((*name).into()));
            digests.push(copy(&source, &sink, announce).await.unwrap().digest);
        }
        let len = writer.close().await.unwrap();
        assert_eq!(len, fs::metadata(&path).unwrap().len());
        digests
    });
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "something lies beside the archive");
    (path, digests)
}

fn entries(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            entry.path().unwrap().display().to_string()
        })
        .collect()
}

fn docker_list(path: &Path) -> Value {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let mut entry = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap().ends_with("manifest.json"))
        .unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ctr_imports_it_and_runs_it(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Index] {
        let namespace = env.namespace("layout");
        let reference = "docker.io/team/saved:1";
        let (path, digests) = save(env, &[(kind, reference)], Announce::Yes, Compression::None);
        env.ctr(&["-n", &namespace, "images", "import", &path.display().to_string()]).ok();
        let listed = env.ctr(&["-n", &namespace, "images", "ls"]).lines();
        let line = listed.iter().find(|line| line.starts_with(reference)).unwrap();
        assert!(line.contains(digests[0].as_str()), "{line}");
        let id = env.fresh("layout");
        let output = env.ctr(&["-n", &namespace, "run", "--rm", reference, &id, "echo", "it runs"]);
        assert_eq!(output.ok(), "it runs\n");
    }
}

fn skopeo_reads_it_both_ways(env: &Env) {
    let (path, digests) =
        save(env, &[(Kind::ThreeLayers, "docker.io/library/saved:1")], Announce::No, Compression::None);
    let target = env.new_folder("layout").join("oci");
    let name = format!("oci:{}:x", target.display());
    env.skopeo(&["copy", &format!("oci-archive:{}:1", path.display()), &name]).ok();
    let raw = env.skopeo(&["inspect", "--raw", &name]).ok();
    assert_eq!(Digest::sha256(raw.as_bytes()), digests[0]);
    let target = env.new_folder("layout").join("docker");
    let name = format!("oci:{}:x", target.display());
    env.skopeo(&["copy", &format!("docker-archive:{}:saved:1", path.display()), &name]).ok();
    let config = env.skopeo(&["inspect", "--config", "--raw", &name]).ok();
    let own = fs::read_to_string(env.image(Kind::ThreeLayers).blob(&env.image(Kind::ThreeLayers).config)).unwrap();
    let diff_ids = |text: &str| serde_json::from_str::<Value>(text).unwrap()["rootfs"]["diff_ids"].clone();
    assert_eq!(diff_ids(&config), diff_ids(&own));
}

/// A writer that tests can look into.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn equal_images_make_equal_archives(env: &Env) {
    let images = [(Kind::ThreeLayers, "docker.io/library/saved:1")];
    let (announced, _) = save(env, &images, Announce::Yes, Compression::None);
    let (assembled, _) = save(env, &images, Announce::No, Compression::None);
    let bytes = fs::read(&announced).unwrap();
    assert!(bytes == fs::read(&assembled).unwrap(), "the order of writing shows");
    let names = entries(&announced);
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    // The same files as ctr writes.
    let namespace = env.namespace("layout");
    env.ctr(&["-n", &namespace, "images", "import", &announced.display().to_string()]).ok();
    let exported = env.new_folder("layout").join("ctr.tar");
    env.ctr(&["-n", &namespace, "images", "export", &exported.display().to_string(), images[0].1]).ok();
    assert_eq!(names, entries(&exported));

    let (gzip, _) = save(env, &images, Announce::Yes, Compression::Gzip);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(gzip).unwrap()).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == bytes, "gzip");
    let (zstd, _) = save(env, &images, Announce::No, Compression::Zstd);
    assert!(zstd::decode_all(fs::File::open(zstd).unwrap()).unwrap() == bytes, "zstd");
    let stream = Sink::default();
    let len = env.block_on(async {
        let boxed = Box::new(stream.clone());
        let writer = ArchiveWriter::to_stream("standard output", boxed, options(env, Compression::None)).await.unwrap();
        let source = LayoutFolder::new(&env.image(Kind::ThreeLayers).layout, Selector::Only);
        copy(&source, &writer.image(Selector::Name(images[0].1.into())), Announce::Yes).await.unwrap();
        writer.close().await.unwrap()
    });
    assert_eq!(len, bytes.len() as u64);
    assert!(*stream.0.lock().unwrap() == bytes, "stream");
}

fn images_share_blobs(env: &Env) {
    let images = [
        (Kind::Busybox, "docker.io/library/a:1"),
        (Kind::ThreeLayers, "docker.io/library/b:1"),
        (Kind::Busybox, "c:2"),
    ];
    let (path, digests) = save(env, &images, Announce::Yes, Compression::None);
    let names = entries(&path);
    let mut unique = names.clone();
    unique.dedup();
    assert_eq!(names, unique);
    let reader = open(env, &path);
    assert_eq!(reader.images().len(), 3);
    for ((_, name), digest) in images.iter().zip(&digests) {
        assert_eq!(verify(env, &reader, &Selector::Name((*name).into())), *digest);
    }
    let list = docker_list(&path);
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[0]["RepoTags"], serde_json::json!(["a:1", "c:2"]));
    assert_eq!(list[1]["RepoTags"], serde_json::json!(["b:1"]));
}

/// Copies an index with the manifests of some platforms only.
async fn copy_platform(source: &dyn ImageSource, sink: &dyn ImageSink, wanted: &Matcher) -> Descriptor {
    let root = source.resolve().await.unwrap();
    let bytes = source.manifest(&root).await.unwrap();
    let children = ctrsh::oci::Parsed::read(&root, &bytes).unwrap().children();
    for child in wanted.select(&children) {
        let mut graph = Vec::new();
        movement::walk(source, child.clone(), &mut graph).await.unwrap();
        for (descriptor, manifest) in graph.iter().rev() {
            match manifest {
                Some(bytes) => sink.put_manifest(descriptor, bytes.clone(), &Labels::new()).await.unwrap(),
                None => movement::blob(source, sink, descriptor).await.unwrap(),
            }
        }
    }
    sink.put_manifest(&root, bytes, &Labels::new()).await.unwrap();
    sink.finish(&root).await.unwrap();
    root
}

fn platforms_may_be_absent(env: &Env) {
    let path = env.new_folder("layout").join("saved.tar");
    let image = env.image(Kind::Index);
    let root = env.block_on(async {
        let writer = ArchiveWriter::create(&path, options(env, Compression::None)).await.unwrap();
        let sink = writer.image(Selector::Name("docker.io/library/part:1".into()));
        let source = LayoutFolder::new(&image.layout, Selector::Only);
        let root = copy_platform(&source, &sink, &Matcher::host()).await;
        writer.close().await.unwrap();
        root
    });
    let reader = open(env, &path);
    let source = reader.source_for(&reader.images()[0]);
    let bytes = env.block_on(source.manifest(&root)).unwrap();
    let children = ctrsh::oci::Parsed::read(&root, &bytes).unwrap().children();
    let present: Vec<_> = children.iter().filter(|child| reader.contains(&child.digest)).collect();
    assert_eq!(present.len(), 1);
    assert_eq!(present[0].digest.as_str(), image.manifest);
    let absent = children.iter().find(|child| !reader.contains(&child.digest)).unwrap();
    let error = env.block_on(source.manifest(absent)).unwrap_err();
    assert_eq!(error.kind(), Failure::NotFound);
    assert!(error.to_string().contains(absent.digest.as_str()), "{error}");
    // Docker sees the platform that is there.
    assert_eq!(docker_list(&path)[0]["Config"], format!("blobs/{}", image.config.replace(':', "/")));
    let namespace = env.namespace("layout");
    env.ctr(&["-n", &namespace, "images", "import", &path.display().to_string()]).ok();
    let id = env.fresh("layout");
    env.ctr(&["-n", &namespace, "run", "--rm", "docker.io/library/part:1", &id, "true"]).ok();
}

fn nothing_stays_of_an_archive_given_up(env: &Env) {
    let folder = env.new_folder("layout");
    let path = folder.join("saved.tar");
    fs::write(&path, "the archive of last week").unwrap();
    env.block_on(async {
        let writer = ArchiveWriter::create(&path, options(env, Compression::None)).await.unwrap();
        let sink = writer.image(Selector::Only);
        let source = LayoutFolder::new(&env.image(Kind::Busybox).layout, Selector::Only);
        copy(&source, &sink, Announce::Yes).await.unwrap();
    });
    assert_eq!(fs::read_to_string(&path).unwrap(), "the archive of last week");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let nowhere = folder.join("no/where.tar");
    let Err(error) = env.block_on(ArchiveWriter::create(&nowhere, options(env, Compression::None))) else {
        panic!("it was made")
    };
    assert_eq!(ctrsh::kind::Failure::kind(&error), Failure::NotFound, "{error}");
}

fn writers_at_once_take_turns(env: &Env) {
    let path = env.new_folder("layout").join("saved.tar");
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let descriptor = Descriptor::new(MediaType::OciConfig, Digest::sha256(&content), content.len() as u64);
    env.block_on(async {
        let writer = ArchiveWriter::create(&path, options(env, Compression::None)).await.unwrap();
        let sink = writer.image(Selector::Only);
        // One is dropped half-way, one brings wrong bytes, one is right, one comes too late.
        let mut dropped = sink.write(&descriptor, &Labels::new()).await.unwrap().unwrap();
        dropped.write(vec![9; 1_500_000].into()).await.unwrap();
        let (second, third) = (sink.clone(), sink.clone());
        let (one, other) = (descriptor.clone(), descriptor.clone());
        let wrong = tokio::spawn(async move {
            let mut writer = second.write(&one, &Labels::new()).await.unwrap().unwrap();
            writer.write(vec![8; 3_000_000].into()).await.unwrap();
            writer.commit().await.unwrap_err().kind()
        });
        tokio::task::yield_now().await;
        drop(dropped);
        assert_eq!(wrong.await.unwrap(), Failure::Integrity);
        assert!(!sink.has(&descriptor).await.unwrap());
        let mut right = third.write(&other, &Labels::new()).await.unwrap().unwrap();
        for chunk in content.chunks(10_007) {
            right.write(chunk.to_vec().into()).await.unwrap();
        }
        assert_eq!(right.offset(), content.len() as u64);
        right.commit().await.unwrap();
        assert!(sink.has(&descriptor).await.unwrap());
        assert!(sink.write(&descriptor, &Labels::new()).await.unwrap().is_none());
        writer.clone().close().await.unwrap();
        assert!(
            sink.write(&Descriptor::new(MediaType::OciConfig, Digest::sha256(b""), 0), &Labels::new()).await.is_err()
        );
        assert!(writer.close().await.is_err());
    });
    let reader = open(env, &path);
    assert!(reader.images().is_empty());
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.windows(content.len()).any(|part| part == content), "the content is not in the archive");
}

fn long_digests_fit(env: &Env) {
    let path = env.new_folder("layout").join("saved.tar");
    let mut hasher = ctrsh::oci::Hasher::new(ctrsh::oci::Algorithm::Sha512);
    hasher.update(b"long");
    let descriptor = Descriptor::new(MediaType::OciConfig, hasher.finish(), 4);
    env.block_on(async {
        let writer = ArchiveWriter::create(&path, options(env, Compression::None)).await.unwrap();
        let sink = writer.image(Selector::Only);
        for (descriptor, bytes) in [
            (descriptor.clone(), b"long".as_slice()),
            (Descriptor::new(MediaType::OciConfig, Digest::sha256(b"short"), 5), b"short"),
        ] {
            let mut blob = sink.write(&descriptor, &Labels::new()).await.unwrap().unwrap();
            blob.write(bytes.into()).await.unwrap();
            blob.commit().await.unwrap();
        }
        writer.close().await.unwrap();
    });
    let name = format!("blobs/sha512/{}", descriptor.digest.hex());
    assert!(entries(&path).contains(&name));
    assert!(open(env, &path).contains(&descriptor.digest));
}

fn a_full_disk_is_named(env: &Env) {
    let folder = env.new_folder("layout");
    let disk = Disk::mount(&folder, 1 << 20);
    let source = LayoutFolder::new(&env.image(Kind::Big(4)).layout, Selector::Only);
    let archive = env.block_on(async {
        let writer = ArchiveWriter::create(&folder.join("saved.tar"), options(env, Compression::None)).await.unwrap();
        let sink = writer.image(Selector::Only);
        copy(&source, &sink, Announce::No).await.map(drop)
    });
    let layout = LayoutFolder::new(folder.join("oci"), Selector::Only);
    let layout = env.block_on(copy(&source, &layout, Announce::No)).map(drop);
    let left = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    drop(disk);
    assert_eq!(left, ["oci"]);
    for result in [archive, layout] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Failure::NoSpace, "{error}");
        assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
    }
}
