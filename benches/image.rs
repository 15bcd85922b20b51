//! Images of every shape, as OCI layouts on disk.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image in a layout.
pub struct Image(PathBuf);

impl Image {
    /// Returns its name for skopeo.
    pub fn skopeo_name(&self) -> String {
        format!("oci:{}:1", self.0.display())
    }

    /// Returns the layout.
    pub fn layout(&self) -> &Path {
        &self.0
    }

    /// One layer with busybox.
    pub fn tiny(folder: PathBuf) -> Self {
        let layout = Layout::new(folder);
        let busybox = layout.busybox();
        layout.image(&[busybox])
    }

    /// A number of layers with a share each of this machine's own programs and libraries: files of all sizes, and bytes
    /// that compress as those of images do.
    pub fn real(folder: PathBuf, layers: usize, bytes: u64) -> Self {
        let layout = Layout::new(folder);
        let mut files = Vec::new();
        for root in ["/usr/bin", "/usr/lib", "/usr/share"] {
            let mut found = Vec::new();
            list(Path::new(root), &mut found);
            // A share of each kind: programs, libraries, and many small files.
            let mut rest = bytes / 3;
            for (path, size) in found.into_iter().filter(|(_, size)| *size < 4 << 20) {
                let Some(less) = rest.checked_sub(size) else { break };
                rest = less;
                files.push((path, size));
            }
        }
        let total: u64 = files.iter().map(|(_, size)| size).sum();
        let share = total / (layers as u64 - 1) + 1;
        let mut made = vec![layout.busybox()];
        let mut files = files.into_iter();
        for _ in 1..layers {
            made.push(layout.layer(Compression::default(), |tar| {
                let mut taken = 0;
                while taken < share
                    && let Some((path, size)) = files.next()
                {
                    taken += size;
                    add(tar, path.strip_prefix("/").unwrap(), size, File::open(&path).unwrap());
                }
            }));
        }
        layout.image(&made)
    }

    /// One layer of so many MiB that compression cannot shrink, beside busybox.
    pub fn big(folder: PathBuf, mebibytes: u64) -> Self {
        let layout = Layout::new(folder);
        let noise = layout.layer(Compression::none(), |tar| {
            add(tar, Path::new("noise"), mebibytes << 20, Noise::new(mebibytes));
        });
        layout.image(&[noise])
    }

    /// That many tiny layers.
    pub fn many(folder: PathBuf, layers: usize) -> Self {
        let layout = Layout::new(folder);
        let made: Vec<Layer> = (0..layers)
            .map(|n| {
                layout.layer(Compression::fast(), |tar| {
                    let text = format!("layer {n}\n");
                    add(tar, Path::new(&format!("layers/{n}")), text.len() as u64, text.as_bytes());
                })
            })
            .collect();
        layout.image(&made)
    }

    /// That many images of one layer, each with a config and a manifest of its own, as an archive that ctr imports.
    pub fn fleet(folder: PathBuf, images: usize) -> PathBuf {
        let archive = folder.with_extension("tar");
        let layout = Layout::new(folder);
        let layer = layout.layer(Compression::fast(), |tar| add(tar, Path::new("file"), 5, &b"fleet"[..]));
        let entries = (0..images).map(|n| {
            let mut entry = layout.manifest(std::slice::from_ref(&layer), &n.to_string());
            entry["platform"] = json!({ "os": "linux", "architecture": architecture() });
            entry["annotations"] = json!({ "io.containerd.image.name": format!("example.com/fleet/app-{n:04}:1") });
            entry
        });
        let entries: Vec<Value> = entries.collect();
        layout.index(&entries);
        let mut tar = tar::Builder::new(BufWriter::new(File::create(&archive).unwrap()));
        tar.append_dir_all(".", &layout.0).unwrap();
        tar.into_inner().unwrap().flush().unwrap();
        archive
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Lists the files below a folder with their sizes, in an order that stays.
fn list(folder: &Path, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            list(&entry.path(), files);
        } else if kind.is_file() {
            files.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
}

pub fn add(tar: &mut Tar, path: &Path, size: u64, data: impl Read) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(size);
    tar.append_data(&mut header, path, data.take(size)).unwrap();
}

/// Bytes without a pattern, the same for the same seed.
pub struct Noise(SmallRng);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.fill_bytes(buffer);
        Ok(buffer.len())
    }
}

/// Hashes what goes through.
pub struct Hashed<W>(W, Sha256);

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self(inner, Sha256::new())
    }

    fn finish(self) -> (W, String) {
        (self.0, name(&self.1.finalize()))
    }
}

fn name(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub type Tar = tar::Builder<Hashed<GzEncoder<Hashed<BufWriter<File>>>>>;

/// A layer that was written.
#[derive(Clone)]
pub struct Layer {
    pub blob: Value,
    diff_id: String,
}

/// A layout that is being written.
pub struct Layout(PathBuf);

impl Layout {
    pub fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(folder)
    }

    /// Returns the folder of the blobs.
    pub fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.blobs().join(digest.replace(':', "/"))
    }

    pub fn layer(&self, compression: Compression, fill: impl FnOnce(&mut Tar)) -> Layer {
        let path = self.0.join("layer");
        let file = Hashed::new(BufWriter::new(File::create(&path).unwrap()));
        let mut tar = tar::Builder::new(Hashed::new(GzEncoder::new(file, compression)));
        fill(&mut tar);
        let (encoder, diff_id) = tar.into_inner().unwrap().finish();
        let (mut file, digest) = encoder.finish().unwrap().finish();
        file.flush().unwrap();
        fs::rename(path, self.path(&digest)).unwrap();
        Layer { blob: self.describe(LAYER, &digest), diff_id }
    }

    fn busybox(&self) -> Layer {
        let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
        let program = File::open(program.unwrap()).unwrap();
        let size = program.metadata().unwrap().len();
        self.layer(Compression::default(), |tar| {
            add(tar, Path::new("bin/busybox"), size, program);
            for name in ["sh", "sleep"] {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
            }
        })
    }

    fn document(&self, media_type: &str, document: &Value) -> Value {
        let bytes = serde_json::to_vec(document).unwrap();
        let digest = name(&Sha256::digest(&bytes));
        fs::write(self.path(&digest), bytes).unwrap();
        self.describe(media_type, &digest)
    }

    fn describe(&self, media_type: &str, digest: &str) -> Value {
        let size = fs::metadata(self.path(digest)).unwrap().len();
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    fn manifest(&self, layers: &[Layer], author: &str) -> Value {
        self.documents(layers, author).1
    }

    /// Writes an image's config and manifest, and returns what points to them.
    pub fn documents(&self, layers: &[Layer], author: &str) -> (Value, Value) {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "author": author, "architecture": architecture(), "os": "linux",
            "config": { "Cmd": ["sh"], "Env": ["PATH=/bin"] }, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.document(CONFIG, &config);
        let blobs: Vec<&Value> = layers.iter().map(|layer| &layer.blob).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": blobs });
        (config, self.document(MANIFEST, &manifest))
    }

    fn image(self, layers: &[Layer]) -> Image {
        let mut manifest = self.manifest(layers, "bench");
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
        self.index(&[manifest]);
        Image(self.0)
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        fs::write(self.0.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }
}
