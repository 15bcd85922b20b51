//! The spec that every container starts from (containerd `oci/spec.go`, populateDefaultUnixSpec of 1.6 and 1.7).

use super::runtime::{Capabilities, DeviceRule, Linux, Mount, Namespace, PosixRlimit, Process, Resources, Root, Spec};

/// The version of the runtime spec that is written: what every runc of containerd 1.6 and later reads.
const OCI_VERSION: &str = "1.0.2-dev";

/// Every kind of access to a device.
pub(super) const RWM: &str = "rwm";

/// What a container may do unless told otherwise: the set of containerd 1.6 and 1.7, which images are made for.
pub(super) const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The namespaces that every container has of its own.
pub(super) const NAMESPACES: [&str; 5] = ["pid", "ipc", "uts", "mount", "network"];

const MOUNTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/run", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
];

/// Paths of the host's kernel that are hidden. The powercap files leak what other programs compute (CVE-2020-8694);
/// containerd hides them since 1.6.26 and 1.7.11, so they are hidden on every version.
pub(super) const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];

/// Paths of the host's kernel that cannot be written.
pub(super) const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The character devices that every container may use (containerd `oci/spec_opts.go`, WithDefaultUnixDevices): null,
/// random, full, tty, zero, urandom, console, all pseudo-terminals, ptmx.
pub(super) const DEVICES: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(8)),
    (1, Some(7)),
    (5, Some(0)),
    (1, Some(5)),
    (1, Some(9)),
    (5, Some(1)),
    (136, None),
    (5, Some(2)),
];

/// Returns the spec that `ctr oci spec` prints, for a container of a containerd namespace.
#[must_use]
pub fn default_spec(namespace: &str, id: &str) -> Spec {
    let capabilities = owned(&CAPABILITIES);
    Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(Process {
            cwd: "/".to_owned(),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            rlimits: vec![PosixRlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".to_owned(), readonly: false }),
        mounts: MOUNTS
            .iter()
            .map(|(destination, kind, source, options)| mount(destination, kind, source, options))
            .collect(),
        linux: Some(Linux {
            resources: Some(Resources {
                devices: vec![DeviceRule { access: RWM.to_owned(), ..DeviceRule::default() }],
                ..Resources::default()
            }),
            cgroups_path: own_cgroup(namespace, id),
            namespaces: NAMESPACES
                .iter()
                .map(|kind| Namespace { kind: (*kind).to_owned(), path: String::new() })
                .collect(),
            masked_paths: owned(&MASKED_PATHS),
            readonly_paths: owned(&READONLY_PATHS),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// Returns the rules for the devices that every container may use.
pub(super) fn default_device_rules() -> impl Iterator<Item = DeviceRule> {
    DEVICES.iter().map(|(major, minor)| DeviceRule {
        allow: true,
        kind: "c".to_owned(),
        major: Some(*major),
        minor: *minor,
        access: RWM.to_owned(),
    })
}

/// Returns the cgroup that containerd gives a container (containerd `oci/spec.go`, populateDefaultUnixSpec).
pub(super) fn own_cgroup(namespace: &str, id: &str) -> String {
    if id.is_empty() { format!("/{namespace}") } else { format!("/{namespace}/{id}") }
}

/// Makes a mount from literals.
pub(super) fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: owned(options),
        ..Mount::default()
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
