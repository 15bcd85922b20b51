//! Diffs: from a layer to a filesystem and back, both done by the daemon.

use containerd_client::services::v1 as api;
use containerd_client::services::v1::diff_client::DiffClient;

use super::error::failed;
use super::guard::Guard;
use super::snapshots::Mount;
use super::{Client, Labels, Result, service, wire};
use crate::oci::{Descriptor, MediaType};

/// The diff service.
#[derive(Debug, Clone)]
pub struct Diff(Client);

impl Client {
    /// Returns the diff service.
    #[must_use]
    pub fn diff(&self) -> Diff {
        Diff(self.clone())
    }
}

impl Diff {
    fn rpc(&self) -> DiffClient<Guard> {
        service!(DiffClient<_>, self.0)
    }

    /// Unpacks a layer of the content store onto mounts. Returns the descriptor of the uncompressed tar, whose digest is
    /// the layer's diff id.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when the layer is not in the store.
    pub async fn apply(&self, layer: &Descriptor, mounts: &[Mount]) -> Result<Descriptor> {
        let request = api::ApplyRequest {
            diff: Some(wire::to_descriptor(layer)),
            mounts: mounts.iter().map(Mount::to_wire).collect(),
            ..Default::default()
        };
        let digest = layer.digest.as_str();
        let applied = self.rpc().apply(request).await.map_err(failed("unpack layer", digest))?.into_inner().applied;
        Ok(wire::descriptor(wire::required(applied, "unpack layer", digest)?)?)
    }

    /// Packs what differs between two filesystems into a layer in the content store.
    ///
    /// # Errors
    /// Fails when the daemon does not know the media type or cannot mount.
    pub async fn compare(
        &self,
        lower: &[Mount],
        upper: &[Mount],
        media_type: &MediaType,
        reference: &str,
        labels: &Labels,
    ) -> Result<Descriptor> {
        let request = api::DiffRequest {
            left: lower.iter().map(Mount::to_wire).collect(),
            right: upper.iter().map(Mount::to_wire).collect(),
            media_type: media_type.as_str().to_owned(),
            r#ref: reference.to_owned(),
            labels: wire::to_labels(labels),
            source_date_epoch: None,
        };
        let made = self.rpc().diff(request).await.map_err(failed("pack layer", reference))?.into_inner().diff;
        Ok(wire::descriptor(wire::required(made, "pack layer", reference)?)?)
    }
}
