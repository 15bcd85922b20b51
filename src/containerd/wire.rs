//! Between the protocol's types and this crate's.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use containerd_client::types;
use prost_types::{FieldMask, Timestamp};

use super::Result;
use super::error::Error;
use crate::oci::{self, Descriptor, MediaType};

/// Labels of a resource.
pub type Labels = BTreeMap<String, String>;

/// Reads a timestamp. One that is missing is Go's zero, the first instant of year 1, which the daemon also writes out.
pub(crate) fn time(timestamp: Option<Timestamp>) -> DateTime<Utc> {
    timestamp
        .and_then(|t| DateTime::from_timestamp(t.seconds, u32::try_from(t.nanos).ok()?))
        .unwrap_or_else(|| DateTime::from_timestamp(GO_ZERO, 0).unwrap_or_default())
}

/// Writes a time as Go does in JSON: RFC 3339, without the zeros at its end.
pub(crate) fn as_go(at: DateTime<Utc>) -> String {
    let fraction = format!(".{:09}", at.timestamp_subsec_nanos());
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{}{fraction}Z", at.format("%Y-%m-%dT%H:%M:%S"))
}

const GO_ZERO: i64 = -62_135_596_800;

pub(crate) fn labels(labels: HashMap<String, String>) -> Labels {
    labels.into_iter().collect()
}

pub(crate) fn to_labels(labels: &Labels) -> HashMap<String, String> {
    labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Makes the mask that lets an update touch these labels and nothing else.
pub(crate) fn label_mask<'a>(keys: impl IntoIterator<Item = &'a String>) -> FieldMask {
    FieldMask { paths: keys.into_iter().map(|key| format!("labels.{key}")).collect() }
}

pub(crate) fn descriptor(wire: types::Descriptor) -> Result<Descriptor, oci::Error> {
    let digest = wire.digest.parse()?;
    let mut descriptor = Descriptor::new(MediaType::parse(&wire.media_type), digest, size(wire.size));
    descriptor.annotations = labels(wire.annotations);
    Ok(descriptor)
}

pub(crate) fn to_descriptor(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.as_str().to_owned(),
        digest: descriptor.digest.to_string(),
        size: to_size(descriptor.size),
        annotations: to_labels(&descriptor.annotations),
    }
}

pub(crate) fn size(wire: i64) -> u64 {
    u64::try_from(wire).unwrap_or_default()
}

pub(crate) fn to_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Takes what an answer must have.
pub(crate) fn required<T>(part: Option<T>, action: &'static str, subject: &str) -> Result<T> {
    part.ok_or_else(|| Error::Answer { action, subject: oci::excerpt(subject), reason: "it is empty".to_owned() })
}

#[cfg(test)]
mod tests {
    use chrono::Datelike;

    use super::*;

    #[test]
    fn the_zero_time_of_go_is_year_one() {
        let zero = time(Some(Timestamp { seconds: GO_ZERO, nanos: 0 }));
        assert_eq!((zero.year(), zero.month(), zero.day()), (1, 1, 1));
        assert_eq!(time(None), zero);
        assert_eq!(time(Some(Timestamp { seconds: 0, nanos: -1 })), zero);
    }
}
