//! The keys by which a terminal is left.

use std::str::FromStr;

use crate::ops::Error;

/// What leaves a terminal unless told otherwise, as in docker and nerdctl.
pub const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// A sequence of keys that leaves a terminal while its process runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// Returns Ctrl-P Ctrl-Q.
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    /// Reads single characters and `ctrl-` with a letter or one of `@[\]^_`, with commas between them; nothing means no keys.
    fn from_str(text: &str) -> Result<Self, Error> {
        let key = |part: &str| match (part.strip_prefix("ctrl-").map(str::as_bytes), part.as_bytes()) {
            (Some([letter @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'['..=b'_')]), _) => Some(letter & 0x1f),
            (None, [character @ 0x20..=0x7e]) => Some(*character),
            _ => None,
        };
        let parts = text.split(',').filter(|_| !text.is_empty());
        parts.map(key).collect::<Option<_>>().map(Self).ok_or_else(|| Error::Argument {
            name: format!("detach_keys '{}'", crate::oci::excerpt(text)),
            problem: "are not keys".to_owned(),
            cure: Some(format!("give them like \"{DETACH_KEYS}\", or \"\" for none")),
        })
    }
}

impl DetachKeys {
    /// Returns the key that completes them; none when there are no keys.
    #[must_use]
    pub fn last(&self) -> Option<u8> {
        self.0.last().copied()
    }

    /// Begins to look for them in what is typed.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch { keys: self.0.clone(), seen: 0 }
    }
}

/// How much of the keys was typed so far.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    seen: usize,
}

impl Watch {
    /// Takes what was typed; returns what goes on to the process, and whether the keys were complete. What could be their
    /// beginning is held back until the next key tells.
    pub fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.is_empty() {
                passed.push(*byte);
                continue;
            }
            if self.keys[self.seen] != *byte && self.seen > 0 {
                passed.extend_from_slice(&self.keys[..self.seen]);
                self.seen = 0;
            }
            if self.keys[self.seen] == *byte {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    self.seen = 0;
                    return (passed, true);
                }
            } else {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        let keys = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0);
        assert_eq!(keys(DETACH_KEYS).unwrap(), DetachKeys::default().0);
        assert_eq!(keys("a,ctrl-A,ctrl-[").unwrap(), [b'a', 1, 0x1b]);
        assert_eq!(keys("").unwrap(), [0; 0]);
        for text in ["ctrl-", "ctrl-1", "ab", ",", "a,", "ctrl-pq", "é"] {
            assert!(keys(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_could_be_the_keys_is_held_back() {
        let mut watch = DetachKeys::default().watch();
        assert_eq!(watch.take(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(watch.take(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(watch.take(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(watch.take(b"\x11 lost"), (Vec::new(), true));
        let mut never = "".parse::<DetachKeys>().unwrap().watch();
        assert_eq!(never.take(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
