//! Shims, each of which runs the tasks of a container or a pod, asked without the daemon (containerd
//! `api/runtime/task/v3/shim.proto`; v2 is the same but for its name).

mod ttrpc;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use containerd_client::types::v1 as types;
use prost::Message;
use prost_types::Timestamp;
use serde::Deserialize;
use tonic::{Code, Status};

use super::beside::{Whose, no_answer};
use super::connect::Endpoint;
use super::error::Error;
use super::tasks::{self, Exit, Task};
use super::{Result, identifier, wire};
use crate::grant::{Access, Grant};
use crate::oci::Digest;
use crate::socket;

/// How long a shim may take to answer.
const SILENCE: Duration = Duration::from_secs(30);

/// The folder of the sockets, whatever the daemon's own is (containerd `pkg/shim/util_unix.go`, `socketRoot`).
const SOCKETS: &str = "/run/containerd/s";
/// The folder of the daemon's state that has a folder for each shim.
const BUNDLES: &str = "io.containerd.runtime.v2.task";

/// What shims serve, the newest first: those of containerd 2 have v3, those before v2.
const SERVICES: [&str; 2] = ["containerd.task.v3.Task", "containerd.task.v2.Task"];

/// What is called, and the access that it needs.
type Method = (&'static str, Access);
const STATE: Method = ("State", Access::Read);
const START: Method = ("Start", Access::Run);
const DELETE: Method = ("Delete", Access::Delete);
const SHUTDOWN: Method = ("Shutdown", Access::Delete);

/// Names a process: that of a container, or one that is executed in it.
#[derive(Clone, PartialEq, Eq, Message)]
struct ProcessRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    exec_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct StateAnswer {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint32, tag = "3")]
    pid: u32,
    #[prost(enumeration = "types::Status", tag = "4")]
    status: i32,
    #[prost(string, tag = "5")]
    stdin: String,
    #[prost(string, tag = "6")]
    stdout: String,
    #[prost(string, tag = "7")]
    stderr: String,
    #[prost(bool, tag = "8")]
    terminal: bool,
    #[prost(uint32, tag = "9")]
    exit_status: u32,
    #[prost(message, optional, tag = "10")]
    exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct StartAnswer {
    #[prost(uint32, tag = "1")]
    pid: u32,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteAnswer {
    #[prost(uint32, tag = "2")]
    exit_status: u32,
    #[prost(message, optional, tag = "3")]
    exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ShutdownRequest {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Nothing {}

/// What a shim says of itself in its folder: containerd 2 (`pkg/shim/util.go`, `BootstrapParams`).
#[derive(Deserialize)]
struct Bootstrap {
    address: String,
    protocol: String,
}

/// A shim under a grant. Nothing is kept open between calls.
#[derive(Debug, Clone)]
pub struct Shim {
    id: String,
    socket: PathBuf,
    namespace: String,
    subject: String,
    grant: Grant,
}

/// Returns the socket that a shim makes for a path (containerd `pkg/shim/util_unix.go`, `SocketAddress`).
pub(super) fn socket_address(path: &Path) -> PathBuf {
    Path::new(SOCKETS).join(Digest::sha256(path.to_string_lossy().as_bytes()).hex())
}

impl Shim {
    /// Finds a shim by its id: the container's, or the sandbox's where several share one. Its socket is the one that is given,
    /// else the one that its folder of the daemon's state names, else the one that follows from the id.
    ///
    /// # Errors
    /// That the id cannot be one, or the shim speaks something else.
    pub fn find(
        endpoint: &Endpoint,
        namespace: &str,
        id: &str,
        address: Option<&Endpoint>,
        grant: &Grant,
    ) -> Result<Self> {
        identifier::check("shim's id", id)?;
        identifier::check("namespace", namespace)?;
        let socket = match address {
            Some(address) => address.path().to_owned(),
            None => match told(endpoint, namespace, id)? {
                Some(address) => address.path().to_owned(),
                None => socket_address(&endpoint.path().join(namespace).join(id)),
            },
        };
        let subject = format!("containerd/{namespace}");
        Ok(Self { id: id.to_owned(), socket, namespace: namespace.to_owned(), subject, grant: grant.clone() })
    }

    /// Asks for the state of a task.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when the shim has none of that id.
    pub async fn state(&self, id: &str, exec_id: &str) -> Result<Task> {
        let answer: StateAnswer = self.call("ask shim for", STATE, id, &process(id, exec_id)).await?;
        let status = tasks::Status::from_wire(answer.status());
        let exit = (status == tasks::Status::Stopped)
            .then(|| Exit { code: answer.exit_status, at: wire::time(answer.exited_at) });
        Ok(Task {
            id: id.to_owned(),
            exec_id: (!exec_id.is_empty()).then(|| exec_id.to_owned()),
            pid: answer.pid,
            status,
            stdin: answer.stdin,
            stdout: answer.stdout,
            stderr: answer.stderr,
            terminal: answer.terminal,
            exit,
        })
    }

    /// Starts a process that was made, and returns its number.
    ///
    /// # Errors
    /// That there is none, or that it was started before.
    pub async fn start(&self, id: &str, exec_id: &str) -> Result<u32> {
        let answer: StartAnswer = self.call("start by shim", START, id, &process(id, exec_id)).await?;
        Ok(answer.pid)
    }

    /// Deletes a process that has ended or was never started.
    ///
    /// # Errors
    /// That there is none, or that it runs.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Result<Exit> {
        let answer: DeleteAnswer = self.call("delete by shim", DELETE, id, &process(id, exec_id)).await?;
        Ok(Exit { code: answer.exit_status, at: wire::time(answer.exited_at) })
    }

    /// Has the shim end if it has no task any more. One that has goes on, and does not say so.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn shutdown(&self) -> Result<()> {
        let request = ShutdownRequest { id: self.id.clone() };
        match self.call::<_, Nothing>("shut down shim", SHUTDOWN, &self.id, &request).await {
            // It may be gone before it has answered.
            Err(Error::NoAnswer(error)) if error.is_broken() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Calls a method of the newest service that the shim has.
    async fn call<Q, A>(&self, action: &'static str, (method, access): Method, subject: &str, request: &Q) -> Result<A>
    where
        Q: Message,
        A: Message + Default,
    {
        self.grant.check(access, &format!("shim {method}"), &self.subject)?;
        let whose = Whose::Shim(self.id.clone());
        let mut unserved = None;
        for service in SERVICES {
            let begun = Instant::now();
            let call = ttrpc::Call {
                socket: &self.socket,
                service,
                method,
                namespace: &self.namespace,
                payload: request.encode_to_vec(),
                timeout: SILENCE,
            };
            let answer = socket::within(&self.grant, SILENCE, ttrpc::call(call)).await.and_then(|answer| answer);
            let answer = answer.map_err(|error| no_answer(&whose, &self.socket, error))?;
            let code = answer.as_ref().map_or_else(|status| Code::from_i32(status.code), |_| Code::Ok);
            let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
            let (shim, status) = (&self.id, code.to_string());
            tracing::debug!(rpc = format!("{service}/{method}"), shim, status, milliseconds, "answered");
            match answer {
                Ok(bytes) => {
                    return A::decode(bytes.as_slice()).map_err(|error| Error::Answer {
                        action,
                        subject: subject.to_owned(),
                        reason: error.to_string(),
                    });
                }
                Err(status) => {
                    let error = Error::from_status(action, subject, &Status::new(code, status.message));
                    if code != Code::Unimplemented {
                        return Err(error);
                    }
                    unserved = Some(error);
                }
            }
        }
        let silent = || socket::Error::Request("there is no service to ask".into());
        Err(unserved.unwrap_or_else(|| no_answer(&whose, &self.socket, silent())))
    }
}

fn process(id: &str, exec_id: &str) -> ProcessRequest {
    ProcessRequest { id: id.to_owned(), exec_id: exec_id.to_owned() }
}

/// Reads a shim's address from its folder of the daemon's state, which is the socket's folder or in it. Whoever may not read
/// that is told no address.
fn told(endpoint: &Endpoint, namespace: &str, id: &str) -> Result<Option<Endpoint>> {
    let beside = endpoint.path().parent().unwrap_or(Path::new("/"));
    for state in [beside.to_owned(), beside.join("state")] {
        let bundle = state.join(BUNDLES).join(namespace).join(id);
        let (bootstrap, address) = (bundle.join("bootstrap.json"), bundle.join("address"));
        if let Ok(bytes) = std::fs::read(&bootstrap) {
            let senseless =
                |reason: String| Error::Answer { action: "read", subject: bootstrap.display().to_string(), reason };
            let found: Bootstrap = serde_json::from_slice(&bytes).map_err(|error| senseless(error.to_string()))?;
            if found.protocol != "ttrpc" {
                return Err(senseless(format!("the shim speaks {}, and only ttrpc is spoken here", found.protocol)));
            }
            return Endpoint::parse(&found.address).map(Some);
        }
        if let Ok(text) = std::fs::read_to_string(&address) {
            return Endpoint::parse(text.trim()).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Allow;

    fn find(folder: &Path, id: &str) -> Result<Shim> {
        let endpoint = Endpoint::parse(folder.join("containerd.sock").to_str().unwrap()).unwrap();
        Shim::find(&endpoint, "default", id, None, &Grant::new(Allow::all(), Default::default()))
    }

    #[test]
    fn a_shim_is_found_by_its_folder_or_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = |state: &str, id: &str| {
            let path = folder.path().join(state).join(BUNDLES).join("default").join(id);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let newer = br#"{"version":3,"address":"unix:///run/containerd/s/new","protocol":"ttrpc"}"#;
        std::fs::write(bundle("", "new").join("bootstrap.json"), newer).unwrap();
        std::fs::write(bundle("state", "old").join("address"), "unix:///run/containerd/s/old").unwrap();
        let grpc = br#"{"version":3,"address":"unix:///run/x","protocol":"grpc"}"#;
        std::fs::write(bundle("", "grpc").join("bootstrap.json"), grpc).unwrap();
        assert_eq!(find(folder.path(), "new").unwrap().socket, Path::new("/run/containerd/s/new"));
        assert_eq!(find(folder.path(), "old").unwrap().socket, Path::new("/run/containerd/s/old"));
        let error = find(folder.path(), "grpc").unwrap_err().to_string();
        assert!(error.contains("the shim speaks grpc"), "{error}");
        // As containerd 1.6 and 2.1 have it for a daemon at this address.
        let name = "8ef41fbb651de7db6fb188670dce242fb1fb4f74afa82cce18683f5af69b3e7d";
        assert!(find(folder.path(), "web").unwrap().socket.starts_with(SOCKETS));
        assert_eq!(socket_address(Path::new("/tmp/d/c.sock/default/web")), Path::new(SOCKETS).join(name));
        assert!(find(folder.path(), "../x").is_err());
    }
}
