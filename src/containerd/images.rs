//! Image records: names that point to content.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use containerd_client::services::v1 as wire_v1;
use wire_v1::images_client::ImagesClient;
use wire_v1::{CreateImageRequest, DeleteImageRequest, GetImageRequest, ListImagesRequest, UpdateImageRequest};

use super::error::{Fault, failed};
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

/// How many digits of a digest tell parts of a list from each other at most: beyond that, they are names of one image.
const LONGEST_ENDING: usize = 4;

/// Returns the endings that are one hexadecimal digit longer.
fn longer(ending: &str) -> impl Iterator<Item = String> {
    "0123456789abcdef".chars().map(move |digit| format!("{digit}{ending}"))
}

/// Narrows filters to the records whose targets' digests end so.
fn part(filters: &[String], ending: &str) -> Vec<String> {
    let ends = format!("target.digest~=\"{ending}$\"");
    let narrowed = filters.iter().map(|filter| filter.trim()).filter(|filter| !filter.is_empty());
    let narrowed: Vec<String> = narrowed.map(|filter| format!("{filter},{ends}")).collect();
    // An empty filter fits all, and none are as good as that.
    if narrowed.len() < filters.len() || filters.is_empty() { vec![ends] } else { narrowed }
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
    /// A list that does not fit into one message is asked for in parts, which are not of one moment. A record whose target
    /// has a digest of an unknown algorithm is left out and logged: nothing could be done with it.
    ///
    /// # Errors
    /// Fails when the daemon refuses a filter.
    pub async fn list(&self, filters: &[String]) -> Result<Vec<Image>> {
        match self.list_once(filters.to_vec()).await {
            Err(error) if error.fault() == Some(Fault::TooLarge) => self.list_in_parts(filters).await,
            other => other,
        }
    }

    async fn list_once(&self, filters: Vec<String>) -> Result<Vec<Image>> {
        let answer = self.rpc().list(ListImagesRequest { filters }).await;
        let images = answer.map_err(failed("list images of", self.0.namespace()))?.into_inner().images;
        Ok(images.into_iter().filter_map(Image::readable).collect())
    }

    /// Lists by the last digits of the targets' digests, as many as it takes.
    async fn list_in_parts(&self, filters: &[String]) -> Result<Vec<Image>> {
        // By name: what is retargeted meanwhile may be seen twice.
        let mut found = BTreeMap::new();
        let mut endings: Vec<String> = longer("").collect();
        while let Some(ending) = endings.pop() {
            match self.list_once(part(filters, &ending)).await {
                Ok(images) => found.extend(images.into_iter().map(|image| (image.name.clone(), image))),
                Err(error) if error.fault() == Some(Fault::TooLarge) && ending.len() < LONGEST_ENDING => {
                    endings.extend(longer(&ending));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found.into_values().collect())
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

    /// Puts these labels in place of all that a record has.
    ///
    /// # Errors
    /// [`Error::is_not_found`](super::Error::is_not_found) when there is none.
    pub async fn replace_labels(&self, name: &str, labels: &Labels) -> Result<Image> {
        let image = wire_v1::Image { name: name.to_owned(), labels: wire::to_labels(labels), ..Default::default() };
        self.update("label image", image, prost_types::FieldMask { paths: vec!["labels".to_owned()] }).await
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
        // A mask without it leaves it alone; without one containerd 1.7 and 2.x crash all the same
        // (services/images/helpers.go, descFromProto).
        let image = wire_v1::Image { target: image.target.or_else(|| Some(Default::default())), ..image };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_narrowed_by_the_end_of_the_digest() {
        let ends = "target.digest~=\"0f$\"";
        let filters = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(part(&[], "0f"), [ends]);
        assert_eq!(part(&filters(&["name~=a", ""]), "0f"), [ends]);
        let narrowed = part(&filters(&["name~=a,labels.b==c", "name==d"]), "0f");
        assert_eq!(narrowed, [format!("name~=a,labels.b==c,{ends}"), format!("name==d,{ends}")]);
        let endings: Vec<String> = longer("f").collect();
        assert_eq!((endings.len(), &*endings[0], &*endings[15]), (16, "0f", "ff"));
    }
}
