//! Layers without their compression, for `convert`.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::containerd::content::Ingest;
use crate::containerd::{Client, Labels};
use crate::kind::BoxFailure;
use crate::layout::archive::{Stop, sniff, unfold};
use crate::oci::media_type::Compression;
use crate::oci::{Descriptor, Digest, MediaType};
use crate::ops::content::Held;
use crate::ops::progress::Progress;
use crate::ops::{Error, Result, Seen};

/// A layer's diff id, once it was verified.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// The most that a layer may unfold to: 256 GiB, as for archives.
pub(super) const MAX_UNPACKED: u64 = 256 << 30;
/// How much is decompressed at a time, and how many of these wait to be written.
const CHUNK: usize = 256 << 10;
const WAITING: usize = 4;

/// Returns whether a layer's bytes are compressed. Docker's plain type may hold compressed bytes all the same, so these are
/// looked at.
///
/// # Errors
/// When it is encrypted, compressed in a way that is not known, or not here.
pub(super) async fn is_compressed(held: &Held, layer: &Descriptor) -> Result<bool> {
    let MediaType::Layer(about) = &layer.media_type else { return Ok(false) };
    if about.encrypted {
        return Err(Error::argument(layer.digest.to_string(), "is encrypted and cannot be uncompressed"));
    }
    if about.compression != Compression::None {
        return Ok(true);
    }
    let mut stream = match held.client().content().read(&layer.digest, 0).await {
        // A dry run takes the type of a layer that it has not got for what it says.
        Err(error) if error.is_not_found() && held.foreseen(&layer.digest) != Seen::Unknown => return Ok(false),
        other => other?,
    };
    let head = stream.try_next().await?.unwrap_or_default();
    match sniff(&head[..head.len().min(6)]) {
        Ok(compression) => Ok(compression != Compression::None),
        Err(format) => Err(Error::argument(
            layer.digest.to_string(),
            format!("is compressed by {format}, which cannot be uncompressed"),
        )),
    }
}

/// Stores a layer uncompressed, and returns what points to that. Its digest is the layer's diff id, when that is known.
///
/// The client should have a lease. The ingest has ctr's name for it, so that the two wait for each other.
///
/// # Errors
/// An integrity error when what comes out does not have the diff id.
pub(super) async fn uncompress(
    client: &Client,
    layer: &Descriptor,
    diff_id: Option<&Digest>,
    progress: &Arc<dyn Progress>,
) -> Result<Descriptor> {
    let content = client.content();
    let described = |digest: Digest, size: u64| Descriptor {
        digest,
        size,
        media_type: layer.media_type.uncompressed(),
        data: None,
        urls: Vec::new(),
        ..layer.clone()
    };
    let label = |id: &Digest| Labels::from([(UNCOMPRESSED.to_owned(), id.to_string())]);
    let meter = progress.meter(&format!("layer {}", layer.digest.short()), Some(layer.size));
    let ingest = Ingest {
        reference: format!("convert-uncompress-from-{}", layer.digest),
        expected: diff_id.cloned(),
        total: None,
        labels: diff_id.map(label).unwrap_or_default(),
    };
    let mut writer = match (content.ingest(ingest).await?, diff_id) {
        (Some(writer), _) => writer,
        (None, diff_id) => {
            let digest = diff_id.cloned().unwrap_or_else(|| layer.digest.clone());
            let size = content.info(&digest).await?.size;
            meter.advance(layer.size);
            meter.done("exists");
            return Ok(described(digest, size));
        }
    };
    meter.phase("uncompressing");
    let mut there = writer.offset();
    let counted = meter.clone();
    let stream = content.open_to_read(&layer.digest, 0).await?;
    let stream = stream.inspect_ok(move |part| counted.advance(part.len() as u64)).map_err(io::Error::other).boxed();
    let (sender, mut plain) = mpsc::channel(WAITING);
    let bridge = SyncIoBridge::new(StreamReader::new(stream));
    let name: Arc<str> = format!("layer {}", layer.digest).into();
    // It ends when nobody takes what it sends.
    let unfolding = tokio::task::spawn_blocking(move || unfold_into(&name, Box::new(bridge), &sender));
    while let Some(part) = plain.recv().await {
        let mut part: Bytes = part?;
        // What an earlier try stored need not be sent again.
        let skip = there.min(part.len() as u64);
        there -= skip;
        let _ = part.split_to(usize::try_from(skip).unwrap_or(part.len()));
        writer.push(part).await?;
    }
    unfolding.await?;
    let (digest, size) = writer.finish().await?;
    if diff_id.is_none() {
        content.set_labels(&digest, &label(&digest)).await?;
    }
    meter.done("uncompressed");
    Ok(described(digest, size))
}

/// Sends the plain bytes of a compressed stream, or why there are no more. Blocks.
fn unfold_into(name: &Arc<str>, reader: Box<dyn Read + Send>, sender: &mpsc::Sender<Result<Bytes>>) {
    let unfold = || -> Result<()> {
        let failed = |error: crate::layout::Error| Error::from(BoxFailure::from(error));
        let mut plain = unfold(name, reader, MAX_UNPACKED, &Stop::default()).map_err(failed)?;
        loop {
            let mut part = vec![0; CHUNK];
            let mut length = 0;
            while length < CHUNK {
                match plain.read(&mut part[length..]) {
                    Ok(0) => break,
                    Ok(count) => length += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => {
                        return Err(Error::File { attempted: "uncompress", path: name.to_string(), source });
                    }
                }
            }
            part.truncate(length);
            if length == 0 || sender.blocking_send(Ok(part.into())).is_err() {
                return Ok(());
            }
        }
    };
    if let Err(error) = unfold() {
        let _ = sender.blocking_send(Err(error));
    }
}
