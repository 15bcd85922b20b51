//! Reading a `hosts.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use toml::{Table, Value};
use url::Url;

use super::{Capability, Endpoint, Identity, Profile};
use crate::registry::error::{Error, plain};
use crate::registry::{Result, reach};

/// The keys of a host; `server` and `host` stand beside them at the top.
const KEYS: [&str; 7] = ["capabilities", "ca", "client", "header", "skip_verify", "override_path", "dial_timeout"];

/// Reads a file's hosts, in its order, the server last.
pub(super) fn read(path: &Path, registry: &str) -> Result<Vec<Endpoint>> {
    let fail = |reason: String| Error::Hosts { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    let top: Table = text.parse().map_err(|e: toml::de::Error| fail(plain(e.to_string().trim(), 300)))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut endpoints = Vec::new();
    if let Some(hosts) = top.get("host") {
        let hosts = hosts.as_table().ok_or_else(|| fail("'host' is not a table".into()))?;
        for (address, settings) in hosts {
            let settings = settings.as_table().ok_or_else(|| fail(format!("host '{address}' is not a table")))?;
            let mut endpoint = endpoint(address, settings, folder).map_err(&fail)?;
            name(&mut endpoint, registry);
            endpoints.push(endpoint);
        }
    }
    let own: Table =
        top.iter().filter(|(key, _)| *key != "host" && *key != "server").map(|(k, v)| (k.clone(), v.clone())).collect();
    let server = match top.get("server") {
        None => registry,
        Some(server) => server.as_str().ok_or_else(|| fail("'server' is not a string".into()))?,
    };
    let mut last = endpoint(server, &own, folder).map_err(&fail)?;
    if last.base.host_str() == Some("docker.io") {
        // The name of images is not the name of the host that has them.
        last.base.set_host(Some("registry-1.docker.io")).map_err(|e| fail(e.to_string()))?;
    }
    last.fallback = !server.contains("://") && reach::is_localhost(&last.base);
    name(&mut last, registry);
    endpoints.push(last);
    Ok(endpoints)
}

/// Marks a host that is another than the registry it answers for (containerd, `core/remotes/docker/registry.go`).
fn name(endpoint: &mut Endpoint, registry: &str) {
    let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
    let own = Url::parse(&format!("{}://{registry}", endpoint.base.scheme()))
        .is_ok_and(|own| place(&own) == place(&endpoint.base));
    if own || (registry == "docker.io" && endpoint.base.host_str() == Some("registry-1.docker.io")) {
        endpoint.login = registry.to_owned();
    } else {
        endpoint.mirror_of = Some(registry.to_owned());
        endpoint.login = super::authority(&endpoint.base);
    }
}

fn endpoint(address: &str, settings: &Table, folder: &Path) -> std::result::Result<Endpoint, String> {
    for key in settings.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        tracing::warn!(address, key, "unknown key in hosts.toml");
    }
    let text = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let mut base = Url::parse(&text).map_err(|e| format!("'{}' is not an address: {e}", plain(address, 100)))?;
    if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
        return Err(format!("'{}' is not an address of http or https", plain(address, 100)));
    }
    let override_path = boolean(settings, "override_path")?;
    let path = base.path().trim_end_matches('/').to_owned();
    let path = if override_path || path.ends_with("/v2") { path } else { format!("{path}/v2") };
    base.set_path(&format!("{path}/"));
    Ok(Endpoint {
        base,
        can: capabilities(settings)?,
        profile: Profile {
            ca: files(settings, "ca", folder)?,
            client: clients(settings, folder)?.into_iter().next(),
            skip_verify: boolean(settings, "skip_verify")?,
            dial_timeout: dial_timeout(settings)?,
        },
        headers: headers(settings)?,
        mirror_of: None,
        fallback: false,
        login: String::new(),
    })
}

fn boolean(settings: &Table, key: &str) -> std::result::Result<bool, String> {
    settings
        .get(key)
        .map_or(Ok(false), |value| value.as_bool().ok_or_else(|| format!("'{key}' is neither true nor false")))
}

fn capabilities(settings: &Table) -> std::result::Result<Vec<Capability>, String> {
    let Some(value) = settings.get("capabilities") else { return Ok(Capability::ALL.to_vec()) };
    let list = value.as_array().ok_or("'capabilities' is not a list")?;
    list.iter()
        .map(|item| {
            let name = item.as_str().ok_or("'capabilities' has something that is not a string")?;
            Capability::ALL.into_iter().find(|c| c.as_str() == name).ok_or_else(|| {
                format!("'{}' is not a capability; there are pull, resolve, push, referrers", plain(name, 40))
            })
        })
        .collect()
}

fn strings<'a>(value: &'a Value, key: &str) -> std::result::Result<Vec<&'a str>, String> {
    let wrong = || format!("'{key}' is neither a string nor a list of strings");
    match value {
        Value::String(one) => Ok(vec![one]),
        Value::Array(many) => many.iter().map(|item| item.as_str().ok_or_else(wrong)).collect(),
        _ => Err(wrong()),
    }
}

fn files(settings: &Table, key: &str, folder: &Path) -> std::result::Result<Vec<PathBuf>, String> {
    let Some(value) = settings.get(key) else { return Ok(Vec::new()) };
    Ok(strings(value, key)?.into_iter().map(|name| folder.join(name)).collect())
}

/// Reads client certificates: a file, a list of files, or a list of pairs of certificate and key.
fn clients(settings: &Table, folder: &Path) -> std::result::Result<Vec<Identity>, String> {
    let wrong = "'client' is neither a file, a list of files nor a list of pairs of certificate and key";
    let Some(value) = settings.get("client") else { return Ok(Vec::new()) };
    let one = |item: &Value| match item {
        Value::String(file) => Ok((folder.join(file), None)),
        Value::Array(pair) => match &pair[..] {
            [Value::String(certificate)] => Ok((folder.join(certificate), None)),
            [Value::String(certificate), Value::String(key)] => {
                Ok((folder.join(certificate), (!key.is_empty()).then(|| folder.join(key))))
            }
            _ => Err(wrong.to_owned()),
        },
        _ => Err(wrong.to_owned()),
    };
    match value {
        Value::String(_) => Ok(vec![one(value)?]),
        Value::Array(items) => items.iter().map(one).collect(),
        _ => Err(wrong.to_owned()),
    }
}

fn headers(settings: &Table) -> std::result::Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    let Some(value) = settings.get("header") else { return Ok(map) };
    for (name, values) in value.as_table().ok_or("'header' is not a table")? {
        let header: HeaderName = name.parse().map_err(|_| format!("'{}' is not a header's name", plain(name, 60)))?;
        for text in strings(values, name)? {
            let mut value =
                HeaderValue::from_str(text).map_err(|_| format!("the header '{name}' has no usable value"))?;
            // A header of the file is often a key.
            value.set_sensitive(true);
            map.append(header.clone(), value);
        }
    }
    Ok(map)
}

fn dial_timeout(settings: &Table) -> std::result::Result<Option<Duration>, String> {
    let Some(value) = settings.get("dial_timeout") else { return Ok(None) };
    let wrong = || "'dial_timeout' is not a duration such as \"3s\"".to_owned();
    let duration = humantime::parse_duration(value.as_str().ok_or_else(wrong)?).map_err(|_| wrong())?;
    Ok((!duration.is_zero()).then_some(duration))
}
