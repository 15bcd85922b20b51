//! Image records: names that point to content.

use chrono::{DateTime, Utc};
use containerd_client::services::v1 as wire_v1;
use wire_v1::images_client::ImagesClient;
use wire_v1::{CreateImageRequest, DeleteImageRequest, GetImageRequest, ListImagesRequest, UpdateImageRequest};

use super::error::failed;
use super::guard::Guard;
use super::{Client, Labels, Result, service, wire};
use crate::oci::{self, Descriptor};

/// A name that points to an image's manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The name, mostly a full reference. containerd takes any text, control characters included.
    pub name: String,
    /// What it points to, which need not be there.
    pub target: Descriptor,
    /// Labels of the record.
    pub labels: Labels,
    /// When the record was made.
    pub created_at: DateTime<Utc>,
    /// When the record was last changed.
    pub updated_at: DateTime<Utc>,
}

/// Whether a deletion waits for what it frees to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletion {
    /// Returns at once; the collector comes around later.
    #[default]
    Later,
    /// Waits for a full run of the collector.
    Synchronous,
}

/// The image service.
#[derive(Debug, Clone)]
pub struct Images(Client);

impl Client {
    /// Returns the image service.
    #[must_use]
    pub fn images(&self) -> Images {
        Images(self.clone())
    }
}

impl Images {
    fn rpc(&self) -> ImagesClient<Guard> {
        service!(ImagesClient<_>, self.0)
    }

    /// Looks up a record by its exact name.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn get(&self, name: &str) -> Result<Image> {
        let answer = self.rpc().get(GetImageRequest { name: name.to_owned() }).await;
        let image = answer.map_err(failed("get image", name))?.into_inner().image;
        Ok(Image::from_wire(wire::required(image, "get image", name)?)?)
    }

    /// Lists the records that match any of the filters (containerd's filter language), all without filters.
    ///
    /// A record whose target has a digest of an unknown algorithm is left out and logged: nothing could be done with it.
    ///
    /// # Errors
    /// Fails when the daemon refuses a filter.
    pub async fn list(&self, filters: &[String]) -> Result<Vec<Image>> {
        let answer = self.rpc().list(ListImagesRequest { filters: filters.to_vec() }).await;
        let images = answer.map_err(failed("list images of", self.0.namespace()))?.into_inner().images;
        Ok(images.into_iter().filter_map(Image::readable).collect())
    }

    /// Makes a record.
    ///
    /// # Errors
    /// [`Error::is_already_exists`](super::Error::is_already_exists) when the name is taken.
    pub async fn create(&self, name: &str, target: &Descriptor, labels: &Labels) -> Result<Image> {
        let image = Some(Image::to_wire(name, target, labels));
        let answer = self.rpc().create(CreateImageRequest { image, source_date_epoch: None }).await;
        let image = answer.map_err(failed("create image", name))?.into_inner().image;
        Ok(Image::from_wire(wire::required(image, "create image", name)?)?)
    }

    /// Points a record to another target and sets these labels, leaving its other labels alone.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn retarget(&self, name: &str, target: &Descriptor, labels: &Labels) -> Result<Image> {
        let mut mask = wire::label_mask(labels.keys());
        mask.paths.push("target".to_owned());
        self.update("retarget image", Image::to_wire(name, target, labels), mask).await
    }

    /// Sets labels, leaving the others alone; an empty value removes a label.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn set_labels(&self, name: &str, labels: &Labels) -> Result<Image> {
        let image = wire_v1::Image { name: name.to_owned(), labels: wire::to_labels(labels), ..Default::default() };
        self.update("label image", image, wire::label_mask(labels.keys())).await
    }

    /// Makes a record, or points the one of that name to the target, leaving its other labels alone.
    ///
    /// # Errors
    /// Fails when the daemon refuses the name, the target or a label.
    pub async fn put(&self, name: &str, target: &Descriptor, labels: &Labels) -> Result<Image> {
        // Someone may delete it between the two calls; a second round settles all but an endless fight.
        for _ in 0..3 {
            match self.create(name, target, labels).await {
                Err(error) if error.is_already_exists() => {}
                other => return other,
            }
            match self.retarget(name, target, labels).await {
                Err(error) if error.is_not_found() => {}
                other => return other,
            }
        }
        self.create(name, target, labels).await
    }

    /// Deletes a record; with a target, only while it points there (containerd 1.7 and later, older ones ignore that).
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none, or it points elsewhere.
    pub async fn delete(&self, name: &str, target: Option<&Descriptor>, deletion: Deletion) -> Result<()> {
        let request = DeleteImageRequest {
            name: name.to_owned(),
            sync: deletion == Deletion::Synchronous,
            target: target.map(wire::to_descriptor),
        };
        self.rpc().delete(request).await.map_err(failed("delete image", name))?;
        Ok(())
    }

    async fn update(&self, action: &'static str, image: wire_v1::Image, mask: prost_types::FieldMask) -> Result<Image> {
        let name = image.name.clone();
        let request = UpdateImageRequest { image: Some(image), update_mask: Some(mask), source_date_epoch: None };
        let answer = self.rpc().update(request).await;
        let image = answer.map_err(failed(action, &name))?.into_inner().image;
        Ok(Image::from_wire(wire::required(image, action, &name)?)?)
    }
}

impl Image {
    fn from_wire(image: wire_v1::Image) -> Result<Self, oci::Error> {
        Ok(Self {
            target: wire::descriptor(image.target.unwrap_or_default())?,
            name: image.name,
            labels: wire::labels(image.labels),
            created_at: wire::time(image.created_at),
            updated_at: wire::time(image.updated_at),
        })
    }

    fn readable(image: wire_v1::Image) -> Option<Self> {
        let name = image.name.clone();
        Self::from_wire(image).inspect_err(|error| tracing::warn!(%name, %error, "image record left out")).ok()
    }

    fn to_wire(name: &str, target: &Descriptor, labels: &Labels) -> wire_v1::Image {
        wire_v1::Image {
            name: name.to_owned(),
            labels: wire::to_labels(labels),
            target: Some(wire::to_descriptor(target)),
            ..Default::default()
        }
    }
}
