//! How the world would look after the changes that a dry run only planned.
//!
//! A dry script pulls an image, then tags it, then starts a container from it. None of that happens, yet each step has to
//! find what the one before would have left. Verbs add [`Effect`]s to their plans; reads ask the overlay first.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

type Value = Arc<dyn Any + Send + Sync>;

/// One thing that would exist, or would be gone.
#[derive(Clone)]
pub struct Effect {
    key: Key,
    value: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: TypeId,
    place: String,
    name: String,
}

impl Effect {
    /// Says that the thing would exist. `place` is where: [`crate::ops::Context::place_name`].
    pub fn exists<T: Any + Send + Sync>(place: &str, name: &str, value: T) -> Self {
        Self { key: Key::of::<T>(place, name), value: Some(Arc::new(value)) }
    }

    /// Says that the thing would be gone.
    #[must_use]
    pub fn gone<T: Any>(place: &str, name: &str) -> Self {
        Self { key: Key::of::<T>(place, name), value: None }
    }
}

impl Key {
    fn of<T: Any>(place: &str, name: &str) -> Self {
        Self { kind: TypeId::of::<T>(), place: place.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.value.is_some() { "exists" } else { "gone" }, self.key.name)
    }
}

/// What the overlay knows of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// Nothing: ask the daemon.
    Unknown,
    /// It would be gone.
    Gone,
    /// It would look like this.
    As(T),
}

/// The effects of a dry run so far.
#[derive(Debug, Default)]
pub struct Overlay(Mutex<BTreeMap<Key, Effect>>);

impl Overlay {
    /// Adds effects, the later ones winning.
    pub fn record(&self, effects: Vec<Effect>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(effects.into_iter().map(|effect| (effect.key.clone(), effect)));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Looks one thing up.
    #[must_use]
    pub fn get<T: Any + Clone + Send + Sync>(&self, place: &str, name: &str) -> Seen<T> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&Key::of::<T>(place, name)) {
            None => Seen::Unknown,
            Some(Effect { value: None, .. }) => Seen::Gone,
            Some(Effect { value: Some(value), .. }) => {
                value.downcast_ref::<T>().map_or(Seen::Unknown, |value| Seen::As(value.clone()))
            }
        }
    }

    /// Applies what is known to a list that came from the daemon.
    pub fn amend<T: Any + Clone + Send + Sync>(&self, place: &str, list: &mut Vec<T>, name: impl Fn(&T) -> &str) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return;
        }
        let here = known.iter().filter(|(key, _)| key.kind == TypeId::of::<T>() && key.place == place);
        for (key, effect) in here {
            list.retain(|item| name(item) != key.name);
            if let Some(value) = effect.value.as_ref().and_then(|value| value.downcast_ref::<T>()) {
                list.push(value.clone());
            }
        }
        list.sort_by(|a, b| name(a).cmp(name(b)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_effects_win_and_places_are_apart() {
        let overlay = Overlay::default();
        overlay.record(vec![Effect::exists("a", "x", 1_u32), Effect::exists("a", "y", 2_u32)]);
        overlay.record(vec![Effect::gone::<u32>("a", "x")]);
        assert_eq!(overlay.get::<u32>("a", "x"), Seen::Gone);
        assert_eq!(overlay.get::<u32>("a", "y"), Seen::As(2));
        assert_eq!(overlay.get::<u32>("b", "y"), Seen::Unknown);
        assert_eq!(overlay.get::<u64>("a", "y"), Seen::Unknown);
    }
}
