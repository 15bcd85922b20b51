//! `ctr content`.

use super::parse::Parsed;
use super::source::{Map, Missing, all_of, call, naming, one_or_array, text, writing};
use super::table::{
    ALL_PLATFORMS, ANY, COMMAND, Command, Flag, Form, PLATFORM, QUIET, REGISTRY, Tier, Value, listed, many, one,
    option, script, silent, switch,
};
use super::{Result, Step};

const GROUP: &str = "content";
pub(super) const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const REFERENCE: &str = "docker.io/library/busybox:latest";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn list(p: &Parsed) -> Result<Vec<Step>> {
    listed(p, &call("content::list", &p.filters(), &Map::default()), "b", "digest")
}

fn get(p: &Parsed) -> Result<Vec<Step>> {
    script(writing(&call("content::save", &[p.text(0), text("/dev/stdout")], &Map::default())))
}

fn ingest(p: &Parsed) -> Result<Vec<Step>> {
    let (mut source, mut options) = (Map::default(), Map::default());
    source.set("path", text("/dev/stdin"));
    options.set("ref", p.text(0));
    options.extend(p.options()?);
    silent(call("content::ingest", &[source.text()], &options))
}

fn edit(p: &Parsed) -> Result<Vec<Step>> {
    script(format!("print({}.digest)", call("content::edit", &[p.text(0)], &p.options()?)))
}

fn delete(p: &Parsed) -> Result<Vec<Step>> {
    let body = |b: &str| naming(&call("content::delete", &[b], &Map::default()), b);
    script(all_of("b", p.args(), Missing::IsTold, body))
}

fn label(p: &Parsed) -> Result<Vec<Step>> {
    script(call("content::label", &[p.text(0), p.labels(1)?], &Map::default()))
}

fn active(p: &Parsed) -> Result<Vec<Step>> {
    script(call("content::active", &p.filters(), &Map::default()))
}

const DEAD: Form = Form::Other("it does nothing, in ctr neither");

const ALL_METADATA: Form = Form::Other("the index is kept as it is, and of its platforms what was asked for");

const FETCH: &[Flag] = &[
    many("label", "team=core", Tier::A, option(Value::Labels)),
    PLATFORM,
    ALL_PLATFORMS,
    switch("all-metadata", Tier::B, ALL_METADATA),
    switch("skip-metadata", Tier::B, ALL_METADATA),
    switch("metadata-only", Tier::A, option(Value::Switch)),
];

fn fetch(p: &Parsed) -> Result<Vec<Step>> {
    script(call("content::fetch", &[p.text(0)], &p.options()?))
}

fn fetch_object(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = Map::default();
    options.set("raw", "true");
    options.extend(p.options()?);
    let object = call("content::fetch_object", &[p.text(0), text("")], &options);
    script(call("write_file", &[text("/dev/stdout"), object], &Map::default()))
}

fn fetch_blob(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = Map::default();
    options.set("path", text("/dev/stdout"));
    options.extend(p.options()?);
    script(writing(&call("content::fetch_blob", &[p.text(0), one_or_array(&p.args()[1..])], &options)))
}

fn push_object(p: &Parsed) -> Result<Vec<Step>> {
    script(call("content::push_object", &[p.text(0), p.text(1), p.text(2)], &p.options()?))
}

fn prune_references(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = Map::default();
    if p.has("dry") {
        options.set("dry", "true");
    } else if !p.has("async") {
        options.set("wait", "true");
    }
    script(call("content::prune_references", &[] as &[&str], &options))
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        group: GROUP,
        names: &["list", "ls"],
        id: "C1",
        usage: "[--quiet] [FILTER…]",
        count: (0, ANY),
        flags: &[&[QUIET]],
        make: list,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["get"],
        id: "C2",
        usage: "DIGEST",
        count: (1, 1),
        sample: &[DIGEST],
        note: "content::text(DIGEST) returns what is text, content::get(DIGEST) any bytes",
        make: get,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["edit"],
        id: "C11",
        tier: Tier::B,
        usage: "[--editor COMMAND] DIGEST",
        count: (1, 1),
        sample: &[DIGEST],
        flags: &[&[
            one("editor", "vi", Tier::B, option(Value::Text)),
            one("validate", "json", Tier::C, Form::Refused("leave it out: ctr has no validation behind it either")),
        ]],
        make: edit,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["ingest"],
        id: "C3",
        usage: "[FLAGS] KEY <FILE",
        count: (1, 1),
        sample: &["upload-1"],
        flags: &[&[
            one("expected-size", "1024", Tier::A, option(Value::Count(Some(0)))),
            one("expected-digest", DIGEST, Tier::A, option(Value::Text)),
        ]],
        make: ingest,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["delete", "del", "remove", "rm"],
        id: "C4",
        tier: Tier::B,
        usage: "DIGEST…",
        count: (1, ANY),
        sample: &[DIGEST],
        note: "what an image refers to stays; #{ force: true } deletes that too",
        make: delete,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["label"],
        id: "C5",
        tier: Tier::B,
        usage: "DIGEST KEY=VALUE…",
        count: (1, ANY),
        sample: &[DIGEST, "team=core"],
        make: label,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["active"],
        id: "C6",
        tier: Tier::B,
        usage: "[REGULAR-EXPRESSION]",
        count: (0, 1),
        flags: &[&[one("timeout", "1m", Tier::C, DEAD).or("t"), one("root", "/tmp/content", Tier::C, DEAD)]],
        make: active,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["fetch"],
        id: "C7",
        usage: "[FLAGS] IMAGE",
        count: (1, 2),
        sample: &[REFERENCE],
        flags: &[REGISTRY, FETCH],
        make: fetch,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["fetch-object"],
        id: "C8",
        tier: Tier::B,
        usage: "[FLAGS] IMAGE [OBJECT…]",
        count: (1, ANY),
        sample: &[REFERENCE],
        flags: &[REGISTRY],
        make: fetch_object,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["fetch-blob"],
        id: "C9",
        tier: Tier::B,
        usage: "[FLAGS] IMAGE DIGEST…",
        count: (2, ANY),
        sample: &[REFERENCE, DIGEST],
        flags: &[
            REGISTRY,
            &[one("media-type", LAYER, Tier::B, Form::Other("a blob is asked for by its digest, whatever it is"))],
        ],
        note: "without a path the bytes are returned",
        make: fetch_blob,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["push-object"],
        id: "C10",
        tier: Tier::B,
        usage: "[FLAGS] IMAGE DIGEST MEDIA-TYPE",
        count: (3, 3),
        sample: &["registry.example/box:1", DIGEST, LAYER],
        flags: &[REGISTRY],
        make: push_object,
        ..COMMAND
    },
    Command {
        group: "content prune",
        names: &["references"],
        id: "C12",
        tier: Tier::B,
        flags: &[&[switch("async", Tier::B, Form::Own), switch("dry", Tier::B, Form::Own)]],
        make: prune_references,
        ..COMMAND
    },
];
