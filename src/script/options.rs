//! The trailing option map of a function.

use std::collections::BTreeMap;
use std::time::Duration;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map};

use crate::ops::error::nearest;
use crate::script::catalog::Spec;
use crate::script::error::{Error, Result};
use crate::script::units;

/// The options of one call, all of whose keys are known to the function.
#[derive(Debug, Clone)]
pub struct Options {
    spec: &'static Spec,
    map: Map,
}

impl Options {
    /// Checks the keys.
    ///
    /// # Errors
    /// [`Error::UnknownOption`] with the nearest known key.
    pub fn new(spec: &'static Spec, map: Map) -> Result<Self> {
        let known: Vec<&'static str> = spec.options.iter().map(|option| option.key).collect();
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(Error::UnknownOption {
                function: spec.name,
                key: key.to_string(),
                nearest: nearest(key, known.iter().copied()),
                known,
            });
        }
        Ok(Self { spec, map })
    }

    /// Takes an optional argument that stands before the options: a map in its place is the options, and the argument was left
    /// out.
    ///
    /// # Errors
    /// As [`Options::new`], or when there are two maps.
    pub fn or_argument(self, argument: Option<Dynamic>) -> Result<(Option<Dynamic>, Self)> {
        let map = argument.as_ref().and_then(|value| value.read_lock::<Map>().map(|map| map.clone()));
        match map {
            None => Ok((argument, self)),
            Some(map) if self.map.is_empty() => Ok((None, Self::new(self.spec, map)?)),
            Some(_) => Err(Error::Argument {
                function: self.spec.name,
                argument: "options".into(),
                problem: "come only once, as the last argument".into(),
            }),
        }
    }

    fn value(&self, key: &'static str) -> Option<Dynamic> {
        debug_assert!(
            self.spec.options.iter().any(|o| o.key == key),
            "{}: option {key} is not declared",
            self.spec.name
        );
        self.map.get(key).map(Dynamic::flatten_clone).filter(|value| !value.is_unit())
    }

    /// Returns whether the function takes an option.
    #[must_use]
    pub fn declares(&self, key: &str) -> bool {
        self.spec.options.iter().any(|option| option.key == key)
    }

    /// Says that an option has a value that cannot be used.
    #[must_use]
    pub fn bad(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::Argument { function: self.spec.name, argument: format!("option '{key}'"), problem: problem.into() }
    }

    fn wrong(&self, key: &str, wanted: &str, value: &Dynamic) -> Error {
        self.bad(key, format!("must be {wanted}, not {}", value.type_name()))
    }

    /// Leaves options out that were read already.
    pub fn forget(&mut self, keys: &[&'static str]) {
        self.map.retain(|key, _| !keys.contains(&key.as_str()));
    }

    /// Returns whether an option was given, be it as `()`.
    #[must_use]
    pub fn given(&self, key: &'static str) -> bool {
        self.map.contains_key(key)
    }

    /// Takes any value.
    #[must_use]
    pub fn any(&self, key: &'static str) -> Option<Dynamic> {
        self.value(key)
    }

    /// Takes a string.
    ///
    /// # Errors
    /// When it is something else.
    pub fn string(&self, key: &'static str) -> Result<Option<String>> {
        self.value(key)
            .map(|value| match value.read_lock::<ImmutableString>() {
                Some(text) => Ok(text.to_string()),
                None => Err(self.wrong(key, "a string", &value)),
            })
            .transpose()
    }

    /// Takes a bool; absent is false.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, key: &'static str) -> Result<bool> {
        self.value(key).map_or(Ok(false), |value| value.as_bool().map_err(|_| self.wrong(key, "true or false", &value)))
    }

    /// Takes a bool that may be absent.
    ///
    /// # Errors
    /// When it is something else.
    pub fn bool(&self, key: &'static str) -> Result<Option<bool>> {
        self.value(key).map(|value| value.as_bool().map_err(|_| self.wrong(key, "true or false", &value))).transpose()
    }

    /// Takes an integer.
    ///
    /// # Errors
    /// When it is something else.
    pub fn int(&self, key: &'static str) -> Result<Option<i64>> {
        self.value(key).map(|value| value.as_int().map_err(|_| self.wrong(key, "an integer", &value))).transpose()
    }

    /// Takes a number that is not negative and fits a `usize`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn count(&self, key: &'static str) -> Result<Option<usize>> {
        self.int(key)?
            .map(|number| usize::try_from(number).map_err(|_| self.bad(key, format!("{number} is negative"))))
            .transpose()
    }

    /// Takes a float, or an integer as one.
    ///
    /// # Errors
    /// When it is something else.
    pub fn float(&self, key: &'static str) -> Result<Option<f64>> {
        self.value(key)
            .map(|value| {
                #[expect(clippy::cast_precision_loss, reason = "numbers of CPUs and the like are small")]
                let integer = value.as_int().map(|number| number as f64);
                value.as_float().or(integer).map_err(|_| self.wrong(key, "a number", &value))
            })
            .transpose()
    }

    /// Takes a duration: text like `10s`, or seconds.
    ///
    /// # Errors
    /// When it is something else.
    pub fn duration(&self, key: &'static str) -> Result<Option<Duration>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        if let Ok(Some(seconds)) = self.float(key) {
            return Duration::try_from_secs_f64(seconds)
                .map(Some)
                .map_err(|_| self.bad(key, format!("{seconds} is not a duration")));
        }
        match value.read_lock::<ImmutableString>() {
            Some(text) => {
                units::duration(&text).map(Some).map_err(|problem| self.bad(key, format!("'{}' {problem}", &*text)))
            }
            None => Err(self.wrong(key, "a duration like \"10s\" or seconds", &value)),
        }
    }

    /// Takes a size: text like `64MiB`, or bytes.
    ///
    /// # Errors
    /// When it is something else.
    pub fn size(&self, key: &'static str) -> Result<Option<u64>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        if let Ok(bytes) = value.as_int() {
            return u64::try_from(bytes).map(Some).map_err(|_| self.bad(key, format!("{bytes} is negative")));
        }
        match value.read_lock::<ImmutableString>() {
            Some(text) => {
                units::size(&text).map(Some).map_err(|problem| self.bad(key, format!("'{}' {problem}", &*text)))
            }
            None => Err(self.wrong(key, "a size like \"64MiB\" or bytes", &value)),
        }
    }

    /// Takes strings: an array, or one alone.
    ///
    /// # Errors
    /// When it is something else.
    pub fn strings(&self, key: &'static str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        if let Some(text) = value.read_lock::<ImmutableString>() {
            return Ok(Some(vec![text.to_string()]));
        }
        let Some(array) = value.read_lock::<Array>().map(|array| array.clone()) else {
            return Err(self.wrong(key, "a string or an array of strings", &value));
        };
        let text = |item: Dynamic| match item.read_lock::<ImmutableString>() {
            Some(text) => Ok(text.to_string()),
            None => Err(self.wrong(key, "an array of strings", &item)),
        };
        array.into_iter().map(text).collect::<Result<_>>().map(Some)
    }

    /// Takes pairs: a map of strings, or an array of `NAME=value`.
    ///
    /// A value of `()` and an entry without `=` mean that the name is to be removed.
    ///
    /// # Errors
    /// When it is something else.
    pub fn pairs(&self, key: &'static str) -> Result<Option<BTreeMap<String, Option<String>>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        if let Some(map) = value.read_lock::<Map>().map(|map| map.clone()) {
            let pair = |(name, value): (rhai::Identifier, Dynamic)| {
                let value = value.flatten();
                let text = match value.read_lock::<ImmutableString>() {
                    Some(text) => Some(text.to_string()),
                    None if value.is_unit() => None,
                    None if value.is_int() || value.is_bool() || value.is_float() => Some(value.to_string()),
                    None => return Err(self.wrong(key, "a map of strings", &value)),
                };
                Ok((name.to_string(), text))
            };
            return map.into_iter().map(pair).collect::<Result<_>>().map(Some);
        }
        let list = self.strings(key).map_err(|_| self.wrong(key, "a map or an array of NAME=value", &value))?;
        Ok(list.map(|list| {
            list.into_iter()
                .map(|entry| match entry.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (entry, None),
                })
                .collect()
        }))
    }

    /// Takes a closure.
    ///
    /// # Errors
    /// When it is something else.
    pub fn closure(&self, key: &'static str) -> Result<Option<FnPtr>> {
        self.value(key)
            .map(|value| match value.read_lock::<FnPtr>() {
                Some(closure) => Ok(closure.clone()),
                None => Err(self.wrong(key, "a closure", &value)),
            })
            .transpose()
    }
}

/// Reads a map of strings that is an argument of its own, such as labels: `()` becomes the empty text.
///
/// # Errors
/// When a value is not a string.
pub(crate) fn pairs_of(call: &crate::script::call::Call<'_>, name: &str, map: Map) -> Result<BTreeMap<String, String>> {
    let text = |(key, value): (rhai::Identifier, Dynamic)| {
        let value = value.flatten();
        let text = match value.read_lock::<ImmutableString>() {
            Some(text) => text.to_string(),
            None if value.is_unit() => String::new(),
            None if value.is_int() || value.is_bool() || value.is_float() => value.to_string(),
            None => {
                return Err(call.argument(name, format!("has a value for '{key}' that is not a string")));
            }
        };
        Ok((key.to_string(), text))
    };
    map.into_iter().map(text).collect()
}
