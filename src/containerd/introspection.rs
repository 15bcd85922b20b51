//! What the daemon tells of itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::introspection_client::IntrospectionClient;

use super::error::failed;
use super::guard::Guard;
use super::{Client, Result, service, wire};
use crate::oci::Platform;

/// A plugin of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// What sort it is, such as `io.containerd.snapshotter.v1`.
    pub kind: String,
    /// Its name within the sort, such as `overlayfs`.
    pub id: String,
    /// The sorts of plugin that it needs.
    pub requires: Vec<String>,
    /// The platforms that it works for; none means all.
    pub platforms: Vec<Platform>,
    /// What it tells, such as a snapshotter's `root`.
    pub exports: BTreeMap<String, String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Why it could not start, or that it was skipped.
    pub failure: Option<String>,
}

/// The daemon as a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What identifies its root folder across restarts.
    pub uuid: String,
    /// Its process, in its own PID namespace; 0 before containerd 1.7.
    pub pid: u64,
    /// Its PID namespace; 0 before containerd 1.7.
    pub pid_namespace: u64,
    /// What it warns of, since containerd 1.7.12.
    pub deprecations: Vec<Deprecation>,
}

/// A feature in use that will go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deprecation {
    /// Its identifier.
    pub id: String,
    /// What to do about it.
    pub message: String,
    /// When it was last used.
    pub last_occurrence: DateTime<Utc>,
}

/// The introspection service.
#[derive(Debug, Clone)]
pub struct Introspection(Client);

impl Client {
    /// Returns the introspection service.
    #[must_use]
    pub fn introspection(&self) -> Introspection {
        Introspection(self.clone())
    }
}

impl Introspection {
    fn rpc(&self) -> IntrospectionClient<Guard> {
        service!(IntrospectionClient<_>, self.0)
    }

    /// Lists the plugins that match any of the filters, all without filters.
    ///
    /// # Errors
    /// Fails when the daemon refuses a filter.
    pub async fn plugins(&self, filters: &[String]) -> Result<Vec<Plugin>> {
        let answer = self.rpc().plugins(api::PluginsRequest { filters: filters.to_vec() }).await;
        let answer = answer.map_err(failed("list plugins of", &self.0.node().endpoint().to_string()))?;
        Ok(answer.into_inner().plugins.into_iter().map(Plugin::from_wire).collect())
    }

    /// Asks for the daemon's identity.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `read`.
    pub async fn server(&self) -> Result<Server> {
        let answer = self.rpc().server(()).await;
        let server = answer.map_err(failed("ask", &self.0.node().endpoint().to_string()))?.into_inner();
        let deprecation = |d: api::DeprecationWarning| Deprecation {
            id: d.id,
            message: d.message,
            last_occurrence: wire::time(d.last_occurrence),
        };
        Ok(Server {
            uuid: server.uuid,
            pid: server.pid,
            pid_namespace: server.pidns,
            deprecations: server.deprecations.into_iter().map(deprecation).collect(),
        })
    }
}

impl Plugin {
    fn from_wire(wire: api::Plugin) -> Self {
        let platform = |p: containerd_client::types::Platform| {
            Platform::new(&p.os, &p.architecture, Some(p.variant.as_str()).filter(|v| !v.is_empty()))
        };
        Self {
            kind: wire.r#type,
            id: wire.id,
            requires: wire.requires,
            platforms: wire.platforms.into_iter().map(platform).collect(),
            exports: wire.exports.into_iter().collect(),
            capabilities: wire.capabilities,
            failure: wire.init_err.map(|status| status.message),
        }
    }
}
