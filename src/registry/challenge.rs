//! What a registry asks for when it answers 401 (RFC 9110, section 11.6.1; the distribution project's token specification).

use http_auth::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What the registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from a token service.
    Bearer {
        /// The address of the token service.
        realm: String,
        /// What the token service calls the registry.
        service: Option<String>,
        /// What the token must allow, parted by spaces.
        scope: Option<String>,
    },
    /// A user and password with each request.
    Basic,
}

impl Challenge {
    /// Reads the challenges of an answer, which may stand in several headers, and takes the best: Bearer before Basic.
    pub(super) fn best(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for header in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(text) = header.to_str() else { continue };
            // What cannot be parsed ends the header; the challenges before it count.
            for challenge in ChallengeParser::new(text).map_while(Result::ok) {
                let param = |name: &str| {
                    challenge
                        .params
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, v)| v.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    if let Some(realm) = param("realm").filter(|realm| !realm.is_empty()) {
                        return Some(Self::Bearer {
                            realm,
                            service: param("service").filter(|s| !s.is_empty()),
                            scope: param("scope").filter(|s| !s.is_empty()),
                        });
                    }
                } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(headers: &[&str]) -> Option<Challenge> {
        Challenge::best(&headers.iter().map(|h| (WWW_AUTHENTICATE, h.parse().unwrap())).collect())
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) })
    }

    #[test]
    fn bearer_goes_before_basic_wherever_it_stands() {
        let want = bearer("https://auth.example/token", Some("reg"), None);
        assert_eq!(best(&[r#"Basic realm="x", Bearer realm="https://auth.example/token",service="reg""#]), want);
        assert_eq!(best(&[r#"Basic realm="x""#, r#"Bearer realm="https://auth.example/token",service="reg""#]), want);
        assert_eq!(best(&[r#"BASIC realm="x""#]), Some(Challenge::Basic));
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[r#"Digest realm="x""#]), None);
    }

    #[test]
    fn quoted_commas_and_spaces_are_no_ends() {
        assert_eq!(
            best(&[
                r#"Bearer realm = "https://a.example/t" , service="r", scope="repository:a/b:pull,push repository:c:pull",error="insufficient_scope""#
            ]),
            bearer("https://a.example/t", Some("r"), Some("repository:a/b:pull,push repository:c:pull"))
        );
    }

    #[test]
    fn a_broken_header_is_not_used() {
        assert_eq!(best(&["Bearer realm"]), None);
        assert_eq!(best(&[r#"Bearer service="x""#]), None);
    }
}
