//! Parts of a container's record as checkpoints keep them: each an encoded `google.protobuf.Any`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use prost::Message;
use prost_types::Any;
use serde_json::{Map, Value, json};

use super::{Container, Runtime, api, spec_to_any};
use crate::containerd::{Result, wire};
use crate::oci::Spec;
use crate::oci::spec::SPEC_TYPE_URL;

impl Container {
    /// Writes the spec; none when the record has one of another sort.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn spec_bytes(&self) -> Result<Option<Vec<u8>>> {
        let spec = self.spec.as_ref().map(|spec| spec_to_any(spec, &self.id)).transpose()?;
        Ok(spec.map(|any| any.encode_to_vec()))
    }

    /// Writes the record as `ctr containers info` prints it (containerd `core/containers/containers.go`).
    #[must_use]
    pub fn as_ctr(&self) -> Value {
        let any = |type_url: &str, value: &[u8]| {
            let mut any = json!({ "type_url": type_url });
            if !value.is_empty() {
                any["value"] = BASE64.encode(value).into();
            }
            any
        };
        let runtime = self.runtime.to_wire();
        let options = runtime.options.map(|options| any(&options.type_url, &options.value));
        let extensions: Map<String, Value> =
            self.extensions.iter().map(|(name, it)| (name.clone(), any(&it.type_url, &it.value))).collect();
        json!({
            "ID": self.id,
            "Labels": self.labels,
            "Image": self.image,
            "Runtime": { "Name": runtime.name, "Options": options },
            "SnapshotKey": self.snapshot_key,
            "Snapshotter": self.snapshotter,
            "CreatedAt": wire::as_go(self.created_at),
            "UpdatedAt": wire::as_go(self.updated_at),
            "Extensions": extensions,
            "SandboxID": self.sandbox.clone().unwrap_or_default(),
            "Spec": self.spec,
        })
    }
}

impl Runtime {
    /// Writes the options, when it has any.
    #[must_use]
    pub fn options_bytes(&self) -> Option<Vec<u8>> {
        self.to_wire().options.map(|any| any.encode_to_vec())
    }

    /// Reads a runtime of this name, with the options that were written.
    ///
    /// # Errors
    /// That the bytes are no options.
    pub fn read(name: &str, options: Option<&[u8]>) -> std::result::Result<Self, String> {
        let options = options.map(Any::decode).transpose().map_err(|error| error.to_string())?;
        Ok(Self::from_wire(api::container::Runtime { name: name.to_owned(), options }))
    }
}

/// Reads a spec that was written.
///
/// # Errors
/// That the bytes are no spec for Linux, and why.
pub fn read_spec(bytes: &[u8]) -> std::result::Result<Spec, String> {
    let any = Any::decode(bytes).map_err(|error| error.to_string())?;
    if any.type_url != SPEC_TYPE_URL {
        return Err(format!("it is a {}", crate::oci::excerpt(&any.type_url)));
    }
    serde_json::from_slice(&any.value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerd::containers::RuncOptions;
    use crate::oci::spec::default_spec;

    #[test]
    fn what_is_written_is_read() {
        let spec = default_spec("default", "c");
        let any = spec_to_any(&spec, "c").unwrap().encode_to_vec();
        assert_eq!(read_spec(&any).unwrap(), spec);
        let options = RuncOptions { systemd_cgroup: true, ..RuncOptions::default() };
        let runtime = Runtime { options: Some(options), ..Runtime::default() };
        let bytes = runtime.options_bytes().unwrap();
        assert_eq!(Runtime::read(&runtime.name, Some(&bytes)).unwrap(), runtime);
        assert!(read_spec(&bytes).unwrap_err().contains("containerd.runc.v1.Options"));
        assert!(read_spec(b"{}").is_err());
        assert!(Runtime::read("io.containerd.runc.v2", Some(b"{}")).is_err());
    }
}
