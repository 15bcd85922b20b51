//! Secrets, and where the credentials of a registry come from.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use tokio::sync::oneshot;
use zeroize::Zeroize;

use super::error::{Error, plain};
use super::{Config, Result};

/// A text that is never shown: its debug form is `…`, and its memory is wiped.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Returns the text itself, for the moment it is sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What proves to a registry who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// An identity token, which a token service takes as a refresh token.
    Identity(Secret),
}

impl Credential {
    /// Makes a credential of a user and a password; the user `<token>` says that the password is an identity token.
    #[must_use]
    pub fn password(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        let (user, password) = (user.into(), password.into());
        if user == "<token>" { Self::Identity(password) } else { Self::Password { user, password } }
    }
}

/// Returns the name that credentials are kept under for a host: Docker Hub answers under several.
pub(super) fn key(host: &str) -> &str {
    match host {
        "registry-1.docker.io" | "index.docker.io" => "docker.io",
        other => other,
    }
}

/// Finds the credentials of a host: those given, else those of Docker's file and its helpers.
pub(super) async fn find(config: &Config, host: &str) -> Result<Option<Credential>> {
    let name = key(host);
    if let Some(given) = config.credentials.get(name) {
        return Ok(Some(given.clone()));
    }
    stored(config, name).await
}

/// Returns what Docker's file calls a registry. Docker Hub's entry is the address of an interface that is long gone
/// (docker/cli, cli/config).
pub(super) fn server(host: &str) -> String {
    match key(host) {
        "docker.io" => "https://index.docker.io/v1/".to_owned(),
        name => name.to_owned(),
    }
}

/// Finds the credentials that Docker's file and its helpers have for a host.
pub(super) async fn stored(config: &Config, host: &str) -> Result<Option<Credential>> {
    let Some(path) = config.docker_config.clone() else { return Ok(None) };
    let name = key(host);
    let server = server(name);
    let limit = config.timeouts.helper;
    let fail = |reason: String| Error::Credentials { host: name.to_owned(), reason };
    let (answer, asked) = oneshot::channel();
    // A thread of its own, because a helper that hangs could not be given up on the runtime's blocking threads.
    std::thread::Builder::new()
        .name("credentials".into())
        .spawn(move || drop(answer.send(read(&path, &server))))
        .map_err(|e| fail(e.to_string()))?;
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(found)) => found.map_err(fail),
        Ok(Err(_)) => Err(fail("the thread that reads them ended early".into())),
        Err(_) => Err(fail(gave_up(limit))),
    }
}

pub(super) fn gave_up(limit: Duration) -> String {
    format!("the credential helper did not answer within {}", humantime::format_duration(limit))
}

fn read(path: &Path, server: &str) -> std::result::Result<Option<Credential>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{} cannot be read: {e}", path.display())),
    };
    match docker_credential::get_credential_from_reader(BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) if user.is_empty() && password.is_empty() => Ok(None),
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some(Credential::password(user, password))),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::Identity(token.into()))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // What every helper says when it has none (docker-credential-helpers, credentials/error.go).
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure { helper, stdout, stderr }) => {
            let said = if stderr.trim().is_empty() { stdout } else { stderr };
            Err(format!("{} failed: {}", plain(&helper, 100), plain(said.trim(), 300)))
        }
        Err(CredentialRetrievalError::HelperCommunicationError) => {
            Err(format!("the credential helper that {} names could not be started", path.display()))
        }
        Err(CredentialRetrievalError::MalformedHelperResponse) => {
            Err(format!("the credential helper that {} names gave an answer that makes no sense", path.display()))
        }
        Err(other) => Err(format!("{}: {}", path.display(), plain(&other.to_string(), 200).to_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let config = Config { docker_config: Some(path), ..Config::default() };
        (dir, config)
    }

    #[test]
    fn a_secret_is_not_shown() {
        let credential = Credential::password("ann", "hunter2");
        assert_eq!(format!("{credential:?}"), r#"Password { user: "ann", password: … }"#);
        assert_eq!(Credential::password("<token>", "x"), Credential::Identity("x".into()));
    }

    #[tokio::test]
    async fn dockers_file_is_heard() {
        // ann:secret
        let (_dir, config) = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YW5uOnNlY3JldA=="},
                "harbor.example:8443":{"identitytoken":"tok","auth":"YW5uOg=="},"empty.example":{}}}"#,
        );
        let find = |host: &'static str| find(&config, host);
        assert_eq!(find("registry-1.docker.io").await.unwrap(), Some(Credential::password("ann", "secret")));
        assert_eq!(find("docker.io").await.unwrap(), Some(Credential::password("ann", "secret")));
        assert_eq!(find("harbor.example:8443").await.unwrap(), Some(Credential::Identity("tok".into())));
        assert_eq!(find("harbor.example").await.unwrap(), None);
        assert_eq!(find("empty.example").await.unwrap(), None);
    }

    #[tokio::test]
    async fn given_credentials_go_first() {
        let (_dir, mut config) = config(r#"{"auths":{"r.example":{"auth":"YW5uOnNlY3JldA=="}}}"#);
        config.credentials.insert("r.example".into(), Credential::password("bob", "b"));
        assert_eq!(find(&config, "r.example").await.unwrap(), Some(Credential::password("bob", "b")));
    }

    #[tokio::test]
    async fn a_broken_file_is_an_error_and_a_missing_one_is_none() {
        let (_dir, mut broken) = config("{");
        let error = find(&broken, "r.example").await.unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
        broken.docker_config = Some("/nonexistent/config.json".into());
        assert_eq!(find(&broken, "r.example").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_helper_that_is_missing_or_late_is_given_up() {
        let (dir, mut config) = config("");
        std::fs::write(config.docker_config.as_ref().unwrap(), r#"{"credsStore":"surely-not-installed-anywhere"}"#)
            .unwrap();
        let error = find(&config, "r.example").await.unwrap_err().to_string();
        assert!(error.contains("could not be started"), "{error}");
        // A pipe that nobody writes to keeps its reader waiting as a helper would that hangs.
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        config.docker_config = Some(pipe);
        config.timeouts.helper = Duration::from_millis(50);
        let error = find(&config, "r.example").await.unwrap_err().to_string();
        assert!(error.contains("did not answer within"), "{error}");
    }
}
