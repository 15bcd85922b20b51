//! Reading blobs, from their beginning or where an earlier try stopped (RFC 9110, section 14).

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::hosts::Capability;
use super::pace::Among;
use super::session::{Call, Foreign};
use super::transport::Reply;
use super::{Error, Repository, Result};
use crate::kind::BoxFailure;
use crate::oci::store::BlobReader;
use crate::oci::{self, Descriptor, Digest, Hasher};

impl Repository {
    /// Returns whether the repository has a blob.
    ///
    /// # Errors
    /// Whatever keeps the registry from saying so.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let path = format!("blobs/{digest}");
        match self.send(self.call(Method::HEAD, Capability::Pull, &path)).await {
            Ok(_) => Ok(true),
            // A registry that knows no HEAD cannot say; sending what is there already does no harm.
            Err(Error::Answer(a)) if matches!(a.status.as_u16(), 404 | 405) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks how many bytes a blob has.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the registry does not have it.
    pub async fn blob_size(&self, digest: &Digest) -> Result<u64> {
        let path = format!("blobs/{digest}");
        let call = self.call(Method::HEAD, Capability::Pull, &path);
        let done = self.send(call).await.map_err(|error| error.about(|| self.named(digest.as_str())))?;
        let size = done.reply.header("content-length").and_then(|text| text.parse().ok());
        size.ok_or_else(|| done.reply.nonsense("it does not say how long the blob is"))
    }

    /// Opens a blob at an offset. A registry that cannot begin there begins at the start, which the reader tells.
    ///
    /// A layer that the registry may not have is fetched from where its descriptor says, without credentials.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the registry does not have it; [`Error::Document`] when it has another size.
    pub async fn open_blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobReader> {
        if offset >= descriptor.size {
            return Ok(BlobReader { start: offset, stream: stream::empty().boxed() });
        }
        let reply = match self.ask_blob(descriptor, offset).await {
            Err(Error::NotFound { .. }) if !descriptor.urls.is_empty() => {
                self.ask_elsewhere(descriptor, offset).await?
            }
            other => other?,
        };
        match start(&reply, offset, descriptor.size) {
            Some(start) => self.read(reply, descriptor, start),
            // It began somewhere else than it was asked to: nothing of that can be used.
            None => self.read(self.ask_blob(descriptor, 0).await?, descriptor, 0),
        }
    }

    /// Reads a short blob whole, such as an image's config, and checks that it has its digest.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the registry does not have it; [`Error::Document`] when it is longer than the limit or its
    /// bytes are others.
    pub async fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes> {
        let subject = || self.named(descriptor.digest.as_str());
        if descriptor.size > limit {
            return Err(size(subject(), limit, descriptor.size));
        }
        let path = format!("blobs/{}", descriptor.digest);
        let mut again = true;
        loop {
            let call =
                Call { whole: Some(limit), among: Among::Downloads, ..self.call(Method::GET, Capability::Pull, &path) };
            let bytes = self.send(call).await.map_err(|e| e.about(subject))?.reply.body;
            let mut hasher = Hasher::new(descriptor.digest.algorithm());
            hasher.update(&bytes);
            let actual = hasher.finish();
            if actual == descriptor.digest {
                return Ok(bytes);
            }
            // As with a manifest: they may have been damaged on the way.
            if !std::mem::take(&mut again) {
                let (expected, actual) = (descriptor.digest.to_string(), actual.to_string());
                return Err(oci::Error::Mismatch { subject: subject(), expected, actual }.into());
            }
        }
    }

    async fn ask_blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Reply> {
        let path = format!("blobs/{}", descriptor.digest);
        let mut call = self.call(Method::GET, Capability::Pull, &path);
        call.among = Among::Downloads;
        if offset > 0 {
            call.headers.insert(RANGE, range(offset)?);
        }
        match self.send(call).await {
            Ok(done) => Ok(done.reply),
            Err(error) if error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) && offset > 0 => {
                Box::pin(self.ask_blob(descriptor, 0)).await
            }
            Err(error) => Err(error.about(|| self.named(descriptor.digest.as_str()))),
        }
    }

    async fn ask_elsewhere(&self, descriptor: &Descriptor, offset: u64) -> Result<Reply> {
        let mut last = None;
        for url in &descriptor.urls {
            let range = (offset > 0).then(|| range(offset)).transpose()?;
            match self.session.fetch_foreign(Foreign { url, subject: self.locator(), range }).await {
                Ok(reply) => return Ok(reply),
                Err(error @ Error::Refused(_)) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| oci_no_url(descriptor)))
    }

    fn read(&self, reply: Reply, descriptor: &Descriptor, start: u64) -> Result<BlobReader> {
        let expected = descriptor.size - start;
        let subject = self.named(descriptor.digest.as_str());
        let announced = reply.header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
        if let Some(announced) = announced.filter(|announced| *announced != expected) {
            return Err(size(subject, descriptor.size, start + announced));
        }
        self.session.shared.presence.note(self.registry(), self.name(), &descriptor.digest);
        Ok(BlobReader { start, stream: bytes(Reading { reply, subject, size: descriptor.size, at: start }) })
    }
}

fn oci_no_url(descriptor: &Descriptor) -> Error {
    oci::Error::Document {
        what: "layer",
        digest: descriptor.digest.to_string(),
        reason: "there is no address to fetch it from".into(),
    }
    .into()
}

fn range(offset: u64) -> Result<HeaderValue> {
    HeaderValue::from_str(&format!("bytes={offset}-"))
        .map_err(|e| Error::SetUp { what: "Range header", reason: e.to_string() })
}

fn size(subject: String, expected: u64, actual: u64) -> Error {
    let bytes = |n: u64| format!("{n} bytes long");
    oci::Error::Mismatch { subject, expected: bytes(expected), actual: bytes(actual) }.into()
}

/// Works out where an answer's bytes begin; `None` when they cannot be used.
fn start(reply: &Reply, offset: u64, size: u64) -> Option<u64> {
    if reply.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let (first, total) = content_range(reply.header(CONTENT_RANGE.as_str())?)?;
    (first == offset && total.is_none_or(|total| total == size)).then_some(first)
}

/// Reads `bytes FIRST-LAST/TOTAL` to the first and the total (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse::<u64>().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

struct Reading {
    reply: Reply,
    subject: String,
    size: u64,
    at: u64,
}

/// Streams a reply's bytes: exactly as many as are expected, or an error.
fn bytes(reading: Reading) -> BoxStream<'static, std::result::Result<Bytes, BoxFailure>> {
    stream::unfold(Some(reading), |reading| async {
        let mut reading = reading?;
        match reading.next().await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
            Err(error) => Some((Err(error.into()), None)),
        }
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.reply.chunk().await? {
            Some(bytes) => {
                self.at += bytes.len() as u64;
                if self.at > self.size {
                    return Err(size(self.subject.clone(), self.size, self.at));
                }
                Ok(Some(bytes))
            }
            None if self.at < self.size => {
                Err(Error::Short { subject: self.subject.clone(), expected: self.size, actual: self.at })
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        for (text, want) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes=5-9/10", None),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), want, "{text}");
        }
    }
}
