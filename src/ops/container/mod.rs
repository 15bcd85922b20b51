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
use crate::oci::Spec;
use crate::oci::spec::host_reach;

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

/// Returns why a container with this spec and these labels needs access to the host, if it does.
fn reach(spec: Option<&Spec>, labels: &Labels) -> Option<&'static str> {
    // containerd's restart monitor starts the program that the label names, as root on the host.
    if labels.keys().any(|key| key.starts_with("containerd.io/restart.log")) {
        return Some("has the restart monitor write or run something on the host");
    }
    spec.and_then(host_reach)
}

/// Returns why a container needs access to the host, if it does: for its runtime, its labels or its spec.
pub(super) fn reaches_host(container: &Container) -> Option<&'static str> {
    create::runs_on_host(&container.runtime).or_else(|| reach(container.spec.as_ref(), &container.labels))
}

/// Ends a task whatever it does, and deletes it. For taking back: what is gone already is fine.
async fn remove_task(client: Client, id: String) -> containerd::Result<()> {
    let tasks = client.tasks();
    let ended = tasks.waiting(&id, "").await;
    let _ = tasks.kill(&id, "", Signal::KILL.number(), true).await;
    let _ = tokio::time::timeout(KILL_PATIENCE, ended).await;
    tasks.delete(&id).await.map(drop)
}
