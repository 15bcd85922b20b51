//! What containers wrote: logs of any length, and those of other tools.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ctrsh::containerd::containers::Extension;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::spec::SpecOptions;
use ctrsh::ops::container::{CreateOptions, Delete, Follow, LogOptions, Run, RunOptions, logs, wait};
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::container_logs::a log that is too long is not read", env, too_long),
        trial("ops::container_logs::a line without end is followed", env, endless_line),
        trial("ops::container_logs::logs of the kubelet are read", env, kubelet),
        trial("ops::container_logs::a log that is rotated is followed", env, rotation),
        trial("ops::container_logs::logs of nerdctl are read", env, nerdctl),
    ]
}

/// Runs a container that has ended, and returns its id.
fn ended(stage: &Stage, script: &str) -> String {
    let id = stage.env.fresh("logs");
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let create = CreateOptions {
        spec: SpecOptions { command: Some(command), ..SpecOptions::default() },
        ..CreateOptions::default()
    };
    let options = RunOptions { id: Some(id.clone()), create, detach: true, ..RunOptions::default() };
    stage.run(Run::new(IMAGE, options)).unwrap();
    stage.env.block_on(wait(&stage.ctx, &id, "", None)).unwrap();
    id
}

/// Says which lines are wanted.
fn last(tail: Option<usize>) -> LogOptions {
    LogOptions { tail, ..LogOptions::default() }
}

/// Returns the file that a container's output went to.
fn file(stage: &Stage, id: &str) -> PathBuf {
    stage.ctx.settings().log_dir.join(&stage.namespace).join(format!("{id}.log"))
}

/// A thousand MiB, of which the disk keeps none, and a line.
fn too_long(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = ended(&stage, "echo first");
    let log = OpenOptions::new().write(true).open(file(&stage, &id)).unwrap();
    log.write_all_at(b"\nlast but one\nlast\n", 1000 << 20).unwrap();
    let error = env.block_on(logs(&stage.ctx, &id, &last(None), 16 << 20)).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    assert_eq!(error.to_string(), format!("the log of {id} is 1001 MiB long, and a string holds up to 16 MiB"));
    assert!(error.hint().unwrap().contains("tail: 1000"), "{:?}", error.hint());
    assert_eq!(env.block_on(logs(&stage.ctx, &id, &last(Some(2)), 16 << 20)).unwrap(), b"last but one\nlast\n");
    // Three lines are as much as all of it but the first.
    let error = env.block_on(logs(&stage.ctx, &id, &last(Some(3)), 16 << 20)).unwrap_err();
    assert!(error.to_string().contains("3 lines") && error.hint().unwrap().contains("tail: 1 "), "{error}");
    stage.run(Delete::new(&id, true, false)).unwrap();
    // The program says the same, and does not need the memory for it.
    let program = Program::new(&stage, "true");
    let log = OpenOptions::new().write(true).open(&program.log).unwrap();
    log.write_all_at(b"\nlast\n", 1000 << 20).unwrap();
    let (told, peak) = program.says(
        "try { logs(args()[0]); } catch (e) { print(e.message); print(e.hint); } print(logs(args()[0], #{ tail: 1 }));",
    );
    assert!(told.contains("1001 MiB") && told.contains("tail: 1000") && told.contains("\nlast\n"), "{told}");
    assert!(peak < 200 << 10, "{peak} KiB of memory");
    program.end();
}

/// Forty MiB without the end of a line.
fn endless_line(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let program = Program::new(&stage, "head -c 41943040 /dev/zero | tr '\\\\0' x; echo; echo end");
    let begun = Instant::now();
    let (told, peak) = program.says("logs(args()[0], #{ follow: true });");
    let took = begun.elapsed();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.last(), Some(&"end"));
    assert_eq!(lines.concat().len(), 41_943_040 + 3);
    assert!(lines.iter().all(|line| line.len() <= 1 << 20));
    assert!(peak < 200 << 10, "{peak} KiB of memory");
    assert!(took < Duration::from_secs(30), "{took:?}");
    program.end();
}

/// A container that the program has run, and its log.
struct Program<'a> {
    stage: &'a Stage,
    id: String,
    log: PathBuf,
}

impl<'a> Program<'a> {
    fn new(stage: &'a Stage, script: &str) -> Self {
        let id = stage.env.fresh("logs");
        let run = format!(
            "run(\"{IMAGE}\", #{{ id: \"{id}\", detach: true, command: [\"sh\", \"-c\", \"{script}\"] }}); wait(\"{id}\")"
        );
        stage.env.ctrsh(&["-n", &stage.namespace, "--snapshotter", &stage.snapshotter, "-e", &run]).ok();
        let log = PathBuf::from("/var/log/ctrsh").join(&stage.namespace).join(format!("{id}.log"));
        Self { stage, id, log }
    }

    /// Runs a script with the container's id, and returns what it printed, and how many KiB of memory it had at most.
    fn says(&self, script: &str) -> (String, u64) {
        let peak = "for line in read_lines(\"/proc/self/status\") { if line.starts_with(\"VmHWM\") { print(line) } }";
        let script = format!("{script} {peak}");
        let told = self.stage.env.ctrsh(&["-n", &self.stage.namespace, "--allow", "all", "-e", &script, &self.id]).ok();
        let (told, peak) = told.rsplit_once("VmHWM:").unwrap();
        (told.to_owned(), peak.trim().trim_end_matches("kB").trim().parse().unwrap())
    }

    fn end(self) {
        self.stage.run(Delete::new(&self.id, true, false)).unwrap();
        std::fs::remove_file(&self.log).unwrap_or_default();
        std::fs::remove_dir(self.log.parent().unwrap()).unwrap_or_default();
    }
}

/// Starts a container whose output goes nowhere, as one of another tool whose labels it has.
fn labelled(stage: &Stage, labels: &[(&str, &str)]) -> String {
    let id = stage.env.fresh("logs");
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("--label={key}={value}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let start = ["run", "-d", "--null-io", "--snapshotter", &stage.snapshotter];
    stage.ctr(&[&start[..], &labels, &[IMAGE, &id, "sleep", "600"]].concat());
    id
}

const POD: [(&str, &str); 5] = [
    ("io.cri-containerd.kind", "container"),
    ("io.kubernetes.pod.namespace", "shop"),
    ("io.kubernetes.pod.name", "web-0"),
    ("io.kubernetes.pod.uid", "0a1b-2c3d"),
    ("io.kubernetes.container.name", "app"),
];

/// Log lines as Kubernetes' `kubelet-cri-logging.md` has them.
const CRI: &str = "2016-10-06T00:17:09.669794202Z stdout F one\n\
                   2016-10-06T00:17:10.113242941Z stdout P two, \n\
                   2016-10-06T00:17:10.113242941Z stderr F aside\n\
                   2016-10-06T00:17:10.113242942Z stdout F joined\n\
                   2016-10-06T00:17:11Z stderr F three\n";

fn kubelet(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let root = stage.folder.join("node");
    let pods = root.join("var/log/pods");
    let folder = pods.join("shop_web-0_0a1b-2c3d/app");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("0.log"), "2016-10-06T00:17:09Z stdout F of the life before\n").unwrap();
    std::fs::write(folder.join("10.log"), CRI).unwrap();
    std::fs::write(folder.join("10.log.20161006-001712"), "2016-10-06T00:17:12Z stdout F rotated away\n").unwrap();
    let id = labelled(&stage, &POD);
    let options = LogOptions { root: Some(root.clone()), ..LogOptions::default() };
    let read = |options: &LogOptions| {
        let text = env.block_on(logs(&stage.ctx, &id, options, 1 << 20)).unwrap();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(read(&options), "one\naside\ntwo, joined\nthree\n");
    assert_eq!(read(&LogOptions { tail: Some(1), ..options.clone() }), "three\n");
    let since = Some("2016-10-06T00:17:10.5Z".parse().unwrap());
    assert_eq!(read(&LogOptions { since, ..options.clone() }), "three\n");
    let error = env.block_on(logs(&stage.ctx, &id, &options, 10)).unwrap_err();
    assert!(error.hint().unwrap().contains("tail"), "{error}");
    // As a script has it: a time, and how long ago.
    let script =
        |options: &str| stage.value(&format!("logs(\"{id}\", #{{ root: \"{}\", {options} }})", root.display()));
    assert_eq!(script("since: \"2016-10-06T02:17:11+02:00\""), "three\n");
    assert_eq!(script("since: time(\"2016-10-06T00:17:11Z\")"), "three\n");
    assert_eq!(script("since: \"1h\""), "");
    let error = stage.script(&format!("logs(\"{id}\", #{{ since: \"yesterday\" }})")).unwrap_err();
    assert!(error.error.message.contains("since"), "{error:?}");
    // Where the CRI plugin noted the place, it is that one.
    std::fs::write(pods.join("noted.log"), "2016-10-06T00:17:09Z stdout F noted\n").unwrap();
    let noted = r#"{"Version":"v1","Metadata":{"ID":"x","LogPath":"/var/log/pods/noted.log"}}"#;
    env.block_on(async {
        let type_url = "github.com/containerd/cri/pkg/store/container/Metadata".into();
        let extension = Extension { type_url, value: noted.as_bytes().to_vec() };
        let client = stage.ctx.client().await.unwrap();
        client.containers().set_extension(&id, "io.cri-containerd.container.metadata", &extension).await.unwrap();
    });
    assert_eq!(read(&options), "noted\n");
    // Elsewhere than in its place it is a file like any other.
    let reader = stage.allowing("read".parse().unwrap());
    let error = env.block_on(logs(&reader, &id, &options, 1 << 20)).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied, "{error}");
    let error = env.block_on(logs(&reader, &id, &LogOptions::default(), 1 << 20)).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    assert!(error.hint().unwrap().contains("/var/log/pods/noted.log") && error.hint().unwrap().contains("root"));
    stage.run(Delete::new(&id, true, false)).unwrap();
    // A pod's sandbox, and a record that could lead elsewhere.
    for (labels, reason) in [
        (&[("io.cri-containerd.kind", "sandbox")][..], "sandbox of a pod"),
        (&[POD[0], POD[1], POD[2], POD[3], ("io.kubernetes.container.name", "../../../etc")], "names no pod"),
    ] {
        let id = labelled(&stage, labels);
        let error = env.block_on(logs(&stage.ctx, &id, &options, 1 << 20)).unwrap_err();
        assert_eq!(error.kind(), Failed::NotFound, "{error}");
        assert!(error.hint().unwrap().contains(reason), "{:?}", error.hint());
        stage.run(Delete::new(&id, true, false)).unwrap();
    }
}

/// The kubelet renames a log and has the runtime open another.
fn rotation(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let root = stage.folder.join("node");
    let folder = root.join("var/log/pods/shop_web-0_0a1b-2c3d/app");
    std::fs::create_dir_all(&folder).unwrap();
    let log = folder.join("0.log");
    std::fs::write(&log, CRI).unwrap();
    let id = labelled(&stage, &POD);
    let options = LogOptions { root: Some(root), tail: Some(1), ..LogOptions::default() };
    let (told, seen) = std::sync::mpsc::channel::<String>();
    let text = env.block_on(async {
        let mut follow = Follow::open(&stage.ctx, &id, &options).await.unwrap();
        let writer = tokio::task::spawn_blocking({
            let (env, namespace, id) = (env.clone(), stage.namespace.clone(), id.clone());
            move || {
                let wait = |part: &str| {
                    let mut text = String::new();
                    while !text.contains(part) {
                        text.push_str(&seen.recv_timeout(Duration::from_secs(20)).unwrap());
                    }
                };
                wait("three\n");
                let mut old = OpenOptions::new().append(true).open(&log).unwrap();
                old.write_all(b"2016-10-06T00:18:00Z stdout F four\n2016-10-06T00:18:00Z stdout P fi").unwrap();
                wait("four\n");
                std::fs::rename(&log, folder.join("0.log.20161006-001800")).unwrap();
                old.write_all(b"ve \n").unwrap();
                std::thread::sleep(Duration::from_millis(50));
                std::fs::write(&log, "2016-10-06T00:18:01Z stdout F five\n").unwrap();
                wait("five five\n");
                // Emptied in its place, as other tools do it.
                std::fs::write(&log, "2016-10-06T00:18:02Z stdout F 6\n").unwrap();
                wait("6\n");
                env.ctr(&["-n", &namespace, "tasks", "kill", "-s", "KILL", &id]).ok();
            }
        });
        let mut text = String::new();
        while let Some(more) = follow.next().await.unwrap() {
            let more = String::from_utf8(more).unwrap();
            text.push_str(&more);
            let _ = told.send(more);
        }
        writer.await.unwrap();
        text
    });
    assert_eq!(text, "three\nfour\nfive five\n6\n");
    stage.run(Delete::new(&id, true, false)).unwrap();
}

fn nerdctl(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let root = stage.folder.join("node");
    let uri = "binary:///usr/local/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59";
    let id = labelled(&stage, &[("nerdctl/log-uri", uri), ("nerdctl/name", "web")]);
    let folder = root.join("var/lib/nerdctl/1935db59/containers").join(&stage.namespace).join(&id);
    std::fs::create_dir_all(&folder).unwrap();
    // As Docker's json-file writes it.
    let log = "{\"log\":\"one \\u003c\\n\",\"stream\":\"stdout\",\"time\":\"2020-12-11T20:29:41.939902251Z\"}\n\
               {\"log\":\"two\\n\",\"stream\":\"stderr\",\"time\":\"2020-12-11T20:29:42.1Z\"}\n";
    std::fs::write(folder.join(format!("{id}-json.log")), log).unwrap();
    let options = LogOptions { root: Some(root.clone()), ..LogOptions::default() };
    let read = |id: &str, options: &LogOptions| env.block_on(logs(&stage.ctx, id, options, 1 << 20));
    assert_eq!(read(&id, &options).unwrap(), b"one <\ntwo\n");
    assert_eq!(read(&id, &LogOptions { tail: Some(1), ..options.clone() }).unwrap(), b"two\n");
    let since = Some("2020-12-11T20:29:42Z".parse().unwrap());
    assert_eq!(read(&id, &LogOptions { since, ..options.clone() }).unwrap(), b"two\n");
    stage.run(Delete::new(&id, true, false)).unwrap();
    // The folder alone is named by older ones, and the driver where it is another.
    let state = format!("/var/lib/nerdctl/1935db59/containers/{}/own", stage.namespace);
    let id = labelled(&stage, &[("nerdctl/state-dir", &state)]);
    let folder = root.join(&state[1..]);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{id}-json.log")), log).unwrap();
    assert_eq!(read(&id, &options).unwrap(), b"one <\ntwo\n");
    stage.run(Delete::new(&id, true, false)).unwrap();
    let driver = ("nerdctl/log-config", "{\"driver\":\"journald\"}");
    let id = labelled(&stage, &[("nerdctl/log-uri", uri), driver]);
    let error = read(&id, &options).unwrap_err();
    assert!(error.hint().unwrap().contains("log driver journald"), "{:?}", error.hint());
    stage.run(Delete::new(&id, true, false)).unwrap();
    // Its own log tells no times.
    let id = ended(&stage, "echo plain");
    let error = read(&id, &LogOptions { since, ..LogOptions::default() }).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    assert_eq!(read(&id, &LogOptions::default()).unwrap(), b"plain\n");
    stage.run(Delete::new(&id, true, false)).unwrap();
}
