//! Archives made to harm, or damaged.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ctrsh::kind::{BoxFailure, Failure, Kind};
use ctrsh::layout::{ArchiveReader, Error, LayoutFolder, ReadOptions, Selector};
use ctrsh::oci::Digest;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::archive_read::{open, verify};
use super::movement::{Announce, copy};
use crate::harness::{Env, PROMPT, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("layout::hostile::a_sparse_bomb_is_refused_at_once", env, a_sparse_bomb_is_refused_at_once),
        trial("layout::hostile::names_that_climb_are_nothing", env, names_that_climb_are_nothing),
        trial("layout::hostile::links_are_followed_only_inside", env, links_are_followed_only_inside),
        trial("layout::hostile::missing_and_wrong_blobs_are_named", env, missing_and_wrong_blobs_are_named),
        trial("layout::hostile::an_empty_index_falls_back", env, an_empty_index_falls_back),
        trial("layout::hostile::the_oci_layout_wins", env, the_oci_layout_wins),
        trial("layout::hostile::a_cut_archive_names_the_entry", env, a_cut_archive_names_the_entry),
        trial("layout::hostile::endless_streams_end", env, endless_streams_end),
        trial("layout::hostile::what_is_no_archive_says_so", env, what_is_no_archive_says_so),
        trial("layout::hostile::any_damage_is_an_error_or_nothing", env, any_damage_is_an_error_or_nothing),
    ]
}

/// A tar in the making.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, "", bytes)
    }

    fn link(self, name: &str, kind: EntryType, target: &str) -> Self {
        self.entry(name, kind, target, b"")
    }

    /// Adds an entry whose name the crate would not take.
    fn entry(mut self, name: &str, kind: EntryType, link: &str, bytes: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn at(self, env: &Env) -> PathBuf {
        let path = env.new_folder("layout").join("hostile.tar");
        fs::write(&path, self.bytes()).unwrap();
        path
    }
}

const LAYER: &[u8] = &[0; 1024];

fn config() -> Vec<u8> {
    let rootfs = json!({ "type": "layers", "diff_ids": [Digest::sha256(LAYER)] });
    json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs }).to_string().into_bytes()
}

fn docker_list(layer: &str) -> Vec<u8> {
    json!([{ "Config": "c.json", "RepoTags": ["app:1"], "Layers": [layer] }]).to_string().into_bytes()
}

/// A whole Docker archive.
fn docker() -> Tar {
    Tar::new().file("c.json", &config()).file("l/layer.tar", LAYER).file("manifest.json", &docker_list("l/layer.tar"))
}

/// A manifest with config and layer, for an OCI layout.
fn manifest() -> Vec<u8> {
    let config = config();
    let describe =
        |media: &str, bytes: &[u8]| json!({ "mediaType": media, "digest": Digest::sha256(bytes), "size": bytes.len() });
    json!({
        "schemaVersion": 2,
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": [describe("application/vnd.oci.image.layer.v1.tar", LAYER)],
    })
    .to_string()
    .into_bytes()
}

fn index(manifest: &[u8], name: &str) -> Value {
    json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::sha256(manifest),
        "size": manifest.len(), "annotations": { "io.containerd.image.name": name },
    }]})
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::sha256(bytes).hex())
}

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

fn oci() -> Tar {
    let manifest = manifest();
    Tar::new()
        .file("oci-layout", LAYOUT)
        .file("index.json", index(&manifest, "docker.io/library/oci:1").to_string().as_bytes())
        .file(&blob(&manifest), &manifest)
        .file(&blob(&config()), &config())
        .file(&blob(LAYER), LAYER)
}

fn refused(env: &Env, tar: Tar) -> Error {
    let path = tar.at(env);
    let options = ReadOptions::new(env.new_folder("layout"));
    let error = env.block_on(ArchiveReader::open(&path, &options)).unwrap_err();
    assert!(error.to_string().contains("hostile.tar"), "{error}");
    error
}

fn copied(env: &Env, tar: Tar) -> Result<Digest, BoxFailure> {
    let reader = open(env, &tar.at(env));
    let image = reader.find(&Selector::Only)?;
    let sink = LayoutFolder::new(env.new_folder("layout").join("made"), Selector::Name("v1".into()));
    env.block_on(copy(&reader.source_for(&image), &sink, Announce::No)).map(|root| root.digest)
}

fn a_sparse_bomb_is_refused_at_once(env: &Env) {
    // The bomb of the wild: 6 KB that declare a layer of 60 GB (GNU sparse format 1.0 in PAX).
    let mut tar = docker();
    tar.0
        .append_pax_extensions([
            ("GNU.sparse.major", b"1".as_slice()),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"l/layer.tar"),
            ("GNU.sparse.realsize", b"64424509440"),
        ])
        .unwrap();
    let mut map = b"1\n64424508928\n512\n".to_vec();
    map.resize(1024, 0);
    let started = Instant::now();
    let error = refused(env, tar.file("GNUSparseFile.0/layer.tar", &map));
    assert!(matches!(error, Error::Sparse { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--sparse"));
    // A size that nothing stands behind.
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..5].copy_from_slice(b"large");
    header.set_size(60 << 30);
    header.set_cksum();
    let mut tar = docker();
    tar.0.append(&header, b"".as_slice()).unwrap();
    let error = refused(env, tar);
    assert!(matches!(&error, Error::Truncated { entry, .. } if entry == "large"), "{error}");
    assert!(started.elapsed() < PROMPT);
}

fn names_that_climb_are_nothing(env: &Env) {
    for name in ["/manifest.json", "../manifest.json", "a/../../manifest.json"] {
        let tar =
            Tar::new().file("c.json", &config()).file("l/layer.tar", LAYER).file(name, &docker_list("l/layer.tar"));
        assert!(matches!(refused(env, tar), Error::NoArchive { .. }), "{name}");
    }
    for layer in ["/etc/passwd", "../../../../etc/passwd", "l/../../etc/passwd"] {
        let tar = Tar::new().file("c.json", &config()).file("manifest.json", &docker_list(layer));
        let error = refused(env, tar);
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        assert_eq!(error.kind(), Kind::NotFound);
    }
    // Cleaned names are the same file.
    let tar = Tar::new().file("./c.json", &config()).file("./l//layer.tar", LAYER);
    assert!(copied(env, tar.file("./x/../manifest.json", &docker_list("l/./layer.tar"))).is_ok());
}

fn links_are_followed_only_inside(env: &Env) {
    let with = |target: &str, kind| {
        let tar = Tar::new().file("c.json", &config()).file("l/layer.tar", LAYER);
        tar.link("m/layer.tar", kind, target).file("manifest.json", &docker_list("m/layer.tar"))
    };
    let expected = copied(env, docker()).unwrap();
    assert_eq!(copied(env, with("../l/layer.tar", EntryType::Symlink)).unwrap(), expected);
    assert_eq!(copied(env, with("l/layer.tar", EntryType::Link)).unwrap(), expected);
    for target in ["/etc/passwd", "../../../etc/passwd", "../m/layer.tar", "nothing"] {
        assert!(matches!(refused(env, with(target, EntryType::Symlink)), Error::Missing { .. }), "{target}");
    }
    // Devices and pipes under a layer's name are no layers.
    for kind in [EntryType::Char, EntryType::Fifo, EntryType::Directory] {
        assert!(matches!(refused(env, with("", kind)), Error::Missing { .. }), "{kind:?}");
    }
}

fn missing_and_wrong_blobs_are_named(env: &Env) {
    let manifest = manifest();
    let layout = || {
        Tar::new()
            .file("oci-layout", LAYOUT)
            .file("index.json", index(&manifest, "a.example/x:1").to_string().as_bytes())
    };
    let error = copied(env, layout()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains(Digest::sha256(&manifest).as_str()), "{error}");
    let error = copied(env, layout().file(&blob(&manifest), &vec![b' '; manifest.len()])).unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    let whole = |layer: &[u8]| {
        layout().file(&blob(&manifest), &manifest).file(&blob(&config()), &config()).file(&blob(LAYER), layer)
    };
    assert!(copied(env, whole(LAYER)).is_ok());
    for layer in [[1; 1024].as_slice(), &[0; 1023], &[0; 1025]] {
        let error = copied(env, whole(layer)).unwrap_err();
        assert_eq!(error.kind(), Kind::Integrity);
        assert!(error.to_string().contains(Digest::sha256(LAYER).as_str()), "{error}");
    }
    // In a Docker archive a plain layer is what its config says, or an error.
    let tar = Tar::new().file("c.json", &config()).file("l/layer.tar", &[2; 1024]);
    let error = copied(env, tar.file("manifest.json", &docker_list("l/layer.tar"))).unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    let two = json!([{ "Config": "c.json", "RepoTags": null, "Layers": ["l", "l"] }]).to_string();
    let error = refused(env, Tar::new().file("c.json", &config()).file("manifest.json", two.as_bytes()));
    assert!(error.to_string().contains("it lists 2 layers, its config 1"), "{error}");
    // A digest that is a path never comes near one.
    let evil = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../../etc/passwd", "size": 1 }]});
    let error = refused(env, Tar::new().file("oci-layout", LAYOUT).file("index.json", evil.to_string().as_bytes()));
    assert!(matches!(error, Error::Document { .. }), "{error}");
}

fn an_empty_index_falls_back(env: &Env) {
    let expected = copied(env, docker()).unwrap();
    for manifests in [json!(null), json!([])] {
        let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        let tar = docker().file("oci-layout", LAYOUT).file("index.json", index.as_bytes());
        assert_eq!(copied(env, tar).unwrap(), expected);
        let alone = Tar::new().file("oci-layout", LAYOUT).file("index.json", index.as_bytes());
        assert!(open(env, &alone.at(env)).images().is_empty());
    }
}

fn the_oci_layout_wins(env: &Env) {
    let mut tar = oci().0;
    let docker = docker().bytes();
    for entry in tar::Archive::new(docker.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (header, mut bytes) = (entry.header().clone(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    let reader = open(env, &Tar(tar).at(env));
    assert_eq!(reader.images().len(), 1);
    assert_eq!(reader.images()[0].name.as_deref(), Some("docker.io/library/oci:1"));
    assert_eq!(verify(env, &reader, &Selector::Only), Digest::sha256(&manifest()));
    let error = refused(env, Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#));
    assert!(error.to_string().contains("its version is 2.0.0"), "{error}");
    let error = refused(env, Tar::new().file("oci-layout", LAYOUT));
    assert!(error.to_string().contains("has no index.json"), "{error}");
}

fn a_cut_archive_names_the_entry(env: &Env) {
    let whole = docker().bytes();
    let path = env.new_folder("layout").join("hostile.tar");
    // Within the layer, which begins after the config's two blocks and its own header.
    fs::write(&path, &whole[..512 * 4]).unwrap();
    let options = ReadOptions::new(env.new_folder("layout"));
    let error = env.block_on(ArchiveReader::open(&path, &options)).unwrap_err();
    assert!(error.to_string().ends_with("hostile.tar is cut off in l/layer.tar"), "{error}");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(&whole).unwrap();
    let gzip = encoder.finish().unwrap();
    for len in [100, gzip.len() / 2, gzip.len() - 4] {
        fs::write(&path, &gzip[..len]).unwrap();
        let error = env.block_on(ArchiveReader::open(&path, &options)).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{len}: {error}");
    }
    // A gzip whose sum is wrong is damaged even when its tar is whole.
    let mut wrong = gzip.clone();
    let at = wrong.len() - 6;
    wrong[at] ^= 1;
    fs::write(&path, wrong).unwrap();
    let error = env.block_on(ArchiveReader::open(&path, &options)).unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity, "{error}");
}

/// Never ends.
struct Endless {
    head: std::io::Cursor<Vec<u8>>,
    body: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.head.read(buffer)?;
        if n > 0 {
            return Ok(n);
        }
        let n = buffer.len().min(self.body.len() - self.at);
        buffer[..n].copy_from_slice(&self.body[self.at..self.at + n]);
        self.at = (self.at + n) % self.body.len();
        Ok(n)
    }
}

fn endless_streams_end(env: &Env) {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zeros = gzip(&vec![0; 1 << 20]);
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..5].copy_from_slice(b"large");
    header.set_size(1 << 40);
    header.set_cksum();
    let cases = [
        // A gzip whose tar ends, but which goes on with zeros; and the same uncompressed.
        (gzip(&docker().bytes()), zeros.clone(), "after the end of its tar"),
        (docker().bytes(), vec![0; 1 << 20], "after the end of its tar"),
        // An entry that never ends.
        (gzip(header.as_bytes()), zeros, "more than 67108864 bytes when unpacked"),
    ];
    for (head, body, said) in cases {
        let reader = Endless { head: std::io::Cursor::new(head), body, at: 0 };
        let options = ReadOptions { max_unpacked: 64 << 20, ..ReadOptions::new(env.new_folder("layout")) };
        let read = ArchiveReader::from_reader("standard input", Box::new(reader), &options);
        let error = env.block_on(read).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    // One that ends only when nobody wants it: giving up the future stops the thread.
    let reader = Endless { head: std::io::Cursor::new(header.as_bytes().to_vec()), body: vec![0; 1 << 20], at: 0 };
    let spool = env.new_folder("layout");
    let options = ReadOptions::new(&spool);
    env.block_on(async {
        let read = ArchiveReader::from_reader("standard input", Box::new(reader), &options);
        assert!(tokio::time::timeout(Duration::from_millis(50), read).await.is_err());
    });
    let open_spools = || {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .any(|target| target.starts_with(&spool))
    };
    let started = Instant::now();
    while open_spools() {
        assert!(started.elapsed() < PROMPT, "the spool file is still written to");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn what_is_no_archive_says_so(env: &Env) {
    assert!(matches!(refused(env, Tar::new().file("etc/passwd", b"x")), Error::NoArchive { .. }));
    let path = env.new_folder("layout").join("hostile.tar");
    let options = ReadOptions::new(env.new_folder("layout"));
    for (bytes, said) in [
        (b"".as_slice(), "neither index.json"),
        (&[b'x'; 2000], "does not begin with a tar header"),
        (b"\xfd7zXZ\0 and more", "compressed with xz"),
        (b"BZh9 and more", "compressed with bzip2"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = env.block_on(ArchiveReader::open(&path, &options)).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = env.block_on(ArchiveReader::open(&path.join("no"), &options)).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let big = vec![b' '; (20 << 20) + 1];
    let error = refused(env, Tar::new().file("manifest.json", &big));
    assert!(error.to_string().contains("more than the 20971520 that are read"), "{error}");
}

fn any_damage_is_an_error_or_nothing(env: &Env) {
    for whole in [docker().bytes(), oci().bytes()] {
        let path = env.new_folder("layout").join("hostile.tar");
        fs::write(&path, &whole).unwrap();
        let expected = verify(env, &open(env, &path), &Selector::Only);
        let options = ReadOptions::new(env.new_folder("layout"));
        // One byte in seven is turned round; whatever then comes out right has the right digest.
        let mut failed = 0;
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            fs::write(&path, &damaged).unwrap();
            let Ok(reader) = env.block_on(ArchiveReader::open(&path, &options)) else {
                failed += 1;
                continue;
            };
            let Ok(image) = reader.find(&Selector::Only) else {
                failed += 1;
                continue;
            };
            let root = image.target.digest.clone();
            let sink = LayoutFolder::new(env.new_folder("layout").join("made"), Selector::Only);
            match env.block_on(copy(&reader.source_for(&image), &sink, Announce::No)) {
                // The config of a Docker archive is not pinned by anything: another config is another image.
                Ok(copied) => assert_eq!(copied.digest, root),
                Err(error) => {
                    assert!(matches!(error.kind(), Kind::Integrity | Kind::NotFound), "{error}");
                    failed += 1;
                }
            }
        }
        assert!(failed > 100, "{failed} of {} for {expected}", whole.len() / 7);
    }
}
