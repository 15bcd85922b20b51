//! From an image's config and options to a spec, step by step as ctr does it (containerd `cmd/ctr/commands/run`).

use super::cdi::CdiEdits;
use super::default::{RWM, default_device_rules, default_spec, mount, own_cgroup};
use super::host::HostFacts;
use super::options::SpecOptions;
use super::runtime::{
    Capabilities, Device, DeviceRule, Linux, Mount, Namespace, PosixRlimit, Process, Resources, Spec,
};
use super::seccomp::default_profile;
use super::user::{UserFiles, resolve_user, user_of_image};
use crate::oci::error::refuse;
use crate::oci::{Error, ImageConfig};

/// What an image without an environment gets (containerd `oci/spec.go`, defaultUnixEnv).
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const NAMESPACE_TYPES: [&str; 8] = ["pid", "network", "uts", "mount", "user", "ipc", "cgroup", "time"];

/// What a spec is built from, beside the options.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// The containerd namespace, which names the cgroup.
    pub namespace: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// The image's config; none for a `rootfs`.
    pub image: Option<&'a ImageConfig>,
    /// The user files of its root filesystem.
    pub users: &'a UserFiles,
    /// What the machine has.
    pub host: &'a HostFacts,
}

/// Gives a spec the cgroup of a container when it has that of none yet, as the default spec is printed: all that are made of it
/// would share that one.
#[must_use]
pub fn in_own_cgroup(mut spec: Spec, namespace: &str, id: &str) -> Spec {
    if let Some(linux) = spec.linux.as_mut().filter(|linux| linux.cgroups_path == own_cgroup(namespace, "")) {
        linux.cgroups_path = own_cgroup(namespace, id);
    }
    spec
}

/// Builds the spec of a container.
///
/// # Errors
/// [`Error::Option`] for an option that makes no sense, contradicts another one, or names what the image does not have.
pub fn build(basis: &Basis<'_>, options: &SpecOptions) -> Result<Spec, Error> {
    if let Some(config) = &options.config {
        let mut spec = in_own_cgroup(config.clone(), basis.namespace, basis.id);
        spec.annotations.extend(options.labels.clone());
        return Ok(spec);
    }
    let mut spec = default_spec(basis.namespace, basis.id);
    let mut process = spec.process.take().unwrap_or_default();
    let mut linux = spec.linux.take().unwrap_or_default();
    let mut resources = linux.resources.take().unwrap_or_default();

    set_command(&mut process, basis.image, options)?;
    set_environment(&mut process, basis.image, options);
    if let Some(user) = &options.user {
        process.user = resolve_user(user, basis.users)?;
    } else if let Some(image) = basis.image {
        // A folder of the host has no config that would say who runs: as with ctr, its user files are then not asked.
        let user = Some(image.config.user.as_str()).filter(|user| !user.is_empty());
        process.user = user_of_image(user, basis.users)?;
    }
    process.no_new_privileges = !options.allow_new_privs;
    set_rlimits(&mut process, options)?;

    if let (Some(root), Some(path)) = (&mut spec.root, &options.rootfs) {
        root.path.clone_from(path);
    }
    if let Some(root) = &mut spec.root {
        root.readonly = options.read_only;
    }
    resources.devices.extend(default_device_rules());
    spec.mounts.extend(extra_mounts(options)?);
    if options.privileged {
        make_privileged(&mut process, &mut linux, &mut spec.mounts, basis.host);
        if !options.privileged_without_host_devices {
            resources.devices = vec![DeviceRule { allow: true, access: RWM.to_owned(), ..DeviceRule::default() }];
            linux.devices.extend(basis.host.devices.iter().cloned());
        }
    } else if options.privileged_without_host_devices {
        return Err(refuse(
            "privileged_without_host_devices",
            "true",
            "it says something of privileged alone; give both",
        ));
    }
    set_capabilities(&mut process, options)?;
    if let Some(profile) = &options.apparmor_profile {
        process.apparmor_profile.clone_from(profile);
    }
    if options.net_host {
        linux.namespaces.retain(|namespace| namespace.kind != "network");
        spec.mounts.push(mount("/etc/hosts", "bind", "/etc/hosts", &["rbind", "ro"]));
        spec.mounts.push(mount("/etc/resolv.conf", "bind", "/etc/resolv.conf", &["rbind", "ro"]));
        overlay_env(&mut process.env, &[format!("HOSTNAME={}", basis.host.hostname)]);
    }
    join_namespaces(&mut linux, options)?;
    options.limits()?.lay_over(&mut resources)?;
    if let Some(block_io) = &options.block_io {
        resources.other.insert("blockIO".to_owned(), block_io.clone());
    }
    map_ids(&mut linux, options)?;
    add_devices(&mut linux, &mut resources, &options.devices);
    if let Some(cgroup) = &options.cgroup {
        linux.cgroups_path.clone_from(cgroup);
    }
    if let Some(propagation) = &options.rootfs_propagation {
        let known = ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];
        if !known.contains(&propagation.as_str()) {
            return Err(refuse("rootfs_propagation", propagation, format!("it is one of {}", known.join(", "))));
        }
        linux.rootfs_propagation.clone_from(propagation);
    }
    if let Some(class) = &options.rdt_class {
        set_rdt_class(&mut linux, class)?;
    }
    if let Some(hostname) = &options.hostname {
        spec.hostname.clone_from(hostname);
    }
    spec.annotations.extend(options.annotations.clone());
    spec.annotations.extend(options.labels.clone());

    linux.resources = Some(resources);
    spec.process = Some(process);
    let mut linux = edited(&mut spec, linux, &options.cdi);
    linux.seccomp = match &options.seccomp_profile {
        Some(profile) => Some(profile.clone()),
        None if options.seccomp => Some(default_profile(&spec)),
        None => None,
    };
    spec.linux = Some(linux);
    Ok(spec)
}

/// Sets program, arguments and folder: entrypoint and command of the image, each replaceable.
fn set_command(process: &mut Process, image: Option<&ImageConfig>, options: &SpecOptions) -> Result<(), Error> {
    let config = image.map(|image| &image.config);
    // A command of one's own drops the image's arguments too: they were meant for another program.
    process.args = match &options.command {
        Some(command) => command.clone(),
        None => config.map(|config| config.entrypoint.clone()).unwrap_or_default(),
    };
    match (&options.args, &options.command) {
        (Some(args), _) => process.args.extend(args.iter().cloned()),
        (None, None) => process.args.extend(config.iter().flat_map(|config| config.cmd.iter().cloned())),
        (None, Some(_)) => {}
    }
    if process.args.is_empty() {
        return Err(refuse("command", "", "the image names no program to run; give a command"));
    }
    if let Some(part) = process.args.iter().find(|part| part.contains('\0')) {
        return Err(refuse("command", part, "it has a zero byte"));
    }
    let cwd = options.cwd.as_deref().or(config.map(|config| config.working_dir.as_str())).unwrap_or_default();
    if !cwd.is_empty() {
        if !cwd.starts_with('/') {
            return Err(refuse("cwd", cwd, "it is not an absolute path"));
        }
        cwd.clone_into(&mut process.cwd);
    }
    process.terminal = options.tty;
    Ok(())
}

/// Lays the options' environment over the image's.
fn set_environment(process: &mut Process, image: Option<&ImageConfig>, options: &SpecOptions) {
    if let Some(image) = image {
        process.env.clone_from(&image.config.env);
        if process.env.is_empty() {
            process.env.push(DEFAULT_PATH.to_owned());
        }
    }
    if let Some(text) = &options.env_file {
        let lines: Vec<String> = text
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with('#') && line.contains('='))
            .map(str::to_owned)
            .collect();
        overlay_env(&mut process.env, &lines);
    }
    overlay_env(&mut process.env, &options.env);
    let term = |entry: &String| entry == "TERM" || entry.starts_with("TERM=");
    if options.tty && !process.env.iter().chain(&options.env).any(term) {
        process.env.push("TERM=xterm".to_owned());
    }
}

/// Lays an environment over another: replaces in place what has the same name, appends what is new, removes what comes
/// without `=`.
pub fn overlay_env(env: &mut Vec<String>, over: &[String]) {
    for entry in over {
        let name = entry.split('=').next().unwrap_or_default();
        let same = |old: &String| old.split('=').next() == Some(name);
        if !entry.contains('=') {
            env.retain(|old| !same(old));
        } else if let Some(old) = env.iter_mut().find(|old| same(old)) {
            old.clone_from(entry);
        } else {
            env.push(entry.clone());
        }
    }
}

fn set_rlimits(process: &mut Process, options: &SpecOptions) -> Result<(), Error> {
    for limit in &options.rlimits {
        let name = limit.name.to_ascii_uppercase();
        let kind = if name.starts_with("RLIMIT_") { name } else { format!("RLIMIT_{name}") };
        if limit.soft > limit.hard {
            return Err(refuse("rlimits", &limit.name, "the soft limit is above the hard one"));
        }
        process.rlimits.retain(|old| old.kind != kind);
        process.rlimits.push(PosixRlimit { kind, hard: limit.hard, soft: limit.soft });
    }
    Ok(())
}

fn extra_mounts(options: &SpecOptions) -> Result<Vec<Mount>, Error> {
    options
        .mounts
        .iter()
        .map(|wanted| {
            if !wanted.destination.starts_with('/') {
                return Err(refuse("mount", &wanted.destination, "the destination is not an absolute path"));
            }
            Ok(Mount {
                destination: wanted.destination.clone(),
                kind: wanted.kind.clone(),
                source: wanted.source.clone(),
                options: wanted.options.clone(),
                ..Mount::default()
            })
        })
        .collect()
}

/// Takes the fences down (containerd `oci/spec_opts.go`, WithPrivileged).
fn make_privileged(process: &mut Process, linux: &mut Linux, mounts: &mut [Mount], host: &HostFacts) {
    let all = host.capabilities.clone();
    process.capabilities =
        Some(Capabilities { bounding: all.clone(), effective: all.clone(), permitted: all, ..Capabilities::default() });
    process.apparmor_profile.clear();
    linux.masked_paths.clear();
    linux.readonly_paths.clear();
    for mount in mounts.iter_mut().filter(|mount| matches!(mount.kind.as_str(), "sysfs" | "cgroup")) {
        for option in mount.options.iter_mut().filter(|option| *option == "ro") {
            "rw".clone_into(option);
        }
    }
}

fn set_capabilities(process: &mut Process, options: &SpecOptions) -> Result<(), Error> {
    for (option, names) in [("cap_add", &options.cap_add), ("cap_drop", &options.cap_drop)] {
        let bad = |name: &&String| {
            let rest = name.strip_prefix("CAP_").unwrap_or_default();
            rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        if let Some(name) = names.iter().find(bad) {
            return Err(refuse(option, name, "a capability is written in full, like CAP_NET_ADMIN"));
        }
    }
    let sets = process.capabilities.get_or_insert_default();
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        for name in &options.cap_add {
            if !set.contains(name) {
                set.push(name.clone());
            }
        }
    }
    // What is taken is taken from every set.
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted, &mut sets.inheritable, &mut sets.ambient]
    {
        set.retain(|name| !options.cap_drop.contains(name));
    }
    Ok(())
}

fn join_namespaces(linux: &mut Linux, options: &SpecOptions) -> Result<(), Error> {
    for join in &options.with_ns {
        if !NAMESPACE_TYPES.contains(&join.kind.as_str()) {
            return Err(refuse("with_ns", &join.kind, format!("the types are {}", NAMESPACE_TYPES.join(", "))));
        }
        if !join.path.starts_with('/') {
            return Err(refuse("with_ns", &join.path, "it is not an absolute path"));
        }
        let wanted = Namespace { kind: join.kind.clone(), path: join.path.clone() };
        match linux.namespaces.iter_mut().find(|namespace| namespace.kind == join.kind) {
            Some(namespace) => *namespace = wanted,
            None => linux.namespaces.push(wanted),
        }
    }
    Ok(())
}

/// Puts it into a class of resctrl (containerd `oci/spec_opts.go`, WithRdt). Whether the class is there is up to the runtime.
fn set_rdt_class(linux: &mut Linux, class: &str) -> Result<(), Error> {
    if class.is_empty() || class == "." || class == ".." || class.contains(['/', '\n', '\0']) {
        return Err(refuse("rdt_class", class, "it is no name of a folder of /sys/fs/resctrl"));
    }
    linux.other.insert("intelRdt".to_owned(), serde_json::json!({ "closID": class }));
    Ok(())
}

/// Gives it a user namespace (containerd `oci/spec_opts.go`, WithUserNamespace).
fn map_ids(linux: &mut Linux, options: &SpecOptions) -> Result<(), Error> {
    if options.uid_map.is_empty() && options.gid_map.is_empty() {
        return Ok(());
    }
    for (option, map) in [("uidmap", &options.uid_map), ("gidmap", &options.gid_map)] {
        if map.is_empty() {
            return Err(refuse(option, "", "a user namespace needs both uidmap and gidmap"));
        }
        if let Some(range) = map.iter().find(|range| !range.is_possible()) {
            return Err(refuse(option, &range.to_string(), "it has no ids, or goes beyond the largest one"));
        }
    }
    if !linux.namespaces.iter().any(|namespace| namespace.kind == "user") {
        linux.namespaces.push(Namespace { kind: "user".to_owned(), path: String::new() });
    }
    linux.uid_mappings.extend(options.uid_map.iter().copied());
    linux.gid_mappings.extend(options.gid_map.iter().copied());
    Ok(())
}

/// Makes the edits that devices by name need, which go over all of the spec.
fn edited(spec: &mut Spec, linux: Linux, edits: &[CdiEdits]) -> Linux {
    spec.linux = Some(linux);
    edits.iter().for_each(|edits| edits.apply(spec));
    spec.linux.take().unwrap_or_default()
}

fn add_devices(linux: &mut Linux, resources: &mut Resources, devices: &[Device]) {
    for device in devices {
        linux.devices.push(device.clone());
        resources.devices.push(DeviceRule {
            allow: true,
            kind: device.kind.clone(),
            major: Some(device.major),
            minor: Some(device.minor),
            access: RWM.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::runtime::Cpu;
    use super::*;
    use crate::kind::{Failure, Kind};
    use crate::oci::Digest;

    fn image(config: &str) -> ImageConfig {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        ImageConfig::read(&Digest::sha256(b""), text.as_bytes()).unwrap()
    }

    fn built(image: Option<&ImageConfig>, options: &SpecOptions) -> Result<Spec, Error> {
        let host = HostFacts { hostname: "node".into(), ..HostFacts::default() };
        build(&Basis { namespace: "ns", id: "id", image, users: &UserFiles::None, host: &host }, options)
    }

    #[test]
    fn who_runs_in_a_folder_of_the_host_has_no_groups_that_nobody_named() {
        let command = Some(vec!["true".to_owned()]);
        let options = SpecOptions { rootfs: Some("/srv".into()), command, ..SpecOptions::default() };
        let user = |options: &SpecOptions| built(None, options).unwrap().process.unwrap().user;
        assert_eq!(user(&options).additional_gids, [] as [u32; 0]);
        let named = SpecOptions { user: Some("5:6".into()), ..options };
        assert_eq!((user(&named).uid, user(&named).gid, user(&named).additional_gids), (5, 6, vec![6]));
    }

    fn process(image: &ImageConfig, options: &SpecOptions) -> Process {
        built(Some(image), options).unwrap().process.unwrap()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn command_and_args_replace_entrypoint_and_cmd() {
        let image = image(r#"{"Entrypoint":["/entry","-x"],"Cmd":["a","b"],"WorkingDir":"/work"}"#);
        let with = |command: Option<&[&str]>, args: Option<&[&str]>| {
            let options = SpecOptions { command: command.map(texts), args: args.map(texts), ..SpecOptions::default() };
            process(&image, &options).args.join(" ")
        };
        assert_eq!(with(None, None), "/entry -x a b");
        assert_eq!(with(None, Some(&["c"])), "/entry -x c");
        assert_eq!(with(Some(&["sh"]), None), "sh");
        assert_eq!(with(Some(&["sh"]), Some(&["-c", "true"])), "sh -c true");
        assert_eq!(process(&image, &SpecOptions::default()).cwd, "/work");
    }

    #[test]
    fn an_image_that_names_no_program_needs_a_command() {
        let error = built(Some(&image("{}")), &SpecOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("give a command"), "{error}");
    }

    #[test]
    fn the_environment_is_laid_over_in_place() {
        let image = image(r#"{"Cmd":["x"],"Env":["PATH=/bin","A=1","B=2"]}"#);
        let options = SpecOptions {
            env_file: Some("# a note\nA=file\n\n  F=f\nnothing\n".into()),
            env: texts(&["A=", "B", "C=x=y"]),
            tty: true,
            ..SpecOptions::default()
        };
        assert_eq!(process(&image, &options).env, texts(&["PATH=/bin", "A=", "F=f", "C=x=y", "TERM=xterm"]));
        let bare = super::tests::image(r#"{"Cmd":["x"]}"#);
        assert_eq!(process(&bare, &SpecOptions::default()).env, texts(&[DEFAULT_PATH]));
    }

    #[test]
    fn capabilities_keep_their_order() {
        let image = image(r#"{"Cmd":["x"]}"#);
        let options = SpecOptions {
            cap_add: texts(&["CAP_SYS_ADMIN", "CAP_CHOWN"]),
            cap_drop: texts(&["CAP_KILL"]),
            ..SpecOptions::default()
        };
        let sets = process(&image, &options).capabilities.unwrap();
        assert_eq!(sets.bounding.first().unwrap(), "CAP_CHOWN");
        assert_eq!(sets.bounding.last().unwrap(), "CAP_SYS_ADMIN");
        assert!(!sets.effective.contains(&"CAP_KILL".to_owned()));
        let wrong = SpecOptions { cap_add: texts(&["sys_admin"]), ..SpecOptions::default() };
        assert!(built(Some(&image), &wrong).unwrap_err().to_string().contains("CAP_NET_ADMIN"));
    }

    #[test]
    fn limits_are_checked() {
        let image = image(r#"{"Cmd":["x"]}"#);
        let of =
            |options: &SpecOptions| built(Some(&image), options).map(|spec| spec.linux.unwrap().resources.unwrap());
        let cpus = of(&SpecOptions { cpus: Some(1.5), cpu_shares: Some(5), ..SpecOptions::default() }).unwrap();
        assert_eq!(
            cpus.cpu,
            Some(Cpu { shares: Some(5), quota: Some(150_000), period: Some(100_000), ..Cpu::default() })
        );
        for options in [
            SpecOptions { cpus: Some(f64::NAN), ..SpecOptions::default() },
            SpecOptions { cpus: Some(-1.0), ..SpecOptions::default() },
            SpecOptions { cpus: Some(1.0), cpu_quota: Some(1), ..SpecOptions::default() },
            SpecOptions { memory_limit: Some(u64::MAX), ..SpecOptions::default() },
        ] {
            assert_eq!(of(&options).unwrap_err().kind(), Kind::Usage, "{options:?}");
        }
    }

    #[test]
    fn a_spec_keeps_fields_that_it_does_not_know() {
        let text = r#"{"ociVersion":"1.1.0","process":{"user":{"uid":0,"gid":0},"cwd":"/","ioPriority":{"class":"x"}},
            "linux":{"intelRdt":{"closID":"c"},"resources":{"pids":{"limit":7}}},"vm":{"kernel":{"path":"/k"}}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        let options = SpecOptions { config: Some(spec), ..SpecOptions::default() };
        let back = serde_json::to_value(built(None, &options).unwrap()).unwrap();
        assert_eq!(back, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}
