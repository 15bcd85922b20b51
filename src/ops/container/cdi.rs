//! Finds devices by name in the files that their vendors put on this host (Container Device Interface).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::oci::spec::{CdiEdits, CdiName, CdiNode, CdiSpec};
use crate::ops::error::nearest;
use crate::ops::{Error, Result};

/// Where the files are: those that were installed, and over them those that are made while the machine runs.
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The largest file that is read: 4 MiB.
const MAX_FILE: u64 = 4 << 20;

/// A device, by the file that has it.
#[derive(Clone)]
struct Found {
    file: usize,
    edits: CdiEdits,
    /// How many files of the same folder have it.
    times: usize,
}

/// The devices of some folders.
#[derive(Default)]
struct Known {
    files: Vec<(PathBuf, CdiSpec)>,
    devices: BTreeMap<String, Found>,
    unreadable: Vec<String>,
}

/// Looks devices up, and what they need on top of the host's own; without folders it is `/etc/cdi` and `/var/run/cdi`, of
/// which a later one counts more.
///
/// # Errors
/// [`Error::Argument`] for one that no file has, that several of one folder have, or whose nodes are not there.
pub fn named_devices(names: &[CdiName], folders: Option<&[PathBuf]>) -> Result<Vec<CdiEdits>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let usual = FOLDERS.map(PathBuf::from);
    let folders = folders.unwrap_or(&usual);
    let known = read(folders);
    let mut used = Vec::new();
    let mut edits = Vec::new();
    for name in names {
        let text = name.to_string();
        let Some(found) = known.devices.get(&text) else { return Err(unknown(&text, folders, &known)) };
        let no = |problem: String| Error::argument(format!("device {text}"), problem);
        let (path, spec) = &known.files[found.file];
        if found.times > 1 {
            let folder = path.parent().unwrap_or(path).display();
            return Err(no(format!("is in several files of {folder}, which contradict one another")));
        }
        // What all devices of a file need is needed once.
        if !used.contains(&found.file) {
            used.push(found.file);
            edits.push(filled(&spec.container_edits, &text)?);
        }
        edits.push(filled(&found.edits, &text)?);
    }
    Ok(edits)
}

fn unknown(name: &str, folders: &[PathBuf], known: &Known) -> Error {
    let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let near = nearest(name, known.devices.keys().map(String::as_str)).map(|near| format!("did you mean {near}?"));
    let unreadable = known.unreadable.first().map(|file| format!("; {file}"));
    Error::Argument {
        name: format!("device {}", crate::oci::excerpt(name)),
        problem: format!("is in no CDI file of {}{}", places.join(" or "), unreadable.unwrap_or_default()),
        cure: near.or_else(|| Some("the vendor's tools write them, as `nvidia-ctk cdi generate` does".into())),
    }
}

fn read(folders: &[PathBuf]) -> Known {
    let mut known = Known::default();
    for folder in folders {
        let mut here: BTreeMap<String, Found> = BTreeMap::new();
        let mut paths: Vec<_> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let spec = match parse(&path) {
                None => continue,
                Some(Ok(spec)) => spec,
                Some(Err(problem)) => {
                    tracing::warn!(path = %path.display(), %problem, "a CDI file cannot be used");
                    known.unreadable.push(format!("{} cannot be used: {problem}", path.display()));
                    continue;
                }
            };
            let file = known.files.len();
            for device in &spec.devices {
                let name = format!("{}={}", spec.kind, device.name);
                let found = Found { file, edits: device.container_edits.clone(), times: 0 };
                here.entry(name).or_insert(found).times += 1;
            }
            known.files.push((path, spec));
        }
        known.devices.extend(here);
    }
    known
}

/// Reads a file; nothing when its name says that it is none.
fn parse(path: &Path) -> Option<std::result::Result<CdiSpec, String>> {
    let yaml = match path.extension()?.to_str()? {
        "json" => false,
        "yaml" => true,
        _ => return None,
    };
    let read = || {
        let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
        if size > MAX_FILE {
            return Err("it is larger than 4 MiB".to_owned());
        }
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        if yaml {
            serde_saphyr::from_str(&text).map_err(|error| error.to_string())
        } else {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        }
    };
    Some(read())
}

/// Looks up what the vendor left to be looked up of the device nodes.
fn filled(edits: &CdiEdits, name: &str) -> Result<CdiEdits> {
    let mut edits = edits.clone();
    for node in &mut edits.device_nodes {
        fill(node).map_err(|problem| Error::argument(format!("device {name}"), problem))?;
    }
    Ok(edits)
}

fn fill(node: &mut CdiNode) -> std::result::Result<(), String> {
    let is_fifo = node.kind.as_deref() == Some("p");
    if node.kind.is_some() && (is_fifo || (node.major.is_some() && node.minor.is_some())) {
        return Ok(());
    }
    let path = node.host_path.as_deref().unwrap_or(&node.path);
    let device = super::host::node(&fs::canonicalize(path).map_err(|error| format!("needs {path}: {error}"))?);
    let device = device.ok_or_else(|| format!("needs {path}, which is not a device"))?;
    if let Some(kind) = node.kind.as_ref().filter(|kind| **kind != device.kind) {
        return Err(format!("needs {path} to be of type {kind}, and it is {}", device.kind));
    }
    node.kind = Some(device.kind);
    node.major = node.major.or(Some(device.major));
    node.minor = node.minor.or(Some(device.minor));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<CdiName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_later_folder_counts_more_and_nodes_are_looked_up() {
        let place = tempfile::tempdir().unwrap();
        let folders = [place.path().join("etc"), place.path().join("run")];
        folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let file = |folder: usize, name: &str, text: &str| fs::write(folders[folder].join(name), text).unwrap();
        let json = r#"{"cdiVersion":"0.5.0","kind":"v.com/c","containerEdits":{"env":["ALL=1"]},"devices":[
            {"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/inside","hostPath":"/dev/null"}]}},
            {"name":"1","containerEdits":{"env":["WHO=etc"]}}]}"#;
        file(0, "a.json", json);
        file(
            1,
            "b.yaml",
            "cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: \"1\"\n  containerEdits:\n    env: [WHO=run]\n",
        );
        file(0, "notes.txt", "nothing");
        let edits = named_devices(&names(&["v.com/c=0", "v.com/c=1"]), Some(&folders)).unwrap();
        assert_eq!(edits.len(), 4, "{edits:?}");
        assert_eq!(
            (edits[0].env.clone(), edits[3].env.clone()),
            (vec!["ALL=1".to_owned()], vec!["WHO=run".to_owned()])
        );
        let node = &edits[1].device_nodes[0];
        assert_eq!((node.kind.as_deref(), node.major, node.minor), (Some("c"), Some(1), Some(3)));
        file(0, "broken.json", "{");
        let error = named_devices(&names(&["v.com/c=2"]), Some(&folders)).unwrap_err();
        assert!(error.to_string().contains("broken.json"), "{error}");
        file(0, "again.json", json);
        let error = named_devices(&names(&["v.com/c=0"]), Some(&folders)).unwrap_err();
        assert!(error.to_string().contains("several files"), "{error}");
    }
}
