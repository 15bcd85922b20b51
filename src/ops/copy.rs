//! The one way that images move: from any source to any sink.
//!
//! Only what the sink lacks is sent, each digest once within the process however many copies want it at the same time. A
//! transfer that breaks goes on from the last byte that the sink acknowledged. Bytes are verified as they pass; bytes that
//! turn out wrong are thrown away and fetched once more. At most [`PARALLEL`] blobs of a copy are in flight, each in
//! chunks, so memory does not grow with the size of an image.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{self, BoxFuture};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use rand::Rng;
use tokio::time::Instant;

use crate::kind::{BoxFailure, Failure, Kind};
use crate::oci::store::{self, BlobReader, BlobWriter, ImageSink, ImageSource, Labels, Origin};
use crate::oci::{Descriptor, Digest, Error as OciError, Hasher};
use crate::ops::Result;
use crate::ops::graph::{Document, Graph};
use crate::ops::progress::{Meter, Progress};

/// How many blobs of one copy move at the same time.
pub const PARALLEL: usize = 4;
/// From how many repositories a mount is tried.
const MAX_MOUNTS: usize = 3;
/// How often a blob may fail in a row without a single byte of progress.
const MAX_STALLED: u32 = 8;
/// How long a blob may go without progress. A registry may take five minutes to acknowledge the last byte of an upload.
const MAX_STANDSTILL: Duration = Duration::from_secs(600);
/// The longest pause before another try, when the other side names none.
const MAX_PAUSE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What became of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The sink had it.
    Present,
    /// The sink took it from another repository of its registry.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// What a copy came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes that were sent, counting what had to be sent again.
    pub sent: u64,
    /// Blobs that were sent.
    pub blobs_sent: Vec<Digest>,
    /// Blobs that were mounted.
    pub blobs_mounted: u64,
    /// Blobs that were there.
    pub blobs_present: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.blobs_sent.extend(other.blobs_sent);
        self.blobs_mounted += other.blobs_mounted;
        self.blobs_present += other.blobs_present;
    }
}

/// Digests on their way into a sink, so that two copies do not send the same one twice.
#[derive(Debug, Clone, Default)]
pub struct Flights(Arc<Mutex<InFlight>>);

/// By sink and digest: held locked by whoever sends it.
type InFlight = HashMap<(String, Digest), Arc<tokio::sync::Mutex<()>>>;

impl Flights {
    /// Waits until nobody else in this process sends the digest there, and holds its place until the guard is dropped.
    pub(crate) async fn turn(&self, sink: &str, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        self.of(sink, digest).lock_owned().await
    }

    fn of(&self, sink: &str, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever is done drops its clone; what nobody holds any more is swept here.
        flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        flights.entry((sink.to_owned(), digest.clone())).or_default().clone()
    }
}

/// A copy that is ready to run.
pub struct Copy<'a> {
    /// Where from.
    pub source: &'a dyn ImageSource,
    /// Where to.
    pub sink: &'a dyn ImageSink,
    /// What.
    pub graph: &'a Graph,
    /// What else is on its way in this process.
    pub flights: &'a Flights,
    /// Who shows it.
    pub progress: &'a dyn Progress,
    /// Hears of each blob once it is in the sink, in any order.
    pub arrived: Option<&'a (dyn Fn(&Descriptor) + Send + Sync)>,
}

impl Copy<'_> {
    /// Moves all blobs and all documents, the root after the other documents; what the sink's name points to is not
    /// touched. The documents come after the blobs, or meanwhile where the sink does not mind.
    ///
    /// # Errors
    /// The first failure that no further try can mend.
    pub async fn run(&self) -> Result<Totals> {
        let totals = Mutex::new(Totals::default());
        let jobs: Vec<BoxFuture<'_, Result<()>>> =
            self.graph.blobs.iter().map(|blob| self.tracked(blob, &totals).boxed()).collect();
        let blobs = stream::iter(jobs).buffer_unordered(PARALLEL).try_for_each(|()| future::ready(Ok(())));
        if self.sink.wants_order() {
            blobs.await?;
            self.documents().await?;
        } else {
            future::try_join(blobs, self.documents()).await?;
        }
        Ok(totals.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn tracked(&self, blob: &Descriptor, totals: &Mutex<Totals>) -> Result<()> {
        let moved = self.blob(blob, totals).await?;
        {
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            match moved {
                Moved::Present => totals.blobs_present += 1,
                Moved::Mounted => totals.blobs_mounted += 1,
                Moved::Sent => totals.blobs_sent.push(blob.digest.clone()),
            }
        }
        if let Some(arrived) = self.arrived {
            arrived(blob);
        }
        Ok(())
    }

    async fn documents(&self) -> Result<()> {
        for document in &self.graph.documents {
            self.document(document).await?;
        }
        Ok(())
    }

    async fn document(&self, document: &Document) -> Result<()> {
        let _turn = self.flights.turn(&self.sink.name(), &document.descriptor.digest).await;
        // A registry is sent the root in any case, as that is what points its tag there.
        let is_root = self.graph.root().is_some_and(|root| root.descriptor.digest == document.descriptor.digest);
        let goes_anyway = is_root && self.sink.home().is_some();
        if !goes_anyway && self.sink.has(&document.descriptor).await? {
            self.sink.adopt(&document.descriptor, &document.bytes).await?;
            return Ok(());
        }
        let mut patience = Patience::new();
        loop {
            match self.sink.put_manifest(&document.descriptor, document.bytes.clone(), &Labels::new()).await {
                Ok(()) => return Ok(()),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }

    async fn blob(&self, blob: &Descriptor, totals: &Mutex<Totals>) -> Result<Moved> {
        // What one repository of a registry is being sent, the others wait for and mount.
        let scope = self.sink.home().map_or_else(|| self.sink.name(), |home| home.registry);
        let is_near = !self.sink.holders(blob).await?.is_empty();
        let _turn = if is_near { None } else { Some(self.flights.turn(&scope, &blob.digest).await) };
        let meter = self.progress.meter(&label(blob), Some(blob.size));
        // What another repository is known to hold is mounted without a request that asks for it.
        if !self.sink.holders(blob).await?.is_empty() && self.mount(blob).await? {
            meter.advance(blob.size);
            meter.done("mounted");
            return Ok(Moved::Mounted);
        }
        let mut patience = Patience::new();
        let present = loop {
            match self.sink.has(blob).await {
                Ok(present) => break present,
                Err(failure) => patience.wait(failure).await?,
            }
        };
        if present {
            meter.advance(blob.size);
            meter.done("exists");
            return Ok(Moved::Present);
        }
        if self.mount(blob).await? {
            meter.advance(blob.size);
            meter.done("mounted");
            return Ok(Moved::Mounted);
        }
        let moved = self.send(blob, &*meter, totals).await?;
        meter.done(if moved == Moved::Sent { "done" } else { "exists" });
        Ok(moved)
    }

    /// Tries the repositories that may hold the blob, in the registry that the sink is.
    async fn mount(&self, blob: &Descriptor) -> Result<bool> {
        let Some(own) = self.sink.home() else { return Ok(false) };
        let mut tried: Vec<Origin> = vec![own.clone()];
        let mut candidates: Vec<Origin> = Vec::new();
        candidates.extend(self.source.origin().filter(|origin| origin.registry == own.registry));
        candidates.extend(self.sink.holders(blob).await?);
        if self.mount_from(blob, candidates, &mut tried).await? {
            return Ok(true);
        }
        // To ask the source costs a request.
        let named = self.source.mount_candidates(&own.registry, blob).await?.into_iter();
        let named = named.map(|repository| Origin { registry: own.registry.clone(), repository });
        self.mount_from(blob, named.collect(), &mut tried).await
    }

    async fn mount_from(&self, blob: &Descriptor, candidates: Vec<Origin>, tried: &mut Vec<Origin>) -> Result<bool> {
        for origin in candidates {
            if tried.len() > MAX_MOUNTS {
                break;
            }
            if tried.contains(&origin) {
                continue;
            }
            match self.sink.mount(blob, &origin).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // A mount is a favour; without it the blob is sent.
                Err(failure) if failure.kind() != Kind::Cancelled => {}
                Err(failure) => return Err(failure.into()),
            }
            tried.push(origin);
        }
        Ok(false)
    }

    /// Sends the bytes, going on where a broken transfer stopped.
    async fn send(&self, blob: &Descriptor, meter: &dyn Meter, totals: &Mutex<Totals>) -> Result<Moved> {
        let mut patience = Patience::new();
        let mut damaged = false;
        let mut gauge = Gauge { meter, shown: 0 };
        let mut first = true;
        // How much the sink has told to have; what it did not acknowledge is no progress.
        let mut acknowledged = 0;
        loop {
            let labels = Labels::new();
            let writing = self.sink.write(blob, &labels);
            // The two sides are asked at the same time: at first the sink rarely has a part of it.
            let (writer, reader) = if std::mem::take(&mut first) {
                let (writer, reader) = future::join(writing, self.source.open(blob, 0)).await;
                (writer, Some(reader))
            } else {
                (writing.await, None)
            };
            let mut writer = match writer {
                Ok(Some(writer)) => writer,
                Ok(None) => return Ok(Moved::Present),
                Err(failure) => {
                    patience.wait(failure).await?;
                    continue;
                }
            };
            let start = writer.offset();
            if start > acknowledged {
                acknowledged = start;
                patience.progressed();
            }
            gauge.show(start);
            let reader = reader.filter(|_| start == 0);
            let result = self.fill(blob, &mut *writer, reader, &mut gauge).await;
            totals.lock().unwrap_or_else(PoisonError::into_inner).sent += gauge.shown.saturating_sub(start);
            let failure = match result {
                Ok(()) => match writer.commit().await {
                    Ok(()) => return Ok(Moved::Sent),
                    Err(failure) => failure,
                },
                Err(broken) => {
                    let (failure, exhausted) = match broken {
                        // Other tries were made already.
                        Broken::Source(failure) => (failure, true),
                        Broken::Sink(failure) => (failure, false),
                    };
                    let damage = failure.kind() == Kind::Integrity;
                    // Letting go is best effort: the first failure is the one to tell.
                    let _ = writer.close(damage || exhausted || !failure.retryable()).await;
                    if exhausted && !damage {
                        return Err(failure.into());
                    }
                    failure
                }
            };
            if failure.kind() == Kind::Integrity && !damaged {
                // Once: bytes are damaged on the way; twice: the other side has it so.
                damaged = true;
                continue;
            }
            patience.wait(failure).await?;
        }
    }

    /// Fills a writer. A source that breaks is opened again where it stopped, with the writer kept: an upload in one
    /// request would else have to begin again.
    async fn fill(
        &self,
        blob: &Descriptor,
        writer: &mut dyn BlobWriter,
        mut reader: Option<store::Result<BlobReader>>,
        gauge: &mut Gauge<'_>,
    ) -> std::result::Result<(), Broken> {
        let start = writer.offset();
        let mut at = start;
        let mut hasher = (!self.sink.verifies() && start == 0).then(|| Hasher::new(blob.digest.algorithm()));
        let mut patience = Patience::new();
        while at < blob.size || blob.size == 0 {
            let from = at;
            let reader = match reader.take() {
                Some(reader) => reader,
                None => self.source.open(blob, at).await,
            };
            let failure = match self.pump(blob, reader, writer, &mut at, &mut hasher, gauge).await {
                Ok(()) => break,
                Err(Broken::Source(failure)) if failure.kind() != Kind::Integrity => failure,
                Err(broken) => return Err(broken),
            };
            if at > from {
                patience.progressed();
            }
            patience.wait(failure).await.map_err(Broken::Source)?;
        }
        if let Some(actual) = hasher.map(Hasher::finish).filter(|actual| *actual != blob.digest) {
            let other = mismatch(&self.source.name(), blob, blob.digest.to_string(), actual.to_string());
            return Err(Broken::Source(other.into()));
        }
        Ok(())
    }

    async fn pump(
        &self,
        blob: &Descriptor,
        reader: store::Result<BlobReader>,
        writer: &mut dyn BlobWriter,
        at: &mut u64,
        hasher: &mut Option<Hasher>,
        gauge: &mut Gauge<'_>,
    ) -> std::result::Result<(), Broken> {
        let mut reader = reader.map_err(Broken::Source)?;
        let mut skip = at.saturating_sub(reader.start);
        while let Some(mut bytes) = reader.stream.try_next().await.map_err(Broken::Source)? {
            if skip > 0 {
                let drop = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                skip -= drop as u64;
                bytes = bytes.slice(drop..);
            }
            if bytes.is_empty() {
                continue;
            }
            if *at + bytes.len() as u64 > blob.size {
                let longer = mismatch(&self.source.name(), blob, format!("{} bytes", blob.size), "longer".into());
                return Err(Broken::Source(longer.into()));
            }
            if let Some(hasher) = hasher {
                hasher.update(&bytes);
            }
            let length = bytes.len() as u64;
            writer.write(bytes).await.map_err(Broken::Sink)?;
            *at += length;
            gauge.show(*at);
        }
        if *at < blob.size {
            let (from, digest) = (self.source.name(), blob.digest.clone());
            return Err(Broken::Source(Truncated { from, digest, at: *at, size: blob.size }.into()));
        }
        Ok(())
    }
}

/// Which side of a transfer broke.
enum Broken {
    Source(BoxFailure),
    Sink(BoxFailure),
}

/// A meter, and where it stands.
struct Gauge<'a> {
    meter: &'a dyn Meter,
    shown: u64,
}

impl Gauge<'_> {
    /// Moves the meter to where the transfer is now, which may be back.
    fn show(&mut self, at: u64) {
        match at.checked_sub(self.shown) {
            Some(more) => self.meter.advance(more),
            None => self.meter.rewind(self.shown - at),
        }
        self.shown = at;
    }
}

/// Returns what a blob's meter is called.
pub(crate) fn label(blob: &Descriptor) -> String {
    let what = if blob.media_type.is_config() {
        "config"
    } else if blob.media_type.is_layer() {
        "layer"
    } else {
        "blob"
    };
    format!("{what} {}", blob.digest.short())
}

fn mismatch(source: &str, blob: &Descriptor, expected: String, actual: String) -> OciError {
    OciError::Mismatch { subject: format!("blob {} from {source}", blob.digest), expected, actual }
}

/// A source ended a blob early without saying so.
#[derive(Debug, thiserror::Error)]
#[error("{from} ended blob {digest} after {at} of {size} bytes")]
struct Truncated {
    from: String,
    digest: Digest,
    at: u64,
    size: u64,
}

impl Failure for Truncated {
    fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}

/// What is left of the patience with one blob or document.
struct Patience {
    /// How often it failed since there was progress.
    stalled: u32,
    /// Since when there was none.
    since: Instant,
}

impl Patience {
    fn new() -> Self {
        Self { stalled: 0, since: Instant::now() }
    }

    /// Begins anew, as there was progress.
    fn progressed(&mut self) {
        *self = Self::new();
    }

    /// Waits before another try, or gives the failure back when another try is of no use.
    async fn wait(&mut self, failure: BoxFailure) -> std::result::Result<(), BoxFailure> {
        self.stalled += 1;
        let over = self.stalled > MAX_STALLED || self.since.elapsed() >= MAX_STANDSTILL;
        if over || failure.exhausted() || !failure.retryable() {
            return Err(failure);
        }
        let ceiling = FIRST_PAUSE.saturating_mul(1 << (self.stalled - 1).min(16)).min(MAX_PAUSE);
        let pause = failure.retry_after().unwrap_or_else(|| ceiling.mul_f64(rand::rng().random_range(0.5..1.0)));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
