//! What makes a script a program: its arguments, its flags, and whether it is the program or a module.

use rhai::{Array, Dynamic, ImmutableString, Map, NativeCallContext};

use crate::grant::Access;
use crate::ops::error::nearest;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Param, Spec};
use crate::script::error::Result;
use crate::script::value::shown_type;

/// The key of what is no flag.
const REST: &str = "rest";

const ARGS: Spec = Spec {
    name: "args",
    on: On::Free,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Returns the arguments that follow the script on the command line, as strings.",
    examples: &[Example::gives("args().len() >= 0", "true")],
};

fn args(call: &Call<'_>) -> Result<Vec<String>> {
    Ok(call.session().args().to_vec())
}

const IS_MAIN: Spec = Spec {
    name: "is_main",
    on: On::Free,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Says whether the file that calls it is the program, and not a module that was imported.\n\nA file can so be both: its functions are for those that import it, and what stands in `if is_main() { … }` runs when it is the script that was called.",
    examples: &[Example::gives("is_main()", "true")],
};

fn is_main(call: &Call<'_>) -> Result<bool> {
    Ok(call.session().is_main(call.native().and_then(NativeCallContext::call_source)))
}

const FLAGS: Spec = Spec {
    name: "flags",
    on: On::Free,
    params: &[Param::new("words"), Param::new("defaults")],
    options: &[],
    access: Access::Read,
    doc: "Takes a command line apart: returns the defaults with what the flags say, and the other words as `rest`.\n\nThe flag of a key is its name with `-` for `_`, and the default says what follows: `false` or `true` nothing (`--wait`, `--no-wait`), a number a number, a string a string, an array one item each time the flag is given. `--key=value` works too, and `--` ends the flags. An unknown flag is an error that names the nearest one.",
    examples: &[
        Example::gives(
            "flags([\"--keep\", \"3\", \"--only=a\", \"--only\", \"b\", \"--wait\", \"x\"], #{ keep: 0, only: [], wait: false })",
            r#"{"keep":3,"only":["a","b"],"wait":true,"rest":["x"]}"#,
        ),
        Example::gives("flags(args(), #{ output: \"table\" }).output", "\"table\""),
    ],
};

fn flags(call: &Call<'_>, words: Vec<String>, defaults: Map) -> Result<Map> {
    let mut found = defaults.clone();
    let mut rest = Array::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            rest.extend(words.by_ref().map(Dynamic::from));
            break;
        }
        let Some(flag) = word.strip_prefix("--") else {
            rest.push(word.into());
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let key = name.replace('-', "_");
        let off = key.strip_prefix("no_").filter(|key| defaults.get(*key).is_some_and(Dynamic::is_bool));
        if let (Some(key), None) = (off, &value) {
            found.insert(key.into(), false.into());
            continue;
        }
        let Some(default) = defaults.get(key.as_str()) else { return Err(unknown(call, name, &defaults)) };
        let value = match value {
            None if default.is_bool() => "true".to_owned(),
            Some(value) => value,
            None => words.next().ok_or_else(|| call.argument(&format!("--{name}"), "has to be followed by a value"))?,
        };
        let value = parse(call, name, default, value)?;
        let given = found.entry(key.as_str().into()).or_insert(Dynamic::UNIT);
        if let Some(mut list) = given.write_lock::<Array>() {
            list.push(value);
            continue;
        }
        *given = value;
    }
    found.insert(REST.into(), rest.into());
    Ok(found)
}

fn parse(call: &Call<'_>, name: &str, default: &Dynamic, text: String) -> Result<Dynamic> {
    let wrong = |wanted: &str| call.argument(&format!("--{name}"), format!("must be {wanted}, not '{text}'"));
    if default.is_bool() {
        return text.parse::<bool>().map(Dynamic::from).map_err(|_| wrong("true or false"));
    }
    if default.is_int() {
        return text.parse::<rhai::INT>().map(Dynamic::from).map_err(|_| wrong("a whole number"));
    }
    if default.is_float() {
        return text.parse::<rhai::FLOAT>().map(Dynamic::from).map_err(|_| wrong("a number"));
    }
    if default.is_array() || default.is_unit() || default.is::<ImmutableString>() {
        return Ok(text.into());
    }
    let problem = format!("must have a bool, a number, a string, an array or () for --{name}");
    Err(call.argument("defaults", format!("{problem}, not {}", shown_type(call, default))))
}

fn unknown(call: &Call<'_>, name: &str, defaults: &Map) -> crate::script::error::Error {
    let known: Vec<String> = defaults.keys().map(|key| key.replace('_', "-")).collect();
    let cure = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean --{near}?"),
        None if known.is_empty() => String::new(),
        None => format!("; the flags are --{}", known.join(", --")),
    };
    call.argument(&format!("--{name}"), format!("is not a flag{cure}"))
}

/// Registers the functions.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add(&ARGS, args);
    catalog.add(&IS_MAIN, is_main);
    catalog.add(&FLAGS, flags);
}
