//! What can be said about a container when it is made.

use std::collections::BTreeMap;

use super::cdi::CdiEdits;
use super::limits::Limits;
use super::runtime::{Device, IdMap, Spec};
use crate::oci::Error;
use crate::oci::error::refuse;

/// What can be said about a container when it is made; the names are those of ctr's flags where it has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecOptions {
    /// A spec to take as it is, in place of the one made from the image and everything below but the labels.
    pub config: Option<Spec>,
    /// The whole command line in place of the image's entrypoint and command: what `ctr run IMAGE ID CMD…` takes.
    pub command: Option<Vec<String>>,
    /// The arguments of the image's entrypoint (or of `command`), in place of the image's command.
    pub args: Option<Vec<String>>,
    /// Where it starts.
    pub cwd: Option<String>,
    /// Environment: `NAME=value` sets, `NAME` unsets.
    pub env: Vec<String>,
    /// The text of an environment file, a `NAME=value` a line; `env` is laid over it.
    pub env_file: Option<String>,
    /// Labels of the container, which the spec repeats as annotations (ctr does).
    pub labels: BTreeMap<String, String>,
    /// Notes for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Mounts beside those that every container has.
    pub mounts: Vec<MountOption>,
    /// Shares the host's network, its hosts file and its resolver.
    pub net_host: bool,
    /// Gives every capability and device, and hides nothing.
    pub privileged: bool,
    /// Keeps the host's devices from one that is privileged.
    pub privileged_without_host_devices: bool,
    /// Makes the root filesystem read-only.
    pub read_only: bool,
    /// Gives it a terminal.
    pub tty: bool,
    /// Who it runs as: `name|uid[:group|gid]`; a group is then its only one.
    pub user: Option<String>,
    /// The host name inside.
    pub hostname: Option<String>,
    /// The most memory it may use, in bytes.
    pub memory_limit: Option<u64>,
    /// How many processors it may use.
    pub cpus: Option<f64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<i64>,
    /// The period of `cpu_quota` in microseconds.
    pub cpu_period: Option<u64>,
    /// The weight against other containers; 1024 is the kernel's default.
    pub cpu_shares: Option<u64>,
    /// The processors that it may use, such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes that it may use.
    pub cpuset_mems: Option<String>,
    /// How many processes and threads it may have.
    pub pids_limit: Option<i64>,
    /// Capabilities to add, by full name.
    pub cap_add: Vec<String>,
    /// Capabilities to take, by full name.
    pub cap_drop: Vec<String>,
    /// Restricts system calls by containerd's default profile.
    pub seccomp: bool,
    /// Restricts system calls by this profile (runtime-spec, `linux.seccomp`).
    pub seccomp_profile: Option<serde_json::Value>,
    /// Devices of the host, looked up.
    pub devices: Vec<Device>,
    /// What devices by name need, looked up.
    pub cdi: Vec<CdiEdits>,
    /// The users of a user namespace of its own.
    pub uid_map: Vec<IdMap>,
    /// The groups of a user namespace of its own.
    pub gid_map: Vec<IdMap>,
    /// Namespaces to join.
    pub with_ns: Vec<NamespaceJoin>,
    /// A folder of the host as root filesystem, in place of an image.
    pub rootfs: Option<String>,
    /// Resource limits, which replace those of the same type.
    pub rlimits: Vec<Rlimit>,
    /// Lets it gain privileges, as by a setuid program.
    pub allow_new_privs: bool,
    /// The cgroup; an empty one leaves the choice to the runtime.
    pub cgroup: Option<String>,
    /// How mounts travel between the root filesystem and the host.
    pub rootfs_propagation: Option<String>,
    /// The AppArmor profile, which must be loaded.
    pub apparmor_profile: Option<String>,
    /// The class of service for its caches and memory bandwidth: a folder of `/sys/fs/resctrl`.
    pub rdt_class: Option<String>,
    /// Weights and limits of block I/O, looked up (runtime-spec, `linux.resources.blockIO`).
    pub block_io: Option<serde_json::Value>,
}

impl SpecOptions {
    /// Returns its limits.
    ///
    /// # Errors
    /// [`Error::Option`] when a number is too large.
    pub fn limits(&self) -> Result<Limits, Error> {
        let large = |bytes: u64| refuse("memory_limit", &bytes.to_string(), "it is too large");
        let memory = self.memory_limit.filter(|bytes| *bytes > 0);
        Ok(Limits {
            memory: memory.map(|bytes| i64::try_from(bytes).map_err(|_| large(bytes))).transpose()?,
            cpus: self.cpus,
            cpu_quota: self.cpu_quota,
            cpu_period: self.cpu_period,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            ..Limits::default()
        })
    }
}

/// A mount: `type=bind,src=/tmp,dst=/x,options=rbind:ro` as ctr writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOption {
    /// The filesystem, or `bind`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where it appears.
    pub destination: String,
    /// Mount options.
    pub options: Vec<String>,
}

/// A namespace to join: `network:/proc/1/ns/net` as ctr writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceJoin {
    /// Its type, like `network`.
    pub kind: String,
    /// Its file.
    pub path: String,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// Its name: `nofile`, or `RLIMIT_NOFILE`.
    pub name: String,
    /// The limit in force.
    pub soft: u64,
    /// The limit that it may be raised to.
    pub hard: u64,
}
