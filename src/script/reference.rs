//! The manual, written from the catalog.

use std::fmt::Write as _;

use crate::script::catalog::{Catalog, Entry, On};
use crate::script::library;

/// Writes the whole reference as Markdown: `docs/reference.md`.
#[must_use]
pub fn markdown(catalog: &Catalog) -> String {
    let mut text = String::from(
        "# Reference\n\nEvery function and object of ctrsh. This page is made by `ctrsh reference`; each example runs as a test.\n",
    );
    text.push_str("\n## Functions\n");
    for entry in catalog.entries().filter(|entry| !matches!(entry.spec.on, On::Method)) {
        function(&mut text, entry);
    }
    text.push_str("\n## Objects\n");
    for object in catalog.objects() {
        let _ = write!(text, "\n### {}\n\n{}\n\n| property | type | |\n|---|---|---|\n", object.name, object.doc);
        for field in &object.fields {
            let _ = writeln!(text, "| `{}` | {} | {} |", field.name, field.ty, field.doc);
        }
        for entry in catalog.entries().filter(|entry| entry.receiver() == Some(object.name)) {
            function(&mut text, entry);
        }
    }
    text
}

fn function(text: &mut String, entry: &Entry) {
    let _ = write!(text, "\n### `{}`\n\n", entry.signature());
    let _ = write!(text, "{}\n\nAccess: {}.\n", entry.spec.doc, entry.spec.access);
    if !entry.spec.options.is_empty() {
        text.push_str("\n| option | type | |\n|---|---|---|\n");
        for option in entry.spec.options {
            let _ = writeln!(text, "| `{}` | {} | {} |", option.key, option.ty, option.doc);
        }
    }
    for example in entry.spec.examples {
        let _ = write!(text, "\n```rhai\n{}\n```\n", example.code);
        if let Some(result) = example.gives {
            let _ = writeln!(text, "gives `{result}`");
        }
    }
}

/// Writes what `help(name)` shows of a function.
#[must_use]
pub fn help(entry: &Entry) -> String {
    let mut text = format!("{}\n\n{}\n\naccess: {}\n", entry.signature(), entry.spec.doc, entry.spec.access);
    if !entry.spec.options.is_empty() {
        text.push_str("\noptions:\n");
        let width = entry.spec.options.iter().map(|option| option.key.len()).max().unwrap_or_default();
        for option in entry.spec.options {
            let _ = writeln!(text, "  {:width$}  {} ({})", option.key, option.doc, option.ty);
        }
    }
    if !entry.spec.examples.is_empty() {
        text.push_str("\nexamples:\n");
        for example in entry.spec.examples {
            for line in example.code.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
    }
    text
}

/// Writes what `help(topic)` shows: a function, an object type, a module, a ready script, all of these (`std`), or without
/// a topic everything with a line each.
#[must_use]
pub fn topic(catalog: &Catalog, topic: Option<&str>) -> Option<String> {
    let Some(topic) = topic else { return Some(overview(catalog)) };
    if format!("{}/", topic.trim()) == library::PREFIX {
        return Some(library::overview());
    }
    if let Some(script) = library::find(topic.trim()) {
        return Some(script.manual());
    }
    if let Some(object) = catalog.object(topic.trim()) {
        let mut text = format!("{}\n\n{}\n\nproperties:\n", object.name, object.doc);
        for field in &object.fields {
            let _ = writeln!(text, "  {} ({})  {}", field.name, field.ty, field.doc);
        }
        let methods: Vec<&Entry> = catalog.entries().filter(|entry| entry.receiver() == Some(object.name)).collect();
        if !methods.is_empty() {
            text.push_str("\nmethods:\n");
            for entry in methods {
                let _ = writeln!(text, "  {}  {}", entry.signature(), entry.summary());
            }
        }
        return Some(text);
    }
    let mut texts: Vec<String> = catalog.find(topic).into_iter().map(help).collect();
    let module: Vec<&Entry> = catalog.module(topic.trim().trim_end_matches("::")).collect();
    if !module.is_empty() {
        texts.push(format!("functions of the module:\n{}", lines(&module)));
    }
    (!texts.is_empty()).then(|| texts.join("\n"))
}

fn lines(entries: &[&Entry]) -> String {
    let width = entries.iter().map(|entry| entry.path().len()).max().unwrap_or_default();
    entries.iter().fold(String::new(), |mut text, entry| {
        let _ = writeln!(text, "  {:width$}  {}", entry.path(), entry.summary());
        text
    })
}

fn overview(catalog: &Catalog) -> String {
    let (methods, functions): (Vec<_>, Vec<_>) = catalog.entries().partition(|entry| entry.spec.on == On::Method);
    let scripts = library::overview();
    format!("functions:\n{}\nmethods:\n{}\nready scripts:\n{scripts}", lines(&functions), lines(&methods))
}
