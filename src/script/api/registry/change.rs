//! `delete`, of a `Registry` and of a `Repository`.

use rhai::{Array, Dynamic};

use super::object::{RegistryObject, RepositoryObject};
use super::read::Remote;
use crate::grant::Access;
use crate::ops;
use crate::ops::registry::Deleted;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::value::Name;

/// What a deletion in a registry came to.
#[derive(Clone)]
struct DeletedObject(Deleted);

impl Object for DeletedObject {
    const TYPE: &'static str = "Deleted";
    const DOC: &'static str = "What a deletion in a registry came to.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<DeletedObject>;
        const FIELDS: &[F] = &[
            F::column("repository", "string", "The repository, `HOST/NAME`.", |d, _| Ok(d.0.repository.clone().into())),
            F::column("digest", "string", "The digest that the tags pointed to.", |d, _| {
                Ok(d.0.digest.to_string().into())
            })
            .unit(Unit::Digest),
            F::column("tags", "array", "The tags that are gone.", |d, _| {
                Ok(d.0.tags.iter().map(|tag| Dynamic::from(tag.clone())).collect::<Array>().into())
            }),
        ];
        FIELDS
    }
}

const OPTIONS: &[Opt] =
    &[Opt::new("all_tags", "bool", "Whether the manifest may go with all the tags that point to it. Default false.")];

const REGISTRY_DELETE: Spec = Spec {
    name: "delete",
    on: On::Method,
    params: &[Param::new("reference")],
    options: OPTIONS,
    access: Access::Delete,
    doc: "Deletes a tag or, by its digest, a manifest with all of its tags.\n\nMany registries, Docker's among them, cannot delete a tag alone, only a manifest, and with it every tag that points to it. There a tag is deleted when it is the only one; otherwise the call is refused and names the others, and `all_tags` deletes them all. The plan names every tag that would go. Needs `delete` access to `HOST/NAME`. The blobs stay until the registry collects its garbage.",
    examples: &[Example::gives("registry(REGISTRY).delete(\"example/box:1\").tags", "[\"1\"]")],
};

fn registry_delete(
    call: &Call<'_>,
    registry: RegistryObject,
    reference: Name,
    options: Options,
) -> Result<DeletedObject> {
    delete(call, registry.remote(&reference.0)?, &options)
}

const REPOSITORY_DELETE: Spec = Spec {
    name: "delete",
    on: On::Method,
    params: &[Param::new("selector")],
    options: OPTIONS,
    access: Access::Delete,
    doc: "Deletes a tag of the repository or, by its digest, a manifest with all of its tags, as the `delete` of a registry does.",
    examples: &[
        Example::gives("registry(REGISTRY).repo(\"example/box\").delete(\"1\").tags", "[\"1\"]"),
        Example::gives(
            "let repo = registry(REGISTRY).repo(\"example/box\"); repo.delete(repo.digest(\"1\")).tags",
            "[\"1\"]",
        ),
    ],
};

fn repository_delete(
    call: &Call<'_>,
    repository: RepositoryObject,
    selector: Name,
    options: Options,
) -> Result<DeletedObject> {
    delete(call, repository.remote(&selector.0)?, &options)
}

fn delete(call: &Call<'_>, remote: Remote, options: &Options) -> Result<DeletedObject> {
    let all_tags = options.flag("all_tags")?;
    let reach = (*remote.reach).clone();
    call.run(ops::registry::Delete::new(remote.reference, all_tags, reach)).map(DeletedObject)
}

/// Registers the methods.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<DeletedObject>();
    catalog.add(&REGISTRY_DELETE, registry_delete);
    catalog.add(&REPOSITORY_DELETE, repository_delete);
}
