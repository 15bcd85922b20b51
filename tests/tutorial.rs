//! The tutorial of ctr, step by step through the program; after each step ctr is asked for the same state.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::certificates::Certificates;
use crate::harness::env::SecureRegistry;
use crate::harness::output::Output;
use crate::harness::{Env, Kind, Leftovers, trial};

/// The namespace of the kubelet, as in the tutorial. Other tests have things in it too, under other names.
const NAMESPACE: &str = "k8s.io";

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("tutorial::every_step_is_what_ctr_sees", env, every_step_is_what_ctr_sees),
        trial("tutorial::a_wrong_password_and_an_unknown_authority", env, refused),
    ]
}

/// Someone at work in a folder, with a registry that wants a password.
struct Learner {
    env: Env,
    folder: PathBuf,
    registry: SecureRegistry,
}

impl Learner {
    fn new(env: &Env) -> Self {
        let folder = env.new_folder("tutorial");
        let registry = env.registry_htpasswd_tls();
        std::fs::write(folder.join("password"), format!("{}\n", registry.password)).unwrap();
        std::fs::copy(&registry.ca, folder.join("ca.crt")).unwrap();
        let hosts = folder.join("certs.d").join(registry.host.replace(':', "_").replacen('_', ":", 1));
        std::fs::create_dir_all(&hosts).unwrap();
        let text = format!(
            "server = \"https://{host}\"\n[host.\"https://{host}\"]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n  \
             ca = \"{ca}\"\n",
            host = registry.host,
            ca = registry.ca.display(),
        );
        std::fs::write(hosts.join("hosts.toml"), text).unwrap();
        Self { env: env.clone(), folder, registry }
    }

    fn command(&self) -> Command {
        let mut command = self.env.ctrsh_command();
        command.current_dir(&self.folder).args(["-n", NAMESPACE]);
        command
    }

    /// Evaluates an expression of which `$0`, `$1`… stand for arguments; returns its value.
    #[track_caller]
    fn types(&self, expression: &str, args: &[&str]) -> Value {
        let output = Output::of(self.command().args(["--json", "-e", expression]).args(args));
        let text = output.ok();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    #[track_caller]
    fn ctr(&self, arguments: &[&str]) -> Vec<String> {
        self.env.ctr(&[&["-n", NAMESPACE], arguments].concat()).lines()
    }

    /// Returns the words of the line of a list of ctr that begins with a name.
    #[track_caller]
    fn row(&self, list: &[&str], name: &str) -> Option<Vec<String>> {
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        self.ctr(list).iter().map(words).find(|words| words.first().is_some_and(|word| word == name))
    }

    #[track_caller]
    fn digest(&self, image: &str) -> Option<String> {
        self.row(&["images", "ls"], image).map(|words| words[2].clone())
    }
}

fn every_step_is_what_ctr_sees(env: &Env) {
    let me = Learner::new(env);
    let image = env.image(Kind::Busybox);
    let source = env.push_secure(&image, "tutorial");
    let harbor = format!("{}/course/{}/busybox:1.0", me.registry.host, env.fresh("tutorial"));
    let id = env.fresh("tutorial");
    let id = id.as_str();

    // ctr images pull --user … --tlscacert …
    let options = "#{ user: args()[1], password_file: \"password\", tlscacert: \"ca.crt\" }";
    let pulled = me.types(&format!("pull(args()[0], {options})"), &[&source, me.registry.user]);
    assert_eq!(pulled["digest"], *image.digest);
    assert_eq!(me.digest(&source).as_ref(), Some(&image.digest));
    let check = me.ctr(&["images", "check", &format!("name=={source}")]);
    assert!(check.iter().any(|line| line.starts_with(&source) && line.contains("complete (")), "{check:?}");
    let labels = me.row(&["images", "ls"], &source).unwrap().pop().unwrap();
    assert!(labels.contains("io.cri-containerd.image=managed"), "{labels}");
    assert_eq!(me.digest(&image.config).as_ref(), Some(&image.digest), "the kubelet's record by the config's digest");

    // ctr images tag
    me.types("tag(args()[0], args()[1])", &[&source, &harbor]);
    assert_eq!(me.digest(&harbor).as_ref(), Some(&image.digest));

    // ctr images push --user …; this time the authority comes from hosts.toml and the password from a variable
    let expression = "push(args()[0], (), #{ user: args()[1], password_env: \"HARBOR_PASSWORD\" }).digest";
    let mut command = me.command();
    command.env("HARBOR_PASSWORD", me.registry.password).args(["--hosts-dir", "certs.d"]);
    command.args(["--allow", "read,write,files,host", "-e", expression, &harbor, me.registry.user]);
    assert_eq!(Output::of(&mut command).ok().trim(), image.digest);
    let credentials = format!("{}:{}", me.registry.user, me.registry.password);
    let elsewhere = env.namespace("tutorial");
    let hosts = me.folder.join("certs.d").to_string_lossy().into_owned();
    let fetch = ["-n", &elsewhere, "images", "pull", "--user", &credentials, "--hosts-dir", &hosts, &harbor];
    env.ctr(&fetch).ok();
    let there = env.ctr(&["-n", &elsewhere, "images", "ls"]).ok();
    assert!(there.contains(&harbor) && there.contains(&image.digest), "{there}");

    // ctr images rm
    me.types("delete_images(args()[0])", &[&source]);
    assert_eq!(me.digest(&source), None);
    assert_eq!(me.digest(&harbor).as_ref(), Some(&image.digest), "the other name stays");

    // ctr containers create
    let expression = "create(args()[0], args()[1], #{ command: [\"sleep\", \"600\"], env: #{ COURSE: \"ctr\" } })";
    me.types(expression, &[id, &harbor]);
    let row = me.row(&["containers", "ls"], id).unwrap();
    assert_eq!(row[1..], [harbor.clone(), "io.containerd.runc.v2".into()]);

    // ctr containers info
    let mine = me
        .types("let c = container(args()[0]); #{ image: c.image, snapshot_key: c.snapshot_key, spec: c.spec }", &[id]);
    let theirs: Value = serde_json::from_str(&me.ctr(&["containers", "info", id]).join("\n")).unwrap();
    assert_eq!(mine["image"], theirs["Image"]);
    assert_eq!(mine["snapshot_key"], theirs["SnapshotKey"]);
    assert_eq!(mine["spec"], theirs["Spec"]);
    let env_of_process = theirs["Spec"]["process"]["env"].as_array().unwrap();
    assert!(env_of_process.contains(&"COURSE=ctr".into()), "{env_of_process:?}");

    // ctr tasks start --detach
    assert_eq!(me.row(&["tasks", "ls"], id), None);
    let task = me.types("start(args()[0])", &[id]);
    let row = me.row(&["tasks", "ls"], id).unwrap();
    assert_eq!(row[1..], [task["pid"].to_string(), "RUNNING".into()]);

    // ctr tasks ls, ctr containers ls
    let list = me.types("tasks().filter(|t| t.id == args()[0])", &[id]);
    assert_eq!((&list[0]["pid"], &list[0]["status"]), (&task["pid"], &"running".into()));
    let list = me.types("containers().filter(|c| c.id == args()[0])", &[id]);
    assert_eq!((&list[0]["image"], &list[0]["status"]), (&harbor.clone().into(), &"running".into()));

    // ctr tasks exec
    let script = "echo written by ctrsh > /note; cat /note; echo $COURSE; exit 3";
    let done = me.types("exec(args()[0], [\"sh\", \"-c\", args()[1]])", &[id, script]);
    assert_eq!((&done["code"], &done["stdout"]), (&3.into(), &"written by ctrsh\nctr\n".into()));
    let theirs = me.ctr(&["tasks", "exec", "--exec-id", "reader", id, "cat", "/note"]);
    assert_eq!(theirs, ["written by ctrsh"]);
    let processes = me.ctr(&["tasks", "ps", id]);
    assert_eq!(processes.len(), 2, "only the head and the sleep: {processes:?}");

    // ctr tasks metrics
    let mine = me.types("metrics(args()[0])", &[id]);
    let theirs: Value = serde_json::from_str(&me.ctr(&["tasks", "metrics", "--format", "json", id]).join("")).unwrap();
    assert_eq!(mine["pids"]["current"], theirs["pids"]["current"], "{mine} {theirs}");
    let theirs = theirs["memory"].get("usage").unwrap();
    let theirs = theirs.as_u64().or_else(|| theirs["usage"].as_u64()).unwrap();
    let mine = mine["memory"]["usage"].as_u64().unwrap();
    assert!(mine.abs_diff(theirs) < 1 << 20, "{mine} and {theirs} bytes at nearly the same time");

    // ctr tasks kill
    let code = me.types("kill(args()[0], \"KILL\"); wait(args()[0])", &[id]);
    assert_eq!(code, 137);
    assert_eq!(me.row(&["tasks", "ls"], id).unwrap()[2], "STOPPED");

    // ctr tasks rm, ctr containers rm, ctr images rm
    me.types("delete(args()[0])", &[id]);
    let left = Leftovers::of(env, NAMESPACE);
    for list in [&left.containers, &left.tasks, &left.snapshots] {
        assert!(!list.contains(id), "{left:?}");
    }
    me.types("delete_images(args()[0], #{ wait: true })", &[&harbor]);
    assert_eq!(me.digest(&harbor), None);
}

fn refused(env: &Env) {
    let me = Learner::new(env);
    let source = env.push_secure(&env.image(Kind::Busybox), "tutorial");
    std::fs::write(me.folder.join("wrong"), "guessed").unwrap();
    let other = Certificates::make(&me.folder.join("other"));
    std::fs::copy(other.ca, me.folder.join("other.crt")).unwrap();
    for (options, part) in [
        ("#{ tlscacert: \"ca.crt\" }", "user"),
        ("#{ user: \"tester\", password_file: \"wrong\", tlscacert: \"ca.crt\" }", "credentials"),
        ("#{ user: \"tester\", password_file: \"password\", tlscacert: \"other.crt\" }", "certificate"),
    ] {
        let output = Output::of(me.command().args(["-e", &format!("pull(args()[0], {options})"), &source]));
        let output = output.expect_status(1);
        assert!(output.stderr.contains("hint:") && output.stderr.contains(part), "{options}\n{output}");
        assert!(!output.stderr.contains(me.registry.password) && !output.stderr.contains("guessed"), "{output}");
    }
    assert_eq!(me.digest(&source), None);
}
