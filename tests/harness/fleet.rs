//! Many images that share layers, in one OCI layout: what a migration moves.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::daemon::Daemon;
use super::image::{INDEX, Kind, Layer, MANIFEST, Writer, host, noise_of};
use super::output::Output;

/// How many of the images are indexes with two platforms and an attestation.
const INDEXES: usize = 3;

/// The digests of images, by repository.
pub type Digests = HashMap<String, String>;

/// How a source hands its images out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Kept,
    /// For this machine alone and with layers that are not compressed, as an engine does.
    Unpacked,
}

/// The images, each under a full name.
pub struct Fleet {
    pub layout: PathBuf,
    /// Repository within `example.test`, tag, and digest of the root.
    pub images: Vec<Member>,
}

pub struct Member {
    pub repository: String,
    pub tag: String,
    pub digest: String,
}

impl Fleet {
    /// Builds them: two layers of `shared` bytes that all have, and one of `own` bytes each.
    pub fn build(layout: &Path, count: usize, shared: usize, own: usize) -> Self {
        let writer = Writer::new(layout);
        let layer = |name: &str, seed: usize, length: usize| {
            Layer::new().file(name, 0o644, &noise_of(0x1234_5678_9abc_def0 + seed as u64, length))
        };
        let mut named = Vec::new();
        let mut images = Vec::new();
        for number in 0..count {
            let (descriptor, digest) = if number < INDEXES {
                // The same index under several names: what differs is the repository.
                let image = writer.index();
                (writer.describe(INDEX, &image.digest), image.digest)
            } else {
                let layers = [layer("one", 1, shared), layer("two", 2, shared), layer("own", 1000 + number, own)];
                let image = writer.manifest(Kind::Busybox, host(), &layers);
                (writer.describe(MANIFEST, &image.digest), image.digest)
            };
            let member = Member { repository: format!("fleet/app{number}"), tag: format!("1.{number}"), digest };
            named.push((format!("example.test/{}:{}", member.repository, member.tag), descriptor));
            images.push(member);
        }
        writer.name(&named);
        Self { layout: layout.to_owned(), images }
    }

    /// Adds up the blobs that a target lacks which has these repositories.
    pub fn lacking(&self, repositories: &HashSet<&str>, form: Form) -> u64 {
        let of = |has: bool| {
            let members = self.images.iter().filter(move |member| repositories.contains(&*member.repository) == has);
            members.flat_map(|member| self.blobs(&member.digest, form))
        };
        let there: HashSet<String> = of(true).map(|(digest, _)| digest).collect();
        let lacking: HashMap<String, u64> = of(false).filter(|(digest, _)| !there.contains(digest)).collect();
        lacking.values().sum()
    }

    fn read(&self, digest: &str) -> Vec<u8> {
        std::fs::read(self.layout.join("blobs").join(digest.replacen(':', "/", 1))).unwrap()
    }

    /// Returns the blobs below a document, with their sizes.
    fn blobs(&self, digest: &str, form: Form) -> Vec<(String, u64)> {
        let document: Value = serde_json::from_slice(&self.read(digest)).unwrap();
        let named = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_owned();
        if let Some(children) = document["manifests"].as_array() {
            let here = |child: &&Value| form == Form::Kept || child["platform"]["architecture"] == host();
            return children.iter().filter(here).flat_map(|child| self.blobs(&named(child), form)).collect();
        }
        let size = |blob: &Value| match form {
            Form::Unpacked if blob["mediaType"].as_str().unwrap().ends_with("gzip") => {
                std::io::copy(&mut GzDecoder::new(&*self.read(&named(blob))), &mut std::io::sink()).unwrap()
            }
            _ => blob["size"].as_u64().unwrap(),
        };
        let blobs = document["layers"].as_array().unwrap().iter().chain([&document["config"]]);
        blobs.map(|blob| (named(blob), size(blob))).collect()
    }

    /// Returns what a whole copy of it has.
    pub fn digests(&self) -> Digests {
        self.images.iter().map(|member| (member.repository.clone(), member.digest.clone())).collect()
    }
}

/// Asks ctr for the digests of a fleet's images in a namespace: their content is whole, and nothing stays of what was
/// needed on the way.
pub fn in_namespace(daemon: &Daemon, namespace: &str) -> Digests {
    check_clean(daemon, namespace);
    let mut digests = HashMap::new();
    for line in ctr(daemon, namespace, &["images", "check"]).lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(line.contains("complete"), "{line}");
        let (_, path) = words[0].split_once("fleet/").unwrap();
        digests.insert(format!("fleet/{}", path.split(':').next().unwrap()), words[2].to_owned());
    }
    digests
}

/// Looks for leases and unfinished content in a namespace.
pub fn check_clean(daemon: &Daemon, namespace: &str) {
    assert_eq!(ctr(daemon, namespace, &["leases", "ls", "-q"]).trim(), "", "no lease stays");
    let active = ctr(daemon, namespace, &["content", "active"]);
    assert_eq!(active.lines().filter(|line| !line.starts_with("REF")).count(), 0, "no ingest stays: {active}");
}

/// Reads the namespace of an endpoint, `containerd:[NAMESPACE@ADDRESS]` or without the address.
pub fn namespace_of(endpoint: &str) -> &str {
    endpoint.trim_start_matches("containerd:[").split(['@', ']']).next().unwrap()
}

fn ctr(daemon: &Daemon, namespace: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("ctr");
    Output::of(command.arg("-a").arg(daemon.socket()).args(["-n", namespace]).args(arguments)).ok()
}
