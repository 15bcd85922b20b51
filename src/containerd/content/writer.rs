//! Writing a blob: one stream that opens with STAT, goes on with WRITE and ends with COMMIT.
//!
//! Every message names its offset: a COMMIT or WRITE without one truncates what is there
//! (containerd plugins/services/content/contentserver/contentserver.go).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use containerd_client::services::v1 as api;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Content, ingest_reference};
use crate::containerd::connect::Turn;
use crate::containerd::error::{Error, Fault, failed};
use crate::containerd::{Labels, Result, wire};
use crate::oci::store::{self, BlobWriter};
use crate::oci::{self, Descriptor, Digest, Hasher};

/// How a blob is cut into messages, and how many of them may be on their way.
struct Pace {
    chunk: usize,
    in_flight: usize,
}

/// For the blob that began first. Measured: 4 MiB at a time are a third slower, and to wait for each answer takes 1.4 to 2
/// times as long.
const FIRST: Pace = Pace { chunk: 1 << 20, in_flight: 4 };
/// For any other blob: the first is the one that is waited for, as layers are unpacked in order, and memory stays flat.
const LATER: Pace = Pace { chunk: 256 << 10, in_flight: 2 };

/// How long another client may hold an ingest without writing before this one gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the daemon may take to let go of an ingest when its stream ends.
const CLOSING: Duration = Duration::from_secs(10);

const OPEN: &str = "open ingest";
const WRITE: &str = "write ingest";
const COMMIT: &str = "commit ingest";

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// What names it while it is written. Only one stream may be open for a name.
    pub reference: String,
    /// The digest that it must have, when it is known before.
    pub expected: Option<Digest>,
    /// The length that it must have, when it is known before.
    pub total: Option<u64>,
    /// The labels to store with it.
    pub labels: Labels,
}

impl Ingest {
    /// Describes the writing of a blob that is known.
    #[must_use]
    pub fn of(descriptor: &Descriptor, labels: &Labels) -> Self {
        Self {
            reference: ingest_reference(descriptor),
            expected: Some(descriptor.digest.clone()),
            total: Some(descriptor.size),
            labels: labels.clone(),
        }
    }

    fn message(&self, action: api::WriteAction, offset: u64, data: Vec<u8>) -> api::WriteContentRequest {
        api::WriteContentRequest {
            action: action.into(),
            r#ref: self.reference.clone(),
            total: wire::to_size(self.total.unwrap_or_default()),
            expected: self.expected.as_ref().map(Digest::to_string).unwrap_or_default(),
            offset: wire::to_size(offset),
            data,
            labels: if action == api::WriteAction::Commit { wire::to_labels(&self.labels) } else { Default::default() },
        }
    }
}

/// One blob on its way into the content store.
pub struct Writer {
    content: Content,
    ingest: Ingest,
    requests: mpsc::Sender<api::WriteContentRequest>,
    answers: Streaming<api::WriteContentResponse>,
    /// What the daemon has.
    acknowledged: u64,
    /// Where the next message begins.
    next: u64,
    in_flight: usize,
    turn: Turn,
    buffer: Vec<u8>,
    /// How much the buffer takes before it is sent.
    chunk: usize,
    /// Only when the digest is not known before.
    hasher: Option<Hasher>,
}

impl Content {
    /// Stores a small blob in one message. Returns whether the store had it already.
    ///
    /// # Errors
    /// An integrity error when the bytes are not the descriptor's.
    pub async fn put(&self, descriptor: &Descriptor, bytes: Bytes, labels: &Labels) -> Result<bool> {
        let ingest = Ingest::of(descriptor, labels);
        if bytes.len() > FIRST.chunk {
            return match self.ingest(ingest).await? {
                None => Ok(true),
                Some(mut writer) => {
                    let begin = usize::try_from(writer.offset()).unwrap_or(usize::MAX).min(bytes.len());
                    writer.push(bytes.slice(begin..)).await?;
                    writer.finish().await.map(|_| false)
                }
            };
        }
        let mut lock = Lock::new(self, &ingest.reference);
        loop {
            // At offset 0 leftovers of an earlier try are truncated, which is what is wanted here.
            let message = ingest.message(api::WriteAction::Commit, 0, bytes.to_vec());
            match self.put_once(&ingest, message).await {
                Ok(()) => return Ok(false),
                Err(error) if error.is_already_exists() => {
                    self.ensure_labels(&descriptor.digest, labels).await?;
                    return Ok(true);
                }
                Err(error) if error.fault() == Some(Fault::Locked) => lock.wait(error).await?,
                Err(error) => return Err(self.poisoned(&ingest, error).await),
            }
        }
    }

    async fn put_once(&self, ingest: &Ingest, message: api::WriteContentRequest) -> Result<()> {
        let failure = failed(COMMIT, &ingest.reference);
        let answer = self.rpc().write(tokio_stream::once(message)).await.map_err(&failure)?;
        let mut answers = answer.into_inner();
        while let Some(answer) = answers.message().await.map_err(&failure)? {
            if answer.action() == api::WriteAction::Commit {
                return Ok(());
            }
        }
        Err(ended(COMMIT, &ingest.reference))
    }

    /// Begins or resumes an ingest. `None` means that the store has the expected blob, and that it is kept by the
    /// client's lease from now on and has the labels.
    ///
    /// # Errors
    /// [`Fault::Locked`] when another client holds the ingest and does not get on.
    pub async fn ingest(&self, ingest: Ingest) -> Result<Option<Writer>> {
        let mut lock = Lock::new(self, &ingest.reference);
        loop {
            match Writer::open(self, &ingest).await {
                Ok(writer) if writer.is_whole() => {
                    // All bytes are there: an ingest that was never committed, or the blob of another namespace.
                    match writer.finish().await {
                        Ok(_) => return Ok(None),
                        Err(error) if is_integrity(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(writer) => return Ok(Some(writer)),
                Err(error) if error.is_already_exists() => {
                    if let Some(digest) = &ingest.expected {
                        self.ensure_labels(digest, &ingest.labels).await?;
                    }
                    return Ok(None);
                }
                Err(error) if error.fault() == Some(Fault::Locked) => lock.wait(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Throws away an ingest whose bytes are wrong, so that the next try does not resume from them, and says what is
    /// wrong in terms of the blob.
    async fn poisoned(&self, ingest: &Ingest, error: Error) -> Error {
        let Error::Call { fault: Fault::Integrity, message, .. } = &error else {
            return error;
        };
        let undoing = Self(self.0.undoing());
        if let Err(error) = undoing.abort(&ingest.reference).await {
            tracing::warn!(reference = %ingest.reference, %error, "ingest with wrong bytes left behind");
        }
        match promised_and_actual(message) {
            Some((expected, actual)) => {
                oci::Error::Mismatch { subject: ingest.reference.clone(), expected, actual }.into()
            }
            None => error,
        }
    }
}

/// Takes apart `unexpected commit digest sha256:…, expected sha256:…: failed precondition` of the content store and
/// `… failed size validation: 3 != 5: failed precondition` of the metadata store before it.
fn promised_and_actual(message: &str) -> Option<(String, String)> {
    if let Some((_, rest)) = message.split_once("failed size validation: ") {
        let (actual, rest) = rest.split_once(" != ")?;
        return Some((format!("{} bytes", rest.split(": ").next()?), format!("{actual} bytes")));
    }
    let (_, rest) = message.split_once("unexpected commit ")?;
    let (actual, rest) = rest.split_once(", expected ")?;
    let expected = rest.split(": ").next()?;
    match actual.strip_prefix("size ") {
        Some(size) => Some((format!("{expected} bytes"), format!("{size} bytes"))),
        None => Some((expected.to_owned(), actual.trim_start_matches("digest ").to_owned())),
    }
}

impl Writer {
    async fn open(content: &Content, ingest: &Ingest) -> Result<Self> {
        let (requests, queue) = mpsc::channel(FIRST.in_flight + 1);
        let failure = failed(OPEN, &ingest.reference);
        // The daemon answers the call only after the first message, so that one must be in the queue by then.
        let stat = ingest.message(api::WriteAction::Stat, 0, Vec::new());
        requests.try_send(stat).map_err(|_| ended(OPEN, &ingest.reference))?;
        let answer = content.rpc().write(ReceiverStream::new(queue)).await.map_err(&failure)?;
        let mut answers = answer.into_inner();
        let stat = answers.message().await.map_err(&failure)?.ok_or_else(|| ended(OPEN, &ingest.reference))?;
        let mut writer = Self {
            content: content.clone(),
            ingest: ingest.clone(),
            requests,
            answers,
            acknowledged: wire::size(stat.offset),
            next: wire::size(stat.offset),
            in_flight: 0,
            turn: content.0.node().writing(),
            buffer: Vec::new(),
            chunk: 0,
            hasher: None,
        };
        if ingest.expected.is_none() {
            // Without a digest to check at the end, leftovers cannot be trusted: the first message truncates them.
            writer.hasher = Some(Hasher::new(oci::Algorithm::Sha256));
            writer.acknowledged = 0;
            writer.next = 0;
        }
        Ok(writer)
    }

    /// Returns how many bytes the daemon has: where a reader has to begin.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.acknowledged
    }

    fn is_whole(&self) -> bool {
        self.ingest.total.is_some_and(|total| total > 0 && total == self.acknowledged) && self.hasher.is_none()
    }

    /// Takes the next bytes. They are gathered into messages, of which a few may be on their way.
    ///
    /// # Errors
    /// Whatever the daemon answered to this or an earlier message; the writer is of no further use then.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        while !bytes.is_empty() {
            if self.buffer.capacity() == 0 {
                self.chunk = self.pace().chunk;
                self.buffer.reserve_exact(self.chunk);
            }
            let part = bytes.split_to(bytes.len().min(self.chunk - self.buffer.len()));
            self.buffer.extend_from_slice(&part);
            if self.buffer.len() == self.chunk {
                self.send(api::WriteAction::Write).await?;
            }
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        if self.turn.is_first() { FIRST } else { LATER }
    }

    async fn send(&mut self, action: api::WriteAction) -> Result<()> {
        while self.in_flight >= self.pace().in_flight {
            self.acknowledge(WRITE).await?;
        }
        let data = std::mem::take(&mut self.buffer);
        let length = data.len() as u64;
        let message = self.ingest.message(action, self.next, data);
        self.next += length;
        self.in_flight += 1;
        if self.requests.send(message).await.is_err() {
            // The stream is over; why stands in what is left of the answers.
            loop {
                self.acknowledge(WRITE).await?;
            }
        }
        Ok(())
    }

    async fn acknowledge(&mut self, action: &'static str) -> Result<api::WriteAction> {
        let answer = self.answers.message().await.map_err(failed(action, &self.ingest.reference))?;
        let answer = answer.ok_or_else(|| ended(action, &self.ingest.reference))?;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.acknowledged = wire::size(answer.offset);
        Ok(answer.action())
    }

    /// Waits until all is stored and makes it a blob. Returns the digest and size.
    ///
    /// # Errors
    /// An integrity error when the bytes do not have the expected digest or length; nothing of them is kept then.
    pub async fn finish(mut self) -> Result<(Digest, u64)> {
        let digest = match (self.hasher.take(), self.ingest.expected.clone()) {
            (Some(hasher), _) => hasher.finish(),
            (None, Some(expected)) => expected,
            (None, None) => return Err(ended(COMMIT, &self.ingest.reference)),
        };
        self.ingest.expected = Some(digest.clone());
        if self.ingest.total.is_none() {
            self.ingest.total = Some(self.next + self.buffer.len() as u64);
        }
        match self.commit().await {
            Ok(()) => {}
            Err(error) if error.is_already_exists() => {
                self.content.ensure_labels(&digest, &self.ingest.labels).await?;
            }
            Err(error) => {
                let Self { content, ingest, .. } = self;
                return Err(content.poisoned(&ingest, error).await);
            }
        }
        Ok((digest, self.next))
    }

    async fn commit(&mut self) -> Result<()> {
        self.send(api::WriteAction::Commit).await?;
        while self.acknowledge(COMMIT).await? != api::WriteAction::Commit {}
        Ok(())
    }

    /// Lets go, and leaves what was taken as an ingest from which a later [`Content::open`] resumes.
    pub async fn keep(mut self) {
        if !self.buffer.is_empty() {
            // What was taken but not yet sent need not come over the network again; if that fails it has to.
            let _ = self.send(api::WriteAction::Write).await;
        }
        self.release().await;
    }

    /// Lets go, and throws away what was taken. Works after a cancel too.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached.
    pub async fn discard(self) -> Result<()> {
        let content = Content(self.content.0.undoing());
        let reference = self.ingest.reference.clone();
        self.release().await;
        content.abort(&reference).await
    }

    /// Ends the stream and waits for the daemon to let go of the ingest, which stays for a later resume.
    async fn release(self) {
        let Self { requests, mut answers, .. } = self;
        drop(requests);
        let drained = async { while let Ok(Some(_)) = answers.message().await {} };
        // If it takes longer, dropping the stream resets it.
        let _ = timeout(CLOSING, drained).await;
    }
}

#[async_trait]
impl BlobWriter for Writer {
    fn offset(&self) -> u64 {
        self.acknowledged
    }

    async fn write(&mut self, bytes: Bytes) -> store::Result<()> {
        Ok(self.push(bytes).await?)
    }

    async fn commit(self: Box<Self>) -> store::Result<()> {
        self.finish().await?;
        Ok(())
    }

    async fn close(self: Box<Self>, discard: bool) -> store::Result<()> {
        if discard {
            Ok(self.discard().await?)
        } else {
            self.keep().await;
            Ok(())
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("ingest", &self.ingest.reference)
            .field("offset", &self.next)
            .finish_non_exhaustive()
    }
}

/// Waits for another client that holds an ingest.
///
/// containerd has no event for the end of an ingest, so this asks for its status, less and less often. Trying to open it
/// instead would stop all metadata writes of a containerd 1.6 or 1.7 for up to 0.8 s a try.
struct Lock<'a> {
    content: &'a Content,
    reference: &'a str,
    seen: Option<u64>,
    deadline: Instant,
}

impl<'a> Lock<'a> {
    fn new(content: &'a Content, reference: &'a str) -> Self {
        Self { content, reference, seen: None, deadline: Instant::now() + PATIENCE }
    }

    /// Returns when it is worth trying again: the ingest is gone, or nothing was written to it for a while.
    async fn wait(&mut self, locked: Error) -> Result<()> {
        const SHORTEST: Duration = Duration::from_millis(50);
        const LONGEST: Duration = Duration::from_secs(2);
        let mut pause = SHORTEST;
        loop {
            if Instant::now() >= self.deadline {
                return Err(locked);
            }
            sleep(pause).await;
            match self.content.status(self.reference).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
                Ok(status) if self.seen != Some(status.offset) => {
                    self.seen = Some(status.offset);
                    self.deadline = Instant::now() + PATIENCE;
                    pause = (pause * 2).min(LONGEST);
                }
                Ok(_) if pause >= LONGEST => return Ok(()),
                Ok(_) => pause = (pause * 2).min(LONGEST),
            }
        }
    }
}

fn is_integrity(error: &Error) -> bool {
    use crate::kind::{Failure, Kind};
    error.kind() == Kind::Integrity
}

fn ended(action: &'static str, reference: &str) -> Error {
    Error::Answer { action, subject: oci::excerpt(reference), reason: "the stream ended before its last answer".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_says_what_was_promised() {
        for (message, expected, actual) in [
            ("unexpected commit digest sha256:aa, expected sha256:bb: failed precondition", "sha256:bb", "sha256:aa"),
            ("\"layer-x\" failed size validation: 3 != 5: failed precondition", "5 bytes", "3 bytes"),
            ("failed: unexpected commit size 3, expected 5: failed precondition", "5 bytes", "3 bytes"),
        ] {
            assert_eq!(promised_and_actual(message), Some((expected.to_owned(), actual.to_owned())));
        }
        assert_eq!(promised_and_actual("namespace is required: failed precondition"), None);
    }
}
