//! The `Blob` and `Ingest` objects.

use rhai::{Array, Dynamic, Map};

use crate::containerd::content::{Info, Status};
use crate::ops::content::Pruned;
use crate::script::catalog::Catalog;
use crate::script::object::{Field, Object, Unit};
use crate::script::time::Time;

/// A blob.
#[derive(Clone)]
pub(super) struct BlobObject(pub Info);

pub(super) fn bytes(number: u64) -> Dynamic {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

impl Object for BlobObject {
    const TYPE: &'static str = "Blob";
    const DOC: &'static str = "A blob of a namespace's content store.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<BlobObject>;
        const FIELDS: &[F] = &[
            F::column("digest", "string", "The digest.", |b, _| Ok(b.0.digest.to_string().into())).unit(Unit::Digest),
            F::column("size", "int", "The length in bytes.", |b, _| Ok(bytes(b.0.size))).unit(Unit::Bytes),
            F::column("created", "Time", "When it was stored.", |b, _| Ok(Dynamic::from(Time(b.0.created_at))))
                .unit(Unit::Time),
            F::field("updated", "Time", "When its labels last changed.", |b, _| {
                Ok(Dynamic::from(Time(b.0.updated_at)))
            })
            .unit(Unit::Time),
            F::field("labels", "map", "The labels: what it refers to, and where it came from.", |b, _| {
                Ok(b.0.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.digest.to_string())
    }
}

/// A blob that is being written.
#[derive(Clone)]
pub(super) struct IngestObject(pub Status);

impl Object for IngestObject {
    const TYPE: &'static str = "Ingest";
    const DOC: &'static str = "A blob that is being written, or whose writing stopped.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<IngestObject>;
        const FIELDS: &[F] = &[
            F::column("ref", "string", "What names it.", |i, _| Ok(i.0.reference.clone().into())),
            F::column("offset", "int", "How many bytes are there.", |i, _| Ok(bytes(i.0.offset))).unit(Unit::Bytes),
            F::column("total", "int", "How many bytes there will be; 0 when the writer did not say.", |i, _| {
                Ok(bytes(i.0.total))
            })
            .unit(Unit::Bytes),
            F::column("started", "Time", "When it began.", |i, _| Ok(Dynamic::from(Time(i.0.started_at))))
                .unit(Unit::Time),
            F::column("updated", "Time", "When it last grew.", |i, _| Ok(Dynamic::from(Time(i.0.updated_at))))
                .unit(Unit::Time),
            F::field(
                "expected",
                "string",
                "The digest that it should have, or `()` when that is not known.",
                |i, _| Ok(i.0.expected.as_ref().map_or(Dynamic::UNIT, |digest| digest.to_string().into())),
            )
            .unit(Unit::Digest),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.reference.clone())
    }
}

/// What became of references to layers.
#[derive(Clone)]
pub(super) struct PrunedObject(pub Pruned);

impl Object for PrunedObject {
    const TYPE: &'static str = "PrunedReferences";
    const DOC: &'static str = "What `content::prune_references` let go of.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<PrunedObject>;
        const FIELDS: &[F] = &[
            F::column(
                "manifests",
                "array",
                "The digests of the manifests that no longer keep their layers.",
                |p, _| Ok(p.0.manifests.iter().map(|d| Dynamic::from(d.to_string())).collect::<Array>().into()),
            ),
            F::column("layers", "array", "The digests of the layers that no label keeps any more.", |p, _| {
                Ok(p.0.layers.iter().map(|d| Dynamic::from(d.to_string())).collect::<Array>().into())
            }),
            F::column("size", "int", "The bytes of these layers.", |p, _| Ok(bytes(p.0.bytes))).unit(Unit::Bytes),
        ];
        FIELDS
    }
}

/// Registers the objects.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<BlobObject>();
    catalog.add_object::<IngestObject>();
    catalog.add_object::<PrunedObject>();
}
