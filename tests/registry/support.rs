//! What the tests of the registry client share.

use std::path::Path;
use std::time::Duration;

use ctrsh::grant::{Allow, Grant};
use ctrsh::kind::{BoxFailure, Failure};
use ctrsh::layout::{LayoutFolder, Selector};
use ctrsh::oci::store::{ImageSink, ImageSource};
use ctrsh::oci::{Descriptor, Digest, Reference};
use ctrsh::ops::copy::{Copy, Flights, Totals};
use ctrsh::ops::graph::{Selection, walk};
use ctrsh::ops::progress::Silent;
use ctrsh::registry::{Client, Config, Options, RegistryStore, Repository};
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

/// Settings with which a test that needs retries is done soon.
pub fn quick() -> Config {
    let mut config = Config::default();
    config.retry.base = Duration::from_millis(5);
    config.timeouts.connect = Duration::from_secs(5);
    config
}

pub fn client() -> Client {
    Client::new(quick())
}

pub fn grant() -> Grant {
    Grant::new(Allow::all(), CancellationToken::new())
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub fn repository(client: &Client, text: &str) -> Repository {
    let reference = reference(text);
    client.repository(reference.registry(), reference.repository(), &grant(), &Options::default())
}

pub fn source(client: &Client, text: &str) -> RegistryStore {
    RegistryStore::source(client, &reference(text), &grant(), &Options::default())
}

pub fn sink(client: &Client, text: &str) -> RegistryStore {
    RegistryStore::sink(client, &reference(text), &grant(), &Options::default())
}

pub fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

/// Replaces the registry of a reference, for one that the proxy stands in front of.
pub fn through(host: &str, reference: &str) -> String {
    format!("{host}/{}", reference.split_once('/').unwrap().1)
}

/// Copies all of an image.
pub async fn copy(from: &dyn ImageSource, to: &dyn ImageSink) -> ctrsh::ops::Result<Totals> {
    let root = from.resolve().await.map_err(|e: BoxFailure| ctrsh::ops::Error::Endpoint(e))?;
    let graph = walk(from, Some(to), &root, &Selection::Present).await?;
    let (flights, progress) = (Flights::default(), Silent);
    let copy = Copy { source: from, sink: to, graph: &graph, flights: &flights, progress: &progress, arrived: None };
    let totals = copy.run().await?;
    to.finish(&root).await.map_err(ctrsh::ops::Error::Endpoint)?;
    Ok(totals)
}

pub fn layout(folder: &Path) -> LayoutFolder {
    LayoutFolder::new(folder, Selector::Name("v1".into()))
}

/// Reads a whole blob.
pub async fn read(repository: &Repository, descriptor: &Descriptor) -> Vec<u8> {
    let reader = repository.open_blob(descriptor, 0).await.unwrap();
    let bytes: Vec<_> = reader.stream.try_collect().await.map_err(|e: BoxFailure| e.to_string()).unwrap();
    bytes.concat()
}

/// Reads a whole blob, going on where the stream broke.
pub async fn read_on(repository: &Repository, descriptor: &Descriptor) -> Vec<u8> {
    let mut whole = Vec::new();
    for _ in 0..10 {
        let mut reader = repository.open_blob(descriptor, whole.len() as u64).await.unwrap();
        assert_eq!(reader.start, whole.len() as u64);
        loop {
            match reader.stream.try_next().await {
                Ok(Some(bytes)) => whole.extend_from_slice(&bytes),
                Ok(None) => return whole,
                Err(error) => {
                    assert!(error.retryable(), "{error}");
                    break;
                }
            }
        }
    }
    panic!("it never ended well");
}

/// Checks what every error of a registry must be: short, in one line, of a kind, and named.
pub fn check_message(error: &dyn Failure, parts: &[&str]) {
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 700, "{text}");
    for part in parts {
        assert!(text.contains(part), "{text} lacks {part}");
    }
}
