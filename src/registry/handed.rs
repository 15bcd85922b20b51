//! What somebody else is told who asks a registry in this client's place, as containerd's transfer service does.

use std::path::PathBuf;

use super::{Client, Credential, Options, Result, credentials, hosts};

/// How a registry is reached, as far as it is not the usual way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handed {
    /// Whether HTTP without TLS is spoken.
    pub plain_http: bool,
    /// Whether the certificate goes unchecked.
    pub skip_verify: bool,
    /// Whether authorities beside the system's are trusted.
    pub authorities: bool,
    /// Whether there is a client certificate.
    pub certificate: bool,
    /// The folder of `hosts.toml` files: the one that the call names, else the first that has the registry.
    pub hosts_dir: Option<PathBuf>,
}

impl Client {
    /// Says how a registry is reached, by the options of a call and what is configured.
    #[must_use]
    pub fn handed(&self, registry: &str, options: &Options) -> Handed {
        let variant = self.variant(registry, options);
        let config = variant.config();
        let named = options.hosts_dirs.as_ref().and_then(|dirs| dirs.first());
        let hosts_dir = named.or_else(|| config.hosts_dirs.iter().find(|dir| hosts::folder(dir, registry).is_some()));
        Handed {
            plain_http: config.plain_http.contains(registry),
            skip_verify: config.skip_verify.contains(registry),
            authorities: !config.tls.ca.is_empty(),
            certificate: config.tls.client.is_some(),
            hosts_dir: hosts_dir.cloned(),
        }
    }

    /// Finds the credentials of a host that is asked for the sake of a registry: the registry's own are for no other host.
    ///
    /// # Errors
    /// When Docker's file or a helper of it cannot be used.
    pub async fn credential_of(&self, host: &str, registry: &str, options: &Options) -> Result<Option<Credential>> {
        credentials::find(self.variant(registry, options).config(), host).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Config;

    #[tokio::test]
    async fn a_password_is_for_the_registry_that_it_was_given_for() {
        let client = Client::new(Config::default());
        let given = Some(Credential::password("ann", "secret"));
        let options = Options { credential: given.clone(), ..Options::default() };
        let of = |host: &'static str, registry: &'static str| client.credential_of(host, registry, &options);
        assert_eq!(of("registry-1.docker.io", "docker.io").await.unwrap(), given);
        assert_eq!(of("r.example:5000", "r.example:5000").await.unwrap(), given);
        assert_eq!(of("mirror.example", "docker.io").await.unwrap(), None);
        assert_eq!(of("r.example", "r.example:5000").await.unwrap(), None);
    }

    #[test]
    fn what_is_configured_and_what_a_call_says_are_both_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("r.example")).unwrap();
        let mut config = Config { hosts_dirs: vec![folder.path().to_owned()], ..Config::default() };
        config.skip_verify.insert("r.example".into());
        let client = Client::new(config);
        let told = client.handed("r.example", &Options { plain_http: true, ..Options::default() });
        let here = Some(folder.path().to_owned());
        let expected = Handed { plain_http: true, skip_verify: true, hosts_dir: here, ..Handed::default() };
        assert_eq!(told, expected);
        assert_eq!(client.handed("s.example", &Options::default()), Handed::default());
        let there = Options { hosts_dirs: Some(vec!["/there".into()]), ..Options::default() };
        assert_eq!(client.handed("s.example", &there).hosts_dir, Some("/there".into()));
    }
}
