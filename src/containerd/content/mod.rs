//! The content store: blobs by digest, and the ingests that become blobs.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::content_client::ContentClient;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::error::failed;
use super::guard::Guard;
use super::{Client, Labels, Result, service, wire};
use crate::oci::{self, Descriptor, Digest};

mod labels;
mod local;
mod reference;
mod small;
mod writer;

pub use labels::{gc_labels, source_labels, sources};
pub use reference::ingest_reference;
pub use small::SmallWriter;
pub use writer::{Ingest, Writer};

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
    /// When its labels last changed.
    pub updated_at: DateTime<Utc>,
    /// Its labels.
    pub labels: Labels,
}

/// An ingest: a blob that is being written, or whose writing stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What names it.
    pub reference: String,
    /// How many bytes are there.
    pub offset: u64,
    /// How many there will be; 0 when nobody said.
    pub total: u64,
    /// The digest that it should have; containerd 1.6 does not tell.
    pub expected: Option<Digest>,
    /// When it began; year 1 for one that was written in a single message.
    pub started_at: DateTime<Utc>,
    /// When it last grew.
    pub updated_at: DateTime<Utc>,
}

/// The content service.
#[derive(Debug, Clone)]
pub struct Content(Client);

impl Client {
    /// Returns the content service.
    #[must_use]
    pub fn content(&self) -> Content {
        Content(self.clone())
    }
}

impl Content {
    fn rpc(&self) -> ContentClient<Guard> {
        service!(ContentClient<_>, self.0)
    }

    /// Looks up a blob. That does not keep it from being collected; [`Self::open`] does.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn info(&self, digest: &Digest) -> Result<Info> {
        let subject = digest.as_str();
        let answer = self.rpc().info(api::InfoRequest { digest: digest.to_string() }).await;
        let info = answer.map_err(failed("get content", subject))?.into_inner().info;
        Ok(Info::from_wire(wire::required(info, "get content", subject)?)?)
    }

    /// Lists the blobs that match any of the filters, all without filters. One with a digest of an unknown algorithm is
    /// left out.
    ///
    /// # Errors
    /// Fails when the daemon refuses a filter.
    pub async fn list(&self, filters: &[String]) -> Result<BoxStream<'static, Result<Info>>> {
        const ACTION: &str = "list content of";
        let request = api::ListContentRequest { filters: filters.to_vec() };
        let answer = self.rpc().list(request).await.map_err(failed(ACTION, self.0.namespace()))?.into_inner();
        let failure = failed(ACTION, self.0.namespace().to_owned());
        let pages = answer
            .map_err(failure)
            .map_ok(|page| stream::iter(page.info.into_iter().filter_map(|info| Info::from_wire(info).ok()).map(Ok)));
        Ok(pages.try_flatten().boxed())
    }

    /// Sets labels, leaving the others alone; an empty value removes a label.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is no such blob.
    pub async fn set_labels(&self, digest: &Digest, labels: &Labels) -> Result<Info> {
        let subject = digest.as_str();
        let info = api::Info { digest: digest.to_string(), labels: wire::to_labels(labels), ..Default::default() };
        let request = api::UpdateRequest { info: Some(info), update_mask: Some(wire::label_mask(labels.keys())) };
        let info = self.rpc().update(request).await.map_err(failed("label content", subject))?.into_inner().info;
        Ok(Info::from_wire(wire::required(info, "label content", subject)?)?)
    }

    /// Deletes a blob, whatever points to it.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn delete(&self, digest: &Digest) -> Result<()> {
        let answer = self.rpc().delete(api::DeleteContentRequest { digest: digest.to_string() }).await;
        answer.map_err(failed("delete content", digest.as_str()))?;
        Ok(())
    }

    /// Reads a blob from an offset to its end, in one stream. The bytes are not verified.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none, before the stream is returned.
    pub async fn read(&self, digest: &Digest, offset: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        const ACTION: &str = "read content";
        let request = api::ReadContentRequest { digest: digest.to_string(), offset: wire::to_size(offset), size: 0 };
        let answer = self.rpc().read(request).await.map_err(failed(ACTION, digest.as_str()))?;
        let mut messages = answer.into_inner();
        // What is wrong with the request comes with the first message, not with the call.
        let first = messages.message().await.map_err(failed(ACTION, digest.as_str()))?;
        let failure = failed(ACTION, digest.to_string());
        let rest = messages.map_err(failure);
        Ok(stream::iter(first.map(Ok)).chain(rest).map_ok(|message| Bytes::from(message.data)).boxed())
    }

    /// Reads a small blob whole and verifies it.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none; an integrity error when the store's bytes
    /// do not have the digest, or are more than `limit`.
    pub async fn bytes(&self, digest: &Digest, limit: u64) -> Result<Bytes> {
        let mismatch = |expected: String, actual: String| oci::Error::Mismatch {
            subject: format!("content {digest} of {}", self.0.node().endpoint()),
            expected,
            actual,
        };
        let mut stream = self.read(digest, 0).await?;
        let mut whole = Vec::new();
        while let Some(part) = stream.try_next().await? {
            if (whole.len() + part.len()) as u64 > limit {
                return Err(mismatch(format!("at most {limit} bytes"), "longer".to_owned()).into());
            }
            whole.extend_from_slice(&part);
        }
        let mut hasher = oci::Hasher::new(digest.algorithm());
        hasher.update(&whole);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(mismatch(digest.to_string(), actual.to_string()).into());
        }
        Ok(whole.into())
    }

    /// Looks up an ingest.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none: it never began, was committed or dropped.
    pub async fn status(&self, reference: &str) -> Result<Status> {
        let answer = self.rpc().status(api::StatusRequest { r#ref: reference.to_owned() }).await;
        let status = answer.map_err(failed("get ingest", reference))?.into_inner().status;
        Ok(Status::from_wire(wire::required(status, "get ingest", reference)?))
    }

    /// Lists the ingests that match any of the filters, all without filters.
    ///
    /// # Errors
    /// Fails when the daemon refuses a filter.
    pub async fn statuses(&self, filters: &[String]) -> Result<Vec<Status>> {
        let answer = self.rpc().list_statuses(api::ListStatusesRequest { filters: filters.to_vec() }).await;
        let answer = answer.map_err(failed("list ingests of", self.0.namespace()))?;
        Ok(answer.into_inner().statuses.into_iter().map(Status::from_wire).collect())
    }

    /// Throws an ingest away; one that is gone already is as good.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `write`.
    pub async fn abort(&self, reference: &str) -> Result<()> {
        let answer = self.rpc().abort(api::AbortRequest { r#ref: reference.to_owned() }).await;
        match answer.map_err(failed("abort ingest", reference)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins or resumes writing a blob. `None` means that the store has it, and that it is kept by the client's lease
    /// from now on.
    ///
    /// While another client writes the same content this waits for it, as long as it gets on.
    ///
    /// # Errors
    /// [`Fault::Locked`](super::Fault::Locked) when the other client does not get on.
    pub async fn open(&self, descriptor: &Descriptor, labels: &Labels) -> Result<Option<Writer>> {
        self.ingest(Ingest::of(descriptor, labels)).await
    }
}

impl Info {
    fn from_wire(wire: api::Info) -> Result<Self, oci::Error> {
        Ok(Self {
            digest: wire.digest.parse()?,
            size: wire::size(wire.size),
            created_at: wire::time(wire.created_at),
            updated_at: wire::time(wire.updated_at),
            labels: wire::labels(wire.labels),
        })
    }
}

impl Status {
    fn from_wire(wire: api::Status) -> Self {
        Self {
            reference: wire.r#ref,
            offset: wire::size(wire.offset),
            total: wire::size(wire.total),
            expected: wire.expected.parse().ok(),
            started_at: wire::time(wire.started_at),
            updated_at: wire::time(wire.updated_at),
        }
    }
}
