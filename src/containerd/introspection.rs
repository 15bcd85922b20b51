//! What the daemon tells of itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use prost::Message;
use prost_types::Any;
use serde_json::Value;

use super::containers::{RuncOptions, Runtime};
use super::error::{Error, failed};
use super::guard::Guard;
use super::{Client, Result, service, wire};
use crate::oci::Platform;

/// The plugin that runs tasks (containerd `plugins.RuntimePluginV2`).
const TASK_PLUGIN: (&str, &str) = ("io.containerd.runtime.v2", "task");

/// The type URL of a question about a runtime. It has no slash before it, unlike what prost would write.
const RUNTIME_REQUEST_TYPE_URL: &str = "containerd.types.RuntimeRequest";

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

/// What a runtime's shim tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// The runtime, such as `io.containerd.runc.v2`.
    pub name: String,
    /// The version of the shim.
    pub version: String,
    /// The commit it was built from.
    pub revision: String,
    /// The options that it was asked with, when they are runc's.
    pub options: Option<RuncOptions>,
    /// What the program behind it can do (runtime-spec `features.md`); null when it does not say.
    pub features: Value,
    /// The shim's notes.
    pub annotations: BTreeMap<String, String>,
}

/// A question about a runtime (containerd `api/types/introspection.proto`, which `containerd-client` does not generate).
#[derive(Clone, PartialEq, Message)]
struct RuntimeRequest {
    #[prost(string, tag = "1")]
    runtime_path: String,
    #[prost(message, optional, tag = "2")]
    options: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeAnswer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    version: Option<RuntimeVersion>,
    #[prost(message, optional, tag = "3")]
    options: Option<Any>,
    #[prost(message, optional, tag = "4")]
    features: Option<Any>,
    #[prost(btree_map = "string, string", tag = "5")]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RuntimeVersion {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    revision: String,
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

    /// Asks a runtime's shim what it is, by its name or by the path of its program.
    ///
    /// # Errors
    /// [`Error::is_unsupported`] when the daemon does not pass such questions on, as before containerd 2.0.
    pub async fn runtime(&self, runtime: &Runtime) -> Result<RuntimeInfo> {
        const ACTION: &str = "inspect runtime";
        let question = RuntimeRequest { runtime_path: runtime.name.clone(), options: runtime.options_to_any() };
        let runtime = runtime.name.as_str();
        let request = api::PluginInfoRequest {
            r#type: TASK_PLUGIN.0.to_owned(),
            id: TASK_PLUGIN.1.to_owned(),
            options: Some(Any { type_url: RUNTIME_REQUEST_TYPE_URL.to_owned(), value: question.encode_to_vec() }),
        };
        let answer = self.rpc().plugin_info(request).await.map_err(failed(ACTION, runtime))?;
        let extra = wire::required(answer.into_inner().extra, ACTION, runtime)?;
        let told = RuntimeAnswer::decode(extra.value.as_slice()).map_err(|error| Error::Answer {
            action: ACTION,
            subject: runtime.to_owned(),
            reason: error.to_string(),
        })?;
        let version = told.version.unwrap_or_default();
        let features = told.features.and_then(|any| serde_json::from_slice(&any.value).ok());
        Ok(RuntimeInfo {
            name: told.name,
            version: version.version,
            revision: version.revision,
            options: told.options.and_then(|any| RuncOptions::decode(any.value.as_slice()).ok()),
            features: features.unwrap_or_default(),
            annotations: told.annotations,
        })
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

impl Server {
    /// Writes it as `ctr info` prints it: the answer of the daemon, without what is nothing.
    #[must_use]
    pub fn as_ctr(&self) -> serde_json::Value {
        let deprecations: Vec<_> = self.deprecations.iter().map(Deprecation::as_ctr).collect();
        let mut server = serde_json::json!({ "uuid": self.uuid });
        for (name, number) in [("pid", self.pid), ("pidns", self.pid_namespace)] {
            if number > 0 {
                server[name] = number.into();
            }
        }
        if !deprecations.is_empty() {
            server["deprecations"] = deprecations.into();
        }
        server
    }
}

impl Deprecation {
    fn as_ctr(&self) -> serde_json::Value {
        let at = self.last_occurrence;
        let at = serde_json::json!({ "seconds": at.timestamp(), "nanos": at.timestamp_subsec_nanos() });
        serde_json::json!({ "id": self.id, "message": self.message, "last_occurrence": at })
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
