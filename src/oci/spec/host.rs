//! What a container takes from its host.

use std::path::Path;

use serde_json::Value;

use super::default::{CAPABILITIES, DEVICES, MASKED_PATHS, NAMESPACES, READONLY_PATHS, own_cgroup};
use super::runtime::{Device, DeviceRule, Mount, Spec};

/// What the machine has that options refer to, looked up by whoever builds a spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Its host name, which `net_host` passes on.
    pub hostname: String,
    /// The capabilities that can be given away, which `privileged` gives.
    pub capabilities: Vec<String>,
    /// Its device nodes, which `privileged` gives.
    pub devices: Vec<Device>,
}

/// Capabilities beyond the default ones that reach no further than the container's own namespaces and limits.
const HARMLESS: [&str; 5] = ["CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_LEASE"];

/// Annotations that have a runtime use programs, files or settings of the host; one that ends in a dot stands for all that
/// begin so. runc itself calls the first three unsafe (`runc features`, potentiallyUnsafeConfigAnnotations); the others are
/// crun's, Kata's and gVisor's.
const STEERING: [&str; 6] =
    ["bundle", "org.criu.config", "org.systemd.property.", "run.oci.", "io.katacontainers.config.", "dev.gvisor.flag."];

/// The keys of a spec that decide what it reaches.
const DECIDING: [&str; 30] = [
    "access",
    "allow",
    "ambient",
    "annotations",
    "bounding",
    "capabilities",
    "destination",
    "devices",
    "effective",
    "hooks",
    "inheritable",
    "linux",
    "listenerPath",
    "major",
    "maskedPaths",
    "minor",
    "mounts",
    "namespaces",
    "netDevices",
    "options",
    "path",
    "permitted",
    "process",
    "readonlyPaths",
    "resources",
    "root",
    "rootfsPropagation",
    "seccomp",
    "source",
    "type",
];

/// The keys of a spec whose keys are a user's.
const FREE: [&str; 4] = ["annotations", "netDevices", "sysctl", "unified"];

/// Returns a key as Go's JSON compares it, which is how a runtime reads it: without a difference between upper and lower case
/// (Go `encoding/json`, foldName).
fn folded(key: &str) -> String {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

/// Returns whether a spec has a key that is another one for its runtime than for whoever looks here.
fn is_ambiguous(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| {
            let decides = |known: &&str| folded(known) == folded(key) && *known != key;
            DECIDING.iter().any(decides) || (!FREE.contains(&key.as_str()) && is_ambiguous(value))
        }),
        Value::Array(items) => items.iter().any(is_ambiguous),
        _ => false,
    }
}

/// Returns whether an annotation steers the runtime.
fn steers(annotation: &str) -> bool {
    STEERING.iter().any(|name| if name.ends_with('.') { annotation.starts_with(name) } else { annotation == *name })
}

/// Returns whether a mount stands at this place of the container, however it is written.
fn is_at(mount: &Mount, place: &str) -> bool {
    Path::new(&mount.destination) == Path::new(place)
}

/// Returns whether a mount shows nothing that the host has too, or only for reading what every container sees.
fn is_contained(mount: &Mount) -> bool {
    let bind = mount.options.iter().any(|option| option == "bind" || option == "rbind");
    let read_only = || mount.options.iter().rev().find(|o| *o == "ro" || *o == "rw").is_some_and(|o| o == "ro");
    !bind
        && match mount.kind.as_str() {
            "tmpfs" | "devpts" | "mqueue" => true,
            // What is hidden there is hidden by its path: elsewhere it would be open.
            "proc" => is_at(mount, "/proc"),
            "sysfs" => is_at(mount, "/sys") && read_only(),
            "cgroup" | "cgroup2" => read_only(),
            _ => false,
        }
}

/// Returns whether a rule allows no more than a device that every container has; a node of it can be made inside.
fn is_everyones(rule: &DeviceRule) -> bool {
    let covers =
        |(major, minor): &(i64, Option<i64>)| rule.major == Some(*major) && (minor.is_none() || rule.minor == *minor);
    rule.kind == "c" && DEVICES.iter().any(covers)
}

/// Returns why a container needs access to the host for its cgroup, if it does: in one that others use it limits them, and
/// its end is theirs. Its own is the one that containerd names after its namespace and id.
#[must_use]
pub fn cgroup_reach(spec: &Spec, namespace: &str, id: &str) -> Option<&'static str> {
    let cgroup = &spec.linux.as_ref()?.cgroups_path;
    (*cgroup != own_cgroup(namespace, id)).then_some("chooses its cgroup")
}

/// Returns by what a container of this spec reaches its host, if by anything.
///
/// It judges the finished spec and not the options, so that a spec from a file is held to the same.
#[must_use]
pub fn host_reach(spec: &Spec) -> Option<&'static str> {
    if serde_json::to_value(spec).map_or(true, |spec| is_ambiguous(&spec)) {
        return Some("has a spec that its runtime reads otherwise than it looks");
    }
    let Some(linux) = &spec.linux else { return Some("has no Linux isolation") };
    if spec.hooks.is_some() {
        return Some("runs hooks on the host");
    }
    if spec.annotations.keys().any(|name| steers(name)) {
        return Some("has annotations that steer its runtime on the host");
    }
    if spec.root.as_ref().is_none_or(|root| root.path != "rootfs") {
        return Some("has a folder of the host as root filesystem");
    }
    if !spec.mounts.iter().all(is_contained) {
        return Some("mounts paths of the host");
    }
    // Another program of the host would answer the calls that the profile passes on.
    if linux
        .seccomp
        .as_ref()
        .is_some_and(|profile| profile["listenerPath"].as_str().is_some_and(|path| !path.is_empty()))
    {
        return Some("has a program of the host answer its system calls");
    }
    if linux.other.get("netDevices").and_then(Value::as_object).is_some_and(|devices| !devices.is_empty()) {
        return Some("takes network devices of the host");
    }
    if linux.namespaces.iter().any(|namespace| !namespace.path.is_empty()) {
        return Some("joins a namespace");
    }
    if !NAMESPACES.iter().all(|kind| linux.namespaces.iter().any(|namespace| namespace.kind == *kind)) {
        return Some("shares a namespace with the host");
    }
    let rules = linux.resources.iter().flat_map(|resources| &resources.devices);
    if !linux.devices.is_empty() || rules.clone().any(|rule| rule.allow && !is_everyones(rule)) {
        return Some("uses devices of the host");
    }
    // Without the rule that denies every device, those not named are allowed.
    if !rules.clone().any(|rule| !rule.allow && rule.major.is_none() && rule.access == super::default::RWM) {
        return Some("uses devices of the host");
    }
    let capabilities = spec.process.iter().flat_map(|process| &process.capabilities);
    let mut given = capabilities.flat_map(|sets| sets.bounding.iter().chain(&sets.effective).chain(&sets.permitted));
    if given.any(|name| !CAPABILITIES.contains(&name.as_str()) && !HARMLESS.contains(&name.as_str())) {
        return Some("has capabilities that reach the host");
    }
    // The powercap files are left out: specs of older tools do not hide them.
    let hidden = |path: &&str| path.ends_with("powercap") || linux.masked_paths.iter().any(|masked| masked == path);
    let read_only = |path: &&str| linux.readonly_paths.iter().any(|given| given == path);
    if !MASKED_PATHS.iter().all(hidden) || !READONLY_PATHS.iter().all(read_only) {
        return Some("sees files of the kernel that are hidden from containers");
    }
    if !matches!(linux.rootfs_propagation.as_str(), "" | "private" | "rprivate" | "slave" | "rslave") {
        return Some("passes its mounts on to the host");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::default::mount;
    use super::super::{Basis, MountOption, NamespaceJoin, SpecOptions, UserFiles, build};
    use super::*;

    fn reach(options: &SpecOptions) -> Option<&'static str> {
        let host = HostFacts { hostname: "h".into(), capabilities: vec!["CAP_SYS_ADMIN".into()], devices: Vec::new() };
        let basis = Basis { namespace: "default", id: "x", image: None, users: &UserFiles::None, host: &host };
        host_reach(&build(&basis, options).unwrap())
    }

    fn options() -> SpecOptions {
        SpecOptions { command: Some(vec!["true".into()]), ..SpecOptions::default() }
    }

    #[test]
    fn an_ordinary_container_does_not_reach_its_host() {
        assert_eq!(reach(&options()), None);
        let tmpfs = MountOption { kind: "tmpfs".into(), source: "t".into(), destination: "/x".into(), options: vec![] };
        let more = SpecOptions {
            tty: true,
            read_only: true,
            hostname: Some("inside".into()),
            memory_limit: Some(1 << 20),
            cpus: Some(0.5),
            cap_add: vec!["CAP_NET_ADMIN".into()],
            cap_drop: vec!["CAP_KILL".into()],
            seccomp: true,
            mounts: vec![tmpfs],
            allow_new_privs: true,
            ..options()
        };
        assert_eq!(reach(&more), None);
    }

    #[test]
    fn another_cgroup_than_ones_own_reaches_the_host() {
        let spec = super::super::default_spec("team", "x");
        assert_eq!(cgroup_reach(&spec, "team", "x"), None);
        assert_eq!(cgroup_reach(&spec, "team", "y"), Some("chooses its cgroup"));
        for cgroup in ["", "/system.slice/ssh.service", "/team/x/..", "machine.slice:ctrsh:x"] {
            let mut spec = spec.clone();
            spec.linux.as_mut().unwrap().cgroups_path = cgroup.to_owned();
            assert_eq!(cgroup_reach(&spec, "team", "x"), Some("chooses its cgroup"), "{cgroup}");
        }
    }

    #[test]
    fn what_reaches_the_host_is_named() {
        let mount = |kind: &str, source: &str, options: &[&str]| SpecOptions {
            mounts: vec![MountOption {
                kind: kind.into(),
                source: source.into(),
                destination: "/x".into(),
                options: options.iter().map(|o| (*o).into()).collect(),
            }],
            ..self::options()
        };
        let join = NamespaceJoin { kind: "network".into(), path: "/proc/1/ns/net".into() };
        let device = Device {
            path: "/dev/fuse".into(),
            kind: "c".into(),
            major: 10,
            minor: 229,
            file_mode: None,
            uid: None,
            gid: None,
        };
        for (reason, options) in [
            ("mounts paths of the host", mount("bind", "/tmp", &["rbind"])),
            ("mounts paths of the host", mount("none", "/tmp", &["bind", "ro"])),
            ("mounts paths of the host", mount("overlay", "overlay", &["lowerdir=/:/etc"])),
            ("mounts paths of the host", mount("ext4", "/dev/sda", &[])),
            ("mounts paths of the host", mount("sysfs", "sysfs", &["rw"])),
            ("mounts paths of the host", mount("sysfs", "sysfs", &["ro"])),
            ("mounts paths of the host", mount("proc", "proc", &["ro"])),
            ("mounts paths of the host", SpecOptions { net_host: true, ..self::options() }),
            ("joins a namespace", SpecOptions { with_ns: vec![join], ..self::options() }),
            ("uses devices of the host", SpecOptions { devices: vec![device], ..self::options() }),
            (
                "has capabilities that reach the host",
                SpecOptions { cap_add: vec!["CAP_SYS_ADMIN".into()], ..self::options() },
            ),
            (
                "has a folder of the host as root filesystem",
                SpecOptions { rootfs: Some("/srv".into()), ..self::options() },
            ),
            (
                "passes its mounts on to the host",
                SpecOptions { rootfs_propagation: Some("rshared".into()), ..self::options() },
            ),
            ("has no Linux isolation", SpecOptions { config: Some(Spec::default()), ..self::options() }),
        ] {
            assert_eq!(reach(&options), Some(reason), "{options:?}");
        }
        assert!(reach(&SpecOptions { privileged: true, ..self::options() }).is_some());
    }

    #[test]
    fn a_spec_from_a_file_is_held_to_the_same() {
        let spec = || super::super::default_spec("default", "x");
        let from = |spec: Spec| reach(&SpecOptions { config: Some(spec), ..SpecOptions::default() });
        assert_eq!(from(spec()), None);
        let mut hooked = spec();
        hooked.hooks = Some(serde_json::json!({"prestart": []}));
        assert_eq!(from(hooked), Some("runs hooks on the host"));
        let mut shared = spec();
        shared.linux.as_mut().unwrap().namespaces.retain(|n| n.kind != "pid");
        assert_eq!(from(shared), Some("shares a namespace with the host"));
        let mut open = spec();
        open.linux.as_mut().unwrap().resources = None;
        assert_eq!(from(open), Some("uses devices of the host"));
        let rule = |kind: &str, major, minor| {
            let mut ruled = spec();
            let resources = ruled.linux.as_mut().unwrap().resources.as_mut().unwrap();
            let kind = kind.to_owned();
            resources.devices.push(DeviceRule { allow: true, kind, major, minor, access: "rwm".into() });
            from(ruled)
        };
        assert_eq!(rule("c", Some(1), Some(3)), None, "/dev/null");
        assert_eq!(rule("c", Some(136), Some(7)), None, "/dev/pts/7");
        for (kind, major, minor) in [
            ("b", Some(8), Some(0)),
            ("c", Some(10), Some(237)),
            ("c", Some(1), None),
            ("a", Some(1), Some(3)),
            ("c", None, Some(3)),
        ] {
            assert_eq!(rule(kind, major, minor), Some("uses devices of the host"), "{kind} {major:?} {minor:?}");
        }
        for name in ["bundle", "org.criu.config", "org.systemd.property.ExecStart", "run.oci.hooks.stderr"] {
            let mut steered = spec();
            steered.annotations.insert(name.to_owned(), "/tmp/x".to_owned());
            assert_eq!(from(steered), Some("has annotations that steer its runtime on the host"), "{name}");
        }
        let mut told = spec();
        told.annotations.insert("org.example.bundle".to_owned(), "x".to_owned());
        assert_eq!(from(told), None);
        let mut listened = spec();
        listened.linux.as_mut().unwrap().seccomp = Some(serde_json::json!({"listenerPath": "/run/x.sock"}));
        assert_eq!(from(listened), Some("has a program of the host answer its system calls"));
        let mut wired = spec();
        let devices = serde_json::json!({"eth0": {}});
        wired.linux.as_mut().unwrap().other.insert("netDevices".to_owned(), devices);
        assert_eq!(from(wired), Some("takes network devices of the host"));
        for (destination, reason) in
            [("/proc/", None), ("//proc/.", None), ("/proc/../p", Some("mounts paths of the host"))]
        {
            let mut again = spec();
            again.mounts.push(mount(destination, "proc", "proc", &[]));
            assert_eq!(from(again), reason, "{destination}");
        }
        for pointer in ["", "/linux", "/process", "/mounts/0", "/linux/resources"] {
            for key in ["Hooks", "netdevices", "TYPE", "mount\u{17f}", "ma\u{17f}\u{212a}edPaths", "Capabilities"] {
                let mut twofold = serde_json::to_value(spec()).unwrap();
                twofold.pointer_mut(pointer).unwrap()[key] = serde_json::json!([]);
                let reason = from(serde_json::from_value(twofold).unwrap());
                assert_eq!(
                    reason,
                    Some("has a spec that its runtime reads otherwise than it looks"),
                    "{pointer} {key}"
                );
            }
        }
        let mut open = spec();
        open.linux.as_mut().unwrap().readonly_paths = vec!["/proc/sys".to_owned()];
        assert_eq!(from(open), Some("sees files of the kernel that are hidden from containers"));
        let mut bare = spec();
        bare.linux.as_mut().unwrap().masked_paths.clear();
        assert_eq!(from(bare), Some("sees files of the kernel that are hidden from containers"));
        let mut bound = spec();
        bound.mounts.push(mount("/x", "", "/etc", &["rbind"]));
        assert_eq!(from(bound), Some("mounts paths of the host"));
    }
}
