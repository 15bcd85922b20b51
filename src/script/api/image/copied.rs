//! The `Copied` object.

use rhai::Dynamic;

use crate::ops::image::Copied;
use crate::script::catalog::Catalog;
use crate::script::object::{Field, Object, Unit};

/// What a copy or push came to.
#[derive(Clone)]
pub(super) struct CopiedObject(pub(super) Copied);

impl Object for CopiedObject {
    const TYPE: &'static str = "Copied";
    const DOC: &'static str = "What a copy or push came to.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<CopiedObject>;
        const FIELDS: &[F] = &[
            F::column("target", "string", "Where the image is now, as an endpoint.", |c, _| {
                Ok(c.0.target.to_string().into())
            }),
            F::field("reference", "string", "What it is called there, or `()`.", |c, _| {
                Ok(c.0.target.reference().map_or(Dynamic::UNIT, Into::into))
            }),
            F::column("digest", "string", "Its digest there.", |c, _| Ok(c.0.root.digest.to_string().into()))
                .unit(Unit::Digest),
            F::column("sent", "int", "Bytes of blobs that were sent.", |c, _| Ok(number(c.0.totals.sent)))
                .unit(Unit::Bytes),
            F::field("blobs_sent", "int", "Blobs that were sent.", |c, _| {
                Ok(number(c.0.totals.blobs_sent.len() as u64))
            }),
            F::field("blobs_mounted", "int", "Blobs that were taken from other repositories.", |c, _| {
                Ok(number(c.0.totals.blobs_mounted))
            }),
            F::field("blobs_present", "int", "Blobs that were there.", |c, _| Ok(number(c.0.totals.blobs_present))),
            F::field("companions", "int", "Referrers and digest tags that went along or were there.", |c, _| {
                Ok(i64::try_from(c.0.companions).unwrap_or(i64::MAX).into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.target.to_string())
    }
}

pub(super) fn number(number: u64) -> Dynamic {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// Registers the object.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<CopiedObject>();
}
