//! The `Image` object.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rhai::{Array, Dynamic, Map};

use crate::containerd::images::Image;
use crate::oci::{Digest, Reference};
use crate::ops::image::Detail;
use crate::ops::{self, Place};
use crate::script::call::Session;
use crate::script::catalog::Catalog;
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::time::Time;

/// An image record, with where it is and the list it came in.
#[derive(Clone)]
pub struct ImageObject {
    record: Arc<Image>,
    place: Place,
    siblings: Arc<Siblings>,
}

/// The images that came in one list. What one of them needs from the store is read for all of them at once, so that a loop
/// over a list asks the daemon in parallel instead of image by image.
struct Siblings {
    images: Vec<Arc<Image>>,
    details: OnceLock<HashMap<Digest, Arc<Detail>>>,
}

impl ImageObject {
    /// Wraps one record.
    #[must_use]
    pub fn new(record: Image, place: &Place) -> Self {
        let record = Arc::new(record);
        let siblings = Siblings { images: vec![record.clone()], details: OnceLock::new() };
        Self { record, place: place.clone(), siblings: Arc::new(siblings) }
    }

    /// Wraps a list of records.
    #[must_use]
    pub fn list(records: Vec<Image>, place: &Place) -> Vec<Self> {
        let images: Vec<Arc<Image>> = records.into_iter().map(Arc::new).collect();
        let siblings = Arc::new(Siblings { images: images.clone(), details: OnceLock::new() });
        let wrap = |record| Self { record, place: place.clone(), siblings: Arc::clone(&siblings) };
        images.into_iter().map(wrap).collect()
    }

    /// Returns the record.
    #[must_use]
    pub fn record(&self) -> &Image {
        &self.record
    }

    /// Returns where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn detail(&self, session: &Session) -> Result<Arc<Detail>> {
        if self.siblings.details.get().is_none() {
            let ctx = session.context().at(&self.place);
            let targets: Vec<_> = self.siblings.images.iter().map(|image| image.target.clone()).collect();
            let details = session.wait(&ctx, ops::image::details(&ctx, &targets))?;
            let _ = self.siblings.details.set(details);
        }
        let known = self.siblings.details.get().and_then(|details| details.get(&self.record.target.digest));
        Ok(known.cloned().unwrap_or_default())
    }
}

impl Object for ImageObject {
    const TYPE: &'static str = "Image";
    const DOC: &'static str = "A name in a namespace that points to an image's content.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ImageObject>;
        const FIELDS: &[F] = &[
            F::column("name", "string", "The name, mostly a full reference.", |i, _| Ok(i.record.name.clone().into())),
            F::on_demand("reference", "Reference", "The name taken apart, or `()` when it is not a reference.", |i, _| {
                Ok(i.record.name.parse::<Reference>().map_or(Dynamic::UNIT, |r| Dynamic::from(ReferenceObject(r))))
            }),
            F::column("digest", "string", "The digest of the manifest or index that it points to.", |i, _| {
                Ok(i.record.target.digest.to_string().into())
            })
            .unit(Unit::Digest),
            F::field("media_type", "string", "The media type of what it points to.", |i, _| {
                Ok(i.record.target.media_type.to_string().into())
            }),
            F::column(
                "size",
                "int",
                "Bytes of its documents, config and layers (compressed) for this host's platform, as `ctr images ls` counts.",
                |i, session| Ok(i64::try_from(i.detail(session)?.size).unwrap_or(i64::MAX).into()),
            )
            .unit(Unit::Bytes),
            F::column("platforms", "array", "The platforms that it is for, as strings.", |i, session| {
                let detail = i.detail(session)?;
                Ok(detail.platforms.iter().map(|p| Dynamic::from(p.to_string())).collect::<Array>().into())
            }),
            F::column("created", "Time", "When the record was made.", |i, _| {
                Ok(Dynamic::from(Time(i.record.created_at)))
            })
            .unit(Unit::Time),
            F::field("updated", "Time", "When the record was last changed.", |i, _| {
                Ok(Dynamic::from(Time(i.record.updated_at)))
            })
            .unit(Unit::Time),
            F::field("labels", "map", "The labels of the record.", |i, _| {
                Ok(i.record.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.record.name.clone())
    }

    fn prefetch(list: &[Self], session: &Session) {
        // One call serves all that came in one list; what fails here fails again, and is told, at the property.
        for image in list {
            if image.siblings.details.get().is_none() && image.detail(session).is_err() {
                return;
            }
        }
    }
}

/// A reference, taken apart.
#[derive(Clone)]
pub(crate) struct ReferenceObject(pub Reference);

impl Object for ReferenceObject {
    const TYPE: &'static str = "Reference";
    const DOC: &'static str = "An image reference, taken apart.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ReferenceObject>;
        const FIELDS: &[F] = &[
            F::column("registry", "string", "The registry, `HOST[:PORT]`.", |r, _| {
                Ok(r.0.registry().to_owned().into())
            }),
            F::column(
                "repository",
                "string",
                "The repository within the registry, such as `library/nginx`.",
                |r, _| Ok(r.0.repository().to_owned().into()),
            ),
            F::field("name", "string", "The last part of the repository, such as `nginx`.", |r, _| {
                Ok(r.0.name().to_owned().into())
            }),
            F::column("tag", "string", "The tag, or `()`.", |r, _| {
                Ok(r.0.tag().map_or(Dynamic::UNIT, |tag| tag.to_owned().into()))
            }),
            F::column("digest", "string", "The digest, or `()`.", |r, _| {
                Ok(r.0.digest().map_or(Dynamic::UNIT, |digest| digest.to_string().into()))
            })
            .unit(Unit::Digest),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// Registers the objects.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<ImageObject>();
    catalog.add_object::<ReferenceObject>();
}
