//! `ctr run` and `ctr containers create`, which share most of their flags.

use super::error::Error;
use super::parse::Parsed;
use super::source::{Map, array, call, text};
use super::table::{ANY, COMMAND, Command, Flag, Form, Tier, Value, many, one, option, process, silent, switch};
use super::{Result, Step};

const A: Tier = Tier::A;
const B: Tier = Tier::B;
const C: Tier = Tier::C;

/// How a container is made.
const SPEC: &[Flag] = &[
    one("snapshotter", "native", A, option(Value::Text)),
    many("snapshotter-label", "team=core", B, option(Value::Labels)),
    one("config", "spec.json", A, option(Value::Text)).or("c"),
    one("cwd", "/srv", A, option(Value::Text)),
    many("env", "TZ=UTC", A, option(Value::Env)),
    one("env-file", "web.env", A, option(Value::Text)),
    many("label", "team=core", A, option(Value::Labels)),
    many("annotation", "team=core", A, option(Value::Labels)),
    many("mount", "type=bind,src=/srv,dst=/srv,options=rbind:ro", A, option(Value::Array)),
    switch("net-host", A, option(Value::Switch)),
    switch("privileged", A, option(Value::Switch)),
    switch("read-only", A, option(Value::Switch)),
    one("runtime", "io.containerd.runc.v2", A, option(Value::Text)),
    one("runtime-config-path", "/etc/runtime.toml", B, option(Value::Text)),
    switch("tty", A, Form::Own).or("t"),
    many("with-ns", "network:/run/netns/web", A, option(Value::Array)),
    many("gpus", "0", B, option(Value::Counts)),
    switch("allow-new-privs", B, option(Value::Switch)),
    one("memory-limit", "67108864", A, option(Value::Size)),
    many("device", "/dev/fuse", A, option(Value::Array)),
    many("cap-add", "CAP_NET_ADMIN", A, option(Value::Array)),
    many("cap-drop", "CAP_CHOWN", A, option(Value::Array)),
    switch("seccomp", A, option(Value::Switch)),
    one("seccomp-profile", "profile.json", B, option(Value::Text)),
    one("apparmor-default-profile", "ctrsh-default", B, option(Value::Text)),
    one("apparmor-profile", "web", B, option(Value::Text)),
    one("rdt-class", "gold", B, option(Value::Text)),
    one("blockio-config-file", "/etc/blockio.yaml", B, option(Value::Text)),
    one("blockio-class", "gold", B, option(Value::Text)),
    switch("rootfs", A, option(Value::Switch)),
    switch("no-pivot", B, option(Value::Switch)),
    one("cpu-quota", "50000", B, option(Value::Count(Some(-1)))),
    one("cpu-period", "100000", B, option(Value::Count(Some(0)))),
    one("rootfs-propagation", "rslave", B, option(Value::Text)),
    one("hostname", "web", A, option(Value::Text)),
    one("user", "1000:1000", A, option(Value::Text)).or("u"),
    one("sandbox", "pod", B, option(Value::Text)),
];

/// What a container is made for alone has of a task, and does nothing there.
const CREATE: &[Flag] = &[
    one("pid-file", "web.pid", C, Form::Other("a container that is only made has no process; start takes it")),
    one("runc-binary", "/usr/bin/runc", B, option(Value::Text)),
    one("runc-root", "/run/runc", B, option(Value::Text)),
    switch("runc-systemd-cgroup", B, option(Value::Switch)),
];

/// How a container runs.
const RUN: &[Flag] = &[
    switch("rm", A, option(Value::Switch)),
    switch("null-io", B, Form::Own),
    one("log-uri", "file:///var/log/web.log", A, option(Value::Text)),
    switch("detach", A, option(Value::Switch)).or("d"),
    one("pid-file", "web.pid", A, option(Value::Text)),
    one("fifo-dir", "/run/fifos", C, option(Value::Text)),
    one("cgroup", "/web", B, option(Value::Text)),
    one("platform", "linux/arm64", A, option(Value::Text)),
    switch("cni", B, option(Value::Switch)),
    one("runc-binary", "/usr/bin/runc", B, option(Value::Text)),
    one("runc-root", "/run/runc", B, option(Value::Text)),
    switch("runc-systemd-cgroup", B, option(Value::Switch)),
    many("uidmap", "0:100000:65536", B, option(Value::Texts)),
    many("gidmap", "0:100000:65536", B, option(Value::Texts)),
    switch("remap-labels", B, option(Value::Switch)),
    switch("privileged-without-host-devices", B, option(Value::Switch)),
    one("cpus", "1.5", A, option(Value::Number)),
    one("cpu-shares", "512", B, option(Value::Count(Some(0)))),
    one("cpuset-cpus", "0-1", B, option(Value::Text)),
    one("cpuset-mems", "0", B, option(Value::Text)),
    super::table::SYNC_FS,
];

/// What was said of a container: the image or folder, the id, the command.
struct Named {
    image: String,
    id: String,
    command: Vec<String>,
}

fn named(p: &Parsed) -> Result<Named> {
    let args = p.args();
    let Some(second) = args.get(1) else {
        // With a spec of its own there is no image.
        if p.value("config").is_some() {
            return Ok(Named { image: "/".to_owned(), id: args[0].clone(), command: Vec::new() });
        }
        return Err(Error::arguments(p.command, "has too few arguments"));
    };
    if p.value("config").is_some() {
        return Err(Error::arguments(p.command, "takes only an id beside --config, whose spec says all else"));
    }
    Ok(Named { image: args[0].clone(), id: second.clone(), command: args[2..].to_vec() })
}

fn options(p: &Parsed, named: &Named) -> Result<Map> {
    let mut options = p.options()?;
    if !named.command.is_empty() {
        options.set("command", array(&named.command));
    }
    if p.has("tty") {
        options.set("tty", "true");
    }
    if p.value("config").is_some() {
        // The spec names the folder; no image and no snapshot belong to the container.
        options.set("rootfs", "true");
    }
    Ok(options)
}

fn create_call(named: &Named, options: &Map) -> String {
    call("create", &[text(&named.id), text(&named.image)], options)
}

fn create(p: &Parsed) -> Result<Vec<Step>> {
    let named = named(p)?;
    silent(create_call(&named, &options(p, &named)?))
}

/// Sets the weight that ctr has as a default, which is the kernel's, but in the spec.
fn weigh(p: &Parsed, options: &mut Map) {
    if p.value("cpu-shares").is_none() && p.value("config").is_none() {
        options.set("cpu_shares", "1024");
    }
}

fn run(p: &Parsed) -> Result<Vec<Step>> {
    let named = named(p)?;
    let mut own = options(p, &named)?;
    if p.has("rm") && p.has("detach") {
        let problem = "takes --rm or --detach, not both";
        return Err(Error::arguments(p.command, problem));
    }
    if p.has("tty") && !p.has("detach") {
        own.remove("rm");
        weigh(p, &mut own);
        let mut steps = vec![Step::Silent(create_call(&named, &own)), Step::Start { id: named.id.clone() }];
        if p.has("rm") {
            steps.push(Step::Silent(call("delete", &[text(&named.id)], &Map::default())));
        }
        return Ok(steps);
    }
    if p.has("null-io") {
        own.set("log_uri", text("null"));
    }
    weigh(p, &mut own);
    let mut all = Map::default();
    all.set("id", text(&named.id));
    if !p.has("detach") {
        all.set("stdio", text("inherit"));
    }
    all.extend(own);
    let run = call("run", &[text(&named.image)], &all);
    if p.has("detach") { silent(run) } else { process(run) }
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        group: "containers",
        names: &["create"],
        id: "K1",
        usage: "[FLAGS] IMAGE CONTAINER [COMMAND [ARGUMENT…]], or --config FILE CONTAINER",
        count: (1, ANY),
        verbatim: true,
        sample: &["docker.io/library/busybox:latest", "web", "sleep", "60"],
        instead: &[("config", &["web"]), ("rootfs", &["/srv/rootfs", "web", "sleep", "60"])],
        flags: &[SPEC, CREATE],
        make: create,
        ..COMMAND
    },
    Command {
        names: &["run"],
        id: "R1",
        usage: "[FLAGS] IMAGE CONTAINER [COMMAND [ARGUMENT…]], or --config FILE CONTAINER",
        count: (1, ANY),
        verbatim: true,
        sample: &["docker.io/library/busybox:latest", "web", "sleep", "60"],
        instead: &[("config", &["web"]), ("rootfs", &["/srv/rootfs", "web", "sleep", "60"])],
        flags: &[SPEC, RUN],
        make: run,
        ..COMMAND
    },
];
