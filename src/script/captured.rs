//! What a closure captures, when several threads call it at the same time.
//!
//! Rhai shares a captured variable between the closure and whoever made it, behind a lock that a method call holds until it
//! returns; a second thread that comes meanwhile fails with a data race. What a closure only reads needs no sharing: each
//! thread gets it for itself. What it changes stays one for all.

use std::collections::HashSet;
use std::sync::Arc;

use rhai::{AST, ASTNode, Dynamic, Expr, FnPtr, Module, NativeCallContext, ScriptFuncDef, Stmt};

/// How deep closures are looked into that are captured by closures.
const DEPTH: usize = 8;

/// Methods that change the array, map, blob or string that they are called on (Rhai's standard packages).
const CHANGING: [&str; 40] = [
    "append",
    "chop",
    "clear",
    "crop",
    "dedup",
    "drain",
    "extract",
    "fill_with",
    "insert",
    "make_lower",
    "make_upper",
    "mixin",
    "pad",
    "pop",
    "push",
    "remove",
    "replace",
    "retain",
    "reverse",
    "set",
    "set_bit",
    "set_bits",
    "set_tag",
    "shift",
    "sort",
    "sort_by",
    "sort_desc",
    "splice",
    "to_lower",
    "to_upper",
    "trim",
    "truncate",
    "write_ascii",
    "write_be",
    "write_le",
    "write_utf8",
    "order",
    "order_by",
    "order_desc",
    "tag",
];

/// Returns the closure for one thread of several.
pub(crate) fn for_thread(closure: &FnPtr, native: &NativeCallContext<'_>) -> FnPtr {
    own(closure, native, DEPTH)
}

fn own(closure: &FnPtr, native: &NativeCallContext<'_>, depth: usize) -> FnPtr {
    let mut copy = closure.clone();
    let captured = copy.curry().len();
    // What is no closure of this script, such as a function of Rhai, has no body to look into.
    let found = native.iter_namespaces().find_map(|module| {
        (captured..captured + 3).find_map(|arity| module.get_script_fn(copy.fn_name(), arity).cloned())
    });
    let Some(function) = found else { return copy };
    let changed = Changed::of(&function, native);
    for (value, name) in copy.iter_curry_mut().zip(&function.params) {
        if !value.is_shared() || changed.assigned.contains(name.as_str()) {
            continue;
        }
        let plain = value.flatten_clone();
        if let Some(inner) = plain.read_lock::<FnPtr>().map(|inner| inner.clone()) {
            if depth > 0 {
                *value = Dynamic::from(own(&inner, native, depth - 1)).into_shared();
            }
            continue;
        }
        // The methods of Rhai's own types may change them; objects of ctrsh are descriptions, and stay what they are.
        let is_own = plain.is_array() || plain.is_map() || plain.is_blob() || plain.is_string();
        if !is_own || !changed.called.contains(name.as_str()) {
            *value = plain.into_shared();
        }
    }
    copy
}

/// The variables that a function may change.
#[derive(Default)]
struct Changed {
    /// Those that something is assigned to, or to a part of them, or that go on to another closure.
    assigned: HashSet<String>,
    /// Those that a method is called on which may change them.
    called: HashSet<String>,
}

impl Changed {
    fn of(function: &Arc<ScriptFuncDef>, native: &NativeCallContext<'_>) -> Self {
        let mut changed = Self::default();
        let mut module = Module::new();
        module.set_script_fn(Arc::clone(function));
        AST::new_from_module(module).walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Stmt(statement)) => changed.statement(statement),
                Some(ASTNode::Expr(expression)) => changed.expression(expression, native),
                _ => {}
            }
            true
        });
        changed
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Assignment(assignment) => self.assigned.extend(root(&assignment.1.lhs).map(str::to_owned)),
            Stmt::Share(names) => self.assigned.extend(names.iter().map(|(name, _)| name.name.to_string())),
            _ => {}
        }
    }

    fn expression(&mut self, expression: &Expr, native: &NativeCallContext<'_>) {
        if let Expr::Dot(pair, ..) | Expr::Index(pair, ..) = expression
            && let Some(name) = root(&pair.lhs)
            && calls_change(&pair.rhs, native)
        {
            self.called.insert(name.to_owned());
        }
    }
}

/// Returns the variable at the beginning of `a.b[c]`.
fn root(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Variable(variable, ..) => Some(&variable.1),
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => root(&pair.lhs),
        _ => None,
    }
}

/// Returns whether a method of a chain may change what stands at its beginning.
fn calls_change(chain: &Expr, native: &NativeCallContext<'_>) -> bool {
    match chain {
        Expr::MethodCall(call, _) => may_change(&call.name, native),
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => {
            calls_change(&pair.lhs, native) || calls_change(&pair.rhs, native)
        }
        _ => false,
    }
}

/// A function of the script may change its `this`.
fn may_change(name: &str, native: &NativeCallContext<'_>) -> bool {
    let of_script = |module: &Module| (0..5).any(|arity| module.get_script_fn(name, arity).is_some());
    CHANGING.contains(&name) || native.iter_namespaces().any(of_script)
}

#[cfg(test)]
mod tests {
    use crate::script::tests::bench;

    #[test]
    fn what_is_only_read_is_each_threads_own() {
        let mut bench = bench("all");
        for (before, closure) in [
            ("let it = registry(\"example.com\");", "it.host"),
            ("let it = [3, 1, 2];", "it.filter(|x| x > 1).len()"),
            ("let it = #{ a: [1] };", "it.keys().len() + it.a.len()"),
            ("let it = \"text\";", "it.len() + it.sub_string(1).len()"),
            ("let it = [1, 2]; let sum = |x| it.len() + x;", "sum.call(i)"),
            ("fn twice(list) { list.len() * 2 } let it = [1];", "twice(it)"),
        ] {
            let text = format!(
                "{before} let list = []; for i in 0..300 {{ list.push(i) }} parallel(list, #{{ jobs: 16 }}, |i| {{ let seen = {closure}; for n in 0..5 {{ seen = {closure} }} seen }}).done"
            );
            assert_eq!(bench.json(&text), "300", "{before}");
        }
    }

    #[test]
    fn what_is_changed_is_one_for_all() {
        let mut bench = bench("all");
        for (before, closure, after) in [
            ("let n = 0;", "n += 1", "n"),
            ("let l = [];", "l.push(i)", "l.len()"),
            ("let m = #{};", "m[`k${i}`] = i", "m.len()"),
            ("let m = #{ l: [] };", "m.l.push(i)", "m.l.len()"),
            ("let n = 0; let add = || { n += 1 };", "add.call()", "n"),
            ("let l = []; fn add(i) { this.push(i) }", "l.add(i)", "l.len()"),
        ] {
            let text = format!(
                "{before} let list = []; for i in 0..200 {{ list.push(i) }} parallel(list, #{{ jobs: 8 }}, |i| {{ {closure}; }}); {after}"
            );
            assert_eq!(bench.json(&text), "200", "{closure}");
        }
    }

    #[test]
    fn an_item_has_its_namespace_for_itself() {
        let mut bench = bench("all");
        let text = "namespace(\"outer\"); let seen = parallel([\"a\", \"b\", \"c\", \"d\"], #{ jobs: 2 }, |n| { namespace(n); sleep(\"5ms\"); node().namespace == n }).results; [seen, node().namespace]";
        assert_eq!(bench.json(text), r#"[[true,true,true,true],"outer"]"#);
    }

    #[test]
    fn only_what_computes_without_waiting_runs_too_long() {
        let mut bench = bench("all");
        let work = "for n in 0..20000 { n + 1 }";
        assert_eq!(bench.json(&format!("for i in 0..20 {{ {work} sleep(\"1ms\"); }} 1")), "1");
        assert_eq!(
            bench.json(&format!(
                "parallel([1, 2, 3, 4, 5, 6], #{{ jobs: 3 }}, |i| {{ {work} sleep(\"1ms\"); i }}).done"
            )),
            "6"
        );
        for text in
            ["loop {}", "sleep(\"1ms\"); loop {}", "parallel([1, 2], |i| { loop {} })", "try { loop {} } catch { 1 }"]
        {
            let report = bench.fails(text);
            assert_eq!(report.error.message, "the script ran too many operations", "{text}");
        }
    }
}
