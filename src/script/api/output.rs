//! How values become text: tables, JSON, YAML, CSV, and remarks to the user.

use rhai::{Dynamic, Map};
use serde::Serialize as _;

use crate::grant::Access;
use crate::ops::Level;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::convert::{self, Output};
use crate::script::error::{Error, Result};
use crate::script::options::Options;

const TABLE: Spec = Spec {
    name: "table",
    on: On::Free,
    params: &[Param::new("list"), Param::new("columns")],
    options: &[],
    access: Access::Read,
    doc: "Returns a list of objects or maps as the text of a table; `columns` names the properties to show, in order; one that no item has is an error.",
    examples: &[
        Example::gives("table([#{ a: 1, b: \"x\" }], [\"b\", \"a\"]).contains(\"x\")", "true"),
        Example::runs("print(table(images(), [\"name\", \"size\"]))"),
    ],
};

/// Refuses columns that no row has.
fn known(call: &Call<'_>, list: &Dynamic, columns: Option<&[String]>) -> Result<()> {
    let Some(columns) = columns else { return Ok(()) };
    let known = convert::columns(list, call.session());
    let unknown = columns.iter().find(|column| !known.is_empty() && !known.contains(column));
    unknown.map_or(Ok(()), |column| {
        Err(Error::UnknownColumn { function: call.spec().name, column: column.clone(), known })
    })
}

fn table(call: &Call<'_>, list: Dynamic, columns: Option<Vec<String>>) -> Result<String> {
    known(call, &list, columns.as_deref())?;
    let output = convert::output(&list, columns.as_deref(), call.session())?;
    Ok(call.session().sink().render(&output))
}

const TO_JSON: Spec = Spec {
    name: "to_json",
    on: On::Free,
    params: &[Param::new("value")],
    options: &[Opt::new(
        "indent",
        "int",
        "By how many blanks each level is set in, a value a line. Default: one line.",
    )],
    access: Access::Read,
    doc: "Returns any value as JSON: objects become their properties, times RFC 3339.",
    examples: &[
        Example::gives("to_json(#{ a: [1, true, ()] })", r#""{\"a\":[1,true,null]}""#),
        Example::gives("to_json(#{ a: 1 }, #{ indent: 4 })", r#""{\n    \"a\": 1\n}""#),
    ],
};

fn to_json(call: &Call<'_>, value: Dynamic, options: Options) -> Result<String> {
    let value = convert::to_json(&value, call.session())?;
    let Some(indent) = options.count("indent")? else { return Ok(value.to_string()) };
    let blanks = " ".repeat(indent.min(16));
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(blanks.as_bytes());
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter));
    written.map_err(|error| call.argument("value", format!("cannot be JSON: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

const FROM_JSON: Spec = Spec {
    name: "from_json",
    on: On::Free,
    params: &[Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Reads JSON: objects become maps, `null` becomes `()`.",
    examples: &[Example::gives("from_json(`{\"a\":[1,2]}`).a[1]", "2")],
};

fn from_json(call: &Call<'_>, text: String) -> Result<Dynamic> {
    let value = serde_json::from_str(&text).map_err(|error| call.argument("text", format!("is not JSON: {error}")))?;
    Ok(convert::from_json(value))
}

const TO_YAML: Spec = Spec {
    name: "to_yaml",
    on: On::Free,
    params: &[Param::new("value")],
    options: &[],
    access: Access::Read,
    doc: "Returns any value as YAML.",
    examples: &[Example::gives("to_yaml(#{ a: 1 })", "\"a: 1\\n\"")],
};

fn to_yaml(call: &Call<'_>, value: Dynamic) -> Result<String> {
    let value = convert::to_json(&value, call.session())?;
    serde_saphyr::to_string(&value).map_err(|error| call.argument("value", format!("cannot be YAML: {error}")))
}

const TO_CSV: Spec = Spec {
    name: "to_csv",
    on: On::Free,
    params: &[Param::new("list"), Param::new("columns")],
    options: &[],
    access: Access::Read,
    doc: "Returns a list of objects or maps as CSV (RFC 4180) with a header line; `columns` names the properties, in order. One that only some items have is empty in the others, and one that none has is an error.",
    examples: &[Example::gives("to_csv([#{ a: 1, b: \"x,y\" }])", "\"a,b\\n1,\\\"x,y\\\"\\n\"")],
};

fn to_csv(call: &Call<'_>, list: Dynamic, columns: Option<Vec<String>>) -> Result<String> {
    known(call, &list, columns.as_deref())?;
    match convert::output(&list, columns.as_deref(), call.session())? {
        Output::Table { columns, rows, .. } => {
            let header = columns.into_iter().map(|column| column.name).collect();
            let rows = rows.into_iter().map(|row| row.iter().map(convert::Cell::plain).collect());
            convert::csv(std::iter::once(header).chain(rows))
                .map_err(|error| call.argument("list", format!("cannot be CSV: {error}")))
        }
        Output::List(items) if items.is_empty() => Ok(String::new()),
        _ => Err(call.argument("list", "must be a list of objects or maps")),
    }
}

const TO_MAP: Spec = Spec {
    name: "to_map",
    on: On::Free,
    params: &[Param::new("value")],
    options: &[],
    access: Access::Read,
    doc: "Returns an object's properties as a map.",
    examples: &[Example::gives("to_map(node()).namespace == node().namespace", "true")],
};

fn to_map(call: &Call<'_>, value: Dynamic) -> Result<Map> {
    convert::to_map(&value, call.session())?.ok_or_else(|| call.argument("value", "has no properties"))
}

const INFO: Spec = Spec {
    name: "info",
    on: On::Module("log"),
    params: &[Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Shows a remark on stderr.",
    examples: &[Example::runs("log::info(\"all is well\")")],
};

const WARN: Spec = Spec {
    name: "warn",
    on: On::Module("log"),
    params: &[Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Shows a warning on stderr.",
    examples: &[Example::runs("log::warn(\"the disk is nearly full\")")],
};

const ERROR: Spec = Spec {
    name: "error",
    on: On::Module("log"),
    params: &[Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Shows an error on stderr; the script goes on.",
    examples: &[Example::runs("log::error(\"one of the images is missing\")")],
};

fn note(call: &Call<'_>, level: Level, value: &Dynamic) -> Result<()> {
    let text = match value.read_lock::<rhai::ImmutableString>() {
        Some(text) => text.to_string(),
        None => convert::to_json(value, call.session())?.to_string(),
    };
    call.ctx().note(level, &text);
    Ok(())
}

fn info(call: &Call<'_>, text: Dynamic) -> Result<()> {
    note(call, Level::Info, &text)
}

fn warn(call: &Call<'_>, text: Dynamic) -> Result<()> {
    note(call, Level::Warn, &text)
}

fn error(call: &Call<'_>, text: Dynamic) -> Result<()> {
    note(call, Level::Error, &text)
}

const HELP: Spec = Spec {
    name: "help",
    on: On::Free,
    params: &[Param::new("topic")],
    options: &[],
    access: Access::Read,
    doc: "Returns the manual of a function, such as `help(\"pull\")` or `help(\"Image.tag\")`, of a module, `help(\"content\")`, or of a ready script, `help(\"std/prune\")`; `help(\"std\")` lists these, and without a topic all functions come with a line each.",
    examples: &[
        Example::gives("help(\"version\").contains(\"daemon\")", "true"),
        Example::gives("help(\"std\").contains(\"std/prune\")", "true"),
    ],
};

fn help(call: &Call<'_>, topic: Option<String>) -> Result<String> {
    let Some(catalog) = call.session().catalog() else { return Ok(String::new()) };
    crate::script::reference::topic(catalog, topic.as_deref()).ok_or_else(|| {
        let topic = topic.unwrap_or_default();
        let near = catalog.suggest(&topic);
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        call.argument("topic", format!("'{topic}' is not a function, object or module{near}"))
    })
}

/// Registers the functions.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add(&TABLE, table);
    catalog.add(&TO_JSON, to_json);
    catalog.add(&FROM_JSON, from_json);
    catalog.add(&TO_YAML, to_yaml);
    catalog.add(&TO_CSV, to_csv);
    catalog.add(&TO_MAP, to_map);
    catalog.add(&INFO, info);
    catalog.add(&WARN, warn);
    catalog.add(&ERROR, error);
    catalog.add(&HELP, help);
}
