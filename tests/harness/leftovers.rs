//! What an operation may leave behind, as lists to compare before and after.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::env::Env;
use super::owner;

/// What there is in a namespace and on the machine for the shared containerd.
///
/// Take one before and one after, and compare with `assert_eq!`; to leave out what is meant to stay, clear its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftovers {
    pub images: BTreeSet<String>,
    pub containers: BTreeSet<String>,
    pub tasks: BTreeSet<String>,
    pub snapshots: BTreeSet<String>,
    pub leases: BTreeSet<String>,
    pub ingests: BTreeSet<String>,
    /// FIFOs below the homes and temporary folders of the trial's ctrsh processes.
    pub fifos: BTreeSet<PathBuf>,
    /// Mount points of this namespace's tasks, and of the trial's folders.
    pub mounts: BTreeSet<String>,
    /// Pids of the shims of this namespace.
    pub shims: BTreeSet<u32>,
}

impl Leftovers {
    /// Looks.
    pub fn of(env: &Env, namespace: &str) -> Self {
        let list = |arguments: &[&str]| -> BTreeSet<String> {
            let lines = env.ctr(&[["-n", namespace].as_slice(), arguments].concat()).lines();
            lines.iter().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
        };
        let without_head = |mut set: BTreeSet<String>, head: &str| {
            set.remove(head);
            set
        };
        Self {
            images: list(&["images", "ls", "-q"]),
            containers: list(&["containers", "ls", "-q"]),
            tasks: list(&["tasks", "ls", "-q"]),
            snapshots: without_head(list(&["snapshots", "ls"]), "KEY"),
            leases: list(&["leases", "ls", "-q"]),
            ingests: without_head(list(&["content", "active"]), "REF"),
            fifos: fifos(env),
            mounts: mounts(env, namespace),
            shims: shims(env, namespace),
        }
    }
}

/// Counts the descriptors that a process has open.
pub fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Counts the threads of a process.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// Returns whether a process has a connection to an address of IPv4.
pub fn talks_to(pid: u32, address: SocketAddr) -> bool {
    let SocketAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
    // As the kernel writes it (proc_pid_net(5)): the address in this machine's order of bytes, and the port.
    let other = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sockets: Vec<String> = rows
        .filter(|row| row.get(2) == Some(&other.as_str()))
        .filter_map(|row| row.get(9).map(|inode| format!("socket:[{inode}]")))
        .collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

/// Lists the mount points whose path has a text in it.
pub fn mounts_with(text: &str) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.contains(text)).map(str::to_owned).collect()
}

/// Lists the processes whose command line has a text in it, without this one.
pub fn processes_with(text: &str) -> BTreeSet<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let matches = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    pids.filter(|pid| *pid != std::process::id()).filter(matches).collect()
}

fn mounts(env: &Env, namespace: &str) -> BTreeSet<String> {
    let tasks = env.sandbox_folder().join("state/io.containerd.runtime.v2.task").join(namespace);
    let mut found = mounts_with(&tasks.to_string_lossy());
    let suite = mounts_with(&env.folder().to_string_lossy()).into_iter();
    found.extend(suite.filter(|point| {
        let above = Path::new(point).ancestors();
        !above.take_while(|path| *path != env.folder()).any(is_of_others)
    }));
    found
}

/// Returns whether what is below a folder comes and goes with others than this trial's shared containerd.
fn is_of_others(folder: &Path) -> bool {
    owner::is_of_another(folder) || is_of_own_daemon(folder)
}

/// Returns whether this is the folder of a daemon that one test started for itself, or of the Docker Engine: what is below
/// comes and goes with other tests. The files are there before the daemon is.
fn is_of_own_daemon(folder: &Path) -> bool {
    ["config.toml", "containerd.toml", "daemon.json"].iter().any(|file| folder.join(file).exists())
}

fn shims(env: &Env, namespace: &str) -> BTreeSet<u32> {
    let socket = env.socket().to_string_lossy().into_owned();
    let of_namespace = processes_with(&format!("-namespace {namespace} "));
    processes_with(&format!("-address {socket}")).intersection(&of_namespace).copied().collect()
}

fn fifos(env: &Env) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![env.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        if is_of_others(&folder) {
            continue;
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_fifo() {
                found.insert(entry.path());
            }
        }
    }
    found
}
