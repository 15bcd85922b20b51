//! The node: the daemon that calls act on, and its namespaces.

use std::sync::Arc;

use rhai::{Array, Dynamic, Map};

use crate::containerd;
use crate::containerd::introspection::{Plugin, Server};
use crate::grant::Access;
use crate::ops::{self, Place};
use crate::script::api::introspection::DeprecationObject;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Param, Spec};
use crate::script::convert;
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
    const DOC: &'static str = "A containerd daemon and one of its namespaces; every global function is a method of it. A closure that is given to one of them cannot use the variable that it is called on: copy that first, `let other = n`.";

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

/// What the daemon is as a process.
#[derive(Clone)]
struct InfoObject(Server);

impl Object for InfoObject {
    const TYPE: &'static str = "Info";
    const DOC: &'static str = "The daemon as a process.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<InfoObject>;
        const FIELDS: &[F] = &[
            F::column("uuid", "string", "What identifies its root folder across restarts.", |i, _| {
                Ok(i.0.uuid.clone().into())
            }),
            F::column("pid", "int", "Its process, 0 before containerd 1.7.", |i, _| Ok(count(i.0.pid))),
            F::field("pid_namespace", "int", "Its PID namespace, 0 before containerd 1.7.", |i, _| {
                Ok(count(i.0.pid_namespace))
            }),
            F::on_demand("record", "map", "The same in the words of `ctr info`.", |i, _| {
                Ok(convert::from_json(i.0.as_ctr()))
            }),
            F::field("deprecations", "array", "What `deprecations()` lists.", |i, _| {
                let all = i.0.deprecations.iter().cloned().map(DeprecationObject);
                Ok(all.map(Dynamic::from).collect::<Array>().into())
            }),
        ];
        FIELDS
    }
}

fn count(number: u64) -> Dynamic {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

const INFO: Spec = Spec {
    name: "info",
    on: On::Node,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Returns what the daemon is as a process.",
    examples: &[Example::gives("info().uuid.len() > 0", "true")],
};

fn info(call: &Call<'_>) -> Result<InfoObject> {
    call.wait(ops::node::info(call.ctx())).map(InfoObject)
}

/// A plugin of the daemon.
#[derive(Clone)]
struct PluginObject(Plugin);

impl Object for PluginObject {
    const TYPE: &'static str = "Plugin";
    const DOC: &'static str = "A plugin of the daemon.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<PluginObject>;
        const FIELDS: &[F] = &[
            F::column("type", "string", "What sort it is, such as `io.containerd.snapshotter.v1`.", |p, _| {
                Ok(p.0.kind.clone().into())
            }),
            F::column("id", "string", "Its name within the sort, such as `overlayfs`.", |p, _| {
                Ok(p.0.id.clone().into())
            }),
            F::column("platforms", "array", "The platforms that it works for; none means all.", |p, _| {
                Ok(p.0.platforms.iter().map(|p| Dynamic::from(p.to_string())).collect::<Array>().into())
            }),
            F::column("ok", "bool", "Whether it runs.", |p, _| Ok(p.0.failure.is_none().into())),
            F::field("failure", "string", "Why it could not start, or `()`.", |p, _| {
                Ok(p.0.failure.clone().map_or(Dynamic::UNIT, Into::into))
            }),
            F::field("requires", "array", "The sorts of plugin that it needs.", |p, _| {
                Ok(p.0.requires.iter().map(|r| Dynamic::from(r.clone())).collect::<Array>().into())
            }),
            F::field("exports", "map", "What it tells, such as a snapshotter's `root`.", |p, _| {
                Ok(p.0.exports.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
            F::field("capabilities", "array", "What it can do.", |p, _| {
                Ok(p.0.capabilities.iter().map(|c| Dynamic::from(c.clone())).collect::<Array>().into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(format!("{}.{}", self.0.kind, self.0.id))
    }
}

const PLUGINS: Spec = Spec {
    name: "plugins",
    on: On::Node,
    params: &[Param::new("filter")],
    options: &[],
    access: Access::Read,
    doc: "Lists the daemon's plugins.\n\nThe filter is containerd's own, such as `type==io.containerd.snapshotter.v1`.",
    examples: &[Example::gives("plugins(\"type==io.containerd.snapshotter.v1\").some(|p| p.id == \"native\")", "true")],
};

fn plugins(call: &Call<'_>, filter: Option<Vec<String>>) -> Result<Vec<PluginObject>> {
    let plugins = call.wait(ops::node::plugins(call.ctx(), &filter.unwrap_or_default()))?;
    Ok(plugins.into_iter().map(PluginObject).collect())
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
    catalog.add_object::<InfoObject>();
    catalog.add_object::<PluginObject>();
    catalog.add(&INFO, info);
    catalog.add(&PLUGINS, plugins);
    catalog.add(&NODE, node);
    catalog.add(&CONNECT, connect);
}
