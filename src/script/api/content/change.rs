//! What changes content.

use rhai::{Blob, Dynamic, ImmutableString, Map};

use super::object::{BlobObject, PrunedObject};
use super::{digest, digests};
use crate::containerd::images::Deletion;
use crate::grant::Access;
use crate::ops::content::{self, IngestOptions, Source};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::{Options, pairs_of};
use crate::script::value::{Arg, Name, NameList, Slot};

const INGEST: Spec = Spec {
    name: "ingest",
    on: On::Module("content"),
    params: &[Param::new("source")],
    options: &[
        Opt::new("ref", "string", "What names it while it is written. Default: its digest does."),
        Opt::new("expected_size", "size", "How many bytes there have to be."),
        Opt::new("expected_digest", "string", "The digest that they have to have. Default: SHA-256 of what is there."),
        Opt::new("labels", "map", "Labels for the blob."),
        Opt::new("lease", "string or Lease", "The lease that keeps it."),
        Opt::new(
            "root",
            "bool",
            "Whether the label `containerd.io/gc.root` keeps it until it is deleted. Default: true when neither `lease` nor `with_lease` keeps it.",
        ),
    ],
    access: Access::Write,
    doc: "Stores bytes as a blob, verified, and returns it.\n\nThe source is a blob, a text, or `#{ path: FILE }`. Bytes that are not those expected are not sent. What is here already is not sent again, and gets the labels. A blob that nothing keeps is collected by the daemon within minutes, so with `root: false` and no lease another blob or an image has to refer to it.",
    examples: &[
        Example::gives("content::ingest(\"hello\").size", "5"),
        Example::gives(
            "let l = leases::create(); let b = content::ingest(#{ path: \"box.tar\" }, #{ lease: l }); l.resources().all(|r| r.id == b.digest)",
            "true",
        ),
    ],
};

fn ingest(call: &Call<'_>, source: Dynamic, options: Options) -> Result<BlobObject> {
    let name = |key: &'static str| -> Result<Option<String>> {
        match options.any(key) {
            None => Ok(None),
            Some(value) => Ok(Some(<Name as Arg>::take(Some(value), Slot { call, name: key })?.0)),
        }
    };
    let labels = options.pairs("labels")?.unwrap_or_default();
    let settings = IngestOptions {
        reference: options.string("ref")?,
        expected_size: options.size("expected_size")?,
        expected_digest: name("expected_digest")?.map(|text| digest(&Name(text))).transpose()?,
        labels: labels.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        lease: name("lease")?,
        root: options.bool("root")?,
    };
    if settings.reference.as_ref().is_some_and(String::is_empty) {
        return Err(options.bad("ref", "is empty"));
    }
    let source = bytes_of(call, source)?;
    call.run(content::Ingest::new(source, settings)).map(BlobObject)
}

fn bytes_of(call: &Call<'_>, source: Dynamic) -> Result<Source> {
    if let Some(blob) = source.read_lock::<Blob>() {
        return Ok(Source::Bytes(blob.clone().into()));
    }
    if let Some(text) = source.read_lock::<ImmutableString>() {
        return Ok(Source::Bytes(text.to_string().into_bytes().into()));
    }
    let path = source.read_lock::<Map>().and_then(|map| {
        let path = map.get("path")?.clone().into_immutable_string().ok()?;
        (map.len() == 1).then_some(path)
    });
    match path {
        Some(path) => Ok(Source::File(path.as_str().into())),
        None => Err(call.argument("source", "must be a blob, a text, or #{ path: FILE }")),
    }
}

const EDIT: Spec = Spec {
    name: "edit",
    on: On::Module("content"),
    params: &[Param::new("digest")],
    options: &[Opt::new(
        "editor",
        "string",
        "The command of the shell that edits the file whose name follows it. Default: `EDITOR` of the environment, else `vi`.",
    )],
    access: Access::Write,
    doc: "Runs an editor on a copy of a blob, stores what it leaves as a blob with a digest of its own, and returns that one, kept until it is deleted.\n\nThe old blob stays as it is, and so does what refers to it. An editor that fails stores nothing. It needs `host` access too, as the editor is a program of this host.",
    examples: &[Example::gives(
        "let b = content::ingest(\"a first word\"); content::edit(b, #{ editor: \"sed -i s/first/second/\" }).size > 0",
        "true",
    )],
};

fn edit(call: &Call<'_>, name: Name, options: Options) -> Result<BlobObject> {
    let named = options.string("editor")?.or_else(|| call.session().environment("EDITOR"));
    let editor = named.filter(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    call.run(content::Edit::new(digest(&name)?, &editor)).map(BlobObject)
}

const DELETE: Spec = Spec {
    name: "delete",
    on: On::Module("content"),
    params: &[Param::new("digests")],
    options: &[Opt::new("force", "bool", "Whether to delete also what an image refers to. Default false.")],
    access: Access::Delete,
    doc: "Deletes one or several blobs from the namespace and returns how many.\n\nEvery blob has to exist, and none may belong to an image: otherwise nothing is deleted.",
    examples: &[
        Example::gives("content::delete([content::ingest(\"a\"), content::ingest(\"b\")])", "2"),
        Example::gives("content::delete(image(\"busybox\").digest, #{ force: true })", "1"),
    ],
};

fn delete(call: &Call<'_>, names: NameList, options: Options) -> Result<u64> {
    let deleted = call.run(content::Delete::new(digests(&names)?, options.flag("force")?))?;
    Ok(deleted.len() as u64)
}

const LABEL: Spec = Spec {
    name: "label",
    on: On::Module("content"),
    params: &[Param::new("digest"), Param::new("labels")],
    options: &[],
    access: Access::Write,
    doc: "Sets labels of a blob and returns it. A value of `()` or `\"\"` removes a label; those not named stay.\n\nWith labels `containerd.io/gc.ref.content.NAME` a blob keeps others.",
    examples: &[Example::gives(
        "content::label(content::ingest(\"labelled\"), #{ team: \"core\" }).labels.team",
        "\"core\"",
    )],
};

fn label(call: &Call<'_>, name: Name, labels: Map) -> Result<BlobObject> {
    let labels = pairs_of(call, "labels", labels)?;
    call.run(content::Label::new(digest(&name)?, labels)).map(BlobObject)
}

const ABORT: Spec = Spec {
    name: "abort",
    on: On::Module("content"),
    params: &[Param::new("reference")],
    options: &[],
    access: Access::Write,
    doc: "Throws a blob that is being written away, by its ref as `content::active` lists it.",
    examples: &[Example::runs("try { content::abort(\"upload\") } catch (e) { print(e.message) }")],
};

fn abort(call: &Call<'_>, reference: Name) -> Result<()> {
    call.run(content::Abort::new(&reference.0))
}

const PRUNE_REFERENCES: Spec = Spec {
    name: "prune_references",
    on: On::Module("content"),
    params: &[],
    options: &[
        Opt::new(
            "wait",
            "bool",
            "Whether to wait until the space is free, as ctr does without `--async`. Default false.",
        ),
        Opt::new("dry", "bool", "Whether only to say what would go. Default false."),
    ],
    access: Access::Delete,
    doc: "Lets go of the compressed layers of the images that are unpacked, and returns what that frees.\n\nThe images still run, but they cannot be pushed, saved or unpacked again until they are pulled anew. Layers of images that are not unpacked stay, which they do not with ctr. What a lease keeps is freed when that ends.",
    examples: &[Example::gives("content::prune_references(#{ wait: true }).manifests.len()", "1")],
};

fn prune_references(call: &Call<'_>, options: Options) -> Result<PrunedObject> {
    let deletion = if options.flag("wait")? { Deletion::Synchronous } else { Deletion::Later };
    let ctx = if options.flag("dry")? { call.ctx().dry_run() } else { call.ctx().clone() };
    call.run_in(&ctx, content::PruneReferences::new(deletion)).map(PrunedObject)
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&INGEST, ingest);
    catalog.add(&EDIT, edit);
    catalog.add(&DELETE, delete);
    catalog.add(&LABEL, label);
    catalog.add(&ABORT, abort);
    catalog.add(&PRUNE_REFERENCES, prune_references);
}
