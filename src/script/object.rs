//! Object types: what a script can ask of a value, from one table a type.

use std::any::TypeId;
use std::sync::Arc;

use rhai::{Dynamic, Engine, FuncRegistration, Module, NativeCallContext, RhaiFunc};

use crate::script::call::Session;
use crate::script::convert;
use crate::script::error::Result;

/// A type of the script surface whose values are objects with properties.
pub trait Object: Clone + Send + Sync + 'static {
    /// The name.
    const TYPE: &'static str;
    /// What it is, in one sentence.
    const DOC: &'static str;
    /// Whether it is shown to people by its text, also where it stands alone and others are shown by their properties.
    const AS_TEXT: bool = false;

    /// Returns the properties, in the order in which they are shown.
    fn fields() -> &'static [Field<Self>];

    /// Returns the name by which other calls can be told of this object, when it has one.
    fn name(&self) -> Option<String> {
        None
    }

    /// Returns what `print` and interpolation show. Without one, the name, else all properties.
    fn text(&self) -> Option<String> {
        self.name()
    }

    /// Fetches at once what the properties of all these would else fetch one after another.
    fn prefetch(_list: &[Self], _session: &Session) {}
}

/// One property.
pub struct Field<T: 'static> {
    /// The name.
    pub name: &'static str,
    /// The type, as the reference shows it.
    pub ty: &'static str,
    /// What it is, in one sentence, with its unit.
    pub doc: &'static str,
    /// How the prompt shows it.
    pub unit: Unit,
    /// Where it is shown.
    pub shown: Shown,
    /// Reads it.
    pub get: fn(&T, &Session) -> Result<Dynamic>,
}

/// How the prompt shows a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As it is.
    Plain,
    /// An integer of bytes, shown in MiB and the like.
    Bytes,
    /// Seconds, shown in the largest fitting unit.
    Seconds,
    /// A timestamp, shown as how long ago in tables.
    Time,
    /// A digest, shortened in tables.
    Digest,
    /// A share of one, shown in percent.
    Percent,
}

/// Where a property is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// In tables, and everywhere else.
    Column,
    /// When the object is shown alone, and in JSON.
    Field,
    /// In JSON and in maps.
    Data,
    /// Only when it is asked for.
    OnDemand,
}

impl<T> Field<T> {
    /// Makes a property that tables show.
    pub const fn column(
        name: &'static str,
        ty: &'static str,
        doc: &'static str,
        get: fn(&T, &Session) -> Result<Dynamic>,
    ) -> Self {
        Self { name, ty, doc, unit: Unit::Plain, shown: Shown::Column, get }
    }

    /// Makes a property that is shown when the object is shown alone.
    #[expect(
        clippy::self_named_constructors,
        reason = "it reads as the tables that use it do: column, field, on_demand"
    )]
    pub const fn field(
        name: &'static str,
        ty: &'static str,
        doc: &'static str,
        get: fn(&T, &Session) -> Result<Dynamic>,
    ) -> Self {
        Self { shown: Shown::Field, ..Self::column(name, ty, doc, get) }
    }

    /// Makes a property that programs see and people have to ask for.
    pub const fn data(
        name: &'static str,
        ty: &'static str,
        doc: &'static str,
        get: fn(&T, &Session) -> Result<Dynamic>,
    ) -> Self {
        Self { shown: Shown::Data, ..Self::column(name, ty, doc, get) }
    }

    /// Makes a property that is shown only when it is asked for.
    pub const fn on_demand(
        name: &'static str,
        ty: &'static str,
        doc: &'static str,
        get: fn(&T, &Session) -> Result<Dynamic>,
    ) -> Self {
        Self { shown: Shown::OnDemand, ..Self::column(name, ty, doc, get) }
    }

    /// Returns the same property shown in this unit.
    #[must_use]
    pub const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }
}

type Getter = Arc<dyn Fn(&Dynamic, &Session) -> Result<Dynamic> + Send + Sync>;
type Text = Arc<dyn Fn(&Dynamic) -> Option<String> + Send + Sync>;
type Prefetch = Arc<dyn Fn(&[Dynamic], &Session) + Send + Sync>;

/// An [`Object`] type without its Rust type.
pub struct ObjectEntry {
    /// The name.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// The properties.
    pub fields: Vec<FieldEntry>,
    /// Whether it is shown to people by its text.
    pub as_text: bool,
    id: TypeId,
    rust_name: &'static str,
    name_of: Text,
    text: Text,
    prefetch: Prefetch,
}

/// A [`Field`] without its Rust type.
pub struct FieldEntry {
    /// The name.
    pub name: &'static str,
    /// The type, as the reference shows it.
    pub ty: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// How it is shown.
    pub unit: Unit,
    /// Where it is shown.
    pub shown: Shown,
    get: Getter,
}

impl FieldEntry {
    /// Reads the property of a value of this type.
    ///
    /// # Errors
    /// What reading it failed with, when it has to ask the daemon.
    pub fn get(&self, value: &Dynamic, session: &Session) -> Result<Dynamic> {
        (self.get)(value, session)
    }
}

impl ObjectEntry {
    pub(crate) fn of<T: Object>() -> Self {
        let fields = T::fields().iter().map(|field| FieldEntry {
            name: field.name,
            ty: field.ty,
            doc: field.doc,
            unit: field.unit,
            shown: field.shown,
            get: Arc::new(|value, session| match value.read_lock::<T>() {
                Some(object) => (field.get)(&object, session),
                None => Ok(Dynamic::UNIT),
            }),
        });
        Self {
            name: T::TYPE,
            doc: T::DOC,
            fields: fields.collect(),
            as_text: T::AS_TEXT,
            id: TypeId::of::<T>(),
            rust_name: std::any::type_name::<T>(),
            name_of: Arc::new(|value| value.read_lock::<T>()?.name()),
            text: Arc::new(|value| value.read_lock::<T>()?.text()),
            prefetch: Arc::new(|values, session| {
                let objects: Vec<T> = values.iter().filter_map(|v| v.read_lock::<T>().map(|v| v.clone())).collect();
                T::prefetch(&objects, session);
            }),
        }
    }

    /// Finds a property.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldEntry> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns the name by which other calls can be told of the value.
    #[must_use]
    pub fn name_of(&self, value: &Dynamic) -> Option<String> {
        (self.name_of)(value)
    }

    /// Fetches at once what the properties of all these would else fetch one after another.
    pub fn prefetch(&self, values: &[Dynamic], session: &Session) {
        (self.prefetch)(values, session);
    }

    /// Returns what `print` shows of a value.
    #[must_use]
    pub fn text(&self, value: &Dynamic, session: &Session) -> String {
        (self.text)(value).unwrap_or_else(|| {
            let shown = self.fields.iter().filter(|field| field.shown < Shown::Data);
            let parts: Vec<String> = shown
                .filter_map(|field| {
                    Some(format!("{}: {}", field.name, convert::inline(&field.get(value, session).ok()?, session)))
                })
                .collect();
            format!("{}({})", self.name, parts.join(", "))
        })
    }

    /// Returns the name that Rust has for the type, as Rhai's messages quote it.
    #[must_use]
    pub fn rust_name(&self) -> &'static str {
        self.rust_name
    }

    pub(crate) fn bind(&self, module: &mut Module, session: &Arc<Session>) {
        bind(self, module, session);
    }

    pub(crate) fn register_type(&self, engine: &mut Engine) {
        engine.register_type_with_name_raw(self.rust_name, self.name);
    }
}

fn bind(entry: &ObjectEntry, module: &mut Module, session: &Arc<Session>) {
    for field in &entry.fields {
        let registration = FuncRegistration::new_getter(field.name);
        let get = Arc::clone(&field.get);
        let session = Arc::clone(session);
        registration.set_into_module_raw(
            module,
            [entry.id],
            method(move |context, args| {
                get(args[0], &session)
                    .map_err(|error| error.raise(context.map_or(rhai::Position::NONE, |c| c.call_position())))
            }),
        );
    }
    for name in ["to_string", "print", "to_debug", "debug"] {
        let text = Arc::clone(&entry.text);
        let session = Arc::clone(session);
        FuncRegistration::new(name).in_global_namespace().set_into_module_raw(
            module,
            [entry.id],
            method(move |_, args| {
                let shown = text(args[0]).or_else(|| {
                    let catalog = session.catalog()?;
                    Some(catalog.object_of(args[0])?.text(args[0], &session))
                });
                Ok(shown.unwrap_or_default().into())
            }),
        );
    }
}

fn method(
    func: impl Fn(
        Option<NativeCallContext<'_>>,
        &mut [&mut Dynamic],
    ) -> std::result::Result<Dynamic, Box<rhai::EvalAltResult>>
    + Send
    + Sync
    + 'static,
) -> RhaiFunc {
    RhaiFunc::Method { func: Arc::new(func), has_context: true, is_pure: true, is_volatile: true }
}
