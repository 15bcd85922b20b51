//! `df`: what takes space on the daemon's disk.

use rhai::{Array, Dynamic};

use crate::grant::Access;
use crate::ops::disk::{self, Disk, ImageUsage, NamespaceUsage};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};

/// What takes space.
#[derive(Clone)]
struct DiskObject(Disk);

/// What an image takes in a namespace.
#[derive(Clone)]
struct ImageUsageObject(ImageUsage);

/// What a namespace takes.
#[derive(Clone)]
struct NamespaceUsageObject(NamespaceUsage);

fn bytes(count: u64) -> Dynamic {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

impl Object for DiskObject {
    const TYPE: &'static str = "Disk";
    const DOC: &'static str = "What takes space on the daemon's disk, over all namespaces.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<DiskObject>;
        const FIELDS: &[F] = &[
            F::column("content", "int", "Bytes in the content store, each blob once.", |d, _| {
                Ok(bytes(d.0.all.content))
            })
            .unit(Unit::Bytes),
            F::column(
                "snapshots",
                "int",
                "Bytes of all snapshots: unpacked layers, and what containers wrote.",
                |d, _| Ok(bytes(d.0.all.snapshots)),
            )
            .unit(Unit::Bytes),
            F::column("content_without_image", "int", "Those in the content store that no image refers to.", |d, _| {
                Ok(bytes(d.0.without_image.content))
            })
            .unit(Unit::Bytes),
            F::column("snapshots_without_image", "int", "Those of snapshots that no image refers to.", |d, _| {
                Ok(bytes(d.0.without_image.snapshots))
            })
            .unit(Unit::Bytes),
            F::on_demand("images", "array", "An `ImageUsage` for each image of each namespace.", |d, _| {
                Ok(d.0.images.iter().cloned().map(|i| Dynamic::from(ImageUsageObject(i))).collect::<Array>().into())
            }),
            F::on_demand("namespaces", "array", "A `NamespaceUsage` for each namespace.", |d, _| {
                let namespaces = d.0.namespaces.iter().cloned();
                Ok(namespaces.map(|n| Dynamic::from(NamespaceUsageObject(n))).collect::<Array>().into())
            }),
        ];
        FIELDS
    }
}

impl Object for ImageUsageObject {
    const TYPE: &'static str = "ImageUsage";
    const DOC: &'static str = "What an image takes in a namespace, all its names together.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ImageUsageObject>;
        const FIELDS: &[F] = &[
            F::column("namespace", "string", "The namespace.", |i, _| Ok(i.0.namespace.clone().into())),
            F::column("name", "string", "The first of its names.", |i, _| {
                Ok(i.0.names.first().cloned().unwrap_or_default().into())
            }),
            F::field("names", "array", "All its names.", |i, _| {
                Ok(i.0.names.iter().map(|name| Dynamic::from(name.clone())).collect::<Array>().into())
            }),
            F::field("digest", "string", "What they point to.", |i, _| Ok(i.0.digest.to_string().into()))
                .unit(Unit::Digest),
            F::column("content", "int", "Bytes in the content store that it refers to.", |i, _| {
                Ok(bytes(i.0.all.content))
            })
            .unit(Unit::Bytes),
            F::column("snapshots", "int", "Bytes of its unpacked layers.", |i, _| Ok(bytes(i.0.all.snapshots)))
                .unit(Unit::Bytes),
            F::column(
                "shared",
                "int",
                "Those of both that other images, of any namespace, or containers and leases need too.",
                |i, _| Ok(bytes(i.0.all.total().saturating_sub(i.0.unique.total()))),
            )
            .unit(Unit::Bytes),
            F::column("unique", "int", "Those of both that nothing else needs: what its removal frees.", |i, _| {
                Ok(bytes(i.0.unique.total()))
            })
            .unit(Unit::Bytes),
        ];
        FIELDS
    }
}

impl Object for NamespaceUsageObject {
    const TYPE: &'static str = "NamespaceUsage";
    const DOC: &'static str = "What a namespace takes.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<NamespaceUsageObject>;
        const FIELDS: &[F] = &[
            F::column("namespace", "string", "The namespace.", |n, _| Ok(n.0.namespace.clone().into())),
            F::column("images", "int", "How many images it has, all names of one counted once.", |n, _| {
                Ok(i64::try_from(n.0.images).unwrap_or(i64::MAX).into())
            }),
            F::column("content", "int", "Bytes in the content store that it has.", |n, _| Ok(bytes(n.0.all.content)))
                .unit(Unit::Bytes),
            F::column("snapshots", "int", "Bytes of its snapshots.", |n, _| Ok(bytes(n.0.all.snapshots)))
                .unit(Unit::Bytes),
            F::column("unique", "int", "Those of both that no other namespace has.", |n, _| {
                Ok(bytes(n.0.unique.total()))
            })
            .unit(Unit::Bytes),
        ];
        FIELDS
    }
}

const DF: Spec = Spec {
    name: "df",
    on: On::Node,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Says what takes space on the daemon's disk, over all namespaces, and which images it is for.\n\nNamespaces share the content store: a blob that two have takes its space once. Snapshots are each namespace's own. What an image shares and what it has alone follows the references that the daemon's collector follows, so `unique` is what its removal frees.",
    examples: &[
        Example::gives("let disk = df(); disk.content >= disk.images[0].content", "true"),
        Example::runs("print(table(df().images))"),
        Example::runs("for n in df().namespaces { print(`${n.namespace}: ${show_size(n.unique)} of its own`) }"),
    ],
};

fn df(call: &Call<'_>) -> Result<DiskObject> {
    call.wait(disk::disk(call.ctx())).map(DiskObject)
}

/// Registers the function and the objects.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<DiskObject>();
    catalog.add_object::<ImageUsageObject>();
    catalog.add_object::<NamespaceUsageObject>();
    catalog.add(&DF, df);
}
