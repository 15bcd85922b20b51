//! The shared daemons and the programs to ask them with.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use ctrsh::sandbox::{Options, RegistryOptions, Sandbox};

use super::certificates::Certificates;
use super::engine::Engine;
use super::generation;
use super::image::{Image, Kind};
use super::leftovers::mounts_with;
use super::output::Output;
use super::owner;

/// The programs that the tests run, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("skopeo", "skopeo"),
    ("busybox", "busybox-static"),
    ("htpasswd", "apache2-utils"),
    ("openssl", "openssl"),
];

/// Where the machine's programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns where the programs are looked for, as `PATH` has it: first in the folder of the containerd that is tested.
pub fn path() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| tested().map_or_else(|| PATH.into(), |folder| format!("{}:{PATH}", folder.display())))
}

/// Returns the plain options of a sandbox of the containerd that is tested.
pub fn sandbox_in(base: impl Into<PathBuf>) -> Options {
    let mut options = Options::new(base);
    options.containerd = tested().map(|folder| folder.join("containerd"));
    options
}

/// Returns the folder of the containerd that is tested in place of the installed one, with its ctr and its shim.
/// `scripts/test --containerd-of` names it, and puts it before all others for the suite itself too.
pub fn tested() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| std::env::var_os("CTRSH_TEST_CONTAINERD").map(PathBuf::from)).as_deref()
}

/// The beginning of the names of the suites' temporary folders; the pid of the suite follows.
const FOLDER: &str = "ctrsh-suite-";

/// The user of the registry with authentication.
const USER: &str = "tester";
/// The user's password; its odd characters have to survive every way it takes.
const PASSWORD: &str = "s3cret with:colon\"quote";

/// Returns whether this is the build on a server, where nothing may be skipped.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// The environment of all tests; a clone is another handle on the same one.
#[derive(Clone)]
pub struct Env(Arc<Inner>);

struct Inner {
    /// A temporary folder for the homes, images and files of the tests; gone when the suite ends.
    folder: Mutex<Option<tempfile::TempDir>>,
    folder_path: PathBuf,
    /// Where the folder of the daemons is made.
    base: PathBuf,
    in_memory: OnceLock<Env>,
    certificates: OnceLock<Certificates>,
    sandbox: OnceLock<Sandbox>,
    engine: OnceLock<Engine>,
    runtime: OnceLock<tokio::runtime::Runtime>,
    images: Mutex<HashMap<Kind, Arc<OnceLock<Image>>>>,
    counter: AtomicU32,
    missing: Option<String>,
}

/// A registry with HTTPS of a private authority and Basic authentication.
#[derive(Debug, Clone)]
pub struct SecureRegistry {
    /// Its name in references: `localhost:PORT`.
    pub host: String,
    /// The authority's certificate.
    pub ca: PathBuf,
    /// A folder with `ca.crt`, as `skopeo --cert-dir` wants it.
    pub cert_dir: PathBuf,
    /// The user.
    pub user: &'static str,
    /// The user's password.
    pub password: &'static str,
}

impl Env {
    /// Makes the environment; the daemons start when the first test asks for them.
    pub fn new() -> Self {
        sweep();
        let env = Self::with_base(std::env::temp_dir());
        env.stop_on_signals();
        env
    }

    fn with_base(base: PathBuf) -> Self {
        let prefix = format!("{FOLDER}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let folder_path = folder.path().to_owned();
        Self(Arc::new(Inner {
            folder: Mutex::new(Some(folder)),
            folder_path,
            base,
            in_memory: OnceLock::new(),
            certificates: OnceLock::new(),
            sandbox: OnceLock::new(),
            engine: OnceLock::new(),
            runtime: OnceLock::new(),
            images: Mutex::default(),
            counter: AtomicU32::new(0),
            missing: missing(),
        }))
    }

    /// Returns another environment, whose daemons keep their files in memory where there is room: what they do with much that is
    /// small is mostly waiting for the disk. Who works with it leaves little there.
    pub fn in_memory(&self) -> Self {
        self.0.in_memory.get_or_init(|| Self::with_base(memory())).clone()
    }

    /// Returns what keeps the tests with daemons from running.
    pub fn missing(&self) -> Option<&str> {
        self.0.missing.as_deref()
    }

    /// Removes the logs that `ctrsh` wrote where root's are written, and their folder if nobody else's are there.
    fn remove_logs() {
        let root = Path::new("/var/log/ctrsh");
        let ours = format!("-{}-", std::process::id());
        for folder in std::fs::read_dir(root).into_iter().flatten().flatten() {
            if folder.file_name().to_string_lossy().contains(&ours) {
                std::fs::remove_dir_all(folder.path()).unwrap();
            }
        }
        for folder in [root.join("k8s.io"), root.join("default"), root.to_owned(), "/run/ctrsh".into()] {
            // One with something in it is not ours alone.
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Stops the daemons and removes the folder.
    pub fn stop(&self) {
        if let Some(env) = self.0.in_memory.get() {
            env.stop();
        }
        if let Some(sandbox) = self.0.sandbox.get() {
            sandbox.stop().unwrap();
        }
        if let Some(engine) = self.0.engine.get() {
            engine.stop();
        }
        Self::remove_logs();
        let Some(folder) = self.0.folder.lock().unwrap().take() else { return };
        let mounts = mounts_with(&self.folder().to_string_lossy());
        if mounts.is_empty() {
            drop(folder);
        } else {
            // A failed test left these; to remove the folder would remove what is behind them.
            eprintln!("left alone because of mounts: {}: {mounts:?}", folder.keep().display());
        }
    }

    fn stop_on_signals(&self) {
        use tokio::signal::unix::{SignalKind, signal};
        let env = self.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt()).unwrap();
                let mut terminate = signal(SignalKind::terminate()).unwrap();
                let mut hangup = signal(SignalKind::hangup()).unwrap();
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            env.stop();
            // Tests that still run may have made files after that.
            let _ = std::fs::remove_dir_all(env.folder());
            std::process::exit(130);
        });
    }

    /// Returns the shared daemons, starting them at the first call.
    fn sandbox(&self) -> &Sandbox {
        self.0.sandbox.get_or_init(|| {
            let certificates = self.certificates();
            let password_file = self.folder().join("htpasswd");
            let made = Output::of(Command::new("htpasswd").args(["-nbB", USER, PASSWORD])).ok();
            std::fs::write(&password_file, made.trim()).unwrap();
            let mut secure = RegistryOptions::default();
            secure.tls = Some((certificates.certificate.clone(), certificates.key.clone()));
            secure.htpasswd = Some(password_file);
            let options = sandbox_in(&self.0.base);
            let options = options.with_registry(RegistryOptions::default()).with_registry(secure);
            let options = options.with_registry(RegistryOptions::default());
            Sandbox::start(&options).unwrap()
        })
    }

    fn certificates(&self) -> &Certificates {
        self.0.certificates.get_or_init(|| Certificates::make(&self.folder().join("certificates")))
    }

    /// Returns the suite's temporary folder.
    pub fn folder(&self) -> &Path {
        &self.0.folder_path
    }

    /// Makes a new empty folder.
    pub fn new_folder(&self, area: &str) -> PathBuf {
        let path = self.folder().join(self.fresh(area));
        std::fs::create_dir_all(&path).unwrap();
        owner::claim(&path);
        path
    }

    /// Returns the shared containerd's socket.
    pub fn socket(&self) -> &Path {
        self.sandbox().socket()
    }

    /// Returns the folder of the shared sandbox.
    pub fn sandbox_folder(&self) -> &Path {
        self.sandbox().folder()
    }

    /// Returns the shared containerd's pid.
    pub fn containerd_pid(&self) -> u32 {
        self.sandbox().containerd_pid()
    }

    /// Returns the snapshotter that works in the shared sandbox's folder.
    pub fn snapshotter(&self) -> String {
        self.sandbox().snapshotter().to_owned()
    }

    /// Returns the shared Docker Engine, starting it at the first call. It has `example/box:1`, of [`Kind::Busybox`].
    pub fn engine(&self) -> &Engine {
        self.0.engine.get_or_init(|| {
            let engine = Engine::start(&self.engine_folder());
            engine.load(self, &self.image(Kind::Busybox), "example/box:1");
            engine
        })
    }

    /// Returns where the shared Docker Engine listens once it was started.
    pub fn engine_socket(&self) -> PathBuf {
        Engine::socket_in(&self.engine_folder())
    }

    fn engine_folder(&self) -> PathBuf {
        self.folder().join("engine")
    }

    /// Returns the name of a registry like the plain one, which the [`Harbor`](super::harbor::Harbor)s stand in front of.
    pub fn registry_of_harbors(&self) -> String {
        self.sandbox().registries()[2].to_string()
    }

    /// Returns the name of the plain registry, `127.0.0.1:PORT`: HTTP, no authentication.
    pub fn registry(&self) -> String {
        self.sandbox().registries()[0].to_string()
    }

    /// Returns the registry with HTTPS and a password.
    pub fn registry_htpasswd_tls(&self) -> SecureRegistry {
        let host = format!("localhost:{}", self.sandbox().registries()[1].port());
        let cert_dir = self.folder().join("cert-dir");
        std::fs::create_dir_all(&cert_dir).unwrap();
        let ca = self.certificates().ca.clone();
        if !cert_dir.join("ca.crt").exists() {
            std::fs::copy(&ca, cert_dir.join("ca.crt")).unwrap();
        }
        SecureRegistry { host, ca, cert_dir, user: USER, password: PASSWORD }
    }

    /// Returns a name that no other test gets, beginning with the area.
    pub fn fresh(&self, area: &str) -> String {
        format!("{area}-{}-{}", std::process::id(), self.0.counter.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a containerd namespace that no other test uses.
    pub fn namespace(&self, area: &str) -> String {
        let name = self.fresh(area);
        self.ctr(&["namespaces", "create", &name]).ok();
        name
    }

    /// Returns a repository in the plain registry that no other test uses: `127.0.0.1:PORT/AREA-…`.
    pub fn repository(&self, area: &str) -> String {
        format!("{}/{}", self.registry(), self.fresh(area))
    }

    /// Runs `ctr` against the shared containerd.
    pub fn ctr<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let arguments = generation::local(arguments);
        Output::of(
            Command::new("ctr").arg("--address").arg(self.socket()).args(arguments).env_remove("CONTAINERD_ADDRESS"),
        )
    }

    /// Runs `skopeo`.
    pub fn skopeo<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let mut command = Command::new("skopeo");
        command.arg("--insecure-policy").args(arguments);
        Output::of(command.env("HOME", self.folder()).env("XDG_RUNTIME_DIR", self.folder()))
    }

    /// Runs the built `ctrsh` against the shared containerd.
    pub fn ctrsh<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        Output::of(self.ctrsh_command().args(arguments))
    }

    /// Returns a command for the built `ctrsh` that sees nothing of the user's environment.
    ///
    /// It has a home of its own, no credentials, UTC, and the shared containerd as its default address.
    pub fn ctrsh_command(&self) -> Command {
        let mut command = self.bare_ctrsh_command();
        command.env("CONTAINERD_ADDRESS", self.socket());
        command
    }

    /// Returns a command as [`Env::ctrsh_command`] does, but without an address and without starting the daemons.
    pub fn bare_ctrsh_command(&self) -> Command {
        let home = self.folder().join(owner::named("home"));
        let temporary = self.folder().join(owner::named("tmp"));
        for folder in [&home, &temporary] {
            std::fs::create_dir_all(folder).unwrap();
            owner::claim(folder);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctrsh"));
        command
            .env_clear()
            .env("PATH", path())
            .env("HOME", &home)
            .env("TMPDIR", &temporary)
            .env("XDG_RUNTIME_DIR", &temporary)
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "dumb")
            .env("TZ", "UTC")
            .env("RUST_BACKTRACE", "1")
            .current_dir(&home);
        if let Some(folder) = tested() {
            command.env("CTRSH_SANDBOX_CONTAINERD", folder.join("containerd"));
        }
        command
    }

    /// Returns a test image, building it at the first call.
    pub fn image(&self, kind: Kind) -> Image {
        let slot = self.0.images.lock().unwrap().entry(kind).or_default().clone();
        slot.get_or_init(|| Image::build(kind, &self.new_folder("image"))).clone()
    }

    /// Builds a test image, pushes it by skopeo to a repository of its own in the plain registry and returns the
    /// reference, `127.0.0.1:PORT/AREA-…:v1`.
    pub fn pushed(&self, kind: Kind, area: &str) -> String {
        let reference = format!("{}:v1", self.repository(area));
        self.push(&self.image(kind), &reference);
        reference
    }

    /// Pushes a test image by skopeo to a reference in the plain registry.
    pub fn push(&self, image: &Image, reference: &str) {
        let mut arguments = vec!["copy".to_owned(), "--all".into(), "--dest-tls-verify=false".into()];
        if image.kind == Kind::Docker {
            arguments.extend(["--format".into(), "v2s2".into()]);
        }
        arguments.extend([image.skopeo_name(), format!("docker://{reference}")]);
        self.skopeo(&arguments).ok();
    }

    /// Pushes a test image by skopeo to the registry with HTTPS and a password; returns the reference.
    pub fn push_secure(&self, image: &Image, area: &str) -> String {
        let registry = self.registry_htpasswd_tls();
        let reference = format!("{}/{}:v1", registry.host, self.fresh(area));
        let credentials = format!("{}:{}", registry.user, registry.password);
        let folder = registry.cert_dir.to_string_lossy().into_owned();
        let target = format!("docker://{reference}");
        let source = image.skopeo_name();
        let options = ["--dest-creds", &credentials, "--dest-cert-dir", &folder];
        self.skopeo(&[["copy", "--all"].as_slice(), &options, &[source.as_str(), target.as_str()]].concat()).ok();
        reference
    }

    /// Runs a future to its end on the suite's runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    /// Returns the suite's runtime.
    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        self.0.runtime.get_or_init(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap())
    }
}

/// Returns a folder in memory in which programs run, or the temporary folder where there is none with 2 GiB to spare.
fn memory() -> PathBuf {
    let fits = |found: rustix::fs::StatVfs| {
        let runs = !found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC);
        runs && found.f_bavail * found.f_frsize >= 2 << 30
    };
    let folder = PathBuf::from("/dev/shm");
    if rustix::fs::statvfs(&folder).is_ok_and(fits) { folder } else { std::env::temp_dir() }
}

/// Removes the folders of suites that were killed, with the sandboxes that their tests had started.
fn sweep() {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let owner = name.strip_prefix(FOLDER).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_none_or(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
            continue;
        }
        for folder in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            let failed = ctrsh::sandbox::sweep(&folder.path()).into_iter().filter(|stale| stale.error.is_some());
            failed.for_each(|stale| eprintln!("not cleaned: {stale:?}"));
        }
        // A mount leads elsewhere; what is behind it is not ours to remove.
        if mounts_with(&path.to_string_lossy()).is_empty() {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Says what is missing to run tests with daemons, with the packages to install.
fn missing() -> Option<String> {
    if !Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n") {
        return Some("needs root".into());
    }
    let absent = |program: &str| !path().split(':').any(|folder| Path::new(folder).join(program).exists());
    let packages: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| absent(program)).map(|(_, package)| *package).collect();
    (!packages.is_empty()).then(|| format!("needs {} (run scripts/test)", packages.join(", ")))
}
