//! A private certificate authority and what it signed.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// A certificate authority's certificate, and a server's and a client's certificate and key, as PEM files.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate, which a client is to trust.
    pub ca: PathBuf,
    /// The server's certificate, for `localhost` and 127.0.0.1.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// A client's certificate.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes a new authority and lets it sign a server's and a client's certificate.
    pub fn make(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "ctrsh test authority");
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();

        let mut server = CertificateParams::new(["localhost".to_owned()]).unwrap();
        server.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        server.distinguished_name.push(DnType::CommonName, "ctrsh test registry");
        let key = KeyPair::generate().unwrap();
        let server = server.signed_by(&key, &authority).unwrap();

        let mut client = CertificateParams::new(Vec::new()).unwrap();
        client.distinguished_name.push(DnType::CommonName, "ctrsh test client");
        client.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let client_key = KeyPair::generate().unwrap();
        let client = client.signed_by(&client_key, &authority).unwrap();

        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        Self {
            ca: write("ca.crt", authority.pem()),
            certificate: write("server.crt", server.pem()),
            key: write("server.key", key.serialize_pem()),
            client: write("client.crt", client.pem()),
            client_key: write("client.key", client_key.serialize_pem()),
        }
    }
}
