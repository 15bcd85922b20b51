//! The operations: one verb a file, named as scripts name it.
//!
//! A *read* is an async function from a [`Context`] and arguments to a value. A *change* is an [`Operation`] with a plan
//! and an apply, and runs only through [`execute`]. Operations know neither Rhai nor a terminal.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::containerd;
use crate::grant::Grant;

pub mod container;
pub mod content;
pub mod copy;
pub mod disk;
pub mod docker;
pub mod error;
pub mod event;
mod execute;
mod file;
pub mod graph;
pub mod host;
pub mod image;
pub mod lease;
mod local;
pub mod migrate;
pub mod namespace;
pub mod node;
pub mod overlay;
pub mod plan;
pub mod policy;
pub mod pprof;
pub mod progress;
pub mod registry;
pub mod sandbox;
pub mod shim;
pub mod snapshot;
pub mod task;
pub mod undo;
pub mod unpack;

pub use error::{Error, Result};
pub use execute::{Operation, ask, execute};
pub use local::LocalPath;
pub use overlay::{Effect, Overlay, Seen};
pub use plan::{Plan, Step};
pub use policy::{Audit, Confirm};
pub use progress::{Level, Meter, Progress};

/// A daemon that is connected to when it is first needed, and once.
#[derive(Clone)]
pub struct Daemon(Arc<DaemonInner>);

struct DaemonInner {
    endpoint: containerd::Endpoint,
    options: containerd::ConnectOptions,
    node: OnceCell<containerd::Node>,
}

impl Daemon {
    /// Names a daemon without connecting.
    #[must_use]
    pub fn new(endpoint: containerd::Endpoint, options: containerd::ConnectOptions) -> Self {
        Self(Arc::new(DaemonInner { endpoint, options, node: OnceCell::new() }))
    }

    /// Returns where the daemon listens.
    #[must_use]
    pub fn endpoint(&self) -> &containerd::Endpoint {
        &self.0.endpoint
    }

    /// Returns the connection, making it at the first call. A failed attempt is tried again by the next call.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn node(&self) -> Result<containerd::Node> {
        let connect = || containerd::connect(self.0.endpoint.clone(), self.0.options);
        Ok(self.0.node.get_or_try_init(connect).await?.clone())
    }

    /// Connects in the background. When that fails nobody hears of it: whoever needs the connection tries again.
    pub fn connect_ahead(&self, runtime: &tokio::runtime::Handle) {
        let daemon = self.clone();
        runtime.spawn(async move { daemon.node().await.map(drop) });
    }
}

/// A namespace of a daemon: where calls act, and where an object belongs.
#[derive(Clone)]
pub struct Place {
    /// The daemon.
    pub daemon: Daemon,
    /// The namespace.
    pub namespace: Arc<str>,
}

/// What an operation runs in: where, under which grant, and with what it shares with all others.
#[derive(Clone)]
pub struct Context {
    place: Place,
    grant: Grant,
    dry_run: bool,
    overlay: Arc<Overlay>,
    debts: undo::Debts,
    flights: copy::Flights,
    /// Leases that outlive single operations, each by the place that it is in; the last of a place counts.
    leases: Vec<(String, Arc<str>)>,
    /// The other daemons that calls name, so that each is connected to once.
    neighbours: Arc<Mutex<HashMap<String, Daemon>>>,
    shared: Arc<Shared>,
}

/// What all operations of a process share.
#[derive(Clone)]
pub struct Shared {
    /// Speaks to registries.
    pub registry: crate::registry::Client,
    /// Shows progress and plans.
    pub progress: Arc<dyn Progress>,
    /// Asks the user.
    pub confirm: Arc<dyn Confirm>,
    /// The program's own input, outputs and signals, for processes that are to have them.
    pub streams: Option<Arc<dyn container::Streams>>,
    /// Writes down changes.
    pub audit: Option<Arc<Audit>>,
    /// Choices that flags, environment and the configuration file made.
    pub settings: Settings,
}

/// Choices that hold unless a call's options say otherwise.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The snapshotter, when not the namespace's or the daemon's default.
    pub snapshotter: Option<String>,
    /// Where files for running tasks go: FIFOs, sockets. Mode 0700.
    pub run_dir: PathBuf,
    /// Where the output of detached containers goes.
    pub log_dir: PathBuf,
    /// Where large temporary files go.
    pub temp_dir: PathBuf,
    /// Where the Docker Engine listens, as `DOCKER_HOST` has it, when not at the usual place.
    pub docker_host: Option<String>,
    /// The folder below which `files` access reaches.
    pub working_dir: PathBuf,
}

impl Context {
    /// Makes a context.
    #[must_use]
    pub fn new(place: Place, grant: Grant, shared: Arc<Shared>) -> Self {
        Self {
            place,
            grant,
            dry_run: false,
            overlay: Arc::default(),
            debts: undo::Debts::default(),
            flights: copy::Flights::default(),
            leases: Vec::new(),
            neighbours: Arc::default(),
            shared,
        }
    }

    /// Returns where calls act.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the place as a word: what overlay keys and messages call it.
    #[must_use]
    pub fn place_name(&self) -> String {
        format!("{} {}", self.place.daemon.endpoint(), self.place.namespace)
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.place.namespace
    }

    /// Returns how grants name this namespace: `containerd/NAMESPACE`.
    #[must_use]
    pub fn target(&self) -> String {
        format!("containerd/{}", self.place.namespace)
    }

    /// Returns the same context somewhere else.
    #[must_use]
    pub fn at(&self, place: &Place) -> Self {
        Self { place: place.clone(), ..self.clone() }
    }

    /// Returns the daemon by which that one is reached: the context's own, one that was named before, or itself.
    pub(crate) fn neighbour(&self, daemon: &Daemon) -> Daemon {
        if daemon.endpoint() == self.place.daemon.endpoint() {
            return self.place.daemon.clone();
        }
        let mut known = self.neighbours.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(daemon.endpoint().to_string()).or_insert_with(|| daemon.clone()).clone()
    }

    /// Returns the same context in another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        self.at(&Place { namespace: namespace.into(), ..self.place.clone() })
    }

    /// Returns the same context with other shared parts, as an interpreter of its own has them.
    #[must_use]
    pub fn with_shared(&self, shared: Arc<Shared>) -> Self {
        Self { shared, ..self.clone() }
    }

    /// Returns the same context with a lease of a place, under which operations there do what they would make one for.
    #[must_use]
    pub(crate) fn with_lease(&self, place: &str, id: &str) -> Self {
        let mut leases = self.leases.clone();
        leases.push((place.to_owned(), id.into()));
        self.with_leases(leases)
    }

    /// Returns the same context with these leases and no others.
    #[must_use]
    pub(crate) fn with_leases(&self, leases: Vec<(String, Arc<str>)>) -> Self {
        Self { leases, ..self.clone() }
    }

    /// Returns the leases that outlive single operations, each by the place that it is in.
    pub(crate) fn leases(&self) -> &[(String, Arc<str>)] {
        &self.leases
    }

    /// Returns the lease that outlives single operations, when the context is in its place.
    pub(crate) fn lease(&self) -> Option<&str> {
        let place = self.place_name();
        self.leases.iter().rfind(|(of, _)| *of == place).map(|(_, id)| &**id)
    }

    /// Returns what all operations share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the same context under another cancel token.
    #[must_use]
    pub fn with_cancel(&self, cancel: CancellationToken) -> Self {
        Self { grant: self.grant.with_cancel(cancel), ..self.clone() }
    }

    /// Returns the same context as a dry run with an overlay of its own: changes are planned, shown, and not made.
    #[must_use]
    pub fn dry_run(&self) -> Self {
        Self { grant: self.grant.planning(), dry_run: true, overlay: Arc::default(), ..self.clone() }
    }

    /// Returns the same context for planning: its clients refuse every write. The plan may be carried out afterwards.
    pub(crate) fn planning(&self) -> Self {
        Self { grant: self.grant.planning(), ..self.clone() }
    }

    /// Returns whether changes are planned and not made.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Returns what may be done.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Returns what the dry run has planned so far.
    #[must_use]
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Returns what is still to be taken back of operations that did not come to their end.
    #[must_use]
    pub fn debts(&self) -> &undo::Debts {
        &self.debts
    }

    /// Takes back what operations made and did not finish, here and in registries.
    pub async fn settle(&self) {
        self.debts.settle().await;
        self.registry().settle().await;
    }

    /// Returns which digests are on their way.
    #[must_use]
    pub fn flights(&self) -> &copy::Flights {
        &self.flights
    }

    /// Returns the choices that hold unless options say otherwise.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Returns the client for registries.
    #[must_use]
    pub fn registry(&self) -> &crate::registry::Client {
        &self.shared.registry
    }

    /// Returns who shows progress.
    #[must_use]
    pub fn progress(&self) -> &Arc<dyn Progress> {
        &self.shared.progress
    }

    /// Returns the program's own input, outputs and signals, where it has some to give.
    #[must_use]
    pub fn streams(&self) -> Option<&Arc<dyn container::Streams>> {
        self.shared.streams.as_ref()
    }

    /// Shows a remark.
    pub fn note(&self, level: Level, text: &str) {
        self.shared.progress.note(level, text);
    }

    pub(crate) fn audit(&self) -> Option<&Audit> {
        self.shared.audit.as_deref()
    }

    pub(crate) fn confirm(&self, operation: &str, subject: &str, steps: &[Step]) -> bool {
        self.shared.confirm.confirm(operation, subject, steps)
    }

    /// Returns a client for the context's place and grant, under the context's lease of that place if it has one.
    ///
    /// # Errors
    /// Why there is no connection, or that the namespace's name cannot be one.
    pub async fn client(&self) -> Result<containerd::Client> {
        let client = self.place.daemon.node().await?.client(&self.place.namespace, &self.grant)?;
        if self.leases.is_empty() {
            return Ok(client);
        }
        match self.lease() {
            Some(lease) => Ok(client.with_lease(lease)?),
            None => Ok(client),
        }
    }
}
