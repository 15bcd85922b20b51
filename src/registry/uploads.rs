//! Sending blobs (distribution-spec, section Pushing Blobs).
//!
//! A blob goes up in one streamed PUT, as fast as its source can be read and without being held in memory. Where a
//! registry refuses that for its size, or an upload is resumed, it goes up in pieces by PATCH.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::error::Answer;
use super::hosts::Capability;
use super::session::{Call, Done, Place, Target};
use super::transport::Body;
use super::{Error, Repository, Result};
use crate::grant::{Access, Refused};
use crate::kind::{BoxFailure, Failure, Kind};
use crate::oci::store::{BlobWriter, Origin};
use crate::oci::{Descriptor, Digest};

/// How many chunks wait between the reader and the connection.
const QUEUE: usize = 2;
/// How long a piece is where the registry does not say.
const PIECE: u64 = 16 << 20;
/// How long an abandoned upload may take to be taken back.
const ABANDON: std::time::Duration = std::time::Duration::from_secs(5);

/// An upload that a registry has opened.
#[derive(Debug, Clone)]
pub struct Upload {
    repository: Repository,
    place: Place,
    /// The shortest piece that the registry takes, but for the last.
    shortest: u64,
}

impl Repository {
    /// Tries to take a blob from another repository of the same registry; otherwise an upload is open.
    ///
    /// # Errors
    /// Whatever keeps the registry from doing either.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Option<Upload>> {
        let mut call = self.call(Method::POST, Capability::Push, "");
        let query = vec![("mount", digest.to_string()), ("from", from.to_owned())];
        call.target = Target::Path(format!("{}/blobs/uploads/", self.name()), query);
        call.scopes.push(format!("repository:{from}:pull"));
        match self.send(call).await {
            Ok(done) if done.reply.status() == StatusCode::CREATED => {
                self.session.shared.presence.note(self.registry(), self.name(), digest);
                Ok(None)
            }
            Ok(done) => Ok(Some(self.opened(&done)?)),
            // The other repository may not be ours to read; ours may still be ours to write.
            Err(Error::Answer(a)) if matches!(a.status.as_u16(), 400 | 401 | 403 | 404 | 405) => {
                self.session.shared.presence.forget_one(self.registry(), from, digest);
                Ok(Some(self.upload().await?))
            }
            Err(error) => Err(error),
        }
    }

    /// Opens an upload.
    ///
    /// # Errors
    /// Whatever keeps the registry from doing so.
    pub async fn upload(&self) -> Result<Upload> {
        let done = self.send(self.call(Method::POST, Capability::Push, "blobs/uploads/")).await?;
        self.opened(&done)
    }

    fn opened(&self, done: &Done) -> Result<Upload> {
        let shortest = done.reply.header("oci-chunk-min-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Upload { repository: self.clone(), place: location(done)?, shortest })
    }
}

fn location(done: &Done) -> Result<Place> {
    let text = done.reply.header(LOCATION.as_str()).ok_or_else(|| done.reply.nonsense("it has no Location"))?;
    done.place(text)
}

impl Upload {
    /// Returns a writer that sends a blob from its beginning.
    #[must_use]
    pub fn writer(self, descriptor: &Descriptor) -> Writer {
        let pieces = self.repository.session.shared.piece(self.repository.registry());
        let mode = pieces.map_or(Mode::Whole, |piece| Mode::Pieces(piece.max(self.shortest)));
        Writer { upload: Some(self), descriptor: descriptor.clone(), acknowledged: 0, taken: 0, mode, running: None }
    }

    /// Asks how much the registry has, and returns a writer that goes on there.
    ///
    /// # Errors
    /// When the registry cannot tell; the upload is of no use then.
    pub async fn resume(mut self, descriptor: &Descriptor) -> Result<Writer> {
        let done = self.repository.send(self.call(Method::GET, self.place.url.clone())).await?;
        let has = received(&done);
        if has > descriptor.size {
            return Err(done.reply.nonsense("it has more of the blob than there is"));
        }
        if done.reply.headers().contains_key(LOCATION) {
            self.place = location(&done)?;
        }
        let piece = self.repository.session.shared.piece(self.repository.registry()).unwrap_or(PIECE);
        let mode = Mode::Pieces(piece.max(self.shortest));
        Ok(Writer {
            upload: Some(self),
            descriptor: descriptor.clone(),
            acknowledged: has,
            taken: has,
            mode,
            running: None,
        })
    }

    /// Takes the upload back, so that nothing of it is kept.
    pub async fn abandon(mut self) {
        // Also when the user stopped the operation: what we began is ours to end.
        self.repository.session.grant = self.repository.session.grant.with_cancel(CancellationToken::new());
        let call = self.call(Method::DELETE, self.place.url.clone());
        let ended = tokio::time::timeout(ABANDON, self.repository.send(call)).await;
        if !matches!(ended, Ok(Ok(_))) {
            tracing::debug!(repository = self.repository.locator(), "an upload could not be taken back");
        }
    }

    fn call(&self, method: Method, url: Url) -> Call<'_> {
        let reads = method == Method::GET;
        let mut call = self.repository.call(Method::POST, Capability::Push, "");
        call.method = method;
        // Ending an upload of our own is a part of writing, not a deletion of what is there.
        call.access = if reads { Access::Read } else { Access::Write };
        call.target = Target::Named(Place { url, ..self.place.clone() });
        call
    }

    /// Returns the address that makes a blob of the upload. The query is kept as it is: some registries sign it.
    fn closing(&self, digest: &Digest) -> Url {
        let mut url = self.place.url.clone();
        let digest = digest.as_str().replacen(':', "%3A", 1);
        let query = match url.query() {
            Some(query) if !query.is_empty() => format!("{query}&digest={digest}"),
            _ => format!("digest={digest}"),
        };
        url.set_query(Some(&query));
        url
    }
}

/// Reads how much a registry has from its `Range`, which is inclusive and lacks the unit.
fn received(done: &Done) -> u64 {
    done.reply.header("range").and_then(parse_received).unwrap_or(0)
}

fn parse_received(text: &str) -> Option<u64> {
    let (first, last) = text.trim().trim_start_matches("bytes=").split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    // `0-0` is said for nothing as well as for one byte (distribution, handlers/blobupload.go); nothing is the safe reading.
    (first == 0 && last > 0).then_some(last + 1)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One PUT for all.
    Whole,
    /// A PATCH for each piece of this length.
    Pieces(u64),
}

/// One blob on its way up.
#[derive(Debug)]
pub struct Writer {
    upload: Option<Upload>,
    descriptor: Descriptor,
    /// How many bytes the registry has confirmed.
    acknowledged: u64,
    /// How many bytes were taken from the source.
    taken: u64,
    mode: Mode,
    running: Option<Running>,
}

/// A request whose body is being fed.
#[derive(Debug)]
struct Running {
    feed: Option<mpsc::Sender<Bytes>>,
    task: JoinHandle<Result<Done>>,
    /// How many bytes of its body are missing.
    missing: u64,
    length: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writer {
    fn subject(&self, upload: &Upload) -> String {
        upload.repository.named(self.descriptor.digest.as_str())
    }

    fn upload(&self) -> Result<&Upload> {
        // Taken only by `commit` and `close`, which consume the writer.
        self.upload.as_ref().ok_or(Error::Refused(Refused::Cancelled))
    }

    /// Starts the next request.
    fn start(&mut self) -> Result<()> {
        let left = self.descriptor.size - self.taken;
        let (length, upload) = match self.mode {
            Mode::Whole => (left, self.upload()?),
            Mode::Pieces(piece) => (left.min(piece), self.upload()?),
        };
        let (feed, fed) = mpsc::channel(QUEUE);
        let upload = upload.clone();
        let (method, url, range) = match self.mode {
            Mode::Whole => (Method::PUT, upload.closing(&self.descriptor.digest), None),
            Mode::Pieces(_) => {
                (Method::PATCH, upload.place.url.clone(), Some((self.taken, (self.taken + length).saturating_sub(1))))
            }
        };
        let task = tokio::spawn(async move {
            let stream = ReceiverStream::new(fed).map(Ok::<Bytes, std::convert::Infallible>);
            let mut call = upload.call(method, url);
            call.headers = body_headers(length, range);
            call.body = Body::Stream(Some(reqwest::Body::wrap_stream(stream)));
            upload.repository.send(call).await
        });
        self.running = Some(Running { feed: Some(feed), task, missing: length, length });
        Ok(())
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        let length = bytes.len() as u64;
        if self.taken + length > self.descriptor.size {
            let subject = self.subject(self.upload()?);
            let actual = self.taken + length;
            return Err(Error::Length { subject, expected: self.descriptor.size, actual });
        }
        while !bytes.is_empty() {
            if self.running.is_none() {
                self.start()?;
            }
            let Some(running) = &mut self.running else { break };
            let part = bytes.split_to(usize::try_from(running.missing).map_or(bytes.len(), |m| m.min(bytes.len())));
            let sent = part.len() as u64;
            self.feed(part).await?;
            self.taken += sent;
            if let Some(running) = &mut self.running {
                running.missing -= sent;
                if running.missing == 0 {
                    running.feed = None;
                    if self.mode != Mode::Whole {
                        self.finish_piece().await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands bytes to the running request; fails with what the registry said if it has ended.
    async fn feed(&mut self, part: Bytes) -> Result<()> {
        let upload = self.upload()?;
        let stall = upload.repository.session.shared.config.timeouts.stall;
        let cancel = upload.repository.session.grant.cancel().clone();
        let Some(feed) = self.running.as_ref().and_then(|running| running.feed.clone()) else { return Ok(()) };
        match cancel.run_until_cancelled(tokio::time::timeout(stall, feed.send(part))).await {
            None => Err(Error::Refused(Refused::Cancelled)),
            Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(_))) => Err(self.answer().await.err().unwrap_or_else(|| self.too_early())),
            Some(Err(_)) => Err(self.silent(stall)),
        }
    }

    fn too_early(&self) -> Error {
        Error::Length {
            subject: self.descriptor.digest.to_string(),
            expected: self.descriptor.size,
            actual: self.taken,
        }
    }

    fn silent(&self, after: std::time::Duration) -> Error {
        let host = self.upload.as_ref().map(|u| u.place.url.origin().ascii_serialization()).unwrap_or_default();
        Error::Silent { action: format!("upload of {}", self.descriptor.digest), host, after }
    }

    /// Waits for the running request's answer.
    async fn answer(&mut self) -> Result<Done> {
        let limit = self.upload()?.repository.session.shared.config.timeouts.commit;
        let Some(mut running) = self.running.take() else { return Err(self.too_early()) };
        running.feed = None;
        let answer = match tokio::time::timeout(limit, &mut running.task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Refused(Refused::Cancelled)),
            Err(_) => Err(self.silent(limit)),
        };
        answer.map_err(|error| self.in_pieces_next(error))
    }

    /// Notes that the registry wants smaller requests, if that is what it said.
    fn in_pieces_next(&self, error: Error) -> Error {
        match error {
            Error::Answer(answer) if answer.status == StatusCode::PAYLOAD_TOO_LARGE => {
                let Some(upload) = &self.upload else { return Error::Answer(answer) };
                let smaller = match self.mode {
                    Mode::Whole => PIECE,
                    Mode::Pieces(piece) => piece / 2,
                };
                let another_way = smaller >= upload.shortest.max(1 << 20);
                if another_way {
                    upload.repository.session.shared.set_piece(upload.repository.registry(), smaller);
                }
                Error::Answer(Box::new(Answer { another_way, ..*answer }))
            }
            other => other,
        }
    }

    async fn finish_piece(&mut self) -> Result<()> {
        let length = self.running.as_ref().map_or(0, |running| running.length);
        let done = self.answer().await?;
        let place = location(&done)?;
        let has = if done.reply.headers().contains_key("range") { received(&done) } else { self.acknowledged + length };
        if has != self.acknowledged + length && length > 1 {
            return Err(done
                .reply
                .nonsense(format!("it has {has} bytes after {} were sent", self.acknowledged + length)));
        }
        self.acknowledged += length;
        if let Some(upload) = &mut self.upload {
            upload.place = place;
        }
        Ok(())
    }

    async fn close_upload(&mut self) -> Result<()> {
        if self.taken != self.descriptor.size {
            return Err(Error::Length {
                subject: self.subject(self.upload()?),
                expected: self.descriptor.size,
                actual: self.taken,
            });
        }
        if self.mode == Mode::Whole {
            if self.running.is_none() {
                // An empty blob: nothing was ever fed.
                self.start()?;
            }
            return self.answer().await.map(drop);
        }
        let upload = self.upload()?;
        let mut call = upload.call(Method::PUT, upload.closing(&self.descriptor.digest));
        call.headers = body_headers(0, None);
        upload.repository.send(call).await.map(drop)
    }

    /// Makes a blob of what was sent, and finds out whether it is one when the answer was lost.
    async fn settle(&mut self) -> Result<()> {
        let Err(error) = self.close_upload().await else { return Ok(()) };
        let repository = self.upload()?.repository.clone();
        let unclear = error.retryable() || error.kind() == Kind::NotFound;
        if unclear && repository.has_blob(&self.descriptor.digest).await.unwrap_or(false) {
            return Ok(());
        }
        Err(error)
    }
}

fn body_headers(length: u64, range: Option<(u64, u64)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    // Without the unit, unlike RFC 9110 (distribution-spec, Pushing a blob in chunks).
    if let Some(range) = range.and_then(|(first, last)| HeaderValue::from_str(&format!("{first}-{last}")).ok()) {
        headers.insert(CONTENT_RANGE, range);
    }
    headers
}

#[async_trait]
impl BlobWriter for Writer {
    fn offset(&self) -> u64 {
        self.acknowledged
    }

    async fn write(&mut self, bytes: Bytes) -> std::result::Result<(), BoxFailure> {
        Ok(self.take(bytes).await?)
    }

    async fn commit(mut self: Box<Self>) -> std::result::Result<(), BoxFailure> {
        self.settle().await?;
        if let Some(upload) = self.upload.take() {
            let repository = &upload.repository;
            repository.session.shared.presence.note(repository.registry(), repository.name(), &self.descriptor.digest);
        }
        Ok(())
    }

    async fn close(mut self: Box<Self>, discard: bool) -> std::result::Result<(), BoxFailure> {
        self.running = None;
        let Some(upload) = self.upload.take() else { return Ok(()) };
        if discard || self.acknowledged == 0 {
            upload.abandon().await;
        } else {
            upload.repository.session.shared.interrupted.keep(&self.descriptor.digest, upload.clone());
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Takes the upload back when the copy was stopped in the middle.
    fn drop(&mut self) {
        self.running = None;
        if let (Some(upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(upload.abandon());
        }
    }
}

/// Uploads that were interrupted with something of them kept, by repository and digest.
#[derive(Debug, Default)]
pub(super) struct Interrupted(Mutex<HashMap<(Origin, Digest), Upload>>);

impl Interrupted {
    pub(super) fn keep(&self, digest: &Digest, upload: Upload) {
        let key = (upload.repository.origin(), digest.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, upload);
    }

    /// Takes all that is kept of a repository.
    pub(super) fn take_all(&self, origin: &Origin) -> Vec<Upload> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extract_if(|(of, _), _| of == origin).map(|(_, upload)| upload).collect()
    }

    pub(super) fn take(&self, origin: &Origin, digest: &Digest) -> Option<Upload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(origin.clone(), digest.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_has_is_read_from_its_range() {
        assert_eq!(parse_received("0-1023"), Some(1024));
        assert_eq!(parse_received("bytes=0-9"), Some(10));
        assert_eq!(parse_received("0-0"), None);
        assert_eq!(parse_received("5-9"), None);
        assert_eq!(parse_received("-"), None);
    }
}
