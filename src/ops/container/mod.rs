//! Containers: records that a task is started from, and their life.
//!
//! Order matters where things can end at any moment: a wait is sent before a start, a kill that finds nothing is settled
//! by the wait, and what was made is taken back in reverse, the task first.

mod apparmor;
mod attach;
mod blockio;
mod cdi;
mod cgroup;
mod changes;
mod checkpoint;
mod cni;
mod commit;
mod create;
mod delete;
mod diff;
mod exec;
mod failure;
mod files;
mod foreign;
mod get;
mod host;
mod keys;
mod kill;
mod label;
mod layers;
mod lines;
mod list;
mod logs;
mod network;
mod records;
mod restart;
mod restore;
mod rootfs;
mod run;
mod signal;
mod start;
mod stop;
mod streams;
mod terminal;
mod update;
mod userns;
mod wait;

pub use attach::{attach, attachable};
pub use blockio::block_io;
pub use cdi::named_devices;
pub use changes::{Change, Fate};
pub use checkpoint::{Checkpoint, CheckpointOptions};
pub use commit::{Commit, CommitOptions};
pub use create::{Create, CreateOptions};
pub use delete::Delete;
pub use diff::diff;
pub use exec::{Exec, ExecDetached, ExecOptions};
pub use files::{CopyFiles, CopyFilesOptions, Direction, Tally};
pub(in crate::ops) use get::not_running;
pub use get::{Snapshot, get, snapshot, status};
pub use host::device;
pub use keys::{DETACH_KEYS, DetachKeys};
pub use kill::Kill;
pub use label::Label;
pub use lines::Lines;
pub use list::{list, list_with_tasks};
pub use logs::{Follow, LogOptions, logs, too_long};
pub use network::{NetworkOptions, addresses};
pub use restart::Restart;
pub use restore::{Restore, RestoreOptions};
pub use run::{Ran, Run, RunOptions};
pub use signal::Signal;
pub use start::{Start, StartOptions};
pub use stop::Stop;
pub use streams::{Ends, Passed, Streams, pass_attached};
pub use terminal::{Attached, Parted, Seat, Window, discard, exec_terminal, start_terminal};
pub use update::Update;
pub use wait::wait;

use std::time::Duration;

use crate::containerd::containers::Container;
use crate::containerd::io::Output;
use crate::containerd::{self, Client, Labels};
use crate::grant::Access;
use crate::oci::spec::{cgroup_reach, host_reach};
use crate::ops::{Context, Plan};

/// The label that keeps an image's stop signal (containerd `client/container_opts.go`).
pub const STOP_SIGNAL_LABEL: &str = "io.containerd.image.config.stop-signal";

/// How much of each output of a captured process is kept, unless told otherwise: 16 MiB.
pub const CAPTURE_LIMIT: usize = 16 << 20;

/// How long the outputs of a process that has ended are read on, when something it started still holds them open.
const LINGER: Duration = Duration::from_secs(2);

/// How long the end of a killed process is waited for while it is taken back; what stands on it has to have time, too.
const KILL_PATIENCE: Duration = Duration::from_secs(4);

/// A process that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// The container that it ran in.
    pub container: String,
    /// Its exit status; 128 and the signal's number when a signal ended it.
    pub code: u32,
    /// What it wrote, as far as that was captured.
    pub output: Output,
    /// How long it ran.
    pub duration: Duration,
}

/// Returns why labels need access to the host, if they do: containerd's restart monitor starts the program that one of them
/// names, as root on the host.
fn labels_reach(labels: &Labels) -> Option<&'static str> {
    let log = labels.keys().any(|key| key.starts_with("containerd.io/restart.log"));
    log.then_some("has the restart monitor write or run something on the host")
}

/// Returns why a container of this namespace needs access to the host, if it does: for its runtime, its labels, its spec or its
/// cgroup. Who makes it, starts it or enters it needs that access.
pub(super) fn reaches_host(container: &Container, namespace: &str) -> Option<&'static str> {
    let spec = container.spec.as_ref();
    create::runs_on_host(&container.runtime)
        .or_else(|| labels_reach(&container.labels))
        .or_else(|| spec.and_then(host_reach))
        .or_else(|| spec.and_then(|spec| cgroup_reach(spec, namespace, &container.id)))
}

/// Adds the step that a container needs which reaches the host; `action` tells what is done for which reason.
fn reaching<T>(plan: Plan<T>, ctx: &Context, container: &Container, action: impl FnOnce(&str) -> String) -> Plan<T> {
    match reaches_host(container, ctx.namespace()) {
        None => plan,
        Some(reason) => plan.step(Access::Host, ctx.target(), action(reason)),
    }
}

/// Ends a task whatever it does, and deletes it. For taking back: what is gone already is fine.
async fn remove_task(client: Client, id: String) -> containerd::Result<()> {
    let tasks = client.tasks();
    let ended = tasks.waiting(&id, "").await;
    let _ = tasks.kill(&id, "", Signal::KILL.number(), true).await;
    let _ = tokio::time::timeout(KILL_PATIENCE, ended).await;
    tasks.delete(&id).await.map(drop)
}
