//! Container records: what a task is started from.

mod record;

pub use record::read_spec;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::containers_client::ContainersClient;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use prost::Message;
use prost_types::{Any, FieldMask};

use super::error::{Error, Fault, failed};
use super::guard::Guard;
use super::{Client, Labels, Result, identifier, service, wire};
use crate::oci::Spec;
use crate::oci::spec::SPEC_TYPE_URL;

/// The runtime of nearly all containers.
pub const DEFAULT_RUNTIME: &str = "io.containerd.runc.v2";
/// The type URL of runc's options. It has no slash before it, unlike what prost would write.
const RUNC_OPTIONS_TYPE_URL: &str = "containerd.runc.v1.Options";
/// The type URL of the options of other runtimes (containerd `api/types/runtimeoptions/v1/api.proto`).
const RUNTIME_OPTIONS_TYPE_URL: &str = "runtimeoptions.v1.Options";

/// A container record.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The name of the image that it was made from; empty for a root filesystem of the host.
    pub image: String,
    /// Its labels.
    pub labels: Labels,
    /// When the record was made.
    pub created_at: DateTime<Utc>,
    /// When the record was last changed.
    pub updated_at: DateTime<Utc>,
    /// What runs it.
    pub runtime: Runtime,
    /// The snapshotter of its root filesystem; empty for a root filesystem of the host.
    pub snapshotter: String,
    /// The key of its root filesystem's snapshot.
    pub snapshot_key: String,
    /// How it runs. None when the record has a spec of another sort, as Windows and sandboxes can have.
    pub spec: Option<Spec>,
    /// What other clients keep with it, by name.
    pub extensions: BTreeMap<String, Extension>,
    /// The sandbox that it belongs to.
    pub sandbox: Option<String>,
}

/// What runs a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its name, such as `io.containerd.runc.v2`.
    pub name: String,
    /// Its options, when it is a runc.
    pub options: Option<RuncOptions>,
    /// The file with its options, when it is another one that has such a file.
    pub config_path: Option<String>,
}

impl Default for Runtime {
    /// Returns the runtime that ctr takes, with no option set.
    fn default() -> Self {
        Self { name: DEFAULT_RUNTIME.to_owned(), options: Some(RuncOptions::default()), config_path: None }
    }
}

/// Options of the runc shim (containerd `api/types/runc/options/oci.proto`).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuncOptions {
    /// Keeps the old root mounted: for a root filesystem in a ramdisk.
    #[prost(bool, tag = "1")]
    pub no_pivot_root: bool,
    /// Makes no session keyring.
    #[prost(bool, tag = "2")]
    pub no_new_keyring: bool,
    /// The cgroup of the shim.
    #[prost(string, tag = "3")]
    pub shim_cgroup: String,
    /// The owner of the IO pipes.
    #[prost(uint32, tag = "4")]
    pub io_uid: u32,
    /// The group of the IO pipes.
    #[prost(uint32, tag = "5")]
    pub io_gid: u32,
    /// The runc to use.
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// Where runc keeps its state.
    #[prost(string, tag = "7")]
    pub root: String,
    /// Leaves cgroups to systemd.
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
}

impl RuncOptions {
    /// Writes them as the daemon wants them.
    pub(super) fn to_any(&self) -> Any {
        Any { type_url: RUNC_OPTIONS_TYPE_URL.to_owned(), value: self.encode_to_vec() }
    }
}

/// Options of a runtime that is no runc, as far as ctr sets them.
#[derive(Clone, PartialEq, Eq, Message)]
struct RuntimeOptions {
    #[prost(string, tag = "2")]
    config_path: String,
}

impl Runtime {
    fn from_wire(wire: api::container::Runtime) -> Self {
        let options = |type_url: &str| wire.options.as_ref().filter(|any| any.type_url == type_url);
        let runc = options(RUNC_OPTIONS_TYPE_URL).and_then(|any| RuncOptions::decode(any.value.as_slice()).ok());
        let other = options(RUNTIME_OPTIONS_TYPE_URL).and_then(|any| RuntimeOptions::decode(any.value.as_slice()).ok());
        let config_path = other.map(|options| options.config_path).filter(|path| !path.is_empty());
        Self { name: wire.name, options: runc, config_path }
    }

    /// Writes its options as the daemon wants them.
    pub(super) fn options_to_any(&self) -> Option<Any> {
        let other = || {
            Some(Any {
                type_url: RUNTIME_OPTIONS_TYPE_URL.to_owned(),
                value: RuntimeOptions { config_path: self.config_path.clone()? }.encode_to_vec(),
            })
        };
        self.options.as_ref().map(RuncOptions::to_any).or_else(other)
    }

    fn to_wire(&self) -> api::container::Runtime {
        api::container::Runtime { name: self.name.clone(), options: self.options_to_any() }
    }
}

/// Something that another client keeps with a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// What sort of thing it is.
    pub type_url: String,
    /// The thing itself.
    pub value: Vec<u8>,
}

/// The container service.
#[derive(Debug, Clone)]
pub struct Containers(Client);

impl Client {
    /// Returns the container service.
    #[must_use]
    pub fn containers(&self) -> Containers {
        Containers(self.clone())
    }
}

impl Containers {
    fn rpc(&self) -> ContainersClient<Guard> {
        service!(ContainersClient<_>, self.0)
    }

    /// Looks up a container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn get(&self, id: &str) -> Result<Container> {
        let answer = self.rpc().get(api::GetContainerRequest { id: id.to_owned() }).await;
        let container = answer.map_err(failed("get container", id))?.into_inner().container;
        Ok(Container::from_wire(wire::required(container, "get container", id)?))
    }

    /// Lists the containers that match any of the filters, all without filters.
    ///
    /// They come one by one, so that a node with thousands of them does not pass the message limit.
    ///
    /// # Errors
    /// Fails when the daemon refuses a filter.
    pub async fn list(&self, filters: &[String]) -> Result<BoxStream<'static, Result<Container>>> {
        const ACTION: &str = "list containers of";
        let request = api::ListContainersRequest { filters: filters.to_vec() };
        let answer = self.rpc().list_stream(request.clone()).await.map_err(failed(ACTION, self.0.namespace()));
        let one_by_one = match answer {
            Ok(answer) => answer.into_inner(),
            // What serves containerd's API without being containerd may lack it.
            Err(error) if error.fault() == Some(Fault::Unsupported) => {
                let answer = self.rpc().list(request).await.map_err(failed(ACTION, self.0.namespace()))?;
                let containers = answer.into_inner().containers.into_iter().map(Container::from_wire).map(Ok);
                return Ok(stream::iter(containers).boxed());
            }
            Err(error) => return Err(error),
        };
        let failure = failed(ACTION, self.0.namespace().to_owned());
        let found =
            one_by_one.map_err(failure).try_filter_map(async |message| Ok(message.container.map(Container::from_wire)));
        Ok(found.boxed())
    }

    /// Makes a record; its times are the daemon's to set.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] when the id is taken, [`Error::Name`] when it cannot be one.
    pub async fn create(&self, container: &Container) -> Result<Container> {
        identifier::check("container id", &container.id)?;
        let request = api::CreateContainerRequest { container: Some(container.to_wire()?) };
        let answer = self.rpc().create(request).await.map_err(failed("create container", &container.id))?;
        let made = wire::required(answer.into_inner().container, "create container", &container.id)?;
        Ok(Container::from_wire(made))
    }

    /// Sets labels, leaving the others alone; an empty value removes a label.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such container.
    pub async fn set_labels(&self, id: &str, labels: &Labels) -> Result<Container> {
        let container = api::Container { id: id.to_owned(), labels: wire::to_labels(labels), ..Default::default() };
        self.update("label container", container, wire::label_mask(labels.keys())).await
    }

    /// Replaces the spec.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such container.
    pub async fn set_spec(&self, id: &str, spec: &Spec) -> Result<Container> {
        let container = api::Container { id: id.to_owned(), spec: Some(spec_to_any(spec, id)?), ..Default::default() };
        self.update("update container", container, FieldMask { paths: vec!["spec".to_owned()] }).await
    }

    /// Replaces one of the things that clients keep with the container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such container.
    pub async fn set_extension(&self, id: &str, name: &str, extension: &Extension) -> Result<Container> {
        let any = Any { type_url: extension.type_url.clone(), value: extension.value.clone() };
        let extensions = [(name.to_owned(), any)].into();
        let container = api::Container { id: id.to_owned(), extensions, ..Default::default() };
        self.update("update container", container, FieldMask { paths: vec![format!("extensions.{name}")] }).await
    }

    /// Deletes the record; task and snapshot are not touched.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let request = api::DeleteContainerRequest { id: id.to_owned() };
        self.rpc().delete(request).await.map_err(failed("delete container", id))?;
        Ok(())
    }

    async fn update(&self, action: &'static str, container: api::Container, mask: FieldMask) -> Result<Container> {
        let id = container.id.clone();
        let request = api::UpdateContainerRequest { container: Some(container), update_mask: Some(mask) };
        let container = self.rpc().update(request).await.map_err(failed(action, &id))?.into_inner().container;
        Ok(Container::from_wire(wire::required(container, action, &id)?))
    }
}

impl Container {
    fn from_wire(wire: api::Container) -> Self {
        let spec = wire.spec.filter(|any| any.type_url == SPEC_TYPE_URL).and_then(|any| {
            serde_json::from_slice(&any.value)
                .inspect_err(|error| tracing::warn!(id = %wire.id, %error, "unreadable runtime spec"))
                .ok()
        });
        Self {
            image: wire.image,
            labels: wire::labels(wire.labels),
            created_at: wire::time(wire.created_at),
            updated_at: wire::time(wire.updated_at),
            runtime: Runtime::from_wire(wire.runtime.unwrap_or_default()),
            snapshotter: wire.snapshotter,
            snapshot_key: wire.snapshot_key,
            spec,
            extensions: wire
                .extensions
                .into_iter()
                .map(|(name, any)| (name, Extension { type_url: any.type_url, value: any.value }))
                .collect(),
            sandbox: Some(wire.sandbox).filter(|id| !id.is_empty()),
            id: wire.id,
        }
    }

    fn to_wire(&self) -> Result<api::Container> {
        Ok(api::Container {
            id: self.id.clone(),
            labels: wire::to_labels(&self.labels),
            image: self.image.clone(),
            runtime: Some(self.runtime.to_wire()),
            spec: self.spec.as_ref().map(|spec| spec_to_any(spec, &self.id)).transpose()?,
            snapshotter: self.snapshotter.clone(),
            snapshot_key: self.snapshot_key.clone(),
            created_at: None,
            updated_at: None,
            extensions: self
                .extensions
                .iter()
                .map(|(name, it)| (name.clone(), Any { type_url: it.type_url.clone(), value: it.value.clone() }))
                .collect(),
            sandbox: self.sandbox.clone().unwrap_or_default(),
        })
    }
}

fn spec_to_any(spec: &Spec, id: &str) -> Result<Any> {
    let value = serde_json::to_vec(spec).map_err(|error| Error::Answer {
        action: "write spec of",
        subject: id.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Any { type_url: SPEC_TYPE_URL.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::spec::default_spec;

    #[test]
    fn type_urls_have_no_prefix_and_specs_are_json() {
        let container = Container {
            id: "c".into(),
            image: "i".into(),
            labels: Labels::new(),
            created_at: DateTime::default(),
            updated_at: DateTime::default(),
            runtime: Runtime {
                options: Some(RuncOptions { systemd_cgroup: true, ..RuncOptions::default() }),
                ..Runtime::default()
            },
            snapshotter: "overlayfs".into(),
            snapshot_key: "c".into(),
            spec: Some(default_spec("default", "c")),
            extensions: BTreeMap::from([("x".into(), Extension { type_url: "t".into(), value: vec![1] })]),
            sandbox: None,
        };
        let wire = container.to_wire().unwrap();
        let options = wire.runtime.as_ref().unwrap().options.as_ref().unwrap();
        assert_eq!(
            (options.type_url.as_str(), options.value.as_slice()),
            ("containerd.runc.v1.Options", &[9 << 3, 1][..])
        );
        let spec = wire.spec.as_ref().unwrap();
        assert_eq!(spec.type_url, "types.containerd.io/opencontainers/runtime-spec/1/Spec");
        assert!(spec.value.starts_with(br#"{"ociVersion":"#));
        let back = Container::from_wire(wire);
        assert_eq!(Container { created_at: container.created_at, updated_at: container.updated_at, ..back }, container);
    }
}
