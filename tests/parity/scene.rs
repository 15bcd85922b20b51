//! What the cases work with: images, registries and files that all share, and a namespace for each of the two programs.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ctrsh::oci::Digest;
use serde_json::{Value, json};

use super::{IMAGE, known, state};
use crate::harness::certificates::Certificates;
use crate::harness::fault::FaultProxy;
use crate::harness::generation;
use crate::harness::leftovers::mounts_with;
use crate::harness::output::Output;
use crate::harness::process::Server;
use crate::harness::token_server::{Flow, IDENTITY, TokenServer};
use crate::harness::{Env, Kind};

/// A registry that wants a certificate of its clients.
struct Mutual {
    host: String,
    certificates: Certificates,
    _server: Server,
}

impl Mutual {
    fn start(folder: &Path) -> Self {
        let certificates = Certificates::make(folder);
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {:?} }} }}\nhttp:\n  addr: \
             \"{host}\"\n  tls: {{ certificate: {:?}, key: {:?}, clientcas: [{:?}] }}\n",
            folder.join("data"),
            certificates.certificate,
            certificates.key,
            certificates.ca
        );
        fs::write(folder.join("registry.yml"), config).unwrap();
        let mut server = Server::new("docker-registry");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(folder.join("registry.yml")).stderr(std::process::Stdio::null());
        server.start(&mut command, || std::net::TcpStream::connect(&host).is_ok());
        Self { host, certificates, _server: server }
    }
}

/// What all cases share. Each thing is made when the first case asks for it.
pub struct Shared {
    env: Env,
    words: Mutex<HashMap<&'static str, Arc<OnceLock<String>>>>,
    mutual: OnceLock<Mutual>,
    guarded: OnceLock<(Arc<TokenServer>, FaultProxy)>,
}

/// The words of lines that are the same for both programs.
const WORDS: [&str; 27] = [
    "REF",
    "INDEX",
    "FOREIGN",
    "PLATFORM",
    "SNAPSHOTTER",
    "IMAGE",
    "ARCHIVE",
    "BOTH",
    "PLAIN",
    "MANIFEST",
    "CONFIG",
    "LAYER",
    "CHAIN",
    "SECURE",
    "LOGIN",
    "CA",
    "MUTUAL",
    "CERT",
    "KEY",
    "MUTUALCA",
    "GUARDED",
    "TOKEN",
    "MIRRORED",
    "HOSTS",
    "PAIR",
    "NAKED",
    "RUNC",
];

impl Shared {
    pub fn new(env: &Env) -> Arc<Self> {
        let (words, mutual, guarded) = Default::default();
        Arc::new(Self { env: env.clone(), words, mutual, guarded })
    }

    fn mutual(&self) -> &Mutual {
        self.mutual.get_or_init(|| Mutual::start(&self.env.new_folder("mutual")))
    }

    /// The plain registry behind a service of tokens.
    fn guarded(&self) -> &FaultProxy {
        let start = async {
            let tokens = TokenServer::start(Flow::Identity, Duration::from_secs(3600)).await;
            let proxy = FaultProxy::guarded(&self.env.registry(), &tokens).await;
            (tokens, proxy)
        };
        &self.guarded.get_or_init(|| self.env.block_on(start)).1
    }

    /// Returns what a word is.
    fn word(&self, name: &str) -> Option<String> {
        let name = WORDS.into_iter().find(|word| *word == name)?;
        let slot = self.words.lock().unwrap().entry(name).or_default().clone();
        Some(slot.get_or_init(|| self.make(name)).clone())
    }

    fn get(&self, name: &str) -> String {
        self.word(name).unwrap()
    }

    fn make(&self, name: &str) -> String {
        let env = &self.env;
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let image = || env.image(Kind::Busybox);
        // The same image under the name that another registry has for the plain one.
        let through = |host: &str| self.get("REF").replace(&env.registry(), host);
        match name {
            "REF" => env.pushed(Kind::Busybox, "box"),
            "INDEX" => env.pushed(Kind::Index, "box"),
            "FOREIGN" => format!("linux/{}", crate::harness::image::foreign()),
            "PLATFORM" => format!("linux/{}", crate::harness::image::host()),
            "SNAPSHOTTER" => env.snapshotter(),
            // An index of two platforms and nothing else.
            "PAIR" => {
                let reference = format!("{}:1", env.repository("box"));
                let namespace = env.namespace("box");
                let (index, foreign, host) = (self.get("INDEX"), self.get("FOREIGN"), self.get("PLATFORM"));
                let words = ["--platform", &foreign, "--platform", &host, &index, &reference];
                let ctr = |words: &[&str]| env.ctr(&[&["-n", &namespace], words].concat()).ok();
                ctr(&["content", "fetch", "--plain-http", "--all-platforms", &index]);
                ctr(&[&["images", "convert"], &words[..]].concat());
                ctr(&["images", "push", "--plain-http", &reference]);
                reference
            }
            "RUNC" => {
                let found = crate::harness::env::path().split(':').map(|folder| Path::new(folder).join("runc"));
                path(&found.into_iter().find(|path| path.exists()).unwrap())
            }
            "IMAGE" => IMAGE.into(),
            "ARCHIVE" => self.archive("archive.tar", &[IMAGE, &self.get("REF")], &self.get("REF"), None),
            "BOTH" => self.archive("both.tar", &["example.test/both:1"], &self.get("INDEX"), Some("--all-platforms")),
            "PLAIN" => image().skopeo_name(),
            // An archive whose image has a tag alone for a name.
            "NAKED" => {
                let file = env.new_folder("box").join("naked.tar");
                let target = format!("oci-archive:{}:latest", path(&file));
                env.skopeo(&["copy", &image().skopeo_name(), &target]).ok();
                path(&file)
            }
            "MANIFEST" => image().manifest,
            "CONFIG" => image().config,
            "LAYER" => image().layers[0].clone(),
            "CHAIN" => image().diff_ids[0].clone(),
            "SECURE" => env.push_secure(&image(), "box"),
            "LOGIN" => format!("{}:{}", env.registry_htpasswd_tls().user, env.registry_htpasswd_tls().password),
            "CA" => path(&env.registry_htpasswd_tls().ca),
            "MUTUAL" => {
                let mutual = self.mutual();
                let folder = env.new_folder("box");
                for (from, to) in [
                    (&mutual.certificates.ca, "ca.crt"),
                    (&mutual.certificates.client, "it.cert"),
                    (&mutual.certificates.client_key, "it.key"),
                ] {
                    fs::copy(from, folder.join(to)).unwrap();
                }
                let reference = format!("{}/box:v1", mutual.host);
                let target = format!("docker://{reference}");
                env.skopeo(&["copy", "--dest-cert-dir", &path(&folder), &image().skopeo_name(), &target]).ok();
                reference
            }
            "CERT" => path(&self.mutual().certificates.client),
            "KEY" => path(&self.mutual().certificates.client_key),
            "MUTUALCA" => path(&self.mutual().certificates.ca),
            "GUARDED" => through(&self.guarded().host()),
            "TOKEN" => IDENTITY.into(),
            "MIRRORED" => through("mirrored.test"),
            "HOSTS" => {
                let folder = env.new_folder("box");
                for (name, server) in [
                    (&"mirrored.test".to_owned(), format!("http://{}", env.registry())),
                    (&env.registry_htpasswd_tls().host, format!("https://{}", env.registry_htpasswd_tls().host)),
                    (&self.mutual().host, format!("https://{}", self.mutual().host)),
                ] {
                    // ctr 1.6 wants a host beside the server, and asks what is on this machine without TLS unless told.
                    let can = "capabilities = [\"pull\", \"resolve\", \"push\"]";
                    let text = format!("server = \"{server}\"\n[host.\"{server}\"]\n{can}\n");
                    fs::create_dir(folder.join(name)).unwrap();
                    fs::write(folder.join(name).join("hosts.toml"), text).unwrap();
                }
                path(&folder)
            }
            other => panic!("nothing makes ${other}"),
        }
    }

    /// Makes an archive of an image in a registry under other names.
    fn archive(&self, file: &str, names: &[&str], source: &str, flag: Option<&str>) -> String {
        let env = &self.env;
        let namespace = env.namespace("box");
        let file = env.new_folder("box").join(file).to_string_lossy().into_owned();
        let ctr = |words: &[&str]| {
            let mut command = Command::new("ctr");
            command.arg("--address").arg(env.socket()).args(["-n", &namespace]).args(generation::local(words));
            Output::of(command.env("CONTAINERD_SNAPSHOTTER", env.snapshotter())).ok()
        };
        ctr(&[&["content", "fetch", "--plain-http"][..], flag.as_slice(), &[source]].concat());
        for name in names.iter().filter(|name| **name != source) {
            ctr(&["images", "tag", source, name]);
        }
        ctr(&[&["images", "export"][..], flag.as_slice(), &[&file], names].concat());
        file
    }
}

/// The same work is done once with ctr and once with ctrsh; this is what one of the two has.
pub struct Side {
    pub env: Env,
    /// A name that no other side has; all that is its own has it.
    name: String,
    pub namespace: String,
    pub other: String,
    pub folder: PathBuf,
    shared: Arc<Shared>,
}

impl Side {
    pub fn new(shared: &Arc<Shared>) -> Self {
        let env = shared.env.clone();
        // As long as any other side's: the options of a runtime have the length of a path in them.
        let fresh = env.fresh("parity");
        let (front, number) = fresh.rsplit_once('-').unwrap();
        let name = format!("{front}-{number:0>4}");
        state::make_namespace(&env, &name);
        let folder = env.folder().join(&name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("web.env"), "TZ=UTC\nAREA=a\n").unwrap();
        fs::write(folder.join("profile.json"), r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
        fs::write(folder.join("pod.json"), "{}").unwrap();
        let limits = "{ Devices: [/dev/loop0], ThrottleReadBps: 50M, ThrottleWriteIOPS: 10k }";
        let classes = format!("Classes:\n  gold: [{{ Weight: 80 }}, {limits}]\n  silver: [{{ Weight: 40 }}]\n");
        fs::write(folder.join("blockio.yaml"), classes).unwrap();
        fs::create_dir(folder.join("mnt")).unwrap();
        // Root of a user namespace has to get to its files.
        fs::set_permissions(env.sandbox_folder(), fs::Permissions::from_mode(0o711)).unwrap();
        let other = format!("{name}.other");
        Self { env, namespace: name.clone(), name, other, folder, shared: Arc::clone(shared) }
    }

    /// Takes out what is the side's own.
    pub fn common(&self, text: &str) -> String {
        text.replace(&self.name, "SIDE")
    }

    fn own(&self, name: &str) -> Option<String> {
        let shared = |host: &str| Some(format!("{host}/{}:1", self.name));
        let file = |name: &str| Some(self.folder.join(name).to_string_lossy().into_owned());
        match name {
            "NS" => Some(self.namespace.clone()),
            "OTHER" => Some(self.other.clone()),
            "FILE" => file("file"),
            "MNT" => file("mnt"),
            "TARGET" => shared(&self.env.registry()),
            "SECURETARGET" => shared(&self.env.registry_htpasswd_tls().host),
            "MUTUALTARGET" => shared(&self.shared.mutual().host),
            "GUARDEDTARGET" => shared(&self.shared.guarded().host()),
            "MIRROREDTARGET" => shared("mirrored.test"),
            "SPEC" => {
                let path = self.folder.join("spec.json");
                if !path.exists() {
                    let mut spec: Value = serde_json::from_str(&self.env.ctr(&["oci", "spec"]).ok()).unwrap();
                    spec["root"] = json!({ "path": self.filled("$ROOTFS") });
                    spec["process"]["args"] = json!(["/bin/sleep", "600"]);
                    spec["linux"]["cgroupsPath"] = json!(format!("/{}/web", self.name));
                    fs::write(&path, spec.to_string()).unwrap();
                }
                file("spec.json")
            }
            "ROOTFS" => {
                let path = self.folder.join("rootfs");
                if !path.exists() {
                    fs::create_dir(&path).unwrap();
                    let image = self.env.image(Kind::Busybox);
                    let mut tar = Command::new("tar");
                    Output::of(tar.arg("-xzf").arg(image.blob(&image.layers[0])).arg("-C").arg(&path)).ok();
                }
                file("rootfs")
            }
            _ => None,
        }
    }

    /// Takes a line apart, with what its words stand for.
    fn words(&self, line: &str) -> Vec<String> {
        let words = shlex::split(line).unwrap_or_else(|| panic!("{line}"));
        let has = |flag: &str| known(&format!("{} {} {flag}", words[0], words.get(1).map_or("", String::as_str)));
        // Only some ctr have two ways, or bring more than is asked for; the flags say what all do.
        let flags = [("$LOCAL", "--local"), ("$SKIP", "--skip-metadata")];
        let mut taken = Vec::new();
        for word in &words {
            match flags.iter().find(|(name, _)| name == word) {
                Some((_, flag)) => taken.extend(has(flag).then(|| (*flag).to_owned())),
                None => taken.push(self.filled(word)),
            }
        }
        taken
    }

    /// Replaces the names in a text by what they stand for.
    pub fn filled(&self, text: &str) -> String {
        let mut parts = text.split('$');
        let mut filled = parts.next().unwrap().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            match self.own(name).or_else(|| self.shared.word(name)) {
                Some(value) => filled.push_str(&value),
                None => filled.extend(["$", name]),
            }
            filled.push_str(rest);
        }
        filled
    }

    fn here(&self, mut command: Command, line: &str) -> Command {
        command.args(self.words(line)).current_dir(&self.folder).env("CONTAINERD_SNAPSHOTTER", self.env.snapshotter());
        command
    }

    /// Returns a line of ctr in the namespace.
    pub fn ctr_command(&self, line: &str) -> Command {
        let mut command = Command::new("ctr");
        command.env("PATH", crate::harness::env::path());
        command.arg("--address").arg(self.env.socket()).args(["-n", &self.namespace]);
        self.here(command, line)
    }

    /// Returns the same line of ctrsh.
    pub fn ctrsh_command(&self, line: &str, json: bool) -> Command {
        let mut command = self.env.ctrsh_command();
        command.args(json.then_some("--json")).args(["--allow", "all", "ctr", "-n", &self.namespace]);
        self.here(command, line)
    }

    /// Runs ctr in the namespace.
    pub fn ctr(&self, line: &str) -> Output {
        Output::of(&mut self.ctr_command(line))
    }

    /// Gives the namespace the image.
    pub fn prepare(&self) {
        self.ctr("images import $LOCAL $ARCHIVE").ok();
    }

    /// Returns what the registries have of the side's repository: the digests of its layers and manifests, and its tags.
    pub fn pushed(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mutual = self.shared.mutual.get().map(|mutual| mutual.certificates.ca.parent().unwrap().to_owned());
        for root in mutual.into_iter().chain([self.env.sandbox_folder().to_owned()]) {
            for repositories in repositories(&root, 6) {
                links(&repositories.join(&self.name), "", &mut found);
            }
        }
        found.sort();
        found
    }

    /// Returns the digest of a file, when it is there.
    pub fn digest_of(&self, file: &str) -> Option<String> {
        fs::read(self.folder.join(file)).ok().map(|bytes| Digest::sha256(&bytes).to_string())
    }

    /// Leaves nothing that runs, and little that takes room.
    fn clean(&self) {
        if !mounts_with(&self.name).is_empty() {
            Output::of(Command::new("umount").arg("-q").arg(self.folder.join("mnt")));
        }
        state::clear(self);
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.clean();
        }
    }
}

/// Finds the folders of repositories that registries have below a folder.
fn repositories(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let here = folder.join("docker/registry/v2/repositories");
    if here.is_dir() {
        return vec![here];
    }
    if depth == 0 {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        let daemons = entry.file_name() == "root" || entry.file_name() == "state";
        !daemons && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    folders.flat_map(|entry| repositories(&entry.path(), depth - 1)).collect()
}

/// Adds the links in a repository, which name what it has.
fn links(folder: &Path, at: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "_uploads" {
            continue;
        }
        if name == "link" {
            found.push(format!("{at}: {}", fs::read_to_string(entry.path()).unwrap()));
        } else {
            links(&entry.path(), &format!("{at}/{name}"), found);
        }
    }
}
