//! Writing a small blob: gathered here and sent in one message, so that it costs one request.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::Content;
use crate::containerd::Labels;
use crate::oci::store::{self, BlobWriter};
use crate::oci::{Descriptor, Error as OciError};

/// One small blob on its way into the content store, which hears of it when it is whole.
///
/// An ingest that an earlier, larger writing left under the same name is truncated: so few bytes are not worth asking.
pub struct SmallWriter {
    content: Content,
    descriptor: Descriptor,
    labels: Labels,
    buffer: BytesMut,
}

impl SmallWriter {
    /// The largest blob that is gathered, in bytes. It is in memory three times on its way.
    pub const MAX_SIZE: u64 = 128 << 10;

    /// Begins.
    #[must_use]
    pub fn new(content: Content, descriptor: &Descriptor, labels: Labels) -> Self {
        Self { content, descriptor: descriptor.clone(), labels, buffer: BytesMut::new() }
    }
}

#[async_trait]
impl BlobWriter for SmallWriter {
    fn offset(&self) -> u64 {
        self.buffer.len() as u64
    }

    async fn write(&mut self, bytes: Bytes) -> store::Result<()> {
        let actual = (self.buffer.len() + bytes.len()) as u64;
        if actual > self.descriptor.size {
            return Err(OciError::Mismatch {
                subject: super::ingest_reference(&self.descriptor),
                expected: format!("{} bytes", self.descriptor.size),
                actual: format!("{actual} bytes or more"),
            }
            .into());
        }
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> store::Result<()> {
        self.content.put(&self.descriptor, self.buffer.freeze(), &self.labels).await?;
        Ok(())
    }

    async fn close(self: Box<Self>, _discard: bool) -> store::Result<()> {
        Ok(())
    }
}
