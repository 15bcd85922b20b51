//! Tasks and metrics.

use std::time::Duration;

use rhai::{Dynamic, Map};
use serde_json::Value;

use crate::containerd::metrics::{Metrics, Rate};
use crate::containerd::tasks::Task;
use crate::grant::Access;
use crate::ops;
use crate::script::api::container::ContainerObject;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Param, Spec};
use crate::script::convert;
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::time::Time;
use crate::script::value::Name;

/// A task as it was when it was read.
#[derive(Clone)]
pub(crate) struct TaskObject(pub Task);

impl Object for TaskObject {
    const TYPE: &'static str = "Task";
    const DOC: &'static str = "What runs of a container, as it was when it was read.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<TaskObject>;
        const FIELDS: &[F] = &[
            F::column("id", "string", "The id of the container.", |t, _| Ok(t.0.id.clone().into())),
            F::column("pid", "int", "Its first process, in the daemon's PID namespace.", |t, _| {
                Ok(i64::from(t.0.pid).into())
            }),
            F::column(
                "status",
                "string",
                "What it does: `created`, `running`, `paused`, `pausing`, `stopped`.",
                |t, _| Ok(t.0.status.as_str().into()),
            ),
            F::column("code", "int", "Its exit status once it has ended, else `()`.", |t, _| {
                Ok(t.0.exit.map_or(Dynamic::UNIT, |exit| i64::from(exit.code).into()))
            }),
            F::field("exited", "Time", "When it ended, else `()`.", |t, _| {
                Ok(t.0.exit.map_or(Dynamic::UNIT, |exit| Dynamic::from(Time(exit.at))))
            })
            .unit(Unit::Time),
            F::field("terminal", "bool", "Whether it has a terminal.", |t, _| Ok(t.0.terminal.into())),
            F::field("stdout", "string", "Where its output goes.", |t, _| Ok(t.0.stdout.clone().into())),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.id.clone())
    }
}

/// What a container uses at one moment.
#[derive(Clone)]
pub(crate) struct MetricsObject(pub Metrics);

impl Object for MetricsObject {
    const TYPE: &'static str = "Metrics";
    const DOC: &'static str = "What a container uses at one moment, in one shape for cgroup v1 and v2.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<MetricsObject>;
        const FIELDS: &[F] = &[
            F::column("id", "string", "The id of the container.", |m, _| Ok(m.0.id.clone().into())),
            F::field("at", "Time", "When it was measured, by the daemon's clock.", |m, _| {
                Ok(Dynamic::from(Time(m.0.at)))
            })
            .unit(Unit::Time),
            F::column("memory_usage", "int", "Bytes of memory; the same as `memory.usage`.", |m, _| {
                Ok(integer(m.0.memory.usage))
            })
            .unit(Unit::Bytes),
            F::column("cpu_time", "float", "Seconds of processor time; the same as `cpu.usage_total`.", |m, _| {
                Ok(m.0.cpu.usage.as_secs_f64().into())
            })
            .unit(Unit::Seconds),
            F::column("processes", "int", "Processes and threads; the same as `pids.current`.", |m, _| {
                Ok(integer(m.0.pids.current))
            }),
            F::field(
                "memory",
                "map",
                "Bytes: `usage`, `limit`, `max_usage`, `working_set`, `anon`, `file`, `kernel`, `swap`, `swap_limit`; and `page_faults`, `major_page_faults`, `oom_kills`. No limit is `()`.",
                |m, _| Ok(memory(&m.0).into()),
            ),
            F::field(
                "cpu",
                "map",
                "Seconds: `usage_total`, `user`, `kernel`, `throttled`; and `periods`, `throttled_periods`.",
                |m, _| Ok(cpu(&m.0).into()),
            ),
            F::field("pids", "map", "`current` and `limit`.", |m, _| {
                Ok(map([("current", integer(m.0.pids.current)), ("limit", limit(m.0.pids.limit))]).into())
            }),
            F::field("io", "map", "`read_bytes`, `write_bytes`, `read_ops`, `write_ops`.", |m, _| {
                let io = m.0.io;
                Ok(map([
                    ("read_bytes", integer(io.read_bytes)),
                    ("write_bytes", integer(io.write_bytes)),
                    ("read_ops", integer(io.read_ops)),
                    ("write_ops", integer(io.write_ops)),
                ])
                .into())
            }),
            F::on_demand(
                "record",
                "map",
                "All that containerd measured, in the words of `ctr tasks metrics --format json`; those of v1 and v2 differ.",
                |m, _| Ok(convert::from_json(m.0.record.clone())),
            ),
            F::on_demand(
                "listed",
                "array",
                "What `ctr tasks metrics` lists: maps of `metric`, by its name there, and `value`.",
                |m, _| {
                    let row = |(name, value): &(&str, Value)| {
                        map([("metric", (*name).into()), ("value", convert::from_json(value.clone()))]).into()
                    };
                    Ok(m.0.listed.iter().map(row).collect::<rhai::Array>().into())
                },
            ),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        None
    }
}

fn memory(metrics: &Metrics) -> Map {
    let memory = metrics.memory;
    map([
        ("usage", integer(memory.usage)),
        ("limit", limit(memory.limit)),
        ("max_usage", limit(memory.max_usage)),
        ("working_set", integer(memory.working_set)),
        ("anon", integer(memory.anon)),
        ("file", integer(memory.file)),
        ("kernel", integer(memory.kernel)),
        ("swap", integer(memory.swap)),
        ("swap_limit", limit(memory.swap_limit)),
        ("page_faults", integer(memory.page_faults)),
        ("major_page_faults", integer(memory.major_page_faults)),
        ("oom_kills", integer(memory.oom_kills)),
    ])
}

fn cpu(metrics: &Metrics) -> Map {
    let cpu = metrics.cpu;
    map([
        ("usage_total", seconds(cpu.usage)),
        ("user", seconds(cpu.user)),
        ("kernel", seconds(cpu.kernel)),
        ("throttled", seconds(cpu.throttled)),
        ("periods", integer(cpu.periods)),
        ("throttled_periods", integer(cpu.throttled_periods)),
    ])
}

fn map<const N: usize>(pairs: [(&str, Dynamic); N]) -> Map {
    pairs.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn integer(value: u64) -> Dynamic {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

fn limit(value: Option<u64>) -> Dynamic {
    value.map_or(Dynamic::UNIT, integer)
}

fn seconds(value: Duration) -> Dynamic {
    value.as_secs_f64().into()
}

const TASKS: Spec = Spec {
    name: "tasks",
    on: On::Node,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists the tasks of the namespace, sorted by container.",
    examples: &[Example::runs("for task in tasks() { print(`${task.id} is ${task.status}`) }")],
};

fn tasks(call: &Call<'_>) -> Result<Vec<TaskObject>> {
    Ok(call.wait(ops::task::list(call.ctx()))?.into_iter().map(TaskObject).collect())
}

const METRICS: Spec = Spec {
    name: "metrics",
    on: On::Node,
    params: &[Param::of("id", Names::Container)],
    options: &[],
    access: Access::Read,
    doc: "Measures what a running container uses, or without an id every one of the namespace.",
    examples: &[
        Example::runs("for one in metrics() { print(`${one.id} uses ${one.memory.usage} bytes`) }"),
        Example::gives(
            "run(\"busybox\", #{ id: \"measured\", detach: true, command: [\"sleep\", \"60\"], memory: \"64MiB\" }); let limit = metrics(\"measured\").memory.limit; delete(\"measured\", #{ force: true }); limit",
            "67108864",
        ),
    ],
};

fn metrics(call: &Call<'_>, id: Option<Name>) -> Result<Dynamic> {
    match id {
        Some(id) => Ok(Dynamic::from(MetricsObject(call.wait(ops::task::metrics(call.ctx(), &id.0))?))),
        None => {
            let all = call.wait(ops::task::all_metrics(call.ctx()))?;
            Ok(all.into_iter().map(|one| Dynamic::from(MetricsObject(one))).collect::<rhai::Array>().into())
        }
    }
}

const CONTAINER_METRICS: Spec = Spec {
    name: "metrics",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Measures what the running container uses.",
    examples: &[Example::runs(
        "let web = run(\"busybox\", #{ id: \"web-metrics\", detach: true, command: [\"sleep\", \"60\"] }); let used = web.metrics().memory.usage; web.delete(#{ force: true })",
    )],
};

fn container_metrics(call: &Call<'_>, container: ContainerObject) -> Result<MetricsObject> {
    let ctx = call.at(container.place());
    Ok(MetricsObject(call.session().wait(&ctx, ops::task::metrics(&ctx, container.id()))?))
}

const RATE: Spec = Spec {
    name: "rate",
    on: On::Method,
    params: &[Param::new("previous")],
    options: &[],
    access: Access::Read,
    doc: "Compares with an earlier measurement of the same container.\n\nReturns a map: `interval` in seconds, `cpu_cores` (1.5 is one and a half processors), `cpu_percent` of one processor, `throttled` as a share of the time, `read_bytes` and `write_bytes` a second; or `()` when no time has passed or the container was restarted in between.",
    examples: &[Example::gives(
        "let web = run(\"busybox\", #{ id: \"web-rate\", detach: true, command: [\"sleep\", \"60\"] }); let first = web.metrics(); sleep(\"50ms\"); let rate = web.metrics().rate(first); web.delete(#{ force: true }); rate.cpu_percent < 100.0",
        "true",
    )],
};

fn rate(_: &Call<'_>, metrics: MetricsObject, previous: MetricsObject) -> Result<Dynamic> {
    let shown = |rate: Rate| {
        map([
            ("interval", seconds(rate.interval)),
            ("cpu_cores", rate.cpu_cores.into()),
            ("cpu_percent", rate.cpu_percent.into()),
            ("throttled", rate.throttled.into()),
            ("read_bytes", rate.read_bytes.into()),
            ("write_bytes", rate.write_bytes.into()),
        ])
    };
    Ok(metrics.0.rate(&previous.0).map_or(Dynamic::UNIT, |rate| shown(rate).into()))
}

/// Registers the functions and objects.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<TaskObject>();
    catalog.add_object::<MetricsObject>();
    catalog.add(&TASKS, tasks);
    catalog.add(&METRICS, metrics);
    catalog.add(&CONTAINER_METRICS, container_metrics);
    catalog.add(&RATE, rate);
}
