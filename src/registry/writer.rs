//! Writing a blob: its bytes on their way up, in one request or in pieces.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::sync::{SetOnce, mpsc};
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::session::Done;
use super::transport::Body;
use super::uploads::{PIECE, Upload, location, received};
use super::{Error, Result};
use crate::grant::Refused;
use crate::kind::{BoxFailure, Failure, Kind};
use crate::oci::Descriptor;
use crate::oci::store::BlobWriter;

/// How long the parts are that wait between the reader and the connection: one that goes out shows that the registry takes
/// something, also where the line is slow.
const PART: usize = 64 << 10;
/// How many of them wait.
const QUEUE: usize = 16;
/// What a registry says of an upload that it does not have, or not as it was (distribution-spec, section Error Codes).
const GONE: [&str; 2] = ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
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
pub(super) struct Running {
    feed: Option<mpsc::Sender<Bytes>>,
    /// Set once the connection asks for the first part. Before that the request waits for its turn, which is not the
    /// registry's silence.
    begun: Arc<SetOnce<()>>,
    task: JoinHandle<Result<Done>>,
    /// How many bytes of its body are missing.
    missing: u64,
    length: u64,
}

impl Running {
    /// Waits for the answer to what was sent whole; of what was not, there is none to wait for.
    pub(super) async fn end(mut self, within: Duration) -> Option<Done> {
        if self.missing > 0 {
            return None;
        }
        self.feed = None;
        tokio::time::timeout(within, &mut self.task).await.ok()?.ok()?.ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writer {
    /// Goes on with an upload of which the registry has so many bytes.
    pub(super) fn new(upload: Upload, descriptor: &Descriptor, has: u64, mode: Mode) -> Self {
        Self {
            upload: Some(upload),
            descriptor: descriptor.clone(),
            acknowledged: has,
            taken: has,
            mode,
            running: None,
        }
    }

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
        let (feed, mut fed) = mpsc::channel(QUEUE);
        let begun = Arc::new(SetOnce::new());
        let asked = Arc::clone(&begun);
        if length == 0 {
            // Of an empty body nothing is asked for.
            let _ = begun.set(());
        }
        let upload = upload.clone();
        let (method, url, range) = match self.mode {
            Mode::Whole => (Method::PUT, upload.closing(&self.descriptor.digest), None),
            Mode::Pieces(_) => {
                (Method::PATCH, upload.place.url.clone(), Some((self.taken, (self.taken + length).saturating_sub(1))))
            }
        };
        let task = tokio::spawn(async move {
            let stream = stream::poll_fn(move |cx| {
                // It was set before when this is not the first part.
                let _ = asked.set(());
                fed.poll_recv(cx)
            });
            let stream = stream.map(Ok::<Bytes, std::convert::Infallible>);
            let mut call = upload.call(method, url);
            call.headers = body_headers(length, range);
            call.body = Body::Stream(Some(reqwest::Body::wrap_stream(stream)));
            upload.repository.send(call).await
        });
        self.running = Some(Running { feed: Some(feed), begun, task, missing: length, length });
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
            let missing = usize::try_from(running.missing).unwrap_or(usize::MAX);
            let part = bytes.split_to(bytes.len().min(missing).min(PART));
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
        let running = self.running.as_ref();
        let Some((feed, begun)) = running.and_then(|running| Some((running.feed.clone()?, Arc::clone(&running.begun))))
        else {
            return Ok(());
        };
        let sent = async {
            let mut sent = std::pin::pin!(feed.send(part));
            tokio::select! {
                biased;
                sent = &mut sent => Ok(sent),
                _ = begun.wait() => tokio::time::timeout(stall, sent).await,
            }
        };
        match cancel.run_until_cancelled(sent).await {
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

    fn silent(&self, after: Duration) -> Error {
        let host = self.upload.as_ref().map(|u| u.place.url.origin().ascii_serialization()).unwrap_or_default();
        Error::Silent { action: format!("upload of {}", self.descriptor.digest), host, after }
    }

    /// Waits for the running request's answer.
    async fn answer(&mut self) -> Result<Done> {
        let timeouts = self.upload()?.repository.session.shared.config.timeouts;
        let limit = if self.mode == Mode::Whole { timeouts.commit } else { timeouts.header };
        let Some(running) = &mut self.running else { return Err(self.too_early()) };
        running.feed = None;
        let begun = Arc::clone(&running.begun);
        let answer = async {
            tokio::select! {
                biased;
                ended = &mut running.task => return Ok(ended),
                _ = begun.wait() => {}
            }
            tokio::time::timeout(limit, &mut running.task).await
        };
        let answer = answer.await;
        // Not before: dropped in the middle, the upload is ended with what is answered.
        self.running = None;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Refused(Refused::Cancelled)),
            Err(_) => Err(self.silent(limit)),
        };
        answer.map_err(|error| self.next_way(error))
    }

    /// Says whether another try is made in another way, and prepares it.
    fn next_way(&mut self, error: Error) -> Error {
        let Error::Answer(answer) = error else { return error };
        let another_way = match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE => self.in_pieces_next(),
            // The registry counts other bytes than we do: it is asked how many, and the upload goes on there.
            StatusCode::RANGE_NOT_SATISFIABLE => true,
            // It has forgotten the upload, as docker-registry does that was killed while it stored: the next try opens one.
            StatusCode::NOT_FOUND if GONE.iter().any(|code| answer.has(code)) => {
                self.acknowledged = 0;
                true
            }
            _ => answer.another_way,
        };
        Error::Answer(Box::new(Answer { another_way, ..*answer }))
    }

    /// Notes that the registry wants smaller requests; says whether there are such.
    fn in_pieces_next(&self) -> bool {
        let Some(upload) = &self.upload else { return false };
        let smaller = match self.mode {
            Mode::Whole => PIECE,
            Mode::Pieces(piece) => piece / 2,
        };
        let possible = smaller >= upload.shortest.max(1 << 20);
        if possible {
            upload.repository.session.shared.set_piece(upload.repository.registry(), smaller);
        }
        possible
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
        let upload = self.upload()?.clone();
        let cancel = upload.repository.session.grant.cancel().clone();
        let url = upload.closing(&self.descriptor.digest);
        // Stopped meanwhile, the upload is ended only when this was answered: the registry may be making a blob of it.
        let task = tokio::spawn(async move {
            let unstopped = upload.repository.unstopped();
            let mut call = upload.call(Method::PUT, url);
            call.headers = body_headers(0, None);
            call.commits = true;
            unstopped.send(call).await
        });
        let begun = Arc::default();
        let running = self.running.insert(Running { feed: None, begun, task, missing: 0, length: 0 });
        let answer = cancel.run_until_cancelled(&mut running.task).await;
        let Some(Ok(answer)) = answer else { return Err(Error::Refused(Refused::Cancelled)) };
        self.running = None;
        answer.map(drop).map_err(|error| self.next_way(error))
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
        let running = self.running.take();
        if let (Some(upload), Ok(_)) = (self.upload.take(), tokio::runtime::Handle::try_current()) {
            upload.repository.session.shared.endings.clone().spawn(upload.end(running));
        }
    }
}
