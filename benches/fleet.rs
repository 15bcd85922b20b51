//! Many images that share most of their content, as the services of one team do.

use std::cell::OnceCell;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use serde_json::Value;

use crate::image::{Layer, Layout, Noise, add};
use crate::stage::Stage;
use crate::storage::{Placed, Storage};

/// The layers that all have: 5.8 MB.
const SHARED: [u64; 3] = [3_400_000, 1_600_000, 800_000];
/// The layers that each has for itself.
const OWN: [u64; 2] = [200_000, 20_000];
/// How many tags a repository has where there are thousands of images.
pub const TAGS: usize = 100;

/// Images on the disk, and their names.
pub struct Fleet {
    layout: Layout,
    pub images: Vec<Placed>,
}

impl Fleet {
    /// `app-0:1` and so on: repositories with an image of five layers each.
    pub fn repositories(folder: PathBuf, count: usize) -> Self {
        Self::of_five_layers(folder, count, |n| (format!("app-{n}"), "1".into()))
    }

    /// `app:0` and so on: the same images as tags of one repository.
    pub fn tags(folder: PathBuf, count: usize) -> Self {
        Self::of_five_layers(folder, count, |n| ("app".into(), n.to_string()))
    }

    /// `many-0:0` and so on: tiny images with nothing but a config of their own.
    pub fn many(folder: PathBuf, count: usize) -> Self {
        let layout = Layout::new(folder);
        let layer = layout.layer(Compression::fast(), |tar| add(tar, Path::new("file"), 4, &b"many"[..]));
        let image = |n: usize| {
            let (repository, tag) = (format!("many-{}", n / TAGS), (n % TAGS).to_string());
            place(&layout, std::slice::from_ref(&layer), n, (repository, tag))
        };
        let images = (0..count).map(image).collect();
        Self { layout, images }
    }

    fn of_five_layers(folder: PathBuf, count: usize, name: impl Fn(usize) -> (String, String)) -> Self {
        let layout = Layout::new(folder);
        let noise = |path: String, size: u64, seed: u64| {
            layout.layer(Compression::fast(), |tar| add(tar, Path::new(&path), size, Noise::new(seed)))
        };
        let shared = SHARED.iter().enumerate().map(|(n, size)| noise(format!("shared/{n}"), *size, n as u64));
        let shared: Vec<Layer> = shared.collect();
        let images = (0..count).map(|n| {
            let seed = |layer: usize| 1000 + (n * OWN.len() + layer) as u64;
            let own = OWN.iter().enumerate().map(|(layer, size)| noise(format!("own/{layer}"), *size, seed(layer)));
            let layers: Vec<Layer> = shared.iter().cloned().chain(own).collect();
            place(&layout, &layers, n, name(n))
        });
        let images = images.collect();
        Self { layout, images }
    }

    /// Puts the first images into a registry.
    pub fn put(&self, storage: &Storage, count: usize) {
        self.images.iter().take(count).for_each(|image| storage.put(image, &self.layout.blobs()));
    }

    /// Makes sure that a registry has all of them.
    pub fn check(&self, storage: &Storage) {
        self.images.iter().for_each(|image| storage.check(image));
    }

    /// Writes their names in a registry, a line each.
    pub fn list(&self, file: &Path, registry: &str) {
        let mut text = String::new();
        for image in &self.images {
            let _ = writeln!(text, "{registry}/{}:{}", image.repository, image.tag);
        }
        fs::write(file, text).unwrap();
    }

    /// Writes their names in a registry for `skopeo sync`.
    pub fn list_for_skopeo(&self, file: &Path, registry: &str, secure: bool) {
        let mut text = format!("\"{registry}\":\n  tls-verify: {secure}\n  images:\n");
        for image in &self.images {
            let _ = writeln!(text, "    {}: [\"{}\"]", image.repository, image.tag);
        }
        fs::write(file, text).unwrap();
    }
}

/// A fleet that is built when it is first needed.
pub struct Lazy<'a> {
    stage: &'a Stage,
    name: String,
    count: usize,
    make: fn(PathBuf, usize) -> Fleet,
    made: OnceCell<Fleet>,
}

impl<'a> Lazy<'a> {
    pub fn new(stage: &'a Stage, name: &str, count: usize, make: fn(PathBuf, usize) -> Fleet) -> Self {
        Self { stage, name: name.to_owned(), count, make, made: OnceCell::new() }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn get(&self) -> &Fleet {
        self.made.get_or_init(|| (self.make)(self.stage.folder(&self.name), self.count))
    }
}

fn place(layout: &Layout, layers: &[Layer], number: usize, (repository, tag): (String, String)) -> Placed {
    let (config, manifest) = layout.documents(layers, &number.to_string());
    let digest = |of: &Value| of["digest"].as_str().unwrap().to_owned();
    let blob = |of: &Value| (digest(of), of["size"].as_u64().unwrap());
    let blobs = [&config].into_iter().chain(layers.iter().map(|layer| &layer.blob)).map(blob).collect();
    Placed { repository, tag, digest: digest(&manifest), blobs }
}
