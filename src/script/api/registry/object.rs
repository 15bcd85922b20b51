//! The `Registry`, `Repository` and `Referrer` objects.

use std::sync::Arc;

use rhai::{Dynamic, Map};

use crate::oci::{Descriptor, Reference};
use crate::ops::registry::Address;
use crate::registry::Options;
use crate::script::catalog::Catalog;
use crate::script::object::{Field, Object, Unit};

/// A registry, or what is below a path of it, and how it is reached.
#[derive(Clone)]
pub(crate) struct RegistryObject {
    pub(super) address: Address,
    pub(super) reach: Arc<Options>,
}

impl RegistryObject {
    /// Returns the endpoint of all of its images; `None` when it is reached by options of its own.
    pub(crate) fn images(&self) -> Option<String> {
        (*self.reach == Options::default()).then(|| format!("registry:{}/", self.address))
    }
}

impl Object for RegistryObject {
    const TYPE: &'static str = "Registry";
    const DOC: &'static str = "A registry, and how it is reached.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<RegistryObject>;
        const FIELDS: &[F] = &[
            F::column("host", "string", "Where it is, `HOST[:PORT]`.", |r, _| Ok(r.address.host().to_owned().into())),
            F::column("path", "string", "The path below which names are, or `()`.", |r, _| {
                Ok(r.address.path().map_or(Dynamic::UNIT, |path| path.to_owned().into()))
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.address.to_string())
    }
}

/// A repository of a registry.
#[derive(Clone)]
pub(crate) struct RepositoryObject {
    /// Its tag counts for nothing.
    pub(super) reference: Reference,
    pub(super) reach: Arc<Options>,
}

impl RepositoryObject {
    /// Returns the endpoint of all of its images; `None` when it is reached by options of its own.
    pub(crate) fn images(&self) -> Option<String> {
        (*self.reach == Options::default()).then(|| format!("{}:*", self.reference.locator()))
    }
}

impl Object for RepositoryObject {
    const TYPE: &'static str = "Repository";
    const DOC: &'static str = "A repository of a registry. As text, and where a name is wanted, it is `HOST/NAME`.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<RepositoryObject>;
        const FIELDS: &[F] = &[
            F::column("registry", "string", "The registry, `HOST[:PORT]`.", |r, _| {
                Ok(r.reference.registry().to_owned().into())
            }),
            F::column("name", "string", "The name within the registry, such as `library/nginx`.", |r, _| {
                Ok(r.reference.repository().to_owned().into())
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.reference.locator())
    }
}

/// What refers to an image.
#[derive(Clone)]
pub(super) struct ReferrerObject(pub(super) Descriptor);

impl Object for ReferrerObject {
    const TYPE: &'static str = "Referrer";
    const DOC: &'static str = "A signature, attestation, SBOM or anything else that refers to an image.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ReferrerObject>;
        const FIELDS: &[F] = &[
            F::column("artifact_type", "string", "What it is, as a media type, or `()`.", |r, _| {
                Ok(r.0.artifact_type.clone().map_or(Dynamic::UNIT, Dynamic::from))
            }),
            F::column("digest", "string", "The digest of its manifest.", |r, _| Ok(r.0.digest.to_string().into()))
                .unit(Unit::Digest),
            F::column("size", "int", "Bytes of its manifest.", |r, _| {
                Ok(i64::try_from(r.0.size).unwrap_or(i64::MAX).into())
            })
            .unit(Unit::Bytes),
            F::field("media_type", "string", "The media type of its manifest.", |r, _| {
                Ok(r.0.media_type.to_string().into())
            }),
            F::field("annotations", "map", "What it says of itself.", |r, _| {
                Ok(r.0.annotations.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        Some(self.0.digest.to_string())
    }
}

/// Registers the objects.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<RegistryObject>();
    catalog.add_object::<RepositoryObject>();
    catalog.add_object::<ReferrerObject>();
}
