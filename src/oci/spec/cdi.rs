//! Devices by name: what their vendor says that a container needs for them (Container Device Interface, cdi SPEC.md).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::default::RWM;
use super::runtime::{Device, DeviceRule, Mount, Process, Spec};
use crate::oci::descriptor::null_as_default;

/// A file of a vendor.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiSpec {
    /// The sort of its devices: `VENDOR/CLASS`.
    pub kind: String,
    /// The devices.
    #[serde(deserialize_with = "null_as_default")]
    pub devices: Vec<CdiDevice>,
    /// What each of them needs.
    pub container_edits: CdiEdits,
}

/// One device of a file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiDevice {
    /// Its name.
    pub name: String,
    /// What it needs.
    pub container_edits: CdiEdits,
}

/// What is changed in the spec of a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiEdits {
    /// Environment, `NAME=value`.
    #[serde(deserialize_with = "null_as_default")]
    pub env: Vec<String>,
    /// Device nodes.
    #[serde(deserialize_with = "null_as_default")]
    pub device_nodes: Vec<CdiNode>,
    /// Mounts.
    #[serde(deserialize_with = "null_as_default")]
    pub mounts: Vec<CdiMount>,
    /// Programs of the host that run beside it.
    #[serde(deserialize_with = "null_as_default")]
    pub hooks: Vec<CdiHook>,
    /// More groups for its process.
    #[serde(rename = "additionalGids", deserialize_with = "null_as_default")]
    pub additional_gids: Vec<u32>,
    /// Cache and memory bandwidth.
    pub intel_rdt: Option<Value>,
}

/// A device node; what is none is looked up on the host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiNode {
    /// Where it appears.
    pub path: String,
    /// Where it is on the host, when elsewhere.
    pub host_path: Option<String>,
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The major number.
    pub major: Option<i64>,
    /// The minor number.
    pub minor: Option<i64>,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Letters of `rwm`.
    pub permissions: Option<String>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiMount {
    /// What is mounted.
    pub host_path: String,
    /// Where it appears.
    pub container_path: String,
    /// Mount options.
    #[serde(deserialize_with = "null_as_default")]
    pub options: Vec<String>,
    /// The filesystem.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A program of the host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiHook {
    /// When it runs, such as `createContainer`.
    pub hook_name: String,
    /// The program.
    pub path: String,
    /// Its arguments, the program's name first.
    #[serde(deserialize_with = "null_as_default")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(deserialize_with = "null_as_default")]
    pub env: Vec<String>,
    /// When it is given up, in seconds.
    pub timeout: Option<i64>,
}

/// The full name of a device: `VENDOR/CLASS=NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdiName {
    /// The sort of device: `VENDOR/CLASS`.
    pub kind: String,
    /// The device.
    pub device: String,
}

impl FromStr for CdiName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "is neither the path of a device nor a name like VENDOR/CLASS=DEVICE";
        let (kind, device) = text.split_once('=').ok_or(WANTED)?;
        let (vendor, class) = kind.split_once('/').ok_or(WANTED)?;
        let word = |text: &str, more: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if word(vendor, "_-.") && word(class, "_-") && word(device, "_-.:") {
            Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
        } else {
            Err(WANTED)
        }
    }
}

impl fmt::Display for CdiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl CdiEdits {
    /// Makes the changes. What stands at the same path or has the same name is replaced.
    pub(super) fn apply(&self, spec: &mut Spec) {
        let process = spec.process.get_or_insert_with(Process::default);
        super::overlay_env(&mut process.env, &self.env);
        for gid in &self.additional_gids {
            if *gid != 0 && !process.user.additional_gids.contains(gid) {
                process.user.additional_gids.push(*gid);
            }
        }
        let owner = |id: u32| (id > 0).then_some(id);
        let (uid, gid) = (owner(process.user.uid), owner(process.user.gid));
        let linux = spec.linux.get_or_insert_default();
        for node in &self.device_nodes {
            let kind = node.kind.clone().unwrap_or_default();
            let device = Device {
                path: node.path.clone(),
                kind: kind.clone(),
                major: node.major.unwrap_or_default(),
                minor: node.minor.unwrap_or_default(),
                file_mode: node.file_mode,
                uid: node.uid.or(uid),
                gid: node.gid.or(gid),
            };
            if kind == "b" || kind == "c" {
                let access = node.permissions.clone().filter(|letters| !letters.is_empty());
                linux.resources.get_or_insert_default().devices.push(DeviceRule {
                    allow: true,
                    kind,
                    major: Some(device.major),
                    minor: Some(device.minor),
                    access: access.unwrap_or_else(|| RWM.to_owned()),
                });
            }
            linux.devices.retain(|other| other.path != device.path);
            linux.devices.push(device);
        }
        if let Some(rdt) = &self.intel_rdt {
            linux.other.insert("intelRdt".to_owned(), rdt.clone());
        }
        for mount in &self.mounts {
            spec.mounts.retain(|other| other.destination != mount.container_path);
            spec.mounts.push(Mount {
                destination: mount.container_path.clone(),
                kind: mount.kind.clone(),
                source: mount.host_path.clone(),
                options: mount.options.clone(),
                ..Mount::default()
            });
        }
        if !self.mounts.is_empty() {
            // A mount below another one has to come after it.
            spec.mounts.sort_by_key(|mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());
        }
        for hook in &self.hooks {
            let hooks = spec.hooks.get_or_insert_with(|| json!({}));
            let Some(hooks) = hooks.as_object_mut() else { continue };
            if let Some(list) = hooks.entry(&hook.hook_name).or_insert_with(|| json!([])).as_array_mut() {
                list.push(hook.to_json());
            }
        }
    }
}

impl CdiHook {
    fn to_json(&self) -> Value {
        let mut hook = Map::from_iter([("path".to_owned(), json!(self.path))]);
        if !self.args.is_empty() {
            hook.insert("args".to_owned(), json!(self.args));
        }
        if !self.env.is_empty() {
            hook.insert("env".to_owned(), json!(self.env));
        }
        if let Some(timeout) = self.timeout {
            hook.insert("timeout".to_owned(), json!(timeout));
        }
        Value::Object(hook)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        let name: CdiName = "nvidia.com/gpu=0:1".parse().unwrap();
        assert_eq!((name.kind.as_str(), name.device.as_str()), ("nvidia.com/gpu", "0:1"));
        for text in ["/dev/null", "gpu=0", "a/b", "a/b=", "/b=0", "a/=0", "a/b/c=0", "a b/c=0"] {
            assert!(text.parse::<CdiName>().is_err(), "{text}");
        }
    }

    #[test]
    fn edits_replace_what_is_there_and_keep_the_order_of_mounts() {
        let text = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"one","containerEdits":{
            "env":["A=2"],"deviceNodes":[{"path":"/dev/x","type":"c","major":1,"minor":3,"permissions":"rw"}],
            "mounts":[{"hostPath":"/lib/v","containerPath":"/sys/v","options":["ro","bind"]}],
            "hooks":[{"hookName":"prestart","path":"/bin/h","args":["h"],"timeout":3}],"additionalGids":[0,44]}}]}"#;
        let file: CdiSpec = serde_json::from_str(text).unwrap();
        assert_eq!((file.kind.as_str(), file.devices[0].name.as_str()), ("v.com/c", "one"));
        let mut spec = super::super::default_spec("default", "x");
        let process = spec.process.as_mut().unwrap();
        process.env = vec!["A=1".into(), "B=1".into()];
        (process.user.uid, process.user.gid) = (7, 0);
        file.devices[0].container_edits.apply(&mut spec);
        file.devices[0].container_edits.apply(&mut spec);
        let process = spec.process.unwrap();
        assert_eq!(process.env, ["A=2", "B=1"]);
        assert_eq!(process.user.additional_gids, [44]);
        let linux = spec.linux.unwrap();
        assert_eq!(linux.devices.len(), 1);
        assert_eq!((linux.devices[0].uid, linux.devices[0].gid), (Some(7), None));
        assert_eq!(linux.resources.unwrap().devices.last().unwrap().access, "rw");
        let places: Vec<_> = spec.mounts.iter().map(|mount| mount.destination.as_str()).collect();
        assert_eq!(places.iter().filter(|place| **place == "/sys/v").count(), 1);
        assert!(
            places.iter().position(|p| *p == "/sys").unwrap() < places.iter().position(|p| *p == "/sys/v").unwrap()
        );
        let hook = json!({"path": "/bin/h", "args": ["h"], "timeout": 3});
        assert_eq!(spec.hooks.unwrap(), json!({"prestart": [hook.clone(), hook]}));
    }
}
