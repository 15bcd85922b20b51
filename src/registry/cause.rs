//! Why a registry cannot be reached.

use super::reach::Forbidden;

/// Why a connection could not be made, as far as that changes what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nobody listens there.
    Refused,
    /// What answers there does not speak TLS.
    NotTls,
    /// One side does not take the other's certificate.
    Certificate,
    /// No name server knows the host.
    Unknown,
    /// It is an address that the registry may not choose.
    Forbidden,
    /// Anything else, which may pass.
    Other,
}

impl Cause {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return match tls {
                    rustls::Error::InvalidMessage(_) => Self::NotTls,
                    rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_) => Self::Certificate,
                    _ => Self::Other,
                };
            }
            if error.is::<Forbidden>() {
                return Self::Forbidden;
            }
            if is_unknown_host(&error.to_string()) {
                return Self::Unknown;
            }
            next = match error.downcast_ref::<std::io::Error>() {
                Some(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => return Self::Refused,
                // What an I/O error carries is not its source, but stands in its place.
                Some(io) => io.get_ref().map(|inner| inner as _).or_else(|| error.source()),
                None => error.source(),
            };
        }
        Self::Other
    }
}

/// Reads what the C library says of a name for which there is no address, which is text alone by the time it is here, and
/// rustls of one that cannot be a host's.
fn is_unknown_host(text: &str) -> bool {
    const GLIBC: [&str; 2] = ["Name or service not known", "No address associated with hostname"];
    const MUSL: [&str; 2] = ["Name does not resolve", "Name has no usable address"];
    text == "invalid dns name"
        || text
            .strip_prefix("failed to lookup address information: ")
            .is_some_and(|said| GLIBC.contains(&said) || MUSL.contains(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_nobody_knows_is_told_from_a_name_server_that_is_away() {
        for said in ["Name or service not known", "No address associated with hostname", "Name does not resolve"] {
            assert!(is_unknown_host(&format!("failed to lookup address information: {said}")), "{said}");
        }
        for said in ["Temporary failure in name resolution", "Non-recoverable failure in name resolution", "Try again"]
        {
            assert!(!is_unknown_host(&format!("failed to lookup address information: {said}")), "{said}");
        }
    }
}
