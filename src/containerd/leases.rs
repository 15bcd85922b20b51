//! Leases: what keeps content and snapshots from being collected while nothing else points to them.
//!
//! A client made by [`Client::with_lease`] adds all that it makes to its lease. Ingests belong to the lease too: deleting
//! it throws half-written content away at once.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use chrono::{DateTime, TimeDelta, Utc};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::leases_client::LeasesClient;

use super::error::failed;
use super::guard::Guard;
use super::images::Deletion;
use super::{Client, Labels, Result, service, wire};
use crate::oci::Digest;

mod change;

/// How long a lease lives that nobody deletes, as in containerd's own client.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// When the collector may take a lease (RFC 3339; containerd docs/garbage-collection.md).
const EXPIRE: &str = "containerd.io/gc.expire";
/// How far the daemon's clock may be from ours without a lease being made anew.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What names it.
    pub id: String,
    /// When it was made, by the daemon's clock.
    pub created_at: DateTime<Utc>,
    /// Its labels.
    pub labels: Labels,
}

/// Something that a lease keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A blob.
    Content(Digest),
    /// A half-written blob, by its reference.
    Ingest(String),
    /// A snapshot.
    Snapshot {
        /// The snapshotter it is in.
        snapshotter: String,
        /// Its key.
        key: String,
    },
    /// Anything that this program does not know.
    Other {
        /// What sort it is.
        kind: String,
        /// What names it.
        id: String,
    },
}

/// The lease service.
#[derive(Debug, Clone)]
pub struct Leases(Client);

impl Client {
    /// Returns the lease service.
    #[must_use]
    pub fn leases(&self) -> Leases {
        Leases(self.clone())
    }
}

impl Leases {
    fn rpc(&self) -> LeasesClient<Guard> {
        service!(LeasesClient<_>, self.0)
    }

    /// Makes a lease with a fresh id that lives for `lifetime` by the daemon's clock.
    ///
    /// The daemon takes an expiry in its past without a word and collects what the lease should keep. So the clocks are
    /// compared by the time that the daemon put on the lease, and if they differ a right one takes its place.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `write`.
    pub async fn create(&self, lifetime: Duration, labels: &Labels) -> Result<Lease> {
        self.create_named(&fresh_id(), Some(lifetime), labels).await
    }

    /// Deletes a lease; one that is gone already is as good. With [`Deletion::Synchronous`] what only it kept is gone
    /// when this returns.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `write`.
    pub async fn delete(&self, id: &str, deletion: Deletion) -> Result<()> {
        let request = api::DeleteRequest { id: id.to_owned(), sync: deletion == Deletion::Synchronous };
        match self.rpc().delete(request).await.map_err(failed("delete lease", id)) {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Lists the leases that match any of the filters, all without filters.
    ///
    /// # Errors
    /// Fails when the daemon refuses a filter.
    pub async fn list(&self, filters: &[String]) -> Result<Vec<Lease>> {
        let answer = self.rpc().list(api::ListRequest { filters: filters.to_vec() }).await;
        let answer = answer.map_err(failed("list leases of", self.0.namespace()))?;
        Ok(answer.into_inner().leases.into_iter().map(Lease::from_wire).collect())
    }

    /// Finds one lease by its id.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `read`.
    pub async fn find(&self, id: &str) -> Result<Option<Lease>> {
        Ok(self.list(&[format!("id=={id:?}")]).await?.into_iter().find(|lease| lease.id == id))
    }

    /// Puts a resource under a lease, whether it exists or not.
    ///
    /// # Errors
    /// [`Fault::LeaseGone`](super::Fault::LeaseGone) when there is no such lease.
    pub async fn add_resource(&self, id: &str, resource: &Resource) -> Result<()> {
        let request = api::AddResourceRequest { id: id.to_owned(), resource: Some(resource.to_wire()) };
        self.rpc().add_resource(request).await.map_err(failed("add to lease", id))?;
        Ok(())
    }

    /// Lists what a lease keeps.
    ///
    /// # Errors
    /// [`Fault::LeaseGone`](super::Fault::LeaseGone) when there is no such lease.
    pub async fn resources(&self, id: &str) -> Result<Vec<Resource>> {
        let answer = self.rpc().list_resources(api::ListResourcesRequest { id: id.to_owned() }).await;
        let answer = answer.map_err(failed("list resources of lease", id))?;
        Ok(answer.into_inner().resources.into_iter().map(Resource::from_wire).collect())
    }
}

fn is_gone(error: &super::Error) -> bool {
    matches!(error.fault(), Some(super::Fault::NotFound | super::Fault::LeaseGone))
}

/// Makes an id as containerd's own client does: nanoseconds and three random bytes (its client/lease.go).
fn fresh_id() -> String {
    format!("{}-{}", Utc::now().timestamp_subsec_nanos(), URL_SAFE.encode(rand::random::<[u8; 3]>()))
}

impl Lease {
    /// Returns when the collector may take it, by the daemon's clock; never when it has no expiry.
    #[must_use]
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        DateTime::parse_from_rfc3339(self.labels.get(EXPIRE)?).ok().map(|time| time.to_utc())
    }

    fn from_wire(wire: api::Lease) -> Self {
        Self { id: wire.id, created_at: wire::time(wire.created_at), labels: wire::labels(wire.labels) }
    }
}

impl Resource {
    // The types are those of containerd's core/metadata/leases.go.
    fn to_wire(&self) -> api::Resource {
        let (id, kind) = match self {
            Self::Content(digest) => (digest.to_string(), "content".to_owned()),
            Self::Ingest(reference) => (reference.clone(), "ingests".to_owned()),
            Self::Snapshot { snapshotter, key } => (key.clone(), format!("snapshots/{snapshotter}")),
            Self::Other { kind, id } => (id.clone(), kind.clone()),
        };
        api::Resource { id, r#type: kind }
    }

    fn from_wire(wire: api::Resource) -> Self {
        match wire.r#type.as_str() {
            "content" => match wire.id.parse() {
                Ok(digest) => Self::Content(digest),
                Err(_) => Self::Other { kind: wire.r#type, id: wire.id },
            },
            "ingests" => Self::Ingest(wire.id),
            kind => match kind.strip_prefix("snapshots/") {
                Some(snapshotter) => Self::Snapshot { snapshotter: snapshotter.to_owned(), key: wire.id },
                None => Self::Other { kind: wire.r#type, id: wire.id },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_survive_a_round_trip() {
        for resource in [
            Resource::Content(Digest::sha256(b"x")),
            Resource::Ingest("layer-sha256:1".into()),
            Resource::Snapshot { snapshotter: "overlayfs".into(), key: "sha256:2".into() },
            Resource::Other { kind: "mounts".into(), id: "3".into() },
        ] {
            assert_eq!(Resource::from_wire(resource.to_wire()), resource);
        }
    }
}
