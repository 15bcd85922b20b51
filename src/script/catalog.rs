//! The catalog: one entry a function, and all that is made from it.
//!
//! A function enters Rhai only through a [`Spec`] literal given to [`Catalog::add`]. Types come from the signature of the
//! Rust function. From the entry come the binding, `help`, completion, the editor definitions, `docs/reference.md`, the
//! test that runs every example and the test that runs every change dry.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Dynamic, Engine, EvalAltResult, FuncRegistration, Module, NativeCallContext, RhaiFunc};

use crate::grant::Access;
use crate::kind::{Failure, Kind, nearest};
use crate::script::call::{Call, Session};
use crate::script::error::Error;
use crate::script::object::{Object, ObjectEntry};
use crate::script::value::{Handler, Signature};
use crate::script::words;

/// One function of the script surface.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The name.
    pub name: &'static str,
    /// How it is called.
    pub on: On,
    /// The parameters, the receiver of a method left out, the options left out.
    pub params: &'static [Param],
    /// The keys of the trailing option map, if there is one.
    pub options: &'static [Opt],
    /// The most that it needs.
    pub access: Access,
    /// What it does: one sentence in the third person, then more paragraphs if need be, in Markdown.
    pub doc: &'static str,
    /// Scripts that show it. Each runs as a test.
    pub examples: &'static [Example],
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// As `name(…)`, on the current node, and as a method of a `Node`.
    Node,
    /// As `name(…)`, and it has nothing to do with a node.
    Free,
    /// As a method of the object type that its first parameter has.
    Method,
    /// As `module::name(…)`, on the current node.
    Module(&'static str),
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// The name.
    pub name: &'static str,
    /// What completion offers for it.
    pub names: Names,
}

/// What a parameter or option names, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// Nothing that could be listed.
    Any,
    /// An image here.
    Image,
    /// A container.
    Container,
    /// A namespace.
    Namespace,
    /// A local file.
    File,
    /// A folder of this host that something is mounted on, which is no matter of files.
    MountPoint,
    /// A snapshotter.
    Snapshotter,
    /// A signal.
    Signal,
}

impl Param {
    /// Makes a parameter that completion knows nothing of.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, names: Names::Any }
    }

    /// Makes a parameter that names something.
    #[must_use]
    pub const fn of(name: &'static str, names: Names) -> Self {
        Self { name, names }
    }
}

/// One key of an option map.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// The key: the flag of ctr with `_` for `-`, where ctr has one.
    pub key: &'static str,
    /// The type, as the reference shows it.
    pub ty: &'static str,
    /// What it does, in one sentence, with its unit and default.
    pub doc: &'static str,
}

impl Opt {
    /// Makes an option.
    #[must_use]
    pub const fn new(key: &'static str, ty: &'static str, doc: &'static str) -> Self {
        Self { key, ty, doc }
    }
}

/// Returns a function's own options, and behind them those that it shares with others.
#[must_use]
pub const fn joined<const N: usize>(own: &[Opt], shared: &[Opt]) -> [Opt; N] {
    assert!(own.len() + shared.len() == N, "N is the sum of both");
    let mut all = [Opt::new("", "", ""); N];
    let mut at = 0;
    while at < N {
        all[at] = if at < own.len() { own[at] } else { shared[at - own.len()] };
        at += 1;
    }
    all
}

/// A script that shows a function.
///
/// Examples run in a namespace that holds `docker.io/library/busybox:latest`, in a folder that holds `rootfs`, the files of
/// an image, and `box.tar`, an image saved, and with a registry whose address is in the constant `REGISTRY` and that has
/// `example/box:1`, as has a Docker Engine; and with a Harbor whose address is in the constant `HARBOR`, which has the
/// project `library`, and where the user is logged in who may make others.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The script. Its last value is compared to `gives` when that is there.
    pub code: &'static str,
    /// What the script evaluates to, as `to_json` writes it.
    pub gives: Option<&'static str>,
}

impl Example {
    /// Makes an example that only has to succeed.
    #[must_use]
    pub const fn runs(code: &'static str) -> Self {
        Self { code, gives: None }
    }

    /// Makes an example with its result.
    #[must_use]
    pub const fn gives(code: &'static str, result: &'static str) -> Self {
        Self { code, gives: Some(result) }
    }
}

/// A [`Spec`] with its types.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The literal.
    pub spec: &'static Spec,
    /// The types, from the Rust signature.
    pub signature: Signature,
}

impl Entry {
    /// Returns the type that it is a method of, when it is one.
    #[must_use]
    pub fn receiver(&self) -> Option<&'static str> {
        (self.spec.on == On::Method).then(|| self.signature.params.first().map_or("?", |param| param.ty))
    }

    /// Returns the name as it is called: `pull`, `Image.push`, `content::list`.
    #[must_use]
    pub fn path(&self) -> String {
        match self.spec.on {
            On::Node | On::Free => self.spec.name.to_owned(),
            On::Method => format!("{}.{}", self.receiver().unwrap_or("?"), self.spec.name),
            On::Module(module) => format!("{module}::{}", self.spec.name),
        }
    }

    /// Returns the signature as the reference shows it: `pull(reference: string, [options: map]) -> Image`.
    #[must_use]
    pub fn signature(&self) -> String {
        let skip = usize::from(self.spec.on == On::Method);
        let mut names = self.spec.params.iter().map(|param| param.name);
        let params: Vec<String> = self.signature.params[skip.min(self.signature.params.len())..]
            .iter()
            .map(|param| {
                let name = if param.options { "options" } else { names.next().unwrap_or("value") };
                if param.optional { format!("[{name}: {}]", param.ty) } else { format!("{name}: {}", param.ty) }
            })
            .collect();
        let returns = match self.signature.returns {
            "()" => String::new(),
            ty => format!(" -> {ty}"),
        };
        format!("{}({}){returns}", self.path(), params.join(", "))
    }

    /// Returns the first sentence of the documentation.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        self.spec.doc.lines().next().unwrap_or_default()
    }
}

/// Functions of Rhai's own packages that ours stand before: they would block, or not know our objects.
const SHADOWS: &[&str] = &["sleep", "exit", "to_json"];

fn basic_types() -> [TypeId; 6] {
    [
        TypeId::of::<rhai::INT>(),
        TypeId::of::<rhai::FLOAT>(),
        TypeId::of::<bool>(),
        TypeId::of::<rhai::ImmutableString>(),
        TypeId::of::<rhai::Map>(),
        TypeId::of::<rhai::Array>(),
    ]
}

type Invoke = Arc<dyn Fn(&Call<'_>, &mut [&mut Dynamic]) -> Result<Dynamic, Error> + Send + Sync>;

/// All functions and object types of the script surface.
#[derive(Default)]
pub struct Catalog {
    entries: Vec<(Entry, Invoke, Option<TypeId>)>,
    objects: BTreeMap<&'static str, ObjectEntry>,
    types: std::collections::HashMap<TypeId, &'static str>,
}

impl Catalog {
    /// Adds a function.
    ///
    /// # Panics
    /// When the literal's parameters are not as many as the function's: a mistake that no run gets past.
    pub fn add<A: 'static, H: Handler<A>>(&mut self, spec: &'static Spec, handler: H) {
        let signature = H::signature();
        let named = signature.params.iter().filter(|param| !param.options).count() - usize::from(spec.on == On::Method);
        assert!(
            named == spec.params.len(),
            "{}: {} parameters are named, {named} are taken",
            spec.name,
            spec.params.len()
        );
        let takes_options = signature.params.iter().any(|param| param.options)
            || spec.params.iter().any(|param| param.name == "options");
        assert!(
            takes_options != spec.options.is_empty(),
            "{}: options are declared but not taken, or the reverse",
            spec.name
        );
        let receiver = signature.params.first().and_then(|param| (spec.on == On::Method).then_some(param.id));
        let invoke: Invoke = Arc::new(move |call, args| handler.invoke(call, args));
        self.entries.push((Entry { spec, signature }, invoke, receiver));
    }

    /// Adds an object type.
    pub fn add_object<T: Object>(&mut self) {
        let entry = ObjectEntry::of::<T>();
        self.types.insert(TypeId::of::<T>(), T::TYPE);
        self.objects.insert(T::TYPE, entry);
    }

    /// Returns every function, in the order in which they were added.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(entry, ..)| entry)
    }

    /// Finds functions by the name that a user types: `pull`, `Image.push`, `push`, `content::list`.
    #[must_use]
    pub fn find(&self, name: &str) -> Vec<&Entry> {
        let name = name.trim().trim_end_matches("()");
        let exact: Vec<_> = self.entries().filter(|entry| entry.path() == name).collect();
        let loose = || self.entries().filter(|entry| entry.spec.name == name);
        if exact.is_empty() { loose().collect() } else { exact }
    }

    /// Returns the functions of a module.
    pub fn module(&self, name: &str) -> impl Iterator<Item = &Entry> {
        self.entries().filter(move |entry| matches!(entry.spec.on, On::Module(module) if module == name))
    }

    /// Returns every object type.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectEntry> {
        self.objects.values()
    }

    /// Returns the object type of a name.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<&ObjectEntry> {
        self.objects.get(name)
    }

    /// Returns the object type that a value has.
    #[must_use]
    pub fn object_of(&self, value: &Dynamic) -> Option<&ObjectEntry> {
        self.types.get(&value.type_id()).and_then(|name| self.objects.get(name))
    }

    /// Returns the names of functions and properties, for suggestions.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let fields = self.objects.values().flat_map(|object| object.fields.iter().map(|field| field.name));
        self.entries.iter().map(|(entry, ..)| entry.spec.name).chain(fields)
    }

    /// Returns the name that is close to one that does not exist.
    #[must_use]
    pub fn suggest(&self, name: &str) -> Option<String> {
        nearest(name, self.names())
    }

    /// Says where else there is a function of a name: in modules, as the method of objects, or under another name.
    #[must_use]
    pub fn elsewhere(&self, name: &str) -> Option<String> {
        if let Some(here) = words::meant(name) {
            return Some(here);
        }
        let found = self.entries().filter(|entry| entry.spec.name == name && entry.path() != name);
        let mut paths: Vec<_> = found.map(Entry::path).collect();
        paths.truncate(3);
        (!paths.is_empty()).then(|| format!("there is {}", paths.join(" and ")))
    }

    /// Says that a name, which was taken for a variable's, is a function's or a module's, and how it is used.
    #[must_use]
    pub fn used_as(&self, name: &str) -> Option<String> {
        if let Some(entry) = self.module(name).next() {
            return Some(format!("{name} is a module: {}(…)", entry.path()));
        }
        let entry = self.entries().find(|entry| entry.path() == name)?;
        let params = entry.signature.params.iter().zip(entry.spec.params);
        let required: Vec<_> = params.filter(|(ty, _)| !ty.optional).map(|(_, param)| param.name).collect();
        Some(format!("{name} is a function: {name}({})", required.join(", ")))
    }

    /// Binds everything to an engine.
    pub fn bind(&self, engine: &mut Engine, session: &Arc<Session>) {
        let mut modules: BTreeMap<&'static str, Module> = BTreeMap::new();
        let mut global = Module::new();
        for (entry, invoke, receiver) in &self.entries {
            let required = entry.signature.params.iter().filter(|param| !param.optional).count();
            for count in required..=entry.signature.params.len() {
                let mut types = vec![TypeId::of::<Dynamic>(); count];
                if let (Some(id), Some(first)) = (receiver, types.first_mut()) {
                    *first = *id;
                }
                let add = |module: &mut Module, types: &[TypeId], on_node: bool| {
                    let registration = FuncRegistration::new(entry.spec.name).in_global_namespace();
                    registration.set_into_module_raw(module, types, native(entry.spec, invoke, session, on_node));
                };
                match entry.spec.on {
                    On::Free if count == 1 && SHADOWS.contains(&entry.spec.name) => {
                        // Rhai prefers an exact type over any, wherever it is registered.
                        for id in basic_types() {
                            add(&mut global, &[id], false);
                        }
                        add(&mut global, &types, false);
                    }
                    On::Free | On::Method => add(&mut global, &types, false),
                    On::Node => {
                        add(&mut global, &types, false);
                        types.insert(0, TypeId::of::<crate::script::api::node::NodeObject>());
                        add(&mut global, &types, true);
                    }
                    On::Module(name) => {
                        // Only behind its module: several have a `delete`, and without one it would be any of them.
                        let registration = FuncRegistration::new(entry.spec.name).in_internal_namespace();
                        let module = modules.entry(name).or_default();
                        registration.set_into_module_raw(module, &types, native(entry.spec, invoke, session, false));
                    }
                }
            }
        }
        for object in self.objects.values() {
            object.bind(&mut global, session);
        }
        engine.register_global_module(global.into());
        for (name, module) in modules {
            engine.register_static_module(name, module.into());
        }
    }
}

/// Makes what Rhai calls: the gate in front of a function.
fn native(spec: &'static Spec, invoke: &Invoke, session: &Arc<Session>, on_node: bool) -> RhaiFunc {
    let invoke = Arc::clone(invoke);
    let session = Arc::clone(session);
    RhaiFunc::Method {
        func: Arc::new(move |context: Option<NativeCallContext<'_>>, args: &mut [&mut Dynamic]| {
            let position = context.as_ref().map_or(rhai::Position::NONE, NativeCallContext::call_position);
            let mut ctx = session.context();
            let mut args = args;
            if on_node {
                let node = args[0].read_lock::<crate::script::api::node::NodeObject>().map(|node| node.place().clone());
                if let Some(place) = node {
                    ctx = ctx.at(&place);
                }
                args = &mut args[1..];
            }
            let call = Call::new(spec, &session, ctx, context);
            let result = if call.ctx().grant().cancel().is_cancelled() {
                Err(Error::from(crate::ops::Error::Cancelled))
            } else if !call.ctx().grant().allow().has(spec.access) {
                Err(Error::Denied { function: spec.name, access: spec.access })
            } else {
                invoke(&call, args)
            };
            result.map_err(|error| {
                let denied = error.kind() == Kind::Denied;
                let raised = error.raise(position);
                if let (true, EvalAltResult::ErrorTerminated(value, _)) = (denied, &*raised) {
                    session.deny(value.clone());
                }
                raised
            })
        }),
        has_context: true,
        is_pure: true,
        is_volatile: true,
    }
}
