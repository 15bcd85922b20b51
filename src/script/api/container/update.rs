//! Changing the limits of containers.

use super::ContainerObject;
use crate::grant::Access;
use crate::oci::spec::Limits;
use crate::ops::Context;
use crate::ops::container::Update;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::Name;

const UPDATE_OPTIONS: &[Opt] = &[
    Opt::new("memory_limit", "size", "The most memory, such as `256MiB`; -1 for no limit."),
    Opt::new("memory", "size", "The same as `memory_limit`."),
    Opt::new("memory_reservation", "size", "What it keeps when the machine is short of memory; -1 for nothing."),
    Opt::new("memory_swap", "size", "The most memory and swap together; -1 for no limit."),
    Opt::new("cpus", "float", "How many processors it may use."),
    Opt::new("cpu_quota", "int", "Microseconds of processor time in each period; -1 for no limit."),
    Opt::new("cpu_period", "int", "The period of `cpu_quota` in microseconds."),
    Opt::new("cpu_shares", "int", "The weight against other containers; the kernel's default is 1024."),
    Opt::new("cpuset_cpus", "string", "The processors that it may use, such as `0-2,4`."),
    Opt::new("cpuset_mems", "string", "The memory nodes that it may use."),
    Opt::new("pids_limit", "int", "How many processes and threads it may have; -1 for no limit."),
    Opt::new(
        "unified",
        "map",
        "Files of cgroup v2 with what is written to them, such as `#{ \"memory.high\": \"64000000\" }`.",
    ),
];

const UPDATE: Spec = Spec {
    name: "update",
    on: On::Node,
    params: &[Param::of("id", Names::Container)],
    options: UPDATE_OPTIONS,
    access: Access::Run,
    doc: "Changes limits of a container, and returns it.\n\nThey hold at once for what runs of it, as `metrics` shows, and are kept for the next start. What is not named stays. The limits are written as the runtime spec has them, for cgroup v1 and v2 alike. When the kernel refuses one, nothing is changed. Raising `memory_limit` above a `memory_swap` that was set needs both.",
    examples: &[Example::gives(
        "run(\"busybox\", #{ id: \"limited\", detach: true, command: [\"sleep\", \"60\"] }); let limit = update(\"limited\", #{ memory_limit: \"64MiB\" }).spec.linux.resources.memory.limit; delete(\"limited\", #{ force: true }); limit",
        "67108864",
    )],
};

fn do_update(call: &Call<'_>, ctx: &Context, id: &str, options: &Options) -> Result<ContainerObject> {
    let updated = call.run_in(ctx, Update::new(id, limits(options)?))?;
    Ok(ContainerObject::new(updated, ctx.place()))
}

fn update(call: &Call<'_>, id: Name, options: Options) -> Result<ContainerObject> {
    do_update(call, call.ctx(), &id.0, &options)
}

const CONTAINER_UPDATE: Spec = Spec {
    name: "update",
    on: On::Method,
    params: &[],
    options: UPDATE_OPTIONS,
    access: Access::Run,
    doc: "Changes limits of the container at once and for the next start, and returns it. What is not named stays.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"limited-2\", detach: true, command: [\"sleep\", \"60\"] }); let quota = c.update(#{ cpus: 0.5, pids_limit: 20 }).spec.linux.resources.cpu.quota; c.delete(#{ force: true }); quota",
        "50000",
    )],
};

fn container_update(call: &Call<'_>, container: ContainerObject, options: Options) -> Result<ContainerObject> {
    do_update(call, &call.at(container.place()), container.id(), &options)
}

/// Reads a size, or -1 for none.
fn bytes(options: &Options, key: &'static str) -> Result<Option<i64>> {
    if options.any(key).is_some_and(|value| value.as_int() == Ok(-1)) {
        return Ok(Some(-1));
    }
    let too_large = |_| options.bad(key, "is too large");
    options.size(key)?.map(|bytes| i64::try_from(bytes).map_err(too_large)).transpose()
}

fn limits(options: &Options) -> Result<Limits> {
    let memory = match (bytes(options, "memory_limit")?, bytes(options, "memory")?) {
        (Some(_), Some(_)) => return Err(options.bad("memory", "says the same as 'memory_limit'; give one of them")),
        (limit, memory) => limit.or(memory),
    };
    let positive = |key: &'static str| -> Result<Option<u64>> { Ok(options.count(key)?.map(|number| number as u64)) };
    let unified = options.pairs("unified")?.unwrap_or_default();
    Ok(Limits {
        memory,
        memory_reservation: bytes(options, "memory_reservation")?,
        memory_swap: bytes(options, "memory_swap")?,
        cpus: options.float("cpus")?,
        cpu_quota: options.int("cpu_quota")?,
        cpu_period: positive("cpu_period")?,
        cpu_shares: positive("cpu_shares")?,
        cpuset_cpus: options.string("cpuset_cpus")?,
        cpuset_mems: options.string("cpuset_mems")?,
        pids: options.int("pids_limit")?,
        unified: unified.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect(),
    })
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&UPDATE, update);
    catalog.add(&CONTAINER_UPDATE, container_update);
}
