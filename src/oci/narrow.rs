//! An index that lists less: the same document without some of its entries.

use bytes::Bytes;
use serde_json::Value;

use super::{Descriptor, Digest};

/// What becomes of an entry of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It stays as it is.
    Keep,
    /// It goes.
    Drop,
    /// It points to another document, and else says what it said.
    Replace(Digest, u64),
}

/// Returns an index's document with changed entries, or `None` when all of them stay.
///
/// Whatever else the document says stays, in its order: the media type, annotations, the subject and members that nobody
/// knows. Equal documents and choices make equal bytes, so a second copy finds what the first one made.
#[must_use]
pub fn narrow(document: &[u8], choose: impl Fn(&Digest) -> Entry) -> Option<Bytes> {
    let mut document: Value = serde_json::from_slice(document).ok()?;
    let entries = document.get_mut("manifests")?.as_array_mut()?;
    let mut changed = false;
    entries.retain_mut(|entry| {
        let digest = entry.get("digest").and_then(Value::as_str).and_then(|text| text.parse().ok());
        match digest.map_or(Entry::Keep, |digest| choose(&digest)) {
            Entry::Keep => true,
            Entry::Drop => {
                changed = true;
                false
            }
            Entry::Replace(digest, size) => {
                changed = true;
                if let Some(entry) = entry.as_object_mut() {
                    entry.insert("digest".into(), digest.to_string().into());
                    entry.insert("size".into(), size.into());
                    // The old document, where it stood in the entry itself.
                    entry.shift_remove("data");
                }
                true
            }
        }
    });
    // Cannot fail: all keys are strings.
    changed.then(|| serde_json::to_vec(&document).unwrap_or_default().into())
}

/// Returns the descriptor of a changed document.
#[must_use]
pub fn described(old: &Descriptor, bytes: &[u8]) -> Descriptor {
    Descriptor { digest: Digest::sha256(bytes), size: bytes.len() as u64, data: None, ..old.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_keeps_its_order_and_all_that_it_says() {
        let digest = |text: &str| Digest::sha256(text.as_bytes());
        let entry = |name: &str| format!(r#"{{"size":{},"digest":"{}","odd":true}}"#, name.len(), digest(name));
        let index = |entries: &[String]| {
            format!(r#"{{"mediaType":"m","z":1,"manifests":[{}],"annotations":{{"a":"b"}}}}"#, entries.join(","))
        };
        let whole = index(&[entry("c"), entry("a"), entry("b")]);
        let without = |gone: &str| {
            let gone = digest(gone);
            narrow(whole.as_bytes(), |digest| if *digest == gone { Entry::Drop } else { Entry::Keep })
        };
        assert_eq!(without("a").unwrap(), index(&[entry("c"), entry("b")]));
        assert_eq!(without("none"), None);
        let moved = narrow(whole.as_bytes(), |old| match *old == digest("a") {
            true => Entry::Replace(digest("new"), 3),
            false => Entry::Drop,
        });
        assert_eq!(moved.unwrap(), index(&[entry("new")]));
    }
}
