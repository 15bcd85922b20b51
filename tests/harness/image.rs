//! Test images, made from Debian's static busybox as OCI layouts.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::output::Output;

/// Which image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// busybox in one layer; the command is `sh`, and there is a user `app` (1000:1000).
    Busybox,
    /// busybox, then two layers over it, the last of which removes `/data/removed` and changes `/data/changed`.
    ThreeLayers,
    /// An index: this machine's platform, another one (not runnable here), and an attestation of the first.
    Index,
    /// As [`Kind::Busybox`], pushed with Docker's media types (schema 2).
    Docker,
    /// busybox and one layer of this many MiB that compression cannot shrink.
    Big(u32),
    /// busybox and this many tiny layers.
    Many(u32),
    /// One layer of this many KiB that compression cannot shrink. It does not run.
    Noise(u32),
}

/// An image in an OCI layout.
#[derive(Debug, Clone)]
pub struct Image {
    /// Which it is.
    pub kind: Kind,
    /// The folder of the layout.
    pub layout: PathBuf,
    /// The digest of what the tag `v1` names.
    pub digest: String,
    /// The digest of the manifest for this machine's platform.
    pub manifest: String,
    /// The digest of the config for this machine's platform.
    pub config: String,
    /// The digests of the layers for this machine's platform, lowest first.
    pub layers: Vec<String>,
    /// The digests of the uncompressed layers.
    pub diff_ids: Vec<String>,
}

/// The tag in the layout.
const TAG: &str = "v1";

/// A time long ago, so that an image has the same digest each time it is built.
const CREATED: &str = "2024-01-02T03:04:05Z";

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Image {
    /// Builds an image in an empty folder.
    pub fn build(kind: Kind, layout: &Path) -> Self {
        let writer = Writer::new(layout);
        let mut image = match kind {
            Kind::Busybox | Kind::Docker => writer.manifest(kind, host(), &[busybox()]),
            Kind::ThreeLayers => writer.manifest(kind, host(), &three_layers()),
            Kind::Big(mebibytes) => writer.manifest(kind, host(), &[busybox(), noise(mebibytes << 10)]),
            Kind::Noise(kibibytes) => writer.manifest(kind, host(), &[noise(kibibytes)]),
            Kind::Many(count) => {
                let tiny = (0..count).map(|number| Layer::new().file(&format!("layers/{number}"), 0o644, b"x"));
                writer.manifest(kind, host(), &std::iter::once(busybox()).chain(tiny).collect::<Vec<_>>())
            }
            Kind::Index => return writer.index(),
        };
        image.digest.clone_from(&image.manifest);
        writer.finish(&writer.describe(MANIFEST, &image.digest));
        image
    }

    /// Returns the name of the image for skopeo.
    pub fn skopeo_name(&self) -> String {
        format!("oci:{}:{TAG}", self.layout.display())
    }

    /// Returns the path of a blob in the layout.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.layout.join("blobs").join(digest.replace(':', "/"))
    }
}

/// Returns this machine's architecture as OCI names it.
pub fn host() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns a platform's architecture that is not this machine's.
pub fn foreign() -> &'static str {
    if host() == "arm64" { "amd64" } else { "arm64" }
}

/// A layer's tar archive in the making.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    /// Starts an empty layer.
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, path: &str, kind: tar::EntryType, mode: u32, owner: u64, data: &[u8], link: Option<&str>) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_704_164_645);
        header.set_size(data.len() as u64);
        match link {
            Some(target) => self.0.append_link(&mut header, path, target).unwrap(),
            None => self.0.append_data(&mut header, path, data).unwrap(),
        }
        self
    }

    /// Adds a folder.
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.add(path, tar::EntryType::Directory, mode, 0, b"", None)
    }

    /// Adds a file of root.
    pub fn file(self, path: &str, mode: u32, data: &[u8]) -> Self {
        self.add(path, tar::EntryType::Regular, mode, 0, data, None)
    }

    /// Adds a symbolic link.
    pub fn link(self, path: &str, target: &str) -> Self {
        self.add(path, tar::EntryType::Symlink, 0o777, 0, b"", Some(target))
    }

    /// Returns the archive.
    pub fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// busybox with a link for each of its programs, users and the usual folders.
fn busybox() -> Layer {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists()).unwrap();
    let programs = Output::of(std::process::Command::new(program).arg("--list")).lines();
    let mut layer = Layer::new();
    for (folder, mode) in [("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o555), ("root", 0o700)] {
        layer = layer.folder(folder, mode);
    }
    for (folder, mode) in [("sys", 0o555), ("tmp", 0o1777), ("home", 0o755)] {
        layer = layer.folder(folder, mode);
    }
    layer = layer.add("home/app", tar::EntryType::Directory, 0o755, 1000, b"", None);
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
    let group = "root:x:0:\napp:x:1000:\naudio:x:29:app\n";
    layer = layer.file("etc/passwd", 0o644, passwd.as_bytes()).file("etc/group", 0o644, group.as_bytes());
    layer = layer.file("bin/busybox", 0o755, &fs::read(program).unwrap());
    for name in programs.iter().filter(|name| *name != "busybox") {
        layer = layer.link(&format!("bin/{name}"), "busybox");
    }
    layer
}

fn three_layers() -> [Layer; 3] {
    let middle = Layer::new().folder("data", 0o755).file("data/removed", 0o644, b"one\n");
    let middle = middle.file("data/changed", 0o644, b"before\n");
    let top = Layer::new().folder("data", 0o755).file("data/.wh.removed", 0o644, b"");
    [busybox(), middle, top.file("data/changed", 0o600, b"after\n")]
}

/// A file of noise (xorshift64*).
fn noise(kibibytes: u32) -> Layer {
    Layer::new().file("noise", 0o644, &noise_of(0x9e37_79b9_7f4a_7c15, kibibytes as usize * (1 << 10)))
}

/// Bytes that gzip cannot shrink, the same for the same seed, which is not zero.
pub(super) fn noise_of(mut state: u64, length: usize) -> Vec<u8> {
    let words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    });
    words.take(length / 8).flatten().collect()
}

/// Returns the digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// Writes a layout.
pub(super) struct Writer<'a>(&'a Path);

impl<'a> Writer<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(folder)
    }

    fn blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        fs::write(self.0.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        digest
    }

    fn document(&self, document: &Value) -> String {
        self.blob(&serde_json::to_vec(document).unwrap())
    }

    /// Describes a blob that was written.
    pub(super) fn describe(&self, media_type: &str, digest: &str) -> Value {
        let size = fs::metadata(self.0.join("blobs").join(digest.replace(':', "/"))).unwrap().len();
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    pub(super) fn manifest(&self, kind: Kind, architecture: &str, layers: &[Layer]) -> Image {
        let tars: Vec<&[u8]> = layers.iter().map(|layer| layer.0.get_ref().as_slice()).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest(&closed(tar))).collect();
        let layers: Vec<String> = tars.iter().map(|tar| self.blob(&gzip(&closed(tar)))).collect();
        let history: Vec<Value> =
            (0..layers.len()).map(|n| json!({ "created": CREATED, "created_by": format!("layer {n}") })).collect();
        let config = self.document(&json!({
            "created": CREATED, "architecture": architecture, "os": "linux",
            "config": {
                "Env": ["PATH=/bin", "GREETING=hello"], "Cmd": ["sh"], "WorkingDir": "/",
                "Labels": { "org.opencontainers.image.title": "ctrsh test image" }, "StopSignal": "SIGTERM",
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": history,
        }));
        let described: Vec<Value> = layers.iter().map(|layer| self.describe(LAYER, layer)).collect();
        let manifest = self.document(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.describe(CONFIG, &config), "layers": described,
        }));
        Image { kind, layout: self.0.to_owned(), digest: manifest.clone(), manifest, config, layers, diff_ids }
    }

    /// Writes an index as docker buildx makes it, with an attestation beside the manifests.
    pub(super) fn index(&self) -> Image {
        let mut image = self.manifest(Kind::Index, host(), &[busybox()]);
        let other = Layer::new().folder("etc", 0o755).file("etc/architecture", 0o644, foreign().as_bytes());
        let other = self.manifest(Kind::Index, foreign(), &[other]);
        let statement = self.document(&json!({
            "_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [], "predicate": {},
        }));
        let mut layer = self.describe("application/vnd.in-toto+json", &statement);
        layer["annotations"] = json!({ "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" });
        let config = self.document(&json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [statement] },
        }));
        let attestation = self.document(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.describe(CONFIG, &config), "layers": [layer],
        }));
        let entry = |digest: &str, platform: Value| {
            let mut entry = self.describe(MANIFEST, digest);
            entry["platform"] = platform;
            entry
        };
        let mut attested = entry(&attestation, json!({ "architecture": "unknown", "os": "unknown" }));
        attested["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.manifest,
        });
        image.digest = self.document(&json!({
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [
                entry(&image.manifest, json!({ "architecture": host(), "os": "linux" })),
                entry(&other.manifest, json!({ "architecture": foreign(), "os": "linux" })),
                attested,
            ],
        }));
        self.finish(&self.describe(INDEX, &image.digest));
        image
    }

    /// Writes the layout's index, which names the image.
    fn finish(&self, descriptor: &Value) {
        self.name(&[(TAG.to_owned(), descriptor.clone())]);
    }

    /// Writes the layout's index, which names images.
    pub(super) fn name(&self, images: &[(String, Value)]) {
        let named = images.iter().map(|(name, descriptor)| {
            let mut descriptor = descriptor.clone();
            descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
            descriptor
        });
        let manifests: Vec<Value> = named.collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        fs::write(self.0.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }
}

/// Adds the two empty blocks that end an archive.
fn closed(tar: &[u8]) -> Vec<u8> {
    [tar, &[0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
