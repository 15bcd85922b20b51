//! The node: the daemon that calls act on, and its namespaces.

use std::sync::Arc;

use crate::containerd;
use crate::grant::Access;
use crate::ops::{self, Place};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object};

/// A namespace of a daemon, as a value: every function of the node's is a method of it.
#[derive(Clone)]
pub struct NodeObject {
    place: Place,
}

impl NodeObject {
    /// Wraps a place.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { place }
    }

    /// Returns where its methods act.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Object for NodeObject {
    const TYPE: &'static str = "Node";
    const DOC: &'static str = "A containerd daemon and one of its namespaces; every global function is a method of it.";

    fn fields() -> &'static [Field<Self>] {
        const FIELDS: &[Field<NodeObject>] = &[
            Field::column("address", "string", "Where the daemon listens.", |node, _| {
                Ok(node.place.daemon.endpoint().to_string().into())
            }),
            Field::column("namespace", "string", "The namespace that its methods act on.", |node, _| {
                Ok(node.place.namespace.to_string().into())
            }),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        Some(format!("{} ({})", self.place.daemon.endpoint(), self.place.namespace))
    }
}

/// What a daemon says of its version.
#[derive(Clone)]
struct VersionObject(containerd::version::Version);

impl Object for VersionObject {
    const TYPE: &'static str = "Version";
    const DOC: &'static str = "The version of ctrsh and of the daemon.";

    fn fields() -> &'static [Field<Self>] {
        const FIELDS: &[Field<VersionObject>] = &[
            Field::column("client", "string", "The version of ctrsh.", |_, _| Ok(env!("CARGO_PKG_VERSION").into())),
            Field::column("server", "string", "The version of the daemon.", |v, _| Ok(v.0.version.clone().into())),
            Field::column("revision", "string", "The commit that the daemon was built from.", |v, _| {
                Ok(v.0.revision.clone().into())
            }),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        Some(self.0.version.clone())
    }
}

const VERSION: Spec = Spec {
    name: "version",
    on: On::Node,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Returns the versions of ctrsh and of the daemon.",
    examples: &[Example::runs("version().server")],
};

fn version(call: &Call<'_>) -> Result<VersionObject> {
    call.wait(ops::node::version(call.ctx())).map(VersionObject)
}

const NODE: Spec = Spec {
    name: "node",
    on: On::Free,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Returns the current node and namespace.\n\nThe value keeps acting on that namespace when the current one changes.",
    examples: &[Example::gives("node().namespace == namespace().name", "true")],
};

fn node(call: &Call<'_>) -> Result<NodeObject> {
    Ok(NodeObject::new(call.ctx().place().clone()))
}

const CONNECT: Spec = Spec {
    name: "connect",
    on: On::Free,
    params: &[Param::new("address")],
    options: &[],
    access: Access::Read,
    doc: "Returns the node that listens on a socket, in the current namespace, without making it the current one.",
    examples: &[Example::gives("connect(node().address).version().server == version().server", "true")],
};

fn connect(call: &Call<'_>, address: String) -> Result<NodeObject> {
    let endpoint = containerd::Endpoint::parse(&address).map_err(ops::Error::from)?;
    let daemon = ops::Daemon::new(endpoint, containerd::ConnectOptions::default());
    let place = Place { daemon, namespace: Arc::clone(&call.ctx().place().namespace) };
    // A node that does not answer is told at once, not at the first use.
    call.wait(ops::node::version(&call.at(&place)))?;
    Ok(NodeObject::new(place))
}

/// Registers the functions and objects of the node.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<NodeObject>();
    catalog.add_object::<VersionObject>();
    catalog.add(&VERSION, version);
    catalog.add(&NODE, node);
    catalog.add(&CONNECT, connect);
}
