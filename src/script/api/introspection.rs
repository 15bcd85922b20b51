//! What the daemon tells of itself beside its version and its plugins.

use rhai::{Dynamic, Map};

use crate::containerd::containers::{DEFAULT_RUNTIME, RuncOptions, Runtime};
use crate::containerd::introspection::{Deprecation, RuntimeInfo};
use crate::grant::Access;
use crate::ops;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::convert;
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::time::Time;

/// A feature in use that will go.
#[derive(Clone)]
pub(super) struct DeprecationObject(pub(super) Deprecation);

impl Object for DeprecationObject {
    const TYPE: &'static str = "Deprecation";
    const DOC: &'static str = "A feature in use that a later containerd will not have.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<DeprecationObject>;
        const FIELDS: &[F] = &[
            F::column("id", "string", "Its identifier.", |d, _| Ok(d.0.id.clone().into())),
            F::column("last_occurrence", "Time", "When it was last used.", |d, _| {
                Ok(Dynamic::from(Time(d.0.last_occurrence)))
            })
            .unit(Unit::Time),
            F::column("message", "string", "What to do about it.", |d, _| Ok(d.0.message.clone().into())),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        Some(format!("{}: {}", self.0.id, self.0.message))
    }
}

const DEPRECATIONS: Spec = Spec {
    name: "deprecations",
    on: On::Node,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists the features in use that a later containerd will not have, as `ctr deprecations list` does.\n\nA daemon that finds none, or is too old to look for them (containerd before 1.6.27 and 1.7.12), lists none.",
    examples: &[Example::gives("deprecations().filter(|d| d.message == \"\")", "[]")],
};

fn deprecations(call: &Call<'_>) -> Result<Vec<DeprecationObject>> {
    Ok(call.wait(ops::node::deprecations(call.ctx()))?.into_iter().map(DeprecationObject).collect())
}

/// What a runtime's shim tells of itself.
#[derive(Clone)]
struct RuntimeObject(RuntimeInfo);

impl Object for RuntimeObject {
    const TYPE: &'static str = "RuntimeInfo";
    const DOC: &'static str = "What the shim of a runtime tells of itself.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<RuntimeObject>;
        const FIELDS: &[F] = &[
            F::column("name", "string", "The runtime, such as `io.containerd.runc.v2`.", |r, _| {
                Ok(r.0.name.clone().into())
            }),
            F::column("version", "string", "The version of its shim.", |r, _| Ok(r.0.version.clone().into())),
            F::column("revision", "string", "The commit that its shim was built from.", |r, _| {
                Ok(r.0.revision.clone().into())
            }),
            F::field("options", "map", "The options that it was asked with, or `()`.", |r, _| {
                Ok(r.0.options.as_ref().map_or(Dynamic::UNIT, |options| asked(options).into()))
            }),
            F::field("annotations", "map", "The notes of its shim.", |r, _| {
                Ok(r.0.annotations.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
            F::field(
                "features",
                "map",
                "What the program behind it can do, as the runtime-spec's `features.md` has it; `()` when it does not say.",
                |r, _| Ok(convert::from_json(r.0.features.clone())),
            ),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.name.clone())
    }
}

fn asked(options: &RuncOptions) -> Map {
    Map::from_iter([
        ("binary_name".into(), options.binary_name.clone().into()),
        ("root".into(), options.root.clone().into()),
        ("systemd_cgroup".into(), options.systemd_cgroup.into()),
    ])
}

const INSPECT_RUNTIME: Spec = Spec {
    name: "inspect_runtime",
    on: On::Node,
    params: &[Param::new("runtime")],
    options: &[
        Opt::new("runc_binary", "string", "The runc that the shim asks. Default: the one in the daemon's path."),
        Opt::new("runc_root", "string", "Where that runc keeps its state."),
        Opt::new("runc_systemd_cgroup", "bool", "Whether that runc leaves cgroups to systemd. Default false."),
        Opt::new("runtime_config_path", "string", "The options file of a runtime that is no runc."),
    ],
    access: Access::Read,
    doc: "Asks the shim of a runtime what it is and can do, as `ctr plugins inspect-runtime` does; without a name that of runc.\n\nA path instead of a name, a `runc_binary`, a `runc_root` and a `runtime_config_path` need `host` access, as the daemon runs what is there. The daemon has to serve it, as containerd does since 2.0.",
    examples: &[Example::runs(
        "try { print(inspect_runtime().features.ociVersionMax) } catch (e) { if !e.message.contains(\"PluginInfo\") { throw e } }",
    )],
};

fn inspect_runtime(call: &Call<'_>, runtime: Option<String>, options: Options) -> Result<RuntimeObject> {
    let runc = RuncOptions {
        binary_name: options.string("runc_binary")?.unwrap_or_default(),
        root: options.string("runc_root")?.unwrap_or_default(),
        systemd_cgroup: options.flag("runc_systemd_cgroup")?,
        ..RuncOptions::default()
    };
    let runtime = Runtime {
        name: runtime.unwrap_or_else(|| DEFAULT_RUNTIME.to_owned()),
        options: (runc != RuncOptions::default()).then_some(runc),
        config_path: options.string("runtime_config_path")?,
    };
    call.wait(ops::node::runtime(call.ctx(), &runtime)).map(RuntimeObject)
}

/// Registers the functions and objects.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<DeprecationObject>();
    catalog.add_object::<RuntimeObject>();
    catalog.add(&DEPRECATIONS, deprecations);
    catalog.add(&INSPECT_RUNTIME, inspect_runtime);
}
