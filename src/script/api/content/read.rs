//! What looks at content.

use super::digest;
use super::object::{BlobObject, IngestObject};
use crate::grant::Access;
use crate::ops::content;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Binary, Name};

const DIGEST: &[Param] = &[Param::new("digest")];

const LIST: Spec = Spec {
    name: "list",
    on: On::Module("content"),
    params: &[Param::new("filter")],
    options: &[],
    access: Access::Read,
    doc: "Lists the blobs of the namespace that match one of containerd's filters, such as `labels.\"k\"==v` or `digest==…`; all without a filter. Sorted by digest.",
    examples: &[
        Example::gives("content::list().some(|b| b.digest == image(\"busybox\").digest)", "true"),
        Example::gives("content::list(`digest==${image(\"busybox\").digest}`).len()", "1"),
    ],
};

fn list(call: &Call<'_>, filter: Option<Vec<String>>) -> Result<Vec<BlobObject>> {
    let blobs = call.wait(content::list(call.ctx(), &filter.unwrap_or_default()))?;
    Ok(blobs.into_iter().map(BlobObject).collect())
}

const INFO: Spec = Spec {
    name: "info",
    on: On::Module("content"),
    params: DIGEST,
    options: &[],
    access: Access::Read,
    doc: "Returns one blob by its digest, without its bytes.",
    examples: &[Example::gives("content::info(image(\"busybox\").digest).size > 0", "true")],
};

fn info(call: &Call<'_>, name: Name) -> Result<BlobObject> {
    call.wait(content::info(call.ctx(), &digest(&name)?)).map(BlobObject)
}

const GET: Spec = Spec {
    name: "get",
    on: On::Module("content"),
    params: DIGEST,
    options: &[
        Opt::new("offset", "size", "Where to begin, in bytes. Default 0."),
        Opt::new("size", "size", "How many bytes to read. Default: to the end."),
    ],
    access: Access::Read,
    doc: "Returns the bytes of a blob, at most 16 MiB of them.\n\nA blob that is read whole is verified; a part of one cannot be.",
    examples: &[
        Example::gives("let d = image(\"busybox\").digest; content::get(d).len() == content::info(d).size", "true"),
        Example::gives("content::get(image(\"busybox\").digest, #{ size: 1 }).as_string()", "\"{\""),
    ],
};

fn get(call: &Call<'_>, name: Name, options: Options) -> Result<Binary> {
    let (offset, size) = (options.size("offset")?.unwrap_or(0), options.size("size")?);
    call.wait(content::bytes(call.ctx(), &digest(&name)?, offset, size)).map(Binary)
}

const TEXT: Spec = Spec {
    name: "text",
    on: On::Module("content"),
    params: DIGEST,
    options: &[],
    access: Access::Read,
    doc: "Returns a blob that is text, verified, at most 16 MiB: a manifest, an index, a config.",
    examples: &[Example::gives("content::text(image(\"busybox\").digest).contains(\"layers\")", "true")],
};

fn text(call: &Call<'_>, name: Name) -> Result<String> {
    let bytes = call.wait(content::bytes(call.ctx(), &digest(&name)?, 0, None))?;
    let text = String::from_utf8(bytes.into());
    text.map_err(|_| call.argument(&name.0, "is not UTF-8 text; content::get returns its bytes"))
}

const SAVE: Spec = Spec {
    name: "save",
    on: On::Module("content"),
    params: &[Param::new("digest"), Param::of("path", Names::File)],
    options: &[],
    access: Access::Read,
    doc: "Writes a blob into a file, verified, whole or not at all, and returns how many bytes that are.\n\nNeeds `files` access below the working folder and `host` access elsewhere.",
    examples: &[Example::gives(
        "content::save(image(\"busybox\").digest, \"m.json\") == content::info(image(\"busybox\").digest).size",
        "true",
    )],
};

fn save(call: &Call<'_>, name: Name, path: String) -> Result<u64> {
    call.run(content::Save::new(digest(&name)?, path.into()))
}

const ACTIVE: Spec = Spec {
    name: "active",
    on: On::Module("content"),
    params: &[Param::new("pattern")],
    options: &[],
    access: Access::Read,
    doc: "Lists the blobs that are being written, or whose writing stopped; with a regular expression, those whose ref it matches. Sorted by ref.",
    examples: &[Example::gives("content::active(\"^layer-\").len()", "0")],
};

fn active(call: &Call<'_>, pattern: Option<String>) -> Result<Vec<IngestObject>> {
    let ingests = call.wait(content::active(call.ctx(), pattern.as_deref()))?;
    Ok(ingests.into_iter().map(IngestObject).collect())
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&LIST, list);
    catalog.add(&INFO, info);
    catalog.add(&GET, get);
    catalog.add(&TEXT, text);
    catalog.add(&SAVE, save);
    catalog.add(&ACTIVE, active);
}
