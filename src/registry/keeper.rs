//! Keeping and forgetting credentials: Docker's config file, or the credential helper that it names.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

use super::credentials::{gave_up, key, server, stored};
use super::error::plain;
use super::{Client, Credential, Error, Result};
use crate::grant::{Access, Grant};

/// The user that stands beside an identity token (docker/cli, cli/config/credentials).
const TOKEN_USER: &str = "<token>";

/// Who keeps a registry's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// Docker's config file itself.
    File(PathBuf),
    /// The program `docker-credential-NAME`.
    Helper {
        /// The name.
        name: String,
        /// Docker's config file, which lists the registry all the same.
        file: PathBuf,
    },
}

impl Keeper {
    fn file(&self) -> &Path {
        match self {
            Self::File(file) | Self::Helper { file, .. } => file,
        }
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Helper { name, .. } => write!(f, "docker-credential-{}", plain(name, 100)),
        }
    }
}

impl Client {
    /// Finds out who keeps the credentials of a registry: the helper that Docker's file names for it, else the file.
    ///
    /// # Errors
    /// [`Error::Keeping`] when there is no place for the file, or it cannot be understood.
    pub fn keeper(&self, registry: &str) -> Result<Keeper> {
        let fail = |reason| Error::Keeping { host: registry.to_owned(), reason };
        let Some(file) = self.config().docker_config.clone() else {
            return Err(fail("there is no home folder for Docker's config file; DOCKER_CONFIG names another".into()));
        };
        let document = read(&file).map_err(fail)?;
        let named = document.get("credHelpers").and_then(|helpers| helpers.get(server(registry)));
        let named = named.or_else(|| document.get("credsStore")).and_then(Value::as_str);
        match named.filter(|name| !name.is_empty()) {
            None => Ok(Keeper::File(file)),
            Some(name) if name.contains('/') => {
                Err(fail(format!("{} names a helper that is not a program's name", file.display())))
            }
            Some(name) => Ok(Keeper::Helper { name: name.to_owned(), file }),
        }
    }

    /// Returns whether Docker's file or its helper has credentials for a registry.
    ///
    /// # Errors
    /// [`Error::Credentials`] when they cannot be asked.
    pub async fn is_kept(&self, registry: &str) -> Result<bool> {
        Ok(stored(self.config(), registry).await?.is_some())
    }

    /// Keeps credentials for a registry, in place of those that were kept before.
    ///
    /// # Errors
    /// [`Error::Refused`] by the grant; [`Error::Keeping`] when the file or helper does not take them.
    pub async fn keep(&self, registry: &str, credential: &Credential, grant: &Grant) -> Result<Keeper> {
        grant.check(Access::Write, "keeping credentials", registry)?;
        let (keeper, server) = (self.keeper(registry)?, server(registry));
        let fail = |reason| Error::Keeping { host: registry.to_owned(), reason };
        let entry = match (&keeper, credential) {
            (Keeper::File(_), Credential::Password { user, password }) => {
                let both = Zeroizing::new(format!("{user}:{}", password.expose()));
                json!({ "auth": STANDARD.encode(both.as_bytes()) })
            }
            (Keeper::File(_), Credential::Identity(token)) => json!({ "identitytoken": token.expose() }),
            (Keeper::Helper { name, .. }, credential) => {
                let (user, secret) = match credential {
                    Credential::Password { user, password } => (user.as_str(), password),
                    Credential::Identity(token) => (TOKEN_USER, token),
                };
                let told = json!({ "ServerURL": server, "Username": user, "Secret": secret.expose() });
                self.help(name, "store", &Zeroizing::new(told.to_string())).await.map_err(fail)?;
                json!({})
            }
        };
        let change = move |auths: &mut Map<String, Value>| auths.insert(server, entry.clone()).as_ref() != Some(&entry);
        edit(keeper.file().to_owned(), change).await.map_err(fail)?;
        self.forget_logins();
        Ok(keeper)
    }

    /// Forgets the credentials that are kept for a registry.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub async fn forget(&self, registry: &str, grant: &Grant) -> Result<()> {
        grant.check(Access::Write, "forgetting credentials", registry)?;
        let (keeper, server) = (self.keeper(registry)?, server(registry));
        let fail = |reason| Error::Keeping { host: registry.to_owned(), reason };
        if let Keeper::Helper { name, .. } = &keeper {
            match self.help(name, "erase", &server).await {
                // What every helper says when it has none (docker-credential-helpers, credentials/error.go).
                Err(reason) if reason.contains("credentials not found") => {}
                other => other.map_err(fail)?,
            }
        }
        let host = key(registry).to_owned();
        let change = move |auths: &mut Map<String, Value>| {
            let before = auths.len();
            auths.retain(|name, _| *name != server && bare(name) != host);
            auths.len() < before
        };
        edit(keeper.file().to_owned(), change).await.map_err(fail)?;
        self.forget_logins();
        Ok(())
    }

    fn forget_logins(&self) {
        for client in self.all() {
            client.shared.logins.forget();
        }
    }

    /// Runs a credential helper with an action and what it is told (docker-credential-helpers, README).
    async fn help(&self, name: &str, action: &str, told: &str) -> std::result::Result<(), String> {
        let program = format!("docker-credential-{name}");
        let shown = plain(&program, 120);
        let limit = self.config().timeouts.helper;
        let work = async {
            let mut child = tokio::process::Command::new(&program)
                .arg(action)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(|e| format!("{shown} could not be started: {e}"))?;
            if let Some(mut stdin) = child.stdin.take() {
                // A helper that does not read what it is told says so by its status.
                let _ = stdin.write_all(told.as_bytes()).await;
            }
            let output = child.wait_with_output().await.map_err(|e| format!("{shown} failed: {e}"))?;
            if output.status.success() {
                return Ok(());
            }
            let said = if output.stderr.trim_ascii().is_empty() { output.stdout } else { output.stderr };
            Err(format!("{shown} failed: {}", plain(String::from_utf8_lossy(&said).trim(), 300)))
        };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(gave_up(limit)))
    }
}

/// Returns the host that a name of Docker's file is about: older versions wrote addresses.
fn bare(name: &str) -> &str {
    let rest = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let rest = rest.trim_end_matches('/');
    rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest)
}

fn read(file: &Path) -> std::result::Result<Map<String, Value>, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(format!("{} cannot be read: {error}", file.display())),
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    // The parser's own words may quote the file, which holds passwords.
    serde_json::from_str(&text).map_err(|error| {
        format!("{} is not a JSON object (line {}, column {})", file.display(), error.line(), error.column())
    })
}

/// Changes the `auths` of Docker's file and leaves all else in it as it is. A file that need not change is not touched.
async fn edit(
    file: PathBuf,
    change: impl FnOnce(&mut Map<String, Value>) -> bool + Send + 'static,
) -> std::result::Result<(), String> {
    let work = move || {
        // A file that is a link stays one.
        let file = file.canonicalize().unwrap_or(file);
        let fail = |error: std::io::Error| format!("{} cannot be written: {error}", file.display());
        let folder = file.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
        // Two logins at the same time would lose one. Where the file system knows no locks, that stays so.
        let lock = File::open(folder).map_err(fail)?;
        let _ = rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive);
        let mut document = read(&file)?;
        let auths = document.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        let Some(auths) = auths.as_object_mut() else {
            return Err(format!("{} has 'auths' that is not an object", file.display()));
        };
        if !change(auths) {
            return Ok(());
        }
        write(&file, folder, &document).map_err(fail)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

/// Writes Docker's file as Docker does, with tabs; whole or not at all, and for its owner alone.
fn write(file: &Path, folder: &Path, document: &Map<String, Value>) -> std::io::Result<()> {
    let mut text = Zeroizing::new(Vec::new());
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut *text, formatter))?;
    // Made with mode 0600.
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    if let Ok(old) = file.metadata() {
        // Root may change the file of another user, who has to be able to read it still.
        let _ = std::os::unix::fs::fchown(fresh.as_file(), Some(old.uid()), Some(old.gid()));
    }
    fresh.write_all(&text)?;
    fresh.as_file().sync_all()?;
    fresh.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::grant::Allow;
    use crate::registry::Config;

    fn grant() -> Grant {
        Grant::new(Allow::all(), CancellationToken::new())
    }

    fn client(file: &Path) -> Client {
        Client::new(Config { docker_config: Some(file.to_owned()), ..Config::default() })
    }

    #[test]
    fn names_of_older_versions_are_known() {
        for name in ["r.example:5", "https://r.example:5", "http://r.example:5/", "https://r.example:5/v2/"] {
            assert_eq!(bare(name), "r.example:5");
        }
        assert_eq!(bare("r.example/team"), "r.example/team");
    }

    #[tokio::test]
    async fn all_else_in_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real.json"), dir.path().join("config.json"));
        let text = "{\n\t\"zeta\": 1.50,\n\t\"auths\": {\n\t\t\"b.example\": {\n\t\t\t\"auth\": \"Yjpi\",\n\t\t\t\"email\": \"x\"\n\t\t}\n\t},\n\t\"alpha\": [\n\t\t{}\n\t]\n}";
        std::fs::write(&file, text).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let client = client(&link);
        let ann = Credential::password("ann", "pa:ss");
        let keeper = client.keep("a.example", &ann, &grant()).await.unwrap();
        assert_eq!(keeper, Keeper::File(link.clone()));
        assert_eq!(stored(client.config(), "a.example").await.unwrap(), Some(ann));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        client.keep("docker.io", &Credential::Identity("tok".into()), &grant()).await.unwrap();
        let document = read(&file).unwrap();
        assert_eq!(document["auths"]["https://index.docker.io/v1/"], json!({ "identitytoken": "tok" }));
        for host in ["a.example", "registry-1.docker.io"] {
            assert!(client.is_kept(host).await.unwrap());
            client.forget(host, &grant()).await.unwrap();
            assert!(!client.is_kept(host).await.unwrap());
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text.replace("1.50", "1.5"));
    }

    #[tokio::test]
    async fn a_folder_is_made_and_a_broken_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/config.json");
        client(&file).keep("a.example", &Credential::password("a", "b"), &grant()).await.unwrap();
        assert_eq!(file.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for broken in ["{ \"auths\": \"secret", "[]", "{\"auths\":[1]}"] {
            std::fs::write(&file, broken).unwrap();
            let kept = client(&file).keep("a.example", &Credential::password("a", "b"), &grant()).await;
            let error = kept.unwrap_err().to_string();
            assert!(error.contains("config.json") && !error.contains("secret"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), broken);
        }
        let planning = client(&file).forget("a.example", &grant().planning()).await;
        assert!(matches!(planning, Err(Error::Refused(_))));
    }

    #[tokio::test]
    async fn logins_at_the_same_time_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        let hosts: Vec<String> = (0..20).map(|n| format!("r{n}.example")).collect();
        let client = client(&file);
        let (grant, credential) = (grant(), Credential::password("a", "b"));
        let all = hosts.iter().map(|host| client.keep(host, &credential, &grant));
        futures_util::future::try_join_all(all).await.unwrap();
        assert_eq!(read(&file).unwrap()["auths"].as_object().unwrap().len(), 20);
    }
}
