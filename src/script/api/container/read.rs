//! What can be asked of containers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rhai::{ImmutableString, Map};

use super::ContainerObject;
use crate::containerd::tasks::Pid;
use crate::grant::Access;
use crate::ops::container::Change;
use crate::ops::{self, Context};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::engine;
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::time::Time;
use crate::script::value::Name;

const CONTAINERS: Spec = Spec {
    name: "containers",
    on: On::Node,
    params: &[Param::new("filter")],
    options: &[],
    access: Access::Read,
    doc: "Lists the containers of the namespace, sorted by id.\n\nThe filter is containerd's own, such as `image~=nginx` or `labels.app==shop`.",
    examples: &[
        Example::runs("for c in containers() { print(`${c.id} is ${c.status}`) }"),
        Example::gives("containers(\"id==nobody\").len()", "0"),
    ],
};

fn containers(call: &Call<'_>, filter: Option<Vec<String>>) -> Result<Vec<ContainerObject>> {
    let found = call.wait(ops::container::list(call.ctx(), &filter.unwrap_or_default()))?;
    Ok(ContainerObject::list(found, call.ctx().place()))
}

const CONTAINER: Spec = Spec {
    name: "container",
    on: On::Node,
    params: &[Param::of("id", Names::Container)],
    options: &[],
    access: Access::Read,
    doc: "Returns a container by its id.",
    examples: &[Example::gives(
        "create(\"looked-up\", \"busybox\"); let c = container(\"looked-up\"); let status = c.status; c.delete(); status",
        "\"created\"",
    )],
};

fn container(call: &Call<'_>, id: String) -> Result<ContainerObject> {
    let found = call.wait(ops::container::get(call.ctx(), &id))?;
    Ok(ContainerObject::new(found, call.ctx().place()))
}

const PS: Spec = Spec {
    name: "ps",
    on: On::Node,
    params: &[Param::of("id", Names::Container)],
    options: &[],
    access: Access::Read,
    doc: "Lists the processes of a running container as maps of `pid`, in the daemon's PID namespace, and `exec_id`.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"ps-1\", detach: true, command: [\"sleep\", \"60\"] }); let count = ps(\"ps-1\").len(); delete(\"ps-1\", #{ force: true }); count",
        "1",
    )],
};

fn processes(call: &Call<'_>, ctx: &Context, id: &str) -> Result<Vec<Map>> {
    let shown = |pid: Pid| {
        let exec_id = pid.exec_id.map_or(rhai::Dynamic::UNIT, Into::into);
        Map::from([("pid".into(), i64::from(pid.pid).into()), ("exec_id".into(), exec_id)])
    };
    Ok(call.session().wait(ctx, ops::task::ps(ctx, id))?.into_iter().map(shown).collect())
}

fn ps(call: &Call<'_>, id: Name) -> Result<Vec<Map>> {
    processes(call, call.ctx(), &id.0)
}

const CONTAINER_PS: Spec = Spec {
    name: "ps",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists the processes of the running container as maps of `pid` and `exec_id`.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"ps-2\", detach: true, command: [\"sleep\", \"60\"] }); let count = c.ps().len(); c.delete(#{ force: true }); count",
        "1",
    )],
};

fn container_ps(call: &Call<'_>, container: ContainerObject) -> Result<Vec<Map>> {
    processes(call, &call.at(container.place()), container.id())
}

const DIFF: Spec = Spec {
    name: "diff",
    on: On::Node,
    params: &[Param::of("id", Names::Container)],
    options: &[],
    access: Access::Read,
    doc: "Lists what a container changed of the files of its image, sorted by path, as maps of `path` and `change`: `added`, `modified` or `deleted`.\n\nThe files are read where they are, also while it runs, so ctrsh has to run as root on the daemon's own host. What is mounted into the container is not in it, but the places are that the runtime made to mount on. What was in a folder that is deleted or replaced is not listed one by one. A folder is `modified` when its mode or owner is, and not by what is in it.\n\nWhere snapshots are overlays, a file that was opened to write counts as `modified`. Where they are whole copies (`native`), files are compared by kind, mode, owner, size, time and target, and it needs `write` access for a view of the image, which goes again; a dry run finds nothing then.",
    examples: &[
        Example::gives(
            "run(\"busybox\", #{ id: \"differs\", rm: false, command: [\"sh\", \"-c\", \"echo new > /new; rm /etc/group\"] }); let changes = diff(\"differs\"); delete(\"differs\"); changes.filter(|c| c.path in [\"/new\", \"/etc/group\"])",
            "[{\"change\":\"deleted\",\"path\":\"/etc/group\"},{\"change\":\"added\",\"path\":\"/new\"}]",
        ),
        Example::runs("for c in containers() { print(`${c.id} changed ${diff(c.id).len()} files`) }"),
    ],
};

fn changes(call: &Call<'_>, ctx: &Context, id: &str) -> Result<Vec<Map>> {
    let shown = |change: Change| {
        let path = change.path.to_string_lossy().into_owned();
        Map::from([("path".into(), path.into()), ("change".into(), change.fate.as_str().into())])
    };
    Ok(call.session().wait(ctx, ops::container::diff(ctx, id))?.into_iter().map(shown).collect())
}

fn diff(call: &Call<'_>, id: Name) -> Result<Vec<Map>> {
    changes(call, call.ctx(), &id.0)
}

const CONTAINER_DIFF: Spec = Spec {
    name: "diff",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists what the container changed of the files of its image, as maps of `path` and `change`: `added`, `modified` or `deleted`.\n\nWhat counts as a change is said under `diff`.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"differs-2\", detach: true, command: [\"sleep\", \"60\"] }); c.exec([\"chmod\", \"600\", \"/etc/passwd\"]); let changes = c.diff(); c.delete(#{ force: true }); changes.some(|c| c.path == \"/etc/passwd\" && c.change == \"modified\")",
        "true",
    )],
};

fn container_diff(call: &Call<'_>, container: ContainerObject) -> Result<Vec<Map>> {
    changes(call, &call.at(container.place()), container.id())
}

const WAIT_OPTIONS: &[Opt] = &[
    Opt::new("timeout", "duration", "How long to wait. Default: without end."),
    Opt::new("exec_id", "string", "The executed process that is waited for. Default: the container's first one."),
];

const WAIT: Spec = Spec {
    name: "wait",
    on: On::Node,
    params: &[Param::of("id", Names::Container)],
    options: WAIT_OPTIONS,
    access: Access::Read,
    doc: "Waits until a container's task has ended, and returns its exit status.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"waited\", detach: true, command: [\"sh\", \"-c\", \"exit 4\"] }); let code = wait(\"waited\", #{ timeout: \"10s\" }); delete(\"waited\"); code",
        "4",
    )],
};

fn waited(call: &Call<'_>, ctx: &Context, id: &str, options: &Options) -> Result<i64> {
    let limit: Option<Duration> = options.duration("timeout")?;
    let exec_id = options.string("exec_id")?.unwrap_or_default();
    Ok(call.session().wait(ctx, ops::container::wait(ctx, id, &exec_id, limit))?.code.into())
}

fn wait(call: &Call<'_>, id: Name, options: Options) -> Result<i64> {
    waited(call, call.ctx(), &id.0, &options)
}

const CONTAINER_WAIT: Spec = Spec {
    name: "wait",
    on: On::Method,
    params: &[],
    options: WAIT_OPTIONS,
    access: Access::Read,
    doc: "Waits until the container's task has ended, and returns its exit status.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"waited-2\", detach: true, command: [\"true\"] }); let code = c.wait(); c.delete(); code",
        "0",
    )],
};

fn container_wait(call: &Call<'_>, container: ContainerObject, options: Options) -> Result<i64> {
    waited(call, &call.at(container.place()), container.id(), &options)
}

const LOGS_OPTIONS: &[Opt] = &[
    Opt::new("tail", "int", "How many lines from the end. Default: all."),
    Opt::new("follow", "bool", "Whether to print it as it grows, until the container ends. Default false."),
    Opt::new(
        "since",
        "duration, string or Time",
        "Only what was written in this time, as `10m`, or since then, as RFC 3339 writes it; with `tail`, of those lines. For logs whose lines carry times: the kubelet's and nerdctl's. Default: all.",
    ),
    Opt::new(
        "root",
        "string",
        "The folder where the file system of the node is, whose kubelet or nerdctl wrote the log, as `/host` in a container that has it mounted there. Default `/`.",
    ),
];

const LOGS: Spec = Spec {
    name: "logs",
    on: On::Node,
    params: &[Param::of("id", Names::Container)],
    options: LOGS_OPTIONS,
    access: Access::Read,
    doc: "Returns what a container wrote, both outputs together: the text alone.\n\nWhat is read is the log of a detached container of ctrsh; of a container that the kubelet made, `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log` (Kubernetes' proposal `kubelet-cri-logging.md`), at the place that the CRI plugin noted, else the one that the labels name; and of a container of `nerdctl run -d` with the log driver `json-file` the file `containers/NAMESPACE/ID/ID-json.log` in nerdctl's data folder (nerdctl `pkg/logging/jsonfile`). Of those only the file that is written now is read, as `kubectl logs` does it, and `follow` goes on in the next when it is rotated. A file outside `/var/log/pods`, `/var/lib/nerdctl` and ctrsh's own folder needs access as any file does. Whatever else a container's output goes to is named.\n\nA string holds up to 16 MiB, and a log that is longer is refused before it is read: `tail` takes its last lines. With `follow` it is printed line by line instead, whatever its length, a line above 1 MiB in pieces, and the result is empty.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"logged\", detach: true, command: [\"sh\", \"-c\", \"echo one; echo two\"] }); wait(\"logged\"); let text = logs(\"logged\", #{ tail: 1 }); delete(\"logged\"); text",
        "\"two\\n\"",
    )],
};

/// Reads a point in time, or how long ago it was.
fn since(options: &Options) -> Result<Option<DateTime<Utc>>> {
    let Some(value) = options.any("since") else { return Ok(None) };
    if let Some(time) = value.read_lock::<Time>() {
        return Ok(Some(time.0));
    }
    let point = value.read_lock::<ImmutableString>().and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    if let Some(point) = point {
        return Ok(Some(point.to_utc()));
    }
    let wrong = || options.bad("since", "must be a duration as \"10m\", or a time as \"2026-01-02T03:04:05Z\"");
    let age = options.duration("since").map_err(|_| wrong())?.unwrap_or_default();
    let age = chrono::Duration::from_std(age).map_err(|_| wrong())?;
    Ok(Utc::now().checked_sub_signed(age))
}

fn read_logs(call: &Call<'_>, ctx: &Context, id: &str, options: &Options) -> Result<String> {
    let follow = options.flag("follow")?;
    let wanted = ops::container::LogOptions {
        tail: options.count("tail")?,
        since: since(options)?,
        root: options.string("root")?.map(|root| ctx.settings().working_dir.join(root)),
    };
    if follow && ctx.is_dry_run() {
        // What would write was not started; following it to its end is waiting for that end.
        call.session().wait(ctx, ops::container::wait(ctx, id, "", None))?;
        return Ok(String::new());
    }
    if !follow {
        let limit = engine::MAX_STRING as u64;
        let bytes = call.session().wait(ctx, ops::container::logs(ctx, id, &wanted, limit))?;
        let text =
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        // The mark for what is not UTF-8 takes more bytes than that.
        let length = text.len() as u64;
        return if length > limit {
            Err(ops::container::too_long(id, length, wanted.tail, limit).into())
        } else {
            Ok(text)
        };
    }
    let sink = call.session().sink();
    let print = |line: &[u8]| sink.print(&String::from_utf8_lossy(line));
    call.session().wait(ctx, async {
        let mut follow = ops::container::Follow::open(ctx, id, &wanted).await?;
        let mut lines = ops::container::Lines::default();
        while let Some(more) = follow.next().await? {
            lines.add(&more, print);
        }
        lines.end(print);
        Ok(String::new())
    })
}

fn logs(call: &Call<'_>, id: Name, options: Options) -> Result<String> {
    read_logs(call, call.ctx(), &id.0, &options)
}

const CONTAINER_LOGS: Spec = Spec {
    name: "logs",
    on: On::Method,
    params: &[],
    options: LOGS_OPTIONS,
    access: Access::Read,
    doc: "Returns what the detached container wrote, both outputs together.\n\nWhat is said under `logs` holds here too.",
    examples: &[Example::runs(
        "let c = run(\"busybox\", #{ id: \"followed\", detach: true, command: [\"echo\", \"hello\"] }); c.logs(#{ follow: true }); c.delete()",
    )],
};

fn container_logs(call: &Call<'_>, container: ContainerObject, options: Options) -> Result<String> {
    read_logs(call, &call.at(container.place()), container.id(), &options)
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&CONTAINERS, containers);
    catalog.add(&CONTAINER, container);
    catalog.add(&PS, ps);
    catalog.add(&CONTAINER_PS, container_ps);
    catalog.add(&DIFF, diff);
    catalog.add(&CONTAINER_DIFF, container_diff);
    catalog.add(&WAIT, wait);
    catalog.add(&CONTAINER_WAIT, container_wait);
    catalog.add(&LOGS, logs);
    catalog.add(&CONTAINER_LOGS, container_logs);
}
