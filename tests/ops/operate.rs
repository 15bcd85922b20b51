//! Containers as an operator needs them: limits that change, networks, devices by name, terminals that are left and found again.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use ctrsh::containerd::io::LogTarget;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::spec::{ConsoleSize, Limits, SpecOptions};
use ctrsh::ops::container::{
    Attached, Create, CreateOptions, Delete, Exec, ExecDetached, ExecOptions, Kill, NetworkOptions, Restart, Run,
    RunOptions, Start, StartOptions, Stop, Update, addresses, attach, get, named_devices, wait,
};
use ctrsh::ops::execute;
use ctrsh::ops::task::{Checkpoint, metrics};
use libtest_mimic::Trial;
use rustix::fs::{XattrFlags, getxattr, setxattr};
use serde_json::Value;

use super::stage::{IMAGE, Stage};
use crate::harness::generation::{newest, sorted};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::operate::more of ctr's flags give ctr's spec", env, specs),
        trial("ops::operate::a user namespace has its own root, and the files are its own", env, user_namespace),
        trial("ops::operate::files of several names are shifted once, and keep capabilities", env, shifted_files),
        trial("ops::operate::devices by name bring what their file says", env, cdi),
        trial("ops::operate::limits change while it runs, or not at all", env, update),
        trial("ops::operate::a CNI network lives as long as its container", env, cni),
        trial("ops::operate::networks of names that look alike are apart", env, networks_apart),
        trial("ops::operate::a detached exec is waited for, killed and deleted", env, detached_exec),
        trial("ops::operate::a failed checkpoint says why and leaves it running", env, checkpoint),
        trial("ops::operate::a terminal is left and found again", env, left_terminal),
        trial("ops::operate::what cannot be attached to says why", env, unattachable),
        trial("ops::operate::a namespace takes its cgroup along, when nothing is in it", env, namespace_cgroup),
        trial("ops::operate::options that contradict one another are refused", env, mistakes),
    ]
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn command(words: &[&str]) -> CreateOptions {
    let spec = SpecOptions { command: Some(self::words(words)), ..SpecOptions::default() };
    CreateOptions { spec, ..CreateOptions::default() }
}

fn start(stage: &Stage, create: CreateOptions) -> String {
    let id = stage.env.fresh("operate");
    let options = RunOptions { id: Some(id.clone()), create, detach: true, ..RunOptions::default() };
    stage.run(Run::new(IMAGE, options)).unwrap();
    id
}

fn exec(stage: &Stage, id: &str, script: &str) -> String {
    let done = stage.run(Exec::new(id, words(&["sh", "-c", script]), ExecOptions::default())).unwrap();
    assert_eq!(done.code, 0, "{script}: {}", done.output.stderr.text());
    done.output.stdout.text()
}

fn maps(options: &mut SpecOptions) {
    options.uid_map = vec!["0:100000:65536".parse().unwrap()];
    options.gid_map = vec!["0:200000:65536".parse().unwrap()];
}

/// Lets the users of user namespaces pass through the folder of the shared daemon, as they may through `/run/containerd`.
pub(super) fn open_to_users(env: &Env) {
    fs::set_permissions(env.sandbox_folder(), fs::Permissions::from_mode(0o711)).unwrap();
}

fn specs(env: &Env) {
    open_to_users(env);
    let stage = Stage::new(env, "operate");
    let with = |change: fn(&mut CreateOptions)| {
        let mut options = command(&["sleep", "600"]);
        change(&mut options);
        options
    };
    let cases: Vec<(&[&str], CreateOptions)> = vec![
        (
            &["--cpus", "0.5", "--cpu-shares", "512", "--cgroup", "/operate/it"],
            with(|o| {
                (o.spec.cpus, o.spec.cpu_shares) = (Some(0.5), Some(512));
                o.spec.cgroup = Some("/operate/it".into());
            }),
        ),
        (
            &["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"],
            with(|o| {
                maps(&mut o.spec);
                o.spec.cpu_shares = Some(1024);
            }),
        ),
        (
            &["--no-pivot", "--rootfs-propagation", "rslave"],
            with(|o| {
                o.spec.rootfs_propagation = Some("rslave".into());
                o.spec.cpu_shares = Some(1024);
            }),
        ),
    ];
    for (flags, options) in cases {
        let (a, b) = (env.fresh("operate"), env.fresh("operate"));
        let run = ["run", "-d", "--null-io", "--snapshotter", &stage.snapshotter];
        stage.ctr(&[run.as_slice(), flags, &[IMAGE, &a, "sleep", "600"]].concat());
        let theirs = stage.info(&a);
        stage.ctr(&["tasks", "rm", "-f", &a]);
        stage.ctr(&["containers", "rm", &a]);
        stage.run(Create::new(&b, IMAGE, options)).unwrap();
        let ours = stage.info(&b);
        stage.run(Delete::new(&b, false, false)).unwrap();
        let spec = |info: &Value, id: &str| -> Value {
            serde_json::from_str(&info["Spec"].to_string().replace(id, "ID")).unwrap()
        };
        assert_eq!(sorted(spec(&ours, &b)), newest(spec(&theirs, &a)), "{flags:?}");
    }
    let (a, b) = (env.fresh("operate"), env.fresh("operate"));
    let kata = ["--runtime", "io.containerd.kata.v2", "--runtime-config-path", "/etc/kata.toml"];
    let create = ["containers", "create", "--snapshotter", &stage.snapshotter];
    stage.ctr(&[create.as_slice(), &kata, &[IMAGE, &a]].concat());
    let options = CreateOptions {
        runtime: Some("io.containerd.kata.v2".into()),
        runtime_config_path: Some("/etc/kata.toml".into()),
        ..command(&["true"])
    };
    stage.run(Create::new(&b, IMAGE, options)).unwrap();
    assert_eq!(stage.info(&b)["Runtime"], stage.info(&a)["Runtime"]);
    let read = env.block_on(get(&stage.ctx, &b)).unwrap();
    assert_eq!(read.runtime.config_path.as_deref(), Some("/etc/kata.toml"));
    for id in [a, b] {
        stage.ctr(&["containers", "rm", &id]);
    }
}

fn user_namespace(env: &Env) {
    open_to_users(env);
    let stage = Stage::new(env, "operate");
    let before = stage.leftovers();
    let mut options = command(&["sleep", "600"]);
    maps(&mut options.spec);
    // Given up half way, it leaves no mount; of so many files the owners are not changed at once.
    let many = stage.folder.join("many");
    fs::create_dir(&many).unwrap();
    (0..5000).for_each(|number| fs::write(many.join(number.to_string()), "").unwrap());
    stage.value(&format!("from_rootfs({:?}, \"example.test/many:1\").name", many.display().to_string()));
    for millis in [8, 16, 32, 64, 128] {
        let id = env.fresh("operate");
        env.block_on(async {
            let create = execute(&stage.ctx, Create::new(&id, "example.test/many:1", options.clone()));
            let done = tokio::time::timeout(Duration::from_millis(millis), create).await;
            stage.ctx.settle().await;
            if done.is_ok_and(|made| made.is_ok()) {
                execute(&stage.ctx, Delete::new(&id, false, false)).await.unwrap();
            }
        });
        let left = fs::read_dir(stage.folder.join("tmp")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "a mount is left after {millis} ms");
    }
    stage.ctr(&["images", "rm", "--sync", "example.test/many:1"]);
    let id = start(&stage, options.clone());
    let seen = exec(&stage, &id, "cat /proc/self/uid_map; id -u; stat -c %u:%g /bin/busybox; touch /made");
    let lines: Vec<Vec<&str>> = seen.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [vec!["0", "100000", "65536"], vec!["0"], vec!["0:0"]], "{seen}");
    let pid = env.block_on(ctrsh::ops::container::status(&stage.ctx, &id)).unwrap().unwrap().pid;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100000\t"), "{status}");
    // The second one stands on the same files.
    let second = start(&stage, options);
    for id in [id, second] {
        stage.run(Delete::new(&id, true, false)).unwrap();
    }
    assert_eq!(fs::read_dir(stage.folder.join("tmp")).unwrap().count(), 0, "a mount is left");
    // What nobody stands on any more is collected by the daemon.
    let deadline = Instant::now() + Duration::from_secs(20);
    while stage.leftovers() != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(stage.leftovers(), before);
}

/// What `setcap cap_net_raw+ep` writes, and what it writes for the namespace whose root is this user.
fn net_raw(root: Option<u32>) -> Vec<u8> {
    let form = if root.is_some() { 3 } else { 2 };
    let mut value = vec![1, 0, 0, form, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    value.extend(root.into_iter().flat_map(u32::to_le_bytes));
    value
}

fn shifted_files(env: &Env) {
    open_to_users(env);
    let stage = Stage::new(env, "operate");
    let (root, work) = (stage.folder.join("rootfs"), stage.folder.join("work"));
    for folder in ["bin", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::create_dir_all(&work).unwrap();
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists()).unwrap();
    for name in ["busybox", "grep", "passwd"] {
        fs::copy(program, root.join("bin").join(name)).unwrap();
    }
    for name in ["bin/sh", "bin/sleep", "top"] {
        fs::hard_link(root.join("bin/busybox"), root.join(name)).unwrap();
    }
    fs::hard_link(root.join("bin/grep"), root.join("bin/fgrep")).unwrap();
    setxattr(root.join("bin/grep"), "security.capability", &net_raw(None), XattrFlags::empty()).unwrap();
    fs::set_permissions(root.join("bin/passwd"), fs::Permissions::from_mode(0o4755)).unwrap();
    stage.value(&format!("from_rootfs({:?}, \"example.test/several:1\").name", root.display().to_string()));
    for snapshotter in [stage.snapshotter.as_str(), "native"] {
        for (map, root) in [("0:1000:65536", 1000), ("0:100000:65536", 100_000)] {
            let id = env.fresh("operate");
            let seen = stage.value(&format!(
                r#"
                let how = #{{ uidmap: "{map}", gidmap: "{map}", snapshotter: "{snapshotter}", allow_new_privs: true }};
                let c = run("example.test/several:1", how + #{{ id: "{id}", detach: true, command: ["/bin/sleep", "600"] }});
                c.copy_from("/.", "{id}", #{{ archive: true }});
                let seen = c.exec(["/bin/grep", "CapEff", "/proc/self/status"], #{{ user: "1000:1000" }}).stdout;
                c.delete(#{{ force: true }});
                seen
                "#
            ));
            let out = work.join(&id);
            for name in ["bin", "bin/busybox", "bin/sh", "bin/sleep", "top", "bin/grep", "bin/fgrep", "bin/passwd"] {
                let of = fs::metadata(out.join(name)).unwrap();
                assert_eq!((of.uid(), of.gid()), (root, root), "{name} of {snapshotter} by {map}");
            }
            assert_eq!(fs::metadata(out.join("bin/passwd")).unwrap().mode() & 0o7777, 0o4755);
            let mut value = [0; 100];
            let length = getxattr(out.join("bin/grep"), "security.capability", &mut value[..]);
            assert_eq!(length.map(|length| &value[..length]), Ok(&net_raw(Some(root))[..]), "{snapshotter} by {map}");
            assert_eq!(seen, "CapEff:\t0000000000002000\n", "{snapshotter} by {map}");
        }
    }
}

fn cdi(env: &Env) {
    let stage = Stage::new(env, "operate");
    let folder = stage.folder.join("cdi");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("shared"), "from the host\n").unwrap();
    let file = serde_json::json!({
        "cdiVersion": "0.5.0", "kind": "ctrsh.test/thing",
        "containerEdits": { "env": ["THING_ALL=yes"] },
        "devices": [{ "name": "zero", "containerEdits": {
            "env": ["THING=zero"],
            "deviceNodes": [{ "path": "/dev/thing", "hostPath": "/dev/zero" }],
            "mounts": [{ "hostPath": folder.join("shared"), "containerPath": "/thing", "options": ["ro", "bind"] }],
        }}],
    });
    fs::write(folder.join("thing.json"), file.to_string()).unwrap();
    let named = |name: &str| named_devices(&[name.parse().unwrap()], Some(std::slice::from_ref(&folder)));
    let mut options = command(&["sh", "-c", "echo $THING $THING_ALL; cat /thing; head -c 3 /dev/thing | od -An -tx1"]);
    options.spec.cdi = named("ctrsh.test/thing=zero").unwrap();
    let ran = stage.run(Run::new(IMAGE, RunOptions { create: options, ..RunOptions::default() })).unwrap();
    let output = ran.finished.unwrap().output;
    let seen: Vec<String> = output.stdout.text().split_whitespace().map(str::to_owned).collect();
    assert_eq!(seen, ["zero", "yes", "from", "the", "host", "00", "00", "00"], "{output:?}");
    let error = named("ctrsh.test/thing=zeros").unwrap_err();
    assert!(error.hint().unwrap().contains("ctrsh.test/thing=zero"), "{:?}", error.hint());
}

fn update(env: &Env) {
    let stage = Stage::new(env, "operate");
    let id = start(&stage, command(&["sleep", "600"]));
    let limits =
        Limits { memory: Some(96 << 20), cpus: Some(0.5), pids: Some(33), cpu_shares: Some(300), ..Limits::default() };
    stage.run(Update::new(&id, limits)).unwrap();
    let measured = env.block_on(metrics(&stage.ctx, &id)).unwrap();
    assert_eq!((measured.memory.limit, measured.pids.limit), (Some(96 << 20), Some(33)));
    let pointer = |place: &str| stage.info(&id)["Spec"].pointer(place).cloned().unwrap_or_default();
    assert_eq!(pointer("/linux/resources/cpu"), serde_json::json!({"shares": 300, "quota": 50_000, "period": 100_000}));
    // What is not named stays.
    stage.run(Update::new(&id, Limits { pids: Some(44), ..Limits::default() })).unwrap();
    let measured = env.block_on(metrics(&stage.ctx, &id)).unwrap();
    assert_eq!((measured.memory.limit, measured.pids.limit), (Some(96 << 20), Some(44)));
    // The kernel refuses a processor that there is not, and the record is as it was.
    let before = stage.info(&id)["Spec"].clone();
    let error =
        stage.run(Update::new(&id, Limits { cpuset_cpus: Some("4000".into()), ..Limits::default() })).unwrap_err();
    assert!(error.to_string().contains("cpus"), "{error}");
    assert_eq!(stage.info(&id)["Spec"], before);
    // The next start has them too.
    stage.run(Restart::new(&id, Some("KILL".parse().unwrap()), None)).unwrap();
    let measured = env.block_on(metrics(&stage.ctx, &id)).unwrap();
    assert_eq!((measured.memory.limit, measured.pids.limit), (Some(96 << 20), Some(44)));
    let error = stage.run(Update::new(&id, Limits::default())).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    stage.run(Delete::new(&id, true, false)).unwrap();
}

/// Writes down a network; returns the folders that it is in, and that its addresses are kept in.
fn network(stage: &Stage, subnet: &str) -> [std::path::PathBuf; 2] {
    let (conf, data) = (stage.folder.join("net.d"), stage.folder.join("ipam"));
    fs::create_dir(&conf).unwrap();
    let list = serde_json::json!({ "cniVersion": "0.4.0", "name": "operate", "plugins": [{
        "type": "ptp", "ipam": { "type": "host-local", "subnet": subnet, "dataDir": data },
    }]});
    fs::write(conf.join("10-operate.conflist"), list.to_string()).unwrap();
    [conf, data]
}

/// Counts the addresses that are given.
fn reserved(data: &Path) -> usize {
    let files = fs::read_dir(data.join("operate")).unwrap().flatten();
    files.filter(|entry| entry.file_name().to_string_lossy().starts_with("10.")).count()
}

fn netns(namespace: &str, id: &str) -> std::path::PathBuf {
    Path::new("/run/netns").join(format!("ctrsh-{namespace}--{id}"))
}

fn networks_apart(env: &Env) {
    let stage = Stage::new(env, "operate");
    let [conf, data] = network(&stage, "10.231.78.0/24");
    let options = || CreateOptions {
        network: Some(NetworkOptions { conf_dir: Some(conf.clone()), bin_dir: None, name: None }),
        ..command(&["sleep", "600"])
    };
    // Joined by one dash, both would be the same.
    let namespace = format!("{}-b", stage.namespace);
    let place = super::stage::place(&env.socket().to_string_lossy(), &namespace);
    let config = ctrsh::registry::Config::default();
    let other = super::stage::context_at(env, place, &stage.folder, ctrsh::grant::Allow::all(), config);
    env.ctr(&["namespaces", "create", namespace.as_str()]).ok();
    stage.value(&format!("copy(\"containerd:{IMAGE}\", \"containerd:[{namespace}]{IMAGE}\"); 1"));
    let run = |ctx: &ctrsh::ops::Context, id: &str| {
        let options = RunOptions { id: Some(id.to_owned()), create: options(), detach: true, ..RunOptions::default() };
        stage.run_in(ctx, Run::new(IMAGE, options)).unwrap();
        addresses(&env.block_on(get(ctx, id)).unwrap()).remove(0)
    };
    let (first, second) = (run(&stage.ctx, "b-c"), run(&other, "c"));
    assert_ne!(first, second);
    assert_eq!(reserved(&data), 2);
    for (namespace, id) in [(&stage.namespace, "b-c"), (&namespace, "c")] {
        assert!(netns(namespace, id).exists(), "{id} of {namespace}");
    }
    stage.run_in(&other, Delete::new("c", true, false)).unwrap();
    assert_eq!((reserved(&data), netns(&namespace, "c").exists()), (1, false));
    assert!(exec(&stage, "b-c", "ip -4 addr").contains(&first));
    stage.run(Delete::new("b-c", true, false)).unwrap();
    assert_eq!((reserved(&data), netns(&stage.namespace, "b-c").exists()), (0, false));
    // What a record of before names is what goes.
    stage.run(Create::new("old", IMAGE, options())).unwrap();
    let name = format!("ctrsh-{}-old", stage.namespace);
    env.block_on(async {
        let container = get(&stage.ctx, "old").await.unwrap();
        let mut network = container.extensions["ctrsh.network"].clone();
        let mut kept: Value = serde_json::from_slice(&network.value).unwrap();
        kept["netns"] = Path::new("/run/netns").join(&name).display().to_string().into();
        kept["id"] = format!("{}-old", stage.namespace).into();
        network.value = kept.to_string().into();
        let client = stage.ctx.client().await.unwrap();
        client.containers().set_extension("old", "ctrsh.network", &network).await.unwrap();
    });
    // Not by `ip netns add`, which leaves a mount on the folder.
    let old = Path::new("/run/netns").join(&name);
    fs::write(&old, "").unwrap();
    let made = std::process::Command::new("unshare").arg(format!("--net={}", old.display())).arg("true").status();
    assert!(made.unwrap().success());
    stage.run(Delete::new("old", true, false)).unwrap();
    assert!(!old.exists());
}

fn cni(env: &Env) {
    let stage = Stage::new(env, "operate");
    let before = stage.leftovers();
    let [conf, data] = network(&stage, "10.231.77.0/24");
    let options = |bin: &str| CreateOptions {
        network: Some(NetworkOptions { conf_dir: Some(conf.clone()), bin_dir: Some(bin.into()), name: None }),
        ..command(&["sleep", "600"])
    };
    let id = start(&stage, options("/usr/lib/cni"));
    let netns = netns(&stage.namespace, &id);
    let given = || addresses(&env.block_on(get(&stage.ctx, &id)).unwrap());
    let reserved = || reserved(&data);
    let first = given();
    assert!(first.len() == 1 && first[0].starts_with("10.231.77."), "{first:?}");
    let seen = exec(
        &stage,
        &id,
        "ip -4 addr; cat /sys/class/net/lo/operstate 2>/dev/null; ping -c 1 -W 2 127.0.0.1 >/dev/null && echo loop",
    );
    assert!(seen.contains(&first[0]) && seen.contains("loop"), "{seen}");
    // No signal touches it, and a restart finds it.
    for signal in ["HUP", "KILL"] {
        stage.run(Kill::new(&id, Some(signal.parse().unwrap()))).unwrap();
        assert!(netns.exists(), "{signal}");
    }
    env.block_on(wait(&stage.ctx, &id, "", Some(Duration::from_secs(10)))).unwrap();
    assert!(netns.exists());
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    assert_eq!((given(), reserved()), (first.clone(), 1));
    assert!(exec(&stage, &id, "ip -4 addr").contains(&first[0]));
    // A ctrsh that was killed before the record had the addresses: the namespace is made anew.
    stage.run(Stop::new(&id, None, Some(Duration::ZERO))).unwrap();
    env.block_on(async {
        let container = get(&stage.ctx, &id).await.unwrap();
        let mut network = container.extensions["ctrsh.network"].clone();
        let mut kept: Value = serde_json::from_slice(&network.value).unwrap();
        assert!(!kept["network"]["result"].take().is_null(), "{kept}");
        network.value = kept.to_string().into();
        let client = stage.ctx.client().await.unwrap();
        client.containers().set_extension(&id, "ctrsh.network", &network).await.unwrap();
    });
    assert_eq!((given(), netns.exists()), (vec![], true));
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    let again = given();
    assert_eq!((again.len(), reserved()), (1, 1));
    assert!(exec(&stage, &id, "ip -4 addr").contains(&again[0]));
    stage.run(Delete::new(&id, true, false)).unwrap();
    assert!(!netns.exists());
    assert_eq!(reserved(), 0);
    assert_eq!(stage.leftovers(), before);
    // A plugin that is missing is named, and nothing is left.
    let error =
        stage.run(Run::new(IMAGE, RunOptions { create: options("/nowhere"), ..RunOptions::default() })).unwrap_err();
    assert!(
        error.to_string().contains("loopback") && error.hint().unwrap().contains("containernetworking-plugins"),
        "{error}"
    );
    let left = fs::read_dir("/run/netns")
        .unwrap()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().contains(&stage.namespace));
    assert!(!left && stage.leftovers() == before);
}

fn detached_exec(env: &Env) {
    let stage = Stage::new(env, "operate");
    let id = start(&stage, command(&["sleep", "600"]));
    let log = stage.folder.join("exec.log");
    let options = ExecOptions {
        exec_id: Some("job".into()),
        cwd: Some("/tmp".into()),
        user: Some("app".into()),
        env: words(&["A=b"]),
        log: Some(LogTarget::File(log.clone())),
        ..ExecOptions::default()
    };
    let script = "echo $A $(id -u) $(pwd); exec sleep 600";
    let exec_id = stage.run(ExecDetached::new(&id, words(&["/bin/sh", "-c", script]), options.clone())).unwrap();
    assert_eq!(exec_id, "job");
    let error = stage.run(ExecDetached::new(&id, words(&["true"]), options)).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(&log).unwrap_or_default() != "b 1000 /tmp\n" {
        assert!(Instant::now() < deadline, "{:?}", fs::read_to_string(&log));
        std::thread::sleep(Duration::from_millis(20));
    }
    let delete = |force| ctrsh::ops::task::Delete::new(&id, "job", force);
    let error = stage.run(delete(false)).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    stage.run(Kill::new(&id, Some("TERM".parse().unwrap())).exec("job")).unwrap();
    let exit = env.block_on(wait(&stage.ctx, &id, "job", Some(Duration::from_secs(10)))).unwrap();
    assert_eq!(exit.code, 143);
    assert_eq!(stage.run(delete(false)).unwrap().unwrap().code, 143);
    let error = stage.run(delete(false)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    // The task alone goes by force, and the container stays.
    stage.run(ctrsh::ops::task::Delete::new(&id, "", true)).unwrap();
    assert_eq!(stage.task_status(&id), None);
    stage.info(&id);
    stage.run(Delete::new(&id, false, false)).unwrap();
    assert_eq!(stage.leftovers().1, 0);
}

fn checkpoint(env: &Env) {
    let stage = Stage::new(env, "operate");
    let id = start(&stage, command(&["sleep", "600"]));
    let state = stage.folder.join("state");
    match stage.run(Checkpoint::new(&id, state.clone(), None, false)) {
        Ok(()) => assert!(state.exists()),
        Err(error) => {
            assert_eq!(error.kind(), Failed::Conflict, "{error}");
            assert!(error.to_string().to_lowercase().contains("criu"), "{error}");
            assert!(!state.exists());
        }
    }
    assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
    stage.run(Delete::new(&id, true, false)).unwrap();
}

/// Reads until something was written.
async fn read_until(attached: &mut Attached, wanted: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains(wanted) {
        let read = tokio::time::timeout(Duration::from_secs(20), attached.read(&mut buffer)).await;
        let count = read.unwrap_or_else(|_| panic!("only {seen:?} came")).unwrap();
        assert!(count > 0, "it ended after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

fn left_terminal(env: &Env) {
    let stage = Stage::new(env, "operate");
    let mut options = command(&["sh", "-c", "while read line; do echo \"got $line\"; done; exit 4"]);
    options.spec.tty = true;
    let id = start(&stage, options);
    assert!(stage.ctr(&["containers", "info", &id]).contains("\"terminal\": true"));
    env.block_on(async {
        let mut first = attach(&stage.ctx, &id, "").await.unwrap();
        assert!(first.terminal.is_terminal());
        first.window().resize(ConsoleSize { height: 20, width: 70 }).await;
        first.terminal.write(b"one\n").await.unwrap();
        read_until(&mut first, "got one").await;
        let held = first.leave().unwrap().unwrap();
        // What is written meanwhile waits.
        let mut second = attach(&stage.ctx, &id, "").await.unwrap();
        drop(held);
        second.terminal.write(b"two\n").await.unwrap();
        let seen = read_until(&mut second, "got two").await;
        assert!(!seen.contains("got one"), "{seen:?}");
        second.terminal.write(b"\x04").await.unwrap();
        assert_eq!(second.ended().await.unwrap().code, 4);
        second.finish().await.unwrap();
    });
    // The end of the attaching is not the end of the task.
    assert_eq!(stage.task_status(&id).as_deref(), Some("STOPPED"));
    assert_eq!(stage.leftovers().1, 1, "its FIFOs");
    stage.run(Delete::new(&id, false, false)).unwrap();
    assert_eq!(stage.leftovers().1, 0);
}

fn unattachable(env: &Env) {
    let stage = Stage::new(env, "operate");
    let fails = |id: &str, says: &str| {
        let error = env.block_on(attach(&stage.ctx, id, "")).map(drop).unwrap_err();
        assert_eq!(error.kind(), Failed::Conflict, "{error}");
        assert!(error.to_string().contains(says) && error.hint().is_some(), "{error}: {says}");
    };
    let logged = start(&stage, command(&["sleep", "600"]));
    fails(&logged, "its output goes to file://");
    stage.ctr(&["run", "-d", "--null-io", "--snapshotter", &stage.snapshotter, IMAGE, "silent", "sleep", "600"]);
    fails("silent", "without output");
    let mut options = command(&["cat"]);
    options.spec.tty = true;
    let tty = start(&stage, options);
    let fifo = env.block_on(ctrsh::ops::container::status(&stage.ctx, &tty)).unwrap().unwrap().stdout;
    let mut other = std::process::Command::new("sleep")
        .arg("600")
        .stdin(fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(format!("/proc/{}/comm", other.id())).unwrap().trim() != "sleep" {
        assert!(Instant::now() < deadline);
    }
    fails(&tty, &format!("sleep with the pid {}", other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
    fs::remove_file(&fifo).unwrap();
    fails(&tty, "cannot be reached");
    let error = env.block_on(attach(&stage.ctx, "nobody", "")).map(drop).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    let error = env.block_on(attach(&stage.ctx, &logged, "nothing")).map(drop).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    for id in [logged.as_str(), tty.as_str(), "silent"] {
        stage.run(Delete::new(id, true, false)).unwrap();
    }
}

fn namespace_cgroup(env: &Env) {
    let stage = Stage::new(env, "cgroup");
    let id = start(&stage, command(&["sleep", "600"]));
    let folders = || -> Vec<std::path::PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let below = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        below
            .chain([root.to_owned()])
            .map(|folder| folder.join(&stage.namespace))
            .filter(|path| path.exists())
            .collect()
    };
    stage
        .value(&format!("container({id:?}).delete(#{{ force: true }}); delete_images(images(), #{{ wait: true }}); 1"));
    assert!(!folders().is_empty(), "runc leaves the cgroup of a namespace");
    let delete = format!("namespaces::delete({:?}, #{{ cgroup: true }}); 1", stage.namespace);
    let busy = folders()[0].join("busy");
    fs::create_dir(&busy).unwrap();
    let refused = stage.script(&delete).unwrap_err();
    assert!(refused.error.message.contains("still has processes or other cgroups in it"), "{refused:?}");
    assert!(stage.ctr(&["namespaces", "ls", "-q"]).contains(&stage.namespace));
    fs::remove_dir(&busy).unwrap();
    stage.value(&delete);
    assert_eq!(folders(), Vec::<std::path::PathBuf>::new());
    assert!(!stage.ctr(&["namespaces", "ls", "-q"]).contains(&stage.namespace));
}

fn mistakes(env: &Env) {
    let stage = Stage::new(env, "operate");
    let before = stage.leftovers();
    let with = |change: fn(&mut CreateOptions)| {
        let mut options = command(&["true"]);
        change(&mut options);
        options
    };
    for (says, options) in [
        ("runtime_config_path", with(|o| o.runtime_config_path = Some("/x".into()))),
        (
            "takes no options of runc",
            with(|o| {
                o.runtime = Some("io.containerd.kata.v2".into());
                o.runc.binary_name = "crun".into();
            }),
        ),
        ("needs cgroup", with(|o| o.runc.systemd_cgroup = true)),
        ("remap_labels", with(|o| o.remap_labels = true)),
        ("privileged_without_host_devices", with(|o| o.spec.privileged_without_host_devices = true)),
        ("gidmap", with(|o| o.spec.uid_map = vec!["0:1:1".parse().unwrap()])),
        ("cpuset_cpus", with(|o| o.spec.cpuset_cpus = Some("all".into()))),
        (
            "cni",
            with(|o| {
                o.spec.net_host = true;
                o.network = Some(NetworkOptions::default());
            }),
        ),
        (
            "no such CNI network",
            with(|o| {
                o.network = Some(NetworkOptions { conf_dir: Some("/nowhere".into()), ..NetworkOptions::default() });
            }),
        ),
        ("AppArmor", with(|o| o.apparmor_default_profile = Some("ctrsh-test".into()))),
        ("sandbox", with(|o| o.sandbox = Some("pod".into()))),
    ] {
        if says == "AppArmor" && Path::new("/sys/kernel/security/apparmor/profiles").exists() {
            continue;
        }
        let error = stage.run(Create::new("operate-mistake", IMAGE, options)).unwrap_err();
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        assert!(text.contains(says), "{says}: {text}");
        assert_eq!(stage.leftovers(), before, "{says}");
    }
}
