//! containerd's API over its Unix socket.
//!
//! [`connect`] gives a [`Node`], one daemon; [`Node::client`] gives a [`Client`], that daemon in one namespace and under
//! one [`Grant`]. A client has an accessor a service, and each service is a small wrapper in whose signatures only types
//! of this crate's domain stand: this layer is the only user of `containerd-client`.
//!
//! Every RPC passes [`guard::Guard`]. It decides by [`access`]'s table whether the grant covers the RPC, and adds the
//! headers for namespace and lease, so no method of a service has a line of its own for that.
//!
//! A service's method reads like this, and new ones follow it:
//!
//! ```text
//! pub async fn get(&self, name: &str) -> Result<Image> {
//!     let answer = self.rpc().get(GetImageRequest { name: name.to_owned() }).await;
//!     let image = answer.map_err(failed("get image", name))?.into_inner().image;
//!     Image::from_wire(required(image, "get image", name)?)
//! }
//! ```

use std::sync::Arc;

use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use crate::grant::Grant;

pub mod access;
mod beside;
mod connect;
pub mod containers;
pub mod content;
pub mod diff;
mod error;
pub mod events;
pub mod guard;
pub mod identifier;
pub mod images;
pub mod introspection;
pub mod io;
pub mod leases;
pub mod metrics;
pub mod namespaces;
pub mod profile;
pub mod sandboxes;
pub mod shim;
pub mod snapshots;
pub mod store;
pub mod tasks;
pub mod transfer;
pub mod version;
mod wire;

pub use beside::NoAnswer;
pub use connect::{ConnectOptions, DEFAULT_SOCKET, Endpoint, Node, connect};
pub use error::{Error, Fault, NoConnection};
pub use store::ContainerdStore;
pub use wire::Labels;

use guard::{Guard, Scope};

/// What a call of this layer answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest message in either direction: what containerd's server takes (its `defaults.DefaultMaxRecvMsgSize`).
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// One daemon, in one namespace, under one grant and perhaps one lease. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    node: Node,
    scope: Arc<Scope>,
}

impl Node {
    /// Returns a client for a namespace, which need not exist yet.
    ///
    /// # Errors
    /// [`Error::Name`] when it cannot be the name of a namespace.
    pub fn client(&self, namespace: &str, grant: &Grant) -> Result<Client> {
        Ok(Client { node: self.clone(), scope: Arc::new(Scope::new(namespace, grant.clone())?) })
    }
}

impl Client {
    /// Returns the daemon.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.scope.namespace
    }

    /// Returns what the client may do.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.scope.grant
    }

    /// Returns the lease that keeps what the client makes from being collected.
    #[must_use]
    pub fn lease(&self) -> Option<&str> {
        self.scope.lease.as_ref().and_then(|lease| lease.to_str().ok())
    }

    /// Returns the same client under a lease: what it makes or finds present is kept while the lease lives.
    ///
    /// # Errors
    /// [`Error::Name`] when the text cannot be a lease's id.
    pub fn with_lease(&self, id: &str) -> Result<Self> {
        let lease =
            HeaderValue::from_str(id).map_err(|_| identifier::refuse("lease id", id, "it has control characters"))?;
        Ok(self.scoped(Scope { lease: Some(lease), ..(*self.scope).clone() }))
    }

    /// Returns the same client in another namespace, without the lease, which is the old namespace's.
    ///
    /// # Errors
    /// [`Error::Name`] when it cannot be the name of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Result<Self> {
        Ok(self.scoped(Scope::new(namespace, self.scope.grant.clone())?))
    }

    /// Returns the same client under another grant.
    #[must_use]
    pub fn with_grant(&self, grant: &Grant) -> Self {
        self.scoped(Scope { grant: grant.clone(), ..(*self.scope).clone() })
    }

    /// Returns the same client for planning: every RPC that is not a read is refused before it is sent.
    #[must_use]
    pub fn planning(&self) -> Self {
        self.with_grant(&self.scope.grant.planning())
    }

    /// Returns the same client for taking back what an operation has just made itself.
    ///
    /// It goes on after a cancel, and deleting needs no more access than making did: a script that may pull but not
    /// delete still leaves no half-unpacked snapshot. It is for the error path of an operation and nothing else.
    #[must_use]
    pub fn undoing(&self) -> Self {
        let grant = self.scope.grant.with_cancel(CancellationToken::new());
        self.scoped(Scope { grant, undoing: true, ..(*self.scope).clone() })
    }

    fn scoped(&self, scope: Scope) -> Self {
        Self { node: self.node.clone(), scope: Arc::new(scope) }
    }

    /// Returns the guarded channel that every service's generated client sits on.
    pub(crate) fn guarded(&self) -> Guard {
        Guard::new(self.node.channel(), self.scope.clone())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("node", &self.node)
            .field("namespace", &self.namespace())
            .field("lease", &self.lease())
            .finish_non_exhaustive()
    }
}

/// Makes a service's generated client on the guarded channel, with containerd's message limit both ways.
macro_rules! service {
    ($client:ty, $over:expr) => {
        <$client>::new($over.guarded())
            .max_decoding_message_size($crate::containerd::MAX_MESSAGE)
            .max_encoding_message_size($crate::containerd::MAX_MESSAGE)
    };
}
pub(crate) use service;
