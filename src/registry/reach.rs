//! How far an address reaches, and which addresses a registry may send this program to.
//!
//! A registry chooses addresses: redirects, upload locations, token services, links. A hostile one could point into the
//! network of whoever runs ctrsh. The check is made on resolved addresses, because a name says nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// A name that resolves to no address that the registry may send us to.
#[derive(Debug, thiserror::Error)]
#[error("{name} ({address}) is an address that the registry may not send us to")]
pub(super) struct Forbidden {
    name: String,
    address: IpAddr,
}

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// The internet.
    Public,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This machine.
    Loopback,
    /// One link, where cloud metadata services answer; multicast counts as that, too.
    Link,
}

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        let [a, b, ..] = v4.octets();
        if v4.is_loopback() || a == 0 {
            Self::Loopback
        } else if v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() {
            Self::Link
        } else if v4.is_private() || (a == 100 && (64..128).contains(&b)) {
            Self::Private
        } else {
            Self::Public
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        if let Some(v4) = v6.to_ipv4_mapped() {
            return Self::of_v4(v4);
        }
        let s = v6.segments();
        // NAT64 and 6to4 carry an IPv4 address (RFC 6052, RFC 3056).
        if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
            return Self::of_v4(Ipv4Addr::from(u32::from(s[6]) << 16 | u32::from(s[7])));
        }
        if s[0] == 0x2002 {
            return Self::of_v4(Ipv4Addr::from(u32::from(s[1]) << 16 | u32::from(s[2])));
        }
        if v6.is_loopback() || v6.is_unspecified() {
            Self::Loopback
        } else if v6.is_unicast_link_local() || v6.is_multicast() {
            Self::Link
        } else if v6.is_unique_local() {
            Self::Private
        } else {
            Self::Public
        }
    }

    /// Returns what the host of an address tells without being resolved; a name counts as public.
    pub(super) fn of_literal(url: &Url) -> Self {
        match url.host() {
            Some(Host::Ipv4(v4)) => Self::of_v4(v4),
            Some(Host::Ipv6(v6)) => Self::of_v6(v6),
            Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => Self::Loopback,
            Some(Host::Domain(_)) | None => Self::Public,
        }
    }

    /// Returns whether a host of this reach may send us to an address of that one.
    pub(super) fn may_choose(self, target: Self) -> bool {
        match target {
            Self::Public => true,
            Self::Private => matches!(self, Self::Private | Self::Loopback),
            Self::Loopback => self == Self::Loopback,
            Self::Link => self == Self::Link,
        }
    }
}

/// Returns whether the host is this machine by its name alone, as containerd's `MatchLocalhost` does.
pub(super) fn is_localhost(url: &Url) -> bool {
    Reach::of_literal(url) == Reach::Loopback
}

/// Resolves names for addresses that a registry chose, and lets only those pass that it may choose.
pub(super) struct Guarded(pub(super) Reach);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let chooser = self.0;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> = found.iter().copied().filter(|a| chooser.may_choose(Reach::of(a.ip()))).collect();
            match (allowed.is_empty(), found.first()) {
                (true, Some(found)) => Err(Forbidden { name: name.as_str().to_owned(), address: found.ip() }.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classed() {
        for (text, reach) in [
            ("8.8.8.8", Reach::Public),
            ("10.1.2.3", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("127.8.8.8", Reach::Loopback),
            ("0.0.0.0", Reach::Loopback),
            ("169.254.169.254", Reach::Link),
            ("::1", Reach::Loopback),
            ("fd00::1", Reach::Private),
            ("fe80::1", Reach::Link),
            ("::ffff:169.254.169.254", Reach::Link),
            ("64:ff9b::a9fe:a9fe", Reach::Link),
            ("2002:7f00:1::", Reach::Loopback),
            ("2606:4700::1", Reach::Public),
        ] {
            assert_eq!(Reach::of(text.parse().unwrap()), reach, "{text}");
        }
    }

    #[test]
    fn nobody_is_sent_further_in() {
        assert!(Reach::Private.may_choose(Reach::Public));
        assert!(Reach::Loopback.may_choose(Reach::Private));
        assert!(!Reach::Public.may_choose(Reach::Private));
        assert!(!Reach::Private.may_choose(Reach::Loopback));
        assert!(!Reach::Loopback.may_choose(Reach::Link));
    }

    #[tokio::test]
    async fn a_name_that_resolves_inwards_is_refused() {
        let resolve = |reach| Guarded(reach).resolve("localhost".parse().unwrap());
        let error = resolve(Reach::Public).await.err().unwrap();
        assert!(error.is::<Forbidden>(), "{error}");
        assert!(resolve(Reach::Loopback).await.unwrap().count() > 0);
    }
}
