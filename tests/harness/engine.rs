//! A real Docker Engine, with a containerd that it starts itself, in a folder of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::env::{Env, PATH};
use super::image::Image;
use super::leftovers::{mounts_with, processes_with};

/// Returns the folder with the engine of a newer Debian, which scripts/test unpacks there; none where it could not.
pub fn newer() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/newer-engine");
    folder.join("usr/sbin/dockerd").exists().then_some(folder)
}

/// How long the engine may take for what it does behind its answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running engine; dropping it stops it.
pub struct Engine {
    folder: PathBuf,
    running: Mutex<Option<Running>>,
}

struct Running {
    pid: Pid,
    ended: Receiver<ExitStatus>,
}

impl Engine {
    /// Starts one whose files all lie in a folder. It has no network and touches no firewall.
    pub fn start(folder: &Path) -> Self {
        Self::run(folder, None)
    }

    /// Starts one that keeps its images in containerd's store, of the newer Debian whose programs [`newer`] returns.
    pub fn start_with_store(folder: &Path, programs: &Path) -> Self {
        Self::run(folder, Some(programs))
    }

    fn run(folder: &Path, newer: Option<&Path>) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        // The file of the machine's own engine is not for this one.
        let settings = serde_json::json!({ "features": { "containerd-snapshotter": newer.is_some() } });
        std::fs::write(folder.join("daemon.json"), settings.to_string()).unwrap();
        let driver = if newer.is_some() { "native" } else { "vfs" };
        let newer = newer.map(|root| format!("{0}/usr/sbin:{0}/usr/bin:", root.display())).unwrap_or_default();
        let namespace = format!("moby-{}", folder.file_name().unwrap().to_string_lossy());
        let mut command = Command::new("setpriv");
        // Should the suite be killed, the engine ends too, and its containerd with it.
        command.args(["--pdeathsig", "TERM", "dockerd", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]);
        // These work on every file system and mount nothing.
        command.args(["--bridge=none", "--storage-driver", driver, "--containerd-namespace", &namespace]);
        command.args(["--containerd-plugins-namespace", &format!("plugins-{namespace}")]);
        for (flag, name) in [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "engine.pid"),
        ] {
            command.arg(flag).arg(folder.join(name));
        }
        command.arg("--host").arg(format!("unix://{}", Self::socket_in(folder).display()));
        command.env_clear().env("PATH", format!("{newer}{PATH}")).env("HOME", folder).env("TMPDIR", folder);
        let log = std::fs::File::create(folder.join("log")).unwrap();
        // A group of its own: Ctrl-C is the suite's to hear, which then stops it.
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let (begun, first) = channel();
        let (ending, ended) = channel();
        // The signal comes when the thread ends that started the process, so this one stays with it.
        std::thread::spawn(move || {
            let mut child = command.spawn().unwrap();
            begun.send(Pid::from_child(&child)).unwrap();
            let _ = ending.send(child.wait().unwrap());
        });
        let running = Running { pid: first.recv().unwrap(), ended };
        let engine = Self { folder: folder.to_owned(), running: Mutex::new(Some(running)) };
        engine.wait();
        engine
    }

    fn wait(&self) {
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "dockerd did not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns where the engine of a folder listens.
    pub fn socket_in(folder: &Path) -> PathBuf {
        folder.join("docker.sock")
    }

    pub fn socket(&self) -> PathBuf {
        Self::socket_in(&self.folder)
    }

    /// Returns the address as `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Loads a test image by skopeo, as `docker load` does; its config keeps its bytes.
    pub fn load(&self, env: &Env, image: &Image, name: &str) {
        let (source, target) = (image.skopeo_name(), format!("docker-daemon:{name}"));
        env.skopeo(&["copy", "--dest-daemon-host", &self.address(), &source, &target]).ok();
        // The engine says that it renames an older image before it does so, and skopeo waits for its first word only.
        let begun = Instant::now();
        while self.inspect(name)["Id"] != image.config.as_str() {
            assert!(begun.elapsed() < PATIENCE, "{name} does not become {}", image.config);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns what the engine says of an image.
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.api("GET", &format!("/images/{name}/json"), b"")).unwrap()
    }

    /// Sends a request and returns the body of the answer.
    pub fn api(&self, method: &str, path: &str, body: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        // By HTTP 1.0, so that the answer comes in one piece.
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Length: {length}\r\n").unwrap();
        write!(stream, "Content-Type: application/x-tar\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.split(' ').nth(1).unwrap().starts_with('2'), "{method} {path}: {answer}");
        body.to_owned()
    }

    /// Kills it without a chance to clean up; its containerd goes with it.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// Stops it, and sees to it that nothing stays.
    pub fn stop(&self) {
        self.end(Signal::TERM);
        let folder = self.folder.to_string_lossy();
        for mount in mounts_with(&folder) {
            let _ = rustix::mount::unmount(&*mount, rustix::mount::UnmountFlags::DETACH);
        }
        // Its containerd gets a signal when it ends, and may take a moment.
        let end = Instant::now() + Duration::from_secs(10);
        while !processes_with(&folder).is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(&self, signal: Signal) {
        let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let _ = kill_process(running.pid, signal);
        if running.ended.recv_timeout(Duration::from_secs(20)).is_err() {
            let _ = kill_process(running.pid, Signal::KILL);
            let _ = running.ended.recv_timeout(Duration::from_secs(20));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
