//! Local files, processes, the environment and text patterns.

use globset::GlobBuilder;
use rhai::Dynamic;

use crate::grant::Access;
use crate::ops;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::convert;
use crate::script::error::Result;
use crate::script::object::{Field, Object};
use crate::script::options::Options;

const PATH: &[Param] = &[Param::of("path", Names::File)];

const READ_FILE: Spec = Spec {
    name: "read_file",
    on: On::Free,
    params: PATH,
    options: &[],
    access: Access::Read,
    doc: "Returns a text file, at most 16 MiB.\n\nNeeds `files` access below the working folder and `host` access elsewhere.",
    examples: &[Example::gives("write_file(\"a.txt\", \"one\"); read_file(\"a.txt\")", "\"one\"")],
};

fn read_file(call: &Call<'_>, path: String) -> Result<String> {
    call.wait(ops::host::read(call.ctx(), &path))
}

const READ_LINES: Spec = Spec {
    name: "read_lines",
    on: On::Free,
    params: PATH,
    options: &[],
    access: Access::Read,
    doc: "Returns the lines of a text file, without their ends, leaving out empty lines and those that begin with `#`.",
    examples: &[Example::gives(
        "write_file(\"l.txt\", \"# list\\na\\n\\nb\\n\"); read_lines(\"l.txt\")",
        "[\"a\",\"b\"]",
    )],
};

fn read_lines(call: &Call<'_>, path: String) -> Result<Vec<String>> {
    let text = read_file(call, path)?;
    let lines = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

const READ_JSON: Spec = Spec {
    name: "read_json",
    on: On::Free,
    params: PATH,
    options: &[],
    access: Access::Read,
    doc: "Reads a JSON file: objects become maps, `null` becomes `()`.",
    examples: &[Example::gives("write_json(\"a.json\", #{ a: [1] }); read_json(\"a.json\").a[0]", "1")],
};

fn read_json(call: &Call<'_>, path: String) -> Result<Dynamic> {
    let text = read_file(call, path.clone())?;
    let value = serde_json::from_str(&text).map_err(|error| call.argument(&path, format!("is not JSON: {error}")))?;
    Ok(convert::from_json(value))
}

const WRITE_FILE: Spec = Spec {
    name: "write_file",
    on: On::Free,
    params: &[Param::of("path", Names::File), Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Writes text in place of what a file holds, whole or not at all.\n\nNeeds `files` access below the working folder and `host` access elsewhere.",
    examples: &[Example::runs(
        "write_file(\"names.txt\", images().map(|i| i.name).reduce(|a, b| (a ?? \"\") + b + \"\\n\") ?? \"\")",
    )],
};

fn write_file(call: &Call<'_>, path: String, text: String) -> Result<()> {
    call.run(ops::host::Write::new(&path, text))
}

const WRITE_JSON: Spec = Spec {
    name: "write_json",
    on: On::Free,
    params: &[Param::of("path", Names::File), Param::new("value")],
    options: &[],
    access: Access::Read,
    doc: "Writes any value as JSON in place of what a file holds.",
    examples: &[Example::runs("write_json(\"images.json\", images())")],
};

fn write_json(call: &Call<'_>, path: String, value: Dynamic) -> Result<()> {
    let mut text = format!("{:#}", convert::to_json(&value, call.session())?);
    text.push('\n');
    call.run(ops::host::Write::new(&path, text))
}

/// What a local process came to.
#[derive(Clone)]
struct RanObject(ops::host::Ran);

impl Object for RanObject {
    const TYPE: &'static str = "Ran";
    const DOC: &'static str = "What a local process came to.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<RanObject>;
        const FIELDS: &[F] = &[
            F::column("code", "int", "The exit status; 128 and the signal's number when a signal ended it.", |r, _| {
                Ok(i64::from(r.0.code).into())
            }),
            F::column("stdout", "string", "What it wrote to stdout, at most 16 MiB.", |r, _| {
                Ok(r.0.stdout.clone().into())
            }),
            F::column("stderr", "string", "What it wrote to stderr, at most 16 MiB.", |r, _| {
                Ok(r.0.stderr.clone().into())
            }),
        ];
        FIELDS
    }
}

const RUN: Spec = Spec {
    name: "run",
    on: On::Module("host"),
    params: &[Param::new("program"), Param::new("args")],
    options: &[Opt::new("stdin", "string", "What it reads from stdin. Default: nothing.")],
    access: Access::Host,
    doc: "Runs a local process and returns its exit status and output. No shell is between, so nothing needs quoting.",
    examples: &[Example::gives("host::run(\"echo\", [\"a b\"]).stdout", "\"a b\\n\"")],
};

fn run(call: &Call<'_>, program: String, args: Vec<String>, options: Options) -> Result<RanObject> {
    call.run(ops::host::Run::new(&program, args, options.string("stdin")?)).map(RanObject)
}

const ENV: Spec = Spec {
    name: "env",
    on: On::Free,
    params: &[Param::new("name")],
    options: &[],
    access: Access::Host,
    doc: "Returns an environment variable of ctrsh itself, or `()`. Needs `host` access.",
    examples: &[Example::gives("env(\"CTRSH_SURELY_NOT_SET\") == ()", "true")],
};

fn env(call: &Call<'_>, name: String) -> Result<Option<String>> {
    Ok(call.session().environment(&name))
}

const GLOB: Spec = Spec {
    name: "glob",
    on: On::Free,
    params: &[Param::new("pattern"), Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Says whether text matches a glob: `*` stands for anything but `/`, `**` for anything, `?` for one character, `{a,b}` for either.",
    examples: &[
        Example::gives("glob(\"docker.io/**\", \"docker.io/library/nginx:1\")", "true"),
        Example::gives("glob(\"*.io\", \"a/b.io\")", "false"),
    ],
};

fn glob(call: &Call<'_>, pattern: String, text: String) -> Result<bool> {
    let built = GlobBuilder::new(&pattern).literal_separator(true).build();
    let glob =
        built.map_err(|error| call.argument("pattern", format!("'{pattern}' is not a glob: {}", error.kind())))?;
    Ok(glob.compile_matcher().is_match(text))
}

fn compile(call: &Call<'_>, pattern: &str) -> Result<regex_lite::Regex> {
    regex_lite::Regex::new(pattern)
        .map_err(|error| call.argument("pattern", format!("'{pattern}' is not a regular expression: {error}")))
}

const REGEX: Spec = Spec {
    name: "matches",
    on: On::Free,
    params: &[Param::new("text"), Param::new("pattern")],
    options: &[],
    access: Access::Read,
    doc: "Says whether a regular expression matches anywhere in text.",
    examples: &[Example::gives("matches(\"app:1.2.3\", `:[0-9]+\\.[0-9]+\\.[0-9]+$`)", "true")],
};

fn matches(call: &Call<'_>, text: String, pattern: String) -> Result<bool> {
    Ok(compile(call, &pattern)?.is_match(&text))
}

const CAPTURES: Spec = Spec {
    name: "captures",
    on: On::Free,
    params: &[Param::new("text"), Param::new("pattern")],
    options: &[],
    access: Access::Read,
    doc: "Returns the first match of a regular expression: the whole, then its groups, `()` for one that took no part; `()` alone when nothing matches.",
    examples: &[Example::gives("captures(\"app:1.2\", `(\\w+):(.*)`)", "[\"app:1.2\",\"app\",\"1.2\"]")],
};

fn captures(call: &Call<'_>, text: String, pattern: String) -> Result<Option<Vec<Option<String>>>> {
    let regex = compile(call, &pattern)?;
    let found = regex.captures(&text);
    Ok(found.map(|found| found.iter().map(|group| group.map(|group| group.as_str().to_owned())).collect()))
}

const REPLACE_ALL: Spec = Spec {
    name: "replace_all",
    on: On::Free,
    params: &[Param::new("text"), Param::new("pattern"), Param::new("with")],
    options: &[],
    access: Access::Read,
    doc: "Returns text with every match of a regular expression replaced; `$1` stands for the first group.",
    examples: &[Example::gives("replace_all(\"a/b\", `(\\w)/(\\w)`, \"$2-$1\")", "\"b-a\"")],
};

fn replace_all(call: &Call<'_>, text: String, pattern: String, with: String) -> Result<String> {
    Ok(compile(call, &pattern)?.replace_all(&text, with.as_str()).into_owned())
}

/// Registers the functions.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<RanObject>();
    catalog.add(&READ_FILE, read_file);
    catalog.add(&READ_LINES, read_lines);
    catalog.add(&READ_JSON, read_json);
    catalog.add(&WRITE_FILE, write_file);
    catalog.add(&WRITE_JSON, write_json);
    catalog.add(&RUN, run);
    catalog.add(&ENV, env);
    catalog.add(&GLOB, glob);
    catalog.add(&REGEX, matches);
    catalog.add(&CAPTURES, captures);
    catalog.add(&REPLACE_ALL, replace_all);
}
