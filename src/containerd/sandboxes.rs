//! Sandboxes: what groups of containers share, such as a pod's namespaces or a virtual machine. Since containerd 1.7.

use chrono::{DateTime, Utc};
use containerd_client::services::v1::sandbox as api;
use containerd_client::services::v1::sandbox::controller_client::ControllerClient;
use containerd_client::services::v1::sandbox::store_client::StoreClient;
use containerd_client::types;
use prost_types::Any;
use serde_json::Value;

use super::error::{Error, failed};
use super::guard::Guard;
use super::{Client, Labels, Result, service, wire};
use crate::oci::spec::SPEC_TYPE_URL;

/// The controller that leaves a sandbox to its shim (containerd `defaults`).
pub const SHIM: &str = "shim";

/// A sandbox record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// What runs it, such as `io.containerd.runc.v2`.
    pub runtime: String,
    /// Which controller of the daemon it belongs to: `shim`, `podsandbox`; empty before containerd 2.0.
    pub sandboxer: String,
    /// Its labels.
    pub labels: Labels,
    /// When the record was made.
    pub created_at: DateTime<Utc>,
    /// When the record was last changed.
    pub updated_at: DateTime<Utc>,
    /// What it was made from: a runtime spec, or what its creator put there. None when it is no JSON.
    pub spec: Option<Value>,
}

/// What a sandbox does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In the controller's words: `SANDBOX_READY`, `SANDBOX_NOTREADY`; empty when it does not say, as runc's.
    pub state: String,
    /// Its process; 0 when it has none.
    pub pid: u32,
}

/// The sandbox services: the store of records, and the controllers of what runs.
#[derive(Debug, Clone)]
pub struct Sandboxes(Client);

impl Client {
    /// Returns the sandbox services.
    #[must_use]
    pub fn sandboxes(&self) -> Sandboxes {
        Sandboxes(self.clone())
    }
}

impl Sandboxes {
    fn store(&self) -> StoreClient<Guard> {
        service!(StoreClient<_>, self.0)
    }

    fn controller(&self) -> ControllerClient<Guard> {
        service!(ControllerClient<_>, self.0)
    }

    /// Lists the records that match any of the filters, all without filters.
    ///
    /// # Errors
    /// When a filter is not one, or the daemon has no sandboxes.
    pub async fn list(&self, filters: &[String]) -> Result<Vec<Sandbox>> {
        let answer = self.store().list(api::StoreListRequest { filters: filters.to_vec() }).await;
        let list = answer.map_err(failed("list sandboxes of", self.0.namespace()))?.into_inner().list;
        Ok(list.into_iter().map(Sandbox::from_wire).collect())
    }

    /// Looks up a record.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn get(&self, id: &str) -> Result<Sandbox> {
        let answer = self.store().get(api::StoreGetRequest { sandbox_id: id.to_owned() }).await;
        let sandbox = answer.map_err(failed("get sandbox", id))?.into_inner().sandbox;
        Ok(Sandbox::from_wire(wire::required(sandbox, "get sandbox", id)?))
    }

    /// Makes a record.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] when there is one of that id.
    pub async fn create(&self, sandbox: &Sandbox) -> Result<Sandbox> {
        let request = api::StoreCreateRequest { sandbox: Some(sandbox.to_wire()) };
        let answer = self.store().create(request).await.map_err(failed("create sandbox", &sandbox.id))?;
        Ok(Sandbox::from_wire(wire::required(answer.into_inner().sandbox, "create sandbox", &sandbox.id)?))
    }

    /// Removes a record.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let request = api::StoreDeleteRequest { sandbox_id: id.to_owned() };
        self.store().delete(request).await.map_err(failed("delete sandbox", id))?;
        Ok(())
    }

    /// Has a controller make ready what the record says.
    ///
    /// # Errors
    /// When the runtime cannot.
    pub async fn prepare(&self, sandbox: &Sandbox) -> Result<()> {
        let request = api::ControllerCreateRequest {
            sandbox_id: sandbox.id.clone(),
            sandboxer: sandbox.controller(),
            sandbox: Some(sandbox.to_wire()),
            ..api::ControllerCreateRequest::default()
        };
        let answer = self.controller().create(request).await;
        done(answer.map_err(failed("prepare sandbox", &sandbox.id)))
    }

    /// Starts what was made ready.
    ///
    /// # Errors
    /// When the runtime cannot.
    pub async fn start(&self, sandbox: &Sandbox) -> Result<()> {
        let request = api::ControllerStartRequest { sandbox_id: sandbox.id.clone(), sandboxer: sandbox.controller() };
        let answer = self.controller().start(request).await;
        done(answer.map_err(failed("start sandbox", &sandbox.id)))
    }

    /// Asks the controller what a sandbox does.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when nothing of it runs.
    pub async fn status(&self, sandbox: &Sandbox) -> Result<Status> {
        let request = api::ControllerStatusRequest {
            sandbox_id: sandbox.id.clone(),
            verbose: false,
            sandboxer: sandbox.controller(),
        };
        let answer = self.controller().status(request).await;
        let status = answer.map_err(failed("ask the status of sandbox", &sandbox.id))?.into_inner();
        Ok(Status { state: status.state, pid: status.pid })
    }

    /// Stops a sandbox.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when nothing of it runs.
    pub async fn stop(&self, sandbox: &Sandbox) -> Result<()> {
        let request = api::ControllerStopRequest {
            sandbox_id: sandbox.id.clone(),
            timeout_secs: 0,
            sandboxer: sandbox.controller(),
        };
        gone(self.controller().stop(request).await.map_err(failed("stop sandbox", &sandbox.id)))
    }

    /// Ends what is left of a stopped sandbox: its shim.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when nothing of it runs.
    pub async fn shut_down(&self, sandbox: &Sandbox) -> Result<()> {
        let request =
            api::ControllerShutdownRequest { sandbox_id: sandbox.id.clone(), sandboxer: sandbox.controller() };
        gone(self.controller().shutdown(request).await.map_err(failed("shut down sandbox", &sandbox.id)))
    }
}

/// Takes one failure as none: the controller service of containerd 1.7 to 2.1 does its work, then announces it under a topic that
/// its own events refuse, `sandboxes/create` without the slash (`services/sandbox/controller_service.go`).
fn done<T>(answer: Result<T>) -> Result<()> {
    match answer {
        Err(Error::Call { message, .. }) if message.contains("envelope topic \"sandboxes/") => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Takes one failure as none: a shim that is asked to end may be gone before its answer is.
fn gone<T>(answer: Result<T>) -> Result<()> {
    match answer {
        Err(Error::Call { message, .. }) if message.contains("ttrpc: closed") => Ok(()),
        other => other.map(drop),
    }
}

impl Sandbox {
    /// Returns the controller to ask: records of ctr name none, which containerd 2 refuses and 1.7 does not mind.
    fn controller(&self) -> String {
        if self.sandboxer.is_empty() { SHIM.to_owned() } else { self.sandboxer.clone() }
    }

    fn from_wire(wire: types::Sandbox) -> Self {
        Self {
            id: wire.sandbox_id,
            runtime: wire.runtime.map(|runtime| runtime.name).unwrap_or_default(),
            sandboxer: wire.sandboxer,
            labels: wire::labels(wire.labels),
            created_at: wire::time(wire.created_at),
            updated_at: wire::time(wire.updated_at),
            spec: wire.spec.and_then(|any| serde_json::from_slice(&any.value).ok()),
        }
    }

    fn to_wire(&self) -> types::Sandbox {
        let spec = self.spec.as_ref();
        types::Sandbox {
            sandbox_id: self.id.clone(),
            runtime: Some(types::sandbox::Runtime { name: self.runtime.clone(), options: None }),
            spec: spec.map(|spec| Any { type_url: SPEC_TYPE_URL.to_owned(), value: spec.to_string().into_bytes() }),
            labels: wire::to_labels(&self.labels),
            sandboxer: self.sandboxer.clone(),
            ..types::Sandbox::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerd::Fault;

    #[test]
    fn a_failure_to_announce_is_none() {
        let call = |message: &str| {
            done::<()>(Err(Error::Call {
                fault: Fault::Invalid,
                action: "start sandbox",
                subject: "s".into(),
                message: message.into(),
            }))
        };
        assert!(call("envelope topic \"sandboxes/start\": must start with '/': invalid argument").is_ok());
        assert!(call("no such runtime").is_err());
    }
}
