//! `oci::spec`: the runtime spec that containers start from.

use rhai::Dynamic;

use crate::grant::Access;
use crate::oci::spec::default_spec;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Spec};
use crate::script::convert;
use crate::script::error::Result;

const SPEC: Spec = Spec {
    name: "spec",
    on: On::Module("oci"),
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Returns the runtime spec that every container starts from, before its image and options change it, as `ctr oci spec` prints it.\n\nWritten to a file and changed there, it is a `config` for `create` and `run`.",
    examples: &[
        Example::gives("oci::spec().root.path", "\"rootfs\""),
        Example::runs("let spec = oci::spec(); spec.process.args = [\"sh\"]; write_json(\"spec.json\", spec)"),
    ],
};

fn spec(call: &Call<'_>) -> Result<Dynamic> {
    let spec = default_spec(call.ctx().namespace(), "");
    let json =
        serde_json::to_value(spec).map_err(|error| crate::ops::Error::argument("the spec", error.to_string()))?;
    Ok(convert::from_json(json))
}

/// Registers the function.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add(&SPEC, spec);
}
