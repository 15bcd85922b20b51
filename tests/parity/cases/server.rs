//! The daemon itself, and what is neither an image nor a container.

use serde_json::{Value, json};

use super::super::{Asks, Case};
use super::case;

const LEASE: &str = "leases create --id night team=core";
const NO_PLUGIN_INFO: &str = "has no way to inspect a runtime";
const FEATURES: &[&str] = &["CAP_", "SCMP_"];
pub const NO_SANDBOXES: &str = "has no sandboxes";
pub const POD: &str = "!sandboxes run pod.json pod";
const NONE_LEFT: &str = "\"sandboxes\":{}";
/// ctr 1.7 writes a sandbox down and starts it, and does not have the shim make it before.
const UNASKED: &str = "unable to find sandbox";

/// The version and the revision that ctr says of the server.
fn versions(text: &str) -> Value {
    let server = text.split("Server:").nth(1).unwrap_or_default();
    let of = |name: &str| server.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    json!([of("Version:"), of("Revision:")])
}

fn rows(text: &str) -> Value {
    json!(text.lines().skip(1).count())
}

/// How many entries a list of ctr has, which says nothing when there are none.
fn entries(text: &str) -> Value {
    if text.is_empty() { json!(0) } else { items(&serde_json::from_str(text).unwrap()) }
}

fn items(value: &Value) -> Value {
    json!(value.as_array().map_or(0, Vec::len))
}

fn identity(text: &str) -> Value {
    let info: Value = serde_json::from_str(text).unwrap();
    json!(info["server"]["uuid"])
}

pub fn cases() -> Vec<Case> {
    vec![
        case("namespaces list", "namespaces list").words(&["$NS"]),
        case("namespaces list --quiet", "namespaces ls -q").words(&["$NS"]),
        case("namespaces create", "namespaces create $OTHER team=core"),
        case("namespaces label", "ns label $OTHER team=core old=").after(&["namespaces create $OTHER old=1"]),
        case("namespaces remove", "namespaces rm $OTHER").after(&["ns create $OTHER"]),
        case("namespaces remove --cgroup", "namespaces rm --cgroup $OTHER").after(&["ns create $OTHER"]),
        case("leases list", "leases list").after(&[LEASE]).words(&["night"]),
        case("leases list --quiet", "leases ls -q").after(&[LEASE]).asks(Asks::Lines),
        case("leases create", "leases create team=core"),
        case("leases create --id", LEASE),
        case("leases create --expires", "leases create --id night --expires 1h team=core"),
        case("leases delete", "leases delete night").after(&[LEASE]),
        case("leases delete --sync", "leases delete --sync night").after(&[LEASE]),
        case("events", "events topic~=/images/,namespace==$NS")
            .after(&["images import $ARCHIVE"])
            .during("images label $REF at=1", "/images/update")
            .words(&["/images/update"]),
        case("plugins list", "plugins list type==io.containerd.snapshotter.v1").words(&["io.containerd.", "overlayfs"]),
        case("plugins list --quiet", "plugins ls -q").asks(Asks::Lines),
        case("plugins list --detailed", "plugins list --detailed id==overlayfs")
            .words(&["io.containerd.", "overlayfs"]),
        case("plugins inspect-runtime", "plugins inspect-runtime").words(FEATURES).newer(NO_PLUGIN_INFO),
        case("plugins inspect-runtime --runtime", "plugins inspect-runtime --runtime io.containerd.runc.v2")
            .words(FEATURES)
            .newer(NO_PLUGIN_INFO),
        case("plugins inspect-runtime --runc-binary", "plugins inspect-runtime --runc-binary $RUNC")
            .words(FEATURES)
            .newer(NO_PLUGIN_INFO),
        case("plugins inspect-runtime --runc-root", "plugins inspect-runtime --runc-root $MNT")
            .words(FEATURES)
            .newer(NO_PLUGIN_INFO),
        // ctr wants a --cgroup with it, which only run has.
        case("plugins inspect-runtime --runc-systemd-cgroup", "plugins inspect-runtime --runc-systemd-cgroup")
            .theirs("plugins inspect-runtime")
            .words(FEATURES)
            .newer(NO_PLUGIN_INFO),
        case("version", "version").asks(Asks::Read(versions, |value| json!([value["server"], value["revision"]]))),
        case("info", "info").asks(Asks::Read(identity, |value| value["server"]["uuid"].clone())),
        case("deprecations list", "deprecations list").asks(Asks::Read(rows, items)),
        case("deprecations list --format", "deprecations list --format json").asks(Asks::Read(entries, items)),
        case("oci spec", "oci spec").asks(Asks::Spec),
        case("oci spec --platform", "oci spec --platform linux/arm64").asks(Asks::Spec).older("oci spec"),
        pod("sandboxes list", "sandboxes list").after(&[POD]).words(&["pod"]),
        pod("sandboxes list --filters", "sandboxes list --filters id==pod").after(&[POD]).words(&["pod"]),
        pod("sandboxes run", "sandboxes run pod.json pod").fault(UNASKED, &[]),
        pod("sandboxes run --runtime", "sandboxes run --runtime io.containerd.runc.v2 pod.json pod")
            .fault(UNASKED, &[]),
        // The shim of 1.7 ends before it has answered, and ctr then leaves the record.
        pod("sandboxes remove", "sandboxes remove pod").after(&[POD]).apart(&["pod"]).shows(NONE_LEFT),
        pod("sandboxes remove --force", "sandboxes remove --force pod").after(&[POD]).apart(&["pod"]).shows(NONE_LEFT),
    ]
}

/// A case with sandboxes, which runc's shim serves in containerd 1.7, and not in 2.1 of Debian.
fn pod(row: &str, line: &str) -> Case {
    case(row, line).newer(NO_SANDBOXES).alike()
}
