//! A throw-away containerd, and registries beside it, in a temporary folder.
//!
//! Everything of a sandbox lies in one folder with a random name: containerd's root, state and socket, the data of the
//! registries, their configurations and logs. What has to lie elsewhere (the state of runc, cgroups, sockets of shims)
//! is found again by that folder's name. [`Sandbox::stop`], or dropping it, kills every process and removes everything,
//! the folder last. A process that is killed itself (`kill -9`) takes its daemons along; the shims and containers that
//! it leaves are cleaned by the next sandbox with the same base folder.

mod cleanup;
mod config;
mod containers;
mod daemon;
mod error;
mod folder;
mod mounts;
mod overlay;
mod process;
mod registry;
mod spawn;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

pub use self::error::Error;
pub use self::registry::{Registry, RegistryOptions, registry_installed};

use self::daemon::Daemon;
use self::folder::Folder;
use self::spawn::Spawner;

/// Where programs are looked for unless the caller says otherwise: the default of Debian's root.
const SEARCH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How a sandbox is to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The folder in which the sandbox's folder is made; the socket's path must stay below 108 bytes.
    pub base: PathBuf,
    /// The folders in which containerd, its shim, runc and the registry are looked for.
    pub search: Vec<PathBuf>,
    /// The containerd to run instead of the one found. Programs are looked for in its folder first.
    pub containerd: Option<PathBuf>,
    /// Whether containerd loads its CRI plugin.
    pub cri: bool,
    /// More of containerd's configuration: TOML tables, version 2.
    pub config: String,
    /// The registries to run beside containerd.
    pub registries: Vec<RegistryOptions>,
    /// How long each daemon may take to start.
    pub ready_within: Duration,
}

impl Options {
    /// Returns the plain options: containerd as installed, without CRI, and no registry.
    #[must_use]
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self {
            base: base.into(),
            search: SEARCH.iter().map(PathBuf::from).collect(),
            containerd: None,
            cri: false,
            config: String::new(),
            registries: Vec::new(),
            ready_within: Duration::from_secs(20),
        }
    }

    /// Adds a registry.
    #[must_use]
    pub fn with_registry(mut self, registry: RegistryOptions) -> Self {
        self.registries.push(registry);
        self
    }

    /// Adds a plain registry when its program is installed.
    #[must_use]
    pub fn with_registry_if_installed(self) -> Self {
        if registry_installed(&self.search) { self.with_registry(RegistryOptions::default()) } else { self }
    }
}

/// What an earlier sandbox had left and [`Sandbox::start`] found.
#[derive(Debug)]
pub struct Stale {
    /// The folder.
    pub folder: PathBuf,
    /// The pid of the process that had made it, if it is known.
    pub owner: Option<i32>,
    /// Why it could not be cleaned; nothing when it is gone.
    pub error: Option<Error>,
}

/// A running sandbox.
///
/// A process that ends by [`std::process::exit`] or by a signal does not drop its values: whoever handles signals has
/// to call [`Sandbox::stop`], which any thread may do.
#[derive(Debug)]
pub struct Sandbox {
    socket: PathBuf,
    folder: PathBuf,
    containerd_pid: u32,
    snapshotter: &'static str,
    addresses: Vec<std::net::SocketAddr>,
    stale: Vec<Stale>,
    parts: Mutex<Option<Parts>>,
}

/// What a sandbox has to take down.
#[derive(Debug)]
struct Parts {
    folder: Folder,
    containerd: Option<Daemon>,
    registries: Vec<Registry>,
    spawner: Spawner,
    stopped: bool,
}

impl Sandbox {
    /// Starts a sandbox and returns when its daemons listen.
    ///
    /// Sandboxes in the same base folder whose owners were killed are cleaned first; [`Sandbox::stale`] tells of them.
    ///
    /// # Errors
    /// Fails when this process is not root, when a program is missing, or when a daemon does not start; nothing is
    /// left then.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            return Err(Error::NotRoot { uid: uid.as_raw() });
        }
        let containerd = match &options.containerd {
            Some(path) => path.clone(),
            None => daemon::find("containerd", "containerd", &options.search)?,
        };
        let beside = options.containerd.as_deref().and_then(Path::parent).map(Path::to_owned);
        let search: Vec<PathBuf> = beside.into_iter().chain(options.search.iter().cloned()).collect();
        daemon::find("runc", "runc", &search)?;
        let stale = sweep(&options.base);
        let folder = Folder::create(&options.base)?;
        let failed = |source| Error::Spawn { program: containerd.clone(), source };
        let spawner = Spawner::new().map_err(failed)?;
        // From here on a failure drops `parts`, and with it all that was started and made.
        let mut parts = Parts { folder, containerd: None, registries: Vec::new(), spawner, stopped: false };
        let socket = parts.folder.join("containerd.sock");
        let containerd_pid = parts.start(&containerd, &socket, options, &search)?;
        let overlay = overlay::works_in(&parts.folder.join("tmp/overlay"));
        Ok(Self {
            socket,
            folder: parts.folder.path().to_owned(),
            containerd_pid,
            snapshotter: if overlay { "overlayfs" } else { "native" },
            addresses: parts.registries.iter().map(Registry::address).collect(),
            stale,
            parts: Mutex::new(Some(parts)),
        })
    }

    /// Returns the path of containerd's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the sandbox's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns containerd's pid.
    #[must_use]
    pub fn containerd_pid(&self) -> u32 {
        self.containerd_pid
    }

    /// Returns the snapshotter that works in the sandbox's folder: `overlayfs`, or `native` where overlays cannot be.
    #[must_use]
    pub fn snapshotter(&self) -> &'static str {
        self.snapshotter
    }

    /// Returns where the registries listen, in the order of the options.
    #[must_use]
    pub fn registries(&self) -> &[std::net::SocketAddr] {
        &self.addresses
    }

    /// Returns what killed sandboxes had left when this one started.
    #[must_use]
    pub fn stale(&self) -> &[Stale] {
        &self.stale
    }

    /// Kills every process of the sandbox and removes all that it made; a second call does nothing.
    ///
    /// # Errors
    /// Fails, leaving the folder for the next sandbox to clean, when a process survives or something stays mounted.
    pub fn stop(&self) -> Result<(), Error> {
        let mut parts = self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        parts.take().map_or(Ok(()), |mut parts| parts.stop())
    }
}

impl Parts {
    /// Starts the registries and containerd side by side and waits for all; returns containerd's pid.
    fn start(&mut self, containerd: &Path, socket: &Path, options: &Options, search: &[PathBuf]) -> Result<u32, Error> {
        self.folder.make_folder("tmp")?;
        let mut starting = Vec::with_capacity(options.registries.len());
        for (number, registry) in options.registries.iter().enumerate() {
            let Self { folder, spawner, .. } = self;
            starting.push(Registry::start(folder, spawner, search, number, registry)?);
        }
        let text = config::containerd(self.folder.path(), options.cri, &options.config);
        let config = self.folder.write("containerd.toml", &text)?;
        let arguments = ["--config", &config.to_string_lossy()];
        let daemon = Daemon::start(&mut self.folder, &self.spawner, containerd, &arguments, search)?;
        let pid = daemon.pid();
        // containerd listens when its plugins are loaded, so that a connection means it is ready.
        let daemon = self.containerd.insert(daemon);
        daemon.wait_until(options.ready_within, |_| UnixStream::connect(socket).ok())?;
        for registry in starting {
            self.registries.push(registry.wait(options.ready_within)?);
        }
        Ok(pid)
    }

    fn stop(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        for registry in &mut self.registries {
            registry.reap();
        }
        if let Some(containerd) = &mut self.containerd {
            containerd.reap();
        }
        cleanup::clean(&self.folder)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // A caller that wants to know calls `stop`; what is left here is found by the next sandbox.
        let _ = self.stop();
    }
}

/// Cleans the sandboxes below a folder whose owners are gone.
#[must_use]
pub fn sweep(base: &Path) -> Vec<Stale> {
    let clean = |folder: Folder| Stale {
        owner: folder.marker().owner.map(|owner| owner.pid),
        error: cleanup::clean(&folder).err(),
        folder: folder.path().to_owned(),
    };
    Folder::stale(base).into_iter().map(clean).collect()
}
