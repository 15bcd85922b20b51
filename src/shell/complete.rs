//! What Tab offers: the place of the cursor decides what is wanted, the catalog and the variables what there is.

use super::lex::{self, Sort, Word};
use crate::script::Interpreter;
use crate::script::catalog::{Entry, Names, On};

/// Methods of the values that every script has.
const ARRAY: &[&str] = &[
    "len", "is_empty", "filter", "map", "for_each", "reduce", "find", "find_map", "some", "all", "sort", "order_by",
    "reverse", "push", "pop", "insert", "remove", "extract", "contains", "index_of", "dedup", "drain", "retain", "zip",
];
const STRING: &[&str] = &[
    "len",
    "is_empty",
    "contains",
    "starts_with",
    "ends_with",
    "index_of",
    "split",
    "sub_string",
    "replace",
    "trim",
    "to_upper",
    "to_lower",
    "to_int",
    "to_float",
    "chars",
    "bytes",
    "crop",
];
const MAP: &[&str] = &["len", "is_empty", "keys", "values", "contains", "get", "set", "remove", "clear", "to_json"];

/// What can stand at the cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Where the part begins that is replaced, in bytes.
    pub start: usize,
    /// What can stand there, and is already known.
    pub words: Vec<String>,
    /// What names can stand there; the daemon has to be asked.
    pub names: Option<Names>,
}

/// A type, as far as it is known without running anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Type {
    name: String,
    item: Option<String>,
}

impl Type {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), item: None }
    }
}

/// Returns the parameters and the result of the function whose bracket was opened last; none when it is not known which
/// function that is.
#[must_use]
pub fn signature(text: &str, interpreter: &Interpreter) -> Option<String> {
    let cursor = Cursor { text, words: lex::words(text), interpreter };
    let bracket = cursor.words.len().checked_sub(1)?;
    let mut signatures: Vec<String> = cursor.called(bracket).into_iter().map(Entry::signature).collect();
    let rest = signatures.pop()?.split_once('(').map(|(_, rest)| rest.to_owned());
    // Methods of several types have the name, and they are not alike.
    rest.filter(|rest| signatures.iter().all(|other| other.split_once('(').is_some_and(|(_, other)| other == rest)))
}

struct Cursor<'a> {
    text: &'a str,
    words: Vec<Word>,
    interpreter: &'a Interpreter,
}

/// Works out what can stand at the end of a text.
#[must_use]
pub fn offer(text: &str, interpreter: &Interpreter) -> Offer {
    let cursor = Cursor { text, words: lex::words(text), interpreter };
    let mut offer = cursor.offer();
    let prefix = text.get(offer.start..).unwrap_or_default();
    offer.words.retain(|word| word.starts_with(prefix));
    offer.words.sort_unstable();
    offer.words.dedup();
    offer
}

impl Cursor<'_> {
    fn word(&self, i: usize) -> &str {
        self.words.get(i).map_or("", |word| &self.text[word.at.clone()])
    }

    fn is(&self, i: Option<usize>, symbol: &str) -> bool {
        i.is_some_and(|i| self.word(i) == symbol && self.words[i].sort == Sort::Symbol)
    }

    fn offer(&self) -> Offer {
        let end = self.text.len();
        let last = self.words.len().checked_sub(1);
        let nothing = Offer { start: end, ..Offer::default() };
        match last.map(|i| (i, &self.words[i])) {
            Some((_, Word { sort: Sort::Comment, .. })) => nothing,
            Some((i, Word { sort: Sort::Text { open: true }, at })) => {
                Offer { start: at.start + 1, words: Vec::new(), names: self.names_at(i) }
            }
            Some((i, word)) if matches!(word.sort, Sort::Name | Sort::Keyword) && word.at.end == end => {
                self.at_name(word.at.start, i.checked_sub(1))
            }
            last => self.at_name(end, last.map(|(i, _)| i)),
        }
    }

    /// What can stand behind the word `before`.
    fn at_name(&self, start: usize, before: Option<usize>) -> Offer {
        let words = if self.is(before, ".") {
            before.and_then(|dot| self.type_ending(dot.checked_sub(1)?)).map(|ty| self.members(&ty)).unwrap_or_default()
        } else if self.is(before, "::") {
            let module = before.and_then(|i| i.checked_sub(1)).map_or("", |i| self.word(i));
            self.interpreter.catalog().module(module).map(call_of).collect()
        } else if let Some(keys) = self.option_keys(before) {
            keys
        } else {
            self.globals()
        };
        Offer { start, words, names: None }
    }

    fn entries<'s>(&'s self, keep: impl Fn(&Entry) -> bool + 's) -> impl Iterator<Item = &'s Entry> + 's {
        self.interpreter.catalog().entries().filter(move |entry| keep(entry))
    }

    fn globals(&self) -> Vec<String> {
        let mut words: Vec<String> =
            self.entries(|entry| matches!(entry.spec.on, On::Node | On::Free)).map(call_of).collect();
        words.extend(self.entries(|entry| matches!(entry.spec.on, On::Module(_))).filter_map(
            |entry| match entry.spec.on {
                On::Module(name) => Some(format!("{name}::")),
                _ => None,
            },
        ));
        words.extend(self.interpreter.variables().into_iter().map(|(name, _)| name).filter(|name| name != lex::LAST));
        words.extend(["print(", "table(", "help("].map(str::to_owned));
        words.extend(lex::KEYWORDS.map(str::to_owned));
        words
    }

    fn members(&self, ty: &Type) -> Vec<String> {
        let of = |names: &[&str]| names.iter().map(|name| format!("{name}(")).collect();
        let mut words: Vec<String> = match ty.name.as_str() {
            "array" => of(ARRAY),
            "string" => of(STRING),
            "map" => of(MAP),
            _ => Vec::new(),
        };
        let object = self.interpreter.catalog().object(&ty.name);
        words.extend(object.into_iter().flat_map(|object| &object.fields).map(|field| field.name.to_owned()));
        words.extend(self.entries(|entry| is_method_of(entry, &ty.name)).map(call_of));
        words
    }

    /// Returns the index of the bracket that is open at a word, and how many commas stand between.
    fn enclosing(&self, from: usize) -> Option<(usize, usize)> {
        let (mut depth, mut commas) = (0_usize, 0);
        for i in (0..from).rev().filter(|i| self.words[*i].sort == Sort::Symbol) {
            match self.word(i) {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" | "#{" if depth == 0 => return Some((i, commas)),
                "(" | "[" | "{" | "#{" => depth -= 1,
                "," if depth == 0 => commas += 1,
                _ => {}
            }
        }
        None
    }

    /// Returns the entries that a bracket calls.
    fn called(&self, bracket: usize) -> Vec<&Entry> {
        let Some(name) = bracket.checked_sub(1).filter(|_| self.is(Some(bracket), "(")) else { return Vec::new() };
        let is_method = self.is(name.checked_sub(1), ".");
        let module = name.checked_sub(2).filter(|_| self.is(name.checked_sub(1), "::")).map(|module| self.word(module));
        let receiver = if is_method { name.checked_sub(2).and_then(|i| self.type_ending(i)) } else { None };
        self.entries(move |entry| {
            entry.spec.name == self.word(name)
                && match (is_method, &receiver) {
                    (false, _) => match entry.spec.on {
                        On::Module(known) => module == Some(known),
                        On::Node | On::Free => module.is_none(),
                        On::Method => false,
                    },
                    (true, None) => entry.spec.on == On::Method,
                    (true, Some(ty)) => is_method_of(entry, &ty.name),
                }
        })
        .collect()
    }

    fn option_keys(&self, before: Option<usize>) -> Option<Vec<String>> {
        let before = before.filter(|_| self.is(before, "#{") || self.is(before, ","))?;
        let (map, _) = self.enclosing(before + 1).filter(|(i, _)| self.is(Some(*i), "#{"))?;
        let (bracket, _) = self.enclosing(map)?;
        let keys = self.called(bracket).into_iter().flat_map(|entry| entry.spec.options);
        Some(keys.map(|option| format!("{}: ", option.key)).collect())
    }

    fn names_at(&self, string: usize) -> Option<Names> {
        let (mut bracket, mut argument) = self.enclosing(string)?;
        if self.is(Some(bracket), "[") {
            (bracket, argument) = self.enclosing(bracket)?;
        }
        let called = self.called(bracket);
        let mut names = called.iter().filter_map(|entry| entry.spec.params.get(argument)).map(|param| param.names);
        names.find(|names| *names != Names::Any)
    }

    /// Returns the type of the expression whose last word this is.
    fn type_ending(&self, last: usize) -> Option<Type> {
        match self.words[last].sort {
            Sort::Text { .. } => Some(Type::new("string")),
            Sort::Name if self.is(last.checked_sub(1), ".") => {
                let of = self.type_ending(last.checked_sub(2)?)?;
                let field = self.interpreter.catalog().object(&of.name)?.field(self.word(last))?;
                Some(Type::new(field.ty))
            }
            Sort::Name => self.variable(last),
            Sort::Symbol if self.word(last) == ")" => {
                let (open, _) = self.enclosing(last)?;
                let name = self.word(open.checked_sub(1)?);
                if let Some(entry) = self.called(open).first() {
                    let item = entry.signature.item.map(str::to_owned);
                    return Some(Type { name: entry.signature.returns.to_owned(), item });
                }
                // What keeps the type of an array, and what picks from it.
                let of = self.type_ending(open.checked_sub(3)?)?;
                match name {
                    "filter" | "sort" | "extract" | "drain" | "retain" => Some(of),
                    "find" | "pop" | "shift" => of.item.as_deref().map(Type::new),
                    _ => None,
                }
            }
            Sort::Symbol if self.word(last) == "]" => {
                let (open, _) = self.enclosing(last)?;
                let of = open.checked_sub(1).and_then(|i| self.type_ending(i));
                of.map_or_else(|| Some(Type::new("array")), |of| of.item.as_deref().map(Type::new))
            }
            _ => None,
        }
    }

    fn variable(&self, at: usize) -> Option<Type> {
        let name = if self.word(at) == "_" { lex::LAST } else { self.word(at) };
        // A parameter of a closure that an array's method was given: `images().filter(|i| i.`
        let (bracket, _) = self.enclosing(at).unwrap_or_default();
        let parameter =
            self.is(Some(bracket), "(") && self.is(Some(bracket + 1), "|") && self.word(bracket + 2) == name;
        if parameter && at != bracket + 2 {
            return self.type_ending(bracket.checked_sub(3)?)?.item.as_deref().map(Type::new);
        }
        let ty = self.interpreter.type_of(name)?;
        Some(Type { name: ty, item: self.interpreter.item_type_of(name) })
    }
}

fn is_method_of(entry: &Entry, ty: &str) -> bool {
    entry.receiver() == Some(ty) || (ty == "Node" && entry.spec.on == On::Node)
}

/// Writes a function as it is called: with its brackets when it takes nothing.
fn call_of(entry: &Entry) -> String {
    let takes_nothing = entry.spec.params.is_empty() && entry.spec.options.is_empty();
    format!("{}{}", entry.spec.name, if takes_nothing { "()" } else { "(" })
}
