//! The runtime spec is ctr's for the same input.

use std::process::Command;

use ctrsh::oci::Spec;
use ctrsh::oci::spec::{MountOption, SpecOptions, default_spec};
use ctrsh::ops::container::{Create, CreateOptions};
use libtest_mimic::Trial;
use serde_json::Value;

use super::stage::{IMAGE, Stage};
use crate::harness::generation::{newest, sorted};
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::container_spec::the default spec is that of ctr oci spec", env, default),
        trial("ops::container_spec::a container is specified as ctr specifies it", env, containers),
        trial("ops::container_spec::a mount's options in an array stay whole", env, mount_options),
        trial("ops::container_spec::the seccomp profile is containerd's", env, seccomp),
    ]
}

fn default(_: &Env) {
    let theirs: Value = serde_json::from_str(&Output::of(Command::new("ctr").args(["oci", "spec"])).ok()).unwrap();
    let ours = serde_json::to_value(default_spec("default", "")).unwrap();
    assert_eq!(sorted(ours), newest(theirs));
}

/// Makes the same container by ctr and by the operation, and returns both specs with the ids made equal.
fn both(stage: &Stage, flags: &[&str], command: &[&str], spec: SpecOptions) -> (Value, Value) {
    let (a, b) = (stage.env.fresh("tasks"), stage.env.fresh("tasks"));
    let create = ["containers", "create", "--snapshotter", &stage.snapshotter];
    stage.ctr(&[create.as_slice(), flags, &[IMAGE, &a], command].concat());
    stage.run(Create::new(&b, IMAGE, CreateOptions { spec, ..CreateOptions::default() })).unwrap();
    let (mut theirs, mut ours) = (stage.info(&a), stage.info(&b));
    for field in ["Image", "Runtime", "Snapshotter", "Labels", "Extensions"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    assert_eq!(ours["SnapshotKey"], b.as_str());
    stage.ctr(&["containers", "rm", &a]);
    stage.ctr(&["containers", "rm", &b]);
    let take = |info: &mut Value, id: &str| {
        let text = info["Spec"].to_string().replace(id, "ID");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    (sorted(take(&mut ours, &b)), newest(take(&mut theirs, &a)))
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn containers(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let plain = SpecOptions::default();
    let mount = MountOption {
        kind: "bind".into(),
        source: "/tmp".into(),
        destination: "/x".into(),
        options: texts(&["rbind", "ro"]),
    };
    let cases: Vec<(&[&str], &[&str], SpecOptions)> = vec![
        (&[], &[], plain.clone()),
        (
            &["--env", "A=1", "--cwd", "/tmp", "--read-only", "--tty", "--label", "l=v", "--annotation", "q=r"],
            &["sleep", "9"],
            SpecOptions {
                command: Some(texts(&["sleep", "9"])),
                env: texts(&["A=1"]),
                cwd: Some("/tmp".into()),
                read_only: true,
                tty: true,
                labels: [("l".into(), "v".into())].into(),
                annotations: [("q".into(), "r".into())].into(),
                ..plain.clone()
            },
        ),
        (&["--net-host", "--privileged"], &[], SpecOptions { net_host: true, privileged: true, ..plain.clone() }),
        (
            &[
                "--memory-limit",
                "64000000",
                "--cpu-quota",
                "5000",
                "--cpu-period",
                "10000",
                "--allow-new-privs",
                "--cap-add",
                "CAP_SYS_ADMIN",
                "--cap-drop",
                "CAP_KILL",
                "--mount",
                "type=bind,src=/tmp,dst=/x,options=rbind:ro",
                "--device",
                "/dev/null",
                "--with-ns",
                "network:/proc/1/ns/net",
            ],
            &[],
            SpecOptions {
                memory_limit: Some(64_000_000),
                cpu_quota: Some(5000),
                cpu_period: Some(10_000),
                allow_new_privs: true,
                cap_add: texts(&["CAP_SYS_ADMIN"]),
                cap_drop: texts(&["CAP_KILL"]),
                mounts: vec![mount],
                devices: ctrsh::ops::container::device("/dev/null").unwrap(),
                with_ns: vec![ctrsh::oci::spec::NamespaceJoin {
                    kind: "network".into(),
                    path: "/proc/1/ns/net".into(),
                }],
                ..plain.clone()
            },
        ),
    ];
    for (flags, command, options) in cases {
        let (ours, theirs) = both(&stage, flags, command, options);
        assert_eq!(ours, theirs, "{flags:?}");
    }
}

fn mount_options(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = env.fresh("tasks");
    stage.value(&format!(
        r#"create("{id}", "{IMAGE}", #{{ mount: [
            #{{ type: "overlay", src: "overlay", dst: "/list", options: ["lowerdir=/a:/b", "", "ro"] }},
            #{{ type: "tmpfs", src: "tmpfs", dst: "/text", options: "ro:size=1m" }},
            "type=tmpfs,src=tmpfs,dst=/ctr,options=ro:size=1m"] }}).id"#
    ));
    let info = stage.info(&id);
    let mounts = info["Spec"]["mounts"].as_array().unwrap();
    let options = |on: &str| mounts.iter().find(|mount| mount["destination"] == on).unwrap()["options"].clone();
    assert_eq!(options("/list"), serde_json::json!(["lowerdir=/a:/b", "ro"]));
    for on in ["/text", "/ctr"] {
        assert_eq!(options(on), serde_json::json!(["ro", "size=1m"]), "{on}");
    }
    let wrong = format!(r#"create("{id}-2", "{IMAGE}", #{{ mount: #{{ dst: "/x", src: ["/a", "/b"] }} }})"#);
    let report = stage.script(&wrong).unwrap_err();
    assert!(report.error.message.contains("src"), "{report:?}");
}

fn seccomp(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let capabilities = [
        "CAP_DAC_READ_SEARCH",
        "CAP_SYS_BOOT",
        "CAP_SYS_MODULE",
        "CAP_SYS_PACCT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_SYS_NICE",
        "CAP_SYSLOG",
        "CAP_BPF",
        "CAP_PERFMON",
    ];
    let all: Vec<&str> = capabilities.iter().flat_map(|name| ["--cap-add", name]).collect();
    for (add, flags) in
        [(vec![], vec![]), (texts(&["CAP_SYS_ADMIN"]), vec!["--cap-add", "CAP_SYS_ADMIN"]), (texts(&capabilities), all)]
    {
        let options = SpecOptions { seccomp: true, cap_add: add, ..SpecOptions::default() };
        let (ours, theirs) = both(&stage, &[["--seccomp"].as_slice(), &flags].concat(), &[], options);
        assert_eq!(ours["linux"]["seccomp"], theirs["linux"]["seccomp"], "{flags:?}");
        // The document is read back whole.
        let again: Spec = serde_json::from_value(theirs.clone()).unwrap();
        assert_eq!(sorted(serde_json::to_value(again).unwrap()), theirs);
    }
}
