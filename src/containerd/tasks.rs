//! Tasks: the processes of containers.
//!
//! What a caller must know of the races (containerd `client/task.go`, `cmd/ctr/commands/run`): wait before start, or an
//! exit in between is missed; a kill may answer not found though it hit, as the task was already exiting; a delete of
//! something that runs is refused with text only.

use std::task::Poll;

use chrono::{DateTime, Utc};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::types::v1 as types;
use futures_util::future::{self, BoxFuture, FutureExt};
use prost::Message;
use prost_types::Any;

use super::containers::RuncOptions;
use super::error::{Error, Fault, failed};
use super::guard::Guard;
use super::io::FifoFolder;
use super::metrics::{self, Metrics};
use super::snapshots::Mount;
use super::{Client, Result, identifier, service, wire};
use crate::oci::Descriptor;
use crate::oci::spec::{PROCESS_TYPE_URL, Process, Resources};

/// The type URL of a resource update, whose value is JSON (containerd `client/task.go`, Update).
const RESOURCES_TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
/// The type URL of what the runc shim knows of a process.
const PROCESS_DETAILS_TYPE_URL: &str = "containerd.runc.v1.ProcessDetails";
/// The type URL of the options of a checkpoint.
const CHECKPOINT_OPTIONS_TYPE_URL: &str = "containerd.runc.v1.CheckpointOptions";

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The daemon does not say.
    Unknown,
    /// It was made and not started.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Stopped,
    /// It is frozen.
    Paused,
    /// It is being frozen.
    Pausing,
}

impl Status {
    /// Returns the name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Pausing => "pausing",
        }
    }

    /// Returns whether the process has not ended.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        !matches!(self, Self::Stopped | Self::Unknown)
    }

    pub(super) fn from_wire(status: types::Status) -> Self {
        match status {
            types::Status::Unknown => Self::Unknown,
            types::Status::Created => Self::Created,
            types::Status::Running => Self::Running,
            types::Status::Stopped => Self::Stopped,
            types::Status::Paused => Self::Paused,
            types::Status::Pausing => Self::Pausing,
        }
    }
}

/// A container's task, or a process that was executed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The container.
    pub id: String,
    /// The executed process; none for the container's first one.
    pub exec_id: Option<String>,
    /// The process, in the daemon's PID namespace.
    pub pid: u32,
    /// What it is doing.
    pub status: Status,
    /// Where its input comes from.
    pub stdin: String,
    /// Where its output goes.
    pub stdout: String,
    /// Where its error output goes.
    pub stderr: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// How it ended, once it has.
    pub exit: Option<Exit>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit status; 128 and the signal's number when a signal ended it.
    pub code: u32,
    /// When.
    pub at: DateTime<Utc>,
}

/// A process in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pid {
    /// Its number, in the daemon's PID namespace.
    pub pid: u32,
    /// The exec that it is the first process of.
    pub exec_id: Option<String>,
}

/// Where a process's input comes from and its output goes; empty means nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// A FIFO.
    pub stdin: String,
    /// A FIFO, or a `file://` or `binary://` URI.
    pub stdout: String,
    /// As `stdout`; unused with a terminal.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// The folder that the FIFOs are in, when this program made it: it stays for as long as this does.
    pub folder: Option<FifoFolder>,
}

/// How the runc shim takes a checkpoint (containerd `api/types/runc/options/oci.proto`).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CheckpointOptions {
    /// Ends the container afterwards.
    #[prost(bool, tag = "1")]
    pub exit: bool,
    /// Takes TCP connections along.
    #[prost(bool, tag = "2")]
    pub open_tcp: bool,
    /// Takes Unix sockets to processes outside along.
    #[prost(bool, tag = "3")]
    pub external_unix_sockets: bool,
    /// Takes the terminal along.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// Takes file locks along.
    #[prost(bool, tag = "5")]
    pub file_locks: bool,
    /// Makes these namespaces empty when it is restored.
    #[prost(string, repeated, tag = "6")]
    pub empty_namespaces: Vec<String>,
    /// How cgroups are treated.
    #[prost(string, tag = "7")]
    pub cgroups_mode: String,
    /// A folder of the daemon's host for the state, in place of the content store.
    #[prost(string, tag = "8")]
    pub image_path: String,
    /// A folder of the daemon's host for the log of CRIU.
    #[prost(string, tag = "9")]
    pub work_path: String,
}

impl CheckpointOptions {
    fn to_any(&self) -> Any {
        Any { type_url: CHECKPOINT_OPTIONS_TYPE_URL.to_owned(), value: self.encode_to_vec() }
    }

    /// Writes them as a checkpoint keeps them: an encoded `google.protobuf.Any`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_any().encode_to_vec()
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ProcessDetails {
    #[prost(string, tag = "1")]
    exec_id: String,
}

/// The task service.
#[derive(Debug, Clone)]
pub struct Tasks(Client);

impl Client {
    /// Returns the task service.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        Tasks(self.clone())
    }
}

// An exec id is given as an empty string for the container's first process.
impl Tasks {
    fn rpc(&self) -> TasksClient<Guard> {
        service!(TasksClient<_>, self.0)
    }

    /// Makes the task of a container, which waits to be started, and returns its process. With a checkpoint, of the
    /// content store, it goes on where that was taken.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] when the container has one.
    pub async fn create(
        &self,
        id: &str,
        rootfs: &[Mount],
        io: &Stdio,
        options: Option<&RuncOptions>,
        checkpoint: Option<&Descriptor>,
    ) -> Result<u32> {
        let request = api::CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs: rootfs.iter().map(Mount::to_wire).collect(),
            stdin: io.stdin.clone(),
            stdout: io.stdout.clone(),
            stderr: io.stderr.clone(),
            terminal: io.terminal,
            checkpoint: checkpoint.map(wire::to_descriptor),
            options: options.map(RuncOptions::to_any),
            runtime_path: String::new(),
        };
        Ok(self.rpc().create(request).await.map_err(failed("create task", id))?.into_inner().pid)
    }

    /// Starts the task, or a process made by [`exec`](Self::exec), and returns its process.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when it was started before.
    pub async fn start(&self, id: &str, exec_id: &str) -> Result<u32> {
        let request = api::StartRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned() };
        Ok(self.rpc().start(request).await.map_err(failed("start task", id))?.into_inner().pid)
    }

    /// Looks up the task, or a process executed in it.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn get(&self, id: &str, exec_id: &str) -> Result<Task> {
        let request = api::GetRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned() };
        let process = self.rpc().get(request).await.map_err(failed("get task", id))?.into_inner().process;
        let mut task = Task::from_wire(wire::required(process, "get task", id)?);
        // Some versions answer the process's own id in place of the container's.
        id.clone_into(&mut task.id);
        task.exec_id = Some(exec_id.to_owned()).filter(|id| !id.is_empty());
        Ok(task)
    }

    /// Lists the tasks of the namespace.
    ///
    /// # Errors
    /// Fails when the daemon does not answer.
    pub async fn list(&self) -> Result<Vec<Task>> {
        let answer = self.rpc().list(api::ListTasksRequest::default()).await;
        let tasks = answer.map_err(failed("list tasks of", self.0.namespace()))?.into_inner().tasks;
        Ok(tasks.into_iter().map(Task::from_wire).collect())
    }

    /// Sends a signal to the process, or with `all` to every process of the container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none, or it has ended.
    pub async fn kill(&self, id: &str, exec_id: &str, signal: u32, all: bool) -> Result<()> {
        let request = api::KillRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned(), signal, all };
        self.rpc().kill(request).await.map_err(failed("kill task", id))?;
        Ok(())
    }

    /// Waits for the end of the process; one that has ended is answered at once.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn wait(&self, id: &str, exec_id: &str) -> Result<Exit> {
        let request = api::WaitRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned() };
        let answer = self.rpc().wait(request).await.map_err(failed("wait for task", id))?.into_inner();
        Ok(Exit { code: answer.exit_status, at: wire::time(answer.exited_at) })
    }

    /// Begins to wait: the request is on its way when this returns, so that what is sent next cannot overtake it.
    pub async fn waiting(&self, id: &str, exec_id: &str) -> BoxFuture<'static, Result<Exit>> {
        let (tasks, id, exec_id) = (self.clone(), id.to_owned(), exec_id.to_owned());
        let mut wait = async move { tasks.wait(&id, &exec_id).await }.boxed();
        match futures_util::poll!(&mut wait) {
            Poll::Ready(answer) => future::ready(answer).boxed(),
            Poll::Pending => wait,
        }
    }

    /// Deletes a task that has ended or was never started.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none, [`Fault::Conflict`] while it runs.
    pub async fn delete(&self, id: &str) -> Result<Exit> {
        let request = api::DeleteTaskRequest { container_id: id.to_owned() };
        let answer = self.rpc().delete(request).await.map_err(failed("delete task", id))?.into_inner();
        Ok(Exit { code: answer.exit_status, at: wire::time(answer.exited_at) })
    }

    /// Makes a process in a running container, which waits to be started.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] when the exec id is taken, [`Error::Name`] when it cannot be one.
    pub async fn exec(&self, id: &str, exec_id: &str, process: &Process, io: &Stdio) -> Result<()> {
        identifier::check("exec id", exec_id)?;
        let value = serde_json::to_vec(process).map_err(|error| unwritable("write process of", id, &error))?;
        let request = api::ExecProcessRequest {
            container_id: id.to_owned(),
            stdin: io.stdin.clone(),
            stdout: io.stdout.clone(),
            stderr: io.stderr.clone(),
            terminal: io.terminal,
            spec: Some(Any { type_url: PROCESS_TYPE_URL.to_owned(), value }),
            exec_id: exec_id.to_owned(),
        };
        self.rpc().exec(request).await.map_err(failed("execute in container", id))?;
        Ok(())
    }

    /// Deletes an executed process that has ended or was never started.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none, [`Fault::Conflict`] while it runs.
    pub async fn delete_exec(&self, id: &str, exec_id: &str) -> Result<Exit> {
        let request = api::DeleteProcessRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned() };
        let answer = self.rpc().delete_process(request).await.map_err(failed("delete process of", id))?.into_inner();
        Ok(Exit { code: answer.exit_status, at: wire::time(answer.exited_at) })
    }

    /// Lists the processes of the container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no task.
    pub async fn pids(&self, id: &str) -> Result<Vec<Pid>> {
        let request = api::ListPidsRequest { container_id: id.to_owned() };
        let answer = self.rpc().list_pids(request).await.map_err(failed("list processes of", id))?.into_inner();
        let exec_id = |any: Any| {
            let details = ProcessDetails::decode(any.value.as_slice()).ok()?;
            (any.type_url == PROCESS_DETAILS_TYPE_URL).then_some(details.exec_id).filter(|id| !id.is_empty())
        };
        Ok(answer.processes.into_iter().map(|p| Pid { pid: p.pid, exec_id: p.info.and_then(exec_id) }).collect())
    }

    /// Freezes the container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no task.
    pub async fn pause(&self, id: &str) -> Result<()> {
        let request = api::PauseTaskRequest { container_id: id.to_owned() };
        self.rpc().pause(request).await.map_err(failed("pause task", id))?;
        Ok(())
    }

    /// Thaws the container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no task.
    pub async fn resume(&self, id: &str) -> Result<()> {
        let request = api::ResumeTaskRequest { container_id: id.to_owned() };
        self.rpc().resume(request).await.map_err(failed("resume task", id))?;
        Ok(())
    }

    /// Measures a container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no task that runs.
    pub async fn metrics(&self, id: &str) -> Result<Metrics> {
        const ACTION: &str = "measure task";
        let request = api::MetricsRequest { filters: vec![format!("id=={}", quoted(id))] };
        let found = self.rpc().metrics(request).await.map_err(failed(ACTION, id))?.into_inner().metrics;
        let metric = found.into_iter().find(|metric| metric.id == id);
        let metric = metric.ok_or_else(|| Error::Call {
            fault: Fault::NotFound,
            action: ACTION,
            subject: id.to_owned(),
            message: "the container has no running task".to_owned(),
        })?;
        metrics::read(metric).map_err(|reason| Error::Answer { action: ACTION, subject: id.to_owned(), reason })
    }

    /// Measures every running container of the namespace; what cannot be read is left out and logged.
    ///
    /// # Errors
    /// Fails when the daemon does not answer.
    pub async fn all_metrics(&self) -> Result<Vec<Metrics>> {
        let answer = self.rpc().metrics(api::MetricsRequest::default()).await;
        let found = answer.map_err(failed("measure tasks of", self.0.namespace()))?.into_inner().metrics;
        let read = |metric: containerd_client::types::Metric| {
            let id = metric.id.clone();
            metrics::read(metric).inspect_err(|reason| tracing::warn!(%id, %reason, "metrics left out")).ok()
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Changes the limits of a running container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no task.
    pub async fn update(&self, id: &str, resources: &Resources) -> Result<()> {
        let value = serde_json::to_vec(resources).map_err(|error| unwritable("write limits of", id, &error))?;
        let request = api::UpdateTaskRequest {
            container_id: id.to_owned(),
            resources: Some(Any { type_url: RESOURCES_TYPE_URL.to_owned(), value }),
            annotations: std::collections::HashMap::new(),
        };
        self.rpc().update(request).await.map_err(failed("update task", id))?;
        Ok(())
    }

    /// Writes down the state of the container's processes, and returns what was put into the content store: the state
    /// and the spec, unless they go to a folder of the daemon's host.
    ///
    /// # Errors
    /// What the runtime says; it needs CRIU.
    pub async fn checkpoint(&self, id: &str, options: &CheckpointOptions) -> Result<Vec<Descriptor>> {
        const ACTION: &str = "checkpoint task";
        let request = api::CheckpointTaskRequest {
            container_id: id.to_owned(),
            parent_checkpoint: String::new(),
            options: Some(options.to_any()),
        };
        let made = self.rpc().checkpoint(request).await.map_err(failed(ACTION, id))?.into_inner().descriptors;
        made.into_iter().map(|descriptor| Ok(wire::descriptor(descriptor)?)).collect()
    }

    /// Tells a terminal its size in characters.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn resize(&self, id: &str, exec_id: &str, width: u32, height: u32) -> Result<()> {
        let request = api::ResizePtyRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned(), width, height };
        self.rpc().resize_pty(request).await.map_err(failed("resize terminal of", id))?;
        Ok(())
    }

    /// Closes the shim's end of the input, so that the process sees its end when the caller's end is closed too.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn close_stdin(&self, id: &str, exec_id: &str) -> Result<()> {
        let request = api::CloseIoRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned(), stdin: true };
        self.rpc().close_io(request).await.map_err(failed("close input of", id))?;
        Ok(())
    }
}

impl Task {
    fn from_wire(process: types::Process) -> Self {
        let status = Status::from_wire(process.status());
        let exit =
            (status == Status::Stopped).then(|| Exit { code: process.exit_status, at: wire::time(process.exited_at) });
        // A list gives the container's id as the process's id alone.
        let id = if process.container_id.is_empty() { process.id } else { process.container_id };
        Self {
            id,
            exec_id: None,
            pid: process.pid,
            status,
            stdin: process.stdin,
            stdout: process.stdout,
            stderr: process.stderr,
            terminal: process.terminal,
            exit,
        }
    }
}

/// Writes a value for containerd's filter language.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn unwritable(action: &'static str, id: &str, error: &serde_json::Error) -> Error {
    Error::Answer { action, subject: id.to_owned(), reason: error.to_string() }
}
