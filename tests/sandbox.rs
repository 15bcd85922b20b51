//! The throw-away containerd: it starts, and nothing of it stays, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ctrsh::kind::{Failure, Kind as FailureKind};
use ctrsh::sandbox::{Error, RegistryOptions, Sandbox};
use libtest_mimic::Trial;

use crate::harness::env::sandbox_in;
use crate::harness::leftovers::{mounts_with, processes_with};
use crate::harness::output::Output;
use crate::harness::{Env, Kind, trial};

/// The variable that makes the suite's program a process that holds a sandbox; its value says how it ends.
pub const HOLDER: &str = "CTRSH_SUITE_SANDBOX_HOLDER";

/// The tests of the sandbox.
pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("sandbox::starts_within_a_second_and_leaves_nothing", env, starts_and_leaves_nothing),
        trial("sandbox::a_panic_leaves_nothing", env, a_panic_leaves_nothing),
        trial("sandbox::what_a_killed_one_left_is_cleaned_by_the_next", env, a_killed_one_is_cleaned_by_the_next),
        trial("sandbox::a_living_one_is_left_alone", env, a_living_one_is_left_alone),
        trial("sandbox::the_snapshotter_fits_the_file_system", env, the_snapshotter_fits_the_file_system),
        trial("sandbox::files_behind_a_mount_survive", env, files_behind_a_mount_survive),
        trial("sandbox::a_failed_start_says_why_and_leaves_nothing", env, a_failed_start_leaves_nothing),
        trial("sandbox::a_missing_program_is_named_with_its_package", env, a_missing_program_is_named),
        trial("sandbox::without_root_it_says_so", env, without_root_it_says_so),
    ]
}

/// Runs as the process that holds a sandbox: starts one, tells where, and ends as it is told to.
pub fn hold(how: &str) {
    let base = std::env::var("TMPDIR").unwrap();
    match Sandbox::start(&sandbox_in(base).with_registry(RegistryOptions::default())) {
        Err(error) => eprintln!("{error}\n{}", error.hint().unwrap_or_default()),
        Ok(sandbox) => {
            let (socket, registry) = (sandbox.socket(), sandbox.registries()[0]);
            eprintln!("{} {} {registry} {}", socket.display(), sandbox.containerd_pid(), sandbox.stale().len());
            // The line that comes on standard input says that the test has seen enough.
            std::io::stdin().read_line(&mut String::new()).unwrap();
            assert!(how != "panic", "as told");
        }
    }
}

/// Another process with a sandbox.
struct Holder {
    child: Child,
    socket: PathBuf,
    containerd: u32,
    stale: usize,
}

impl Holder {
    fn start(base: &Path, how: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(HOLDER, how).env("TMPDIR", base).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [socket, containerd, _registry, stale] = words[..] else { panic!("the holder said: {line}") };
        Self { child, socket: socket.into(), containerd: containerd.parse().unwrap(), stale: stale.parse().unwrap() }
    }

    /// Lets it go on to its end.
    fn finish(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// What a sandbox with containers has on the machine.
#[derive(Debug)]
pub struct Traces {
    folder: PathBuf,
    namespace: String,
    /// The first processes of the containers.
    tasks: BTreeSet<u32>,
    sockets: BTreeSet<PathBuf>,
}

impl Traces {
    /// Starts containers in a sandbox (one running, with a child that ignores signals; one paused) and notes their traces.
    pub fn make(env: &Env, socket: &Path) -> Self {
        let folder = socket.parent().unwrap().to_owned();
        let namespace = env.fresh("sandbox");
        let reference = env.pushed(Kind::Busybox, "sandbox");
        let ctr = |arguments: &[&str]| {
            Output::of(Command::new("ctr").arg("-a").arg(socket).args(["-n", &namespace]).args(arguments)).lines()
        };
        ctr(&["images", "pull", "--plain-http", &reference]);
        let [running, paused] = [env.fresh("sandbox"), env.fresh("sandbox")];
        let stubborn = "trap '' TERM INT HUP; (trap '' TERM; sleep 600) & while :; do sleep 600; done";
        ctr(&["run", "-d", &reference, &running, "sh", "-c", stubborn]);
        ctr(&["run", "-d", &reference, &paused, "sleep", "600"]);
        ctr(&["tasks", "pause", &paused]);
        let tasks =
            ctr(&["tasks", "ls"]).iter().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
        let bundles = folder.join("state/io.containerd.runtime.v2.task").join(&namespace);
        let addresses = [&running, &paused].map(|id| fs::read_to_string(bundles.join(id).join("address")));
        let sockets = addresses.into_iter().flatten().filter_map(|text| Some(text.strip_prefix("unix://")?.into()));
        let traces = Self { folder, namespace, tasks, sockets: sockets.collect() };
        // Or the test could not fail.
        assert_eq!(traces.tasks.len(), 2, "{traces:?}");
        assert!(traces.tasks.iter().all(|pid| is_alive(*pid)), "{traces:?}");
        assert!(!traces.cgroups().is_empty() && traces.runtime_state().exists(), "{traces:?}");
        assert!(mounts_with(&traces.folder.to_string_lossy()).len() >= 2, "{traces:?}");
        traces
    }

    fn runtime_state(&self) -> PathBuf {
        Path::new("/run/containerd/runc").join(&self.namespace)
    }

    /// The cgroups of the namespace, in each hierarchy.
    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let hierarchies = hierarchies.chain(["/sys/fs/cgroup".into()]);
        hierarchies.map(|folder| folder.join(&self.namespace)).filter(|path| path.is_dir()).collect()
    }

    /// Fails when anything is left.
    #[track_caller]
    pub fn assert_gone(&self) {
        let folder = self.folder.to_string_lossy();
        assert!(!self.folder.exists(), "{folder} is left");
        assert_eq!(processes_with(&folder), BTreeSet::new(), "processes are left");
        assert!(!self.tasks.iter().any(|pid| is_alive(*pid)), "processes of containers are left: {self:?}");
        assert_eq!(mounts_with(&folder), BTreeSet::new(), "mounts are left");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups are left");
        assert!(!self.runtime_state().exists(), "state of runc is left");
        assert!(!self.sockets.iter().any(|socket| socket.exists()), "sockets of shims are left: {self:?}");
    }
}

/// Returns whether a process runs; a zombie does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits for what happens in another process.
#[track_caller]
fn wait_until(what: &str, mut test: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !test() {
        assert!(Instant::now() < deadline, "{what} did not happen within ten seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lists what is in a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect()
}

fn starts_and_leaves_nothing(env: &Env) {
    let base = env.new_folder("sandbox");
    let options = sandbox_in(&base).with_registry(RegistryOptions::default());
    let sandbox = Sandbox::start(&options).unwrap();
    let mode = fs::metadata(sandbox.folder()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(sandbox.registries()[0].ip().is_loopback());
    let traces = Traces::make(env, sandbox.socket());
    std::thread::scope(|scope| scope.spawn(|| sandbox.stop().unwrap()).join().unwrap());
    traces.assert_gone();
    sandbox.stop().unwrap();
    assert_eq!(entries(&base), Vec::<PathBuf>::new());
}

fn a_panic_leaves_nothing(env: &Env) {
    let base = env.new_folder("sandbox");
    let holder = Holder::start(&base, "panic");
    let traces = Traces::make(env, &holder.socket);
    holder.finish();
    traces.assert_gone();
    assert_eq!(entries(&base), Vec::<PathBuf>::new());
}

fn a_killed_one_is_cleaned_by_the_next(env: &Env) {
    let base = env.new_folder("sandbox");
    let mut holder = Holder::start(&base, "stop");
    let traces = Traces::make(env, &holder.socket);
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    wait_until("the death of containerd", || !is_alive(holder.containerd));
    assert!(traces.folder.exists() && traces.tasks.iter().all(|pid| is_alive(*pid)), "nothing to clean: {traces:?}");
    let next = Sandbox::start(&sandbox_in(&base)).unwrap();
    traces.assert_gone();
    let [stale] = next.stale() else { panic!("{:?}", next.stale()) };
    assert!(stale.error.is_none(), "{stale:?}");
    assert_eq!(stale.folder, traces.folder);
    assert_eq!(stale.owner, i32::try_from(holder.child.id()).ok());
    next.stop().unwrap();
    assert_eq!(entries(&base), Vec::<PathBuf>::new());
}

fn a_living_one_is_left_alone(env: &Env) {
    let base = env.new_folder("sandbox");
    let first = Holder::start(&base, "stop");
    let traces = Traces::make(env, &first.socket);
    let second = Holder::start(&base, "stop");
    assert_eq!(second.stale, 0);
    second.finish();
    assert!(traces.tasks.iter().all(|pid| is_alive(*pid)) && is_alive(first.containerd));
    first.finish();
    traces.assert_gone();
    assert_eq!(entries(&base), Vec::<PathBuf>::new());
}

fn the_snapshotter_fits_the_file_system(env: &Env) {
    let [base, lower, upper, work] = [(); 4].map(|()| env.new_folder("sandbox"));
    // The kernel refuses an overlay whose upper side lies on an overlay.
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    for (options, snapshotter) in [(["tmpfs", "rw"], "overlayfs"), (["overlay", &options], "native")] {
        let [file_system, options] = options;
        Output::of(Command::new("mount").args(["-t", file_system, "-o", options, file_system]).arg(&base)).ok();
        let sandbox = Sandbox::start(&sandbox_in(&base)).unwrap();
        let found = sandbox.snapshotter();
        sandbox.stop().unwrap();
        // Lazily: a process of another test may look at the folder just now.
        Output::of(Command::new("umount").arg("--lazy").arg(&base)).ok();
        assert_eq!(found, snapshotter, "on {file_system}");
    }
}

fn files_behind_a_mount_survive(env: &Env) {
    let base = env.new_folder("sandbox");
    let precious = env.new_folder("precious");
    fs::write(precious.join("file"), "data").unwrap();
    let sandbox = Sandbox::start(&sandbox_in(&base)).unwrap();
    let target = sandbox.folder().join("a folder");
    fs::create_dir(&target).unwrap();
    Output::of(Command::new("mount").arg("--bind").args([&precious, &target])).ok();
    assert!(target.join("file").exists());
    sandbox.stop().unwrap();
    assert!(!target.exists());
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "data");
}

fn a_failed_start_leaves_nothing(env: &Env) {
    let base = env.new_folder("sandbox");
    let mut options = sandbox_in(&base).with_registry(RegistryOptions::default());
    options.config = "[this is no TOML".into();
    let error = Sandbox::start(&options).unwrap_err();
    assert!(matches!(&error, Error::Ended { log, .. } if log.contains("toml")), "{error:?}");
    assert_eq!(error.kind(), FailureKind::Unavailable);

    let mut broken = RegistryOptions::default();
    broken.tls = Some((base.join("missing.crt"), base.join("missing.key")));
    let error = Sandbox::start(&sandbox_in(&base).with_registry(broken)).unwrap_err();
    assert!(error.to_string().contains("docker-registry") && error.to_string().contains("missing.crt"), "{error}");

    assert_eq!(processes_with(&base.to_string_lossy()), BTreeSet::new());
    assert_eq!(entries(&base), Vec::<PathBuf>::new());
}

fn a_missing_program_is_named(env: &Env) {
    let base = env.new_folder("sandbox");
    let search = env.new_folder("search");
    for (program, package) in [("containerd", "containerd"), ("runc", "runc"), ("docker-registry", "docker-registry")] {
        let mut options = sandbox_in(&base).with_registry(RegistryOptions::default());
        // Nothing but the search says where programs are.
        options.containerd = None;
        options.search = vec![search.clone()];
        let error = Sandbox::start(&options).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{program} was not found in {}", search.display())), "{error}");
        assert!(error.hint().unwrap().contains(&format!("apt-get install {package}")));
        // With this one there, the next one is missed.
        let real = Output::of(Command::new("sh").args(["-c", &format!("command -v {program}")])).ok();
        std::os::unix::fs::symlink(real.trim(), search.join(program)).unwrap();
    }
    assert_eq!(entries(&base), Vec::<PathBuf>::new());
}

fn without_root_it_says_so(_env: &Env) {
    use std::os::unix::process::CommandExt;
    // The suite's program may lie where only root comes.
    let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let program = folder.path().join("suite");
    // By another process: a file that this one holds open to write, and that another test's child inherits, does not run.
    Output::of(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program)).ok();
    let mut command = Command::new(program);
    command.env(HOLDER, "stop").env("TMPDIR", "/tmp").current_dir("/").uid(65534).gid(65534);
    let output = Output::of(&mut command);
    assert_eq!(
        output.stderr, "a sandbox needs root, and this process runs as user 65534\nrun it with sudo\n",
        "{output}"
    );
}
