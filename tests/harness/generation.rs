//! What the generations of containerd do differently: the runtime specs that they write, brought to what the newest writes,
//! and the way that images take with ctr.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::output::Output;

/// The commands of `ctr images` that newer ones leave to the daemon, unless `--local` is given.
const MOVING: [&str; 5] = ["pull", "push", "tag", "import", "export"];

/// Returns the words of a line of ctr with `--local` where the installed ctr knows it, so that every generation does the
/// same: the daemon's own way unpacks only for the snapshotters of its configuration. And with `--skip-metadata`: since 2.0
/// a pull takes the documents of all platforms along.
pub fn local<S: AsRef<OsStr>>(words: &[S]) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
    let pairs = |pair: &[OsString]| {
        let images = ["images", "image", "i"].iter().any(|name| pair[0] == *name);
        images && MOVING.iter().any(|name| pair[1] == *name)
    };
    let Some(at) = words.windows(2).position(pairs) else { return words };
    if help_of_pull().contains("--skip-metadata") && words[at + 1] == "pull" {
        words.insert(at + 2, "--skip-metadata".into());
    }
    if help_of_pull().contains("--local ") {
        words.insert(at + 2, "--local".into());
    }
    words
}

fn help_of_pull() -> &'static str {
    static HELP: OnceLock<String> = OnceLock::new();
    HELP.get_or_init(|| Output::of(Command::new("ctr").args(["images", "pull", "--help"])).ok())
}

/// The calls that containerd 1.7 allows and 1.6 does not (`contrib/seccomp/seccomp_default.go` of 1.6.20 and 1.7.24).
const NEW_CALLS: [&str; 7] =
    ["cachestat", "fchmodat2", "futex_requeue", "futex_wait", "futex_wake", "map_shadow_stack", "name_to_handle_at"];

/// Returns a spec that some containerd wrote as 2.1.9 would have written it.
pub fn newest(mut spec: Value) -> Value {
    // From 1.7 on, and as ctrsh has it everywhere.
    const POWERCAP: &str = "/sys/devices/virtual/powercap";
    if let Some(Value::Array(paths)) = spec.pointer_mut("/linux/maskedPaths")
        && !paths.iter().any(|path| path == POWERCAP)
        && let Some(at) = paths.iter().position(|path| path == "/sys/firmware")
    {
        paths.insert(at + 1, POWERCAP.into());
    }
    if let Some(Value::Array(rules)) = spec.pointer_mut("/linux/seccomp/syscalls") {
        rules_of_newest(rules);
    }
    sorted(spec)
}

/// Takes out of a spec what says nothing: the order of the names in a rule, and the version of the document.
pub fn sorted(mut spec: Value) -> Value {
    if let Some(document) = spec.as_object_mut() {
        document.remove("ociVersion");
    }
    for rule in rules(&mut spec) {
        if let Some(Value::Array(names)) = rule.get_mut("names") {
            names.sort_by_key(ToString::to_string);
        }
    }
    spec
}

fn rules(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    spec.pointer_mut("/linux/seccomp/syscalls").and_then(Value::as_array_mut).into_iter().flatten()
}

fn rules_of_newest(rules: &mut Vec<Value>) {
    let names = |rule: &Value| -> Vec<String> { serde_json::from_value(rule["names"].clone()).unwrap() };
    let mut always = names(&rules[0]);
    // 2.0 allows no io_uring.
    always.retain(|name| !name.starts_with("io_uring_"));
    always.extend(
        NEW_CALLS
            .iter()
            .filter(|call| !rules[0]["names"].as_array().unwrap().iter().any(|n| n == *call))
            .map(|c| (*c).to_owned()),
    );
    if always.iter().any(|name| name == "socket") {
        always.retain(|name| name != "socket");
        let others = json!([{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]);
        rules.insert(1, json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": others}));
    }
    rules[0]["names"] = json!(always);
    for rule in rules.iter_mut().skip(1) {
        let mut now = names(rule);
        if now == ["ptrace"] {
            now.extend(["process_vm_readv".to_owned(), "process_vm_writev".to_owned()]);
        }
        if now.iter().any(|name| name == "mount") {
            now.retain(|name| name != "name_to_handle_at");
        }
        if now == ["get_mempolicy", "mbind", "set_mempolicy"] {
            now.push("set_mempolicy_home_node".to_owned());
        }
        rule["names"] = json!(now);
    }
}
