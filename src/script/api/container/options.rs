//! The options of containers, shared by `create` and `run`.

use std::path::{Path, PathBuf};

use rhai::{Array, Dynamic, Map};

use crate::containerd::Labels;
use crate::containerd::containers::RuncOptions;
use crate::oci::Spec;
use crate::oci::spec::{CdiEdits, CdiName, Device, IdMap, MountOption, NamespaceJoin, Rlimit, SpecOptions};
use crate::ops::container::{CreateOptions, NetworkOptions};
use crate::ops::{self, Context};
use crate::script::api::image;
use crate::script::call::Call;
use crate::script::catalog::Opt;
use crate::script::error::Result;
use crate::script::options::Options;

/// The sort of device that `gpus` numbers.
const GPU: &str = "nvidia.com/gpu";

/// The options of how a container is made.
pub(super) const CREATE: [Opt; 61] = [
    Opt::new("command", "array", "The whole command line, in place of the image's: ctr's trailing arguments."),
    Opt::new("args", "array", "The arguments of the image's entrypoint, or of `command`, in place of the image's."),
    Opt::new("cwd", "string", "The folder that it starts in. Default: the image's, else `/`."),
    Opt::new("env", "map or array", "Environment over the image's; a value of `()`, or a name alone, unsets."),
    Opt::new("env_file", "string", "A file with `NAME=value` lines; `env` is laid over it."),
    Opt::new("label", "map or array", "Labels of the container."),
    Opt::new("annotation", "map or array", "Annotations for the runtime."),
    Opt::new(
        "mount",
        "array",
        "Mounts: `type=bind,src=/a,dst=/b,options=rbind:ro`, or maps of type, src, dst, options.",
    ),
    Opt::new("net_host", "bool", "Whether it shares the host's network. Default false."),
    Opt::new("privileged", "bool", "Whether it gets every capability and device of the host. Default false."),
    Opt::new(
        "privileged_without_host_devices",
        "bool",
        "Whether one that is privileged gets no device of the host all the same. Default false.",
    ),
    Opt::new("read_only", "bool", "Whether its root filesystem is read-only. Default false."),
    Opt::new(
        "tty",
        "bool",
        "Whether it has a terminal, which `run` connects with this one and `attach` later. Default false.",
    ),
    Opt::new(
        "user",
        "string",
        "Who it runs as, `name|uid[:group|gid]`; a group is then its only one. Default: the image's user.",
    ),
    Opt::new("hostname", "string", "The host name inside. Default: the host's."),
    Opt::new("memory_limit", "size", "The most memory it may use, such as `256MiB`. Default: no limit."),
    Opt::new("memory", "size", "The same as `memory_limit`."),
    Opt::new("cpus", "float", "How many processors it may use. Default: no limit."),
    Opt::new("cpu_quota", "int", "Microseconds of processor time in each period. Default: no limit."),
    Opt::new("cpu_period", "int", "The period of `cpu_quota` in microseconds. Default: the kernel's, 100000."),
    Opt::new("cpu_shares", "int", "The weight against other containers. Default: the kernel's, 1024."),
    Opt::new("cpuset_cpus", "string", "The processors that it may use, such as `0-2,4`. Default: all."),
    Opt::new("cpuset_mems", "string", "The memory nodes that it may use. Default: all."),
    Opt::new("pids_limit", "int", "How many processes and threads it may have. Default: no limit."),
    Opt::new("cap_add", "array", "Capabilities to add, such as `CAP_NET_ADMIN`."),
    Opt::new("cap_drop", "array", "Capabilities to take away."),
    Opt::new("seccomp", "bool", "Whether containerd's default profile restricts system calls. Default false."),
    Opt::new("seccomp_profile", "string", "A file with the profile that restricts system calls."),
    Opt::new(
        "device",
        "array",
        "Devices of the host, folders of them, or names of a CDI file such as `nvidia.com/gpu=0`.",
    ),
    Opt::new("gpus", "array or string", "NVIDIA GPUs by number, or `all`: the devices `nvidia.com/gpu=N`."),
    Opt::new("cdi_spec_dirs", "array", "Folders with CDI files. Default `/etc/cdi` and `/var/run/cdi`."),
    Opt::new("with_ns", "array", "Namespaces to join, `TYPE:PATH`."),
    Opt::new("rootfs", "bool", "Whether the image is a folder of the host, to be the root filesystem. Default false."),
    Opt::new("config", "string", "A file with the whole runtime spec, in place of the one made from the image."),
    Opt::new("rlimit", "map", "Resource limits by name, such as `#{ nofile: 4096 }`; `SOFT:HARD` sets both apart."),
    Opt::new("rlimit_nofile", "int or string", "The limit of open files: a number, or `SOFT:HARD`. Default 1024."),
    Opt::new("allow_new_privs", "bool", "Whether it may gain privileges, as by a setuid program. Default false."),
    Opt::new("cgroup", "string", "The cgroup. Default: `/NAMESPACE/ID`."),
    Opt::new("rootfs_propagation", "string", "How mounts travel between its root filesystem and the host."),
    Opt::new("apparmor_profile", "string", "The AppArmor profile, which must be loaded."),
    Opt::new(
        "apparmor_default_profile",
        "string",
        "A name under which containerd's default AppArmor profile is loaded for it.",
    ),
    Opt::new(
        "rdt_class",
        "string",
        "The class of service of resctrl, for caches and memory bandwidth. Whether the machine has it is for the runtime to say.",
    ),
    Opt::new(
        "blockio_class",
        "string",
        "The class of `blockio_config_file` that says its weights and limits of block I/O.",
    ),
    Opt::new(
        "blockio_config_file",
        "string",
        "A YAML file with classes of block I/O, as containerd's own `blockio_config_file` has them.",
    ),
    Opt::new("uidmap", "array", "Users of a user namespace, `CONTAINER:HOST:COUNT`; gidmap has to be given too."),
    Opt::new("gidmap", "array", "Groups of a user namespace, `CONTAINER:HOST:COUNT`."),
    Opt::new(
        "remap_labels",
        "bool",
        "Whether a snapshotter that can moves the ids of the image's files, in place of ctrsh. Default false.",
    ),
    Opt::new(
        "cni",
        "bool or string",
        "Whether it gets a network of the host's CNI plugins: the first, or the one of this name. Default false.",
    ),
    Opt::new("cni_conf_dir", "string", "Where networks are written down. Default `/etc/cni/net.d`."),
    Opt::new(
        "cni_bin_dir",
        "string",
        "Where CNI plugins are. Default `/opt/cni/bin`, `/usr/lib/cni`, `/usr/libexec/cni`.",
    ),
    Opt::new("sandbox", "string", "The sandbox that it belongs to; containerd 1.7 and later."),
    Opt::new("no_pivot", "bool", "Whether runc leaves out pivot_root, for a root in a ramdisk. Default false."),
    Opt::new("runtime", "string", "The runtime. Default `io.containerd.runc.v2`."),
    Opt::new("runtime_config_path", "string", "The options file of a runtime that is no runc."),
    Opt::new("runc_binary", "string", "The runc to use. Default: the daemon's."),
    Opt::new("runc_root", "string", "Where runc keeps its state. Default: the daemon's."),
    Opt::new("runc_systemd_cgroup", "bool", "Whether runc leaves cgroups to systemd. Default false."),
    Opt::new("snapshotter_label", "map or array", "Labels of the snapshot."),
    image::SNAPSHOTTER,
    image::PLATFORM,
    Opt::new("stop_signal", "string", "The signal that asks it to end. Default: the image's, else `SIGTERM`."),
];

/// Puts option lists one after the other.
pub(super) const fn joined<const A: usize, const B: usize, const N: usize>(a: &[Opt; A], b: &[Opt; B]) -> [Opt; N] {
    assert!(A + B == N, "the length is the sum of both");
    let mut all = [Opt::new("", "", ""); N];
    let mut at = 0;
    while at < N {
        all[at] = if at < A { a[at] } else { b[at - A] };
        at += 1;
    }
    all
}

/// Reads the options of how a container is made; `image` is the folder when `rootfs` says so.
pub(super) fn create(call: &Call<'_>, image: &str, options: &Options) -> Result<CreateOptions> {
    let ctx = call.ctx();
    let runc = RuncOptions {
        no_pivot_root: options.flag("no_pivot")?,
        binary_name: options.string("runc_binary")?.unwrap_or_default(),
        root: options.string("runc_root")?.unwrap_or_default(),
        systemd_cgroup: options.flag("runc_systemd_cgroup")?,
        ..RuncOptions::default()
    };
    Ok(CreateOptions {
        spec: spec(ctx, image, options)?,
        snapshotter: options.string("snapshotter")?,
        snapshotter_labels: labels(options, "snapshotter_label")?,
        runtime: options.string("runtime")?,
        runc,
        platform: options.strings("platform")?.map(|named| image::platform(Some(named))).transpose()?,
        runtime_config_path: options.string("runtime_config_path")?,
        sandbox: options.string("sandbox")?,
        remap_labels: options.flag("remap_labels")?,
        network: network(ctx, options)?,
        apparmor_default_profile: options.string("apparmor_default_profile")?,
    })
}

fn spec(ctx: &Context, image: &str, options: &Options) -> Result<SpecOptions> {
    let mut labels = labels(options, "label")?;
    if let Some(signal) = options.string("stop_signal")? {
        let signal: ops::container::Signal = signal.parse()?;
        labels.insert(ops::container::STOP_SIGNAL_LABEL.to_owned(), signal.to_string());
    }
    let memory_limit = match (options.size("memory_limit")?, options.size("memory")?) {
        (Some(_), Some(_)) => return Err(options.bad("memory", "says the same as 'memory_limit'; give one of them")),
        (limit, memory) => limit.or(memory),
    };
    let seccomp_profile = options.string("seccomp_profile")?.map(|path| json(ctx, &path)).transpose()?;
    let (devices, named) = devices(ctx, options)?;
    let positive = |key: &'static str| -> Result<Option<u64>> { Ok(options.count(key)?.map(|number| number as u64)) };
    Ok(SpecOptions {
        config: options.string("config")?.map(|path| json::<Spec>(ctx, &path)).transpose()?,
        command: options.strings("command")?,
        args: options.strings("args")?,
        cwd: options.string("cwd")?,
        env: environment(options, "env")?,
        env_file: options.string("env_file")?.map(|path| text(ctx, &path)).transpose()?,
        labels,
        annotations: self::labels(options, "annotation")?,
        mounts: mounts(options)?,
        net_host: options.flag("net_host")?,
        privileged: options.flag("privileged")?,
        read_only: options.flag("read_only")?,
        tty: options.flag("tty")?,
        user: options.string("user")?,
        hostname: options.string("hostname")?,
        memory_limit,
        cpus: options.float("cpus")?,
        cpu_quota: options.int("cpu_quota")?,
        cpu_period: positive("cpu_period")?,
        cpu_shares: positive("cpu_shares")?,
        cap_add: options.strings("cap_add")?.unwrap_or_default(),
        cap_drop: options.strings("cap_drop")?.unwrap_or_default(),
        seccomp: options.flag("seccomp")?,
        seccomp_profile,
        devices,
        cdi: named,
        uid_map: id_map(options, "uidmap")?,
        gid_map: id_map(options, "gidmap")?,
        cpuset_cpus: options.string("cpuset_cpus")?,
        cpuset_mems: options.string("cpuset_mems")?,
        pids_limit: options.int("pids_limit")?,
        privileged_without_host_devices: options.flag("privileged_without_host_devices")?,
        with_ns: namespaces(options)?,
        rootfs: options.flag("rootfs")?.then(|| absolute(ctx, image).to_string_lossy().into_owned()),
        rlimits: rlimits(options)?,
        allow_new_privs: options.flag("allow_new_privs")?,
        cgroup: options.string("cgroup")?,
        rootfs_propagation: options.string("rootfs_propagation")?,
        apparmor_profile: options.string("apparmor_profile")?,
        rdt_class: options.string("rdt_class")?,
        block_io: block_io(ctx, options)?,
    })
}

fn block_io(ctx: &Context, options: &Options) -> Result<Option<serde_json::Value>> {
    match (options.string("blockio_config_file")?, options.string("blockio_class")?) {
        (None, None) => Ok(None),
        (Some(path), Some(class)) => {
            let text = text(ctx, &path)?;
            Ok(Some(ops::container::block_io(ctx, &absolute(ctx, &path), &text, &class)?))
        }
        (Some(_), None) => Err(options.bad("blockio_config_file", "says what classes are; give blockio_class too")),
        (None, Some(_)) => Err(options.bad("blockio_class", "is a class of a file; give blockio_config_file too")),
    }
}

/// Reads `NAME=value` pairs and names to unset.
pub(super) fn environment(options: &Options, key: &'static str) -> Result<Vec<String>> {
    let pairs = options.pairs(key)?.unwrap_or_default();
    Ok(pairs.into_iter().map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}={value}"))).collect())
}

fn labels(options: &Options, key: &'static str) -> Result<Labels> {
    let pairs = options.pairs(key)?.unwrap_or_default();
    Ok(pairs.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

fn mounts(options: &Options) -> Result<Vec<MountOption>> {
    let Some(value) = options.any("mount") else { return Ok(Vec::new()) };
    let items = match value.read_lock::<Array>() {
        Some(array) => array.clone(),
        None => vec![value.clone()],
    };
    items.into_iter().map(|item| mount(options, &item)).collect()
}

fn mount(options: &Options, item: &Dynamic) -> Result<MountOption> {
    let mut mount = MountOption::default();
    if let Some(map) = item.read_lock::<Map>() {
        for (name, value) in map.iter() {
            match value.read_lock::<Array>() {
                // Items may have colons in them, as `lowerdir=/a:/b` does.
                Some(list) if name == "options" => mount.options = parts(list.iter().map(ToString::to_string)),
                Some(_) => return Err(options.bad("mount", format!("has an array for '{name}'; only options are one"))),
                None => set(options, &mut mount, name, value.to_string())?,
            }
        }
    } else {
        for part in item.to_string().split(',') {
            let (name, text) =
                part.split_once('=').ok_or_else(|| options.bad("mount", format!("'{part}' is not KEY=VALUE")))?;
            set(options, &mut mount, name, text.to_owned())?;
        }
    }
    if mount.destination.is_empty() {
        return Err(options.bad("mount", "has no dst"));
    }
    Ok(mount)
}

/// Sets one key of a mount, by a text as ctr takes it.
fn set(options: &Options, mount: &mut MountOption, name: &str, text: String) -> Result<()> {
    match name {
        "type" => mount.kind = text,
        "src" | "source" => mount.source = text,
        "dst" | "destination" | "target" => mount.destination = text,
        "options" => mount.options = parts(text.split(':').map(str::to_owned)),
        other => return Err(options.bad("mount", format!("has '{other}'; it knows type, src, dst and options"))),
    }
    Ok(())
}

fn parts(options: impl Iterator<Item = String>) -> Vec<String> {
    options.filter(|part| !part.is_empty()).collect()
}

/// Reads devices by path and by name.
fn devices(ctx: &Context, options: &Options) -> Result<(Vec<Device>, Vec<CdiEdits>)> {
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for text in options.strings("device")?.unwrap_or_default() {
        if text.starts_with('/') {
            found.extend(ops::container::device(&text)?);
        } else {
            names
                .push(text.parse::<CdiName>().map_err(|problem| options.bad("device", format!("'{text}' {problem}")))?);
        }
    }
    names.extend(gpus(options)?);
    let folders = options.strings("cdi_spec_dirs")?;
    let folders: Option<Vec<PathBuf>> = folders.map(|dirs| dirs.iter().map(|dir| absolute(ctx, dir)).collect());
    Ok((found, ops::container::named_devices(&names, folders.as_deref())?))
}

fn gpus(options: &Options) -> Result<Vec<CdiName>> {
    let Some(value) = options.any("gpus") else { return Ok(Vec::new()) };
    let items = value.read_lock::<Array>().map_or_else(|| vec![value.clone()], |items| items.clone());
    let name = |item: Dynamic| {
        let device = item.to_string();
        let known = device == "all" || device.parse::<u32>().is_ok();
        let wanted = || options.bad("gpus", format!("has '{device}'; give numbers, or \"all\""));
        known.then(|| CdiName { kind: GPU.to_owned(), device: device.clone() }).ok_or_else(wanted)
    };
    items.into_iter().map(name).collect()
}

fn id_map(options: &Options, key: &'static str) -> Result<Vec<IdMap>> {
    let range = |text: String| {
        text.parse()
            .map_err(|()| options.bad(key, format!("'{text}' is not CONTAINER:HOST:COUNT, such as 0:100000:65536")))
    };
    options.strings(key)?.unwrap_or_default().into_iter().map(range).collect()
}

fn network(ctx: &Context, options: &Options) -> Result<Option<NetworkOptions>> {
    let Some(value) = options.any("cni") else { return Ok(None) };
    let name = match value.as_bool() {
        Ok(false) => return Ok(None),
        Ok(true) => None,
        Err(_) => options.string("cni").map_err(|_| options.bad("cni", "must be true, false or a network's name"))?,
    };
    let folder = |key: &'static str| Result::Ok(options.string(key)?.map(|path| absolute(ctx, &path)));
    Ok(Some(NetworkOptions { name, conf_dir: folder("cni_conf_dir")?, bin_dir: folder("cni_bin_dir")? }))
}

fn namespaces(options: &Options) -> Result<Vec<NamespaceJoin>> {
    let join = |text: String| match text.split_once(':') {
        Some((kind, path)) => Ok(NamespaceJoin { kind: kind.to_owned(), path: path.to_owned() }),
        None => Err(options.bad("with_ns", format!("'{text}' is not TYPE:PATH"))),
    };
    options.strings("with_ns")?.unwrap_or_default().into_iter().map(join).collect()
}

fn rlimits(options: &Options) -> Result<Vec<Rlimit>> {
    let limit = |key: &'static str, name: String, value: &str| {
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        match (soft.parse(), hard.parse()) {
            (Ok(soft), Ok(hard)) => Ok(Rlimit { name, soft, hard }),
            _ => Err(options.bad(key, format!("{name} '{value}' is neither a number nor SOFT:HARD"))),
        }
    };
    let pairs = options.pairs("rlimit")?.unwrap_or_default();
    let mut limits: Vec<Rlimit> = pairs
        .into_iter()
        .map(|(name, value)| limit("rlimit", name, &value.unwrap_or_default()))
        .collect::<Result<_>>()?;
    if let Some(value) = options.any("rlimit_nofile") {
        limits.push(limit("rlimit_nofile", "nofile".to_owned(), &value.to_string())?);
    }
    Ok(limits)
}

fn absolute(ctx: &Context, path: &str) -> PathBuf {
    ctx.settings().working_dir.join(path)
}

fn text(ctx: &Context, path: &str) -> Result<String> {
    let full = absolute(ctx, path);
    ctx.check_path("read file", &full)?;
    let read = std::fs::read_to_string(&full);
    Ok(read.map_err(|source| ops::Error::File { attempted: "read", path: shown(&full), source })?)
}

fn json<T: serde::de::DeserializeOwned>(ctx: &Context, path: &str) -> Result<T> {
    let read = serde_json::from_str(&text(ctx, path)?);
    Ok(read.map_err(|error| ops::Error::File {
        attempted: "read",
        path: shown(&absolute(ctx, path)),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })?)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
