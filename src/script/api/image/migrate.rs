//! `migrate`: many images, with a plan, a journal and a report.

use std::time::Duration;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map};
use tokio::sync::mpsc;

use super::copied::number;
use super::{ImageObject, SNAPSHOTTER};
use crate::grant::Access;
use crate::oci::Digest;
use crate::ops;
use crate::ops::image::At;
use crate::ops::migrate::{self, Candidate, Filters, Identity, Item, Migrate, Pattern, Report, Shard, Source, State};
use crate::script::api::docker::{DockerImageObject, DockerObject};
use crate::script::api::node::NodeObject;
use crate::script::api::registry::object::{RegistryObject, RepositoryObject};
use crate::script::api::registry::options::REACH;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Spec, joined};
use crate::script::convert;
use crate::script::error::{Error, Result};
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;

/// The most images that move at the same time.
const MAX_JOBS: usize = 64;
/// The variable by which an Indexed Job of Kubernetes tells a pod which share is its own.
const JOB_INDEX: &str = "JOB_COMPLETION_INDEX";
/// How many sources a journal names; of a longer list it has the digest.
const NAMED_SOURCES: usize = 8;

/// What a migration came to.
#[derive(Clone)]
struct MigrationObject(Report);

impl Object for MigrationObject {
    const TYPE: &'static str = "Migration";
    const DOC: &'static str = "What a migration came to, or would come to in a dry run.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<MigrationObject>;
        const FIELDS: &[F] = &[
            F::column("total", "int", "How many images there were.", |m, _| Ok(count(m.0.outcomes.len()))),
            F::column("done", "int", "How many were moved.", |m, _| Ok(count(m.0.count(State::Done)))),
            F::column("skipped", "int", "How many the target had already.", |m, _| {
                Ok(count(m.0.count(State::Skipped)))
            }),
            F::column(
                "failed",
                "array",
                "The images that failed: maps with `source`, `target`, `kind`, `message` and `hint`.",
                |m, _| Ok(items(&m.0, Some(State::Failed))),
            ),
            F::column("bytes", "int", "Bytes of blobs that were sent, or would be at most.", |m, _| {
                Ok(number(m.0.bytes()))
            })
            .unit(Unit::Bytes),
            F::column("seconds", "float", "How long it took.", |m, _| {
                Ok(Duration::from_millis(m.0.millis).as_secs_f64().into())
            })
            .unit(Unit::Seconds),
            F::field("planned", "int", "How many a dry run would move.", |m, _| Ok(count(m.0.count(State::Planned)))),
            F::on_demand(
                "items",
                "array",
                "All images in the order of the plan: maps with `source`, `target`, `state`, `digest`, `bytes`, `tries` and `seconds`.",
                |m, _| Ok(items(&m.0, None)),
            ),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        let report = &self.0;
        let (done, skipped, failed) =
            (report.count(State::Done), report.count(State::Skipped), report.count(State::Failed));
        Some(match report.count(State::Planned) {
            0 => format!("{done} moved, {skipped} there already, {failed} failed"),
            planned => format!("{planned} to move, {skipped} there already, {failed} that cannot be moved"),
        })
    }
}

fn count(number: usize) -> Dynamic {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn items(report: &Report, state: Option<State>) -> Dynamic {
    let wanted = report.outcomes.iter().filter(|outcome| state.is_none_or(|state| outcome.state == state));
    wanted.map(|outcome| convert::from_json(outcome.json())).collect::<Array>().into()
}

/// The options of `migrate` beside those that say how a registry is reached.
const OWN: &[Opt] = &[
    Opt::new(
        "from",
        "string, object, or an array of them",
        "The images: endpoints as `copy` takes them, `Image` objects, a `Node` for all of its namespace, a `Docker`, a `Registry` or a `Repository` for all of its images, maps with `source` and `target`, or whole places: `containerd:`, the current namespace, `containerd:[NAMESPACE@SOCKET]`, another one; `docker:`, the Docker Engine; `registry:HOST/` or `registry:HOST/PREFIX/`, all tags of its repositories; `REPOSITORY:*`, all its tags; `oci:DIR`; `archive:FILE`; `file:PATH`, a line `SOURCE [TARGET]` each.",
    ),
    Opt::new(
        "to",
        "string or object",
        "Where they go: a `Node`; `registry:HOST/PREFIX`, below which they keep repository and tag; `containerd:` or `containerd:[NAMESPACE@SOCKET]`, where they keep their full names, or below a prefix there; or `oci:DIR`.",
    ),
    Opt::new(
        "include",
        "string or array",
        "Globs such as `shop/*` or `nginx:1.*`, or regular expressions between slashes; one has to fit the name.",
    ),
    Opt::new("exclude", "string or array", "The same; none may fit."),
    Opt::new("semver", "string", "The range that the tag has to be in, such as `>=1.2, <2`; other tags are left out."),
    Opt::new(
        "newest",
        "int",
        "How many images of each repository, the newest first: by version where all tags are versions, else by when they were made.",
    ),
    Opt::new("newer_than", "duration", "Only images made within this time, such as `30d`."),
    Opt::new("older_than", "duration", "Only images made before this time."),
    Opt::new(
        "rename",
        "closure or string",
        "What a name such as `shop/api:1` becomes: a closure from it to another, or a template with `{registry}`, `{repository}`, `{name}` and `{tag}`. Without a tag it keeps its own; a closure that returns `()` leaves the image out. An image whose source names its target is not renamed.",
    ),
    Opt::new(
        "platforms",
        "string or array",
        "`present`, `all`, one platform or several, as for `copy`. Default `present`.",
    ),
    Opt::new("referrers", "bool", "Whether what refers to the images goes along. Default false."),
    Opt::new("digest_tags", "bool", "Whether tags that name their digests go along. Default false."),
    Opt::new("jobs", "int", "How many images move at the same time, up to 64. Default 4."),
    Opt::new(
        "retries",
        "int",
        "How often an image, or the list of a source, is tried again after a failure that may pass, beside the retries of single requests. Default 3.",
    ),
    Opt::new(
        "delay",
        "duration",
        "The pause before the first retry; it doubles each time, up to 30 s, less a random part. Default 1 s.",
    ),
    Opt::new(
        "rate",
        "string or number",
        "How many requests begin in a time for each registry, such as `20/s` or `600/m`.",
    ),
    Opt::new(
        "keep_going",
        "bool",
        "Whether the other images go on when one fails; a script then ends with exit status 3. Default false.",
    ),
    Opt::new(
        "on_item",
        "closure",
        "Is called with each image that has come to its end, as a map like those of `items`.",
    ),
    Opt::new("verify", "bool", "Whether the targets are asked for their digests once more at the end. Default true."),
    Opt::new(
        "journal",
        "string",
        "A file that keeps every change of state, so that the migration goes on where it stopped. Needs `files` or `host` access.",
    ),
    Opt::new("retry_failed", "bool", "Whether only those are moved that the journal has as failed. Default false."),
    Opt::new(
        "shard",
        "map",
        "`#{ index, count }`: does one of `count` shares alone, counted from 0. Without `index` it is that of `JOB_COMPLETION_INDEX`. The journal's name gets the index.",
    ),
    Opt::new("report", "string or array", "Files for the report: `.json`, `.csv` or `.html`."),
    Opt::new("unpack", "bool", "Whether layers are unpacked in the namespace. Default true."),
    SNAPSHOTTER,
    Opt::new("force", "bool", "Whether a name of the namespace that points elsewhere is pointed here. Default false."),
];

const MIGRATE: Spec = Spec {
    name: "migrate",
    on: On::Node,
    params: &[],
    options: &joined::<{ OWN.len() + REACH.len() }>(OWN, REACH),
    access: Access::Write,
    doc: "Moves many images, and goes on where it stopped.\n\nFirst it lists the sources, asks every target what it has, and says what there is to do; then it moves what is missing, several images at a time, and returns a `Migration`. A target that has the digest already is skipped. What several images share is sent once, and mounted where a registry can.\n\nWith a `journal`, what was under way when the process was killed is known to the next call with the same sources and target: half-written content in the namespace is kept by a lease, whose id is in the journal and which expires after 24 h. The journal is never trusted for what a target holds. Two calls cannot use one journal at the same time.\n\nA Docker Engine tells the sizes of its layers only by an export, so its images are planned by the size that it lists.",
    examples: &[
        Example::gives(
            "migrate(#{ from: \"containerd:\", include: \"docker.io/library/busybox\", to: `${REGISTRY}/moved` }).total",
            "1",
        ),
        Example::gives(
            "let r = migrate(#{\n    from: `${REGISTRY}/example/`,\n    to: \"oci:bundle\",\n    journal: \"bundle.journal\",\n    report: \"bundle.html\",\n    keep_going: true,\n});\nr.failed.len()",
            "0",
        ),
        Example::gives(
            "migrate(#{\n    from: [`${REGISTRY}/example/box:1`],\n    to: `${REGISTRY}/shop`,\n    rename: \"{name}\",\n}).items[0].target.ends_with(\"/shop/box:1\")",
            "true",
        ),
    ],
};

fn migrate(call: &Call<'_>, options: Options) -> Result<MigrationObject> {
    let working_dir = call.ctx().settings().working_dir.clone();
    let from = sources(call, &options)?;
    let to = destination(call, &options)?;
    let shard = shard(call, &options)?;
    let mut journal = options.string("journal")?.map(|path| working_dir.join(path));
    if let (Some(path), Some((index, _))) = (&mut journal, &shard) {
        path.as_mut_os_string().push(format!(".{index}"));
    }
    let identity = Identity {
        from: named(&from),
        to: to.clone().unwrap_or_default(),
        shard: shard.as_ref().map(|(_, shard)| shard.to_string()),
    };
    let reports = options.strings("report")?.unwrap_or_default();
    for path in &reports {
        Report::default().render(path)?;
        call.ctx().check_path("writing the report", &working_dir.join(path))?;
    }
    let jobs = options.count("jobs")?.unwrap_or(4);
    if jobs == 0 || jobs > MAX_JOBS {
        return Err(options.bad("jobs", format!("must be from 1 to {MAX_JOBS}, not {jobs}")));
    }
    let settings = migrate::Options {
        identity,
        journal,
        shard: shard.map(|(_, shard)| shard),
        jobs,
        retries: options.count("retries")?.map_or(3, |retries| u32::try_from(retries).unwrap_or(u32::MAX)),
        delay: options.duration("delay")?.unwrap_or(Duration::from_secs(1)),
        keep_going: options.flag("keep_going")?,
        retry_failed: options.flag("retry_failed")?,
        verify: options.bool("verify")?.unwrap_or(true),
        rate: rate(&options)?,
        copy: super::copy::settings(call, &options)?,
    };
    let destination = to.as_deref().map(|to| migrate::Destination::parse(to, &working_dir)).transpose()?;
    let filters = filters(&options)?;
    let rename = Rename::of(&options)?;
    let heard = options.closure("on_item")?;
    let parsed = from.iter().map(|(source, target)| Source::parse(source, target.clone(), &working_dir));
    let parsed = parsed.collect::<ops::Result<Vec<Source>>>()?;
    let candidates = call.wait(migrate::collect(call.ctx(), &parsed, &filters, &settings))?;
    let mut items = Vec::new();
    for candidate in candidates {
        if migrate::is_spare(destination.as_ref(), &candidate, None) {
            continue;
        }
        let name = match &candidate.target {
            Some(_) => None,
            None => match rename.apply(call, &candidate)? {
                Some(name) => name,
                None => continue,
            },
        };
        if migrate::is_spare(destination.as_ref(), &candidate, name.as_deref()) {
            continue;
        }
        let target = migrate::target(destination.as_ref(), &candidate, name.as_deref(), &working_dir)?;
        items.push(Item { candidate, target });
    }
    let report = match heard {
        None => call.run(Migrate::new(items, settings, None))?,
        Some(heard) => hearing(call, items, settings, &heard)?,
    };
    for path in &reports {
        call.run(ops::host::Write::new(path, report.render(path)?))?;
    }
    if report.count(State::Failed) > 0 {
        call.session().note_batch_failure();
    }
    Ok(MigrationObject(report))
}

/// Runs the migration on a thread of its own, so that this one can call the closure.
fn hearing(call: &Call<'_>, items: Vec<Item>, settings: migrate::Options, heard: &FnPtr) -> Result<Report> {
    let (tell, mut told) = mpsc::unbounded_channel();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| call.run(Migrate::new(items, settings, Some(tell))));
        let mut thrown = None;
        while let Some(outcome) = told.blocking_recv() {
            if let Err(error) = call.closure(heard, (convert::from_json(outcome.json()),)) {
                thrown = Some(error);
                break;
            }
        }
        drop(told);
        let report = running.join().map_err(|_| call.argument("on_item", "ended the migration"))?;
        match thrown {
            Some(error) => Err(error),
            None => report,
        }
    })
}

/// Reads the sources, each with the target that it names itself.
fn sources(call: &Call<'_>, options: &Options) -> Result<Vec<(String, Option<String>)>> {
    let Some(value) = options.any("from") else {
        return Err(options.bad("from", "is missing: name the images, such as \"containerd:\" or a list of references"));
    };
    let list = match value.read_lock::<Array>() {
        Some(list) => list.clone(),
        None => vec![value.clone()],
    };
    list.into_iter().map(|item| source(call, options, &item.flatten())).collect()
}

fn source(call: &Call<'_>, options: &Options, item: &Dynamic) -> Result<(String, Option<String>)> {
    if let Some(text) = item.read_lock::<ImmutableString>() {
        return Ok((text.to_string(), None));
    }
    if let Some(map) = item.read_lock::<Map>() {
        let text =
            |key: &str| map.get(key).and_then(|value| value.read_lock::<ImmutableString>().map(|t| t.to_string()));
        if let Some(unknown) = map.keys().find(|key| !["source", "target"].contains(&key.as_str())) {
            return Err(options.bad("from", format!("has a map with the key '{unknown}'; it takes source and target")));
        }
        let Some(source) = text("source") else {
            return Err(options.bad("from", "has a map without a 'source' that is a string"));
        };
        return Ok((source, text("target")));
    }
    let here = call.ctx().place();
    if let Some(image) = item.read_lock::<ImageObject>() {
        return Ok((format!("containerd:{}{}", At::seen_from(here, image.place()), image.record().name), None));
    }
    if let Some(node) = item.read_lock::<NodeObject>() {
        return Ok((format!("containerd:{}", At::seen_from(here, node.place())), None));
    }
    if let Some(image) = item.read_lock::<DockerImageObject>() {
        return Ok((image.endpoint().to_string(), None));
    }
    if let Some(docker) = item.read_lock::<DockerObject>() {
        return Ok((docker.images(), None));
    }
    let remote = item.read_lock::<RegistryObject>().map(|registry| registry.images());
    let remote = remote.or_else(|| item.read_lock::<RepositoryObject>().map(|repository| repository.images()));
    if let Some(images) = remote {
        let own = "has a registry with options of its own: give them to migrate itself, or log in there";
        return Ok((images.ok_or_else(|| options.bad("from", own))?, None));
    }
    let object = call.session().catalog().and_then(|catalog| catalog.object_of(item)?.name_of(item));
    match object {
        Some(name) => Ok((name, None)),
        None => Err(options.bad("from", format!("has a {}, which is no image", item.type_name()))),
    }
}

/// Reads where all goes: written out, or a node.
fn destination(call: &Call<'_>, options: &Options) -> Result<Option<String>> {
    let node = options.any("to").and_then(|value| value.read_lock::<NodeObject>().map(|node| node.clone()));
    match node {
        Some(node) => Ok(Some(format!("containerd:{}", At::seen_from(call.ctx().place(), node.place())))),
        None => options.string("to"),
    }
}

/// Says in few words which sources these are.
fn named(from: &[(String, Option<String>)]) -> Vec<String> {
    let names = from.iter().map(|(source, target)| match target {
        Some(target) => format!("{source} {target}"),
        None => source.clone(),
    });
    let mut names: Vec<String> = names.collect();
    if names.len() > NAMED_SOURCES {
        let digest = Digest::sha256(names.join("\n").as_bytes());
        let first = names.swap_remove(0);
        let more = format!("{} more", names.len());
        names = vec![first, more, digest.to_string()];
    }
    names
}

fn filters(options: &Options) -> Result<Filters> {
    let patterns = |key: &'static str| -> Result<Vec<Pattern>> {
        let texts = options.strings(key)?.unwrap_or_default();
        Ok(texts.iter().map(|text| Pattern::parse(text)).collect::<ops::Result<_>>()?)
    };
    Ok(Filters {
        include: patterns("include")?,
        exclude: patterns("exclude")?,
        semver: options.string("semver")?.map(|text| migrate::range(&text)).transpose()?,
        newest: options.count("newest")?,
        newer_than: options.duration("newer_than")?,
        older_than: options.duration("older_than")?,
    })
}

fn rate(options: &Options) -> Result<Option<f64>> {
    if let Ok(number) = options.float("rate") {
        return match number {
            Some(number) if number <= 0.0 => Err(options.bad("rate", "must be more than 0")),
            other => Ok(other),
        };
    }
    let text = options.string("rate")?.unwrap_or_default();
    let wrong = || options.bad("rate", format!("'{text}' is none; write it like \"20/s\", \"600/m\" or \"5000/h\""));
    let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
    let number: f64 = number.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0).ok_or_else(wrong)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    Ok(Some(number / seconds))
}

fn shard(call: &Call<'_>, options: &Options) -> Result<Option<(usize, Shard)>> {
    let Some(value) = options.any("shard") else { return Ok(None) };
    let wrong = || options.bad("shard", "must be #{ index, count }, with an index from 0 to count - 1");
    let map = value.read_lock::<Map>().ok_or_else(wrong)?.clone();
    if map.keys().any(|key| !["index", "count"].contains(&key.as_str())) {
        return Err(wrong());
    }
    let number = |key: &str| map.get(key).and_then(|value| usize::try_from(value.as_int().ok()?).ok());
    let index = match (map.contains_key("index"), call.session().environment(JOB_INDEX)) {
        (true, _) => number("index").ok_or_else(wrong)?,
        (false, Some(text)) => text
            .trim()
            .parse()
            .map_err(|_| options.bad("shard", format!("has no index, and {JOB_INDEX} is '{text}', which is none")))?,
        (false, None) => return Err(options.bad("shard", format!("has no index, and {JOB_INDEX} is not set"))),
    };
    let shard = number("count").and_then(|count| Shard::new(index, count)).ok_or_else(wrong)?;
    Ok(Some((index, shard)))
}

/// How names change.
enum Rename {
    /// Not at all.
    Keep,
    /// By a template.
    Template(String),
    /// By a closure.
    Closure(FnPtr),
}

impl Rename {
    fn of(options: &Options) -> Result<Self> {
        let Some(value) = options.any("rename") else { return Ok(Self::Keep) };
        if let Some(template) = value.read_lock::<ImmutableString>() {
            return Ok(Self::Template(template.to_string()));
        }
        match options.closure("rename") {
            Ok(Some(closure)) => Ok(Self::Closure(closure)),
            _ => Err(options.bad("rename", "must be a closure or a template")),
        }
    }

    /// Returns the new name: nothing when the image is left out, `None` within when it keeps its name.
    fn apply(&self, call: &Call<'_>, candidate: &Candidate) -> Result<Option<Option<String>>> {
        match self {
            Self::Keep => Ok(Some(None)),
            Self::Template(template) => Ok(Some(Some(migrate::fill(template, &candidate.name)?))),
            Self::Closure(closure) => {
                let name = migrate::default_name(&candidate.name);
                let value = call.closure(closure, (name,))?;
                if value.is_unit() {
                    return Ok(None);
                }
                match value.read_lock::<ImmutableString>() {
                    Some(name) => Ok(Some(Some(name.to_string()))),
                    None => Err(Error::Argument {
                        function: call.spec().name,
                        argument: "option 'rename'".to_owned(),
                        problem: format!("must return a string or (), not {}", value.type_name()),
                    }),
                }
            }
        }
    }
}

/// Registers the function.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<MigrationObject>();
    catalog.add(&MIGRATE, migrate);
}
