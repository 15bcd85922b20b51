//! A plain copy from a source to a sink, one blob after the other, for tests of either end alone.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use ctrsh::kind::BoxFailure;
use ctrsh::oci::store::{ImageSink, ImageSource, Labels};
use ctrsh::oci::{Descriptor, Parsed};
use futures_util::StreamExt;

/// Whether the sink hears of all content before the first write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Yes,
    No,
}

/// Copies an image with all that it points to; the last layer first, so that the order is not by accident the sorted one.
pub async fn copy(
    source: &dyn ImageSource,
    sink: &dyn ImageSink,
    announce: Announce,
) -> Result<Descriptor, BoxFailure> {
    let root = source.resolve().await?;
    let mut graph = Vec::new();
    walk(source, root.clone(), &mut graph).await?;
    if announce == Announce::Yes {
        let all: Vec<Descriptor> = graph.iter().map(|(descriptor, _)| descriptor.clone()).collect();
        sink.expect(&all).await?;
    }
    for (descriptor, manifest) in graph.iter().rev() {
        match manifest {
            Some(bytes) => sink.put_manifest(descriptor, bytes.clone(), &Labels::new()).await?,
            None => blob(source, sink, descriptor).await?,
        }
    }
    sink.finish(&root).await?;
    Ok(root)
}

/// Copies one blob, unless it is there.
pub async fn blob(source: &dyn ImageSource, sink: &dyn ImageSink, descriptor: &Descriptor) -> Result<(), BoxFailure> {
    if sink.has(descriptor).await? {
        return Ok(());
    }
    let Some(mut writer) = sink.write(descriptor, &Labels::new()).await? else { return Ok(()) };
    let mut reader = source.open(descriptor, writer.offset()).await?;
    while let Some(bytes) = reader.stream.next().await {
        writer.write(bytes?).await?;
    }
    writer.commit().await
}

/// Lists what an image points to, parents before children.
pub fn walk<'a>(
    source: &'a dyn ImageSource,
    descriptor: Descriptor,
    graph: &'a mut Vec<(Descriptor, Option<Bytes>)>,
) -> Pin<Box<dyn Future<Output = Result<(), BoxFailure>> + Send + 'a>> {
    Box::pin(async move {
        if !descriptor.media_type.is_index() && !descriptor.media_type.is_manifest() {
            graph.push((descriptor, None));
            return Ok(());
        }
        let bytes = source.manifest(&descriptor).await?;
        let children = Parsed::read(&descriptor, &bytes)?.children();
        graph.push((descriptor, Some(bytes)));
        for child in children {
            walk(source, child, graph).await?;
        }
        Ok(())
    })
}

/// Reads a blob whole, beginning at an offset.
pub async fn read(source: &dyn ImageSource, descriptor: &Descriptor, offset: u64) -> Result<Vec<u8>, BoxFailure> {
    let mut reader = source.open(descriptor, offset).await?;
    let mut all = Vec::new();
    while let Some(bytes) = reader.stream.next().await {
        all.extend_from_slice(&bytes?);
    }
    let surplus = usize::try_from(offset - reader.start).unwrap();
    Ok(all.split_off(surplus))
}
