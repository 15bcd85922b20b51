//! Leases as users make them: by a name of their own, without an end, and with less in them than before.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use containerd_client::services::v1 as api;

use super::{CLOCK_SKEW, EXPIRE, Lease, Leases, Resource};
use crate::containerd::error::failed;
use crate::containerd::images::Deletion;
use crate::containerd::{Labels, Result, wire};

/// The longest life that is sent: what lives longer needs no end, and adding it to a time cannot overflow.
const LONGEST: TimeDelta = TimeDelta::days(365 * 100);

impl Leases {
    /// Makes a lease with this id. It lives for `lifetime` by the daemon's clock, without one until it is deleted.
    ///
    /// # Errors
    /// Fails when there is one with this id.
    pub async fn create_named(&self, id: &str, lifetime: Option<Duration>, labels: &Labels) -> Result<Lease> {
        let now = Utc::now();
        let lease = self.send_create(id, end(now, lifetime), labels).await?;
        if lifetime.is_none() || (lease.created_at - now).abs() < CLOCK_SKEW {
            return Ok(lease);
        }
        // The daemon's clock is another, and an end in its past would make the lease worthless.
        self.delete(id, Deletion::Later).await?;
        self.send_create(id, end(lease.created_at, lifetime), labels).await
    }

    async fn send_create(&self, id: &str, end: Option<DateTime<Utc>>, labels: &Labels) -> Result<Lease> {
        let labels = wire::to_labels(&labelled(labels, end));
        let answer = self.rpc().create(api::CreateRequest { id: id.to_owned(), labels }).await;
        let lease = answer.map_err(failed("create lease", id))?.into_inner().lease;
        Ok(Lease::from_wire(wire::required(lease, "create lease", id)?))
    }

    /// Takes a resource out of a lease; one that is not in it is as good.
    ///
    /// # Errors
    /// [`Fault::LeaseGone`](crate::containerd::Fault::LeaseGone) when there is no such lease.
    pub async fn remove_resource(&self, id: &str, resource: &Resource) -> Result<()> {
        let request = api::DeleteResourceRequest { id: id.to_owned(), resource: Some(resource.to_wire()) };
        self.rpc().delete_resource(request).await.map_err(failed("remove from lease", id))?;
        Ok(())
    }
}

impl Lease {
    /// The label that says when a lease ends.
    pub const EXPIRE: &'static str = EXPIRE;

    /// Returns the lease as it would be if it were made now.
    #[must_use]
    pub fn planned(id: &str, lifetime: Option<Duration>, labels: &Labels) -> Self {
        let now = Utc::now();
        Self { id: id.to_owned(), created_at: now, labels: labelled(labels, end(now, lifetime)) }
    }

    /// Makes an id that no other lease has.
    #[must_use]
    pub fn fresh_id() -> String {
        super::fresh_id()
    }
}

impl Resource {
    /// Reads a resource from its sort and its name, as containerd has them.
    #[must_use]
    pub fn of(kind: &str, id: &str) -> Self {
        Self::from_wire(api::Resource { id: id.to_owned(), r#type: kind.to_owned() })
    }

    /// Returns its sort: `content`, `ingests`, `snapshots/SNAPSHOTTER`.
    #[must_use]
    pub fn kind(&self) -> String {
        self.to_wire().r#type
    }

    /// Returns what names it among its sort.
    #[must_use]
    pub fn id(&self) -> String {
        self.to_wire().id
    }
}

fn end(from: DateTime<Utc>, lifetime: Option<Duration>) -> Option<DateTime<Utc>> {
    let lifetime = TimeDelta::from_std(lifetime?).map_or(LONGEST, |lifetime| lifetime.min(LONGEST));
    Some(from + lifetime)
}

fn labelled(labels: &Labels, end: Option<DateTime<Utc>>) -> Labels {
    let mut labels = labels.clone();
    if let Some(end) = end {
        labels.insert(EXPIRE.to_owned(), end.to_rfc3339_opts(SecondsFormat::Secs, true));
    }
    labels
}
