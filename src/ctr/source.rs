//! Writing the script language: strings, arrays, maps and calls, as people write them.

use std::fmt::Write as _;

/// Words that the language keeps for itself, which a key of a map must be quoted for.
const RESERVED: [&str; 66] = [
    "Fn",
    "as",
    "async",
    "await",
    "break",
    "call",
    "case",
    "catch",
    "const",
    "continue",
    "curry",
    "debug",
    "default",
    "do",
    "else",
    "eval",
    "exit",
    "export",
    "false",
    "fn",
    "for",
    "global",
    "go",
    "goto",
    "if",
    "import",
    "in",
    "is",
    "is_def_fn",
    "is_def_var",
    "is_shared",
    "let",
    "loop",
    "match",
    "module",
    "new",
    "nil",
    "null",
    "package",
    "print",
    "private",
    "protected",
    "public",
    "return",
    "self",
    "shared",
    "spawn",
    "static",
    "super",
    "switch",
    "sync",
    "this",
    "thread",
    "throw",
    "true",
    "try",
    "type_of",
    "unless",
    "until",
    "use",
    "var",
    "void",
    "where",
    "while",
    "with",
    "yield",
];

/// Writes a string.
pub(super) fn text(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // What a terminal would act on is shown as what it is.
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes an array of strings.
pub(super) fn array<S: AsRef<str>>(values: &[S]) -> String {
    let items: Vec<String> = values.iter().map(|value| text(value.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// Writes one string, or an array of several.
pub(super) fn one_or_array<S: AsRef<str>>(values: &[S]) -> String {
    match values {
        [value] => text(value.as_ref()),
        values => array(values),
    }
}

/// Writes bytes as people say them, when that is exact.
pub(super) fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("\"{}{name}\"", bytes / unit);
        }
    }
    bytes.to_string()
}

/// A map that is being written. A key that is set again keeps its place.
#[derive(Debug, Default)]
pub(super) struct Map(Vec<(String, String)>);

impl Map {
    /// Sets a key to a piece of script.
    pub(super) fn set(&mut self, key: &str, code: impl Into<String>) {
        let code = code.into();
        match self.0.iter_mut().find(|(other, _)| other == key) {
            Some(entry) => entry.1 = code,
            None => self.0.push((key.to_owned(), code)),
        }
    }

    /// Takes all of another map behind what is there.
    pub(super) fn extend(&mut self, other: Self) {
        for (key, code) in other.0 {
            self.set(&key, code);
        }
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: &str) {
        self.0.retain(|(other, _)| other != key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes it, empty or not.
    pub(super) fn text(&self) -> String {
        if self.0.is_empty() {
            return "#{}".into();
        }
        let entries: Vec<String> = self.0.iter().map(|(key, code)| format!("{}: {code}", name(key))).collect();
        format!("#{{ {} }}", entries.join(", "))
    }
}

/// Writes a key of a map, quoted where it has to be.
fn name(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && key.chars().any(|c| c.is_ascii_alphanumeric());
    if plain && !RESERVED.contains(&key) { key.to_owned() } else { text(key) }
}

/// Writes a map of labels: `KEY=VALUE`, or a key alone, whose value is then `true` as in ctr.
pub(super) fn labels<S: AsRef<str>>(pairs: &[S]) -> String {
    let mut map = Map::default();
    for pair in pairs {
        let (key, value) = pair.as_ref().split_once('=').unwrap_or((pair.as_ref(), "true"));
        map.set(key, text(value));
    }
    map.text()
}

/// Writes a map of an environment: `NAME=VALUE`. A name alone changes nothing in ctr either, as it unsets what is not set yet:
/// the image's own environment comes later (containerd `cmd/ctr/commands/run/run_unix.go`).
pub(super) fn environment<S: AsRef<str>>(pairs: &[S]) -> Map {
    let mut map = Map::default();
    for (name, value) in pairs.iter().filter_map(|pair| pair.as_ref().split_once('=')) {
        map.set(name, text(value));
    }
    map
}

/// A call that writes to standard output, where nothing else goes then, as its value would.
pub(super) fn writing(call: &str) -> String {
    format!("{call}; ()")
}

/// Writes a call; options that are none are left out.
pub(super) fn call<S: AsRef<str>>(name: &str, arguments: &[S], options: &Map) -> String {
    let mut parts: Vec<String> = arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
    if !options.is_empty() {
        parts.push(options.text());
    }
    format!("{name}({})", parts.join(", "))
}

/// Writes a loop over a list.
pub(super) fn each(item: &str, list: &str, body: &str) -> String {
    format!("for {item} in {list} {{ {body} }}")
}

/// What several names come to when one of them is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It fails, as anything else does.
    Fails,
    /// It is told.
    IsTold,
}

/// Writes what is done for each of several names, all of them whichever fails: the first failure is thrown in the end, and the
/// others are told.
pub(super) fn all_of<S: AsRef<str>>(
    item: &str,
    names: &[S],
    missing: Missing,
    body: impl Fn(&str) -> String,
) -> String {
    let told = "log::warn(e.message)";
    if let [name] = names {
        let body = body(&text(name.as_ref()));
        return match missing {
            Missing::Fails => body,
            Missing::IsTold => {
                format!("try {{ {body} }} catch (e) {{ if e.kind != \"not_found\" {{ throw e }} {told} }}")
            }
        };
    }
    let first = match missing {
        Missing::Fails => String::new(),
        Missing::IsTold => format!("if e.kind == \"not_found\" {{ {told} }} else "),
    };
    let body = format!(
        "try {{ {} }} catch (e) {{ {first}if failed == () {{ failed = e }} else {{ log::error(e.message) }} }}",
        body(item)
    );
    let all = each(item, &array(names), &body);
    format!("let failed = (); {all} if failed != () {{ throw failed }}")
}

/// Writes what is done for each of several names until one fails.
pub(super) fn each_of<S: AsRef<str>>(item: &str, names: &[S], body: impl Fn(&str) -> String) -> String {
    match names {
        [name] => body(&text(name.as_ref())),
        names => each(item, &array(names), &body(item)),
    }
}

/// Writes the printing of a value as JSON as ctr indents it.
pub(super) fn pretty(value: &str) -> String {
    format!("print(to_json({value}, #{{ indent: 4 }}))")
}

/// Writes a call, and then the printing of what it was for.
pub(super) fn naming(call: &str, name: &str) -> String {
    sequence(&[call.to_owned(), format!("print({name})")])
}

/// Writes statements one after the other.
pub(super) fn sequence<S: AsRef<str>>(statements: &[S]) -> String {
    statements.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_the_language_reads_them() {
        assert_eq!(text("a\"b\\c\n\u{1b}ü"), "\"a\\\"b\\\\c\\n\\u001bü\"");
        assert_eq!(one_or_array(&["a"]), "\"a\"");
        assert_eq!(one_or_array(&["a", "b"]), "[\"a\", \"b\"]");
    }

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size(64 << 20), "\"64MiB\"");
        assert_eq!(size(1 << 30), "\"1GiB\"");
        assert_eq!((size(1025).as_str(), size(0).as_str()), ("1025", "0"));
    }

    #[test]
    fn keys_are_quoted_where_they_have_to_be() {
        assert_eq!(labels(&["team=core", "io.x/y=", "on", "async=1", "team=b"]), {
            "#{ team: \"b\", \"io.x/y\": \"\", on: \"true\", \"async\": \"1\" }"
        });
    }

    #[test]
    fn the_last_value_of_a_variable_counts() {
        assert_eq!(environment(&["B=1", "A=x=y", "C", "B=2"]).text(), "#{ B: \"2\", A: \"x=y\" }");
    }
}
