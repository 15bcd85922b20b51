//! What a daemon has in a namespace, without what differs between any two: ids that were made up, times, names of namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::generation::newest;

use super::{Also, Side};
use crate::harness::output::Output;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq)]
pub struct State {
    /// Images by name, with media type and digest, and their labels.
    images: BTreeMap<String, (Vec<String>, BTreeSet<String>)>,
    /// Content by digest, with its labels.
    content: BTreeMap<String, BTreeSet<String>>,
    /// Snapshots: key, parent, kind.
    snapshots: BTreeSet<Vec<String>>,
    /// Containers by id.
    containers: BTreeMap<String, Value>,
    /// Tasks by container, with what they do.
    tasks: BTreeMap<String, String>,
    /// The labels of leases.
    leases: Vec<String>,
    /// The labels of the namespace, and of the other one when it is there.
    namespaces: Vec<Option<BTreeSet<String>>>,
    /// What else was to be asked.
    also: String,
}

impl State {
    pub fn of(side: &Side, also: Also) -> Self {
        if also == Also::Ended {
            ended(side);
        }
        Self {
            images: images(side),
            content: content(side),
            snapshots: snapshots(side),
            containers: containers(side),
            tasks: if also == Also::NoneRuns { running(side) } else { tasks(side) },
            leases: leases(side),
            namespaces: namespaces(side),
            also: asked(side, also),
        }
    }
}

/// Waits until every task has ended.
pub fn ended(side: &Side) {
    let begun = Instant::now();
    while tasks(side).values().any(|status| status != "STOPPED") {
        assert!(begun.elapsed() < PATIENCE, "the task does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the words of each line below the heading of a list.
fn rows(side: &Side, list: &[&str]) -> Vec<Vec<String>> {
    let lines = side.ctr(list).lines();
    lines.iter().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn labels(text: &str) -> BTreeSet<String> {
    text.split(',').filter(|label| !matches!(*label, "-" | "")).map(without_times).collect()
}

/// The value of a label that keeps something is when that was said.
fn without_times(label: &str) -> String {
    match label.split_once('=') {
        Some(("containerd.io/gc.root", _)) => "containerd.io/gc.root".into(),
        _ => label.to_owned(),
    }
}

/// Takes out what is the side's own.
fn common(side: &Side, text: &str) -> String {
    text.replace(&side.target, "TARGET").replace(&side.other, "OTHER").replace(&side.namespace, "NAMESPACE")
}

fn images(side: &Side) -> BTreeMap<String, (Vec<String>, BTreeSet<String>)> {
    let rows = rows(side, &["images", "ls"]);
    rows.into_iter()
        .map(|words| (common(side, &words[0]), (words[1..3].to_vec(), labels(words.last().unwrap()))))
        .collect()
}

fn content(side: &Side) -> BTreeMap<String, BTreeSet<String>> {
    let target = side.target.rsplit_once('/').unwrap().1.split(':').next().unwrap().to_owned();
    let rows = rows(side, &["content", "ls"]);
    let own = |label: String| label.replace(&target, "TARGET");
    rows.into_iter()
        .map(|words| (words[0].clone(), labels(words.last().unwrap()).into_iter().map(own).collect()))
        .collect()
}

fn snapshots(side: &Side) -> BTreeSet<Vec<String>> {
    rows(side, &["snapshots", "ls"]).into_iter().collect()
}

fn containers(side: &Side) -> BTreeMap<String, Value> {
    let ids = side.ctr(&["containers", "ls", "-q"]).lines();
    ids.into_iter()
        .map(|id| {
            let text = common(side, &side.ctr(&["containers", "info", &id]).ok());
            let mut record: Value = serde_json::from_str(&text).unwrap();
            for time in ["CreatedAt", "UpdatedAt"] {
                record.as_object_mut().unwrap().remove(time);
            }
            as_meant(&mut record["Spec"]);
            (id, record)
        })
        .collect()
}

/// Reads a runtime spec that was printed.
pub fn spec(side: &Side, text: &str) -> Value {
    let text = common(side, text);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let mut spec = values.next().unwrap().unwrap();
    as_meant(&mut spec);
    spec
}

/// Takes out what says nothing: the order of variables, that the weight of the processor is the kernel's own, which ctr writes down and ctrsh does not,
/// and what only the generations of containerd have different.
fn as_meant(spec: &mut Value) {
    if let Some(resources) = spec.pointer_mut("/linux/resources").and_then(Value::as_object_mut) {
        let cpu = resources.get_mut("cpu").and_then(Value::as_object_mut);
        if let Some(cpu) = cpu.filter(|cpu| cpu.get("shares") == Some(&1024.into())) {
            cpu.remove("shares");
        }
        if resources.get("cpu").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            resources.remove("cpu");
        }
    }
    if let Some(Value::Array(variables)) = spec.pointer_mut("/process/env") {
        variables.sort_by_key(ToString::to_string);
    }
    *spec = newest(std::mem::take(spec));
}

fn tasks(side: &Side) -> BTreeMap<String, String> {
    rows(side, &["tasks", "ls"]).into_iter().map(|words| (words[0].clone(), words[2].clone())).collect()
}

/// Returns the tasks that have not ended.
fn running(side: &Side) -> BTreeMap<String, String> {
    tasks(side).into_iter().filter(|(_, status)| status != "STOPPED").collect()
}

fn leases(side: &Side) -> Vec<String> {
    let mut labels: Vec<String> =
        rows(side, &["leases", "ls"]).into_iter().map(|words| words.last().unwrap().clone()).collect();
    labels.sort();
    labels
}

fn namespaces(side: &Side) -> Vec<Option<BTreeSet<String>>> {
    let rows = rows(side, &["namespaces", "ls"]);
    let of = |name: &str| {
        let row = rows.iter().find(|words| words[0] == name)?;
        Some(row.get(1).map(|text| labels(text)).unwrap_or_default())
    };
    vec![of(&side.namespace), of(&side.other)]
}

fn asked(side: &Side, also: Also) -> String {
    let file = side.folder.join("file");
    match also {
        Also::Nothing | Also::Output | Also::Json | Also::NoneRuns | Also::Other | Also::Ended => String::new(),
        Also::Target => {
            let target = format!("docker://{}", side.target);
            side.env.skopeo(&["inspect", "--raw", "--tls-verify=false", &target]).ok()
        }
        Also::Archive => {
            let list = Output::of(Command::new("tar").arg("-tf").arg(&file)).lines();
            let mut blobs: Vec<String> =
                list.into_iter().filter(|name| name.starts_with("blobs/sha256/") && name.len() > 20).collect();
            blobs.sort();
            blobs.join("\n")
        }
        Also::Pid => {
            let pid = std::fs::read_to_string(&file).unwrap();
            let running = rows(side, &["tasks", "ls"]).into_iter().map(|words| words[1].clone());
            assert_eq!(vec![pid.trim().to_owned()], running.collect::<Vec<_>>());
            String::new()
        }
    }
}
