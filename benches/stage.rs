//! The private daemon, the registries and the programs.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctrsh::sandbox::{Options, RegistryOptions, Sandbox};

use crate::Arguments;
use crate::contest;
use crate::image::Image;
use crate::storage::Storage;

/// The namespace in which all is done.
const NAMESPACE: &str = "bench";
/// Who skopeo runs as: it keeps what it has seen of registries below `/var/lib` when it is root, and would look there in
/// a later run. Nobody's is in a folder that is emptied before each run.
const NOBODY: u32 = 65534;

/// The registries to pull from and to push to, by number.
pub const PLAIN: (usize, usize) = (0, 1);
/// Those that speak TLS.
pub const SECURE: (usize, usize) = (2, 3);
const CERTIFICATE: &str = "certificate.pem";

/// Where everything takes place.
pub struct Stage {
    sandbox: Arc<Sandbox>,
    program: PathBuf,
    quick: bool,
    /// For the images, and a home for the programs.
    folder: tempfile::TempDir,
}

impl Stage {
    /// Starts the daemons.
    pub fn set(arguments: &Arguments) -> Self {
        let folder = tempfile::Builder::new().prefix("ctrsh-bench-").tempdir_in(&arguments.folder).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut secure = RegistryOptions::default();
        secure.tls = Some(certificate(folder.path()));
        // One to pull from, and one to push to, which never has what is pushed first; and the same over TLS.
        let registries = [RegistryOptions::default(), RegistryOptions::default(), secure.clone(), secure];
        let options = registries.into_iter().fold(Options::new(&arguments.folder), Options::with_registry);
        let sandbox = Arc::new(Sandbox::start(&options).unwrap_or_else(|error| panic!("{error}")));
        stop_on_signals(&sandbox, folder.path());
        let program = arguments.program.canonicalize().unwrap();
        Self { sandbox, program, quick: arguments.quick, folder }
    }

    /// Says what was measured where, in a paragraph of Markdown.
    pub fn description(&self) -> String {
        let first = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = rustix::system::sysinfo().totalram >> 30;
        let programs = [
            first(&self.program.to_string_lossy(), "--version"),
            first("ctr", "--version"),
            first("skopeo", "--version"),
            first("runc", "--version"),
            first("docker-registry", "--version"),
            format!("Linux {}", rustix::system::uname().release().to_string_lossy()),
        ];
        let (programs, snapshotter, floor) = (programs.join(", "), self.sandbox.snapshotter(), contest::floor());
        format!("{cores} cores, {memory} GiB; {programs}; snapshotter {snapshotter}; `true` peaks at {floor:.1} MiB.\n")
    }

    /// Returns what a registry has on the disk.
    pub fn storage(&self, registry: usize) -> Storage {
        Storage::new(self.sandbox.folder().join(format!("registry-{registry}/docker/registry/v2")))
    }

    /// Empties the registry to push to.
    pub fn empty_target(&self) {
        self.storage(PLAIN.1).empty();
    }

    /// Returns where a registry listens.
    pub fn registry(&self, number: usize) -> SocketAddr {
        self.sandbox.registries()[number]
    }

    pub fn quick(&self) -> bool {
        self.quick
    }

    /// Returns how many rounds there are: those, or a few.
    pub fn rounds(&self, full: usize) -> usize {
        if self.quick { full.min(3) } else { full }
    }

    /// Returns a new folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Returns the registry to pull from.
    pub fn source(&self) -> String {
        self.registry(PLAIN.0).to_string()
    }

    /// Returns the registry to push to.
    pub fn target(&self) -> String {
        self.registry(PLAIN.1).to_string()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = contest::forked(Command::new(program));
        command
            .current_dir(self.folder.path())
            .env("CONTAINERD_ADDRESS", self.sandbox.socket())
            .env("CONTAINERD_NAMESPACE", NAMESPACE)
            .env("CONTAINERD_SNAPSHOTTER", self.sandbox.snapshotter())
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path())
            .env("SSL_CERT_FILE", self.folder.path().join(CERTIFICATE));
        command
    }

    pub fn ctr<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = self.command(Path::new("ctr"));
        command.args(arguments);
        command
    }

    /// Returns a command, or several one after another with a line in between that says so. No word needs quotes.
    pub fn words(&self, commands: impl Iterator<Item = String>) -> Command {
        let commands: Vec<String> = commands.collect();
        if let [command] = commands.as_slice() {
            let mut words = command.split(' ');
            let mut command = self.command(Path::new(words.next().unwrap()));
            command.args(words);
            return command;
        }
        self.bash(&commands.join("; echo done; "))
    }

    /// Returns several commands in bash, as one would write them without ctrsh.
    pub fn bash(&self, script: &str) -> Command {
        let mut command = self.command(Path::new("bash"));
        command.args(["-euc", script]);
        command
    }

    /// Returns a script in ctrsh.
    pub fn ctrsh(&self, script: &str) -> Command {
        let mut command = self.command(&self.program);
        command.args(["--allow", "read,write,run,delete,files", "-e", script]);
        command
    }

    /// Returns a dry run of a script in ctrsh.
    pub fn ctrsh_dry(&self, script: &str) -> Command {
        let mut command = self.command(&self.program);
        command.args(["--dry-run", "-e", script]);
        command
    }

    /// Returns skopeo, as it runs when it has seen no registry yet.
    pub fn skopeo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(Path::new("skopeo"));
        command.args(arguments);
        self.forgetful(command)
    }

    /// Has skopeo, in what is run, know nothing of what it saw in earlier runs.
    pub fn forgetful(&self, mut command: Command) -> Command {
        let memory = self.folder.path().join("memory");
        if memory.exists() {
            fs::remove_dir_all(&memory).unwrap();
        }
        fs::create_dir(&memory).unwrap();
        chown(&memory, Some(NOBODY), None).unwrap();
        command.uid(NOBODY).env("XDG_DATA_HOME", &memory).env("XDG_RUNTIME_DIR", &memory);
        command
    }

    pub fn other<const N: usize>(&self, program: &str, arguments: [&str; N]) -> Command {
        let mut command = self.command(Path::new(program));
        command.args(arguments);
        command
    }

    /// Puts an image into the registry to pull from, and returns its reference.
    pub fn publish(&self, image: &Image, name: &str) -> String {
        let reference = format!("{}/{name}:1", self.source());
        let target = format!("docker://{reference}");
        done(self.skopeo(["copy", "--dest-tls-verify=false", &image.skopeo_name(), &target]));
        reference
    }

    /// Has ctr pull an image, for what is not about pulling.
    pub fn pull(&self, reference: &str) {
        done(self.ctr(["images", "pull", "--plain-http", reference]));
    }

    /// Makes sure that the namespace has that many images.
    pub fn check_images(&self, count: usize) {
        let output = self.ctr(["images", "ls", "-q"]).output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout).lines().count();
        assert!(found >= count, "{found} images of {count} are in containerd");
    }

    /// Removes all images, and waits until the collector has removed their content and snapshots: what comes next is
    /// cold.
    pub fn empty(&self) {
        done(self.bash("ctr images ls -q | xargs -r ctr images rm --sync >/dev/null"));
        let blobs = self.sandbox.folder().join("root/io.containerd.content.v1.content/blobs/sha256");
        let deadline = Instant::now() + Duration::from_secs(30);
        while fs::read_dir(&blobs).is_ok_and(|mut blobs| blobs.next().is_some()) {
            assert!(Instant::now() < deadline, "content is left in {}", blobs.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Stage {
    /// Stops the daemons and removes everything, also after a panic; the folder removes itself.
    fn drop(&mut self) {
        if let Err(error) = self.sandbox.stop() {
            eprintln!("{error}");
        }
    }
}

/// Makes a certificate for the registries, which everyone is told to trust, and returns it with its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

/// Takes the daemons down when the run is broken off.
fn stop_on_signals(sandbox: &Arc<Sandbox>, folder: &Path) {
    let (sandbox, folder) = (Arc::clone(sandbox), folder.to_owned());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminated = signal(SignalKind::terminate()).unwrap();
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
        });
        let _ = sandbox.stop();
        let _ = fs::remove_dir_all(folder);
        std::process::exit(130);
    });
}

/// Runs a command that is not measured. It has to succeed.
pub fn done(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns whether a program is installed.
pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}
