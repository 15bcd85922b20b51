//! Where the kubelet and nerdctl keep the logs of their containers.

use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::records::Form;
use crate::containerd::containers::Container;
use crate::ops::{Context, Error, Result};

/// What a container of the CRI plugin is (containerd `internal/cri/labels`): `container` or `sandbox`.
const KIND: &str = "io.cri-containerd.kind";

/// Where the CRI plugin keeps what the kubelet asked for, from containerd 2.0 on and before (`internal/cri/store/container`).
const METADATA: [&str; 2] = ["io.containerd.cri.container.metadata", "io.cri-containerd.container.metadata"];

/// Where the kubelet has the logs of all pods (`pkg/kubelet/kuberuntime`).
const PODS: &str = "/var/log/pods";

/// Where nerdctl keeps its files unless told otherwise, a folder a daemon below it.
const NERDCTL: &str = "/var/lib/nerdctl";

/// The log of another tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) path: PathBuf,
    pub(super) form: Form,
}

/// Finds the log that the kubelet or nerdctl keep of a container of theirs; none when it is no container of theirs. `root` is
/// where the file system of the node is, when that is not the one here.
///
/// # Errors
/// When it has none that could be read, or what is named is out of the usual place and the grant does not cover it.
pub(super) fn find(ctx: &Context, container: &Container, root: Option<&Path>) -> Result<Option<Kept>> {
    let refused = |cure: String| Error::NotFound {
        what: "log of container",
        name: container.id.clone(),
        nearest: None,
        cure: Some(cure),
    };
    let found = match container.labels.get(KIND).map(String::as_str) {
        Some("sandbox") => return Err(refused("it is the sandbox of a pod, which writes nothing".into())),
        Some(_) => of_pod(container, root).ok_or_else(|| refused("its record names no pod".into()))?,
        None => match of_nerdctl(ctx, container, root) {
            Some(found) => found.map_err(|driver| {
                refused(format!("its output goes to nerdctl's log driver {}", crate::oci::excerpt(&driver)))
            })?,
            None => return Ok(None),
        },
    };
    let usual = if found.form == Form::Cri { PODS } else { NERDCTL };
    let plain = found.path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if root.is_some() || !plain || !found.path.starts_with(usual) {
        ctx.check_path("read log", &found.path)?;
    }
    if !found.path.exists() {
        let path = found.path.display();
        return Err(refused(format!("it would be {path}; root says where the file system of its node is")));
    }
    Ok(Some(found))
}

/// Moves a path of the node below the folder where its file system is.
fn below(root: Option<&Path>, path: PathBuf) -> PathBuf {
    match root {
        None => path,
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(&path)),
    }
}

/// Returns a text that is the name of one file.
fn name(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.contains('/') && text != "." && text != "..").then_some(text)
}

fn of_pod(container: &Container, root: Option<&Path>) -> Option<Kept> {
    let kept = METADATA.iter().find_map(|key| container.extensions.get(*key));
    let kept: Option<Value> = kept.and_then(|kept| serde_json::from_slice(&kept.value).ok());
    let path =
        kept.as_ref().and_then(|kept| kept.pointer("/Metadata/LogPath")?.as_str()).filter(|path| !path.is_empty());
    if let Some(path) = path {
        return Some(Kept { path: below(root, path.into()), form: Form::Cri });
    }
    let label = |key: &str| container.labels.get(key).and_then(|text| name(text));
    let pod = ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.pod.uid"].map(label);
    let [Some(namespace), Some(pod), Some(uid)] = pod else { return None };
    let folder = Path::new(PODS).join(format!("{namespace}_{pod}_{uid}")).join(label("io.kubernetes.container.name")?);
    let folder = below(root, folder);
    let count = label("io.kubernetes.container.restartCount").and_then(|count| count.parse().ok());
    let count = count.or_else(|| last_of(&folder)).unwrap_or(0_u32);
    Some(Kept { path: folder.join(format!("{count}.log")), form: Form::Cri })
}

/// Returns the highest restart that a folder has a log of.
fn last_of(folder: &Path) -> Option<u32> {
    let files = std::fs::read_dir(folder).ok()?.flatten();
    files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".log")?.parse().ok()).max()
}

/// The failure is another log driver than `json-file`.
fn of_nerdctl(ctx: &Context, container: &Container, root: Option<&Path>) -> Option<std::result::Result<Kept, String>> {
    let label = |key: &str| container.labels.get(key).map(String::as_str).filter(|text| !text.is_empty());
    // binary:///usr/local/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59
    let store = label("nerdctl/log-uri").and_then(|uri| {
        let (_, query) = uri.split_once('?')?;
        let store = query.split('&').find_map(|pair| pair.strip_prefix("_NERDCTL_INTERNAL_LOGGING="))?;
        Some(PathBuf::from(percent_decode_str(store).decode_utf8_lossy().into_owned()))
    });
    let id = name(&container.id)?;
    let folder = match store {
        Some(store) => store.join("containers").join(ctx.namespace()).join(id),
        None => PathBuf::from(label("nerdctl/state-dir")?),
    };
    let config: Option<Value> = label("nerdctl/log-config").and_then(|text| serde_json::from_str(text).ok());
    let driver = config.as_ref().and_then(|config| config.get("driver")?.as_str()).unwrap_or("json-file");
    if driver != "json-file" {
        return Some(Err(driver.to_owned()));
    }
    let chosen = config.as_ref().and_then(|config| config.pointer("/opts/log-path")?.as_str()).map(PathBuf::from);
    let path = chosen.unwrap_or_else(|| folder.join(format!("{id}-json.log")));
    Some(Ok(Kept { path: below(root, path), form: Form::Json }))
}
