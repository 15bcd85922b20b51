//! Looking at a source without running it: unknown functions, wrong argument counts, unknown option keys, and the access
//! that its calls need.

use std::collections::{BTreeSet, HashMap, HashSet};

use rhai::{ASTNode, Expr, FnCallExpr, FuncInfo, Position, Stmt};

use crate::grant::Access;
use crate::ops::error::nearest;
use crate::script::Interpreter;
use crate::script::catalog::{Entry, Names, On};
use crate::script::error::{Location, Report, Thrown};
use crate::script::library;

/// What there is to say of a source.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// What would fail, in the order of the source.
    pub problems: Vec<Report>,
    /// The classes of access that its calls need at most.
    pub access: BTreeSet<Access>,
}

struct Check<'a> {
    interpreter: &'a Interpreter,
    source: Option<&'a str>,
    /// What the language brings along, and what the source defines or may have received.
    known: HashSet<String>,
    /// Functions and methods of the language itself.
    of_language: HashSet<String>,
    /// Variables that begin as a list, a map or a text.
    lists: HashSet<String>,
    /// The names that it gives to what it imports.
    aliases: HashSet<String>,
    /// The ready scripts that it imports, by the name that it gives them: their functions with the count of arguments.
    imported: HashMap<String, Vec<(String, usize)>>,
    checked: Checked,
}

impl Interpreter {
    /// Looks at a source without running it.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub fn check(&self, text: &str, source: Option<&str>) -> Result<Checked, Report> {
        let failed = |error: rhai::ParseError| Report::new(&error.into(), source, Some(&self.catalog));
        let ast = self.engine.compile(text).map_err(failed)?;
        let name = |function: FuncInfo<'_>| Some(function.metadata.name.to_string());
        let mut known: HashSet<String> = self.engine.collect_fn_metadata(None, name, true).into_iter().collect();
        let of_language: HashSet<String> =
            rhai::Engine::new().collect_fn_metadata(None, name, true).into_iter().collect();
        for entry in self.catalog.entries() {
            // What is called only behind its module leaves the language's own function of that name alone.
            if !matches!(entry.spec.on, On::Module(_)) || !of_language.contains(entry.spec.name) {
                known.remove(entry.spec.name);
            }
        }
        known.extend(
            ["call", "curry", "is_def_var", "is_def_fn", "is_shared", "type_of", "Fn", "this"].map(str::to_owned),
        );
        known.extend(ast.iter_functions().map(|function| function.name.to_owned()));
        let mut check = Check {
            interpreter: self,
            source,
            known,
            of_language,
            lists: HashSet::new(),
            aliases: HashSet::new(),
            imported: HashMap::new(),
            checked: Checked::default(),
        };
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            if let Some(ASTNode::Stmt(Stmt::Import(import, position))) = path.last() {
                check.import(&import.0, import.1.name.as_str(), *position);
            }
            true
        });
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::FnCall(call, position)))
                | Some(ASTNode::Expr(Expr::FnCall(call, position))) => {
                    check.call(call, *position, false);
                }
                Some(ASTNode::Expr(Expr::MethodCall(call, position))) if !check.is_of_list(path, &call.name) => {
                    check.call(call, *position, true);
                }
                Some(ASTNode::Stmt(Stmt::Var(variable, ..))) if is_list(&variable.1) => {
                    check.lists.insert(variable.0.name.to_string());
                }
                _ => {}
            }
            true
        });
        Ok(check.checked)
    }
}

impl Check<'_> {
    /// Takes in a ready script; other modules are looked at when they are checked themselves.
    fn import(&mut self, path: &Expr, name: &str, position: Position) {
        self.aliases.insert(name.to_owned());
        let Expr::StringConstant(path, _) = path else { return };
        if !path.starts_with(library::PREFIX) {
            return;
        }
        let Some(script) = library::find(path) else {
            let names: Vec<String> = library::SCRIPTS.iter().map(library::Script::path).collect();
            let near = nearest(path, names.iter().map(String::as_str));
            self.problem(
                position,
                format!("there is no ready script {path}"),
                near.map(|n| format!("did you mean {n}?")),
            );
            return;
        };
        let Ok(ast) = self.interpreter.engine.compile(script.text) else { return };
        let functions = ast.iter_functions().filter(|function| function.access == rhai::FnAccess::Public);
        let functions = functions.map(|function| (function.name.to_owned(), function.params.len())).collect();
        self.imported.insert(name.to_owned(), functions);
        if let Ok(checked) = self.interpreter.check(script.text, None) {
            self.checked.access.extend(checked.access);
        }
    }

    /// Looks at a call of a ready script's function; gives `false` when the module is none.
    fn ready(&mut self, module: &str, call: &FnCallExpr, position: Position) -> bool {
        let Some(functions) = self.imported.get(module) else { return false };
        let (name, count) = (call.name.as_str(), call.args.len());
        let named: Vec<&(String, usize)> = functions.iter().filter(|(known, _)| known == name).collect();
        if named.iter().any(|(_, params)| *params == count) {
            return true;
        }
        let plural = if count == 1 { "" } else { "s" };
        let (message, hint) = if named.is_empty() {
            let near = nearest(name, functions.iter().map(|(known, _)| known.as_str()));
            (format!("unknown function {module}::{name}"), near.map(|n| format!("did you mean {n}?")))
        } else {
            (format!("{module}::{name} does not take {count} argument{plural}"), None)
        };
        self.problem(position, message, hint);
        true
    }

    /// Returns whether a method is the language's own, of a variable that holds a list.
    fn is_of_list(&self, path: &[ASTNode<'_>], name: &str) -> bool {
        let Some(ASTNode::Expr(Expr::Dot(pair, ..))) = path.len().checked_sub(2).and_then(|at| path.get(at)) else {
            return false;
        };
        matches!(&pair.lhs, Expr::Variable(variable, ..) if self.lists.contains(variable.1.as_str()))
            && self.of_language.contains(name)
    }

    fn call(&mut self, call: &FnCallExpr, position: Position, method: bool) {
        let name = call.name.as_str();
        let module = call.namespace.path.first().map(|part| part.name.to_string());
        if call.op_token.is_some() || self.known.contains(name) && module.is_none() {
            return;
        }
        if let Some(module) = &module
            && self.ready(module, call, position)
        {
            return;
        }
        let interpreter = self.interpreter;
        let fits = |entry: &&Entry| match (entry.spec.on, &module) {
            (On::Module(known), Some(module)) => known == module,
            (On::Method | On::Node, None) if method => true,
            (On::Node | On::Free, None) => true,
            _ => false,
        };
        let entries: Vec<&Entry> =
            interpreter.catalog.entries().filter(|entry| entry.spec.name == name).filter(fits).collect();
        if entries.is_empty() {
            let module_of = |entry: &Entry| match entry.spec.on {
                On::Module(module) => Some(module),
                _ => None,
            };
            let modules: Vec<&str> = interpreter.catalog.entries().filter_map(module_of).collect();
            let near = |known: Option<String>| known.map(|near| format!("did you mean {near}?"));
            match module {
                None => {
                    let elsewhere = interpreter.catalog.elsewhere(name);
                    let hint = elsewhere.or_else(|| near(interpreter.catalog.suggest(name)));
                    self.problem(position, format!("unknown function {name}"), hint);
                }
                Some(module) if modules.contains(&module.as_str()) => {
                    let hint = near(interpreter.catalog.suggest(name));
                    self.problem(position, format!("unknown function {module}::{name}"), hint);
                }
                // Functions of imported modules are known only when they run.
                Some(module) if self.aliases.contains(&module) => {}
                Some(module) => {
                    let hint =
                        near(nearest(&module, modules.iter().copied().chain(self.aliases.iter().map(String::as_str))))
                            .unwrap_or_else(|| format!("a file is imported by import \"PATH\" as {module};"));
                    self.problem(position, format!("unknown module {module}"), Some(hint));
                }
            }
            return;
        }
        // `list.push(#{ name: "a" })` is the language's own push, whatever is in the list.
        if method && self.of_language.contains(name) {
            let known =
                |key: &String| entries.iter().flat_map(|entry| entry.spec.options).any(|option| option.key == key);
            if call.args.iter().filter_map(keys).any(|keys| !keys.iter().all(known)) {
                return;
            }
            self.needs(&entries);
            return;
        }
        self.needs(&entries);
        let count = call.args.len();
        let takes = |entry: &&Entry| {
            let own = own(entry, method);
            let all = entry.signature.params.len() - own;
            let required = entry.signature.params.iter().filter(|param| !param.optional).count() - own;
            (required..=all).contains(&count)
        };
        let hint = entries.first().map(|entry| entry.signature());
        let entries: Vec<&Entry> = entries.into_iter().filter(takes).collect();
        if entries.is_empty() {
            let plural = if count == 1 { "" } else { "s" };
            self.problem(position, format!("{name} does not take {count} argument{plural}"), hint);
            return;
        }
        for place in 0..count {
            self.options(call, place, method, &entries);
        }
    }

    /// Takes in the access of the functions that may be called.
    fn needs(&mut self, entries: &[&Entry]) {
        self.checked.access.extend(entries.iter().map(|entry| entry.spec.access));
        // Where a file is, and so whether it needs more, is known only when it is opened.
        if entries.iter().flat_map(|entry| entry.spec.params).any(|param| param.names == Names::File) {
            self.checked.access.insert(Access::Files);
        }
    }

    /// Looks at the keys of an argument when all functions that may be called take it for the options.
    fn options(&mut self, call: &FnCallExpr, place: usize, method: bool, entries: &[&Entry]) {
        let Some((given, keys)) = call.args.get(place).and_then(|given| Some((given, keys(given)?))) else { return };
        let is_last = place + 1 == call.args.len();
        if !entries.iter().all(|entry| is_options(entry, place + own(entry, method), is_last)) {
            return;
        }
        let known: Vec<&str> = entries.iter().flat_map(|entry| entry.spec.options).map(|option| option.key).collect();
        for key in keys.iter().filter(|key| !known.contains(&key.as_str())) {
            let hint = nearest(key, known.iter().copied()).map_or_else(
                || format!("the options are {}", known.join(", ")),
                |near| format!("did you mean '{near}'?"),
            );
            self.problem(given.start_position(), format!("{}: unknown option '{key}'", call.name), Some(hint));
        }
    }

    fn problem(&mut self, position: Position, message: String, hint: Option<String>) {
        let at = Location {
            source: self.source.map(str::to_owned),
            line: position.line().unwrap_or(1),
            column: position.position().unwrap_or(1),
            function: None,
        };
        let error = Thrown::plain(crate::kind::Kind::Usage, message, hint);
        self.checked.problems.push(Report { error, trace: vec![at], parse: true, exit: None });
    }
}

/// Returns whether a variable begins as a list, a map or a text, whose methods are the language's.
fn is_list(first: &Expr) -> bool {
    match first {
        Expr::Array(..) | Expr::Map(..) | Expr::StringConstant(..) | Expr::InterpolatedString(..) => true,
        Expr::DynamicConstant(value, _) => value.is_array() || value.is_map(),
        _ => false,
    }
}

/// Returns how many parameters stand before the dot: a method's object does.
fn own(entry: &Entry, method: bool) -> usize {
    usize::from(method && entry.spec.on == On::Method)
}

/// Returns the keys of a map that is written out.
fn keys(given: &Expr) -> Option<Vec<String>> {
    match given {
        Expr::Map(map, _) => Some(map.0.iter().map(|(key, _)| key.name.to_string()).collect()),
        Expr::DynamicConstant(value, _) => {
            Some(value.read_lock::<rhai::Map>()?.keys().map(ToString::to_string).collect())
        }
        _ => None,
    }
}

/// Returns whether a function takes a map in this place, counted from its first parameter, for its options: as the last argument,
/// or in any place where a closure comes last, as the options are told from the rest by being a map.
fn is_options(entry: &Entry, place: usize, is_last: bool) -> bool {
    if entry.spec.params.iter().any(|param| param.name == "options") {
        return true;
    }
    let params = &entry.signature.params;
    // A map in the place of an argument, as `label(labels)` has it, is not the options.
    let is_argument = params
        .get(place)
        .is_some_and(|param| !param.options && (param.ty == "map" || (param.ty == "any" && !param.optional)));
    is_last && params.last().is_some_and(|param| param.options) && !is_argument
}
