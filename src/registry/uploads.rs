//! Uploads of blobs: opened, resumed, taken back, or not needed because of a mount (distribution-spec, section Pushing Blobs).
//!
//! A blob goes up in one streamed PUT, as fast as its source can be read and without being held in memory. Where a
//! registry refuses that for its size, or an upload is resumed, it goes up in pieces by PATCH.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::hosts::Capability;
use super::pace::Among;
use super::session::{Call, Done};
use super::target::{Place, Target};
use super::writer::{Mode, Running, Writer};
use super::{Error, Repository, Result};
use crate::grant::{Access, Refused};
use crate::oci::store::Origin;
use crate::oci::{Descriptor, Digest};

/// How long a piece is where the registry does not say.
pub(super) const PIECE: u64 = 16 << 20;
/// How long an abandoned upload may take to be taken back.
const ABANDON: Duration = Duration::from_secs(10);

/// An upload that a registry has opened.
#[derive(Debug, Clone)]
pub struct Upload {
    pub(super) repository: Repository,
    pub(super) place: Place,
    /// The shortest piece that the registry takes, but for the last.
    pub(super) shortest: u64,
}

impl Repository {
    /// Tries to take a blob from another repository of the same registry; otherwise an upload is open.
    ///
    /// # Errors
    /// Whatever keeps the registry from doing either.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Option<Upload>> {
        let (repository, digest, from) = (self.unstopped(), digest.clone(), from.to_owned());
        self.attended(async move { repository.try_mount(&digest, &from).await }).await
    }

    async fn try_mount(&self, digest: &Digest, from: &str) -> Result<Option<Upload>> {
        let mut call = self.call(Method::POST, Capability::Push, "");
        // A mount is a favour: without it the blob is sent.
        call.once = true;
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
            Err(Error::Answer(a)) if a.status.is_client_error() => {
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
        let repository = self.unstopped();
        let opening = async move {
            let done = repository.send(repository.call(Method::POST, Capability::Push, "blobs/uploads/")).await?;
            repository.opened(&done).map(Some)
        };
        self.attended(opening).await?.ok_or(Error::Refused(Refused::Cancelled))
    }

    fn opened(&self, done: &Done) -> Result<Upload> {
        let shortest = done.reply.header("oci-chunk-min-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Upload { repository: self.clone(), place: location(done)?, shortest })
    }

    /// Runs what may open an upload. When nobody waits for it any more, the answer that is under way is still read, as it
    /// alone has the upload's address, and the upload is taken back.
    async fn attended(
        &self,
        opening: impl Future<Output = Result<Option<Upload>>> + Send + 'static,
    ) -> Result<Option<Upload>> {
        let (mut answer, answered) = oneshot::channel();
        self.session.shared.endings.spawn(async move {
            let mut opening = std::pin::pin!(opening);
            let opened = tokio::select! {
                opened = &mut opening => Some(opened),
                () = answer.closed() => tokio::time::timeout(ABANDON, opening).await.ok(),
            };
            // What nobody takes is dropped: here, or with the receiver that did not come to it.
            let _ = opened.map(|opened| answer.send(opened.map(|upload| upload.map(Loose::new))));
        });
        // The task itself ends early only with the runtime.
        let answered = self.session.grant.cancel().run_until_cancelled(answered).await;
        let opened = answered.and_then(std::result::Result::ok).unwrap_or(Err(Error::Refused(Refused::Cancelled)))?;
        Ok(opened.and_then(Loose::take).map(|upload| Upload { repository: self.clone(), ..upload }))
    }

    /// Returns the repository as one whose requests the user does not stop.
    pub(super) fn unstopped(&self) -> Self {
        let mut repository = self.clone();
        repository.session.grant = repository.session.grant.with_cancel(CancellationToken::new());
        repository
    }
}

/// An upload that nobody writes to yet: it is taken back if nobody comes to do so.
pub(super) struct Loose(Option<Upload>);

impl Loose {
    pub(super) fn new(upload: Upload) -> Self {
        Self(Some(upload))
    }

    pub(super) fn take(mut self) -> Option<Upload> {
        self.0.take()
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        if let (Some(upload), Ok(_)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            upload.repository.session.shared.endings.clone().spawn(upload.delete());
        }
    }
}

pub(super) fn location(done: &Done) -> Result<Place> {
    let text = done.reply.header(LOCATION.as_str()).ok_or_else(|| done.reply.nonsense("it has no Location"))?;
    done.place(text)
}

impl Upload {
    /// Returns a writer that sends a blob from its beginning.
    #[must_use]
    pub fn writer(self, descriptor: &Descriptor) -> Writer {
        let pieces = self.repository.session.shared.piece(self.repository.registry());
        let mode = pieces.map_or(Mode::Whole, |piece| Mode::Pieces(piece.max(self.shortest)));
        Writer::new(self, descriptor, 0, mode)
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
        Ok(Writer::new(self, descriptor, has, mode))
    }

    /// Takes the upload back, so that nothing of it is kept; this goes on when nobody waits for it any more.
    pub async fn abandon(self) {
        let endings = self.repository.session.shared.endings.clone();
        // Ends early only with the runtime.
        let _ = endings.spawn(self.delete()).await;
    }

    /// Asks the registry to forget the upload.
    pub(super) async fn delete(mut self) {
        // Also when the user stopped the operation: what we began is ours to end.
        self.repository = self.repository.unstopped();
        let mut call = self.call(Method::DELETE, self.place.url.clone());
        call.among = Among::Endings;
        let ended = tokio::time::timeout(ABANDON, self.repository.send(call)).await;
        if !matches!(ended, Ok(Ok(_))) {
            tracing::debug!(repository = self.repository.locator(), "an upload could not be taken back");
        }
    }

    /// Takes the upload back after what was sent to it whole was answered: some registries want to be told in the address
    /// how much they have.
    pub(super) async fn end(mut self, running: Option<Running>) {
        if let Some(running) = running
            && let Some(done) = running.end(ABANDON).await
        {
            if done.reply.status() == StatusCode::CREATED {
                // It has become a blob.
                return;
            }
            self.place = location(&done).unwrap_or(self.place);
        }
        self.delete().await;
    }

    pub(super) fn call(&self, method: Method, url: Url) -> Call<'_> {
        let reads = method == Method::GET;
        let mut call = self.repository.call(Method::POST, Capability::Push, "");
        call.method = method;
        // Ending an upload of our own is a part of writing, not a deletion of what is there.
        call.access = if reads { Access::Read } else { Access::Write };
        call.target = Target::Named(Place { url, ..self.place.clone() });
        call
    }

    /// Returns the address that makes a blob of the upload. The query is kept as it is: some registries sign it.
    pub(super) fn closing(&self, digest: &Digest) -> Url {
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
pub(super) fn received(done: &Done) -> u64 {
    done.reply.header("range").and_then(parse_received).unwrap_or(0)
}

fn parse_received(text: &str) -> Option<u64> {
    let (first, last) = text.trim().trim_start_matches("bytes=").split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    // `0-0` is said for nothing as well as for one byte (distribution, handlers/blobupload.go); nothing is the safe reading.
    (first == 0 && last > 0).then_some(last + 1)
}

/// Uploads that were interrupted with something of them kept, by repository and digest.
#[derive(Debug, Default)]
pub(super) struct Interrupted(Mutex<HashMap<(Origin, Digest), Upload>>);

impl Interrupted {
    pub(super) fn keep(&self, digest: &Digest, upload: Upload) {
        let key = (upload.repository.origin(), digest.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, upload);
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
