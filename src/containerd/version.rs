//! The daemon's version.

use containerd_client::services::v1::version_client::VersionClient;

use super::error::failed;
use super::{Client, Result, service};

/// Which containerd it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its version, as it writes it: `1.6.20~ds1`, `v2.1.9`.
    pub version: String,
    /// The commit it was built from; distributions may put something else.
    pub revision: String,
}

impl Client {
    /// Asks the daemon for its version.
    ///
    /// # Errors
    /// Fails when the daemon cannot be reached or the grant lacks `read`.
    pub async fn version(&self) -> Result<Version> {
        let answer = service!(VersionClient<_>, self).version(()).await;
        let version = answer.map_err(failed("ask the version of", &self.node().endpoint().to_string()))?.into_inner();
        Ok(Version { version: version.version, revision: version.revision })
    }
}
