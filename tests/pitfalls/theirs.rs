//! What the ctr at hand offers, by its help and the plugins of its daemon, and what it does.
//!
//! Nothing here compares versions: a build of ctr is what it shows of itself.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{NOWHERE, hosts_of};
use crate::harness::output::Output;
use crate::harness::{Env, Kind, leftovers};
use crate::registry::support::through;

/// How long something may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The ctr at hand, in a namespace of its own.
pub struct Theirs {
    pub env: Env,
    pub namespace: String,
}

/// Who asks a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The command itself.
    Client,
    /// containerd, on the command's behalf.
    Daemon,
}

impl Theirs {
    pub fn new(env: &Env) -> Self {
        Self::at(env, &env.namespace("pitfalls"))
    }

    pub fn at(env: &Env, namespace: &str) -> Self {
        Self { env: env.clone(), namespace: namespace.to_owned() }
    }

    /// Returns a command for ctr in the namespace.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.env_remove("CONTAINERD_ADDRESS").env("CONTAINERD_SNAPSHOTTER", self.env.snapshotter());
        command.arg("--address").arg(self.env.socket()).args(["--namespace", &self.namespace]).args(arguments);
        command
    }

    /// Runs ctr in the namespace.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// Runs ctr with bytes on its standard input.
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Output {
        Output::with_input(&mut self.command(arguments), input)
    }

    fn help(arguments: &[&str]) -> String {
        Output::of(Command::new("ctr").args(arguments).arg("--help")).ok()
    }

    /// Returns whether a command of ctr takes an option.
    pub fn takes(arguments: &[&str], option: &str) -> bool {
        Self::option(arguments, option).is_some()
    }

    /// Returns what the help says of an option.
    pub fn option(arguments: &[&str], option: &str) -> Option<String> {
        let help = Self::help(arguments);
        let mut lines = help.lines().map(str::trim).filter(|line| line.starts_with('-'));
        lines.find(|line| line.split([' ', ',', '=']).any(|word| word == option)).map(str::to_owned)
    }

    /// Returns whether ctr has a command.
    pub fn has(arguments: &[&str], name: &str) -> bool {
        let help = Self::help(arguments);
        let commands = help.split("COMMANDS:").nth(1).unwrap_or_else(|| panic!("no commands: {help}"));
        let mut names =
            commands.lines().flat_map(|line| line.trim().split("  ").next().unwrap_or_default().split(", "));
        names.any(|other| other == name)
    }

    /// Returns whether the daemon runs a plugin of a type, and of an id where one is given.
    pub fn runs(&self, kind: &str, id: Option<&str>) -> bool {
        self.run(&["plugins", "ls"]).lines().iter().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first() == Some(&kind) && id.is_none_or(|id| words.get(1) == Some(&id)) && words.last() == Some(&"ok")
        })
    }

    /// Returns the ways in which ctr moves images: as it does by itself, and where it lets one choose, both.
    pub fn ways() -> Vec<Vec<&'static str>> {
        let chosen =
            if Self::takes(&["images", "pull"], "--local") { &["--local=true", "--local=false"][..] } else { &[] };
        std::iter::once(Vec::new()).chain(chosen.iter().map(|way| vec![*way])).collect()
    }

    /// Returns those of the ways in which a hosts folder is heard of.
    ///
    /// In the others containerd is not even told of it, nor of plain HTTP, so that it reaches no registry of the suite.
    pub fn ways_with_hosts(env: &Env) -> Vec<Vec<&'static str>> {
        let pushed = env.pushed(Kind::Busybox, "pitfalls");
        let server = format!("http://{}", env.registry());
        let folder = hosts_of(&env.new_folder("pitfalls"), NOWHERE, &server, "");
        let hosts = ["--hosts-dir", folder.to_str().unwrap()];
        let reaches = |way: &[&str]| Self::new(env).pull(way, &hosts, &through(NOWHERE, &pushed)).succeeded();
        let ways: Vec<_> = Self::ways().into_iter().filter(|way| reaches(way)).collect();
        assert!(ways.iter().any(Vec::is_empty), "ctr by itself hears of a hosts folder");
        ways
    }

    /// Pulls in one of the ways.
    pub fn pull(&self, way: &[&str], options: &[&str], reference: &str) -> Output {
        self.run(&[&["images", "pull"], way, options, &[reference]].concat())
    }

    /// Finds out who asks the registry when ctr pulls in one of the ways.
    pub fn asker(&self, way: &[&str]) -> Asker {
        let held = Held::new(&self.env, |reference| {
            self.command(&[&["images", "pull", "--plain-http"], way, &[reference]].concat())
        });
        held.asker()
    }

    /// Collects what nothing refers to.
    ///
    /// It is waited for, but containerd takes the end of a collection for it that was under way before.
    pub fn collect(&self) {
        let lease = self.env.fresh("collect");
        self.run(&["leases", "create", "--id", &lease]).ok();
        self.run(&["leases", "rm", "--sync", &lease]).ok();
    }

    /// Lists the digests of the namespace's blobs.
    pub fn blobs(&self) -> Vec<String> {
        self.run(&["content", "ls", "-q"]).lines()
    }

    /// Lists what is half-written.
    pub fn ingests(&self) -> Vec<String> {
        self.run(&["content", "active"]).lines().split_off(1)
    }

    /// Lists leases with their labels, one a line.
    pub fn leases(&self) -> Vec<String> {
        self.run(&["leases", "ls"]).lines().split_off(1)
    }
}

/// A process that waits for the answer of a registry, which does not come.
pub struct Held {
    env: Env,
    child: Child,
    asker: Option<Asker>,
    /// The kernel takes the connection, and nobody reads what comes: neither HTTP nor TLS gets an answer.
    registry: TcpListener,
}

impl Held {
    /// Starts a process that asks for an image, with a password on its standard input.
    pub fn new(env: &Env, command: impl FnOnce(&str) -> Command) -> Self {
        let registry = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = command(&format!("{}/pitfalls/held:1", registry.local_addr().unwrap()));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Who asks for no password has no need to read it.
        let _ = child.stdin.take().unwrap().write_all(b"s3cret\n");
        let mut held = Self { env: env.clone(), child, asker: None, registry };
        wait_until("someone is connected", || held.look().is_some());
        held.asker = held.look();
        held
    }

    fn look(&self) -> Option<Asker> {
        let registry = self.registry.local_addr().unwrap();
        let candidates = [(Asker::Client, self.pid()), (Asker::Daemon, self.env.containerd_pid())];
        candidates.iter().find(|(_, pid)| leftovers::talks_to(*pid, registry)).map(|(who, _)| *who)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns who holds the connection to the registry.
    pub fn asker(&self) -> Asker {
        self.asker.unwrap()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
