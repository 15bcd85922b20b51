//! Sandboxes: what groups of containers share.

use rhai::{Dynamic, Map};

use crate::grant::Access;
use crate::ops;
use crate::ops::sandbox::{Delete, Found, Run, RunOptions};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::convert;
use crate::script::error::{Error, Result};
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::time::Time;
use crate::script::value::{Name, NameList};

/// A sandbox as it was when it was read.
#[derive(Clone)]
struct SandboxObject(Found);

impl Object for SandboxObject {
    const TYPE: &'static str = "Sandbox";
    const DOC: &'static str =
        "What a group of containers shares, such as a pod's namespaces, as it was when it was read.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<SandboxObject>;
        const FIELDS: &[F] = &[
            F::column("id", "string", "The id.", |s, _| Ok(s.0.sandbox.id.clone().into())),
            F::column(
                "state",
                "string",
                "What it does in its controller's words, such as `SANDBOX_READY`; `()` when nothing of it runs or it does not say, as runc's.",
                |s, _| {
                    let state = s.0.status.as_ref().map(|status| &status.state).filter(|state| !state.is_empty());
                    Ok(state.map_or(Dynamic::UNIT, |state| state.clone().into()))
                },
            ),
            F::column("pid", "int", "Its process, or `()`.", |s, _| {
                let pid = s.0.status.as_ref().map(|status| status.pid).filter(|pid| *pid > 0);
                Ok(pid.map_or(Dynamic::UNIT, |pid| i64::from(pid).into()))
            }),
            F::column("runtime", "string", "What runs it, such as `io.containerd.runc.v2`.", |s, _| {
                Ok(s.0.sandbox.runtime.clone().into())
            }),
            F::column("created", "Time", "When the record was made.", |s, _| {
                Ok(Dynamic::from(Time(s.0.sandbox.created_at)))
            })
            .unit(Unit::Time),
            F::field("updated", "Time", "When the record was last changed.", |s, _| {
                Ok(Dynamic::from(Time(s.0.sandbox.updated_at)))
            })
            .unit(Unit::Time),
            F::field(
                "sandboxer",
                "string",
                "Its controller: `shim`, or CRI's `podsandbox`; empty before containerd 2.0.",
                |s, _| Ok(s.0.sandbox.sandboxer.clone().into()),
            ),
            F::field("labels", "map", "The labels.", |s, _| {
                Ok(s.0.sandbox.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
            F::on_demand(
                "spec",
                "map",
                "What it was made from, such as a runtime spec; `()` when it is no JSON.",
                |s, _| Ok(s.0.sandbox.spec.clone().map_or(Dynamic::UNIT, convert::from_json)),
            ),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.sandbox.id.clone())
    }
}

const LIST: Spec = Spec {
    name: "list",
    on: On::Module("sandboxes"),
    params: &[Param::new("filter")],
    options: &[],
    access: Access::Read,
    doc: "Lists the sandboxes of the namespace with what they do, sorted by id.\n\nThe filter is containerd's own, such as `id==web`. The daemon has to serve sandboxes, as containerd does since 1.7; one that does not is an error that names the plugin.",
    examples: &[Example::runs(
        "try { print(table(sandboxes::list())) } catch (e) { if e.kind != \"usage\" { throw e } }",
    )],
};

fn list(call: &Call<'_>, filter: Option<Vec<String>>) -> Result<Vec<SandboxObject>> {
    let found = call.wait(ops::sandbox::list(call.ctx(), &filter.unwrap_or_default()))?;
    Ok(found.into_iter().map(SandboxObject).collect())
}

const INFO: Spec = Spec {
    name: "info",
    on: On::Module("sandboxes"),
    params: &[Param::new("id")],
    options: &[],
    access: Access::Read,
    doc: "Looks one sandbox up.",
    examples: &[Example::runs(
        "try { for s in sandboxes::list() { print(sandboxes::info(s).spec) } } catch (e) { if e.kind != \"usage\" { throw e } }",
    )],
};

fn info(call: &Call<'_>, id: Name) -> Result<SandboxObject> {
    call.wait(ops::sandbox::get(call.ctx(), &id.0)).map(SandboxObject)
}

const RUN: Spec = Spec {
    name: "run",
    on: On::Module("sandboxes"),
    params: &[Param::new("id")],
    options: &[
        Opt::new(
            "spec",
            "map",
            "Its runtime spec, as `read_json` reads it from a file. Default: that of a container without privileges.",
        ),
        Opt::new("runtime", "string", "What runs it. Default `io.containerd.runc.v2`."),
        Opt::new("sandboxer", "string", "The controller of the daemon that it belongs to. Default `shim`."),
        Opt::new("labels", "map", "Its labels."),
    ],
    access: Access::Run,
    doc: "Makes a sandbox, starts it, and returns it, as `ctr sandboxes run` does.\n\nWhat was made is taken back when it cannot be started. The shim of the runtime has to serve sandboxes: runc's does in containerd 1.7, where an id cannot be used a second time, and no longer in 2.1. A spec that reaches the host needs `host` access, and so does a runtime that is not one of containerd's own.",
    examples: &[Example::runs(
        "try { print(sandboxes::run(\"box-1\", #{ labels: #{ team: \"core\" } })); sandboxes::delete(\"box-1\") } catch (e) { if e.kind != \"usage\" { throw e } }",
    )],
};

fn run(call: &Call<'_>, id: String, options: Options) -> Result<SandboxObject> {
    let spec = options
        .any("spec")
        .map(|spec| match spec.is_map() {
            true => convert::to_json(&spec, call.session()),
            false => Err(options.bad("spec", "must be a map, such as read_json(\"spec.json\") returns")),
        })
        .transpose()?;
    let labels = options.pairs("labels")?.unwrap_or_default();
    let labels = labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
    let options =
        RunOptions { spec, runtime: options.string("runtime")?, sandboxer: options.string("sandboxer")?, labels };
    call.run(Run::new(&id, options)).map(SandboxObject)
}

const DELETE: Spec = Spec {
    name: "delete",
    on: On::Module("sandboxes"),
    params: &[Param::new("ids")],
    options: &[Opt::new(
        "force",
        "bool",
        "Whether it is removed also when it cannot be stopped or still has containers. Default false.",
    )],
    access: Access::Delete,
    doc: "Stops sandboxes and removes them.",
    examples: &[Example::runs(
        "try { let s = sandboxes::run(\"box-2\"); sandboxes::delete(s, #{ force: true }) } catch (e) { if e.kind != \"usage\" { throw e } }",
    )],
};

fn delete(call: &Call<'_>, ids: NameList, options: Options) -> Result<()> {
    let force = options.flag("force")?;
    ops::ask(call.ctx(), "delete sandbox", "sandbox", &ids.0).map_err(Error::from)?;
    for id in ids.0 {
        call.run(Delete::new(&id, force))?;
    }
    Ok(())
}

/// Registers the functions and the object of sandboxes.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<SandboxObject>();
    catalog.add(&LIST, list);
    catalog.add(&INFO, info);
    catalog.add(&RUN, run);
    catalog.add(&DELETE, delete);
}
