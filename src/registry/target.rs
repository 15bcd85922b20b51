//! Where a request goes.

use std::sync::Arc;

use url::Url;

use super::hosts::Endpoint;
use super::reach::Reach;

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// A path below each host's base, and the query.
    Path(String, Vec<(&'static str, String)>),
    /// A path of Harbor's own interface, which stands beside the protocol's on the same host, and the query.
    Harbor(String, Vec<(&'static str, String)>),
    /// An address that one host named.
    Named(Place),
}

/// An address that a host named, and what is known of that host.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) url: Url,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) chooser: Reach,
}

impl Target {
    /// Returns whether it is an address that the host with this base named of itself.
    pub(super) fn is_named_by(&self, base: &Url) -> bool {
        matches!(self, Target::Named(place) if place.url.origin() == base.origin())
    }

    /// Works out the address at a host, and who chose it.
    pub(super) fn at(&self, base: &Url, endpoint: &Endpoint) -> (Url, Option<Reach>) {
        match self {
            Target::Named(place) => {
                let guard = (!self.is_named_by(base)).then_some(place.chooser);
                (place.url.clone(), guard)
            }
            Target::Harbor(path, query) => {
                let mut url = base.clone();
                let before: Vec<_> = base.path_segments().into_iter().flatten().map(str::to_owned).collect();
                let before = &before[..before.iter().rposition(|segment| segment == "v2").unwrap_or(0)];
                if let Ok(mut segments) = url.path_segments_mut() {
                    segments.clear().extend(before).extend(["api", "v2.0"]).extend(path.split('/'));
                }
                if !query.is_empty() {
                    url.query_pairs_mut().extend_pairs(query);
                }
                (url, None)
            }
            Target::Path(path, query) => {
                let mut url = base.clone();
                if let Ok(mut segments) = url.path_segments_mut() {
                    // Encodes whatever is not a path's, and leaves out `.` and `..`.
                    segments.pop_if_empty().extend(path.split('/'));
                }
                if !query.is_empty() || endpoint.mirror_of.is_some() {
                    let mut pairs = url.query_pairs_mut();
                    pairs.extend_pairs(query);
                    if let Some(registry) = &endpoint.mirror_of {
                        pairs.append_pair("ns", registry);
                    }
                }
                (url, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Config, hosts};

    #[test]
    fn paths_stay_below_the_base() {
        let config = Config::default();
        let mut endpoint = hosts::load(&config, "r.example").unwrap().remove(0);
        let url = |endpoint: &Endpoint, path: &str, query: Vec<(&'static str, String)>| {
            Target::Path(path.into(), query).at(&endpoint.base, endpoint).0.to_string()
        };
        assert_eq!(url(&endpoint, "a/b/manifests/1", vec![]), "https://r.example/v2/a/b/manifests/1");
        assert_eq!(url(&endpoint, "a/blobs/uploads/", vec![]), "https://r.example/v2/a/blobs/uploads/");
        assert_eq!(url(&endpoint, "../../x?y#z", vec![]), "https://r.example/v2/x%3Fy%23z");
        let harbor = |endpoint: &Endpoint, query: Vec<(&'static str, String)>| {
            Target::Harbor("projects/shop".into(), query).at(&endpoint.base, endpoint).0.to_string()
        };
        assert_eq!(harbor(&endpoint, vec![]), "https://r.example/api/v2.0/projects/shop");
        endpoint.base = "https://r.example/registry/v2/proxy/".parse().unwrap();
        assert_eq!(
            harbor(&endpoint, vec![("page", "1".into())]),
            "https://r.example/registry/api/v2.0/projects/shop?page=1"
        );
        endpoint.base = "https://r.example/other/".parse().unwrap();
        assert_eq!(harbor(&endpoint, vec![]), "https://r.example/api/v2.0/projects/shop");
        endpoint.base = "https://r.example/v2/".parse().unwrap();
        endpoint.mirror_of = Some("docker.io".into());
        assert_eq!(
            url(&endpoint, "a/tags/list", vec![("n", "5".into())]),
            "https://r.example/v2/a/tags/list?n=5&ns=docker.io"
        );
    }
}
