//! The two traits that all image movement goes through.
//!
//! A registry repository, a containerd namespace, a Docker Engine, an OCI layout and an archive are each a source, a sink
//! or both. `ops::copy` moves an image graph from any source to any sink and is the only caller of these methods.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::Descriptor;
use crate::kind::BoxFailure;

/// What an endpoint answers.
pub type Result<T> = std::result::Result<T, BoxFailure>;

/// The bytes of a blob, from an offset to its end.
pub struct BlobReader {
    /// Where the bytes begin. At most the offset asked for; the caller drops what it has already.
    pub start: u64,
    /// The bytes. The stream may fail at any item; the caller then opens the blob again where it stopped.
    pub stream: BoxStream<'static, Result<Bytes>>,
}

/// Somewhere that images come from.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Returns what messages call it, such as `registry.example/team/app`.
    fn name(&self) -> String;

    /// Finds what a reference points to now.
    async fn resolve(&self) -> Result<Descriptor>;

    /// Reads a manifest or index whole. The bytes have the descriptor's digest.
    async fn manifest(&self, descriptor: &Descriptor) -> Result<Bytes>;

    /// Opens a blob for reading at an offset. The bytes are not verified: whoever writes them does that.
    async fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobReader>;

    /// Returns whether the source has a manifest or index and all that it points to.
    ///
    /// A registry promises that for whatever it lists, so only sources that may be incomplete look.
    async fn holds(&self, _descriptor: &Descriptor) -> Result<bool> {
        Ok(true)
    }

    /// Returns the registry and repository that blobs come from, when they come from a registry.
    ///
    /// A sink in the same registry can mount them; a containerd sink notes it as the blob's `distribution.source`.
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// Returns where the daemon listens whose content store this is, when it is one's.
    ///
    /// Namespaces of one daemon can share their content, and a sink there then takes it without moving a byte.
    fn daemon(&self) -> Option<String> {
        None
    }

    /// Returns the repositories of a registry that are known to hold a blob, the most likely first.
    async fn mount_candidates(&self, _registry: &str, _descriptor: &Descriptor) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `HOST[:PORT]`.
    pub registry: String,
    /// The repository within it.
    pub repository: String,
}

/// Somewhere that images go to.
#[async_trait]
pub trait ImageSink: Send + Sync {
    /// Returns what messages call it.
    fn name(&self) -> String;

    /// Returns whether the content is there already, and keeps it from being collected until the sink is finished.
    async fn has(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Returns the digest that a reference points to now, so that an equal image costs one request.
    async fn current(&self) -> Result<Option<Descriptor>>;

    /// Hears of all that is going to be written, before the first write, in no particular order.
    ///
    /// A sink that lays content out in one file can then put each blob to its place at once. Nothing depends on it: not
    /// all of the content need come, and other content may.
    async fn expect(&self, _content: &[Descriptor]) -> Result<()> {
        Ok(())
    }

    /// Returns the bytes of a manifest or index that the sink has already, so that the source need not be asked for it.
    ///
    /// Only sinks that can tell at no cost worth mentioning answer; the bytes have the descriptor's digest.
    async fn stored(&self, _descriptor: &Descriptor) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Returns the registry and repository that the sink is, when it is one.
    fn home(&self) -> Option<Origin> {
        None
    }

    /// Returns other repositories of the sink's own registry that are known to hold the blob, the most likely first; none
    /// when the sink is known to have it itself.
    async fn holders(&self, _descriptor: &Descriptor) -> Result<Vec<Origin>> {
        Ok(Vec::new())
    }

    /// Tries to take the blob from another repository of the same registry, without moving a byte.
    async fn mount(&self, _descriptor: &Descriptor, _from: &Origin) -> Result<bool> {
        Ok(false)
    }

    /// Opens a blob for writing. `None` means that it came to be there in the meantime.
    async fn write(&self, descriptor: &Descriptor, labels: &Labels) -> Result<Option<Box<dyn BlobWriter>>>;

    /// Returns whether a manifest or index must not come before all that it points to.
    ///
    /// A registry refuses it; where only the lease keeps what is new, the two may come at the same time.
    fn wants_order(&self) -> bool {
        true
    }

    /// Stores a manifest or index by its exact bytes, after all that it points to if the sink wants that order.
    async fn put_manifest(&self, descriptor: &Descriptor, bytes: Bytes, labels: &Labels) -> Result<()>;

    /// Sees to it that a manifest or index that was there already keeps what it points to from being collected.
    async fn adopt(&self, _descriptor: &Descriptor, _bytes: &Bytes) -> Result<()> {
        Ok(())
    }

    /// Points the sink's reference to the root, last of all.
    async fn finish(&self, root: &Descriptor) -> Result<()>;

    /// Returns whether a writer checks the digest itself when it commits, so that the copy need not hash as well.
    fn verifies(&self) -> bool;
}

/// Labels to be stored with content, where the sink has such a thing.
pub type Labels = std::collections::BTreeMap<String, String>;

/// One blob on its way into a sink.
#[async_trait]
pub trait BlobWriter: Send {
    /// Returns how many bytes the sink has acknowledged: where a reader has to begin.
    fn offset(&self) -> u64;

    /// Takes the next bytes, in order. May return before they are acknowledged.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Waits until all is stored and makes it a blob.
    ///
    /// # Errors
    /// A failure of kind `integrity` when the bytes are not those of the descriptor; nothing of them is kept then.
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Lets go. With `discard` nothing of the bytes is kept; without, the sink keeps them for a later resume if it can.
    async fn close(self: Box<Self>, discard: bool) -> Result<()>;
}
