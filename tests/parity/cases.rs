//! The cases.

use super::{Also, Case};

/// The name of the image that is there.
pub const IMAGE: &str = "example.test/busybox:1";

const CREATE: &[&str] = &["containers", "create", "$IMAGE", "web", "sleep", "600"];
const RUN: &[&str] = &["run", "--detach", "--null-io", "$IMAGE", "web", "sleep", "600"];

const WITH_IMAGE: &[&str] = &["images", "tag", "$IMAGE", "example.test/second:1"];
const ENDED: &[&str] = &["run", "--detach", "--null-io", "$IMAGE", "web", "true"];

/// Not a line of ctr: waits until the tasks have ended.
pub const ENDS: &[&str] = &[];

const fn case(row: &'static str, before: &'static [&'static [&'static str]], line: &'static [&'static str]) -> Case {
    Case { row, before, line, needs: None, also: Also::Nothing }
}

const fn and(mut case: Case, also: Also) -> Case {
    case.also = also;
    case
}

const fn needs(mut case: Case, what: (&'static str, &'static str)) -> Case {
    case.needs = Some(what);
    case
}

pub const CASES: &[Case] = &[
    case("images pull", &[], &["images", "pull", "$REF"]),
    case("images pull --plain-http", &[], &["images", "pull", "--plain-http", "$REF"]),
    case("images pull --label", &[], &["images", "pull", "--label", "team=core", "--label", "tier=1", "$REF"]),
    case("images pull --platform", &[], &["images", "pull", "--platform", "$FOREIGN", "$INDEX"]),
    case("images pull --snapshotter", &[], &["images", "pull", "--snapshotter", "$SNAPSHOTTER", "$REF"]),
    and(case("images push", &[], &["images", "push", "--plain-http", "$TARGET", "$IMAGE"]), Also::Target),
    and(case("images list --quiet", &[WITH_IMAGE], &["i", "ls", "-q", "name~=example.test"]), Also::Output),
    and(case("images check --quiet", &[WITH_IMAGE], &["i", "check", "-q", "name~=example.test"]), Also::Output),
    case("images tag", &[], &["images", "tag", "$IMAGE", "example.test/other:1", "example.test/other:2"]),
    case(
        "images tag --force",
        &[&["images", "pull", "$INDEX"], &["images", "tag", "$INDEX", "example.test/other:1"]],
        &["images", "tag", "--force", "$IMAGE", "example.test/other:1"],
    ),
    case("images delete", &[], &["images", "delete", "$IMAGE"]),
    case("images delete --sync", &[], &["images", "rm", "--sync", "$REF", "$IMAGE"]),
    case("images import", &[], &["images", "import", "$ARCHIVE"]),
    case("images import --no-unpack", &[], &["images", "import", "--no-unpack", "$ARCHIVE"]),
    and(case("images export", &[], &["images", "export", "$FILE", "$IMAGE"]), Also::Archive),
    case(
        "images label",
        &[&["images", "label", "$IMAGE", "old=1"]],
        &["images", "label", "$IMAGE", "team=core", "old="],
    ),
    case("containers create", &[], CREATE),
    case(
        "containers create --env",
        &[],
        &["c", "create", "--env", "ZONE=b", "--env", "AREA=a", "$IMAGE", "web", "true"],
    ),
    case("containers create --label", &[], &["c", "create", "--label", "team=core", "--label", "x", "$IMAGE", "web"]),
    case("containers create --cwd", &[], &["c", "create", "--cwd", "/tmp", "$IMAGE", "web"]),
    case(
        "containers create --mount",
        &[],
        &["c", "create", "--mount", "type=bind,src=/srv,dst=/srv,options=rbind:ro", "$IMAGE", "web"],
    ),
    case("containers create --memory-limit", &[], &["c", "create", "--memory-limit", "67108864", "$IMAGE", "web"]),
    case("containers create --cap-add", &[], &["c", "create", "--cap-add", "CAP_NET_ADMIN", "$IMAGE", "web"]),
    case("containers create --cap-drop", &[], &["c", "create", "--cap-drop", "CAP_CHOWN", "$IMAGE", "web"]),
    case("containers create --read-only", &[], &["c", "create", "--read-only", "$IMAGE", "web"]),
    case("containers create --env-file", &[], &["c", "create", "--env-file", "web.env", "$IMAGE", "web"]),
    case("containers create --annotation", &[], &["c", "create", "--annotation", "team=core", "$IMAGE", "web"]),
    case("containers create --privileged", &[], &["c", "create", "--privileged", "$IMAGE", "web"]),
    case("containers create --seccomp", &[], &["c", "create", "--seccomp", "$IMAGE", "web"]),
    case("containers create --device", &[], &["c", "create", "--device", "/dev/zero", "$IMAGE", "web"]),
    case("containers create --with-ns", &[], &["c", "create", "--with-ns", "network:/proc/1/ns/net", "$IMAGE", "web"]),
    case("containers create --net-host", &[], &["c", "create", "--net-host", "$IMAGE", "web"]),
    case("containers create --tty", &[], &["c", "create", "--tty", "$IMAGE", "web"]),
    case("containers create --config", &[], &["c", "create", "--config", "spec.json", "web"]),
    case("containers create --runtime", &[], &["c", "create", "--runtime", "io.containerd.runc.v2", "$IMAGE", "web"]),
    case("containers create --snapshotter", &[], &["c", "create", "--snapshotter", "$SNAPSHOTTER", "$IMAGE", "web"]),
    case("containers create --allow-new-privs", &[], &["c", "create", "--allow-new-privs", "$IMAGE", "web"]),
    and(case("containers list --quiet", &[CREATE], &["c", "ls", "-q"]), Also::Output),
    and(case("containers info --spec", &[CREATE], &["c", "info", "--spec", "web"]), Also::Json),
    case("containers delete", &[CREATE], &["containers", "rm", "web"]),
    case("containers label", &[CREATE], &["containers", "label", "web", "team=core"]),
    and(case("run", &[], &["run", "$IMAGE", "web", "true"]), Also::NoneRuns),
    case("run --rm", &[], &["run", "--rm", "$IMAGE", "web", "true"]),
    case("run --detach", &[], RUN),
    case("run --env", &[], &["run", "-d", "--null-io", "--env", "TZ=UTC", "$IMAGE", "web", "sleep", "600"]),
    case("run --cpus", &[], &["run", "-d", "--null-io", "--cpus", "0.5", "$IMAGE", "web", "sleep", "600"]),
    case("run --net-host", &[], &["run", "-d", "--null-io", "--net-host", "$IMAGE", "web", "sleep", "600"]),
    case("run --cpu-shares", &[], &["run", "-d", "--null-io", "--cpu-shares", "512", "$IMAGE", "web", "sleep", "600"]),
    case("run --null-io", &[], RUN),
    case("run --log-uri", &[], &["run", "-d", "--log-uri", "file://$FILE", "$IMAGE", "web", "sleep", "600"]),
    and(case("tasks start", &[&["c", "create", "$IMAGE", "web", "true"]], &["tasks", "start", "web"]), Also::NoneRuns),
    case("tasks start --detach", &[CREATE], &["tasks", "start", "--detach", "--null-io", "web"]),
    and(
        case("tasks start --pid-file", &[CREATE], &["t", "start", "-d", "--null-io", "--pid-file", "$FILE", "web"]),
        Also::Pid,
    ),
    and(case("tasks list --quiet", &[RUN], &["tasks", "ls", "-q"]), Also::Output),
    case("tasks exec", &[RUN], &["tasks", "exec", "--exec-id", "one", "web", "true"]),
    case("tasks exec --exec-id", &[RUN], &["t", "exec", "--exec-id", "look", "web", "sh", "-c", "echo $$ > /tmp/it"]),
    case(
        "tasks exec --cwd",
        &[RUN],
        &["t", "exec", "--exec-id", "one", "--cwd", "/tmp", "web", "test", "-d", "../tmp"],
    ),
    case("tasks exec --user", &[RUN], &["t", "exec", "--exec-id", "one", "--user", "1000", "web", "true"]),
    and(case("tasks kill --signal", &[RUN], &["tasks", "kill", "--signal", "SIGKILL", "web"]), Also::Ended),
    and(case("tasks kill --all", &[RUN], &["tasks", "kill", "-a", "-s", "KILL", "web"]), Also::Ended),
    needs(case("tasks delete", &[ENDED, ENDS], &["tasks", "rm", "web"]), ("delete", "task")),
    needs(case("tasks delete --force", &[RUN], &["tasks", "delete", "-f", "web"]), ("delete", "task")),
    case("tasks pause", &[RUN], &["tasks", "pause", "web"]),
    case("tasks resume", &[RUN, &["tasks", "pause", "web"]], &["tasks", "resume", "web"]),
    and(case("plugins list --quiet", &[], &["plugins", "ls", "-q"]), Also::Output),
    and(case("oci spec", &[], &["oci", "spec"]), Also::Json),
    and(case("namespaces create", &[], &["namespaces", "create", "$OTHER", "team=core"]), Also::Other),
    and(
        case(
            "namespaces label",
            &[&["namespaces", "create", "$OTHER", "old=1"]],
            &["ns", "label", "$OTHER", "team=core", "old="],
        ),
        Also::Other,
    ),
    and(case("namespaces remove", &[&["ns", "create", "$OTHER"]], &["namespaces", "rm", "$OTHER"]), Also::Other),
];
