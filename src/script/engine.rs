//! A Rhai engine as ctrsh sets it up: chosen packages, limits, no `eval`, modules from where they may come from.
//!
//! A fresh engine is open: it imports from anywhere on disk and has no limits on operations or sizes.

use std::sync::Arc;

use rhai::packages::{Package, StandardPackage};
use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Position};

use crate::script::call::Session;
use crate::script::catalog::Catalog;
use crate::script::effort;
use crate::script::error::{Error, Thrown};
use crate::script::resolver::Resolver;
use crate::script::time;

/// What a script may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Operations of the interpreter between two calls that wait for something else. Zero means no limit.
    pub operations: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { operations: 50_000_000 }
    }
}

/// The longest string, in bytes.
pub(crate) const MAX_STRING: usize = 16 << 20;
/// The most items of an array or a map.
pub(crate) const MAX_ITEMS: usize = 1_000_000;
const MAX_CALL_DEPTH: usize = 64;
const MAX_EXPR_DEPTH: usize = 64;
const MAX_FN_EXPR_DEPTH: usize = 32;
const MAX_VARIABLES: usize = 10_000;
const MAX_FUNCTIONS: usize = 1_000;
const MAX_MODULES: usize = 64;

/// Makes an engine with everything of the catalog bound.
pub(crate) fn build(catalog: &Catalog, session: &Arc<Session>, limits: Limits, resolver: Resolver) -> Engine {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    time::bind(&mut engine);
    engine.register_fn("replace", replace);
    for object in catalog.objects() {
        object.register_type(&mut engine);
    }
    catalog.bind(&mut engine, session);
    engine
        .set_max_operations(0)
        .set_max_string_size(MAX_STRING)
        .set_max_array_size(MAX_ITEMS)
        .set_max_map_size(MAX_ITEMS)
        .set_max_call_levels(MAX_CALL_DEPTH)
        .set_max_expr_depths(MAX_EXPR_DEPTH, MAX_FN_EXPR_DEPTH)
        .set_max_variables(MAX_VARIABLES)
        .set_max_functions(MAX_FUNCTIONS)
        .set_max_modules(MAX_MODULES)
        .disable_symbol("eval")
        .set_module_resolver(resolver);
    let sink = Arc::clone(session.sink());
    engine.on_print(move |text| sink.print(text));
    let sink = Arc::clone(session.sink());
    engine.on_debug(move |text, source, position| {
        let source = source.unwrap_or_default();
        sink.debug(text, &format!("{source}{}{position:?}", if source.is_empty() { "" } else { " @ " }));
    });
    let watched = Arc::clone(session);
    engine.on_progress(move |count| {
        if effort::is_too_much(count, limits.operations) {
            return Some(endless());
        }
        watched.stopped()
    });
    engine
}

/// Replaces a part of a string, in place as Rhai does it, and returns the result too: Rhai's own returns nothing, so that
/// a closure like `|name| name.replace("a", "b")` would come to nothing.
fn replace(text: &mut ImmutableString, find: ImmutableString, put: ImmutableString) -> ImmutableString {
    *text = text.replace(find.as_str(), put.as_str()).into();
    text.clone()
}

/// Makes the value that ends a script that computes without end.
fn endless() -> Dynamic {
    Dynamic::from(Thrown::new(&Error::Endless))
}

/// Makes the value that ends a script that the user stopped.
pub(crate) fn cancelled() -> Dynamic {
    match *Error::from(crate::ops::Error::Cancelled).raise(Position::NONE) {
        EvalAltResult::ErrorTerminated(value, _) => value,
        _ => Dynamic::from(Thrown::new(&Error::from(crate::ops::Error::Cancelled))),
    }
}
