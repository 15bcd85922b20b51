//! What a daemon has in a namespace, without what differs between any two: ids that were made up, times, names of namespaces.
//!
//! It is read from the daemon itself, by neither of the two programs.

use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::sandbox::StoreListRequest;
use containerd_client::services::v1::sandbox::store_client::StoreClient;
use containerd_client::services::v1::snapshots::ListSnapshotsRequest;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    CreateNamespaceRequest, CreateRequest, DeleteContainerRequest, DeleteImageRequest, DeleteRequest,
    DeleteTaskRequest, GetRequest, KillRequest, ListContainersRequest, ListContentRequest, ListImagesRequest,
    ListNamespacesRequest, ListPidsRequest, ListRequest, ListResourcesRequest, ListStatusesRequest, ListTasksRequest,
    Namespace, ResumeTaskRequest, WaitRequest,
};
use containerd_client::types::v1::Process;
use serde_json::{Map, Value, json};
use tonic::transport::Channel;

use super::scene::Side;
use crate::harness::Env;
use crate::harness::generation::newest;

pub const PATIENCE: Duration = Duration::from_secs(10);

/// The states of a task that has ended, and of one that is paused.
const STOPPED: i32 = 3;
const PAUSED: i32 = 4;

/// Held while a case looks at what nothing holds: no other has that collected then. The daemon still may, by itself.
pub static LOOKING: RwLock<()> = RwLock::new(());

/// Returns the one connection of all cases.
fn channel(env: &Env) -> Channel {
    static MADE: OnceLock<Channel> = OnceLock::new();
    MADE.get_or_init(|| env.block_on(containerd_client::connect(env.socket())).unwrap()).clone()
}

fn within<T>(namespace: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace.parse().unwrap());
    request
}

/// Makes a namespace.
pub fn make_namespace(env: &Env, name: &str) {
    let namespace = Namespace { name: name.to_owned(), labels: HashMap::new() };
    let request = CreateNamespaceRequest { namespace: Some(namespace) };
    env.block_on(NamespacesClient::new(channel(env)).create(within(name, request))).unwrap();
}

/// Lets the collector take what nothing holds, in all namespaces.
pub fn collect(side: &Side) {
    let _nobody_looks = LOOKING.write().unwrap_or_else(PoisonError::into_inner);
    side.env.block_on(async {
        let mut client = LeasesClient::new(channel(&side.env));
        let id = "collect".to_owned();
        let request = CreateRequest { id: id.clone(), labels: HashMap::new() };
        client.create(within(&side.namespace, request)).await.unwrap();
        client.delete(within(&side.namespace, DeleteRequest { id, sync: true })).await.unwrap();
    });
}

/// Returns what the daemon has of a side.
pub fn of(side: &Side) -> Value {
    let read = async {
        let (images, content, ingests) = tokio::join!(images(side), content(side), ingests(side));
        let (snapshots, containers, tasks) = tokio::join!(snapshots(side), containers(side), tasks_of(side));
        let (leases, namespaces, sandboxes) = tokio::join!(leases(side), namespaces(side), sandboxes(side));
        json!({
            "images": images, "content": content, "ingests": ingests, "snapshots": snapshots, "containers": containers,
            "tasks": tasks, "leases": leases, "namespaces": namespaces, "sandboxes": sandboxes,
        })
    };
    let state: Value = side.env.block_on(read);
    let mut text = side.common(&state.to_string());
    for name in with_other_owners(&state) {
        text = text.replace(&name, "a layer with other owners");
    }
    serde_json::from_str(&text).unwrap()
}

/// The names of the layers made anew that containers with a user namespace stand on: they have the owners in them, but with ctr
/// 2.1, which makes a digest of them.
fn with_other_owners(state: &Value) -> Vec<String> {
    let containers = state["containers"].as_object().unwrap().values();
    let mapped = containers.filter(|one| one.pointer("/spec/linux/uidMappings").is_some());
    let parent = |one: &Value| {
        let all = state["snapshots"].get(one["snapshotter"].as_str()?)?;
        let name = all[one["snapshot"].as_str()?]["parent"].as_str()?;
        (all[name]["parent"] != "").then(|| name.to_owned())
    };
    mapped.filter_map(parent).collect()
}

/// Waits until every task has ended.
pub fn ended(side: &Side) {
    let begun = Instant::now();
    while side.env.block_on(tasks(side)).iter().any(|task| task.status != STOPPED) {
        assert!(begun.elapsed() < PATIENCE, "the task does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the process `look` in each task has ended.
pub fn look_ended(side: &Side) {
    let begun = Instant::now();
    while side.env.block_on(tasks_of(side)).values().any(|task| task["look"] != STOPPED) {
        assert!(begun.elapsed() < PATIENCE, "the process does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends what runs, and leaves the rest to the collector.
pub fn clear(side: &Side) {
    side.env.block_on(async {
        let mut client = TasksClient::new(channel(&side.env));
        for task in tasks(side).await {
            let container_id = task.id;
            if task.status == PAUSED {
                // It would take no signal.
                let request = ResumeTaskRequest { container_id: container_id.clone() };
                client.resume(within(&side.namespace, request)).await.unwrap();
            }
            if task.status != STOPPED {
                let (exec_id, signal, all) = (String::new(), 9, true);
                let request = KillRequest { container_id: container_id.clone(), exec_id, signal, all };
                // It may end by itself.
                let _ = client.kill(within(&side.namespace, request)).await;
                let request = WaitRequest { container_id: container_id.clone(), exec_id: String::new() };
                let ends = client.wait(within(&side.namespace, request));
                tokio::time::timeout(PATIENCE, ends).await.unwrap().unwrap();
            }
            client.delete(within(&side.namespace, DeleteTaskRequest { container_id })).await.unwrap();
        }
        for id in containers(side).await.into_iter().map(|(id, _)| id) {
            let request = within(&side.namespace, DeleteContainerRequest { id });
            ContainersClient::new(channel(&side.env)).delete(request).await.unwrap();
        }
        for name in images(side).await.into_iter().map(|(name, _)| name) {
            let request = within(&side.namespace, DeleteImageRequest { name, ..Default::default() });
            ImagesClient::new(channel(&side.env)).delete(request).await.unwrap();
        }
    });
}

/// Returns the pids of the tasks.
pub fn pids(side: &Side) -> Vec<u32> {
    side.env.block_on(tasks(side)).into_iter().map(|task| task.pid).collect()
}

/// The value of a label that keeps something is when that was said; one that ends it is so many minutes from now.
fn labels(labels: HashMap<String, String>) -> Value {
    let value = |key: &str, value: String| match key {
        "containerd.io/gc.root" => "a time".to_owned(),
        "containerd.io/gc.expire" => value.parse::<DateTime<Utc>>().map_or(value, |end| {
            let minutes = (end - Utc::now()).num_seconds() as f64 / 60.0;
            format!("in {} minutes", minutes.round())
        }),
        _ => value,
    };
    // The name of a layer's snapshot, once more; of ctr's ways only some write it.
    let says = labels.into_iter().filter(|(key, _)| key != "containerd.io/snapshot.ref");
    says.map(|(key, text)| (key.clone(), json!(value(&key, text)))).collect::<Map<_, _>>().into()
}

async fn images(side: &Side) -> Map<String, Value> {
    let request = within(&side.namespace, ListImagesRequest { filters: Vec::new() });
    let found = ImagesClient::new(channel(&side.env)).list(request).await.unwrap().into_inner().images;
    let image = |image: containerd_client::services::v1::Image| {
        let target = image.target.unwrap();
        let is = json!({
            "media type": target.media_type, "digest": target.digest, "size": target.size,
            "labels": labels(image.labels),
        });
        (image.name, is)
    };
    found.into_iter().map(image).collect()
}

async fn content(side: &Side) -> Map<String, Value> {
    let request = within(&side.namespace, ListContentRequest { filters: Vec::new() });
    let mut found = ContentClient::new(channel(&side.env)).list(request).await.unwrap().into_inner();
    let mut all = Map::new();
    while let Some(part) = found.message().await.unwrap() {
        all.extend(part.info.into_iter().map(|blob| (blob.digest, json!({ "labels": labels(blob.labels) }))));
    }
    all
}

async fn ingests(side: &Side) -> Map<String, Value> {
    let request = within(&side.namespace, ListStatusesRequest { filters: Vec::new() });
    let found = ContentClient::new(channel(&side.env)).list_statuses(request).await.unwrap().into_inner();
    found.statuses.into_iter().map(|one| (one.r#ref, json!({ "offset": one.offset, "total": one.total }))).collect()
}

async fn snapshots(side: &Side) -> Map<String, Value> {
    let mut all = Map::new();
    for snapshotter in [side.env.snapshotter().as_str(), "native"] {
        let request = ListSnapshotsRequest { snapshotter: snapshotter.to_owned(), filters: Vec::new() };
        let request = within(&side.namespace, request);
        let mut found = SnapshotsClient::new(channel(&side.env)).list(request).await.unwrap().into_inner();
        let mut here = Map::new();
        while let Some(part) = found.message().await.unwrap() {
            for one in part.info {
                let is = json!({ "parent": one.parent, "kind": one.kind, "labels": labels(one.labels) });
                here.insert(one.name, is);
            }
        }
        all.insert(snapshotter.to_owned(), here.into());
    }
    all
}

async fn containers(side: &Side) -> Map<String, Value> {
    let request = within(&side.namespace, ListContainersRequest { filters: Vec::new() });
    let found = ContainersClient::new(channel(&side.env)).list(request).await.unwrap().into_inner().containers;
    let container = |one: containerd_client::services::v1::Container| {
        let runtime = one.runtime.unwrap_or_default();
        let options = runtime.options.unwrap_or_default();
        let mut spec: Value = serde_json::from_slice(&one.spec.unwrap_or_default().value).unwrap_or_default();
        as_meant(&mut spec);
        let is = json!({
            "labels": labels(one.labels), "image": one.image, "snapshotter": one.snapshotter,
            "snapshot": one.snapshot_key, "sandbox": one.sandbox, "spec": spec,
            "runtime": [runtime.name, options.type_url, String::from_utf8_lossy(&options.value)],
            "extensions": one.extensions.keys().collect::<Vec<_>>(),
        });
        (one.id, is)
    };
    found.into_iter().map(container).collect()
}

async fn tasks(side: &Side) -> Vec<Process> {
    let request = within(&side.namespace, ListTasksRequest { filter: String::new() });
    TasksClient::new(channel(&side.env)).list(request).await.unwrap().into_inner().tasks
}

async fn tasks_of(side: &Side) -> Map<String, Value> {
    let mut all = Map::new();
    let mut client = TasksClient::new(channel(&side.env));
    for task in tasks(side).await {
        let request = within(&side.namespace, ListPidsRequest { container_id: task.id.clone() });
        let pids = client.list_pids(request).await.map_or(0, |found| found.into_inner().processes.len());
        let request = GetRequest { container_id: task.id.clone(), exec_id: "look".into() };
        let look = client.get(within(&side.namespace, request)).await;
        let look = look.ok().and_then(|found| found.into_inner().process).map(|process| process.status);
        let is = json!({
            "status": task.status, "exit status": task.exit_status, "terminal": task.terminal, "processes": pids,
            "look": look,
        });
        all.insert(task.id, is);
    }
    all
}

async fn leases(side: &Side) -> Map<String, Value> {
    let mut client = LeasesClient::new(channel(&side.env));
    let request = within(&side.namespace, ListRequest { filters: Vec::new() });
    let mut all = Map::new();
    for (number, lease) in client.list(request).await.unwrap().into_inner().leases.into_iter().enumerate() {
        let request = within(&side.namespace, ListResourcesRequest { id: lease.id.clone() });
        let found = client.list_resources(request).await.unwrap().into_inner().resources;
        let mut holds: Vec<String> = found.into_iter().map(|one| format!("{} {}", one.r#type, one.id)).collect();
        holds.sort();
        // An id that a case gives has no numbers.
        let id = if lease.id.contains(|c: char| c.is_ascii_digit()) { format!("lease {number}") } else { lease.id };
        all.insert(id, json!({ "labels": labels(lease.labels), "holds": holds }));
    }
    all
}

/// The labels of the namespace, and of the other one when it is there.
async fn namespaces(side: &Side) -> Map<String, Value> {
    let request = ListNamespacesRequest { filter: String::new() };
    let found = NamespacesClient::new(channel(&side.env)).list(request).await.unwrap().into_inner().namespaces;
    let own = found.into_iter().filter(|one| one.name == side.namespace || one.name == side.other);
    own.map(|one| (one.name, labels(one.labels))).collect()
}

/// The sandboxes, where the daemon has them.
async fn sandboxes(side: &Side) -> Map<String, Value> {
    let request = within(&side.namespace, StoreListRequest { filters: Vec::new() });
    let Ok(found) = StoreClient::new(channel(&side.env)).list(request).await else { return Map::new() };
    let sandbox = |one: containerd_client::types::Sandbox| {
        let runtime = one.runtime.unwrap_or_default();
        let mut spec: Value = serde_json::from_slice(&one.spec.unwrap_or_default().value).unwrap_or_default();
        as_meant(&mut spec);
        (one.sandbox_id, json!({ "runtime": runtime.name, "spec": spec, "labels": labels(one.labels) }))
    };
    found.into_inner().list.into_iter().map(sandbox).collect()
}

/// Takes out what says nothing: the order of variables, and what only the generations of containerd have different.
pub fn as_meant(spec: &mut Value) {
    if let Some(Value::Array(variables)) = spec.pointer_mut("/process/env") {
        variables.sort_by_key(ToString::to_string);
    }
    *spec = newest(std::mem::take(spec));
}

/// Says where two states differ, a line each.
pub fn difference(ours: &Value, theirs: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ("", ours, theirs, &mut found);
    found
}

fn differ(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                differ(&format!("{path}/{key}"), value, other.get(key).unwrap_or(&Value::Null), found);
            }
            for (key, value) in other.iter().filter(|(key, _)| !one.contains_key(*key)) {
                differ(&format!("{path}/{key}"), &Value::Null, value, found);
            }
        }
        _ if ours == theirs => {}
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (number, (one, other)) in one.iter().zip(other).enumerate() {
                differ(&format!("{path}/{number}"), one, other, found);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            let only = |some: &[Value], rest: &[Value]| {
                some.iter().filter(|item| !rest.contains(item)).map(ToString::to_string).collect::<Vec<_>>().join(", ")
            };
            found.push(format!("{path}: ctrsh alone: {}; ctr alone: {}", only(one, other), only(other, one)));
        }
        _ => found.push(format!("{path}: ctrsh: {ours}; ctr: {theirs}")),
    }
}
