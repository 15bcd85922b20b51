//! Namespaces: the walls between the users of one daemon.

use containerd_client::services::v1 as api;
use containerd_client::services::v1::namespaces_client::NamespacesClient;

use super::error::failed;
use super::guard::Guard;
use super::{Client, Labels, Result, identifier, service, wire};

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; some set defaults, such as `containerd.io/defaults/snapshotter`.
    pub labels: Labels,
}

/// The namespace service. For a change the grant is asked about the namespace that is changed.
#[derive(Debug, Clone)]
pub struct Namespaces(Client);

impl Client {
    /// Returns the namespace service.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        Namespaces(self.clone())
    }
}

impl Namespaces {
    fn rpc(&self) -> NamespacesClient<Guard> {
        service!(NamespacesClient<_>, self.0)
    }

    /// Reads a namespace's labels. containerd answers for any name, also for one that was never created: whether there
    /// is such a namespace only [`Self::list`] tells.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `read`.
    pub async fn get(&self, name: &str) -> Result<Namespace> {
        let answer = self.rpc().get(api::GetNamespaceRequest { name: name.to_owned() }).await;
        let found = answer.map_err(failed("get namespace", name))?.into_inner().namespace;
        Ok(Namespace::from_wire(wire::required(found, "get namespace", name)?))
    }

    /// Lists all namespaces.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `read`.
    pub async fn list(&self) -> Result<Vec<Namespace>> {
        let answer = self.rpc().list(api::ListNamespacesRequest { filter: String::new() }).await;
        let answer = answer.map_err(failed("list namespaces of", &self.0.node().endpoint().to_string()))?;
        Ok(answer.into_inner().namespaces.into_iter().map(Namespace::from_wire).collect())
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// [`Error::Name`](super::Error::Name) when it cannot be a name,
    /// [`Error::is_already_exists`](super::Error::is_already_exists) when it is taken.
    pub async fn create(&self, name: &str, labels: &Labels) -> Result<Namespace> {
        identifier::check("namespace", name)?;
        let request = api::CreateNamespaceRequest { namespace: Some(Namespace::to_wire(name, labels)) };
        let answer = self.client_in(name)?.create(request).await;
        let made = answer.map_err(failed("create namespace", name))?.into_inner().namespace;
        Ok(Namespace::from_wire(wire::required(made, "create namespace", name)?))
    }

    /// Sets labels, leaving the others alone; an empty value removes a label.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn set_labels(&self, name: &str, labels: &Labels) -> Result<Namespace> {
        let request = api::UpdateNamespaceRequest {
            namespace: Some(Namespace::to_wire(name, labels)),
            update_mask: Some(wire::label_mask(labels.keys())),
        };
        let answer = self.client_in(name)?.update(request).await;
        answer.map_err(failed("label namespace", name))?;
        // The answer to a masked update is empty (containerd plugins/services/namespaces/local.go, Update).
        self.get(name).await
    }

    /// Deletes a namespace that holds nothing.
    ///
    /// # Errors
    /// [`Fault::Conflict`](super::Fault::Conflict) while it holds something.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let answer = self.client_in(name)?.delete(api::DeleteNamespaceRequest { name: name.to_owned() }).await;
        answer.map_err(failed("delete namespace", name))?;
        Ok(())
    }

    /// A change of a namespace is a change in it: that is what the grant is asked about.
    fn client_in(&self, name: &str) -> Result<NamespacesClient<Guard>> {
        Ok(service!(NamespacesClient<_>, self.0.in_namespace(name)?))
    }
}

impl Namespace {
    fn from_wire(wire: api::Namespace) -> Self {
        Self { name: wire.name, labels: wire::labels(wire.labels) }
    }

    fn to_wire(name: &str, labels: &Labels) -> api::Namespace {
        api::Namespace { name: name.to_owned(), labels: wire::to_labels(labels) }
    }
}
