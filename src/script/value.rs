//! The types that arguments and results of the script surface can have.

use std::any::TypeId;
use std::time::Duration;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map};

use crate::script::call::Call;
use crate::script::error::{Error, Result};
use crate::script::object::Object;
use crate::script::options::Options;
use crate::script::units;

/// The types of a function.
#[derive(Debug, Clone)]
pub struct Signature {
    /// The parameters, the receiver of a method first.
    pub params: Vec<ParamType>,
    /// The result.
    pub returns: &'static str,
    /// What the items of the result are, when it is an array.
    pub item: Option<&'static str>,
}

/// The type of one parameter.
#[derive(Debug, Clone, Copy)]
pub struct ParamType {
    /// As the reference shows it.
    pub ty: &'static str,
    /// Whether it can be left out.
    pub optional: bool,
    /// Whether it is the option map.
    pub options: bool,
    /// What Rhai dispatches on when it is a receiver.
    pub id: TypeId,
}

/// Where an argument stands, for messages.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    /// The call.
    pub call: &'a Call<'a>,
    /// The parameter's name.
    pub name: &'static str,
}

impl Slot<'_> {
    /// Says that the argument has the wrong type.
    #[must_use]
    pub fn wrong(&self, wanted: &str, value: &Dynamic) -> Error {
        self.call.argument(self.name, format!("must be {wanted}, not {}", shown_type(self.call, value)))
    }

    /// Says that the argument has a value that cannot be used.
    #[must_use]
    pub fn bad(&self, problem: impl Into<String>) -> Error {
        self.call.argument(self.name, problem)
    }
}

/// Returns what a script calls the type of a value.
pub(crate) fn shown_type(call: &Call<'_>, value: &Dynamic) -> String {
    if let Some(object) = call.session().catalog().and_then(|catalog| catalog.object_of(value)) {
        return object.name.to_owned();
    }
    match value.type_name() {
        "()" => "nothing".into(),
        "i64" => "an integer".into(),
        "f64" => "a float".into(),
        "string" => "a string".into(),
        "bool" => "a bool".into(),
        "array" => "an array".into(),
        "map" => "a map".into(),
        "Fn" => "a function".into(),
        other => other.rsplit("::").next().unwrap_or(other).to_owned(),
    }
}

/// A type that a parameter can have.
pub trait Arg: Sized {
    /// As the reference shows it.
    const TYPE: &'static str;
    /// Whether it can be left out, when it stands last.
    const OPTIONAL: bool = false;
    /// Whether it is the option map.
    const OPTIONS: bool = false;

    /// Returns what Rhai dispatches on when this is a receiver.
    #[must_use]
    fn id() -> TypeId {
        TypeId::of::<Dynamic>()
    }

    /// Takes the argument.
    ///
    /// # Errors
    /// When it has the wrong type or a value that cannot be used.
    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self>;
}

/// A type that a result can have.
pub trait Ret {
    /// As the reference shows it.
    const TYPE: &'static str;
    /// What its items are, when it is an array.
    const ITEM: Option<&'static str> = None;

    /// Gives it to the script.
    fn give(self) -> Dynamic;
}

/// A Rust function that can stand behind a [`Spec`](crate::script::catalog::Spec).
pub trait Handler<A>: Send + Sync + 'static {
    /// Returns the types.
    fn signature() -> Signature;

    /// Takes the arguments, calls, and gives the result.
    ///
    /// # Errors
    /// What taking the arguments or the call failed with.
    fn invoke(&self, call: &Call<'_>, args: &mut [&mut Dynamic]) -> Result<Dynamic>;
}

macro_rules! handlers {
    ($($arg:ident)*) => {
        impl<F, R, $($arg),*> Handler<($($arg,)*)> for F
        where
            F: for<'a, 'c> Fn(&'a Call<'c> $(, $arg)*) -> Result<R> + Send + Sync + 'static,
            R: Ret,
            $($arg: Arg,)*
        {
            fn signature() -> Signature {
                Signature {
                    params: vec![$(ParamType {
                        ty: $arg::TYPE, optional: $arg::OPTIONAL, options: $arg::OPTIONS, id: $arg::id(),
                    }),*],
                    returns: R::TYPE,
                    item: R::ITEM,
                }
            }

            #[allow(non_snake_case, unused_variables, unused_mut, unused_assignments)]
            fn invoke(&self, call: &Call<'_>, args: &mut [&mut Dynamic]) -> Result<Dynamic> {
                let method = usize::from(call.spec().on == super::catalog::On::Method);
                let mut index = 0_usize;
                $(
                    let name = if index < method {
                        "this"
                    } else if $arg::OPTIONS {
                        "options"
                    } else {
                        call.spec().params.get(index - method).map_or("argument", |param| param.name)
                    };
                    let value = args.get_mut(index).map(|value| value.flatten_clone());
                    let $arg = $arg::take(value, Slot { call, name })?;
                    index += 1;
                )*
                Ok(self(call $(, $arg)*)?.give())
            }
        }
    };
}

handlers!();
handlers!(A1);
handlers!(A1 A2);
handlers!(A1 A2 A3);
handlers!(A1 A2 A3 A4);

/// Takes an argument that has to be there.
fn there(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Dynamic> {
    value.ok_or_else(|| slot.bad("is missing"))
}

impl Arg for String {
    const TYPE: &'static str = "string";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        match value.read_lock::<ImmutableString>() {
            Some(text) => Ok(text.to_string()),
            None => Err(slot.wrong("a string", &value)),
        }
    }
}

impl Arg for i64 {
    const TYPE: &'static str = "int";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        value.as_int().map_err(|_| slot.wrong("an integer", &value))
    }
}

impl Arg for bool {
    const TYPE: &'static str = "bool";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        value.as_bool().map_err(|_| slot.wrong("true or false", &value))
    }
}

impl Arg for Dynamic {
    const TYPE: &'static str = "any";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        there(value, slot)
    }
}

impl Arg for Map {
    const TYPE: &'static str = "map";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        match value.read_lock::<Map>() {
            Some(map) => Ok(map.clone()),
            None => Err(slot.wrong("a map", &value)),
        }
    }
}

impl Arg for Array {
    const TYPE: &'static str = "array";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        match value.read_lock::<Array>() {
            Some(array) => Ok(array.clone()),
            None => Err(slot.wrong("an array", &value)),
        }
    }
}

impl Arg for FnPtr {
    const TYPE: &'static str = "closure";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        match value.read_lock::<FnPtr>() {
            Some(closure) => Ok(closure.clone()),
            None => Err(slot.wrong("a closure like |x| …", &value)),
        }
    }
}

impl Arg for Vec<String> {
    const TYPE: &'static str = "array of strings";

    /// Also takes one string, and splits nothing: a command line is an array, as containerd has it.
    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        if let Some(text) = value.read_lock::<ImmutableString>() {
            return Ok(vec![text.to_string()]);
        }
        let Some(array) = value.read_lock::<Array>().map(|array| array.clone()) else {
            return Err(slot.wrong("a string or an array of strings", &value));
        };
        array.into_iter().map(|item| Self::item(item, slot)).collect()
    }
}

trait Item {
    fn item(item: Dynamic, slot: Slot<'_>) -> Result<String>;
}

impl Item for Vec<String> {
    fn item(item: Dynamic, slot: Slot<'_>) -> Result<String> {
        match item.read_lock::<ImmutableString>() {
            Some(text) => Ok(text.to_string()),
            None => Err(slot.wrong("an array of strings", &item)),
        }
    }
}

impl Arg for Duration {
    const TYPE: &'static str = "duration";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        if let Ok(seconds) = value.as_int() {
            return u64::try_from(seconds).map(Self::from_secs).map_err(|_| slot.bad("is negative"));
        }
        if let Ok(seconds) = value.as_float() {
            return Self::try_from_secs_f64(seconds).map_err(|_| slot.bad("is not a duration"));
        }
        match value.read_lock::<ImmutableString>() {
            Some(text) => units::duration(&text).map_err(|problem| slot.bad(format!("'{}' {problem}", &*text))),
            None => Err(slot.wrong("a duration like \"10s\" or seconds", &value)),
        }
    }
}

/// A number of bytes, given as an integer or as text like `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Arg for Size {
    const TYPE: &'static str = "size";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        if let Ok(bytes) = value.as_int() {
            return u64::try_from(bytes).map(Self).map_err(|_| slot.bad("is negative"));
        }
        match value.read_lock::<ImmutableString>() {
            Some(text) => units::size(&text).map(Self).map_err(|problem| slot.bad(format!("'{}' {problem}", &*text))),
            None => Err(slot.wrong("a size like \"64MiB\" or bytes", &value)),
        }
    }
}

/// Something given by its name or as the object itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub String);

impl Arg for Name {
    const TYPE: &'static str = "string or object";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        if let Some(text) = value.read_lock::<ImmutableString>() {
            return Ok(Self(text.to_string()));
        }
        let named = slot.call.session().catalog().and_then(|catalog| catalog.object_of(&value)?.name_of(&value));
        named.map(Self).ok_or_else(|| slot.wrong("a name or an object that has one", &value))
    }
}

/// Several things, each given by name or as the object; one alone needs no array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameList(pub Vec<String>);

impl Arg for NameList {
    const TYPE: &'static str = "string, object, or an array of them";

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        let items = value.read_lock::<Array>().map(|array| array.clone());
        match items {
            Some(items) => items
                .into_iter()
                .map(|item| Name::take(Some(item), slot).map(|name| name.0))
                .collect::<Result<_>>()
                .map(Self),
            None => Name::take(Some(value), slot).map(|name| Self(vec![name.0])),
        }
    }
}

impl<T: Arg> Arg for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const OPTIONAL: bool = true;

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        match value {
            Some(value) if !value.is_unit() => T::take(Some(value), slot).map(Some),
            _ => Ok(None),
        }
    }
}

impl Arg for Options {
    const TYPE: &'static str = "map";
    const OPTIONAL: bool = true;
    const OPTIONS: bool = true;

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let map = match value {
            None => Map::new(),
            Some(value) => Map::take(Some(value), slot)?,
        };
        Self::new(slot.call.spec(), map)
    }
}

impl<T: Object> Arg for T {
    const TYPE: &'static str = T::TYPE;

    fn id() -> TypeId {
        TypeId::of::<T>()
    }

    fn take(value: Option<Dynamic>, slot: Slot<'_>) -> Result<Self> {
        let value = there(value, slot)?;
        match value.read_lock::<T>() {
            Some(object) => Ok(object.clone()),
            None => Err(slot.wrong(&format!("a {}", T::TYPE), &value)),
        }
    }
}

impl Ret for () {
    const TYPE: &'static str = "()";

    fn give(self) -> Dynamic {
        Dynamic::UNIT
    }
}

macro_rules! plain {
    ($($ty:ty => $name:literal),*) => { $(
        impl Ret for $ty {
            const TYPE: &'static str = $name;

            fn give(self) -> Dynamic {
                Dynamic::from(self)
            }
        }
    )* };
}

plain!(bool => "bool", i64 => "int", f64 => "float", Map => "map", FnPtr => "closure");

impl Ret for String {
    const TYPE: &'static str = "string";

    fn give(self) -> Dynamic {
        self.into()
    }
}

/// Bytes, as Rhai's blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary(pub bytes::Bytes);

impl Ret for Binary {
    const TYPE: &'static str = "blob";

    fn give(self) -> Dynamic {
        Dynamic::from_blob(self.0.into())
    }
}

impl Ret for u64 {
    const TYPE: &'static str = "int";

    fn give(self) -> Dynamic {
        i64::try_from(self).unwrap_or(i64::MAX).into()
    }
}

impl Ret for Dynamic {
    const TYPE: &'static str = "any";

    fn give(self) -> Dynamic {
        self
    }
}

impl Ret for serde_json::Value {
    const TYPE: &'static str = "map";

    fn give(self) -> Dynamic {
        super::convert::from_json(self)
    }
}

impl<T: Ret> Ret for Vec<T> {
    const TYPE: &'static str = "array";
    const ITEM: Option<&'static str> = Some(T::TYPE);

    fn give(self) -> Dynamic {
        self.into_iter().map(Ret::give).collect::<Array>().into()
    }
}

impl<T: Ret> Ret for Option<T> {
    const TYPE: &'static str = T::TYPE;

    fn give(self) -> Dynamic {
        self.map_or(Dynamic::UNIT, Ret::give)
    }
}

impl<T: Object> Ret for T {
    const TYPE: &'static str = T::TYPE;

    fn give(self) -> Dynamic {
        Dynamic::from(self)
    }
}
