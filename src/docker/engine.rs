//! The engine's API: versions, requests, answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::Result;
use super::address::Address;
use super::error::Error;
use super::image::{Image, Inspected, Listed};
use crate::grant::Grant;
use crate::oci::excerpt;
use crate::socket::{self, Answer, Question};

/// The newest version of the API that is asked for: it has all that is used, the descriptor of an image last.
const NEWEST: Version = Version(1, 48);
/// The oldest version: the first whose engines say in `/_ping` what they speak.
const OLDEST: Version = Version(1, 24);

/// How long the engine may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the engine may take until an export begins: it packs the image on its own disk first.
const PACKING: Duration = Duration::from_secs(60 * 60);

/// How much of a document is read: a list of a hundred thousand images fits.
const MAX_DOCUMENT: usize = 64 << 20;
/// How much of an error is read.
const MAX_ERROR: usize = 64 << 10;

/// How grants name an engine.
const SUBJECT: &str = "docker";

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u16, u16);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// A Docker Engine under a grant. Nothing is kept open between calls.
#[derive(Debug, Clone)]
pub struct Engine {
    address: Arc<Address>,
    grant: Grant,
    version: Arc<OnceCell<Version>>,
}

/// The bytes of an export: a tar, as `docker save` writes it.
pub type Export = BoxStream<'static, Result<Bytes>>;

impl Engine {
    /// Names an engine without asking it anything.
    #[must_use]
    pub fn new(address: Address, grant: &Grant) -> Self {
        Self { address: Arc::new(address), grant: grant.clone(), version: Arc::default() }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Lists the images, those that are only layers of others left out.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn images(&self) -> Result<Vec<Image>> {
        let listed: Vec<Listed> = self.document("list images", "/images/json", None).await?;
        let mut images: Vec<Image> = listed.into_iter().map(Image::from).collect();
        images.sort_by(|a, b| (&a.names, &a.id).cmp(&(&b.names, &b.id)));
        Ok(images)
    }

    /// Describes an image, named as `docker image inspect` takes it.
    ///
    /// # Errors
    /// [`Error::NoImage`] when there is none, else why there is no answer.
    pub async fn image(&self, name: &str) -> Result<Image> {
        check_name(name)?;
        let action = format!("inspect image {name}");
        let inspected: Inspected = self.document(&action, &format!("/images/{name}/json"), Some(name)).await?;
        Ok(inspected.into())
    }

    /// Begins to export an image.
    ///
    /// # Errors
    /// [`Error::NoImage`] when there is none, else why there is no answer. The stream fails when the engine breaks off.
    pub async fn export(&self, name: &str) -> Result<Export> {
        check_name(name)?;
        let action = format!("export image {name}");
        let path = format!("/images/{name}/get");
        let response = self.versioned(&action, &path, Some(name), PACKING).await?;
        let address = Arc::clone(&self.address);
        Ok(response.stream(PACKING, SILENCE).map_err(move |error| Error::of(&action, &address, error)).boxed())
    }

    async fn document<T: DeserializeOwned>(&self, action: &str, path: &str, image: Option<&str>) -> Result<T> {
        let response = self.versioned(action, path, image, SILENCE).await?;
        let bytes = self.whole(action, response, MAX_DOCUMENT).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Answer { action: action.to_owned(), reason: error.to_string() })
    }

    /// Asks under the version that both sides speak, and takes only a good answer.
    async fn versioned(&self, action: &str, path: &str, image: Option<&str>, limit: Duration) -> Result<Answer> {
        let Version(major, minor) = *self.version.get_or_try_init(|| self.negotiate()).await?;
        let response = self.get(action, &format!("/v{major}.{minor}{path}"), limit).await?;
        let status = response.status();
        match (status, image) {
            (StatusCode::OK, _) => Ok(response),
            (StatusCode::NOT_FOUND, Some(name)) => {
                Err(Error::NoImage { engine: (*self.address).clone(), name: name.to_owned() })
            }
            _ => Err(self.failure(action, response).await),
        }
    }

    async fn negotiate(&self) -> Result<Version> {
        let response = self.get("ping", "/_ping", SILENCE).await?;
        if !response.status().is_success() {
            return Err(self.failure("ping", response).await);
        }
        let spoken = response.header("api-version");
        match spoken.and_then(Version::parse) {
            Some(version) if version >= OLDEST => Ok(version.min(NEWEST)),
            _ => {
                let spoken = spoken.map_or_else(|| "no version".to_owned(), |text| format!("'{}'", excerpt(text)));
                Err(Error::TooOld { engine: (*self.address).clone(), spoken })
            }
        }
    }

    /// Reads the engine's words of an error.
    async fn failure(&self, action: &str, response: Answer) -> Error {
        #[derive(Deserialize)]
        struct Said {
            message: String,
        }
        let status = response.status();
        let said = self.whole(action, response, MAX_ERROR).await.ok();
        let said = said.and_then(|bytes| serde_json::from_slice::<Said>(&bytes).ok());
        let message = said.map_or_else(|| format!("it answered {status}"), |said| excerpt(&said.message));
        Error::Call { action: action.to_owned(), status: status.as_u16(), message }
    }

    async fn whole(&self, action: &str, response: Answer, most: usize) -> Result<Bytes> {
        response.whole(most, SILENCE).await.map_err(|error| Error::of(action, &self.address, error))
    }

    async fn get(&self, action: &str, path: &str, limit: Duration) -> Result<Answer> {
        let question = Question { socket: self.address.path(), path, action, subject: SUBJECT, limit };
        socket::get(&self.grant, question).await.map_err(|error| Error::of(action, &self.address, error))
    }
}

/// Lets through what can stand in a path as it is and leads nowhere else.
fn check_name(name: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-:/@".contains(c);
    if name.chars().all(known) && name.split('/').all(|part| !matches!(part, "" | "." | "..")) {
        return Ok(());
    }
    Err(Error::Name { name: excerpt(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(Version::parse("1.9").unwrap() < OLDEST);
        assert_eq!(Version::parse("1.41").unwrap().min(NEWEST), Version(1, 41));
        assert_eq!(Version::parse("1.99").unwrap().min(NEWEST), NEWEST);
        assert_eq!(Version::parse("one"), None);
    }

    #[test]
    fn a_name_cannot_lead_to_another_request() {
        for good in ["busybox", "host:5000/a/b:1.2", "a@sha256:00ff", "sha256:00ff", "a8b45d0ce4e8"] {
            check_name(good).unwrap();
        }
        for bad in ["", "..", "a/../../containers", "a?x=1", "a b", "a//b", "/a", "a%2f", "a\r\n"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
