//! `ctrsh doctor`: what works and what does not on this node, each with its cure.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::environment;
use crate::containerd::introspection::Plugin;
use crate::kind::Failure;
use crate::ops::{self, Context};
use crate::shell::style::Role;
use crate::shell::{Shell, escape, status};

/// Below how many free bytes a disk counts as nearly full.
const LITTLE: u64 = 1 << 30;

/// How one thing is.
enum State {
    Good,
    /// It limits what can be done.
    Worse,
    /// Nothing works without it.
    Broken,
}

struct Finding {
    name: &'static str,
    state: State,
    text: String,
    cure: Option<String>,
}

fn good(name: &'static str, text: impl Into<String>) -> Finding {
    Finding { name, state: State::Good, text: text.into(), cure: None }
}

fn worse(name: &'static str, text: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding { name, state: State::Worse, text: text.into(), cure: Some(cure.into()) }
}

/// Looks at everything and tells; returns 4 without a connection, 1 when something else is broken, else 0.
pub(super) fn run(shell: &Shell, hosts_dir: &Path, json: bool) -> u8 {
    let session = shell.interpreter().session();
    let ctx = session.context();
    let mut findings = Vec::new();
    let mut code = status::DONE;
    match session.wait(&ctx, ops::node::version(&ctx)) {
        Ok(version) => {
            findings.push(good("containerd", format!("{} at {}", version.version, ctx.place().daemon.endpoint())));
            match session.wait(&ctx, plugins(&ctx)) {
                Ok(plugins) => from_plugins(&plugins, &ctx, &mut findings),
                Err(error) => findings.push(broken("plugins", &error)),
            }
        }
        Err(error) => {
            findings.push(broken("containerd", &error));
            code = status::DISCONNECTED;
        }
    }
    findings.push(runc());
    findings.push(cgroups());
    findings.push(user());
    findings.push(hosts(hosts_dir));
    findings.push(docker_config());
    findings.push(disk("temporary files", &std::env::temp_dir()));
    if code == status::DONE && findings.iter().any(|finding| matches!(finding.state, State::Broken)) {
        code = status::FAILED;
    }
    tell(shell, &findings, json);
    code
}

fn broken(name: &'static str, failure: &dyn Failure) -> Finding {
    Finding { name, state: State::Broken, text: crate::kind::chain(failure), cure: failure.hint() }
}

async fn plugins(ctx: &Context) -> ops::Result<Vec<Plugin>> {
    Ok(ctx.client().await?.introspection().plugins(&[]).await?)
}

fn from_plugins(plugins: &[Plugin], ctx: &Context, findings: &mut Vec<Finding>) {
    let works = |kind: &str, id: &str| plugins.iter().any(|p| p.kind == kind && p.id == id && p.failure.is_none());
    let snapshotters: Vec<&str> = plugins
        .iter()
        .filter(|plugin| plugin.kind == "io.containerd.snapshotter.v1" && plugin.failure.is_none())
        .map(|plugin| plugin.id.as_str())
        .collect();
    let chosen = ctx.settings().snapshotter.as_deref().unwrap_or("overlayfs");
    findings.push(if snapshotters.contains(&chosen) {
        good("snapshotter", format!("{chosen} works (there are {})", snapshotters.join(", ")))
    } else {
        let why = plugins.iter().find(|plugin| plugin.id == chosen).and_then(|plugin| plugin.failure.as_deref());
        let why = why.map(|why| format!(": {}", why.lines().next().unwrap_or_default())).unwrap_or_default();
        let cure = format!("choose one that works with --snapshotter: {}", snapshotters.join(", "));
        worse("snapshotter", format!("{chosen} does not work{why}"), cure)
    });
    let cri = works("io.containerd.grpc.v1.cri", "cri") || works("io.containerd.cri.v1.runtime", "runtime");
    findings.push(good("kubernetes", if cri { "the CRI plugin runs" } else { "the CRI plugin is off" }));
    let root = plugins.iter().find_map(|plugin| plugin.exports.get("root")).map(PathBuf::from);
    if let Some(root) = root.as_deref().and_then(Path::parent) {
        findings.push(disk("images", root));
    }
}

fn runc() -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("runc")).find(|file| file.is_file());
    match found {
        Some(file) => good("runc", file.display().to_string()),
        None => worse("runc", "not found in the PATH of this user", "on Debian or Ubuntu: apt-get install runc"),
    }
}

fn cgroups() -> Finding {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return good("cgroups", "version 2");
    }
    if Path::new("/sys/fs/cgroup/memory").exists() {
        return good("cgroups", "version 1");
    }
    worse("cgroups", "not mounted at /sys/fs/cgroup", "mount -t cgroup2 none /sys/fs/cgroup")
}

fn user() -> Finding {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return good("user", "root");
    }
    let cure = "run it with sudo to mount images, run containers with a terminal, or make a sandbox";
    worse("user", format!("uid {}, not root", uid.as_raw()), cure)
}

fn hosts(folder: &Path) -> Finding {
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            let hosts: Vec<String> = entries
                .flatten()
                .filter(|entry| entry.path().join("hosts.toml").exists())
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect();
            let list = if hosts.is_empty() { "no registry is set up".to_owned() } else { hosts.join(", ") };
            good("hosts.toml", format!("{}: {list}", folder.display()))
        }
        Err(_) => good("hosts.toml", format!("{} is not there; registries are asked as they are", folder.display())),
    }
}

fn docker_config() -> Finding {
    let folder = environment::variable("DOCKER_CONFIG").map(PathBuf::from);
    let Some(file) = folder.or_else(|| environment::home().map(|home| home.join(".docker"))) else {
        return good("credentials", "no home, so none from docker login");
    };
    let file = file.join("config.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return good("credentials", format!("{} is not there", file.display()));
    };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(config) => {
            let of = |key: &str| config[key].as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
            let hosts: Vec<String> = of("auths").into_iter().chain(of("credHelpers")).flatten().collect();
            good("credentials", format!("{}: {}", file.display(), hosts.join(", ")))
        }
        Err(error) => {
            worse("credentials", format!("{} is not JSON: {error}", file.display()), "docker login writes it anew")
        }
    }
}

fn disk(name: &'static str, folder: &Path) -> Finding {
    let Ok(stat) = rustix::fs::statvfs(folder) else {
        return worse(name, format!("{} cannot be looked at", folder.display()), "run it as root");
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let text = format!("{} free in {}", crate::script::units::show_size(free), folder.display());
    if free < LITTLE || stat.f_favail == 0 && stat.f_files > 0 {
        return worse(name, text, "make room: delete images that no container uses");
    }
    good(name, text)
}

fn tell(shell: &Shell, findings: &[Finding], json: bool) {
    let screen = shell.screen();
    let word = |state: &State| match state {
        State::Good => ("ok", Role::Good),
        State::Worse => ("warn", Role::Warning),
        State::Broken => ("fail", Role::Error),
    };
    if json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({ "check": f.name, "state": word(&f.state).0, "text": f.text, "cure": f.cure }))
            .collect();
        screen.line(&escape::json(&serde_json::Value::from(list).to_string()));
        return;
    }
    for finding in findings {
        let (state, role) = word(&finding.state);
        let state = screen.palette().paint(role, &format!("{state:4}"));
        screen.line(&format!("{state}  {:15}  {}", finding.name, escape::line(&finding.text)));
        if let Some(cure) = &finding.cure {
            screen.line(&format!("{:23}cure: {}", "", escape::line(cure)));
        }
    }
}
