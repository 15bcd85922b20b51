//! Connection pools, one for each way to connect, made when they are first needed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::{NoProxy, redirect};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Result;
use super::config::{Config, Proxy};
use super::error::Error;
use super::hosts::Profile;
use super::reach::{Guarded, Reach};

/// What goes directly whatever is set: a proxy cannot reach this machine's own registry.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1";
/// How much an HTTP/2 peer may send unasked; the default of 64 KiB is a round trip each 64 KiB.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const IDLE: Duration = Duration::from_secs(30);

/// The connection pools.
#[derive(Debug, Default)]
pub(super) struct Pools {
    made: Mutex<HashMap<(Profile, Option<Reach>), reqwest::Client>>,
    system: Arc<OnceLock<RootCertStore>>,
}

impl Pools {
    /// Returns the pool for a way to connect, guarded when a registry of that reach chose the address.
    pub(super) fn get(&self, config: &Config, profile: &Profile, guard: Option<Reach>) -> Result<reqwest::Client> {
        let key = (profile.clone(), guard);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        let client = self.make(config, profile, guard)?;
        made.insert(key, client.clone());
        Ok(client)
    }

    fn make(&self, config: &Config, profile: &Profile, guard: Option<Reach>) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls(profile)?)
            .user_agent(config.user_agent.as_str())
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(profile.dial_timeout.unwrap_or(config.timeouts.connect))
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            // Shorter than servers keep idle connections: one they have closed would fail the next request.
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true);
        for proxy in proxies(&config.proxy)? {
            builder = builder.proxy(proxy);
        }
        if let Some(chooser) = guard {
            builder = builder.dns_resolver(Arc::new(Guarded(chooser)));
        }
        builder.build().map_err(|e| Error::SetUp { what: "HTTP client", reason: e.without_url().to_string() })
    }

    fn tls(&self, profile: &Profile) -> Result<ClientConfig> {
        let fail = |e: rustls::Error| Error::SetUp { what: "TLS", reason: e.to_string() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(fail)?;
        let builder = if profile.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(self.checked(provider, &profile.ca)?))
        };
        let mut config = match &profile.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key_file = key.as_ref().unwrap_or(certificate);
                let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| unusable(key_file, &e))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, key)
                    .map_err(|e| Error::Certificate { path: certificate.clone(), reason: e.to_string() })?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Makes the usual check of certificates: against the system's authorities and those in some files.
    fn checked(&self, provider: Arc<CryptoProvider>, files: &[std::path::PathBuf]) -> Result<Checked> {
        let mut extra = RootCertStore::empty();
        for path in files {
            for certificate in certificates(path)? {
                extra.add(certificate).map_err(|e| Error::Certificate { path: path.clone(), reason: e.to_string() })?;
            }
        }
        Ok(Checked { provider, system: Arc::clone(&self.system), extra, verifier: OnceLock::new() })
    }
}

/// Checks certificates against authorities, and reads those of the system only for the first certificate: they are many,
/// and a registry without TLS needs none of them.
#[derive(Debug)]
struct Checked {
    provider: Arc<CryptoProvider>,
    system: Arc<OnceLock<RootCertStore>>,
    extra: RootCertStore,
    verifier: OnceLock<std::result::Result<Arc<WebPkiServerVerifier>, VerifierBuilderError>>,
}

impl Checked {
    fn verifier(&self) -> std::result::Result<&WebPkiServerVerifier, rustls::Error> {
        let made = self.verifier.get_or_init(|| {
            let system = self.system.get_or_init(|| {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                store
            });
            let mut roots = system.clone();
            roots.extend(self.extra.roots.iter().cloned());
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build()
        });
        match made {
            Ok(verifier) => Ok(verifier),
            Err(VerifierBuilderError::NoRootAnchors) => Err(CertificateError::UnknownIssuer.into()),
            Err(error) => Err(rustls::Error::General(error.to_string())),
        }
    }
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn unusable(path: &Path, error: &rustls::pki_types::pem::Error) -> Error {
    let reason = match error {
        rustls::pki_types::pem::Error::NoItemsFound => "it holds nothing in PEM of the kind expected".to_owned(),
        other => other.to_string(),
    };
    Error::Certificate { path: path.to_owned(), reason }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| unusable(path, &e))?;
    if found.is_empty() {
        return Err(unusable(path, &rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn proxies(proxy: &Proxy) -> Result<Vec<reqwest::Proxy>> {
    let none = proxy.none.as_deref().unwrap_or_default();
    let none = NoProxy::from_string(&format!("{none},{NEVER_PROXIED}"));
    let http = proxy.http.iter().map(|address| reqwest::Proxy::http(address.expose()));
    let https = proxy.https.iter().map(|address| reqwest::Proxy::https(address.expose()));
    http.chain(https)
        .map(|made| match made {
            Ok(made) => Ok(made.no_proxy(none.clone())),
            // Its address may hold a password.
            Err(e) => Err(Error::SetUp { what: "proxy", reason: e.without_url().to_string() }),
        })
        .collect()
}

/// Takes any certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
